"""The embedded index: releases as immutable files in a folder, searched in this process.

Belongs here: segments on disk, exact and approximate search over them, keyword search, the alias
file. Does not belong here: what objects mean, what a release is, verification.

A release is a list of *segments*: files of objects that are written once, with the rows of each
that are dead in this release. A release that differs little from an earlier one shares its segments
and adds one with what changed, so both work is small and the old release stays whole. Keyword
statistics are taken over living rows only: a release answers the same however it came about.

Up to `exact_up_to` matching objects every search compares all of them. Beyond, large segments carry
an HNSW graph; a filter that leaves few objects is still answered exactly.

Layout below the root::

    files/<sha256>.<parquet|npy|faiss>   content-addressed, written once, hashed before parsed
    releases/<release>.json              a complete release: sha256 of the rest, then the manifest
    active.json                          the alias
    tmp/                                 unfinished writes; emptied by the next build
"""

import fcntl
import shutil
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.core.digests import file_sha256, read_signed_json, signed_json
from recsys_assets.core.durable import publish
from recsys_assets.core.settings.index import Index as Settings
from recsys_assets.indexing.contract import (
    Built,
    Hits,
    Release,
    Stored,
    UnavailableError,
    UnknownReleaseError,
    VectorIndexError,
    Vectors,
    check_depth,
)
from recsys_assets.indexing.objects import (
    EVERYTHING,
    PROPERTIES,
    Condition,
    Filter,
    Objects,
    split_words,
    words,
)

K1, B = 1.2, 0.75
"""BM25 constants (Robertson and Zaragoza, 2009), the same as Weaviate's defaults."""

SEGMENT_ROWS = 250_000
"""Most rows of one segment: bounds the memory and time of building one graph."""

MOST_SEGMENTS = 24
"""With more, the small ones are written again as one."""

MOST_DEAD = 0.25
"""A segment with a larger share of dead rows is written again."""

_QUERIES_AT_ONCE = 32
_SPARSE = 0.3
"""Below this share of matching rows a block gathers them instead of scoring all."""

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Segment:
    """Names of the files of one segment, and how many rows it has, dead ones included."""

    rows: int
    objects: str
    vectors: str
    terms: str
    graph: str | None = None
    dead: str | None = None


