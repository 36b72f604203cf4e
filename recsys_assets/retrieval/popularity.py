"""What everybody takes: popularity in a recent window, and in the stores a user shops in.

Belongs here: scores that do not depend on which items a user took. Does not belong here: personal
frequency (`frequency.py`), popularity within a category (`taxonomy.py`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys_assets.core.arrays import first_of_each
from recsys_assets.retrieval.contract import EventLog, IntArray, Scores, transposed


@dataclass(frozen=True)
class Popularity:
    """Number of distinct users who took the item in the last `window` days.

    `first_only` counts only users who took it for the first time then: what people newly adopt.
    `prior` adds that share of the all-time count so that ties in a quiet week are still ordered.
    """

    window: float = 7.0
    first_only: bool = False
    prior: float = 0.001

    def fit(self, log: EventLog, seed: int = 0) -> "FittedPopularity":
        """Count distinct users per item."""
        rows = np.flatnonzero(log.positive)
        key = log.user[rows].astype(np.int64) * len(log.items) + log.column[rows]
        if self.first_only:
            chosen = first_of_each(key)
            chosen = chosen[log.day[rows[chosen]] <= self.window]
        else:
            recent = np.flatnonzero(log.day[rows] <= self.window)
            chosen = recent[first_of_each(key[recent])]
        counts = np.bincount(log.column[rows[chosen]], minlength=log.n_warm).astype(np.float64)
        ever = np.bincount(log.column[rows], minlength=log.n_warm)
        return FittedPopularity((counts + self.prior * ever).astype(np.float32))


@dataclass(frozen=True, eq=False)
class FittedPopularity:
    """One score per item, the same for everybody."""

    item_scores: Scores
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`."""
        return np.tile(self.item_scores, (len(users), 1))


@dataclass(frozen=True)
class StorePopularity:
    """Popularity in the stores (or markets, channels) a user visits, weighted by visits.

    score(u, i) = sum over stores s of share(u, s) * rate(s, i), where share is the user's fading
    share of events in s and rate the fading number of distinct (user, day) takings of i per event
    of s, shrunk towards the overall rate by `shrink` events. A user without a store gets the
    overall rate.
    """

    half_life: float = 21.0
    user_half_life: float = 90.0
    shrink: float = 2000.0

    def fit(self, log: EventLog, seed: int = 0) -> "FittedStorePopularity":
        """Fading counts per store and item, and per user and store."""
        rows = np.flatnonzero(log.positive)
        n_stores = int(log.store.max(initial=-1)) + 1
        store = log.store[rows]
        known = store >= 0
        fade = np.exp2(-log.day[rows] / self.half_life)
        faded = np.bincount(log.column[rows], weights=fade, minlength=log.n_warm)
        overall = faded / max(float(faded.sum()), 1e-12)
        counts = sparse.csr_matrix(
            (fade[known], (store[known], log.column[rows][known])),
            shape=(n_stores + 1, log.n_warm),
        )
        counts.sum_duplicates()
        total = np.asarray(counts.sum(axis=1)).ravel() + self.shrink
        weight = np.exp2(-log.day[rows] / self.user_half_life)
        visits = sparse.csr_matrix(
            (weight[known], (log.user[rows][known], store[known])),
            shape=(log.n_users + 1, n_stores + 1),
        )
        visits.sum_duplicates()
        seen = np.asarray(visits.sum(axis=1)).ravel()
        visits = sparse.diags(1.0 / np.maximum(seen, 1e-12)) @ visits
        mixed = visits @ sparse.diags(1.0 / total)
        prior = np.where(seen > 0, self.shrink * np.asarray(mixed.sum(axis=1)).ravel(), 1.0)
        return FittedStorePopularity(
            mixed.tocsr().astype(np.float32),
            counts.T.tocsr().astype(np.float32),
            prior.astype(np.float32),
            overall.astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class FittedStorePopularity:
    """User-store shares over store sizes, item-store counts, and the weight of the overall rate."""

    mixed: sparse.csr_matrix
    counts: sparse.csr_matrix
    prior: Scores
    overall: Scores
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`."""
        out = transposed(self.counts @ np.ascontiguousarray(self.mixed[users].toarray().T))
        out += self.prior[users][:, None] * self.overall
        return out
