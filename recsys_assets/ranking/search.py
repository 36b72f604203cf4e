"""Searching the catalogue: for words, for what is near an item, and for one person in particular.

Belongs here: blending a query with a taste, re-ranking what the index found, one variant per
product. Does not belong here: the index itself, encoders, reading tables, layout.
"""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.indexing.contract import Hits, VectorIndex, Vectors, search
from recsys_assets.indexing.objects import EVERYTHING, Filter

TASTE = 0.3
"""How much of a personal search is the person: of the query vector, and of the final order."""

POOL = 5
"""Hits asked for per item shown: what re-ranking and leaving out variants choose from."""


@dataclass(frozen=True)
class Question:
    """What is asked: words with their vector, or a vector alone; and whose taste counts.

    `query` and `taste` are unit vectors of the release's model, [1, d].
    """

    text: str | None
    query: Vectors
    taste: npt.NDArray[np.float32] | None = None
    where: Filter = EVERYTHING


def find(
    index: VectorIndex,
    release_id: str,
    question: Question,
    groups: "pd.Series[str]",
    n: int,
) -> pd.DataFrame:
    """The best `n` items: item_id, score (0..1), taste (cosine to the person, null without one).

    `groups`: item id -> group_id of everything that may be shown; nothing else ever is, whatever
    the index still holds. Variants of one product are shown once.
    """
    query = question.query
    if question.taste is not None:
        query = Vectors(query.model, blend(query.matrix, question.taste))
    hits = search(
        index,
        release_id,
        text=question.text,
        vector=query,
        k=POOL * n,
        where=question.where,
        allowed=_Keys(groups),
    )
    frame = pd.DataFrame({"item_id": hits.item_ids, "score": _scaled(hits)})
    frame["taste"] = np.nan
    if question.taste is not None and len(frame):
        stored = index.fetch(release_id, hits.item_ids)
        likes = pd.Series(stored.vectors @ question.taste[0], index=stored.item_ids)
        frame["taste"] = likes.reindex(frame["item_id"]).to_numpy()
        frame["score"] = (1 - TASTE) * frame["score"] + TASTE * _zero_to_one(frame["taste"])
        frame = frame.sort_values(["score", "item_id"], ascending=[False, True], kind="stable")
    group = frame["item_id"].map(groups)
    group = group.where(group != "", frame["item_id"])
    return frame[~group.duplicated()].head(n).reset_index(drop=True)


def blend(
    query: npt.NDArray[np.float32], taste: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The query, moved towards the taste and of length 1 again."""
    moved = (1 - TASTE) * query + TASTE * taste
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return (moved / np.maximum(length, 1e-9)).astype(np.float32)


@dataclass(frozen=True)
class _Keys(Container[str]):
    """Membership among the labels of a series."""

    series: "pd.Series[str]"

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.series.index


def _scaled(hits: Hits) -> npt.NDArray[np.float64]:
    return _zero_to_one(pd.Series(hits.scores, dtype=float))


def _zero_to_one(values: pd.Series) -> npt.NDArray[np.float64]:
    low, high = values.min(), values.max()
    if not len(values) or high <= low:
        return np.ones(len(values))
    return ((values - low) / (high - low)).to_numpy()