class EmbeddedIndex:
    """A `VectorIndex` in the folder `root`, which it creates. Readers need no lock."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.root = root
        self.settings = settings or Settings()
        self._open: dict[str, _Loaded] = {}
        with _disk(root):
            for folder in ("files", "releases", "tmp"):
                (root / folder).mkdir(parents=True, exist_ok=True)

    # -- releases ------------------------------------------------------------------------------

    def build(self, release: Release, objects: Objects, protect: Collection[str] = ()) -> Built:
        """See `VectorIndex.build`. Held under a lock that dies with this process."""
        with _disk(self.root), self._exclusive():
            self._reap()
            if self._path(release.id).exists():
                return Built(0, 0, self.release(release.id).objects, 0)
            base = next(
                (m for m in self._manifests()[::-1] if m.release.family == release.family), None
            )
            plan = self._plan(base, objects)
            segments = [*plan.kept]
            for first in range(0, len(plan.fresh), SEGMENT_ROWS):
                rows = plan.fresh[first : first + SEGMENT_ROWS]
                segments.append(self._write_segment(objects.take(rows)))
            if len(objects) > self.settings.exact_up_to:
                segments = [self._with_graph(s) for s in segments]
            sequence = 1 + max((m.sequence for m in self._manifests()), default=0)
            made = _Manifest(release, sequence, tuple(segments))
            self._publish_signed(self._path(release.id), made.to_document())
            new = made.files - (base.files if base else set())
            self._retire({release.id, *protect})
            self._reap()
            written = sum(self._size(name) for name in new)
            return Built(plan.changed, plan.deleted, len(objects) - plan.changed, written)

    def releases(self) -> list[Release]:
        """See `VectorIndex.releases`."""
        return [m.release for m in self._manifests()]

    def release(self, release_id: str) -> Release:
        """See `VectorIndex.release`."""
        return self._manifest(release_id).release

    def active(self) -> str | None:
        """See `VectorIndex.active`."""
        document = self._read_signed(self.root / "active.json")
        return None if document is None else str(document["release"])

    def activate(self, release_id: str) -> None:
        """See `VectorIndex.activate`."""
        with _disk(self.root), self._exclusive():
            self._manifest(release_id)
            if self.active() != release_id:
                self._publish_signed(self.root / "active.json", {"release": release_id})

    def drop(self, release_id: str) -> None:
        """See `VectorIndex.drop`."""
        with _disk(self.root), self._exclusive():
            self._manifest(release_id)
            if self.active() == release_id:
                raise VectorIndexError(
                    f"release {release_id} is active: activate another one before dropping it"
                )
            self._path(release_id).unlink()
            self._open.pop(release_id, None)
            self._reap()

    def freed_by(self, release_ids: Collection[str]) -> int:
        """See `VectorIndex.freed_by`."""
        going: set[str] = set()
        staying: set[str] = set()
        size = 0
        for manifest in self._manifests():
            if manifest.release.id in release_ids:
                going |= manifest.files
                size += self._path(manifest.release.id).stat().st_size
            else:
                staying |= manifest.files
        return size + sum(self._size(name) for name in going - staying)

    # -- queries -------------------------------------------------------------------------------

    def count(self, release_id: str) -> int:
        """See `VectorIndex.count`."""
        return int(self._loaded(release_id).live.sum())

    def fetch(self, release_id: str, item_ids: Sequence[str]) -> Stored:
        """See `VectorIndex.fetch`."""
        return self._loaded(release_id).fetch(item_ids)

    def nearest(
        self, release_id: str, queries: Vectors, k: int, where: Filter = EVERYTHING
    ) -> list[Hits]:
        """See `VectorIndex.nearest`."""
        check_depth(k)
        loaded = self._loaded(release_id)
        loaded.release.refuse(queries)
        return loaded.nearest(queries.matrix, k, where, self.settings)

    def matching(self, release_id: str, text: str, k: int, where: Filter = EVERYTHING) -> Hits:
        """See `VectorIndex.matching`."""
        check_depth(k)
        return self._loaded(release_id).matching(text, k, where)

    def clear(self) -> None:
        """See `VectorIndex.clear`."""
        self.close()
        with _disk(self.root), self._exclusive():
            shutil.rmtree(self.root)

    def close(self) -> None:
        """See `VectorIndex.close`."""
        self._open.clear()

    # -- inside --------------------------------------------------------------------------------

    def _plan(self, base: "_Manifest | None", objects: Objects) -> "_Plan":
        """Which segments of `base` to keep, with which dead rows, and which objects to write."""
        held = np.zeros(len(objects), dtype=bool)
        unchanged = np.zeros(len(objects), dtype=bool)
        kept: list[_Segment] = []
        deleted = 0
        crowded = base is not None and len(base.segments) >= MOST_SEGMENTS
        for segment in base.segments if base else ():
            table = self._table(segment.objects, ["item_id", "hash"])
            alive = self._alive(segment)
            row = _positions(table["item_id"], objects.item_ids)
            deleted += int((alive & (row < 0)).sum())
            same = alive & (row >= 0)
            old = table["hash"].combine_chunks().filter(pa.array(same))
            new = objects.hashes.take(pa.array(row[same]))
            same[same] = pc.equal(old, new).to_numpy(zero_copy_only=False)
            unchanged[row[same]] = True
            if segment.rows - same.sum() > MOST_DEAD * segment.rows:
                continue
            if crowded and segment.rows < SEGMENT_ROWS // 2:
                continue
            held[row[same]] = True
            if (same != alive).any():
                segment = replace(segment, dead=self._store_array(np.flatnonzero(~same)))
            kept.append(segment)
        return _Plan(kept, np.flatnonzero(~held), int((~unchanged).sum()), deleted)

    def _write_segment(self, objects: Objects) -> _Segment:
        lengths, terms = _postings(objects.properties["text"].combine_chunks())
        columns = [objects.properties[name] for name in PROPERTIES]
        rows = pa.table(
            [objects.item_ids, objects.hashes, lengths, *columns],
            names=["item_id", "hash", "words", *PROPERTIES],
        )
        return _Segment(
            rows=len(objects),
            objects=self._store_table(rows),
            vectors=self._store_array(objects.vectors),
            terms=self._store_table(terms),
        )

    def _with_graph(self, segment: _Segment) -> _Segment:
        """The segment with an HNSW graph over its rows, if it is large enough to need one."""
        if segment.graph is not None or segment.rows < SEGMENT_ROWS // 5:
            return segment
        import faiss

        matrix = self._array(segment.vectors)
        graph = faiss.IndexHNSWFlat(
            matrix.shape[1], self.settings.connections, faiss.METRIC_INNER_PRODUCT
        )
        graph.hnsw.efConstruction = self.settings.build_effort
        graph.add(matrix)
        path = self._new_file()
        faiss.write_index(graph, str(path), faiss.IO_FLAG_SKIP_STORAGE)
        return replace(segment, graph=self._publish_file(path, "faiss"))

    def _alive(self, segment: _Segment) -> Mask:
        alive = np.ones(segment.rows, dtype=bool)
        if segment.dead is not None:
            alive[self._array(segment.dead)] = False
        return alive

    def _loaded(self, release_id: str) -> "_Loaded":
        found = self._open.get(release_id)
        if found is None:
            manifest = self._manifest(release_id)
            try:
                with _disk(self.root):
                    found = _Loaded(manifest.release, [self._block(s) for s in manifest.segments])
            except VectorIndexError:
                self._manifest(release_id)  # if it gave way to a newer one meanwhile, say that
                raise
            self._open[release_id] = found
        return found

    def _block(self, segment: _Segment) -> "_Block":
        matrix = self._array(segment.vectors)
        graph = storage = None
        if segment.graph is not None:
            import faiss

            storage = faiss.IndexFlatIP(matrix.shape[1])
            storage.add(matrix)
            graph = faiss.read_index(str(self._verified(segment.graph)))
            graph.storage, graph.own_fields = storage, False
        return _Block(
            self._table(segment.objects),
            matrix,
            self._table(segment.terms),
            self._alive(segment),
            graph,
            storage,
        )

    def _retire(self, protect: set[str]) -> None:
        """Drop the oldest releases beyond those to keep; never `protect` or the active one."""
        releases = [m.release.id for m in self._manifests()]
        others = [r for r in releases if r not in protect and r != self.active()]
        for release_id in others[: max(0, len(releases) - self.settings.keep)]:
            self._path(release_id).unlink()
            self._open.pop(release_id, None)

    def _reap(self) -> None:
        """Remove unfinished writes and files that no release names. Under the lock only."""
        for path in (self.root / "tmp").iterdir():
            path.unlink()
        named = {name for manifest in self._manifests() for name in manifest.files}
        for path in (self.root / "files").iterdir():
            if path.name not in named:
                path.unlink()

    # -- files ---------------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self.root / "lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UnavailableError(
                    f"another process is changing the index in {self.root}: wait for it to end"
                ) from error
            yield

    def _path(self, release_id: str) -> Path:
        return self.root / "releases" / f"{release_id}.json"

    def _manifest(self, release_id: str) -> "_Manifest":
        path = self._path(release_id)
        document = self._read_signed(path) if release_id.isalnum() else None
        if document is None:
            raise UnknownReleaseError(
                f"there is no complete release {release_id!r} in {self.root}: materialize "
                "vector_index to build it"
            )
        return _Manifest.from_document(document)

    def _manifests(self) -> list["_Manifest"]:
        """All complete releases, oldest first."""
        read = map(self._read_signed, (self.root / "releases").glob("*.json"))
        found = [_Manifest.from_document(document) for document in read if document is not None]
        return sorted(found, key=lambda m: m.sequence)

    def _new_file(self) -> Path:
        return self.root / "tmp" / uuid.uuid4().hex

    def _publish_file(self, path: Path, suffix: str) -> str:
        name = f"{file_sha256(path)}.{suffix}"
        publish(path, self.root / "files" / name)
        return name

    def _store_table(self, table: pa.Table) -> str:
        path = self._new_file()
        pq.write_table(table, path, compression="zstd", compression_level=1)
        return self._publish_file(path, "parquet")

    def _store_array(self, values: npt.NDArray[Any]) -> str:
        path = self._new_file()
        with path.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)
        return self._publish_file(path, "npy")

    def _publish_signed(self, target: Path, document: dict[str, Any]) -> None:
        path = self._new_file()
        path.write_text(signed_json(document), encoding="utf-8")
        publish(path, target)

    def _read_signed(self, path: Path) -> dict[str, Any] | None:
        """The document in `path`; None without that file (a builder may just have removed it)."""
        with _disk(self.root):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            document: dict[str, Any] = read_signed_json(content)
        except ValueError as error:
            raise VectorIndexError(
                f"{path} was altered: delete it and materialize vector_index again"
            ) from error
        return document

    def _verified(self, name: str) -> Path:
        path = self.root / "files" / name
        try:
            actual = file_sha256(path)
        except FileNotFoundError as error:
            raise VectorIndexError(
                f"{path} is missing: delete {self.root} and materialize vector_index again"
            ) from error
        if actual != path.stem:
            raise VectorIndexError(
                f"{path} was altered (its hash is {actual[:12]}…): delete {self.root} and "
                "materialize vector_index again"
            )
        return path

    def _table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return pq.ParquetFile(self._verified(name)).read(columns=columns).combine_chunks()

    def _array(self, name: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.load(self._verified(name), mmap_mode="r", allow_pickle=False)
        return values

    def _size(self, name: str) -> int:
        return (self.root / "files" / name).stat().st_size


@dataclass(frozen=True)
class _Plan:
    """How to make a release from an earlier one: segments to keep, rows of objects to write."""

    kept: list[_Segment]
    fresh: Rows
    changed: int
    deleted: int


@dataclass(frozen=True)
class _Manifest:
    """What a release consists of; `sequence` counts the builds of a store."""

    release: Release
    sequence: int
    segments: tuple[_Segment, ...]

    @property
    def files(self) -> set[str]:
        """Names of all files of the release."""
        names = [(s.objects, s.vectors, s.terms, s.graph, s.dead) for s in self.segments]
        return {name for group in names for name in group if name is not None}

    def to_document(self) -> dict[str, Any]:
        return {
            "release": asdict(self.release),
            "sequence": self.sequence,
            "segments": [vars(s) for s in self.segments],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "_Manifest":
        segments = tuple(_Segment(**s) for s in document["segments"])
        return cls(Release(**document["release"]), document["sequence"], segments)


@dataclass(frozen=True, eq=False)
class _Block:
    """One segment in memory (vectors mapped from disk)."""

    rows: pa.Table
    matrix: npt.NDArray[np.float32]
    terms: pa.Table
    alive: Mask
    graph: Any
    storage: Any
    """The vectors as the graph reads them; faiss does not keep them alive by itself"""

    @cached_property
    def line_of_term(self) -> dict[str, int]:
        """Line of every term in `terms`."""
        return {term: line for line, term in enumerate(self.terms["term"].to_pylist())}


class _Loaded:
    """A release opened for queries. Rows are numbered through all blocks."""

    def __init__(self, release: Release, blocks: list[_Block]) -> None:
        self.release = release
        self.blocks = blocks
        self.starts = np.cumsum([0, *(len(b.alive) for b in blocks)])
        self.live: Mask = np.concatenate([b.alive for b in blocks])
        self.rows = pa.concat_tables([b.rows for b in blocks]).combine_chunks()
        self.ids = self.rows["item_id"].combine_chunks()

    @cached_property
    def place(self) -> Rows:
        """Place of every row in the order of item ids: what breaks ties."""
        order = pc.sort_indices(self.ids).to_numpy()
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return place

    def fetch(self, item_ids: Sequence[str]) -> Stored:
        living = np.flatnonzero(self.live)
        ids = self.ids.take(pa.array(living))
        wanted = pa.array(sorted(set(item_ids)), pa.string())
        at = pc.index_in(wanted, ids)
        row = living[at.drop_null().to_numpy().astype(np.int64)]
        vectors = np.empty((len(row), self.release.dimension), dtype=np.float32)
        for block, start, stop in self._spans():
            here = (row >= start) & (row < stop)
            vectors[here] = block.matrix[row[here] - start]
        take = pa.array(row)
        return Stored(
            self.ids.take(take).to_pylist(), self.rows["hash"].take(take).to_pylist(), vectors
        )

    def nearest(
        self, queries: npt.NDArray[np.float32], k: int, where: Filter, settings: Settings
    ) -> list[Hits]:
        mask = self.mask(where)
        approximate = int(mask.sum()) > settings.exact_up_to
        found: list[Hits] = []
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            some = np.ascontiguousarray(queries[first : first + _QUERIES_AT_ONCE], dtype=np.float32)
            parts = [
                _by_graph(block, some, mask[start:stop], k, settings.search_effort)
                if approximate and block.graph is not None
                else _by_comparison(block.matrix, some, mask[start:stop])
                for block, start, stop in self._spans()
            ]
            for line in range(len(some)):
                rows = np.concatenate(
                    [p.rows_of(line) + s for p, (_, s, _) in zip(parts, self._spans(), strict=True)]
                )
                scores = np.concatenate([p.scores[line] for p in parts])
                known = np.isfinite(scores)
                found.append(self._best(rows[known], scores[known], k))
        return found

    def matching(self, text: str, k: int, where: Filter) -> Hits:
        mask = self.mask(where)
        lengths = self.rows["words"].combine_chunks().to_numpy()
        n = int(self.live.sum())
        usual = max(float(lengths[self.live].mean()) if n else 1.0, 1e-9)
        scores = np.zeros(len(mask))
        for term, times in sorted(Counter(words(text)).items()):
            rows, counts = self._postings_of(term)
            here = self.live[rows]
            rows, counts = rows[here], counts[here]
            rarity = np.log1p((n - len(rows) + 0.5) / (len(rows) + 0.5))
            norm = K1 * (1.0 - B + B * lengths[rows] / usual)
            scores[rows] += times * rarity * counts * (K1 + 1.0) / (counts + norm)
        matched = np.flatnonzero(mask & (scores > 0))
        return self._best(matched, scores[matched], k)

    def mask(self, where: Filter) -> Mask:
        """Which rows are alive and match."""
        mask = self.live.copy()
        for condition in where.conditions:
            mask &= _holds(self.rows[condition.property].combine_chunks(), condition)
        return mask

    def _spans(self) -> Iterator[tuple[_Block, int, int]]:
        return zip(self.blocks, self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)

    def _postings_of(self, term: str) -> tuple[Rows, Rows]:
        rows, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for block, start, _ in self._spans():
            at = block.line_of_term.get(term)
            if at is not None:
                line = block.terms.slice(at, 1)
                rows.append(line["rows"].combine_chunks().flatten().to_numpy().astype(int) + start)
                counts.append(line["counts"].combine_chunks().flatten().to_numpy().astype(int))
        return np.concatenate(rows), np.concatenate(counts)

    def _best(self, rows: Rows, scores: npt.NDArray[Any], k: int) -> Hits:
        """The `k` best rows; equal scores (to five places, dot products being what they are) by
        item id."""
        rounded = np.round(scores.astype(np.float64), 5)
        if len(rows) > k:
            bound = np.partition(rounded, len(rows) - k)[len(rows) - k]
            near = np.flatnonzero(rounded >= bound)
            rows, scores, rounded = rows[near], scores[near], rounded[near]
        order = np.lexsort((self.place[rows], -rounded))[:k]
        ids = self.ids.take(pa.array(rows[order])).to_pylist()
        return Hits(ids, [float(s) for s in scores[order]])


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores [query, n] of some rows of a block: the same rows for all queries, or [query, n]."""

    rows: Rows
    scores: npt.NDArray[np.float32]

    def rows_of(self, line: int) -> Rows:
        return self.rows if self.rows.ndim == 1 else self.rows[line]


