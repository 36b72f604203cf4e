"""Item-to-item lists: what is bought together, and what could be taken instead.

Belongs here: `bought_together` (complements, from baskets), `similar_items` (substitutes, from
texts and users), and the two measures of how good they are. Does not belong here: making
embeddings, lists per user, or business rules beyond "only these items may be proposed".

Both lists cover every catalogue item, hold no twin of the item itself (nothing of its own
`group_id`) and show one item per group. Work is done in blocks of items and the result does not
depend on the block size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from recsys_assets.content.categories import joined_path, product_codes
from recsys_assets.core.arrays import distinct, first_of_each, position_in_run
from recsys_assets.core.metrics import seeded_uniform
from recsys_assets.core.threads import one_thread
from recsys_assets.core.vectors import ItemVectors

_Codes = npt.NDArray[np.int64]
_ITEMS_PER_BLOCK = 2_000
_CELLS_PER_BLOCK = 20_000_000
_TYPE_CANDIDATES = 100


@dataclass(frozen=True)
class TogetherSettings:
    """How baskets become a score.

    For an item i of type t (its full category path) the chance of j in the same basket is estimated
    from the n_i baskets with i, backed off to the baskets with any item of t and those to all:

        P(j|t) = (baskets with t and j + type_prior * P(j)) / (baskets with t + type_prior)
        P(j|i) = (baskets with i and j + item_prior * P(j|t)) / (n_i + item_prior)

    Listed are the largest P(j|i) / P(j) ** damping among j with P(j|i) >= min_lift * P(j). Without
    damping baskets are predicted best but every list shows milk; plain cosine or lift (damping .5
    to 1) looks specific and predicts baskets worse than popularity does; raw common baskets leave
    rare items without a list. Chosen with `basket_hit_rate` on the tune target of Complete Journey.

    `min_support` floors the evidence: j must have been in so many baskets together with an item of
    the type. `min_pair_baskets`: fewer common baskets than this count as type evidence only.
    """

    item_prior: float = 60.0
    type_prior: float = 100.0
    damping: float = 0.1
    min_lift: float = 1.0
    min_support: int = 5
    min_pair_baskets: int = 2

    def __post_init__(self) -> None:
        if self.item_prior <= 0 or self.type_prior <= 0:
            raise ValueError("the priors of bought_together must be above 0")


def bought_together(
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    *,
    k: int = 10,
    settings: TogetherSettings | None = None,
) -> pd.DataFrame:
    """What stands in the same baskets, per item.

    `interactions` is `item_id, session_id, counts_as_taken`, already cut at the cutoff; events
    without a session say nothing here. `items` is the staged catalogue. Active items
    are proposed. Returns `item_id, rank, other_item_id, score,
    support`, sorted by item and rank; `score` is the damped estimate above and `support` the number
    of baskets with both items, which is 0 where the type alone speaks. An item whose type was
    bought in too few baskets has a short list or none.
    """
    settings = settings or TogetherSettings()
    catalogue = _Catalogue.build(items)
    baskets = _incidence(interactions, catalogue.ids, "session_id")
    n_baskets = max(baskets.shape[0], 1)
    own_count = np.asarray(baskets.sum(axis=0)).ravel()
    columns = np.flatnonzero(catalogue.active & (own_count >= settings.min_support))
    if not len(columns):
        return _empty_lists()
    proposed = baskets[:, columns].tocsr()
    overall = own_count[columns] / n_baskets
    damp = overall**settings.damping
    type_count, type_pairs = _type_evidence(baskets, proposed, catalogue.type, columns)

    blocks = []
    by_type = np.argsort(catalogue.type, kind="stable")
    baskets_by_item = baskets.tocsc()
    for first in range(0, len(by_type), _ITEMS_PER_BLOCK):
        block = by_type[first : first + _ITEMS_PER_BLOCK]
        types, type_row = np.unique(catalogue.type[block], return_inverse=True)
        evidence = type_pairs[types].toarray()
        chance = (evidence + settings.type_prior * overall) / (
            type_count[types] + settings.type_prior
        )[:, None]
        enough = evidence >= settings.min_support
        best = _top_columns(np.where(enough, chance / damp, -np.inf), _TYPE_CANDIDATES)
        pairs = (baskets_by_item[:, block].T @ proposed).tocsr()
        line, column, common = _with_extra(pairs, best[type_row], settings.min_pair_baskets)
        at_type = type_row[line]
        estimate = (common + settings.item_prior * chance[at_type, column]) / (
            own_count[block[line]] + settings.item_prior
        )
        keep = enough[at_type, column] & (estimate >= settings.min_lift * overall[column])
        keep &= catalogue.group[columns[column]] != catalogue.group[block[line]]
        line, column, common = line[keep], column[keep], common[keep]
        score = estimate[keep] / damp[column]
        blocks.append(_lists(catalogue, block[line], columns[column], score, common, k))
    return _sorted_lists(blocks)


@dataclass(frozen=True)
class SimilarSettings:
    """How texts, users and popularity become the order of what could be taken instead.

    A likeness, `content_weight` * cosine of the texts + (1 - content_weight) * cosine of the sets
    of users who took them, the latter shrunk by c / (c + user_prior) with c common users, so that
    two users in common are no proof; and `popularity` * log(1 + users who took the product) over
    the largest such logarithm: of what is alike, people take what many take. Chosen on the tune
    target of the default data (docs/experiments.md).
    """

    content_weight: float = 0.6
    user_prior: float = 5.0
    popularity: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.content_weight <= 1 or self.user_prior <= 0 or self.popularity < 0:
            raise ValueError(
                "content_weight lies in 0..1, user_prior above 0, popularity not below 0"
            )


@one_thread()
def similar_items(
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    vectors: ItemVectors,
    *,
    k: int = 10,
    settings: SimilarSettings | None = None,
) -> pd.DataFrame:
    """What could be taken instead of each item: other groups of its category.

    Computed between groups (`group_id`), whose members share text and vector, and then given to
    every member; a group is shown by its active member with most events (ties: smaller item_id).
    Candidates are the groups of the same category_2; where those are too few, category_1 and then
    the catalogue fill up behind them. `interactions` is `user_id, item_id, counts_as_taken`, cut at
    the cutoff. Every item needs a vector (ValueError). Returns `item_id, rank, other_item_id,
    score, support`; `support` is the number of users who took both groups.
    """
    settings = settings or SimilarSettings()
    catalogue = _Catalogue.build(items)
    rows = vectors.rows(catalogue.ids)
    if (rows < 0).any():
        raise ValueError(f"{int((rows < 0).sum())} catalogue items have no vector")
    events = _incidence(interactions, catalogue.ids, "user_id")
    groups = _Groups.build(catalogue, events, vectors.matrix[rows])
    missing = np.arange(groups.size)
    parts: list[tuple[_Codes, _Codes, npt.NDArray, npt.NDArray, int]] = []
    found = np.zeros(groups.size, dtype=np.int64)
    for tier, level in enumerate((2, 1, 0)):
        codes = groups.paths[level]
        for query, others in _blocks(codes, missing, groups.shown_as >= 0):
            score, support = groups.likeness(query, others, settings)
            same = query[:, None] == others
            narrower = groups.paths[level + 1] if tier else None
            if narrower is not None:
                same |= narrower[query][:, None] == narrower[others]
            score = np.where(same, -np.inf, score)
            top = _top_columns(score, k)
            line = np.repeat(np.arange(len(query)), top.shape[1])
            column = top.ravel()
            good = np.isfinite(score[line, column])
            line, column = line[good], column[good]
            parts.append(
                (query[line], others[column], score[line, column], support[line, column], tier)
            )
            found += np.bincount(query[line], minlength=groups.size)
        missing = missing[found[missing] < k]
        if not len(missing):
            break
    return groups.member_lists(catalogue, parts, k)


def basket_hit_rate(
    lists: pd.DataFrame | None,
    baskets: pd.DataFrame,
    popular: pd.Series,
    *,
    k: int,
    seed: int,
) -> pd.DataFrame:
    """Is the rest of a held-out basket on the list of one of its items?

    `baskets` is `session_id, item_id, counts_as_taken` of the horizon; of every basket with two
    items or more one (drawn by `seed`) is shown and the others are to be found. `lists` is what
    `bought_together` returned; None measures `popular`, the same most popular items for all
    (index item_id, best first, as known at the cutoff), without the item shown. Returns one row per
    basket, in session order: `session_id, item_id, covered` (has a list) `, hit`.
    """
    taken = baskets[baskets["counts_as_taken"].to_numpy(dtype=bool)]
    pairs = taken[["session_id", "item_id"]].drop_duplicates()
    pairs = pairs.sort_values(["session_id", "item_id"], ignore_index=True)
    pairs = pairs[pairs.groupby("session_id")["item_id"].transform("size") > 1]
    keys = seeded_uniform(pairs["session_id"] + "\x1f" + pairs["item_id"], seed)
    order = pairs.assign(key=keys).sort_values(["session_id", "key", "item_id"])
    shown = order.drop_duplicates("session_id")[["session_id", "item_id"]]
    if lists is None:
        top = popular.index[: k + 1].to_numpy(dtype=object)
        offers = shown.merge(pd.DataFrame({"other_item_id": top}), how="cross")
        offers = offers[offers["item_id"] != offers["other_item_id"]]
        offers = offers[offers.groupby("session_id").cumcount() < k]
    else:
        offers = shown.merge(lists[lists["rank"] <= k], on="item_id")
    rest = pairs.rename(columns={"item_id": "other_item_id"})
    hits = offers[["session_id", "item_id", "other_item_id"]].merge(
        rest, on=["session_id", "other_item_id"]
    )
    return shown.assign(
        covered=shown["session_id"].isin(offers["session_id"]),
        hit=shown["session_id"].isin(hits["session_id"]),
    ).reset_index(drop=True)


def substitute_hit_rate(
    lists: pd.DataFrame, before: pd.DataFrame, after: pd.DataFrame, items: pd.DataFrame, k: int
) -> pd.DataFrame:
    """When a user takes a new product of a known category, was it on the list of the last one?

    `before` and `after` are interactions on either side of a cutoff. For each user and item first
    taken after it whose category_2 the user took before, the item shown is the last one the user
    took in that category, and a hit is that its list has the new item's group. Returns one row per
    such case: `user_id, item_id, shown_item_id, hit`.
    """
    columns = ["user_id", "item_id"]
    facts = items[["item_id", "group_id"]].assign(category=joined_path(items, 2))
    old = before[before["counts_as_taken"].to_numpy(dtype=bool)]
    new = after[after["counts_as_taken"].to_numpy(dtype=bool)][columns].drop_duplicates()
    old = old.merge(facts, on="item_id")
    new = new.merge(facts, on="item_id")
    seen_group = new.merge(
        old[["user_id", "group_id"]].drop_duplicates(),
        on=["user_id", "group_id"],
        how="left",
        indicator=True,
    )
    new = seen_group[seen_group["_merge"] == "left_only"].drop(columns="_merge")
    last = old.sort_values(["event_time", "item_id"]).drop_duplicates(
        ["user_id", "category"], keep="last"
    )
    cases = new.merge(
        last[["user_id", "category", "item_id"]].rename(columns={"item_id": "shown_item_id"}),
        on=["user_id", "category"],
    )
    top = lists.loc[lists["rank"] <= k, ["item_id", "other_item_id"]]
    offered = top.merge(
        facts[["item_id", "group_id"]].rename(columns={"item_id": "other_item_id"}),
        on="other_item_id",
    )
    offered = offered[["item_id", "group_id"]].rename(columns={"item_id": "shown_item_id"})
    hit = cases.merge(
        offered.drop_duplicates(), on=["shown_item_id", "group_id"], how="left", indicator=True
    )
    result = hit.assign(hit=hit["_merge"] == "both")
    return result[["user_id", "item_id", "shown_item_id", "hit"]].sort_values(
        columns, ignore_index=True
    )


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """Items in item_id order, as codes."""

    ids: npt.NDArray[np.object_]
    group: _Codes
    type: _Codes
    paths: tuple[_Codes, _Codes, _Codes, _Codes]  # by number of levels, 0 = one code for all
    active: npt.NDArray[np.bool_]

    @classmethod
    def build(cls, items: pd.DataFrame) -> "_Catalogue":
        items = items.sort_values("item_id", kind="stable", ignore_index=True)
        if items["item_id"].duplicated().any():
            raise ValueError("the catalogue repeats an item")
        levels = [pd.factorize(joined_path(items, n))[0].astype(np.int64) for n in (1, 2, 3)]
        return cls(
            items["item_id"].to_numpy(dtype=object),
            product_codes(items),
            levels[2],
            (np.zeros(len(items), dtype=np.int64), levels[0], levels[1], levels[2]),
            (items["status"] == "active").to_numpy(dtype=bool),
        )


@dataclass(frozen=True, eq=False)
class _Groups:
    """The distinct products: one row per group code."""

    size: int
    paths: tuple[_Codes, ...]
    vectors: npt.NDArray[np.float32]
    users: sparse.csc_matrix  # user x group, 1 where taken
    n_users: npt.NDArray[np.float64]
    shown_as: _Codes  # item code, -1 where no member may be shown
    of_item: _Codes

    @classmethod
    def build(
        cls, catalogue: _Catalogue, events: sparse.csr_matrix, vectors: npt.NDArray[np.float32]
    ) -> "_Groups":
        n_items = len(catalogue.ids)
        size = int(catalogue.group.max(initial=-1)) + 1
        _, first = np.unique(catalogue.group, return_index=True)
        member = sparse.csr_matrix(
            (np.ones(n_items, dtype=np.float32), (np.arange(n_items), catalogue.group)),
            shape=(n_items, size),
        )
        users = (events @ member).tocsc()
        users.data[:] = 1.0
        popularity = np.asarray(events.sum(axis=0)).ravel()
        order = np.lexsort((np.arange(n_items), -popularity, ~catalogue.active, catalogue.group))
        _, best = np.unique(catalogue.group[order], return_index=True)
        shown_as = order[best]
        shown_as = np.where(catalogue.active[shown_as], shown_as, -1)
        return cls(
            size,
            tuple(path[first] for path in catalogue.paths),
            vectors[first],
            users,
            np.asarray(users.sum(axis=0)).ravel(),
            shown_as,
            catalogue.group,
        )

    def likeness(
        self, query: _Codes, others: _Codes, settings: SimilarSettings
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Score and common users [query, others]."""
        content = (self.vectors[query] @ self.vectors[others].T).astype(np.float64)
        common = (self.users[:, query].T @ self.users[:, others]).toarray().astype(np.float64)
        size = np.sqrt(np.maximum(self.n_users[query][:, None] * self.n_users[others], 1.0))
        by_users = common / size * (common / (common + settings.user_prior))
        weight = settings.content_weight
        known = np.log1p(self.n_users)
        popular = settings.popularity * known[others] / max(float(known.max(initial=0.0)), 1.0)
        # Rounded, since the last digits of a matrix product depend on the shape of the block.
        return np.round(weight * content + (1.0 - weight) * by_users + popular, 5), common

    def member_lists(
        self,
        catalogue: _Catalogue,
        parts: list[tuple[_Codes, _Codes, npt.NDArray, npt.NDArray, int]],
        k: int,
    ) -> pd.DataFrame:
        if not parts:
            return _empty_lists()
        query, other, score, support = (
            np.concatenate([part[position] for part in parts]) for position in range(4)
        )
        tier = np.concatenate([np.full(len(part[0]), part[4]) for part in parts])
        shown = self.shown_as[other]
        order = np.lexsort((shown, -score, tier, query))
        query, shown, score, support = query[order], shown[order], score[order], support[order]
        rank = position_in_run(query)
        keep = rank < k
        query, shown, score, support = query[keep], shown[keep], score[keep], support[keep]
        starts = np.searchsorted(query, np.arange(self.size))
        lengths = np.searchsorted(query, np.arange(self.size), side="right") - starts
        of_item = self.of_item
        item = np.repeat(np.arange(len(of_item)), lengths[of_item])
        position = position_in_run(item)
        at = starts[of_item[item]] + position
        return _frame(catalogue, item, position + 1, shown[at], score[at], support[at])


