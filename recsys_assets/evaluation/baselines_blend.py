"""Baselines every model has to beat: popularity, personal frequency, and the given blend.

Belongs here: lists made from counts alone, and the weighted blend with the search for its weights.
Does not belong here: models that learn (retrieval, collaborative, ranking), and measuring
(scoreboard).

A *count* is one taken event (in grocery data a line: one product in one basket). Ties in personal
frequency go to the item more popular in the last 7 days, then to the smaller item_id, and a list
that the user's own history cannot fill is filled with the most popular of the last 7 days. With
these rules the counts give the published numbers of the shared protocol.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.collaborative.popularity import popular_items, taken_before

RECENT_DAYS = 7.0
COMPONENTS = ("content", "collaborative", "popularity")
"""The score columns that a blend adds up."""

_FIRST_LOOK = 256


def popularity_lists(
    counts: pd.Series,
    users: Sequence[str] | pd.Index | pd.Series,
    *,
    k: int = 10,
    exclude: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The same popular items for everybody, without each user's pairs in `exclude`.

    `counts` as `popular_items` gives them, in order. Returns `user_id, item_id, rank, score`.
    """
    user_ids = pd.Index(users).unique().sort_values()
    width = min(len(counts), k if exclude is None else max(_FIRST_LOOK, k))
    while True:
        shown = np.ones((len(user_ids), width), dtype=bool)
        if exclude is not None:
            row = user_ids.get_indexer(pd.Index(exclude["user_id"]))
            column = counts.index[:width].get_indexer(pd.Index(exclude["item_id"]))
            known = (row >= 0) & (column >= 0)
            shown[row[known], column[known]] = False
        nth = np.cumsum(shown, axis=1)
        if width == len(counts) or bool((nth[:, -1] >= k).all()):
            break
        width = min(len(counts), width * 4)
    line, column = np.nonzero(shown & (nth <= k))
    return pd.DataFrame(
        {
            "user_id": user_ids.to_numpy(dtype=object)[line],
            "item_id": counts.index.to_numpy(dtype=object)[column],
            "rank": nth[line, column].astype(np.int32),
            "score": counts.to_numpy()[column].astype(np.float32),
        }
    )


def personal_frequency_lists(
    interactions: pd.DataFrame,
    users: Sequence[str] | pd.Index | pd.Series,
    *,
    as_of: datetime | pd.Timestamp,
    half_life_days: float | None = None,
    k: int = 10,
) -> pd.DataFrame:
    """What each user took most often before `as_of`; an event weighs 0.5 ** (age / half life).

    Without `half_life_days` every event weighs 1. Returns `user_id, item_id, rank, score`; items
    filled in from popularity score 0.
    """
    user_ids = pd.Index(users).unique().sort_values()
    taken = taken_before(interactions, as_of)
    recent = popular_items(interactions, as_of=as_of, days=RECENT_DAYS)
    taken = taken[taken["user_id"].isin(user_ids)]
    age = (pd.Timestamp(as_of) - taken["event_time"]).dt.total_seconds() / 86_400
    weight = np.ones(len(taken)) if half_life_days is None else 0.5 ** (age / half_life_days)
    weighted = taken[["user_id", "item_id"]].assign(score=weight)
    own = weighted.groupby(["user_id", "item_id"])[["score"]].sum().reset_index()
    filling = popularity_lists(recent, user_ids, k=k, exclude=own).assign(score=0.0)
    both = pd.concat([own, filling[["user_id", "item_id", "score"]]], ignore_index=True)
    both["recent"] = recent.reindex(both["item_id"]).fillna(0).to_numpy()
    return _ranked(both, ["score", "recent"], k)


@dataclass(frozen=True)
class BlendWeights:
    """Weights of the blend, in the order of `COMPONENTS`; the defaults are the blend as given."""

    content: float = 0.6
    collaborative: float = 0.3
    popularity: float = 0.1


def blend_lists(
    scored: pd.DataFrame, weights: BlendWeights | None = None, *, k: int = 10
) -> pd.DataFrame:
    """Lists by the weighted sum of component scores.

    `scored` is `user_id, item_id` and the columns of `COMPONENTS`, one row per pair. The components
    live on different scales (a cosine, a factor product, a count), so each is min-max scaled to
    0..1 over the user's rows first; a missing score, and a component that is the same everywhere,
    counts 0. Returns `user_id, item_id, rank, score`.
    """
    table = _ScaledComponents.build(scored)
    score = table.blend(np.array(astuple(weights or BlendWeights())))
    return table.lists(score, k)


def search_blend_weights(
    scored: pd.DataFrame, relevant: pd.DataFrame, *, k: int = 10, step: float = 0.1
) -> pd.DataFrame:
    """NDCG@k of the blend at every point of the grid of weights that sum to 1.

    To be run on the tune target only. `relevant` is `user_id, item_id`; the mean runs over its
    users, also those without a row in `scored`. Returns `content, collaborative, popularity,
    ndcg`, best first; ties go to the larger content, then collaborative weight.
    """
    n = round(1 / step)
    grid = [(i, j, n - i - j) for i in range(n, -1, -1) for j in range(n - i, -1, -1)]
    weights = np.array(grid, dtype=float) / n
    table = _ScaledComponents.build(scored)
    gain = table.gains(relevant)
    n_relevant = relevant.drop_duplicates(["user_id", "item_id"]).groupby("user_id").size()
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    own = n_relevant.reindex(table.users).fillna(0).to_numpy(dtype=int)
    factor = np.where(own > 0, 1.0 / np.maximum(ideal[np.minimum(own, k)], 1e-12), 0.0)
    ndcg = np.empty(len(weights))
    for row, weight in enumerate(weights):
        top = table.top(table.blend(weight), k)
        found = np.take_along_axis(gain, top, axis=1) * discount[: top.shape[1]]
        ndcg[row] = (found.sum(axis=1) * factor).sum() / len(n_relevant)
    result = pd.DataFrame(weights, columns=list(COMPONENTS)).assign(ndcg=ndcg)
    return best_first(result)


