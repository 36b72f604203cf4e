"""Retrieval with a closed-form linear item model (EASE).

Belongs here: which strengths the model sees. Does not belong here: the algebra
(`collaborative/linear.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import sparse

from recsys_assets.collaborative.linear import DualEase, PrimalEase, fit_ease
from recsys_assets.retrieval.contract import (
    Clock,
    EventLog,
    IntArray,
    Level,
    Scores,
    Signal,
    Value,
    level_counts,
    recent_share,
)


@dataclass(frozen=True)
class Ease:
    """EASE on (fading counts) ** power; `value`, `clock` and `signal` as in `EventLog.matrix`.

    Rows are divided by length ** row_norm over the mean of that, columns by length ** item_norm.
    `side` adds what the user's takings say at other levels as columns that explain but are not
    explained: level name (or "store") -> strength; each is (fading counts) ** side_power, scaled so
    that its mean squared length is `strength` times that of the item part; above `max_rows` users,
    or with more users than items, it does not count (`fit_ease`). The final score of an item is
    multiplied by ((users of the last 14 days + 3) / (a 14-day share of the last 90 days + 3)) **
    `trend`, which follows availability and season, and `popularity` times its share of users in the
    last 7 days is added.
    """

    regularization: float = 100.0
    half_life: float | None = 90.0
    power: float = 0.5
    value: Value = "count"
    clock: Clock = "days"
    signal: Signal = "positive"
    row_norm: float = 0.0
    item_norm: float = 0.0
    side: Mapping[Level | Literal["store"], float] = field(default_factory=dict)
    side_power: float = 0.5
    trend: float = 0.0
    popularity: float = 0.0
    max_rows: int = 8_000
    max_items: int = 8_000

    def fit(self, log: EventLog, seed: int = 0) -> "FittedLinear":
        """Solve; exact, no randomness."""
        x = log.matrix(self.half_life, self.value, clock=self.clock, signal=self.signal)
        x = x.astype(np.float64)
        x.data = np.sign(x.data) * np.abs(x.data) ** self.power
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
        model = fit_ease(
            x.tocsr(), self.regularization, self._side(log, x), self.max_rows, self.max_items
        )
        if self.trend:
            usual = recent_share(log, 90.0) * log.n_users * (14.0 / 90.0)
            scale *= ((recent_share(log, 14.0) * log.n_users + 3.0) / (usual + 3.0)) ** self.trend
        offset = self.popularity * recent_share(log, 7.0)
        return FittedLinear(
            model,
            scale.astype(np.float32) if self.item_norm or self.trend else None,
            offset.astype(np.float32) if self.popularity else None,
        )

    def _side(self, log: EventLog, x: sparse.csr_matrix) -> sparse.csr_matrix | None:
        size = x.multiply(x).sum() / max(log.n_users, 1)
        parts = []
        for name in sorted(self.side):
            part = level_counts(log, name, self.half_life).astype(np.float64)
            part.data **= self.side_power
            own = part.multiply(part).sum() / max(log.n_users, 1)
            part.data *= np.sqrt(self.side[name] * size / max(own, 1e-12))
            parts.append(part)
        return sparse.hstack(parts).tocsr() if parts else None


@dataclass(frozen=True, eq=False)
class FittedLinear:
    """A solved model."""

    model: DualEase | PrimalEase
    scale: Scores | None = None
    offset: Scores | None = None
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`. A user without history scores 0, or by popularity alone."""
        out = self.model.scores(users)
        if self.scale is not None:
            out *= self.scale
        if self.offset is not None:
            out += self.offset
        return out