def _type_evidence(
    baskets: sparse.csr_matrix, proposed: sparse.csr_matrix, types: _Codes, columns: _Codes
) -> tuple[npt.NDArray[np.float64], sparse.csr_matrix]:
    """Baskets with each type, and baskets with a type and a proposed item beside it.

    An item of the type itself counts where the basket holds a second item of that type.
    """
    n_items, n_types = baskets.shape[1], int(types.max(initial=-1)) + 1
    of_type = sparse.csr_matrix(
        (np.ones(n_items, dtype=np.float32), (np.arange(n_items), types)), shape=(n_items, n_types)
    )
    counts = (baskets @ of_type).tocsr()
    has = counts.copy()
    has.data[:] = 1.0
    together = (has.T @ proposed).tocsr()
    several = counts
    several.data = (several.data >= 2).astype(np.float32)
    own_type = types[columns]
    pairs = proposed.tocoo()
    beside = np.asarray(several[pairs.row, own_type[pairs.col]]).ravel()
    alone = np.bincount(pairs.col, weights=1.0 - beside, minlength=len(columns))
    correction = sparse.csr_matrix(
        (alone, (own_type, np.arange(len(columns)))), shape=together.shape
    )
    return np.asarray(has.sum(axis=0)).ravel().astype(float), (together - correction).tocsr()


