"""The Weaviate index: releases as collections of a server, behind the same contract.

Belongs here: collections, aliases, batches and queries of a Weaviate server. Does not belong here:
the connection and its errors (`weaviate_server.py`), what objects mean, hybrid search,
verification, where URL and key come from.

A release is a collection with an alias of the release's own name; that alias is created last, so a
release is complete or has none. A second alias, the shop's, names the release that is served. A new
release is written into a *spare* collection: one whose release is no longer kept, or that an
interrupted build left. The spare is asked for the content hash of everything it holds, and only
what differs is sent, so one percent of change costs about two (the spare is one release behind).
The collection that is served is never written to.

    Recsys_<shop>                    alias: what is served
    Recsys_<shop>_r_<release>        alias: a complete release
    Recsys_<shop>__<family>_<n>      collections; their description says what is in them
"""

import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.digests import json_sha256
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
    Filter,
    Objects,
    object_id,
    words,
)
from recsys_assets.indexing.weaviate_server import Patience, Server, remedy

VECTOR = "item"
"""Name of the objects' one vector."""

BATCH = 500
BATCH_BYTES = 5_000_000
"""A server takes GRPC_MAX_MESSAGE_SIZE bytes in one message: 10 MB, or 104 MB in newer ones."""

_SCAN = 2_000
_MANY_IDS = 500
_TRIES = 3


