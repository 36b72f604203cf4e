"""Quality of ranked lists: accuracy, beyond accuracy, and how sure we are of either.

Belongs here: metrics over long frames, bootstrap intervals, paired differences, seeded draws. Does
not belong here: which models, slices or tables are measured (evaluation), and anything that reads
or writes.

Frames. *lists* are `user_id, item_id, rank` with rank 1 = first; *relevant* is `user_id, item_id`,
what each user really took. Averages run over the users with at least one relevant item; such a user
without a list scores 0 (nobody is dropped for being hard).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.core.arrays import distinct, in_sorted
from recsys_assets.core.vectors import ItemVectors

ACCURACY = ("ndcg", "recall", "precision", "map", "mrr", "hit")
"""The accuracy metrics, in the order of the columns of `per_user_metrics`."""

_CELLS_PER_BLOCK = 4_000_000
_HASH_KEY_DIGITS = 16


def per_user_metrics(
    lists: pd.DataFrame, relevant: pd.DataFrame, ks: Sequence[int] = (10,)
) -> pd.DataFrame:
    """Accuracy of each user's list at each cutoff k.

    Returns `user_id` and one column `<metric>@<k>` per metric of `ACCURACY` and k, one row per user
    with a relevant item, sorted by user_id. With n relevant items and gains rel(r) in {0, 1}:

    - recall = hits / n (not / min(k, n): a list of 10 cannot find all of 50 items)
    - precision = hits / k (a short list is not excused)
    - ndcg = sum rel(r) / log2(r + 1), over its best possible value with min(k, n) hits
      (Järvelin and Kekäläinen 2002, binary gains)
    - map = sum rel(r) * (hits up to r) / r, over min(k, n)
    - mrr = 1 / rank of the first hit;  hit = 1 if there is one

    Raises ValueError when a list repeats an item or a rank, or a rank is below 1. A pair that
    `relevant` holds twice counts once.
    """
    largest = _checked_ks(ks)
    users, user_codes, relevant_keys, item_index = _encode_relevant(relevant)
    n_users = len(users)
    n_relevant = np.bincount(user_codes, minlength=n_users)
    columns: dict[str, npt.ArrayLike] = {"user_id": users}
    codes, ranks, hits = _hits(lists, users, item_index, relevant_keys, largest)
    codes, ranks = codes[hits], ranks[hits]
    order = np.lexsort((ranks, codes))
    codes, ranks = codes[order], ranks[order]
    starts = np.searchsorted(codes, np.arange(n_users))
    nth_hit = np.arange(len(codes)) - starts[codes] + 1
    gains = 1.0 / np.log2(ranks + 1.0)
    for k in ks:
        inside = ranks <= k
        found = np.bincount(codes[inside], minlength=n_users).astype(float)
        possible = np.minimum(n_relevant, k)
        ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])[possible]
        dcg = np.bincount(codes[inside], weights=gains[inside], minlength=n_users)
        precisions = np.bincount(
            codes[inside], weights=(nth_hit / ranks)[inside], minlength=n_users
        )
        first = inside & (nth_hit == 1)
        columns[f"ndcg@{k}"] = dcg / ideal
        columns[f"recall@{k}"] = found / n_relevant
        columns[f"precision@{k}"] = found / k
        columns[f"map@{k}"] = precisions / possible
        columns[f"mrr@{k}"] = np.bincount(
            codes[first], weights=1.0 / ranks[first], minlength=n_users
        )
        columns[f"hit@{k}"] = (found > 0).astype(float)
    return pd.DataFrame(columns)


def catalogue_coverage(lists: pd.DataFrame, n_catalogue: int, k: int = 10) -> float:
    """Share of the catalogue that is in at least one user's first k."""
    return float(lists.loc[lists["rank"] <= k, "item_id"].nunique() / n_catalogue)