def _with_extra(
    pairs: sparse.csr_matrix, extra: _Codes, at_least: int
) -> tuple[_Codes, _Codes, npt.NDArray[np.float64]]:
    """(line, column, count) of the pairs with `at_least` baskets and of the `extra` columns."""
    n_columns = pairs.shape[1]
    line = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    own = line * n_columns + pairs.indices
    extra_key = (np.arange(len(extra))[:, None] * n_columns + extra).ravel()
    keep = pairs.data >= at_least
    key = distinct(np.concatenate([own[keep], extra_key]))
    order = np.argsort(own)
    own, data = own[order], pairs.data[order]
    at = np.minimum(np.searchsorted(own, key), max(len(own) - 1, 0))
    common = np.zeros(len(key))
    if len(own):
        common = np.where(own[at] == key, data[at], 0.0)
    return key // n_columns, key % n_columns, common


def _lists(
    catalogue: _Catalogue,
    item: _Codes,
    other: _Codes,
    score: npt.NDArray,
    support: npt.NDArray,
    k: int,
) -> pd.DataFrame:
    """Best first per item (ties: item order), the first of each other group, the first k."""
    score = score.astype(np.float32)
    order = np.lexsort((other, -score, item))
    item, other, score, support = item[order], other[order], score[order], support[order]
    key = item * (int(catalogue.group.max()) + 1) + catalogue.group[other]
    first = np.sort(first_of_each(key))
    item, other, score, support = item[first], other[first], score[first], support[first]
    position = position_in_run(item)
    keep = position < k
    return _frame(
        catalogue, item[keep], position[keep] + 1, other[keep], score[keep], support[keep]
    )


