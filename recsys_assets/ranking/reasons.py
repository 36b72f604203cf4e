"""Why an item is on a list, in one plain sentence that is true of the data.

Belongs here: the evidence of a (user, item) pair, counted from interactions before the cutoff, and
the sentence chosen from it. Does not belong here: how the item was scored (a reason explains what
is known about the pair, not the model), the rules, and any contact with a language model.

Every reason carries its code and the numbers it states, so that it can be checked against the
interactions. A sensitive category is never named and never a basis: neither for an item in it, nor
through a neighbour in it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.content.categories import in_categories, joined_path, product_codes
from recsys_assets.core.arrays import first_of_each
from recsys_assets.core.settings.lists import Wording

MAX_LENGTH = 160
"""No reason is longer."""

STATED = "stated"
"""The reason where only the user's own words speak for an item; written by `stated.py`."""

REPEAT, VARIANT, TOGETHER, CATEGORY = "repeat", "variant", "together", "category"
POPULAR, CATEGORY_BEFORE, NEW_CATEGORY, PLAIN = (
    "popular",
    "category_before",
    "new_category",
    "plain",
)
WEEK_DAYS = 7.0
_NAME_LENGTH = 60
_MAX_LINKS = 200
_PAIRS_PER_BLOCK = 10_000
_PAIR = ["user_id", "item_id"]


@dataclass(frozen=True)
class Thresholds:
    """How much evidence a reason needs.

    `min_support`: baskets with both items; `min_lift`: how much more often than by chance they
    meet; `min_deviations`: how many of its standard deviations above chance, since of thousands of
    pairs many meet a little more often by luck; `min_share`: share of the rarer item's baskets that
    have both ("often"); `min_neighbour`: times the user took the neighbour; `min_category`: visits
    on which the user took from the category, `min_category_share`: their share of all visits,
    `max_category_days`: days since the last of them ("you buy often"); `min_week_users`: users in
    the last 7 days ("popular").
    """

    min_support: int = 5
    min_lift: float = 1.2
    min_deviations: float = 3.0
    min_share: float = 0.05
    min_neighbour: int = 3
    min_category: int = 3
    min_category_share: float = 0.1
    max_category_days: float = 84.0
    min_week_users: int = 10


def gather_evidence(
    pairs: pd.DataFrame,
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    *,
    as_of: datetime | pd.Timestamp,
    met: pd.DataFrame | None = None,
    together: pd.DataFrame | None = None,
    sensitive: frozenset[str] = frozenset(),
    thresholds: Thresholds | None = None,
) -> pd.DataFrame:
    """Count what is known of each pair `user_id, item_id`, in the order of `pairs`.

    `interactions` must end before `as_of` (ValueError); only events that count as taken are
    counted, and "times" are distinct sessions. `met` are the pairs `user_id, item_id` of any event,
    rejections too (default: those of `interactions`). `together` is a frame `item_id,
    other_item_id, support` as `bought_together` returns it. Returns per pair:

    - `is_new`, `category_is_new`: the user never met it, nothing of a category of that name
    - `n_taken`, `median_gap_days` (between sessions; NaN below 2), `days_since_last` (NaN if never)
    - `variant_n_taken`, `variant_days_since_last`: the same for other items of its group that are
      not sensitive
    - `neighbour_item_id`, `neighbour_title`, `neighbour_n_taken`, `neighbour_support`: of the items
      in the same baskets as this one that the user took often, the one met most above chance
    - `category` (name at the second level or, without one, the first; '' if none),
      `category_n_taken`, `category_share`, `category_days_since_last`: the user's sessions with
      something of it that is not sensitive, their share of the user's sessions, the last one
    - `week_users`, `week_rank`: users who took it in the 7 days before `as_of`, rank in category
    - `user_sessions`: sessions of the user;  `sensitive`: the item lies in a sensitive category
    """
    limits = thresholds or Thresholds()
    as_of = pd.Timestamp(as_of)
    if len(interactions) and interactions["event_time"].max() >= as_of:
        raise ValueError(f"interactions must end before {as_of}")
    facts = _Facts.build(items, sensitive)
    user_index = pd.Index(pairs["user_id"]).unique()
    asked = pd.DataFrame(
        {
            "user": user_index.get_indexer(pd.Index(pairs["user_id"])),
            "item": facts.ids.get_indexer(pd.Index(pairs["item_id"])),
        }
    )
    if (asked["item"] < 0).any():
        raise ValueError(f"{int((asked['item'] < 0).sum())} items are not in the catalogue")
    asked["group"], asked["category"] = facts.group[asked["item"]], facts.path[asked["item"]]
    visits = _visits(interactions, user_index, facts, as_of)
    own = visits[visits["user"] >= 0]
    told = own[~facts.sensitive[own["item"]]]
    evidence = pairs[_PAIR].reset_index(drop=True)
    evidence["category"] = facts.category[asked["item"]]
    evidence["sensitive"] = facts.sensitive[asked["item"]]
    parts = [
        _news(asked, interactions if met is None else met, user_index, facts),
        _own_history(asked, own),
        _variants(asked, told),
        _category_history(asked, own, told),
        _last_week(asked, visits, facts),
        _neighbours(asked, own, visits, facts, together, limits),
    ]
    return pd.concat([evidence, *parts], axis=1)


