"""Business rules: what may be shown, and how much of it.

Belongs here: the rules, which items they leave, and `check_lists`, which verifies finished lists
without trusting how they were made. Does not belong here: making lists (`lists.py`), scores,
reasons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.content.categories import CATEGORY_COLUMNS, deepest_path, in_categories
from recsys_assets.content.offer import available, in_market, showable

RANKER, EXPLORE, FALLBACK, STAND_IN = "ranker", "explore", "fallback", "stand_in"
ONBOARDING = "onboarding"
POLICIES = (RANKER, EXPLORE, FALLBACK, STAND_IN, ONBOARDING)
"""How a row came into its list: `policy` of `apply_rules`, which knows the first three; what stands
in for the ranker is named by the caller, who brought its scores."""

_Mask = npt.NDArray[np.bool_]
_Count = tuple[str, int, str]
"""A rule, how many rows or users break it, and what that means."""


@dataclass(frozen=True)
class Rules:
    """The rules of one placement, as its configuration states them.

    - `length`: items per list.
    - `exclude_items`, `exclude_categories`: never shown; a category is compared with every level of
      an item's category path, ignoring case.
    - `markets`: shows items of these markets and items without one; empty shows all.
    - `max_per_category`: at most so many items of one category of level `category_level` (1..3,
      the path down to it, or as far as an item's path goes); items without a category are not
      limited. None = no limit.
    - `one_per_group`: of the variants of one product (`group_id`) at most one; where this is off,
      `max_per_group` may still limit them (None = no limit). People buy several flavours of what
      they like, so one per group costs accuracy where repeats are wanted.
    - `exclude_taken`: nothing the user took before (discover).
    - `mmr_lambda`: 1 = by score alone; below 1, each position takes the candidate with the largest
      lambda * relevance - (1 - lambda) * (largest cosine to the items above it), relevance being
      the score min-max scaled per user (Carbonell and Goldstein 1998).
    - `freshness_days`, `freshness_weight`: an item available for fewer days than this gains
      weight * (1 - age / days) on the same 0..1 scale of relevance.
    - `exploration_rate`: share of the users who, for one cutoff, see at `exploration_position`
      (None = last) an item drawn evenly from their eligible candidates; drawn by `seed` and cutoff.
    - `pool`: how many of a user's best candidates the greedy choice looks at; a list that comes out
      short looks at all of them.
    """

    length: int = 10
    exclude_items: frozenset[str] = frozenset()
    exclude_categories: frozenset[str] = frozenset()
    markets: frozenset[str] = frozenset()
    max_per_category: int | None = None
    category_level: int = 2
    one_per_group: bool = True
    max_per_group: int | None = None
    exclude_taken: bool = False
    mmr_lambda: float = 1.0
    freshness_days: float = 0.0
    freshness_weight: float = 0.0
    exploration_rate: float = 0.0
    exploration_position: int | None = None
    seed: int = 0
    pool: int = 100

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, good in (
                ("length", self.length >= 1),
                ("max_per_category", self.max_per_category is None or self.max_per_category >= 1),
                ("max_per_group", self.max_per_group is None or self.max_per_group >= 1),
                ("category_level", self.category_level in (1, 2, 3)),
                ("mmr_lambda", 0.0 <= self.mmr_lambda <= 1.0),
                ("freshness_days", self.freshness_days >= 0.0),
                ("exploration_rate", 0.0 <= self.exploration_rate <= 1.0),
                (
                    "exploration_position",
                    self.exploration_position is None
                    or 1 <= self.exploration_position <= self.length,
                ),
                ("pool", self.pool >= self.length),
            )
            if not good
        ]
        if wrong:
            raise ValueError(f"rules out of range: {', '.join(wrong)} in {self}")

    @property
    def group_limit(self) -> int | None:
        """Most variants of one product in a list."""
        return 1 if self.one_per_group else self.max_per_group


@dataclass(frozen=True)
class Violation:
    """A rule that finished lists break: how many rows or users break it. Names no user."""

    rule: str
    count: int
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.count} ({self.detail})"


def eligible(items: pd.DataFrame, rules: Rules, at: pd.Timestamp) -> _Mask:
    """Which items may be shown at all: on offer at that moment, in the market, not excluded."""
    return showable(
        items,
        at,
        markets=rules.markets,
        exclude_items=rules.exclude_items,
        exclude_categories=rules.exclude_categories,
    )


def check_lists(
    lists: pd.DataFrame,
    items: pd.DataFrame,
    rules: Rules,
    *,
    as_of: datetime | pd.Timestamp,
    taken: pd.DataFrame | None = None,
    users: pd.Series | pd.Index | None = None,
    allowed_short: float = 0.0,
) -> list[Violation]:
    """What finished lists break of `rules`; an empty list means nothing.

    Looks only at the lists, the catalogue and the pairs taken. `users` are all who must have a
    list; up to the share `allowed_short` of them may have fewer than `length` items (none may be
    without a list, but for who has taken everything on offer). Counts are rows, or users for a rule
    about whole lists.
    """
    columns = [*CATEGORY_COLUMNS, "group_id", "status", "available_from", "available_to", "market"]
    known = lists["item_id"].isin(items["item_id"])
    joined = lists[known].merge(items[["item_id", *columns]], on="item_id", how="left")
    sizes = lists.groupby("user_id").size()
    longer = int((sizes > rules.length).sum())
    if users is not None:
        sizes = sizes.reindex(pd.Index(users).unique(), fill_value=0)
    if rules.exclude_taken and taken is not None:
        empty = sizes.index[sizes == 0]
        sizes = sizes.drop(_took_everything(empty, items, rules, as_of, taken))
    counts: list[_Count] = [
        ("not_longer", longer, f"lists over {rules.length} items"),
        *_too_short(sizes, rules.length, allowed_short),
        *_wrong_places(lists),
        ("in_catalogue", int((~known).sum()), "items the catalogue lacks"),
        *_not_to_be_shown(joined, rules, pd.Timestamp(as_of)),
    ]
    if rules.exclude_taken:
        if taken is None:
            raise ValueError("checking exclude_taken needs the pairs already taken")
        again = lists[["user_id", "item_id"]].merge(
            taken[["user_id", "item_id"]].drop_duplicates(), on=["user_id", "item_id"]
        )
        counts.append(("not_taken_before", len(again), "items the user took before"))
    counts += [*_too_many_alike(joined, rules), *_wrong_words(lists)]
    return [Violation(rule, count, detail) for rule, count, detail in counts if count]


def _too_short(sizes: pd.Series, length: int, allowed: float) -> Iterator[_Count]:
    """`sizes` of the lists by user, 0 for who has none but should."""
    short = int((sizes < length).sum())
    yield "has_list", int((sizes == 0).sum()), "users without any item"
    detail = f"of {len(sizes)} users have fewer than {length} items, {allowed:.1%} of them may"
    yield "enough_items", short if short > allowed * len(sizes) else 0, detail


def _wrong_places(lists: pd.DataFrame) -> Iterator[_Count]:
    ranks = lists.sort_values(["user_id", "rank"])
    expected = ranks.groupby("user_id").cumcount() + 1
    yield "rank_contiguous", int((ranks["rank"] != expected).sum()), "ranks run 1, 2, 3, ..."
    yield "no_repeats", int(lists.duplicated(["user_id", "item_id"]).sum()), "same item again"


def _not_to_be_shown(rows: pd.DataFrame, rules: Rules, as_of: pd.Timestamp) -> Iterator[_Count]:
    """`rows` of lists with what the catalogue says of their items."""
    excluded = int(rows["item_id"].isin(rules.exclude_items).sum())
    yield "not_excluded_item", excluded, "items excluded by id"
    banned = in_categories(rows, rules.exclude_categories)
    yield "not_excluded_category", int(banned.sum()), "items of excluded categories"
    unavailable = ~available(rows, as_of) | ~in_market(rows, rules.markets)
    detail = "items inactive, out of dates or of another market"
    yield "available", int(unavailable.sum()), detail


def _too_many_alike(rows: pd.DataFrame, rules: Rules) -> Iterator[_Count]:
    groups = rows["group_id"].fillna("")
    kinds = deepest_path(rows, rules.category_level)
    for rule, limit, names, what in (
        ("max_per_group", rules.group_limit, groups, "product"),
        ("max_per_category", rules.max_per_category, kinds, "category"),
    ):
        if limit is not None:
            per = pd.DataFrame({"user": rows["user_id"], "name": names})[(names != "").to_numpy()]
            over = int((per.value_counts() > limit).sum())
            yield rule, over, f"times more than {limit} items of one {what} in a list"


def _wrong_words(lists: pd.DataFrame) -> Iterator[_Count]:
    if "policy" in lists:
        wrong = int((~lists["policy"].isin(POLICIES)).sum())
        yield "policy_known", wrong, f"policies other than {', '.join(POLICIES)}"
    if "propensity" in lists:
        inside = (lists["propensity"] > 0) & (lists["propensity"] <= 1)
        yield "propensity_in_range", int((~inside).sum()), "propensities outside (0, 1]"


def _took_everything(
    users: pd.Index,
    items: pd.DataFrame,
    rules: Rules,
    as_of: datetime | pd.Timestamp,
    taken: pd.DataFrame,
) -> pd.Index:
    on_offer = items.loc[eligible(items, rules, pd.Timestamp(as_of)), "item_id"]
    theirs = taken[taken["user_id"].isin(users) & taken["item_id"].isin(on_offer)]
    sizes = theirs.drop_duplicates(["user_id", "item_id"]).groupby("user_id").size()
    return sizes.index[sizes >= len(on_offer)]