class WeaviateIndex:
    """A `VectorIndex` on a Weaviate server, for the shop called `shop`.

    `url`: http(s)://host[:port] of REST; gRPC is on the same host. `api_key` is sent to the server
    and shown nowhere. Connects at once and speaks to nothing but that server.
    """

    def __init__(
        self,
        url: str,
        grpc_port: int,
        api_key: str | None,
        shop: str,
        settings: Settings | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.alias = f"Recsys_{shop}"
        self._server = Server(url, grpc_port, api_key, patience or Patience())
        self._ask, self._where = self._server.ask, self._server.where
        self._client = self._server.client

    # -- releases ------------------------------------------------------------------------------

    def build(self, release: Release, objects: Objects, protect: Collection[str] = ()) -> Built:
        """See `VectorIndex.build`. Run one at a time per shop: the lake's run lock sees to it."""
        self._forget_deleted()
        complete = self._complete()
        if release.id in complete:
            return Built(0, 0, len(objects), 0)
        target = self._spare(release, complete, protect)
        stored = self._hashes(target)
        wanted = dict(zip(objects.item_ids.to_pylist(), objects.hashes.to_pylist(), strict=True))
        changed = [n for n, (i, h) in enumerate(wanted.items()) if stored.get(i) != h]
        gone = sorted(set(stored) - set(wanted))
        for some in _batches(objects, changed):
            self._write(target, objects.take(some))
        for first in range(0, len(gone), _MANY_IDS):
            self._remove(target, gone[first : first + _MANY_IDS])
        count = self._count(target)
        if count != len(objects):
            raise VectorIndexError(
                f"{self._where} holds {count:,} objects of release {release.id} after "
                f"{len(objects):,} were sent: run again to send what is missing"
            )
        self._settle(target)
        sequence = 1 + max((n for _, _, n in complete.values()), default=0)
        self._describe(target, release, sequence)
        self._ask(
            "naming a release",
            lambda: self._client.alias.create(
                alias_name=self._name(release.id), target_collection=target
            ),
            kind="write",
        )
        size = len(changed) * objects.dimension * 4
        return Built(len(changed), len(gone), len(objects) - len(changed), size)

    def releases(self) -> list[Release]:
        """See `VectorIndex.releases`."""
        found = sorted(self._complete().values(), key=lambda entry: entry[2])
        return [release for release, _, _ in found]

    def release(self, release_id: str) -> Release:
        """See `VectorIndex.release`."""
        return self._described(self._collection(release_id))[0]

    def active(self) -> str | None:
        """See `VectorIndex.active`."""
        aliases = self._living_aliases()
        target = aliases.get(self.alias)
        named = [a for a, c in aliases.items() if c == target and self._release_of(a)]
        return self._release_of(named[0]) if named else None

    def activate(self, release_id: str) -> None:
        """See `VectorIndex.activate`."""
        target, aliases = self._collection(release_id), self._aliases()
        if aliases.get(self.alias) == target:
            return
        alias = self._client.alias
        if self.alias in aliases:
            self._ask(
                "moving the alias",
                lambda: alias.update(alias_name=self.alias, new_target_collection=target),
                kind="write",
            )
        else:
            self._ask(
                "creating the alias",
                lambda: alias.create(alias_name=self.alias, target_collection=target),
                kind="write",
            )
        if self.active() != release_id:
            raise UnavailableError(
                f"{self._where} did not move the alias {self.alias} to release {release_id}: "
                "try again"
            )

    def drop(self, release_id: str) -> None:
        """See `VectorIndex.drop`."""
        target = self._collection(release_id)
        if self._aliases().get(self.alias) == target:
            raise VectorIndexError(
                f"release {release_id} is active: activate another one before dropping it"
            )
        self._unalias(self._name(release_id))
        self._delete(target)

    def freed_by(self, release_ids: Collection[str]) -> int:
        """See `VectorIndex.freed_by`."""
        going = (self.release(r) for r in release_ids)
        return sum(4 * r.objects * r.dimension for r in going)

    # -- queries -------------------------------------------------------------------------------

    def count(self, release_id: str) -> int:
        """See `VectorIndex.count`."""
        return self._count(self._collection(release_id))

    def fetch(self, release_id: str, item_ids: Sequence[str]) -> Stored:
        """See `VectorIndex.fetch`."""
        collection = self._client.collections.use(self._collection(release_id))
        rows: dict[str, tuple[str, list[float]]] = {}
        asked = sorted({object_id(i) for i in item_ids})
        for first in range(0, len(asked), _MANY_IDS):
            some = asked[first : first + _MANY_IDS]
            reply = self._ask(
                "reading objects",
                partial(
                    collection.query.fetch_objects_by_ids,
                    some,
                    limit=len(some),
                    include_vector=[VECTOR],
                    return_properties=["item_id", "content_hash"],
                ),
            )
            for found in reply.objects:
                rows[found.properties["item_id"]] = (
                    found.properties["content_hash"], found.vector[VECTOR]
                )  # fmt: skip
        ids = sorted(rows)
        vectors = np.array([rows[i][1] for i in ids], dtype=np.float32)
        return Stored(ids, [rows[i][0] for i in ids], vectors)

    def nearest(
        self, release_id: str, queries: Vectors, k: int, where: Filter = EVERYTHING
    ) -> list[Hits]:
        """See `VectorIndex.nearest`."""
        from weaviate.classes.query import MetadataQuery

        check_depth(k)
        name = self._collection(release_id)
        self._described(name)[0].refuse(queries)
        collection = self._client.collections.use(name)
        conditions = _conditions(where)
        found = []
        for vector in queries.matrix.tolist():
            reply = self._ask(
                "searching by vector",
                partial(
                    collection.query.near_vector,
                    near_vector=vector,
                    target_vector=VECTOR,
                    limit=k,
                    filters=conditions,
                    return_metadata=MetadataQuery(distance=True),
                    return_properties=["item_id"],
                ),
            )
            found.append(
                _hits([(o.properties["item_id"], -o.metadata.distance) for o in reply.objects])
            )
        return found

    def matching(self, release_id: str, text: str, k: int, where: Filter = EVERYTHING) -> Hits:
        """See `VectorIndex.matching`."""
        from weaviate.classes.query import MetadataQuery

        check_depth(k)
        collection = self._client.collections.use(self._collection(release_id))
        asked = words(text)
        if not asked:
            return Hits([], [])
        reply = self._ask(
            "searching by words",
            lambda: collection.query.bm25(
                query=" ".join(asked),
                query_properties=["text"],
                limit=k,
                filters=_conditions(where),
                return_metadata=MetadataQuery(score=True),
                return_properties=["item_id"],
            ),
        )
        return _hits([(o.properties["item_id"], o.metadata.score) for o in reply.objects])

    def close(self) -> None:
        """See `VectorIndex.close`."""
        self._server.close()

    def clear(self) -> None:
        """See `VectorIndex.clear`."""
        for alias in self._aliases():
            self._unalias(alias)
        for collection in self._collections():
            self._delete(collection)

    # -- collections and aliases ---------------------------------------------------------------

    def _name(self, release_id: str) -> str:
        return f"{self.alias}_r_{release_id}"

    def _release_of(self, alias: str) -> str | None:
        match = re.fullmatch(re.escape(self.alias) + r"_r_([0-9a-f]{12})", alias)
        return match[1] if match else None

    def _aliases(self) -> dict[str, str]:
        """Alias -> collection, everything of this shop."""
        found = self._ask("listing aliases", self._client.alias.list_all)
        return {
            a: entry.collection
            for a, entry in found.items()
            if a == self.alias or self._release_of(a)
        }

    def _living_aliases(self) -> dict[str, str]:
        """Aliases of collections that are there: the server keeps aliases of deleted ones."""
        there = set(self._collections())
        return {a: c for a, c in self._aliases().items() if c in there}

    def _forget_deleted(self) -> None:
        """Remove the aliases of releases whose collection somebody deleted."""
        there = set(self._collections())
        for alias, collection in self._aliases().items():
            if collection not in there and self._release_of(alias):
                self._unalias(alias)

    def _collections(self) -> list[str]:
        found = self._ask("listing collections", self._client.collections.list_all)
        own = re.compile(re.escape(self.alias) + r"__[0-9a-f]{8}_\d+")
        return sorted(name for name in found if own.fullmatch(name))

    def _complete(self) -> dict[str, tuple[Release, str, int]]:
        """Release id -> release, collection, number of its build."""
        found = {}
        for alias, collection in self._living_aliases().items():
            release_id = self._release_of(alias)
            if release_id is not None:
                release, sequence = self._described(collection)
                if release.id == release_id:
                    found[release_id] = (release, collection, sequence)
        return found

    def _collection(self, release_id: str) -> str:
        found = self._aliases().get(self._name(release_id))
        exists = self._client.collections.exists
        if found is None or not self._ask("finding a collection", lambda: exists(found)):
            raise UnknownReleaseError(
                f"there is no complete release {release_id!r} of {self.alias} on {self._where}: "
                "materialize vector_index to build it"
            )
        return found

    def _described(self, collection: str) -> tuple[Release, int]:
        config = self._ask(
            "reading a collection's description",
            lambda: self._client.collections.use(collection).config.get(simple=True),
        )
        document = json.loads(config.description or "null")
        if not isinstance(document, dict) or "release" not in document:
            raise VectorIndexError(
                f"the collection {collection} on {self._where} does not say what is in it: "
                "somebody changed its description; delete it and materialize vector_index again"
            )
        return Release(**document["release"]), document["sequence"]

    def _describe(self, collection: str, release: Release, sequence: int) -> None:
        text = json.dumps({"release": asdict(release), "sequence": sequence}, sort_keys=True)
        self._ask(
            "describing a collection",
            lambda: self._client.collections.use(collection).config.update(description=text),
            kind="write",
        )

    def _spare(
        self,
        release: Release,
        complete: dict[str, tuple[Release, str, int]],
        protect: Collection[str],
    ) -> str:
        """A collection to write the release into, that nobody is served from."""
        served = self._aliases().get(self.alias)
        family = f"{self.alias}__{self._family(release)}_"
        kept = sorted(complete.values(), key=lambda entry: entry[2])
        names = self._collections()
        spare = [n for n in names if n != served and n not in {c for _, c, _ in kept}]
        removable = [(r, c) for r, c, _ in kept if c != served and r.id not in protect]
        while len(kept) >= self.settings.keep and removable:
            oldest, collection = removable.pop(0)
            kept = [entry for entry in kept if entry[0].id != oldest.id]
            self._unalias(self._name(oldest.id))
            spare.append(collection)
        usable = [n for n in spare if n.startswith(family)]
        for name in spare:
            if name not in usable[:1]:
                self._delete(name)
        if usable:
            return usable[0]
        # The shop's alias may still name a deleted collection: it must not come to name this one.
        names = [*names, *self._aliases().values()]
        taken = {int(n.removeprefix(family)) for n in names if n.startswith(family)}
        name = f"{family}{1 + max(taken, default=0)}"
        self._create(name)
        return name

    def _family(self, release: Release) -> str:
        """Collections of one family have the same schema and vectors of the same model."""
        how = self.settings.model_dump(include=_SCHEMA_SETTINGS)
        return json_sha256([release.family, how])[:8]

    def _create(self, name: str) -> None:
        from weaviate.classes import config as c

        field = {"tokenization": c.Tokenization.FIELD, "index_searchable": False}
        kinds: dict[pa.DataType, tuple[Any, dict[str, Any]]] = {
            pa.string(): (c.DataType.TEXT, field),
            pa.list_(pa.string()): (c.DataType.TEXT_ARRAY, field),
            pa.float64(): (c.DataType.NUMBER, {"index_range_filters": True}),
            pa.int64(): (c.DataType.INT, {"index_range_filters": True}),
            pa.bool_(): (c.DataType.BOOL, {}),
        }
        properties = [
            c.Property(name="item_id", data_type=c.DataType.TEXT, **field),
            c.Property(
                name="content_hash", data_type=c.DataType.TEXT, index_filterable=False, **field
            ),
        ]
        for prop, kind in PROPERTIES.items():
            data_type, more = kinds[kind]
            if prop == "text":
                more = {"tokenization": c.Tokenization.WORD, "index_filterable": False}
            properties.append(c.Property(name=prop, data_type=data_type, **more))
        self._ask(
            "creating a collection",
            lambda: self._client.collections.create(
                name,
                description="null",
                properties=properties,
                inverted_index_config=c.Configure.inverted_index(
                    bm25_b=0.75, bm25_k1=1.2, stopwords_preset=c.StopwordsPreset.NONE
                ),
                vector_config=c.Configure.Vectors.self_provided(
                    name=VECTOR,
                    quantizer=self._quantizer(),
                    vector_index_config=c.Configure.VectorIndex.hnsw(
                        distance_metric=c.VectorDistances.DOT,
                        ef=self.settings.search_effort,
                        ef_construction=self.settings.build_effort,
                        max_connections=self.settings.connections,
                        filter_strategy=c.VectorFilterStrategy.ACORN,
                    ),
                ),
            ),
            kind="write",
        )

    def _quantizer(self) -> Any:
        """The configured quantizer; "none" has to be said to servers that compress by default."""
        from weaviate.classes.config import Configure

        quantizer = Configure.VectorIndex.Quantizer
        if self.settings.quantization == "none":
            return quantizer.none() if self._server.version >= (1, 33) else None
        return {"rq": quantizer.rq, "sq": quantizer.sq, "bq": quantizer.bq}[
            self.settings.quantization
        ]()

    def _unalias(self, alias: str) -> None:
        self._ask(
            "removing an alias",
            lambda: self._client.alias.delete(alias_name=alias),
            kind="write",
        )

    def _delete(self, collection: str) -> None:
        self._ask(
            "deleting a collection",
            lambda: self._client.collections.delete(collection),
            kind="write",
        )

    # -- objects -------------------------------------------------------------------------------

    def _hashes(self, collection: str) -> dict[str, str]:
        """Item id -> content hash of everything a collection holds, as the server says."""
        used = self._client.collections.use(collection)
        found: dict[str, str] = {}
        after = None
        while True:
            reply = self._ask(
                "reading what a collection holds",
                partial(
                    used.query.fetch_objects,
                    limit=_SCAN,
                    after=after,
                    return_properties=["item_id", "content_hash"],
                ),
            )
            for entry in reply.objects:
                found[entry.properties["item_id"]] = entry.properties["content_hash"]
            if len(reply.objects) < _SCAN:
                return found
            after = reply.objects[-1].uuid

    def _write(self, collection: str, objects: Objects) -> None:
        """Send objects; what the server refuses is sent again, and at last named in the error."""
        from weaviate.exceptions import WeaviateInsertManyAllFailedError

        used = self._client.collections.use(collection)
        waiting = _data_objects(objects)
        for _ in range(_TRIES):
            try:
                reply = self._ask(
                    "writing objects",
                    partial(used.data.insert_many, waiting),
                    kind="write",
                    but=WeaviateInsertManyAllFailedError,
                )
            except WeaviateInsertManyAllFailedError as error:
                reason = self._server.plain(str(error).rpartition("set of all errors:")[2])
                continue
            if not reply.errors:
                return
            waiting = [waiting[n] for n in sorted(reply.errors)]
            reason = self._server.plain(next(iter(reply.errors.values())).message)
        ids = ", ".join(str(o.properties["item_id"]) for o in waiting[:5])
        raise UnavailableError(
            f"{self._where} refused {len(waiting)} objects {_TRIES} times (items {ids}): "
            f"{remedy(reason)}. What is served is untouched. It said: {reason}"
        )

    def _remove(self, collection: str, item_ids: Sequence[str]) -> None:
        from weaviate.classes.query import Filter as Where

        ids = [object_id(i) for i in item_ids]
        reply = self._ask(
            "deleting objects",
            lambda: self._client.collections.use(collection).data.delete_many(
                where=Where.by_id().contains_any(ids)
            ),
            kind="write",
        )
        if reply.failed:
            raise UnavailableError(
                f"{self._where} failed to delete {reply.failed} objects: run again"
            )

    def _count(self, collection: str) -> int:
        reply = self._ask(
            "counting objects",
            lambda: self._client.collections.use(collection).aggregate.over_all(total_count=True),
        )
        return int(reply.total_count)

    def _settle(self, collection: str) -> None:
        """Wait until the server has put every vector into its graph (ASYNC_INDEXING)."""
        limit = time.monotonic() + self._server.patience.settle
        while True:
            nodes = self._ask(
                "asking for the state of indexing",
                lambda: self._client.cluster.nodes(collection, output="verbose"),
            )
            waiting = sum(s.vector_queue_length or 0 for n in nodes for s in n.shards or [])
            if not waiting:
                return
            if time.monotonic() > limit:
                raise UnavailableError(
                    f"{self._where} still has {waiting:,} vectors to index after "
                    f"{self._server.patience.settle:.0f} s: give it more CPU, then run again"
                )
            time.sleep(0.5)


_EMPTY: tuple[Any, ...] = (None, "", [])
_SCHEMA_SETTINGS = {"connections", "build_effort", "search_effort", "quantization"}


def _conditions(where: Filter) -> Any:
    from weaviate.classes.query import Filter as Where

    parts = []
    for condition in where.conditions:
        by, value = Where.by_property(condition.property), condition.value
        match condition.operator:
            case "equals":
                parts.append(by.equal(value))
            case "at_most":
                parts.append(by.less_or_equal(value))
            case "at_least":
                parts.append(by.greater_or_equal(value))
            case "above":
                parts.append(by.greater_than(value))
            case "contains":
                parts.append(by.contains_any([value]))
            case "one_of":
                parts.append(by.contains_any(list(value) if isinstance(value, tuple) else [value]))
    return Where.all_of(parts) if len(parts) > 1 else parts[0] if parts else None


def _hits(pairs: list[tuple[str, float]]) -> Hits:
    best = sorted(pairs, key=lambda pair: (-round(pair[1], 5), pair[0]))
    return Hits([item for item, _ in best], [score for _, score in best])


def _batches(objects: Objects, rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """`rows` in runs of at most BATCH objects and some BATCH_BYTES bytes, an object at least."""
    texts = pc.binary_length(objects.properties["text"].take(pa.array(rows, pa.int64())))
    size = pc.fill_null(texts, 0).to_numpy() + 4 * objects.dimension + 1_000
    first = full = 0
    for n in range(len(rows)):
        if n > first and (n - first == BATCH or full + size[n] > BATCH_BYTES):
            yield rows[first:n]
            first = n
            full = 0
        full += int(size[n])
    if len(rows):
        yield rows[first:]


def _data_objects(objects: Objects) -> list[Any]:
    """What is empty is left out: the server keeps it, but indexes no empty text."""
    from weaviate.classes.data import DataObject

    rows = objects.properties.to_pylist()
    return [
        DataObject(
            uuid=object_id(item_id),
            properties={
                "item_id": item_id,
                "content_hash": content_hash,
                **{name: value for name, value in row.items() if value not in _EMPTY},
            },
            vector={VECTOR: vector},
        )
        for item_id, content_hash, row, vector in zip(
            objects.item_ids.to_pylist(),
            objects.hashes.to_pylist(),
            rows,
            objects.vectors.tolist(),
            strict=True,
        )
    ]
