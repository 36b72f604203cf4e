"""Retrieval with a closed-form linear item model (EASE).

Belongs here: which strengths the model sees. Does not belong here: the algebra
(`collaborative/linear.py`).
"""

from dataclasses import dataclass

import numpy as np

from recsys_assets.collaborative.linear import DualEase, PrimalEase, fit_ease
from recsys_assets.retrieval.contract import EventLog, IntArray, Scores


@dataclass(frozen=True)
class Ease:
    """EASE on (fading counts) ** power, rows divided by (their norm) ** row_norm and columns by
    (their support) ** item_norm."""

    regularization: float = 100.0
    half_life: float | None = 90.0
    power: float = 0.5
    value: str = "count"
    row_norm: float = 0.0
    item_norm: float = 0.0
    max_rows: int = 12_000
    max_items: int = 10_000

    def fit(self, log: EventLog, seed: int = 0) -> "FittedLinear":
        """Solve; exact, no randomness."""
        x = log.matrix(self.half_life, self.value).astype(np.float64)
        x.data **= self.power
        if self.row_norm:
            size = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
            size = np.maximum(size, 1e-9) ** self.row_norm
            size /= np.mean(size[:-1])
            x.data /= np.repeat(size, np.diff(x.indptr))
        scale = np.ones(x.shape[1])
        if self.item_norm:
            support = np.sqrt(np.asarray(x.multiply(x).sum(axis=0)).ravel())
            scale = np.maximum(support, 1e-9) ** self.item_norm
            x.data /= scale[x.indices]
        model = fit_ease(x.tocsr(), self.regularization, self.max_rows, self.max_items)
        return FittedLinear(model, scale.astype(np.float32) if self.item_norm else None)


@dataclass(frozen=True, eq=False)
class FittedLinear:
    """A solved model."""

    model: DualEase | PrimalEase
    scale: Scores | None = None
    floor: float = -np.inf

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0 everywhere."""
        out = self.model.scores(users)
        if self.scale is not None:
            out *= self.scale
        return out