def write_reasons(
    evidence: pd.DataFrame,
    wording: Wording | None = None,
    thresholds: Thresholds | None = None,
) -> pd.DataFrame:
    """One sentence per row of `gather_evidence`.

    Returns `user_id, item_id, reason, reason_code, reason_evidence`, in the same order. `reason` is
    at most MAX_LENGTH characters, `reason_code` the first of `_conditions` whose evidence suffices,
    `reason_evidence` a JSON object with the numbers and ids that the sentence states.
    """
    words = wording or Wording()
    e = evidence.reset_index(drop=True)
    conditions = _conditions(e, thresholds or Thresholds())
    code = np.select(
        list(conditions.values()), [np.array(name, dtype=object) for name in conditions], PLAIN
    )
    reason = np.full(len(e), "A suggestion for you", dtype=object)
    stated = np.full(len(e), "{}", dtype=object)
    for name, write in _writers().items():
        rows = np.flatnonzero(code == name)
        if len(rows):
            text, numbers = write(e.iloc[rows], words)
            reason[rows] = text.to_numpy(dtype=object)
            stated[rows] = numbers.to_numpy(dtype=object)
    return e[_PAIR].assign(reason=reason, reason_code=code, reason_evidence=stated)


def all_reasons(evidence: pd.DataFrame, wording: Wording) -> pd.DataFrame:
    """Every sentence that is true of each row of `gather_evidence`, not only the first.

    Returns `user_id, item_id, reason, reason_code`, per pair in order of precedence; a pair of
    which nothing can be said has no row.
    """
    e = evidence.reset_index(drop=True)
    conditions = _conditions(e, Thresholds())
    conditions[CATEGORY_BEFORE] &= ~conditions[CATEGORY]
    # "New to you, in a category ..." is only ever the reason of an item never taken.
    conditions[CATEGORY] &= ~conditions[REPEAT]
    parts = []
    for name, write in _writers().items():
        chosen = e[conditions[name]]
        if len(chosen):
            parts.append(chosen[_PAIR].assign(reason=write(chosen, wording)[0], reason_code=name))
    if not parts:
        return e[_PAIR].head(0).assign(reason="", reason_code="")
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def _conditions(e: pd.DataFrame, limits: Thresholds) -> dict[str, npt.NDArray[np.bool_]]:
    """Which reasons each row of evidence supports, in order of precedence."""
    open_ = ~e["sensitive"].to_numpy(dtype=bool)
    in_category = (e["category"] != "").to_numpy()
    return {
        REPEAT: open_ & (e["n_taken"] >= 1).to_numpy(),
        VARIANT: open_ & (e["variant_n_taken"] >= 2).to_numpy(),
        TOGETHER: open_ & e["neighbour_item_id"].notna().to_numpy(),
        CATEGORY: open_
        & in_category
        & (
            (e["category_n_taken"] >= limits.min_category)
            & (e["category_share"] >= limits.min_category_share)
            & (e["category_days_since_last"] <= limits.max_category_days)
        ).to_numpy(),
        POPULAR: open_ & (e["week_users"] >= limits.min_week_users).to_numpy(),
        CATEGORY_BEFORE: open_ & in_category & (e["category_n_taken"] >= 1).to_numpy(),
        NEW_CATEGORY: open_
        & in_category
        & (e["category_is_new"] & (e["user_sessions"] > 0)).to_numpy(),
        PLAIN: np.ones(len(e), dtype=bool),
    }


