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
    transitions,
)
from recsys_assets.core.arrays import first_of_each
from recsys_assets.retrieval.contract import EventLog, FloatArray, IntArray, Scores, transposed


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
        return FittedUserNeighbours.of(nearest, profile)


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
        return FittedUserNeighbours.of(mixed, x)


@dataclass(frozen=True, eq=False)
class FittedUserNeighbours:
    """Scores are (weights of users) x (profiles of users, stored by item)."""

    weights: sparse.csr_matrix
    profiles: sparse.csr_matrix
    floor: float = 0.0

    @classmethod
    def of(cls, weights: sparse.csr_matrix, profiles: sparse.csr_matrix) -> "FittedUserNeighbours":
        """From weights [users, users] and profiles [users, items]."""
        return cls(weights.astype(np.float32), profiles.T.tocsr().astype(np.float32))

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        weights = np.ascontiguousarray(self.weights[users].toarray().T)
        return transposed(self.profiles @ weights)


@dataclass(frozen=True)
class SimilarItems:
    """Items similar to what the user took (cosine of BM25- or idf-weighted columns)."""

    k: int = 100
    half_life: float = 60.0
    flatten: float = 0.5
    weighting: str = "bm25"
    min_support: int = 3
    shrink: float = 10.0
    max_items: int = 10_000

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
    """What tends to follow: directed item transitions from the user's latest steps.

    A step is a basket (an event without a session is one of its own), or with `steps: events` every
    single event. `lags[d]` weighs a distance of d steps (0 = the same step). A user's items count
    0.5 ** (steps ago / `recency`). Event weights count
    relative to the largest, to the power `grade_power`; `signal` as in `EventLog.matrix`.
    """

    lags: tuple[float, ...] = (1.0, 1.0)
    recency: float = 8.0
    k: int = 100
    min_support: float = 3.0
    source_power: float = 0.5
    target_power: float = 0.3
    shrink: float = 5.0
    fade: float = 180.0
    signal: str = "positive"
    grade_power: float = 1.0
    steps: str = "baskets"

    def fit(self, log: EventLog, seed: int = 0) -> "FittedItemLinks":
        """Count transitions; exact."""
        if self.steps not in ("baskets", "events"):
            raise ValueError(f"unknown steps {self.steps!r}: baskets or events")
        single = self.steps == "events"
        rows = np.flatnonzero(log.of_signal(self.signal))
        user, column = log.user[rows], log.column[rows]
        step = rows if single else log.step[rows]
        ago = (log.events_ago if single else log.steps_ago)[rows]
        grade = (log.weight[rows] / log.weight[rows].max()).astype(np.float64) ** self.grade_power
        found = transitions(
            user,
            step,
            column,
            grade * np.exp2(-log.day[rows] / self.fade),
            log.n_warm,
            tuple(self.lags),
            self.k,
            self.min_support,
            self.source_power,
            self.target_power,
            self.shrink,
        )
        recent = sparse.csr_matrix(
            (grade * np.exp2(-ago / self.recency), (user, column)),
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
    chosen = rows[first_of_each(key)]
    fade = np.exp2(-log.day[chosen] / half_life)
    totals = np.bincount(log.user[chosen], weights=fade, minlength=log.n_users + 1)
    return totals.astype(np.float64)
