"""What a user takes again and again: personal frequency, fading with time and aware of the rhythm.

Belongs here: scores from the user's own history of the very item. Does not belong here: anything
that borrows from other users' lists (`neighbours.py`) or from similar items.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys_assets.retrieval.contract import EventLog, IntArray, Scores, Value, recent_share


@dataclass(frozen=True)
class PersonalFrequency:
    """How often the user took the item, fading; popularity breaks ties.

    score = sum of 0.5 ** (age / half_life) over the user's events with the item (see `value`)
            + `popularity` * (item's share of users in the last 28 days).
    """

    half_life: float = 90.0
    value: Value = "count"
    popularity: float = 0.01

    def fit(self, log: EventLog, seed: int = 0) -> "FittedHistory":
        """Sum fading events per user and item."""
        history = log.matrix(self.half_life, self.value)
        return FittedHistory(_add_item_scores(history, self.popularity * recent_share(log)))


@dataclass(frozen=True)
class RepeatInterval:
    """Expected number of takings in the next `horizon` days from the user's own rhythm.

    For a user-item pair taken on n different days (counted back from the cutoff, a first moment
    belongs to its day), first `span + age` and last `age` days ago, the rate is a Gamma-Poisson
    estimate (n - 1 + a) / (span + age_excess + b), where `age_excess` is the age beyond the item's
    usual gap (pooled over all users, shrunk to its category and the whole shop): a gap much longer
    than usual speaks for having stopped, and the score fades with 0.5 ** (age_excess / fade).
    Units: days.
    """

    horizon: float = 28.0
    prior_events: float = 0.3
    prior_days: float = 60.0
    fade: float = 45.0
    shrink: float = 10.0
    popularity: float = 0.01

    def fit(self, log: EventLog, seed: int = 0) -> "FittedHistory":
        """First day, last day and number of days per pair, then the rate."""
        rows = np.flatnonzero(log.liked)
        width = log.n_warm
        if not len(rows):
            return FittedHistory(sparse.csr_matrix((log.n_users + 1, width), dtype=np.float32))
        pair = log.user[rows].astype(np.int64) * width + log.column[rows]
        order = np.lexsort((log.day[rows], pair))
        pair, day = pair[order], log.day[rows][order]
        new_pair = np.r_[True, pair[1:] != pair[:-1]]
        new_day = new_pair | (np.ceil(day) != np.ceil(np.r_[0.0, day[:-1]]))
        start = np.flatnonzero(new_pair)
        count = np.add.reduceat(new_day.astype(np.float64), start)
        last = day[start]
        first = day[np.r_[start[1:], len(day)] - 1]
        user, column = np.divmod(pair[start], width)
        span = first - last
        gaps = np.bincount(column, weights=count - 1, minlength=width)
        days = np.bincount(column, weights=span, minlength=width)
        kind = log.level_of_column["category_3"][:width]
        kind_gaps = np.bincount(kind, weights=gaps)[kind]
        kind_days = np.bincount(kind, weights=days)[kind]
        shop = days.sum() / max(gaps.sum(), 1.0)
        kind_gap = (kind_days + self.shrink * shop) / (kind_gaps + self.shrink)
        usual = (days + self.shrink * kind_gap) / (gaps + self.shrink)
        own = (span + 2.0 * usual[column]) / (count - 1 + 2.0)
        excess = np.maximum(last - own, 0.0)
        rate = (count - 1 + self.prior_events) / (span + excess + self.prior_days)
        score = rate * self.horizon * np.exp2(-excess / self.fade)
        history = sparse.csr_matrix(
            (score.astype(np.float32), (user, column)), shape=(log.n_users + 1, width)
        )
        return FittedHistory(_add_item_scores(history, self.popularity * recent_share(log)))


def _add_item_scores(history: sparse.csr_matrix, item_scores: Scores) -> sparse.csr_matrix:
    out = history.copy()
    out.data = (out.data + item_scores[out.indices]).astype(np.float32)
    return out


@dataclass(frozen=True, eq=False)
class FittedHistory:
    """One score per user and item of the user's own history; nothing about other items."""

    history: sparse.csr_matrix
    floor: float = 0.0

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`."""
        return self.history[users].toarray().astype(np.float32, copy=False)
