"""Neighbours: which users resemble a user, which items go with an item.

Belongs here: similarities of sparse rows cut to the nearest few, directed item transitions, and the
table form of item neighbours. Does not belong here: scores of lists, what counts as an event.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse

from recsys_assets.collaborative.tables import ITEM_NEIGHBOURS
from recsys_assets.core.matrix_product import dense_product

Ints = npt.NDArray[np.integer]

_STEP_ITEMS = 60


@dataclass(frozen=True, eq=False)
class ItemNeighbours:
    """`links` [n_items, n_items]: strength of target j given source i, at most k per row.
    `support`, same sparsity: how many users stand behind the link."""

    links: sparse.csr_matrix
    support: sparse.csr_matrix


def normalized(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows scaled to length 1; empty rows stay empty."""
    out = matrix.astype(np.float64).tocsr(copy=True)
    size = np.sqrt(np.asarray(out.multiply(out).sum(axis=1)).ravel())
    out.data /= np.repeat(np.maximum(size, 1e-12), np.diff(out.indptr))
    return out


def idf_weighted(matrix: sparse.csr_matrix, power: float = 1.0) -> sparse.csr_matrix:
    """Columns scaled by log(1 + n_rows / (1 + support)) ** power."""
    support = np.bincount(matrix.indices, minlength=matrix.shape[1])
    weight = np.log1p(matrix.shape[0] / (1.0 + support)) ** power
    out = matrix.astype(np.float64).tocsr(copy=True)
    out.data *= weight[out.indices]
    return out


def bm25_weighted(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Okapi BM25 weights of a users x items matrix: users are documents, items are terms."""
    k1, b = 1.2, 0.75  # as usual in text search
    out = idf_weighted(matrix)
    counts = matrix.astype(np.float64).tocsr()
    length = np.asarray(counts.sum(axis=1)).ravel()
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norm = k1 * (1.0 - b + b * length[rows] / max(length.mean(), 1e-12))
    out.data *= (k1 + 1.0) / (counts.data + norm)
    return out


@dataclass(frozen=True, eq=False)
class NearestRows:
    """Finds the `k` nearest other rows of some rows of a sparse matrix; exact.

    "cosine" similarity, or "euclidean" giving 1 / (1 + distance). Only rows in `pool` (sorted) can
    be neighbours; rows without entries have and are none. Ties go to the smaller row number. They
    are found when asked for: of many rows, only a few may ever be asked about.
    """

    rows: sparse.csr_matrix
    pool: Ints
    pool_by_item: sparse.csr_matrix
    square: npt.NDArray[np.float64]
    k: int
    distance: str

    @classmethod
    def among(
        cls,
        matrix: sparse.csr_matrix,
        k: int,
        distance: str = "cosine",
        reference: Ints | None = None,
    ) -> "NearestRows":
        """`reference`: the rows that can be neighbours, sorted; all if None."""
        rows = normalized(matrix) if distance == "cosine" else matrix.astype(np.float64).tocsr()
        filled = np.diff(rows.indptr) > 0
        pool = np.flatnonzero(filled) if reference is None else reference[filled[reference]]
        square = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
        return cls(rows, pool, rows[pool].T.tocsr(), square, min(k, len(pool)), distance)

    def of(self, asked: Ints) -> sparse.csr_matrix:
        """[len(asked), n_rows] with the similarity (> 0) of each one's nearest, columns sorted."""
        shape = (len(asked), self.rows.shape[0])
        if not self.k:
            return sparse.csr_matrix(shape)
        some = self.rows[asked]
        value = dense_product(some, self.pool_by_item)
        if self.distance == "euclidean":
            gap = self.square[asked, None] + self.square[self.pool] - 2.0 * value
            value = 1.0 / (1.0 + np.sqrt(np.maximum(gap, 0.0)))
        value[np.diff(some.indptr) == 0] = 0.0
        place = np.searchsorted(self.pool, asked)
        own = place < len(self.pool)
        own[own] = self.pool[place[own]] == asked[own]
        value[np.flatnonzero(own), place[own]] = 0.0
        best = _largest(value, self.k)
        taken = np.take_along_axis(value, best, axis=1)
        at, which = np.nonzero(taken > 0)
        return sparse.csr_matrix((taken[at, which], (at, self.pool[best[at, which]])), shape=shape)


def _largest(values: npt.NDArray[np.floating], k: int) -> Ints:
    """Columns of the k largest values per row; among equal values at the edge the first columns."""
    if k >= values.shape[1]:
        return np.tile(np.arange(values.shape[1]), (len(values), 1))
    edge = np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k, None]
    above = values > edge
    need = k - above.sum(axis=1, keepdims=True)
    level = values == edge
    chosen = above | (level & (np.cumsum(level, axis=1) <= need))
    return np.nonzero(chosen)[1].reshape(len(values), k)


