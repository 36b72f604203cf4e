"""Searching the catalogue: for words, for what is near an item, and for one person in particular.

Belongs here: reading a query, blending it with a taste, re-ranking what the index found, one
variant per product. Does not belong here: the index itself, encoders, reading tables, layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recsys_assets.core.lake import LakeError
from recsys_assets.indexing.contract import DEEPEST, VectorIndex, Vectors, search
from recsys_assets.indexing.objects import EVERYTHING, Filter, split_words, words

TASTE = 0.3
"""How much of a personal search is the person: of the query vector, and of the final order."""

POOL = 5
"""Hits asked for at first, per item shown: what leaving out variants chooses from."""

RERANKED = 100
"""Hits that a taste puts into another order; as many however few items are shown."""

SHORT = 5
ALIKE = 0.85
"""Words of at least SHORT letters are taken for misspelt when one of the catalogue is ALIKE: twice
the letters in common, in order, over the letters of both."""

LONGEST = 1_000
"""Characters of a query; the encoder reads some hundred words and no more."""


class QueryError(LakeError):
    """A query that cannot be searched for."""


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
    """The best `n` items: item_id, score (of the search; see `indexing.contract.search`), taste
    (cosine to the person, null without one). A shorter list is the beginning of a longer one.

    `groups`: item id -> group_id of everything that may be shown; nothing else ever is, whatever
    the index still holds. Variants of one product are shown once; the search goes deeper until
    there are `n` products, or no more items. With a taste the first RERANKED hits are put into an
    order of both, what comes after them stays as it was found.
    """
    query = question.query
    if question.taste is not None:
        query = Vectors(query.model, blend(query.matrix, question.taste))
    k = min(max(POOL * n, RERANKED), DEEPEST)
    while True:
        hits = search(
            index,
            release_id,
            text=question.text,
            vector=query,
            k=k,
            where=question.where,
            allowed=groups.index,
        )
        if len(hits) < k or k == DEEPEST or _products(hits.item_ids, groups).nunique() >= n:
            break
        k = min(4 * k, DEEPEST)
    frame = pd.DataFrame({"item_id": hits.item_ids, "score": hits.scores})
    frame["taste"] = np.nan
    if question.taste is not None and len(frame):
        stored = index.fetch(release_id, hits.item_ids)
        likes = pd.Series(stored.vectors @ question.taste[0], index=stored.item_ids)
        frame["taste"] = likes.reindex(frame["item_id"]).to_numpy()
        frame = pd.concat([_by_taste(frame.head(RERANKED)), frame.iloc[RERANKED:]])
    return frame[~_products(frame["item_id"], groups).duplicated()].head(n).reset_index(drop=True)


def read_query(text: str) -> str:
    """`text` as it is searched for; QueryError when there is nothing to search for, or too much."""
    text = " ".join(text.split())
    if not words(text):
        raise QueryError(f"there is no word in {text!r} to search for: describe what you want")
    if len(text) > LONGEST:
        raise QueryError(f"a query has at most {LONGEST:,} characters, this one {len(text):,}")
    return text


def spelled(text: str, catalogue: pd.Series) -> str:
    """`text` with words the catalogue does not know replaced by one it knows and that is nearly
    the same; short words are left alone, since they have too many neighbours.

    `catalogue`: the texts of all items.
    """
    asked = words(text)
    known = _vocabulary(catalogue)
    better = [w if w in known or len(w) < SHORT else _closest(w, known) for w in asked]
    return text if better == asked else " ".join(better)


def _vocabulary(texts: pd.Series) -> dict[str, int]:
    """Word -> how often it is in the texts."""
    counted = split_words(pa.array(texts, pa.string())).flatten().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(),
                    strict=True))  # fmt: skip


def _closest(word: str, known: dict[str, int]) -> str:
    near = get_close_matches(word, known, n=5, cutoff=ALIKE)
    return max(near, key=lambda w: (SequenceMatcher(None, w, word).ratio(), known[w]), default=word)


def _products(item_ids: Sequence[str] | pd.Series, groups: "pd.Series[str]") -> pd.Series:
    """What variants have in common: the group, or the item itself where it has none."""
    items = pd.Series(item_ids, dtype="str")
    group = items.map(groups)
    return group.where(group != "", items)


def blend(
    query: npt.NDArray[np.float32], taste: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The query, moved towards the taste and of length 1 again."""
    moved = (1 - TASTE) * query + TASTE * taste
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return (moved / np.maximum(length, 1e-9)).astype(np.float32)


def _by_taste(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows by score and taste, each scaled to 0 .. 1 over the rows."""
    both = (1 - TASTE) * _zero_to_one(frame["score"]) + TASTE * _zero_to_one(frame["taste"])
    return frame.iloc[np.lexsort((frame["item_id"], -both))]


def _zero_to_one(values: pd.Series) -> npt.NDArray[np.float64]:
    low, high = values.min(), values.max()
    if not len(values) or high <= low:
        return np.ones(len(values))
    return ((values - low) / (high - low)).to_numpy()
