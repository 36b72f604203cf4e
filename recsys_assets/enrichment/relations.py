"""What people's behaviour says about product types at a cutoff: what goes with them, who buys them.

Belongs here: complements by co-purchase, audiences by buyers' attributes, and how well both predict
the time after the cutoff. Does not belong here: single items (a cold item has no behaviour; its
type has), texts.

Nothing about one person comes out: an audience is a share over at least `MIN_USERS` buyers.
"""

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

MIN_USERS = 20
"""Buyers or baskets below which nothing is said."""

COMPLEMENTS = 8
AUDIENCES = 4
_PRIOR = 50.0
_DAMPING = 0.1
"""Complements are ordered by P(other | type) / P(other) ** damping, as `item_lists.py` orders
items; 1 would be plain lift, which finds rarities."""

COLUMNS = ("type", "relation", "rank", "value", "lift", "support")


def type_relations(
    interactions: pd.DataFrame, items: pd.DataFrame, users: pd.DataFrame, level: str
) -> pd.DataFrame:
    """Relations of every product type: `COLUMNS`, sorted by type, relation and rank.

    `interactions`: user_id, item_id, session_id, counts_as_taken, already cut at the cutoff.
    `items`: item_id and `level`, the category level of types. `users`: user_id, attributes (JSON).
    relation 'complement': `value` is another type of the same baskets; 'audience': `value` is
    `attribute=value` of buyers. `lift` is how much more often than over all, `support` the baskets
    or buyers behind it.
    """
    taken = interactions[interactions["counts_as_taken"]]
    kind = _types_of(taken["item_id"], items, level)
    taken = taken.assign(type=kind)[kind.notna() & (kind != "")]
    blocks = [_complements(taken), _audiences(taken, users)]
    rows = pd.concat(blocks, ignore_index=True)
    return rows.sort_values(["type", "relation", "rank"], ignore_index=True)[list(COLUMNS)]


def _types_of(ids: pd.Series, items: pd.DataFrame, level: str) -> pd.Series:
    """The type of each item of a long column; missing where the catalogue lacks it."""
    code, known = pd.factorize(ids)
    kinds = items.set_index("item_id")[level].reindex(known).to_numpy(dtype=object)
    return pd.Series(kinds[code], index=ids.index)


def _complements(taken: pd.DataFrame) -> pd.DataFrame:
    baskets = taken[taken["session_id"].notna()]
    names, incidence = _incidence(baskets["session_id"], baskets["type"])
    if not len(names):
        return _frame([])
    together = (incidence.T @ incidence).toarray()
    count: npt.NDArray[np.float64] = np.diag(together).astype(np.float64)
    overall = count / max(incidence.shape[0], 1)
    chance = (together + _PRIOR * overall) / (count[:, None] + _PRIOR)
    score = chance / overall**_DAMPING
    np.fill_diagonal(score, -np.inf)
    score[(together < MIN_USERS) | (chance <= overall)] = -np.inf
    return _frame(_best("complement", names, names, score, chance / overall, together, COMPLEMENTS))


def _audiences(taken: pd.DataFrame, users: pd.DataFrame) -> pd.DataFrame:
    traits = traits_of(users)
    pairs = taken[["user_id", "type"]].drop_duplicates()
    if traits.empty or pairs.empty:
        return _frame([])
    known = pairs[pairs["user_id"].isin(traits["user_id"])]
    joined = known.merge(traits, on="user_id")
    counted = joined.groupby(["type", "trait"], sort=True).size().unstack(fill_value=0)
    buyers = known.groupby("type").size().reindex(counted.index).to_numpy()
    having = traits.groupby("trait").size().reindex(counted.columns).to_numpy()
    overall = having / traits["user_id"].nunique()
    together = counted.to_numpy().astype(np.float64)
    lift = (together + _PRIOR * overall) / (buyers[:, None] + _PRIOR) / overall
    score = np.where((together >= MIN_USERS) & (lift > 1.02), lift, -np.inf)
    types = counted.index.to_numpy(dtype=object)
    values = counted.columns.to_numpy(dtype=object)
    return _frame(_best("audience", types, values, score, lift, together, AUDIENCES))


def traits_of(users: pd.DataFrame) -> pd.DataFrame:
    """user_id and trait, written `attribute=value`, of every user with attributes."""
    rows = [
        (user, f"{name}={value}")
        for user, text in zip(users["user_id"], users["attributes"], strict=True)
        for name, value in json.loads(text).items()
        if isinstance(value, str) and value
    ]
    return pd.DataFrame(rows, columns=["user_id", "trait"])


def _incidence(rows: pd.Series, columns: pd.Series) -> tuple[npt.NDArray, sparse.csr_matrix]:
    column, names = pd.factorize(columns.to_numpy(dtype=object), sort=True)
    row = pd.factorize(rows, sort=True)[0]
    shape = (int(row.max(initial=-1)) + 1, len(names))
    matrix = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
    matrix.data[:] = 1.0
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return names, matrix