def beyond_accuracy(
    lists: pd.DataFrame,
    *,
    popularity: pd.Series,
    n_catalogue: int,
    k: int = 10,
    vectors: ItemVectors | None = None,
    categories: pd.Series | None = None,
) -> pd.DataFrame:
    """How varied, how new and how popular each user's first k items are.

    `popularity` is events per item before the cutoff (index item_id; an absent item has none),
    `categories` maps item_id to its category. Returns `user_id` (everybody with a list, sorted) and

    - `diversity@k`: 1 - mean cosine over the pairs of the list; without `vectors`, the share of
      pairs from different `categories`. NaN for a list of one (and where neither input is given)
    - `novelty@k`: mean of -log2(share of all events), add-one smoothed over the catalogue
    - `popularity_percentile@k`: mean percentile in the catalogue by popularity, 1 = most popular,
      ties share their mean: the popularity bias of the list
    """
    top = lists.loc[lists["rank"] <= k, ["user_id", "item_id"]]
    users, codes = np.unique(top["user_id"].to_numpy(dtype=object), return_inverse=True)
    item_ids = pd.Index(top["item_id"])
    sizes = np.bincount(codes, minlength=len(users)).astype(float)

    def mean(values: npt.NDArray) -> npt.NDArray[np.float64]:
        return np.bincount(codes, weights=values, minlength=len(users)) / sizes

    counts = popularity.reindex(item_ids).fillna(0).to_numpy(dtype=float)
    total = float(popularity.sum()) + n_catalogue
    columns: dict[str, npt.ArrayLike] = {
        "user_id": users,
        f"diversity@{k}": _diversity(codes, sizes, item_ids, vectors, categories),
        f"novelty@{k}": mean(-np.log2((counts + 1.0) / total)),
        f"popularity_percentile@{k}": mean(_percentiles(counts, popularity, n_catalogue)),
    }
    return pd.DataFrame(columns)