def _writers() -> dict[str, Callable[[pd.DataFrame, Wording], tuple[pd.Series, pd.Series]]]:
    return {
        REPEAT: _repeat,
        VARIANT: _variant,
        TOGETHER: _together,
        CATEGORY: _category,
        POPULAR: _popular,
        CATEGORY_BEFORE: _category_before,
        NEW_CATEGORY: _new_category,
    }


def _repeat(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    gap = e["median_gap_days"].round().fillna(0).astype(int)
    every = pd.Series("", index=e.index)
    every = every.mask(gap == 1, ", about every day").mask(
        gap > 1, ", about every " + gap.astype(str) + " days"
    )
    every = every.where(e["n_taken"] >= 3, "")
    ago = _ago(e["days_since_last"])
    text = f"You {words.past} this " + _times(e["n_taken"]) + every + "; last time " + ago
    text = text.where(e["n_taken"] > 1, f"You {words.past} this once, " + ago)
    return text, _json(
        n_taken=e["n_taken"], median_gap_days=e["median_gap_days"], days=e["days_since_last"]
    )


def _variant(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    times, ago = _times(e["variant_n_taken"]), _ago(e["variant_days_since_last"])
    text = f"You {words.past} a variant of this " + times + "; last time " + ago
    return text, _json(variant_n_taken=e["variant_n_taken"], days=e["variant_days_since_last"])


def _together(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    text = (
        f"Often {words.past} together with "
        + _shortened(e["neighbour_title"])
        + f", which you {words.past} "
        + _times(e["neighbour_n_taken"])
    )
    return text, _json(
        neighbour_item_id=e["neighbour_item_id"],
        neighbour_n_taken=e["neighbour_n_taken"],
        support=e["neighbour_support"],
    )


def _category(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    new = e["is_new"] & (e["variant_n_taken"] == 0)
    start = pd.Series("From", index=e.index).mask(new, "New to you, in")
    text = start + f" a category you {words.present} often: " + _shortened(e["category"])
    return text, _json(
        category=e["category"],
        category_n_taken=e["category_n_taken"],
        category_share=e["category_share"],
    )


def _popular(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    text = (
        "Popular this week: "
        + e["week_users"].astype(str)
        + f" {words.people} {words.past} it in the last 7 days"
    )
    return text, _json(week_users=e["week_users"], week_rank=e["week_rank"])


def _category_before(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    text = f"From a category you {words.past} before: " + _shortened(e["category"])
    return text, _json(category=e["category"], category_n_taken=e["category_n_taken"])


def _new_category(e: pd.DataFrame, words: Wording) -> tuple[pd.Series, pd.Series]:
    text = "Something different: a category new to you, " + _shortened(e["category"])
    return text, _json(category=e["category"], category_n_taken=e["category_n_taken"])


def _times(n: pd.Series) -> pd.Series:
    text = n.astype(str) + " times"
    return text.mask(n == 1, "once").mask(n == 2, "twice")


def _ago(days: pd.Series) -> pd.Series:
    whole = np.floor(days).astype(int)
    text = whole.astype(str) + " days ago"
    return text.mask(whole == 1, "1 day ago").mask(whole < 1, "less than a day ago")


def _shortened(names: pd.Series) -> pd.Series:
    clean = names.astype(str).str.split().str.join(" ")
    return clean.where(clean.str.len() <= _NAME_LENGTH, clean.str.slice(0, _NAME_LENGTH - 1) + "…")


def _json(**columns: pd.Series) -> pd.Series:
    """One JSON object per row; floats with 3 decimals, NaN as null."""
    parts = []
    for name, values in columns.items():
        if pd.api.types.is_float_dtype(values):
            text = values.map("{:.3f}".format).where(values.notna(), "null")
        elif pd.api.types.is_integer_dtype(values):
            text = values.astype(str)
        else:
            distinct = values.unique()
            text = values.map(dict(zip(distinct, map(json.dumps, distinct), strict=True)))
        parts.append(f'"{name}": ' + text.astype(object))
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + ", " + part
    return "{" + joined + "}"


@dataclass(frozen=True, eq=False)
class _Facts:
    """The catalogue as codes, in its own order. `path` is -1 for an item without a category."""

    ids: pd.Index
    title: npt.NDArray[np.object_]
    category: npt.NDArray[np.object_]
    path: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    sensitive: npt.NDArray[np.bool_]

    @classmethod
    def build(cls, items: pd.DataFrame, sensitive: frozenset[str]) -> "_Facts":
        top, below = (items[f"category_{n}"].fillna("").astype(str) for n in (1, 2))
        category = below.where(below != "", top)
        path = pd.factorize(joined_path(items, 2))[0]
        return cls(
            pd.Index(items["item_id"]),
            items["title"].fillna("").astype(str).to_numpy(dtype=object),
            category.to_numpy(dtype=object),
            np.where(category == "", -1, path).astype(np.int64),
            product_codes(items),
            in_categories(items, sensitive),
        )


def _visits(
    interactions: pd.DataFrame, users: pd.Index, facts: _Facts, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Items per visit (a user's session), each once: `user, item, visit, days, taker, group,
    category`, all integers but `days`, the age of the first such event at `as_of`.

    `user` is a position in `users` or -1, `taker` tells all users apart. An event without a session
    is a visit of its own.
    """
    taken = interactions.loc[
        interactions["counts_as_taken"].to_numpy(dtype=bool),
        ["user_id", "item_id", "session_id", "event_time"],
    ]
    taker, names = pd.factorize(taken["user_id"])
    item = facts.ids.get_indexer(pd.Index(taken["item_id"])).astype(np.int64)
    session, sessions = pd.factorize(taken["session_id"])
    alone = session < 0
    session[alone] = len(sessions) + np.arange(int(alone.sum()))
    visit = np.unique(taker * (session.max(initial=0) + 1) + session, return_inverse=True)[1]
    days = ((as_of - taken["event_time"]).dt.total_seconds() / 86_400).to_numpy()
    order = np.argsort(-days, kind="stable")
    order = order[item[order] >= 0]
    first = first_of_each(visit[order] * len(facts.ids) + item[order])
    rows = order[first]
    return pd.DataFrame(
        {
            "user": users.get_indexer(pd.Index(names)).astype(np.int64)[taker[rows]],
            "item": item[rows],
            "visit": visit[rows],
            "days": days[rows],
            "taker": taker[rows],
            "group": facts.group[item[rows]],
            "category": facts.path[item[rows]],
        }
    )


def _news(asked: pd.DataFrame, met: pd.DataFrame, users: pd.Index, facts: _Facts) -> pd.DataFrame:
    """What the user has not met. Not new is a category met through sensitive items alone, nor one
    that shares its name with a known one: two departments may have a shelf "Bacon"."""
    user = users.get_indexer(pd.Index(met["user_id"])).astype(np.int64)
    item = facts.ids.get_indexer(pd.Index(met["item_id"])).astype(np.int64)
    known = (user >= 0) & (item >= 0)
    user, item = user[known], item[known]
    found = {}
    for name, code in (
        ("is_new", np.arange(len(facts.ids))),
        ("category_is_new", pd.factorize(facts.category)[0]),
    ):
        pairs = pd.MultiIndex.from_arrays([user, code[item]]).unique()
        wanted = pd.MultiIndex.from_arrays([asked["user"], code[asked["item"]]])
        found[name] = ~wanted.isin(pairs)
    return pd.DataFrame(found)


def _own_history(asked: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    key = ["user", "item"]
    rows = own.merge(asked[key].drop_duplicates(), on=key)
    rows = rows.sort_values([*key, "days"], ignore_index=True)
    rows["gap"] = rows.groupby(key)["days"].diff()
    grouped = rows.groupby(key)
    found = pd.DataFrame(
        {
            "n_taken": grouped.size(),
            "median_gap_days": grouped["gap"].median(),
            "days_since_last": grouped["days"].min(),
        }
    )
    return _aligned(asked[key], found, counts=("n_taken",))


def _variants(asked: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Visits with other items of the same group."""
    key = ["user", "group"]
    wanted = asked[[*key, "item"]].drop_duplicates().rename(columns={"item": "asked_item"})
    rows = own.merge(wanted, on=key)
    rows = rows[rows["item"] != rows["asked_item"]]
    grouped = rows.groupby(["user", "asked_item"])
    found = pd.DataFrame(
        {
            "variant_n_taken": grouped["visit"].nunique(),
            "variant_days_since_last": grouped["days"].min(),
        }
    ).rename_axis(index=["user", "item"])
    return _aligned(asked[["user", "item"]], found, counts=("variant_n_taken",))


def _category_history(asked: pd.DataFrame, own: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    """Of the `own` visits those that may be `told`: a category that only sensitive items led to is
    not known."""
    key = ["user", "category"]
    grouped = told[told["category"] >= 0].groupby(key)
    counts = pd.DataFrame(
        {
            "category_n_taken": grouped["visit"].nunique(),
            "category_days_since_last": grouped["days"].min(),
        }
    )
    total = own.groupby("user")["visit"].nunique().rename("user_sessions").to_frame()
    found = _aligned(asked[key], counts, counts=("category_n_taken",))
    found["user_sessions"] = _aligned(asked[["user"]], total, counts=("user_sessions",))
    share = found["category_n_taken"] / found["user_sessions"].clip(lower=1)
    return found.assign(category_share=share)


def _last_week(asked: pd.DataFrame, visits: pd.DataFrame, facts: _Facts) -> pd.DataFrame:
    week = visits.loc[visits["days"] <= WEEK_DAYS, ["taker", "item"]].drop_duplicates()
    users = week.groupby("item").size().rename("week_users").to_frame()
    users["week_rank"] = (
        users["week_users"]
        .groupby(facts.path[users.index.to_numpy()])
        .rank(method="min", ascending=False)
    )
    found = _aligned(asked[["item"]], users, counts=("week_users",))
    return found.assign(week_rank=found["week_rank"].astype("Int64"))


def _neighbours(
    asked: pd.DataFrame,
    own: pd.DataFrame,
    visits: pd.DataFrame,
    facts: _Facts,
    together: pd.DataFrame | None,
    limits: Thresholds,
) -> pd.DataFrame:
    """For items the user never took: the neighbour the user took often, met most above chance."""
    names = ["neighbour_n_taken", "neighbour_support"]
    result = pd.DataFrame(0, index=asked.index, columns=names)
    ids = pd.Series(None, index=asked.index, dtype=object)
    titles = ids.copy()
    if together is not None and len(together):
        key = ["user", "item"]
        links = _links(asked["item"].unique(), visits, facts, together, limits)
        often = own.groupby(key).size().rename("neighbour_n_taken").reset_index()
        often = often[often["neighbour_n_taken"] >= limits.min_neighbour]
        often = often.rename(columns={"item": "neighbour"})
        seen = asked[key].merge(own[key].drop_duplicates(), on=key, how="left", indicator=True)
        unseen = asked.loc[(seen["_merge"] == "left_only").to_numpy(), key].drop_duplicates()
        blocks = [
            _best_neighbour(unseen.iloc[first : first + _PAIRS_PER_BLOCK], links, often)
            for first in range(0, max(len(unseen), 1), _PAIRS_PER_BLOCK)
        ]
        found = pd.concat(blocks, ignore_index=True)
        aligned = _aligned(
            asked[key], found.set_index(key)[["neighbour", *names]], counts=tuple(names)
        )
        result = aligned[names]
        there = aligned["neighbour"].notna()
        codes = aligned.loc[there, "neighbour"].astype(int).to_numpy()
        ids[there] = facts.ids.to_numpy(dtype=object)[codes]
        titles[there] = facts.title[codes]
    return result.assign(neighbour_item_id=ids, neighbour_title=titles)


def _best_neighbour(pairs: pd.DataFrame, links: pd.DataFrame, often: pd.DataFrame) -> pd.DataFrame:
    """Per (user, item) the link of largest lift to something the user took often."""
    found = pairs.merge(links, on="item").merge(often, on=["user", "neighbour"])
    order = ["user", "item", "lift", "neighbour"]
    found = found.sort_values(order, ascending=[True, True, False, True])
    return found.drop_duplicates(["user", "item"])


def _links(
    wanted: npt.NDArray[np.int64],
    visits: pd.DataFrame,
    facts: _Facts,
    together: pd.DataFrame,
    limits: Thresholds,
) -> pd.DataFrame:
    """`item, neighbour, neighbour_support, lift`: met in baskets often enough and above chance.

    A list is read both ways round; each item keeps the _MAX_LINKS neighbours of largest lift.
    """
    enough = together[together["support"] >= limits.min_support]
    one = facts.ids.get_indexer(pd.Index(enough["item_id"]))
    other = facts.ids.get_indexer(pd.Index(enough["other_item_id"]))
    links = pd.DataFrame(
        {
            "item": np.concatenate([one, other]),
            "neighbour": np.concatenate([other, one]),
            "neighbour_support": np.tile(enough["support"].to_numpy(dtype=np.int64), 2),
        }
    )
    links = links[(links["item"] >= 0) & (links["neighbour"] >= 0) & links["item"].isin(wanted)]
    links = links.drop_duplicates(["item", "neighbour"], ignore_index=True)
    item, neighbour = links["item"].to_numpy(), links["neighbour"].to_numpy()
    baskets = np.bincount(visits["item"], minlength=len(facts.ids)).astype(float)
    chance = baskets[item] * baskets[neighbour] / max(visits["visit"].nunique(), 1)
    support = links["neighbour_support"].to_numpy()
    lift = support / np.maximum(chance, 1e-12)
    links = links.assign(lift=lift)
    keep = (lift >= limits.min_lift) & ~facts.sensitive[neighbour]
    keep &= support - chance >= limits.min_deviations * np.sqrt(chance)
    keep &= support >= limits.min_share * np.minimum(baskets[item], baskets[neighbour])
    keep &= facts.title[neighbour] != ""
    links = links[keep].sort_values(["item", "lift", "neighbour"], ascending=[True, False, True])
    return links[(links.groupby("item").cumcount() < _MAX_LINKS).to_numpy()]


def _aligned(keys: pd.DataFrame, found: pd.DataFrame, counts: tuple[str, ...]) -> pd.DataFrame:
    """`found` (indexed by the columns of `keys`) per row of `keys`; absent counts are 0."""
    joined = keys.join(found, on=list(keys.columns))[list(found.columns)]
    return joined.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, np.int64))
