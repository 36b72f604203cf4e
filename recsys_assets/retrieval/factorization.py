"""Retrieval with user and item vectors (ALS, BPR).

Belongs here: which strengths the factorization sees and how its vectors become scores. Does not
belong here: the factorization itself (`collaborative/factors.py`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys_assets.collaborative.factors import Factors, fit_als, fit_bpr, from_table
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.retrieval.contract import Clock, EventLog, FloatArray, IntArray, Scores


@dataclass(frozen=True)
class Als:
    """ALS on log(1 + fading counts). See `collaborative.factors.fit_als` for the rest."""

    factors: int = 64
    regularization: float = 10.0
    alpha: float = 10.0
    iterations: int = 12
    half_life: float | None = 90.0
    clock: Clock = "days"
    signal: Literal["positive", "graded"] = "positive"

    def factorize(self, log: EventLog, seed: int = 0) -> Factors:
        """Vectors of the log's users (in order) and of its warm columns."""
        matrix = log.matrix(self.half_life, clock=self.clock, signal=self.signal)[: log.n_users]
        matrix.data = np.log1p(matrix.data)
        return fit_als(matrix, self.factors, self.regularization, self.alpha, self.iterations, seed)

    def fit(self, log: EventLog, seed: int = 0) -> "FittedFactors":
        """Factorize and keep the vectors."""
        return FittedFactors.of(self.factorize(log, seed))


@dataclass(frozen=True)
class Bpr:
    """BPR on any event of a user that speaks for an item, a look as much as a purchase.

    See `collaborative.factors.fit_bpr`.
    """

    factors: int = 64
    learning_rate: float = 0.05
    regularization: float = 0.01
    iterations: int = 60

    def factorize(self, log: EventLog, seed: int = 0) -> Factors:
        """Vectors of the log's users (in order) and of its warm columns."""
        matrix = log.matrix(None, "binary")[: log.n_users]
        return fit_bpr(
            matrix, self.factors, self.learning_rate, self.regularization, self.iterations, seed
        )

    def fit(self, log: EventLog, seed: int = 0) -> "FittedFactors":
        """Factorize and keep the vectors."""
        return FittedFactors.of(self.factorize(log, seed))


@dataclass(frozen=True, eq=False)
class FittedFactors:
    """User vectors (one zero row last, for users without history) and item vectors."""

    users: FloatArray
    items: FloatArray
    floor: float = -np.inf

    @classmethod
    def of(cls, factors: Factors) -> "FittedFactors":
        """From factors in the log's user and column order."""
        empty = np.zeros((1, factors.users.shape[1]), dtype=np.float32)
        return cls(np.concatenate([factors.users, empty]), np.ascontiguousarray(factors.items.T))

    @classmethod
    def stored(cls, als_factors: Snapshot, log: EventLog) -> "FittedFactors":
        """What the asset `als_factors` holds for the cutoff of the log."""
        table = als_factors.to_arrow(part=part_name(log.as_of))
        return cls.of(from_table(table, log.users, log.warm_ids))

    def queries(self, users: IntArray) -> Scores:
        """See `DotProduct.queries`: the user vectors."""
        return np.asarray(self.users[users], dtype=np.float32)

    def points(self) -> Scores:
        """See `DotProduct.points`: the item vectors."""
        return np.ascontiguousarray(self.items.T, dtype=np.float32)

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        return np.asarray(self.users[users] @ self.items, dtype=np.float32)
