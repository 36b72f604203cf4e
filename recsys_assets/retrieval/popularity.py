"""What everybody takes: popularity in a recent window, in the stores a user shops in, among users
with the same traits.

Belongs here: scores that do not depend on which items a user took. Does not belong here: personal
frequency (`frequency.py`), popularity within a category (`taxonomy.py`).
"""

import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from recsys_assets.core.arrays import first_of_each, transposed
from recsys_assets.retrieval.contract import EventLog, FloatArray, IntArray, Scores


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
        rows = np.flatnonzero(log.liked)
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
    share of takings in s and rate the fading number of takings of i per taking in s, shrunk towards
    the overall rate by `shrink` takings. A user without a store gets the
    overall rate.
    """

    half_life: float = 21.0
    user_half_life: float = 90.0
    shrink: float = 2000.0

    def fit(self, log: EventLog, seed: int = 0) -> "FittedGroupPopularity":
        """Fading counts per store and item, and per user and store."""
        rows = np.flatnonzero(log.liked)
        n_stores = int(log.store.max(initial=-1)) + 1
        store = log.store[rows]
        known = store >= 0
        fade = np.exp2(-log.day[rows] / self.half_life)
        faded = np.bincount(log.column[rows], weights=fade, minlength=log.n_warm)
        counts = sparse.csr_matrix(
            (fade[known], (store[known], log.column[rows][known])),
            shape=(n_stores + 1, log.n_warm),
        )
        counts.sum_duplicates()
        weight = np.exp2(-log.day[rows] / self.user_half_life)
        visits = sparse.csr_matrix(
            (weight[known], (log.user[rows][known], store[known])),
            shape=(log.n_users + 1, n_stores + 1),
        )
        visits.sum_duplicates()
        return FittedGroupPopularity.of(visits, counts, faded, self.shrink)


@dataclass(frozen=True)
class SegmentPopularity:
    """Popularity among users with the same traits: age, sex, size of the household, plan …

    score(u, i) = mean over u's traits t of rate(t, i), the fading takings of i per taking of the
    users with t, shrunk towards the overall rate by `shrink` takings. A user without a trait gets
    the overall rate.
    `traits`: the attributes of each user as JSON, by user id. `attributes` are those that count,
    all where it is empty.
    """

    traits: "pd.Series[str]" = field(repr=False)
    attributes: tuple[str, ...] = ()
    half_life: float = 7.0
    shrink: float = 2000.0

    def fit(self, log: EventLog, seed: int = 0) -> "FittedGroupPopularity":
        """Fading counts per trait and item, and which traits a user has. Raises ValueError for
        `attributes` that no user has."""
        texts = pd.Index(self.traits.unique())
        found = [json.loads(text) for text in texts]
        known = sorted({name for traits in found for name in traits})
        if strange := sorted(set(self.attributes) - set(known)):
            raise ValueError(f"no user has the attributes {strange}; known: {known}")
        held = [
            (row, f"{name}={value}")
            for row, traits in enumerate(found)
            for name, value in traits.items()
            if value not in (None, "") and name in (self.attributes or known)
        ]
        code, names = pd.factorize(np.array([trait for _, trait in held], dtype=object), sort=True)
        of_text = sparse.csr_matrix(
            (np.ones(len(held)), ([row for row, _ in held], code)),
            shape=(len(texts) + 1, len(names) + 1),
        )
        has = of_text[np.append(texts.get_indexer(self.traits.reindex(log.users)), -1)]
        taken = log.matrix(self.half_life).astype(np.float64)
        faded = np.asarray(taken.sum(axis=0)).ravel()
        return FittedGroupPopularity.of(has, (has.T @ taken).tocsr(), faded, self.shrink)


@dataclass(frozen=True, eq=False)
class FittedGroupPopularity:
    """Users' shares of groups over the groups' sizes, item-group counts, and the weight of the
    overall rate. A group is a store, or the users with a trait."""

    mixed: sparse.csr_matrix
    counts: sparse.csr_matrix
    prior: Scores
    overall: Scores
    floor: float = 0.0

    @staticmethod
    def of(
        belongs: sparse.csr_matrix,
        counts: sparse.csr_matrix,
        faded: IntArray | FloatArray,
        shrink: float,
    ) -> "FittedGroupPopularity":
        """`belongs`: [users, groups], how much a user is of a group, of any sum; `counts`: [groups,
        columns] takings; `faded`: everybody's takings of each column."""
        overall = faded / max(float(faded.sum()), 1e-12)
        total = np.asarray(counts.sum(axis=1)).ravel() + shrink
        seen = np.asarray(belongs.sum(axis=1)).ravel()
        shares = sparse.diags(1.0 / np.maximum(seen, 1e-12)) @ belongs
        mixed = shares @ sparse.diags(1.0 / total)
        prior = np.where(seen > 0, shrink * np.asarray(mixed.sum(axis=1)).ravel(), 1.0)
        return FittedGroupPopularity(
            mixed.tocsr().astype(np.float32),
            counts.T.tocsr().astype(np.float32),
            prior.astype(np.float32),
            overall.astype(np.float32),
        )

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`."""
        out = transposed(self.counts @ np.ascontiguousarray(self.mixed[users].toarray().T))
        out += self.prior[users][:, None] * self.overall
        return out
