"""Retrieval of items without history: by what became of others like them, and by who is asked.

Belongs here: expected takers of a cold item, a user's leaning towards its kind, brand and product.
Does not belong here: what texts resemble each other (`content.py`), items with history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys_assets.core.arrays import distinct, transposed
from recsys_assets.retrieval.contract import EventLog, IntArray, Level, Scores

HALF_LIFE = 90.0
DOUBT = 0.02
_FLOOR = 1e-6
"""Share of a user's takings that is as good as none."""

_RATE_LEVELS = ("category_1", "category_2", "category_3", "kind_brand", "group_id")


@dataclass(frozen=True, eq=False)
class Facet:
    """One way in which a user may lean towards an item: through the values they share.

    `taken` [catalogue, values]: the values an item in a user's history stands for; `offered`: those
    a cold item is looked at by. Rows add up to 1 (or are empty: says nothing). `weight` is that of
    the log of the user's share of a value over everybody's; `cap`, if given, bounds that log on
    both sides, so that the facet moves a score by `weight * cap` at most.
    """

    taken: sparse.csr_matrix
    offered: sparse.csr_matrix
    weight: float
    cap: float | None = None


@dataclass(frozen=True)
class Newcomers:
    """score(u, i) = log r(i) + sum over facets f of w_f * log lift_f(u, i), for cold items i.

    r is how many users took an item like i that was new in the last `window` days, over items that
    were cold: of its product (`group_id`: twins in another size or flavour), else of its kind and
    brand, its kind, its category, each level leaning on the one above it with `prior` items' worth
    of doubt. lift is the user's share of takings (fading by `half_life`) with a value over
    everybody's, smoothed by `doubt` times the latter. The facets are `levels` of the
    catalogue, each of `weight`. Weights were chosen on the tune target of the default data.
    """

    weight: float = 0.4
    levels: tuple[Level | Literal["kind_brand"], ...] = (
        "group_id",
        "kind_brand",
        "category_3",
        "category_2",
        "brand",
    )
    half_life: float = HALF_LIFE
    window: float = 28.0
    prior: float = 10.0
    doubt: float = DOUBT

    def fit(self, log: EventLog, seed: int = 0) -> "FittedNewcomers":
        """Rates of items, leanings of users."""
        levels = [Facet(m, m, self.weight) for m in (_values(log, n) for n in self.levels)]
        fitted = [fit_facet(log, f, self.half_life, self.doubt) for f in levels]
        expected = np.log(self._rate(log)[log.columns[log.n_warm :]])
        return FittedNewcomers(FittedFacet.joined(fitted), expected.astype(np.float32), log.n_warm)

    def _rate(self, log: EventLog) -> npt.NDArray[np.float64]:
        """Expected takers of each catalogue item if it were new."""
        n = len(log.items)
        rows = np.flatnonzero(log.liked)
        first = np.zeros(n)
        np.maximum.at(first, log.item, log.day)
        newly = (first > 0) & (first <= self.window)
        pairs = distinct(log.user[rows].astype(np.int64) * n + log.item[rows])
        takers = np.bincount(pairs % n, minlength=n) * newly
        waited = (first == 0) | newly
        rate = np.full(n, (takers.sum() + 1.0) / (waited.sum() + 1.0))
        for name in _RATE_LEVELS:
            code = log.levels[name]
            found = np.bincount(code, weights=takers)
            out_of = np.bincount(code, weights=waited)
            rate = (found[code] + self.prior * rate) / (out_of[code] + self.prior)
        return rate


@dataclass(frozen=True, eq=False)
class FittedFacet:
    """Leanings [users, values], values offered by each cold column, its score without a leaning."""

    leanings: sparse.csr_matrix
    offered: sparse.csr_matrix
    nothing: Scores

    @classmethod
    def joined(cls, facets: Sequence["FittedFacet"]) -> "FittedFacet":
        """One whose scores are the sums of the others'."""
        return cls(
            sparse.hstack([f.leanings for f in facets]).tocsr(),
            sparse.hstack([f.offered for f in facets]).tocsr(),
            np.sum([f.nothing for f in facets], axis=0, dtype=np.float32),
        )

    def of(self, cold: IntArray) -> "FittedFacet":
        """For some of the cold columns, counted from the first of them."""
        return FittedFacet(self.leanings, self.offered[cold], self.nothing[cold])

    def scores(self, users: IntArray) -> Scores:
        """Of the cold columns."""
        weights = np.ascontiguousarray(self.leanings[users].toarray().T)
        return transposed(self.offered @ weights) + self.nothing


def fit_facet(
    log: EventLog, facet: Facet, half_life: float = HALF_LIFE, doubt: float = DOUBT
) -> FittedFacet:
    """What a facet says of the cold columns; see `Newcomers` for `half_life` and `doubt`."""
    history = log.matrix(half_life)
    share = (history @ facet.taken[log.columns[: log.n_warm]]).tocsr().astype(np.float64)
    total = np.maximum(np.asarray(share.sum(axis=1)).ravel(), 1e-9)
    share.data /= np.repeat(total, np.diff(share.indptr))
    crowd = np.asarray(share.sum(axis=0)).ravel() / max(log.n_users, 1)
    least = doubt * crowd + _FLOOR
    nothing = np.log(least / (crowd + least))
    gain = np.log1p(share.data / least[share.indices])
    if facet.cap is not None:
        kept = np.maximum(nothing, -facet.cap)
        lift = np.clip(nothing[share.indices] + gain, -facet.cap, facet.cap)
        nothing, gain = kept, lift - kept[share.indices]
    share.data = facet.weight * gain
    offered = facet.offered[log.columns[log.n_warm :]]
    return FittedFacet(
        share.astype(np.float32),
        offered.astype(np.float32),
        (facet.weight * (offered @ nothing)).astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class FittedNewcomers:
    """All facets together, and the log of the expected takers of each cold column."""

    facets: FittedFacet
    expected: Scores
    n_warm: int
    floor: float = -np.inf

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`; all columns. Items with history are none of its business: 0."""
        out = np.zeros((len(users), self.n_warm + len(self.expected)), dtype=np.float32)
        out[:, self.n_warm :] = self.facets.scores(users) + self.expected
        return out


def _values(log: EventLog, name: str) -> sparse.csr_matrix:
    """Catalogue x values of a level, one 1 per row."""
    code = log.levels[name]
    n = len(code)
    return sparse.csr_matrix((np.ones(n), (np.arange(n), code)))