def _best(
    relation: str,
    types: npt.NDArray,
    values: npt.NDArray,
    score: npt.NDArray[np.float64],
    lift: npt.NDArray[np.float64],
    support: npt.NDArray[np.float64],
    most: int,
) -> Iterator[tuple[object, ...]]:
    order = np.argsort(-score, axis=1, kind="stable")[:, :most]
    for row, name in enumerate(types):
        for rank, column in enumerate(order[row], start=1):
            if score[row, column] > -np.inf:
                yield (
                    name, relation, rank, values[column],
                    float(lift[row, column]), int(support[row, column]),
                )  # fmt: skip


def _frame(rows: "Iterator[tuple[object, ...]] | list[tuple[object, ...]]") -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def complement_hit_rates(
    relations: pd.DataFrame,
    before: pd.DataFrame,
    after: pd.DataFrame,
    items: pd.DataFrame,
    level: str,
    cold: pd.Index,
    k: int = 5,
) -> dict[str, float]:
    """How well the complements of a cold item's type foretell the baskets it later came in.

    For each later basket with a cold item: the share of the k complements of its type that are in
    the basket, beside the share of the k types most baskets had before the cutoff (never the
    item's own type), both as means over pairs of basket and cold item. Each lift is that share over
    what any later basket would give: 1 = says nothing about this basket. `before`, `after`:
    item_id, session_id, counts_as_taken. Keys: complements, popular types, complements lift,
    popular types lift, pairs.
    """

    def typed(events: pd.DataFrame) -> pd.DataFrame:
        taken = events[events["counts_as_taken"] & events["session_id"].notna()]
        return taken.assign(type=_types_of(taken["item_id"], items, level))

    earlier, later = typed(before), typed(after)
    crowd = earlier.drop_duplicates(["session_id", "type"])["type"].value_counts()
    popular = sorted(crowd.index, key=lambda t: (-crowd[t], t))
    asked = later[later["item_id"].isin(cold)].drop_duplicates(["session_id", "item_id"])
    contents = later.groupby("session_id")["type"].agg(set)
    chosen = relations[relations["relation"] == "complement"]
    ours = chosen[chosen["rank"] <= k].groupby("type")["value"].agg(list).to_dict()
    share = later.drop_duplicates(["session_id", "type"])["type"].value_counts()
    expected = (share / max(len(contents), 1)).to_dict()
    hits = np.zeros((2, 2))  # complements, popular types: found, to be expected in any basket
    pairs = 0
    for session, own in zip(asked["session_id"], asked["type"], strict=True):
        basket = contents[session] - {own}
        if not basket or own not in ours:
            continue
        pairs += 1
        likely = [t for t in popular[: k + 1] if t != own][:k]
        for row, proposed in enumerate((ours[own], likely)):
            hits[row, 0] += sum(t in basket for t in proposed)
            hits[row, 1] += sum(expected.get(t, 0.0) for t in proposed)
    rates = hits[:, 0] / max(k * pairs, 1)
    lifts = hits[:, 0] / np.maximum(hits[:, 1], 1e-9)
    return {
        "complements": float(rates[0]),
        "popular types": float(rates[1]),
        "complements lift": float(lifts[0]),
        "popular types lift": float(lifts[1]),
        "pairs": float(pairs),
    }


def audience_lift(
    relations: pd.DataFrame,
    after: pd.DataFrame,
    items: pd.DataFrame,
    users: pd.DataFrame,
    level: str,
    cold: pd.Index,
) -> dict[str, float]:
    """How much likelier a later buyer of a cold item belongs to the audience of its type than any
    user does: the mean ratio over (buyer, item, trait of the type's audience); 1 = says nothing."""
    traits = traits_of(users)
    if traits.empty:
        return {"audience lift": 1.0, "buyers": 0.0}
    overall = traits["trait"].value_counts() / traits["user_id"].nunique()
    kind = items.set_index("item_id")[level]
    bought = after[after["counts_as_taken"] & after["item_id"].isin(cold)]
    bought = bought[bought["user_id"].isin(traits["user_id"])]
    pairs = bought[["user_id", "item_id"]].drop_duplicates()
    pairs = pairs.assign(type=pairs["item_id"].map(kind))
    wanted = relations[relations["relation"] == "audience"][["type", "value"]]
    asked = pairs.merge(wanted, on="type").rename(columns={"value": "trait"})
    if asked.empty:
        return {"audience lift": 1.0, "buyers": 0.0}
    found = asked.merge(traits.assign(has=1.0), on=["user_id", "trait"], how="left")["has"]
    expected = asked["trait"].map(overall).sum()
    return {"audience lift": float(found.fillna(0).sum() / expected), "buyers": float(len(pairs))}
