"""Retrieval through the catalogue's own order: what is taken within the kinds a user takes.

Belongs here: variants of what the user has (same group), the kinds, brands and categories it shops,
with popularity inside each. Does not belong here: learned text similarity (`content.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import sparse

from recsys_assets.core.arrays import first_of_each, transposed
from recsys_assets.retrieval.contract import EventLog, IntArray, Level, Scores


@dataclass(frozen=True)
class Taxonomy:
    """score(u, i) = sum over levels l of weights[l] * affinity_l(u, l(i)) * share_l(i).

    affinity is the user's fading takings in the level's value over all its takings, to the power
    `flatten`, and share the item's fading popularity (distinct users in the last `window` days,
    first takings counting `adoption` more) over that of its level's value plus `shrink`.
    Levels: category_1, category_2, category_3, brand, group_id and kind_brand (category_3 x brand).
    """

    weights: Mapping[Level | Literal["kind_brand"], float] = field(
        default_factory=lambda: {"group_id": 1.0, "kind_brand": 1.0, "category_3": 1.0}
    )
    half_life: float = 90.0
    window: float = 28.0
    adoption: float = 1.0
    flatten: float = 0.5
    shrink: float = 5.0
    share_power: float = 1.0

    def fit(self, log: EventLog, seed: int = 0) -> "FittedTaxonomy":
        """Affinities of users, shares of items."""
        rows = np.flatnonzero(log.liked)
        key = log.user[rows].astype(np.int64) * log.n_warm + log.column[rows]
        first = np.zeros(len(rows), dtype=bool)
        first[first_of_each(key)] = True
        recent = np.flatnonzero(log.day[rows] <= self.window)
        once = recent[first_of_each(key[recent])]
        crowd = np.bincount(log.column[rows[once]], minlength=log.n_warm).astype(np.float64)
        newly = np.flatnonzero(first & (log.day[rows] <= self.window))
        crowd += self.adoption * np.bincount(log.column[rows[newly]], minlength=log.n_warm)
        history = log.matrix(self.half_life)
        affinities, shares = [], []
        for name in sorted(self.weights):
            codes = log.level_of_column[name][: log.n_warm]
            shape = (log.n_warm, int(codes.max(initial=0)) + 1)
            at = (np.arange(log.n_warm), codes)
            affinity = (history @ sparse.csr_matrix((np.ones(log.n_warm), at), shape=shape)).tocsr()
            total = np.maximum(np.asarray(affinity.sum(axis=1)).ravel(), 1e-9)
            affinity.data /= np.repeat(total, np.diff(affinity.indptr))
            affinity.data **= self.flatten
            whole = np.bincount(codes, weights=crowd, minlength=shape[1])
            share = (crowd / (whole[codes] + self.shrink)) ** self.share_power
            affinities.append(affinity)
            shares.append(sparse.csr_matrix((self.weights[name] * share, at), shape=shape))
        return FittedTaxonomy(
            sparse.hstack(affinities).tocsr().astype(np.float32),
            sparse.hstack(shares).tocsr().astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class FittedTaxonomy:
    """Affinities [users, values of all levels] and weighted shares [columns, the same values]."""

    affinities: sparse.csr_matrix
    shares: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        weights = np.ascontiguousarray(self.affinities[users].toarray().T)
        return transposed(self.shares @ weights)