def _by_comparison(
    matrix: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], mask: Mask
) -> _Scored:
    rows = np.flatnonzero(mask)
    if len(rows) == len(mask):
        return _Scored(rows, queries @ matrix.T)
    if len(rows) < _SPARSE * len(mask):
        return _Scored(rows, queries @ matrix[rows].T)
    return _Scored(rows, (queries @ matrix.T)[:, rows])


def _by_graph(
    block: _Block, queries: npt.NDArray[np.float32], mask: Mask, k: int, effort: int
) -> _Scored:
    """Graph search among `mask`, keeping more in hand the fewer rows match."""
    import faiss

    share = float(mask.mean())
    if share == 0.0:
        return _Scored(np.zeros(0, dtype=np.int64), np.zeros((len(queries), 0), dtype=np.float32))
    bits = np.packbits(mask, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits) if share < 1.0 else None
    keep = int(max(effort, 2 * k) / share)
    parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=keep)
    scores, rows = block.graph.search(queries, k, params=parameters)
    return _Scored(rows, np.where(rows >= 0, scores, -np.inf))


def _holds(column: pa.Array, condition: Condition) -> Mask:
    """Whether each value meets the condition; null never does."""
    value = condition.value
    match condition.operator:
        case "contains":
            rows = pc.list_parent_indices(column).to_numpy()
            flat = pc.equal(column.flatten(), value).to_numpy(zero_copy_only=False)
            found = np.zeros(len(column), dtype=bool)
            found[rows[flat]] = True
            return found
        case "one_of":
            mask = pc.is_in(column, value_set=pa.array(value))
        case "equals":
            mask = pc.equal(column, value)
        case "at_most":
            mask = pc.less_equal(column, value)
        case "at_least":
            mask = pc.greater_equal(column, value)
        case "above":
            mask = pc.greater(column, value)
    filled: Mask = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return filled


