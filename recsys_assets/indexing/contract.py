"""The one contract of every vector index: releases that are built whole, and queries against them.

Belongs here: what a release is, what a store must offer, the errors it raises, and hybrid search,
which is defined once for all stores. Does not belong here: any store.

A *release* is complete or does not exist: `build` makes it visible with its last step. The *alias*
names the release that is served; `activate` moves it in one step, forward or back.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys_assets.core.lake import LakeError
from recsys_assets.indexing.objects import EVERYTHING, FORMAT, Filter, Objects

WORDS = 0.3
"""What the best match of words adds to a hybrid score, beside a cosine of at most 1."""

DEEPEST = 10_000
"""Most hits one search can ask for; Weaviate's QUERY_MAXIMUM_RESULTS unless configured."""


_BATCH = 500
"""How many matches of words have their vectors read at a time, the best first."""
_TIE = 1e-4
"""Scores nearer to each other than this may be equal once rounded."""


class VectorIndexError(LakeError):
    """The vector index cannot do what was asked; the message says what to do."""


class UnknownReleaseError(VectorIndexError):
    """The store holds no complete release of that id."""


class WrongModelError(VectorIndexError):
    """A query vector comes from another model, or has another dimension, than the release."""


class UnavailableError(VectorIndexError):
    """The store cannot be reached, is too slow, or refuses; what it served before is untouched."""


@dataclass(frozen=True)
class Release:
    """What one release is and what it was built from. Equal ids mean equal objects."""

    id: str
    model: str
    """Identity of the encoder that made the vectors"""
    dimension: int
    objects: int
    built_from: Mapping[str, str]
    """asset -> content id of the lake version"""
    digest: str
    """sha256 over the ids and content hashes of all objects"""

    @classmethod
    def of(cls, model: str, objects: Objects, built_from: Mapping[str, str]) -> "Release":
        """The release that `objects`, encoded by `model`, make. VectorIndexError without any."""
        if not len(objects):
            raise VectorIndexError("there is nothing to index: the catalogue holds no item")
        dimension = objects.dimension
        identity = [FORMAT, model, dimension, sorted(built_from.items()), objects.digest]
        text = json.dumps(identity, separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cls(key, model, dimension, len(objects), dict(built_from), objects.digest)

    @property
    def family(self) -> str:
        """What two releases must share for one to be made from the other: format, model, size."""
        text = json.dumps([FORMAT, self.model, self.dimension])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def refuse(self, queries: "Vectors") -> None:
        """Raise WrongModelError unless `queries` live in this release's space."""
        if queries.model != self.model or queries.matrix.shape[1] != self.dimension:
            raise WrongModelError(
                f"release {self.id} holds vectors of {self.model} ({self.dimension} numbers), the "
                f"query is from {queries.model} ({queries.matrix.shape[1]}): encode the query with "
                "the release's model, or build and activate a release of the new one"
            )


@dataclass(frozen=True, eq=False)
class Vectors:
    """Query vectors, float32 [m, d], together with the model that made them."""

    model: str
    matrix: npt.NDArray[np.float32]


def check_depth(k: int) -> None:
    """Raise VectorIndexError unless a search can ask for `k` hits."""
    if not 1 <= k <= DEEPEST:
        raise VectorIndexError(f"a search returns 1 to {DEEPEST:,} items, not {k:,}")


@dataclass(frozen=True)
class Hits:
    """Results, best first. Scores are dot products, BM25, or both fused (see `fuse`)."""

    item_ids: list[str]
    scores: list[float]

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, eq=False)
class Stored:
    """Objects read back from a store, sorted by item id."""

    item_ids: list[str]
    hashes: list[str]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Built:
    """What making a release took: objects sent to the store, taken out, and left as they were."""

    written: int
    deleted: int
    unchanged: int
    bytes: int
    """Bytes sent or written"""