def best_first(search: pd.DataFrame) -> pd.DataFrame:
    """Points of the grid in the order `search_blend_weights` promises, however they are stored."""
    by = ["ndcg", "content", "collaborative"]
    return search.sort_values(by, ascending=False, kind="stable", ignore_index=True)


def tuned_weights(search: pd.DataFrame) -> BlendWeights:
    """The best weights of `search_blend_weights`."""
    best = search[list(COMPONENTS)].to_numpy(dtype=float)[0].round(6).tolist()
    return BlendWeights(*best)


@dataclass(frozen=True, eq=False)
class _ScaledComponents:
    """Component scores as a padded array [user, candidate, component] scaled to 0..1.

    A user's candidates stand in item_id order, so a stable sort breaks ties by item_id.
    """

    users: npt.NDArray[np.object_]
    item_ids: npt.NDArray[np.object_]  # [user, candidate], '' where padded
    scaled: npt.NDArray[np.float32]
    real: npt.NDArray[np.bool_]

    @classmethod
    def build(cls, scored: pd.DataFrame) -> "_ScaledComponents":
        if scored.duplicated(["user_id", "item_id"]).any():
            raise ValueError("a pair is scored more than once")
        codes, users = pd.factorize(scored["user_id"], sort=True)
        items, item_index = pd.factorize(scored["item_id"], sort=True)
        order = np.lexsort((items, codes))
        codes, items = codes[order], items[order]
        sizes = np.bincount(codes, minlength=len(users))
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        column = np.arange(len(codes)) - starts[codes]
        shape = (len(users), int(sizes.max(initial=0)))
        real = np.zeros(shape, dtype=bool)
        real[codes, column] = True
        item_ids = np.full(shape, "", dtype=object)
        item_ids[codes, column] = np.asarray(item_index, dtype=object)[items]
        scaled = np.zeros((*shape, len(COMPONENTS)), dtype=np.float32)
        for position, name in enumerate(COMPONENTS):
            raw = scored[name].to_numpy(dtype=float, na_value=np.nan)[order]
            grid = np.full(shape, np.nan)
            grid[codes, column] = np.where(np.isfinite(raw), raw, np.nan)
            known = np.isfinite(grid)
            low = np.where(known, grid, np.inf).min(axis=1, initial=np.inf)[:, None]
            high = np.where(known, grid, -np.inf).max(axis=1, initial=-np.inf)[:, None]
            spread = high > low
            span = np.where(spread, high - np.where(spread, low, 0), 1)
            scaled[..., position] = np.where(known & spread, (grid - low) / span, 0.0)
        return cls(np.asarray(users, dtype=object), item_ids, scaled, real)

    def blend(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(self.real, self.scaled @ weights.astype(np.float64), -np.inf)

    def top(self, score: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
        """Positions of the k best per user, score falling, ties in item_id order."""
        kept = min(k, score.shape[1])
        if kept == score.shape[1]:
            return np.argsort(-score, axis=1, kind="stable")
        # Everything at or above the k-th score, in order; the stable sort settles its ties.
        threshold = -np.partition(-score, kept - 1, axis=1)[:, kept - 1 : kept]
        at_least = np.where(score >= threshold, score, -np.inf)
        width = int((score >= threshold).sum(axis=1).max())
        positions = np.argsort(~(score >= threshold), axis=1, kind="stable")[:, :width]
        values = np.take_along_axis(at_least, positions, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :kept]
        return np.take_along_axis(positions, order, axis=1)

    def gains(self, relevant: pd.DataFrame) -> npt.NDArray[np.float64]:
        """1 where the candidate is relevant to its user."""
        line, column = np.nonzero(self.real)
        pairs = pd.MultiIndex.from_arrays([self.users[line], self.item_ids[line, column]])
        wanted = pd.MultiIndex.from_frame(relevant[["user_id", "item_id"]])
        gain = np.zeros(self.real.shape)
        gain[line, column] = pairs.isin(wanted)
        return gain

    def lists(self, score: npt.NDArray[np.float64], k: int) -> pd.DataFrame:
        top = self.top(score, k)
        real = np.take_along_axis(self.real, top, axis=1)
        line, position = np.nonzero(real)
        column = top[line, position]
        return pd.DataFrame(
            {
                "user_id": self.users[line],
                "item_id": self.item_ids[line, column],
                "rank": (position + 1).astype(np.int32),
                "score": score[line, column].astype(np.float32),
            }
        )


def _ranked(scored: pd.DataFrame, by: Sequence[str], k: int) -> pd.DataFrame:
    """First k per user by the columns `by`, falling, then by item_id."""
    order = scored.sort_values(
        ["user_id", *by, "item_id"], ascending=[True, *(False for _ in by), True], kind="stable"
    )
    rank = order.groupby("user_id").cumcount() + 1
    top = order.assign(rank=rank.astype(np.int32))[rank <= k]
    columns = ["user_id", "item_id", "rank", "score"]
    return top[columns].astype({"score": np.float32}).reset_index(drop=True)