def _blocks(
    codes: _Codes, queries: _Codes, shown: npt.NDArray[np.bool_]
) -> Iterator[tuple[_Codes, _Codes]]:
    """(queries, candidates) per code, queries cut so that a block stays within memory."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(int(codes.max(initial=-1)) + 2))
    asked = np.zeros(len(codes), dtype=bool)
    asked[queries] = True
    for code in np.unique(codes[queries]):
        members = order[starts[code] : starts[code + 1]]
        mine, others = members[asked[members]], members[shown[members]]
        if len(others):
            step = max(1, _CELLS_PER_BLOCK // len(others))
            for first in range(0, len(mine), step):
                yield mine[first : first + step], others


def _top_columns(score: npt.NDArray, k: int) -> _Codes:
    """Columns of the k largest per line, largest first, ties to the smaller column."""
    k = min(k, score.shape[1])
    if k == 0:
        return np.zeros((len(score), 0), dtype=np.int64)
    threshold = np.partition(score, score.shape[1] - k, axis=1)[:, score.shape[1] - k]
    at_least = score >= threshold[:, None]
    line, column = np.nonzero(at_least & np.isfinite(score))
    order = np.lexsort((column, -score[line, column], line))
    line, column = line[order], column[order]
    position = position_in_run(line)
    # Lines with fewer finite scores repeat their first column; callers drop what is not finite.
    top = np.argmin(score, axis=1)[:, None].repeat(k, axis=1)
    keep = position < k
    top[line[keep], position[keep]] = column[keep]
    return top


def _incidence(
    interactions: pd.DataFrame, item_ids: npt.NDArray[np.object_], by: str
) -> sparse.csr_matrix:
    """1 where a basket or user (rows) took an item (columns, in catalogue order)."""
    taken = interactions[interactions["counts_as_taken"].to_numpy(dtype=bool)]
    rows, names = pd.factorize(taken[by])
    columns = pd.Index(item_ids).get_indexer(pd.Index(taken["item_id"]))
    known = (rows >= 0) & (columns >= 0)
    matrix = sparse.csr_matrix(
        (np.ones(int(known.sum()), dtype=np.float32), (rows[known], columns[known])),
        shape=(len(names), len(item_ids)),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _frame(
    catalogue: _Catalogue,
    item: _Codes,
    rank: _Codes,
    other: _Codes,
    score: npt.NDArray,
    support: npt.NDArray,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": catalogue.ids[item],
            "rank": rank.astype(np.int32),
            "other_item_id": catalogue.ids[other],
            "score": score.astype(np.float32),
            "support": support.astype(np.int32),
        }
    )


def _empty_lists() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": pd.Series([], dtype=str),
            "rank": np.zeros(0, dtype=np.int32),
            "other_item_id": pd.Series([], dtype=str),
            "score": np.zeros(0, dtype=np.float32),
            "support": np.zeros(0, dtype=np.int32),
        }
    )


def _sorted_lists(blocks: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [block for block in blocks if len(block)]
    if not filled:
        return _empty_lists()
    return pd.concat(filled).sort_values(["item_id", "rank"], ignore_index=True)