class VectorIndex(Protocol):
    """A store of releases. Every method raises VectorIndexError with a remedy, nothing else, when
    the store misbehaves; a call that raises leaves the alias and its release as they were."""

    def build(self, release: Release, objects: Objects, protect: Collection[str] = ()) -> Built:
        """Make `release` complete, sending only what differs from a release that is there.

        Nothing to do when it exists. Clears what an interrupted build left behind, and drops the
        oldest releases beyond those to be kept, never the active one or those to `protect`.
        """
        ...

    def releases(self) -> list[Release]:
        """The complete releases, oldest first."""
        ...

    def release(self, release_id: str) -> Release:
        """The complete release of that id, or UnknownReleaseError."""
        ...

    def active(self) -> str | None:
        """The release the alias names; None before the first activation."""
        ...

    def activate(self, release_id: str) -> None:
        """Point the alias at a complete release. Atomic; doing it twice is doing it once."""
        ...

    def drop(self, release_id: str) -> None:
        """Remove a release that is not active."""
        ...

    def freed_by(self, release_ids: Collection[str]) -> int:
        """Bytes that dropping these frees; of vectors alone where the store does not tell."""
        ...

    def count(self, release_id: str) -> int:
        """Objects the store holds for the release, counted there."""
        ...

    def fetch(self, release_id: str, item_ids: Sequence[str]) -> Stored:
        """The stored objects of `item_ids`; ids the release does not hold are left out."""
        ...

    def nearest(
        self, release_id: str, queries: Vectors, k: int, where: Filter = EVERYTHING
    ) -> list[Hits]:
        """For each query the `k` objects with the largest dot product among those that match.

        `k` is 1 to DEEPEST.
        """
        ...

    def matching(self, release_id: str, text: str, k: int, where: Filter = EVERYTHING) -> Hits:
        """The `k` objects that match the words of `text` best (BM25); fewer if fewer match."""
        ...

    def clear(self) -> None:
        """Remove every release, the active one included."""
        ...

    def close(self) -> None:
        """Give back connections and files."""
        ...


def search(
    index: VectorIndex,
    release_id: str,
    *,
    text: str | None,
    vector: Vectors | None,
    k: int,
    where: Filter = EVERYTHING,
    allowed: Container[str] | None = None,
) -> Hits:
    """Vector search, keyword search, or both fused, as far as given.

    `vector` holds one row. Items outside `allowed` are never returned, however many of the best
    they are: an index may be older than the decision to take an item out.
    """
    check_depth(k)
    both = text is not None and vector is not None
    near, matched = Hits([], []), Hits([], [])
    if vector is not None:
        query = vector
        depth = max(100, 5 * k) if both else k
        near = _among(allowed, depth, lambda n: index.nearest(release_id, query, n, where)[0])
    if text is not None:
        words = text
        depth = DEEPEST if both else k
        matched = _among(allowed, depth, lambda n: index.matching(release_id, words, n, where))
    if vector is None or text is None:
        return near if text is None else matched
    cosines = dict(zip(near.item_ids, near.scores, strict=True))
    nearest_left = near.scores[-1] if near.item_ids else np.inf
    further = [p for p in zip(matched.item_ids, matched.scores, strict=True) if p[0] not in cosines]
    while further:
        # No item beyond `near` has a larger cosine than its last one: what is not among the best
        # `k` with that, is not with its own.
        best = fuse(cosines, matched, k).scores
        lead = best[-1] - nearest_left - _TIE if len(best) == k else -np.inf
        batch, further = further[:_BATCH], further[_BATCH:]
        reach = [item for item, score in batch if WORDS * score / matched.scores[0] >= lead]
        if not reach:
            break
        stored = index.fetch(release_id, reach)
        found = stored.vectors @ vector.matrix[0] if stored.item_ids else np.zeros(0)
        cosines |= dict(zip(stored.item_ids, found.tolist(), strict=True))
    return fuse(cosines, matched, k)


def fuse(cosines: Mapping[str, float], matched: Hits, k: int) -> Hits:
    """The best `k` of `cosines` by cosine plus WORDS times the share of the best BM25 score.

    Scores, not ranks: a catalogue holds hundreds of items with one text, and a rank says nothing
    of how far the next text is away. `matched` holds all matches, or as many as a store tells
    (DEEPEST): cut shorter for a shorter list, it would give the same item other scores.
    """
    best = max(matched.scores, default=1.0)
    said = dict(zip(matched.item_ids, matched.scores, strict=True))
    scores = {i: cosine + WORDS * said.get(i, 0.0) / best for i, cosine in cosines.items()}
    first = sorted(scores.items(), key=lambda entry: (-round(entry[1], 5), entry[0]))[:k]
    return Hits([item for item, _ in first], [score for _, score in first])


def _among(allowed: Container[str] | None, k: int, ask: Callable[[int], Hits]) -> Hits:
    """The first `k` hits that are allowed, asking for more until there are enough."""
    depth = k
    while True:
        hits = ask(min(depth, DEEPEST))
        if allowed is None:
            return hits
        pairs = [p for p in zip(hits.item_ids, hits.scores, strict=True) if p[0] in allowed]
        if len(pairs) >= k or len(hits) < depth or depth >= DEEPEST:
            return Hits([i for i, _ in pairs[:k]], [s for _, s in pairs[:k]])
        depth = 2 * depth + k - len(pairs)