def _positions(values: pa.ChunkedArray, among: pa.Array) -> Rows:
    """Place of each value in `among`, -1 where it is not there."""
    at = pc.fill_null(pc.index_in(values.combine_chunks(), among), -1)
    return at.to_numpy().astype(np.int64)


def _postings(texts: pa.Array) -> tuple[pa.Array, pa.Table]:
    """Words per text, and per term the texts it is in and how often, both by term and row."""
    lists = split_words(texts)
    flat = lists.flatten()
    row = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    full = pc.not_equal(flat, "").to_numpy(zero_copy_only=False)
    flat, row = flat.filter(pa.array(full)), row[full]
    words = np.bincount(row, minlength=len(texts)).astype(np.int32)
    coded = flat.dictionary_encode()
    order_of = np.argsort(np.argsort(coded.dictionary.to_numpy(zero_copy_only=False)))
    code = order_of[coded.indices.to_numpy()]
    key, counts = np.unique(code * max(1, len(texts)) + row, return_counts=True)
    term, at = np.divmod(key, max(1, len(texts)))
    ends = np.searchsorted(term, np.arange(len(order_of) + 1)).astype(np.int32)
    names = coded.dictionary.take(pa.array(np.argsort(order_of)))
    offsets = pa.array(ends)
    return pa.array(words), pa.table(
        {
            "term": names,
            "rows": pa.ListArray.from_arrays(offsets, pa.array(at.astype(np.int32))),
            "counts": pa.ListArray.from_arrays(offsets, pa.array(counts.astype(np.int32))),
        }
    )


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    """Turn a full or failing disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"the index in {root} cannot be read or written ({error}): free or repair the disk and "
            "run again; the releases that were there are untouched"
        ) from error
