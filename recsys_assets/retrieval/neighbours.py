"""Retrieval through neighbours: similar users, the next basket, and items that go with items.

Belongs here: which strengths neighbours are found on and how neighbours become scores. Does not
belong here: finding neighbours (`collaborative/neighbours.py`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from recsys_assets.collaborative.neighbours import (
    ItemNeighbours,
    NearestRows,
    bm25_weighted,
    idf_weighted,
    item_neighbours,
    transitions,
)
from recsys_assets.core.arrays import first_of_each
from recsys_assets.core.matrix_product import dense_product
from recsys_assets.retrieval.contract import EventLog, FloatArray, IntArray, Scores, Signal


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
        """Weigh; exact."""
        x = _flat(log.matrix(self.half_life), self.flatten)
        nearest = NearestRows.among(
            idf_weighted(x, self.idf), self.k, "cosine", recent_users(log, self.max_reference)
        )
        profile = _flat(log.matrix(self.profile_half_life), self.flatten)
        total = np.maximum(np.asarray(profile.sum(axis=1)).ravel(), 1e-9) ** self.normalize
        profile.data /= np.repeat(total, np.diff(profile.indptr))
        return FittedUserNeighbours(nearest, self.power, profile.astype(np.float32))


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

    def fit(self, log: EventLog, seed: int = 0) -> "FittedNextBasket":
        """Count; exact."""
        x = log.matrix(self.half_life, "baskets").astype(np.float64)
        baskets = _basket_totals(log, self.half_life)
        x.data /= np.repeat(np.maximum(baskets, 1e-9), np.diff(x.indptr))
        nearest = NearestRows.among(x, self.k, "euclidean", recent_users(log, self.max_reference))
        return FittedNextBasket(nearest, self.alpha, x.astype(np.float32))


@dataclass(frozen=True, eq=False)
class FittedUserNeighbours:
    """Scores are (similarity of users ** power) x (their profiles [users, items])."""

    nearest: NearestRows
    power: float
    profiles: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        weights = self.nearest.of(asked_rows(users, self.profiles))
        weights.data **= self.power
        return dense_product(weights.astype(np.float32), self.profiles)


@dataclass(frozen=True, eq=False)
class FittedNextBasket:
    """Scores are `alpha` of the user's own frequencies [users, items] and the rest of the mean of
    their neighbours'."""

    nearest: NearestRows
    alpha: float
    frequencies: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        asked = asked_rows(users, self.frequencies)
        others = self.nearest.of(asked)
        count = np.diff(others.indptr)
        others.data[:] = (1.0 - self.alpha) / np.repeat(np.maximum(count, 1), count)
        known = np.flatnonzero(users >= 0)
        own = sparse.csr_matrix(
            (np.full(len(known), self.alpha), (known, asked[known])), shape=others.shape
        )
        return dense_product((others + own).tocsr().astype(np.float32), self.frequencies)


@dataclass(frozen=True)
class SimilarItems:
    """Items similar to what the user took (cosine of BM25- or idf-weighted columns)."""

    k: int = 100
    half_life: float = 60.0
    flatten: float = 0.5
    weighting: Literal["bm25", "idf"] = "bm25"
    min_support: int = 3
    shrink: float = 10.0
    max_items: int = 10_000

    def neighbours(self, log: EventLog) -> ItemNeighbours:
        """Item neighbours over the warm columns: the asset `item_neighbours`."""
        x = log.matrix(None)
        bm25 = self.weighting == "bm25"
        x = bm25_weighted(x) if bm25 else idf_weighted(_flat(x, self.flatten))
        return item_neighbours(x, self.k, self.min_support, self.max_items, self.shrink)

    def fit(self, log: EventLog, seed: int = 0) -> "FittedItemLinks":
        """Find neighbours; exact."""
        return self.using(log, self.neighbours(log).links)

    def using(self, log: EventLog, links: sparse.csr_matrix) -> "FittedItemLinks":
        """The retriever on links found earlier (aligned to the warm columns)."""
        return FittedItemLinks(_flat(log.matrix(self.half_life), self.flatten), links)


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
    signal: Signal = "positive"
    grade_power: float = 1.0
    steps: Literal["baskets", "events"] = "baskets"

    def fit(self, log: EventLog, seed: int = 0) -> "FittedItemLinks":
        """Count transitions; exact."""
        single = self.steps == "events"
        rows = np.flatnonzero(log.of_signal(self.signal))
        user, column = log.user[rows], log.column[rows]
        step = rows if single else log.step[rows]
        ago = (log.events_ago if single else log.steps_ago)[rows]
        grade = (log.weight[rows] / log.weight[rows].max(initial=0.0)).astype(
            np.float64
        ) ** self.grade_power
        links = transitions(
            user,
            step,
            column,
            grade * np.exp2(-log.day[rows] / self.fade),
            log.n_warm,
            lags=tuple(self.lags),
            k=self.k,
            min_support=self.min_support,
            source_power=self.source_power,
            target_power=self.target_power,
            shrink=self.shrink,
        )
        recent = sparse.csr_matrix(
            (grade * np.exp2(-ago / self.recency), (user, column)),
            shape=(log.n_users + 1, log.n_warm),
        )
        recent.sum_duplicates()
        recent.data[recent.data < 1e-3] = 0.0
        recent.eliminate_zeros()
        return FittedItemLinks(recent.astype(np.float32), links)


@dataclass(frozen=True, eq=False)
class FittedItemLinks:
    """Scores are (profile of the user) x (links of items)."""

    profiles: sparse.csr_matrix
    links: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        return dense_product(self.profiles[users], self.links).astype(np.float32, copy=False)


def asked_rows(users: IntArray, matrix: sparse.csr_matrix) -> IntArray:
    """The rows of users, where -1 is the last one."""
    return np.where(users < 0, matrix.shape[0] - 1, users)


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
