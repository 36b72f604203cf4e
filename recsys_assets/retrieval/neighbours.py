"""Retrieval through neighbours: similar users, the next basket, and items that go with items.

Belongs here: which strengths neighbours are found on and how neighbours become scores. Does not
belong here: finding neighbours (`collaborative/neighbours.py`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys_assets.collaborative.neighbours import (
    ItemNeighbours,
    bm25_weighted,
    idf_weighted,
    item_neighbours,
    nearest_rows,
    normalized,
    transitions,
)
from recsys_assets.retrieval.contract import EventLog, FloatArray, IntArray, Scores


@dataclass(frozen=True)
class UserNeighbours:
    """What the `k` most similar users take: sum of similarity ** power over neighbours' profiles.

    Similarity: cosine of idf-weighted (fading counts) ** `flatten`. A neighbour's profile is its
    fading counts (`profile_half_life`) ** flatten, divided by its total ** `normalize`. The user's
    own history does not count. At most `max_reference` most recently active users can be
    neighbours.
    """

    k: int = 200
    half_life: float | None = 120.0
    profile_half_life: float = 45.0
    flatten: float = 0.5
    idf: float = 1.0
    power: float = 1.0
    normalize: float = 0.5
    max_reference: int = 20_000

    def fit(self, log: EventLog, seed: int = 0) -> "FittedUserNeighbours":
        """Find neighbours; exact."""
        x = _flat(log.matrix(self.half_life), self.flatten)
        nearest = nearest_rows(
            idf_weighted(x, self.idf), self.k, "cosine", recent_users(log, self.max_reference)
        )
        nearest.data **= self.power
        profile = _flat(log.matrix(self.profile_half_life), self.flatten)
        total = np.maximum(np.asarray(profile.sum(axis=1)).ravel(), 1e-9) ** self.normalize
        profile.data /= np.repeat(total, np.diff(profile.indptr))
        return FittedUserNeighbours(nearest.astype(np.float32), profile.astype(np.float32))


@dataclass(frozen=True)
class NextBasket:
    """TIFU-KNN (Hu et al. 2020): `alpha` of the user's own fading basket frequencies and
    1 - alpha of the mean of the `k` nearest users' frequencies.

    Frequencies are fading baskets with the item over all fading baskets (`half_life` in days from
    the cutoff instead of the paper's groups of baskets). Neighbours by Euclidean distance.
    """

    k: int = 300
    alpha: float = 0.7
    half_life: float = 60.0
    max_reference: int = 20_000

    def fit(self, log: EventLog, seed: int = 0) -> "FittedUserNeighbours":
        """Find neighbours; exact."""
        x = log.matrix(self.half_life, "baskets").astype(np.float64)
        baskets = _basket_totals(log, self.half_life)
        x.data /= np.repeat(np.maximum(baskets, 1e-9), np.diff(x.indptr))
        nearest = nearest_rows(x, self.k, "euclidean", recent_users(log, self.max_reference))
        nearest.data[:] = (1.0 - self.alpha) / np.repeat(
            np.maximum(np.diff(nearest.indptr), 1), np.diff(nearest.indptr)
        )
        own = np.full(x.shape[0], self.alpha)
        own[-1] = 0.0
        mixed = (nearest + sparse.diags(own)).tocsr()
        return FittedUserNeighbours(mixed.astype(np.float32), x.astype(np.float32))


@dataclass(frozen=True, eq=False)
class FittedUserNeighbours:
    """Scores are (weights of users) x (profiles of users)."""

    weights: sparse.csr_matrix
    profiles: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        return np.asarray((self.weights[users] @ self.profiles).toarray(), dtype=np.float32)


@dataclass(frozen=True)
class SimilarItems:
    """Items similar to what the user took (cosine of BM25- or idf-weighted columns)."""

    k: int = 100
    half_life: float = 60.0
    flatten: float = 0.5
    weighting: str = "bm25"
    min_support: int = 3
    shrink: float = 10.0
    max_items: int = 20_000

    def neighbours(self, log: EventLog) -> ItemNeighbours:
        """Item neighbours over the warm columns: the asset `neighbours`."""
        x = log.matrix(None)
        if self.weighting == "bm25":
            x = bm25_weighted(x)
        elif self.weighting == "idf":
            x = idf_weighted(_flat(x, self.flatten))
        else:
            raise ValueError(f"unknown weighting {self.weighting!r}: bm25 or idf")
        return item_neighbours(x, self.k, self.min_support, self.max_items, self.shrink)

    def fit(self, log: EventLog, seed: int = 0) -> "FittedItemLinks":
        """Find neighbours; exact."""
        return self.using(log, self.neighbours(log))

    def using(self, log: EventLog, found: ItemNeighbours) -> "FittedItemLinks":
        """The retriever on neighbours found earlier (aligned to the warm columns)."""
        return FittedItemLinks(_flat(log.matrix(self.half_life), self.flatten), found.links)


@dataclass(frozen=True)
class NextItem:
    """What tends to follow: directed item transitions from the user's latest baskets.

    `lags[d]` weighs a distance of d baskets (0 = the same basket); an event without a session is a
    basket of its own. A user's items count 0.5 ** (baskets ago / `recency`).
    """

    lags: tuple[float, ...] = (1.0, 1.0)
    recency: float = 8.0
    k: int = 100
    min_support: float = 3.0
    source_power: float = 0.5
    target_power: float = 0.3
    shrink: float = 5.0
    fade: float = 180.0

    def fit(self, log: EventLog, seed: int = 0) -> "FittedItemLinks":
        """Count transitions; exact."""
        rows = np.flatnonzero(log.positive)
        step = np.where(log.session >= 0, log.session, log.session.max(initial=-1) + 1)
        loose = log.session < 0
        first = np.flatnonzero(np.r_[True, log.day[1:] != log.day[:-1]])
        moment = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(log.day)]))
        # sessions keep the order of their first event; a loose event is a step of its own
        start = np.full(int(step.max(initial=0)) + 1, len(log.day), dtype=np.int64)
        np.minimum.at(start, step, np.arange(len(step)))
        place = np.where(loose, np.arange(len(step)), start[step])
        del moment
        user, place, column = log.user[rows], place[rows], log.column[rows]
        weight = np.exp2(-log.day[rows] / self.fade) * np.minimum(log.weight[rows], 1.0)
        found = transitions(
            user,
            place,
            column,
            weight,
            log.n_warm,
            tuple(self.lags),
            self.k,
            self.min_support,
            self.source_power,
            self.target_power,
            self.shrink,
        )
        order = np.lexsort((-place, user))
        u, p = user[order], place[order]
        change = np.r_[True, (u[1:] != u[:-1]) | (p[1:] != p[:-1])]
        number = np.cumsum(change) - 1
        begin = np.r_[True, u[1:] != u[:-1]]
        ago = number - np.repeat(number[begin], np.diff(np.r_[np.flatnonzero(begin), len(u)]))
        recent = sparse.csr_matrix(
            (np.exp2(-ago / self.recency), (u, column[order])),
            shape=(log.n_users + 1, log.n_warm),
        )
        recent.sum_duplicates()
        recent.data[recent.data < 1e-3] = 0.0
        recent.eliminate_zeros()
        return FittedItemLinks(recent.astype(np.float32), found.links)


@dataclass(frozen=True, eq=False)
class FittedItemLinks:
    """Scores are (profile of the user) x (links of items)."""

    profiles: sparse.csr_matrix
    links: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        return np.asarray((self.profiles[users] @ self.links).toarray(), dtype=np.float32)


def recent_users(log: EventLog, limit: int) -> IntArray:
    """The `limit` most recently active user codes, ascending; ties go to the smaller code."""
    last = np.full(log.n_users, np.inf)
    np.minimum.at(last, log.user, log.day)
    return np.sort(np.lexsort((np.arange(log.n_users), last))[:limit])


def _flat(matrix: sparse.csr_matrix, power: float) -> sparse.csr_matrix:
    out = matrix.copy()
    out.data = (out.data**power).astype(np.float32)
    return out


def _basket_totals(log: EventLog, half_life: float) -> FloatArray:
    """Fading number of baskets per user (one empty last entry)."""
    rows = np.flatnonzero(log.positive)
    loose = log.session[rows] < 0
    key = np.where(loose, np.arange(len(rows)) + log.session.max(initial=0) + 1, log.session[rows])
    key = log.user[rows].astype(np.int64) * (int(key.max(initial=0)) + 1) + key
    chosen = rows[np.unique(key, return_index=True)[1]]
    return np.bincount(
        log.user[chosen], weights=np.exp2(-log.day[chosen] / half_life), minlength=log.n_users + 1
    )


__all__ = [
    "FittedItemLinks",
    "FittedUserNeighbours",
    "NextBasket",
    "NextItem",
    "SimilarItems",
    "UserNeighbours",
    "normalized",
    "recent_users",
]