def top_per_row(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """`matrix` with only the `k` largest entries of each row; ties go to the smaller column."""
    matrix = matrix.tocsr()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    start = np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    keep = np.sort(order[np.arange(len(order)) - start < k])
    return sparse.csr_matrix(
        (matrix.data[keep], (rows[keep], matrix.indices[keep])), shape=matrix.shape
    )


def item_neighbours(
    matrix: sparse.csr_matrix,
    k: int = 100,
    min_support: int = 2,
    max_items: int = 10_000,
    shrink: float = 10.0,
) -> ItemNeighbours:
    """Cosine neighbours of the columns of a weighted users x items `matrix`.

    The length of a column taken by n users is inflated by sqrt((n + shrink) / n), so rare columns
    are neighbours of little; support is the number of users who have both. Among the `k` nearest of
    an item, links with less than `min_support` are dropped. Only the `max_items` columns with the
    most users take part (ties by column). Memory: 512 x max_items.
    """
    block = 512
    n_items = matrix.shape[1]
    count = np.bincount(matrix.indices, minlength=n_items)
    order = np.lexsort((np.arange(n_items), -count))[:max_items]
    columns = np.sort(order[count[order] >= min_support])
    part = matrix[:, columns].tocsr()
    by_item = normalized(part.T.tocsr())
    damp = np.sqrt(count[columns] / (count[columns] + shrink))
    by_item = (sparse.diags(damp) @ by_item).astype(np.float32).tocsr()
    by_user = by_item.T.tocsr()
    flag = by_item.copy()
    flag.data[:] = 1.0
    keep = min(k, max(len(columns) - 1, 0))
    links: list[sparse.csr_matrix] = []
    supports: list[sparse.csr_matrix] = []
    for start in range(0, len(columns) if keep else 0, block):
        value = dense_product(by_item[start : start + block], by_user)
        here = np.arange(len(value))
        value[here, here + start] = 0.0
        best = _largest(value, keep)
        source = np.repeat(here, keep)
        target = best.ravel()
        both = np.concatenate(
            [
                np.asarray(
                    flag[start + source[at : at + 100_000]]
                    .multiply(flag[target[at : at + 100_000]])
                    .sum(axis=1)
                ).ravel()
                for at in range(0, len(source), 100_000)
            ]
        )
        fine = (both >= min_support) & (value[source, target] > 0)
        shape = (len(value), len(columns))
        where = (source[fine], target[fine])
        links.append(sparse.csr_matrix((value[source, target][fine], where), shape=shape))
        supports.append(sparse.csr_matrix((both[fine], where), shape=shape))
    return ItemNeighbours(_spread(links, columns, n_items), _spread(supports, columns, n_items))


def _spread(parts: list[sparse.csr_matrix], columns: Ints, n_items: int) -> sparse.csr_matrix:
    if not parts:
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    small = sparse.vstack(parts).tocoo()
    out = sparse.csr_matrix(
        (small.data.astype(np.float32), (columns[small.row], columns[small.col])),
        shape=(n_items, n_items),
    )
    out.sort_indices()
    return out


def transitions(
    user: Ints,
    step: Ints,
    column: Ints,
    weight: npt.NDArray[np.float64],
    n_items: int,
    *,
    lags: tuple[float, ...],
    k: int,
    min_support: float,
    source_power: float,
    target_power: float,
    shrink: float,
) -> sparse.csr_matrix:
    """Directed links i -> j: how often j comes `lag` steps after i for the same user.

    `user`, `step`, `column`, `weight`: one entry per event; steps (baskets) are numbered in order
    of time over all users. `lags[d]` weighs a distance of d steps; distance 0 is the same step.
    strength = c_ij / (n_i ** source_power * n_j ** target_power) * c_ij / (c_ij + shrink).
    Steps with more than `_STEP_ITEMS` distinct items take part as the first so many columns by
    rarity, so that one huge basket does not cost its square.
    """
    order = np.lexsort((column, step, user))
    user, step, column, weight = user[order], step[order], column[order], weight[order]
    new_step = np.r_[True, (user[1:] != user[:-1]) | (step[1:] != step[:-1])][: len(user)]
    row = np.cumsum(new_step) - 1
    owner = user[new_step]
    n_steps = len(owner)
    bag = sparse.csr_matrix((weight, (row, column)), shape=(n_steps, n_items))
    times = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(n_steps, n_items))
    bag.data /= times.data
    rarity = np.bincount(bag.indices, minlength=n_items)
    ranked = sparse.csr_matrix((1.0 / rarity[bag.indices], bag.indices, bag.indptr), bag.shape)
    ranked = top_per_row(ranked, _STEP_ITEMS)
    ranked.data[:] = 1.0
    bag = bag.multiply(ranked).tocsr()
    flag = bag.copy()
    flag.data = np.ones_like(flag.data)
    total = sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    for lag, strength in enumerate(lags):
        if strength == 0 or lag >= n_steps:
            continue
        source, target = flag[: n_steps - lag], bag[lag:]
        same = (owner[: n_steps - lag] == owner[lag:]).astype(np.float64) * strength
        total = total + (sparse.diags(same) @ source).T.astype(np.float32).tocsr() @ target.astype(
            np.float32
        )
    total = total.tocsr()
    count = np.bincount(bag.indices, weights=bag.data, minlength=n_items)
    rows = np.repeat(np.arange(n_items), np.diff(total.indptr))
    keep = (total.data >= min_support * min(1.0, max(lags))) & (rows != total.indices)
    rows, columns, value = rows[keep], total.indices[keep], total.data[keep].astype(np.float64)
    size = np.maximum(count, 1e-12)
    strength_of = value * value / (value + shrink)
    strength_of /= size[rows] ** source_power * size[columns] ** target_power
    links = sparse.csr_matrix((strength_of, (rows, columns)), shape=(n_items, n_items))
    return top_per_row(links, k).astype(np.float32)