def bootstrap(
    values: pd.DataFrame, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean of each column over users, with its percentile bootstrap interval.

    `values` has one row per user and only number columns; NaN = not defined for this user, left out
    of that column's mean. Users are resampled with replacement (Efron and Tibshirani 1993, ch. 13),
    all columns with the same draws. Returns index = column name and `value, low, high, n_users`;
    NaN where no user defines the column.
    """
    return _interval(values, draws, level, seed)[0]


def paired_bootstrap(
    ours: pd.DataFrame,
    other: pd.DataFrame,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Is `ours` better than `other` on the same users?

    Both hold the same columns for the same index of users (ValueError otherwise). Returns per
    column the mean of ours - other as `value`, with `low, high, n_users` as `bootstrap` gives them
    and `p_value`: twice the smaller share of draws on either side of zero, add-one smoothed, so
    never below 2 / (draws + 1).
    """
    if not ours.index.equals(other.index) or not ours.columns.equals(other.columns):
        raise ValueError("a paired comparison needs the same users and columns in the same order")
    summary, means = _interval(ours - other, draws, level, seed)
    p_value = _two_sided(means)
    return summary.assign(p_value=np.where(summary["n_users"] > 0, p_value, np.nan))


def bootstrap_of_cases(
    values: pd.DataFrame, users: pd.Series, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean of each column over cases, with the interval of resampling users with all their cases.

    One row of `values` and of `users` per case; cases of one user are alike and no draws of their
    own. Returns index = column name and `value, low, high, p_value` (of a difference, as
    `paired_bootstrap` has it).
    """
    by_user = values.assign(cases=1.0).groupby(users.to_numpy()).sum().to_numpy(dtype=float)
    sums = _resampled_means(by_user, np.ones(by_user.shape, dtype=bool), draws, seed)
    means = sums[:, :-1] / sums[:, -1:]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    columns = {"value": values.mean(), "low": low, "high": high, "p_value": _two_sided(means)}
    return pd.DataFrame(columns, index=values.columns)


def _two_sided(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bootstrap p-value per column of resampled differences [draws, columns], never 0."""
    sides = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    return np.minimum(1.0, 2.0 * (sides + 1) / (len(means) + 1))


def seeded_uniform(ids: Iterable[str], seed: int, salt: str = "") -> npt.NDArray[np.float64]:
    """A number in [0, 1) per id that depends on the id, the seed and the salt, and on nothing else.

    The order of ids, the process and the machine do not matter, so a user keeps the same draw
    whoever else is in the table (SipHash through `pandas.util.hash_array`).
    """
    hashed = _seeded_hash(np.asarray([f"{salt}\x1f{i}" for i in ids], dtype=object), seed)
    return (hashed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def seeded_sample(ids: Iterable[str], n: int, seed: int, salt: str) -> list[str]:
    """`n` of the distinct ids by `seeded_uniform`, sorted; all if there are fewer."""
    known = sorted(set(ids))
    draw = seeded_uniform(known, seed, salt)
    return sorted(known[at] for at in np.argsort(draw, kind="stable")[:n])


def pair_hash(users: pd.Series, items: pd.Series, seed: int) -> npt.NDArray[np.uint64]:
    """A number per (user, item) that orders events of equal time; another seed, another order."""
    pairs = zip(users.to_numpy(dtype=object), items.to_numpy(dtype=object), strict=True)
    return _seeded_hash(np.asarray([f"{user}\x1f{item}" for user, item in pairs], object), seed)


def _seeded_hash(texts: npt.NDArray[np.object_], seed: int) -> npt.NDArray[np.uint64]:
    key = f"{seed % 10**_HASH_KEY_DIGITS:0{_HASH_KEY_DIGITS}d}"
    return pd.util.hash_array(texts, hash_key=key, categorize=False)


def _checked_ks(ks: Sequence[int]) -> int:
    if not ks or min(ks) < 1:
        raise ValueError(f"cutoffs k must be 1 or more, got {list(ks)}")
    return max(ks)


def _encode_relevant(
    relevant: pd.DataFrame,
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64], npt.NDArray[np.int64], pd.Index]:
    """Users (sorted), the user code and sorted int64 key of each distinct pair, and the items."""
    user_codes, users = pd.factorize(relevant["user_id"], sort=True)
    item_codes, items = pd.factorize(relevant["item_id"])
    if (user_codes < 0).any() or (item_codes < 0).any():
        raise ValueError("relevant pairs hold a null id")
    keys = distinct(user_codes.astype(np.int64) * max(len(items), 1) + item_codes)
    return np.asarray(users, dtype=object), keys // max(len(items), 1), keys, pd.Index(items)


def _hits(
    lists: pd.DataFrame,
    users: npt.NDArray[np.object_],
    items: pd.Index,
    relevant_keys: npt.NDArray[np.int64],
    largest: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """User code, rank and whether relevant, for the rows of `lists` that can count."""
    ranks = lists["rank"].to_numpy()
    if len(ranks) and (pd.isna(ranks).any() or ranks.min() < 1):
        raise ValueError("ranks start at 1")
    top = lists[ranks <= largest]
    if top.duplicated(["user_id", "rank"]).any() or top.duplicated(["user_id", "item_id"]).any():
        raise ValueError("a list repeats an item or a rank")
    codes = pd.Index(users).get_indexer(pd.Index(top["user_id"]))
    item_codes = items.get_indexer(pd.Index(top["item_id"]))
    keys = codes.astype(np.int64) * max(len(items), 1) + item_codes
    hits = (codes >= 0) & (item_codes >= 0) & in_sorted(keys, relevant_keys)
    return codes.astype(np.int64), top["rank"].to_numpy(dtype=np.int64), hits


def contains_pairs(pairs: pd.DataFrame, users: pd.Series, items: pd.Index) -> npt.NDArray[np.bool_]:
    """Whether each (user, item) is among `pairs` (`user_id, item_id`)."""
    user_codes, user_index = pd.factorize(users)
    item_codes, item_index = pd.factorize(items)
    pair_users = pd.Index(user_index).get_indexer(pd.Index(pairs["user_id"]))
    pair_items = pd.Index(item_index).get_indexer(pd.Index(pairs["item_id"]))
    known = (pair_users >= 0) & (pair_items >= 0)
    width = max(len(item_index), 1)
    keys = distinct(pair_users[known].astype(np.int64) * width + pair_items[known])
    return in_sorted(user_codes.astype(np.int64) * width + item_codes, keys)


def _percentiles(
    counts: npt.NDArray[np.float64], popularity: pd.Series, n_catalogue: int
) -> npt.NDArray[np.float64]:
    """Mid-rank percentile in the catalogue; items absent from `popularity` have count 0."""
    known = np.sort(popularity.to_numpy(dtype=float))
    n_absent = max(n_catalogue - len(known), 0)
    below = np.searchsorted(known, counts, side="left") + np.where(counts > 0, n_absent, 0)
    up_to = np.searchsorted(known, counts, side="right") + n_absent
    return (below + up_to - 1) / 2 / max(n_catalogue - 1, 1)


def _diversity(
    codes: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.float64],
    item_ids: pd.Index,
    vectors: ItemVectors | None,
    categories: pd.Series | None,
) -> npt.NDArray[np.float64]:
    if vectors is not None:
        rows = vectors.rows(item_ids)
        if (rows < 0).any():
            raise ValueError("a listed item has no vector")
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(sizes)))
        sums = np.empty((len(sizes), vectors.dimension))
        step = max(1, _CELLS_PER_BLOCK // (vectors.dimension * max(1, int(sizes.max(initial=1)))))
        bounds = [*range(0, len(sizes), step), len(sizes)]
        for first, last in pairwise(bounds):
            end = starts[last] if last < len(sizes) else len(order)
            block = vectors.matrix[rows[order[starts[first] : end]]].astype(np.float64)
            sums[first:last] = np.add.reduceat(block, starts[first:last] - starts[first], axis=0)
        alike = np.einsum("ij,ij->i", sums, sums) - sizes
    elif categories is not None:
        names = pd.factorize(categories.reindex(item_ids).to_numpy())[0]
        frame = pd.DataFrame({"user": codes, "category": names})
        n = frame.groupby(["user", "category"]).size()
        same = (n * (n - 1)).groupby(level="user").sum()
        alike = same.reindex(range(len(sizes)), fill_value=0).to_numpy(dtype=float)
    else:
        return np.full(len(sizes), np.nan)
    pairs = sizes * (sizes - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, 1.0 - alike / pairs, np.nan)


def _interval(
    values: pd.DataFrame, draws: int, level: float, seed: int
) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """Summary per column, and the means of the draws [draws, columns]."""
    matrix = values.to_numpy(dtype=float)
    defined = np.isfinite(matrix)
    n_users = defined.sum(axis=0)
    means = _resampled_means(matrix, defined, draws, seed)
    value, low, high = (np.full(matrix.shape[1], np.nan) for _ in range(3))
    some = n_users > 0
    if some.any():
        tail = 100 * (1 - level) / 2
        value[some] = np.where(defined, matrix, 0).sum(axis=0)[some] / n_users[some]
        low[some], high[some] = np.nanpercentile(means[:, some], [tail, 100 - tail], axis=0)
    columns = {"value": value, "low": low, "high": high, "n_users": n_users}
    return pd.DataFrame(columns, index=values.columns), means


def _resampled_means(
    matrix: npt.NDArray[np.float64], defined: npt.NDArray[np.bool_], draws: int, seed: int
) -> npt.NDArray[np.float64]:
    """[draws, columns] means over resampled users; a draw without a defined user gives NaN."""
    n = len(matrix)
    means = np.full((draws, matrix.shape[1]), np.nan)
    if n == 0:
        return means
    rng = np.random.default_rng(seed)
    filled = np.where(defined, matrix, 0.0)
    everywhere = bool(defined.all())
    step = max(1, _CELLS_PER_BLOCK // n)
    for first in range(0, draws, step):
        size = min(step, draws - first)
        picks = rng.integers(0, n, size=(size, n))
        offsets = picks + np.arange(size)[:, None] * n
        weights = np.bincount(offsets.ravel(), minlength=size * n).reshape(size, n).astype(float)
        sums = weights @ filled
        with np.errstate(invalid="ignore"):
            means[first : first + size] = sums / (n if everywhere else weights @ defined)
    return means


def within_user_auc(user: np.ndarray, value: np.ndarray, label: np.ndarray) -> float:
    """How well `value` alone orders each user's rows: the share of pairs of a positive and a
    negative of one user that it puts in the right order, over all such pairs; ties count half.

    Row-aligned arrays: `user` any codes, `label` 0 or 1. NaN is below every number. 0.5 is chance,
    and what is returned where no user has both. A reversed order is as good: the result is never
    below 0.5. (Mann-Whitney, pooled over users.)
    """
    known = np.where(np.isnan(value), -np.inf, value)
    order = np.lexsort((known, user))
    users, values, labels = user[order], known[order], label[order].astype(float)
    place = np.arange(len(order))
    new_user = np.r_[True, users[1:] != users[:-1]][: len(order)]
    new_value = new_user | np.r_[True, values[1:] != values[:-1]][: len(order)]
    first = place[new_value]
    ties = np.diff(np.r_[first, len(order)])
    begin = np.maximum.accumulate(np.where(new_user, place, 0)) if len(order) else place
    rank = (first + (ties - 1) / 2)[np.cumsum(new_value) - 1] - begin + 1
    code = np.cumsum(new_user) - 1
    positives, negatives = np.bincount(code, labels), np.bincount(code, 1 - labels)
    above = np.bincount(code, rank * labels) - positives * (positives + 1) / 2
    pairs = float((positives * negatives).sum())
    if not pairs:
        return 0.5
    found = float(above[negatives > 0].sum()) / pairs
    return max(found, 1 - found)
