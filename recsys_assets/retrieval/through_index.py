"""Candidates through a vector index: the best items are asked for instead of scored one by one.

Belongs here: the bridge from a retriever whose score is a dot product to an index, and back to the
score matrix that the candidate generator cuts lists from. Does not belong here: index or model.

The lists are those of the retriever itself (`tests/retrieval/test_through_index.py` holds them to
that), so what is evaluated this way is what a service that asks the index would show. It pays where
the catalogue is too large to score every item for every user; below, scoring all is faster.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recsys_assets.indexing.contract import DEEPEST, Release, VectorIndex, Vectors
from recsys_assets.indexing.objects import (
    ALWAYS_FROM,
    ALWAYS_TO,
    PROPERTIES,
    Filter,
    Objects,
)
from recsys_assets.retrieval.contract import EventLog, Fitted, IntArray, Scores
from recsys_assets.retrieval.registry import Member

_MARGIN = 32
"""Asked for beyond what is needed: rounding may order the index's last few otherwise."""

_PAIRS_AT_ONCE = 100_000

_OFFERED = {True: "offered", False: "gone"}
"""By the catalogue's dates, told as a market."""


@runtime_checkable
class DotProduct(Fitted, Protocol):
    """A fitted retriever whose score is the dot product of a query and a point."""

    def queries(self, users: IntArray) -> npt.NDArray[np.float32]:
        """One vector per user code (-1 allowed)."""
        ...

    def points(self) -> npt.NDArray[np.float32]:
        """One vector per column that can be scored."""
        ...


@dataclass(frozen=True, eq=False)
class ThroughIndex:
    """A `DotProduct` whose best items come from `index`.

    `scores` is finite only where it can matter: at the items a user took before and at those the
    index names. `pairs` scores any pair exactly.
    """

    model: DotProduct
    member: Member
    log: EventLog
    index: VectorIndex
    release: Release
    _points: npt.NDArray[np.float32]

    @classmethod
    def build(
        cls, name: str, model: DotProduct, member: Member, log: EventLog, index: VectorIndex
    ) -> "ThroughIndex":
        """Put the retriever's points at this cutoff into `index`, as a release of its own."""
        points = model.points()
        items = pd.Index(log.items[log.columns[: len(points)]])
        order = items.argsort()
        warm = order < log.n_warm
        # A last coordinate of 1, which queries meet with 0: a point may be all zero, objects not.
        vectors = np.ones((len(points), points.shape[1] + 1), dtype=np.float32)
        vectors[:, :-1] = points[order]
        ids = pa.array(items[order], pa.string())
        objects = Objects(ids, vectors, _properties(warm, log.offered_column[order]))
        release = Release.of(name, objects, {"as_of": log.as_of.isoformat()})
        index.build(release, objects)
        return cls(model, member, log, index, release, points)

    @property
    def floor(self) -> float:
        """See `Fitted.floor`."""
        return self.model.floor

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`; -inf where an item is neither taken before nor named by the index.

        A user without history is scored in full: equal scores everywhere must look equal.
        """
        dense = np.full((len(users), len(self._points)), -np.inf, dtype=np.float32)
        blank = np.flatnonzero(users < 0)
        if len(blank):
            dense[blank] = self.model.scores(users[blank])
        seen = self.log.taken_matrix[users]
        most_seen = int(np.diff(seen.indptr).max(initial=0))
        row = [np.repeat(np.arange(len(users)), np.diff(seen.indptr))]
        column = [seen.indices]
        for warm, k in ((True, self.member.k_unseen + most_seen), (False, self.member.k_cold)):
            for offered in np.unique(self.log.offered) if k else ():
                hits = self._nearest(users, min(k + _MARGIN, DEEPEST), warm, offered)
                row += [np.full(len(found), at) for at, found in enumerate(hits)]
                column += hits
        rows, columns = np.concatenate(row), np.concatenate(column)
        here = users[rows] >= 0
        rows, columns = rows[here], columns[here]
        dense[rows, columns] = self.pairs(users[rows], columns)
        return dense

    def pairs(self, users: IntArray, columns: IntArray) -> Scores:
        """Exact scores of pairs of a user code and a column."""
        out = np.empty(len(users), dtype=np.float32)
        for first in range(0, len(users), _PAIRS_AT_ONCE):
            some = slice(first, first + _PAIRS_AT_ONCE)
            queries = self.model.queries(users[some])
            out[some] = np.einsum("ij,ij->i", queries, self._points[columns[some]])
        return out

    def _nearest(self, users: IntArray, k: int, warm: bool, offered: bool) -> list[IntArray]:
        """Columns of the index's best for each user."""
        queries = self.model.queries(users)
        queries = np.concatenate([queries, np.zeros((len(users), 1), dtype=np.float32)], axis=1)
        asked = Vectors(self.release.model, queries.astype(np.float32))
        hits = self.index.nearest(
            self.release.id, asked, k, Filter(warm=warm, market=_OFFERED[bool(offered)])
        )
        return [
            self.log.column_of_item[self.log.items.get_indexer(pd.Index(found.item_ids, dtype=str))]
            for found in hits
        ]


def _properties(warm: npt.NDArray[np.bool_], offered: npt.NDArray[np.bool_]) -> pa.Table:
    """Objects that can be told warm from cold, offered from not, and by nothing else."""
    n = len(warm)
    values: dict[str, object] = {
        "text": [""] * n,
        "categories": [[]] * n,
        "brand": [""] * n,
        "price": [None] * n,
        "available_from": [ALWAYS_FROM] * n,
        "available_to": [ALWAYS_TO] * n,
        "active": [True] * n,
        "market": [_OFFERED[bool(on)] for on in offered],
        "group_id": [""] * n,
        "popularity": [0] * n,
        "warm": warm,
        "first_seen": [ALWAYS_FROM] * n,
    }
    return pa.table({name: pa.array(values[name], kind) for name, kind in PROPERTIES.items()})
