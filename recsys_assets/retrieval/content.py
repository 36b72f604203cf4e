"""Retrieval by content: items whose text resembles what the user took lately, cold items included.

Belongs here: user profiles over given item vectors, and the prior of items without history. Does
not belong here: making the vectors (`content/`), an index that serves them.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from recsys_assets.core.arrays import first_of_each
from recsys_assets.retrieval.contract import EventLog, IntArray, Scores


@dataclass(frozen=True)
class Content:
    """Cosine of the user's recency-weighted profile and the item vector, over all columns.

    `vectors`: float32 [catalogue, d] by item code (rows of zeros: no text). They are centred on the
    catalogue's mean and scaled to length 1. A profile is the mean over the user's items weighted by
    (fading counts) ** flatten * log(1 + users / (1 + support)) ** idf.
    A warm item adds `popularity` * log(1 + its takings of the last 28 days); a cold item adds
    `prior` * log of how many takings per cold item its category_3 gave to items new in the last 56
    days.
    """

    vectors: npt.NDArray[np.float32] = field(repr=False)
    half_life: float = 60.0
    flatten: float = 0.5
    idf: float = 1.0
    popularity: float = 0.05
    prior: float = 0.05

    def fit(self, log: EventLog, seed: int = 0) -> "FittedContent":
        """Profiles and priors. Raises ValueError if the vectors do not fit the catalogue."""
        if self.vectors.shape[0] != len(log.items):
            raise ValueError(f"{len(self.vectors)} vectors for {len(log.items)} catalogue items")
        if not np.isfinite(self.vectors).all():
            raise ValueError("the item vectors are not finite")
        unit, code = self._distinct
        text = code[log.columns]
        history = log.matrix(self.half_life)
        support = np.bincount(history.indices, minlength=log.n_warm)
        history.data = history.data**self.flatten
        history.data *= np.log1p(log.n_users / (1.0 + support[history.indices])) ** self.idf
        spread = sparse.csr_matrix(
            (np.ones(log.n_warm), (np.arange(log.n_warm), text[: log.n_warm])),
            shape=(log.n_warm, len(unit)),
        )
        profile = (history @ spread) @ unit.astype(np.float64)
        profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-9)
        return FittedContent(
            profile.astype(np.float32),
            np.ascontiguousarray(unit.T.astype(np.float32)),
            text,
            self._item_prior(log).astype(np.float32),
        )

    @cached_property
    def _distinct(self) -> tuple[npt.NDArray[np.float32], IntArray]:
        """Centred unit vectors of the distinct texts, and the text of every item code."""
        rows = np.ascontiguousarray(self.vectors)
        width = pa.binary(rows.itemsize * rows.shape[1])
        stored = pa.Array.from_buffers(width, len(rows), [None, pa.py_buffer(rows)])
        same = stored.dictionary_encode().indices.to_numpy()
        # Only equal bytes so far, but that is most of the work: sorting vectors is slow.
        distinct, again = np.unique(rows[first_of_each(same)], axis=0, return_inverse=True)
        code = again.ravel().astype(np.int32)[same]
        count = np.bincount(code, minlength=len(distinct))
        unit = distinct - (count @ distinct.astype(np.float64) / count.sum()).astype(np.float32)
        unit[~distinct.any(axis=1)] = 0.0
        return unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9), code

    def _item_prior(self, log: EventLog) -> npt.NDArray[np.float64]:
        rows = np.flatnonzero(log.liked)
        column = log.column[rows]
        recent = np.bincount(column[log.day[rows] <= 28.0], minlength=log.n_warm)
        first_day = np.zeros(log.n_warm)
        np.maximum.at(first_day, log.column, log.day)
        kind = log.level_of_column["category_3"]
        newly = first_day[column] <= 56.0
        n_kinds = int(kind.max()) + 1
        takings = np.bincount(kind[column[newly]], minlength=n_kinds)
        waiting = np.bincount(kind[log.n_warm :], minlength=n_kinds)
        rate = (takings + 0.1) / (waiting + 10.0)
        out = np.empty(len(log.items))
        out[: log.n_warm] = self.popularity * np.log1p(recent)
        out[log.n_warm :] = self.prior * np.log(rate[kind[log.n_warm :]])
        return out


@dataclass(frozen=True, eq=False)
class FittedContent:
    """User profiles, distinct text vectors [d, n_texts], the text and the prior of each column."""

    profiles: Scores
    vectors: Scores
    text: IntArray
    item_prior: Scores
    floor: float = -np.inf

    def queries(self, users: IntArray) -> Scores:
        """See `DotProduct.queries`: the profile, and 1 for the prior."""
        return np.concatenate(
            [self.profiles[users], np.ones((len(users), 1), dtype=np.float32)], axis=1
        )

    def points(self) -> Scores:
        """See `DotProduct.points`: the vector of each column's text, and its prior."""
        return np.concatenate([self.vectors.T[self.text], self.item_prior[:, None]], axis=1)

    def scores(self, users: IntArray) -> Scores:
        """See `Fitted.scores`; all columns. A user without history scores by the prior alone."""
        return np.take(self.profiles[users] @ self.vectors, self.text, axis=1) + self.item_prior