def to_table(found: ItemNeighbours, as_of: pd.Timestamp, item_ids: pd.Index) -> pa.Table:
    """The table form; `item_ids` (ascending) name the rows and columns of the links."""
    links = found.links.tocsr()
    rows = np.repeat(np.arange(links.shape[0]), np.diff(links.indptr))
    order = np.lexsort((links.indices, -links.data, rows))
    position = np.arange(len(order)) - np.repeat(links.indptr[:-1], np.diff(links.indptr)) + 1
    ids = pa.array(item_ids, pa.string())
    support = np.zeros(0)
    if len(order):  # scipy answers no rows at all with a sparse matrix
        support = np.asarray(found.support[rows[order], links.indices[order]]).ravel()
    return pa.table(
        {
            "as_of": pa.array([as_of] * len(order), pa.timestamp("us", "UTC")),
            "item_id": ids.take(pa.array(rows[order])),
            "neighbour_id": ids.take(pa.array(links.indices[order])),
            "rank": pa.array(position, pa.int32()),
            "score": pa.array(links.data[order], pa.float32()),
            "support": pa.array(support, pa.float32()),
        },
        schema=ITEM_NEIGHBOURS.arrow_schema(),
    )


def links_of(table: pa.Table, item_ids: pd.Index) -> sparse.csr_matrix:
    """Links of the table form, aligned to `item_ids`; rows of items that it lacks are left out."""
    source = item_ids.get_indexer(table.column("item_id").to_pandas().to_numpy(dtype=object))
    target = item_ids.get_indexer(table.column("neighbour_id").to_pandas().to_numpy(dtype=object))
    keep = (source >= 0) & (target >= 0)
    score = table.column("score").to_numpy()[keep].astype(np.float32)
    shape = (len(item_ids), len(item_ids))
    out = sparse.csr_matrix((score, (source[keep], target[keep])), shape=shape)
    out.sort_indices()
    return out
