"""Item vectors together with the ids of their rows.

Belongs here: the pair (ids, matrix) and the lookup from one to the other. Does not belong here:
making vectors (content), searching them (retrieval) or any file format.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a float32 vector may be and still count as normalised."""


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """A matrix of item vectors and the item id of every row.

    `item_ids` are n distinct strings; `matrix` is float32 [n, d] with rows of Euclidean length 1,
    so that a dot product of two rows is their cosine. Raises ValueError when the two do not fit,
    when an id repeats, or when a row is not finite or not of length 1.
    """

    item_ids: npt.NDArray[np.object_]
    matrix: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or len(self.item_ids) != len(self.matrix):
            raise ValueError(f"{len(self.item_ids)} item ids for a matrix of {self.matrix.shape}")
        if not self._index.is_unique:
            raise ValueError("an item id has more than one vector")
        squares = np.einsum("ij,ij->i", self.matrix, self.matrix)
        if not np.all(np.abs(squares - 1.0) < 2 * NORM_TOLERANCE):
            raise ValueError("item vectors must be finite and of length 1")

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "ItemVectors":
        """From `item_id, vector`: one list of floats per row."""
        matrix = np.stack(list(frame["vector"])).astype(np.float32, copy=False)
        return cls(frame["item_id"].to_numpy(dtype=object), matrix)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.item_ids)

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return int(self.matrix.shape[1])

    def rows(self, item_ids: Iterable[str] | pd.Series) -> npt.NDArray[np.int64]:
        """Row number of each id, -1 for an id without a vector."""
        return np.asarray(self._index.get_indexer(pd.Index(item_ids)), dtype=np.int64)
