"""A Weaviate server in this process: its REST and gRPC protocol over real sockets.

It keeps objects in dictionaries, answers searches by comparing everything, and refuses what the
real server refuses as far as our code could get it wrong (read in the server's source, 1.32 to
1.39): names that are no GraphQL names or differ from another in case only, reserved and unknown
properties, filter values of another type than the property or without a letter in it, conditions on
what has no index, a cursor together with a search, more than 10,000 results, messages longer than
GRPC_MAX_MESSAGE_SIZE, numbers that JSON cannot say, a change of what cannot be changed. Like the
server it trims texts that are compared as a whole, indexes no empty text, quantizes new collections
that do not ask it not to, and keeps the aliases of a deleted collection. Its purpose is what a
healthy server will not do on request: see `Trouble`. It is not a model of Weaviate's performance or
recall.
"""

import json
import math
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from weaviate.proto.v1 import (
    aggregate_pb2,
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    properties_pb2,
    search_get_pb2,
    weaviate_pb2_grpc,
)

_NAME = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")
_PROPERTY = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")
_RESERVED = ("id", "_id", "_additional")
_MOST = 10_000
_HNSW = {
    "cleanupIntervalSeconds": 300, "distance": "cosine", "dynamicEfFactor": 8, "dynamicEfMax": 500,
    "dynamicEfMin": 100, "ef": -1, "efConstruction": 128, "filterStrategy": "acorn",
    "flatSearchCutoff": 40000, "maxConnections": 32, "skip": False,
    "vectorCacheMaxObjects": 1000000000000, "bq": {"enabled": False}, "pq": {"enabled": False},
    "sq": {"enabled": False}, "rq": {"enabled": False}, "multivector": {"enabled": False},
    "skipDefaultQuantization": False, "trackDefaultQuantization": False,
}  # fmt: skip
"""What the server answers for settings that were not given."""

_QUANTIZERS = ("bq", "pq", "sq", "rq")


@dataclass
class Trouble:
    """What goes wrong on request. `batches` counts down: a batch meets its trouble when it is 0."""

    version: str = "1.39.0"
    key: str | None = None
    """The only accepted API key"""
    refuse: Callable[[str], str | None] = lambda item_id: None
    """Why an object is refused, by item id; None lets it in"""
    reset_at_batch: int | None = None
    """The batch of this number (0 = first) is half written, then its connection is lost"""
    read_only: str | None = None
    """What every write is answered with"""
    hang: threading.Event | None = None
    """Every request waits for it"""
    drip: bool = False
    """The first bytes of every answer over REST come one by one, ten a second for three seconds"""
    most_bytes: int = 10_485_760
    """Longest message accepted: the smallest default that GRPC_MAX_MESSAGE_SIZE ever had"""
    queue: list[int] = field(default_factory=list)
    """Lengths of the vector queue, one per question; 0 afterwards"""


@dataclass
class _Object:
    id: str
    properties: dict[str, Any]
    vector: np.ndarray


class FakeWeaviate:
    """Start with `with FakeWeaviate() as server`; `url` and `grpc_port` say where it listens."""

    def __init__(self) -> None:
        self.trouble = Trouble()
        self.schema: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, _Object]] = {}
        self.aliases: dict[str, str] = {}
        self.batches = 0
        self.written: Counter[str] = Counter()
        """Objects accepted, per collection"""
        self.before_change: Callable[[str], None] = lambda what: None
        """Called before every change with its name; may raise to stop the server there"""
        self.lock = threading.RLock()

    def __enter__(self) -> "FakeWeaviate":
        self.rest = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.rest.daemon_threads = True
        threading.Thread(target=self.rest.serve_forever, daemon=True).start()
        self.grpc = grpc.server(
            futures.ThreadPoolExecutor(4),
            options=[("grpc.max_receive_message_length", self.trouble.most_bytes)],
        )
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Grpc(self), self.grpc)
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()
        self.url = f"http://127.0.0.1:{self.rest.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        if self.trouble.hang is not None:
            self.trouble.hang.set()
        self.rest.shutdown()
        self.rest.server_close()
        self.grpc.stop(0).wait()

    @property
    def version(self) -> tuple[int, ...]:
        """Major and minor."""
        return tuple(int(n) for n in self.trouble.version.split(".")[:2])

    def resolve(self, name: str) -> str | None:
        """The collection that a name or alias means."""
        name = self.aliases.get(name, name)
        return name if name in self.schema else None

    def wait(self) -> None:
        if self.trouble.hang is not None:
            self.trouble.hang.wait()

    def accepts(self, header: str | None) -> bool:
        return self.trouble.key is None or header == f"Bearer {self.trouble.key}"

    # -- REST ----------------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON of a REST request."""
        parts = path.split("?")[0].removeprefix("/v1/").split("/")
        if method != "GET" and self.trouble.read_only:
            return 422, _error(self.trouble.read_only)
        with self.lock:
            match [method, *parts]:
                case ["GET", "meta"]:
                    return 200, {
                        "hostname": self.url, "version": self.trouble.version, "modules": {},
                        "grpcMaxMessageSize": self.trouble.most_bytes,
                    }  # fmt: skip
                case ["GET", "schema"]:
                    return 200, {"classes": list(self.schema.values())}
                case ["POST", "schema"]:
                    return self._create(body)
                case ["GET", "schema", name]:
                    found = self.resolve(name)
                    return (200, self.schema[found]) if found else (404, None)
                case ["PUT", "schema", name]:
                    return self._update(name, body)
                case ["DELETE", "schema", name]:
                    self.before_change("delete collection")
                    if name in self.aliases:
                        return 422, _error("cannot delete a collection by its alias")
                    self.schema.pop(name, None)
                    self.objects.pop(name, None)
                    return 200, None
                case ["GET", "aliases"]:
                    return 200, {"aliases": [self._alias(a) for a in sorted(self.aliases)]}
                case ["POST", "aliases"]:
                    self.before_change("create alias")
                    name, target = body["alias"], body["class"]
                    if not _NAME.fullmatch(name) or name in self.aliases or name in self.schema:
                        return 422, _error(f"alias name {name} is invalid or taken")
                    if target not in self.schema:
                        return 422, _error(f"class {target} does not exist")
                    self.aliases[name] = target
                    return 200, self._alias(name)
                case ["PUT", "aliases", name]:
                    self.before_change("move alias")
                    if name not in self.aliases:
                        return 404, None
                    if body["class"] not in self.schema:
                        return 422, _error(f"class {body['class']} does not exist")
                    self.aliases[name] = body["class"]
                    return 200, self._alias(name)
                case ["DELETE", "aliases", name]:
                    self.before_change("delete alias")
                    return (204, None) if self.aliases.pop(name, None) else (404, None)
                case ["GET", "nodes", name]:
                    return self._nodes(name)
        return 404, _error(f"no such endpoint: {method} {path}")

    def _alias(self, name: str) -> dict[str, str]:
        return {"alias": name, "class": self.aliases[name]}

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.before_change("create collection")
        name = body["class"]
        taken = {known.lower() for known in (*self.schema, *self.aliases)}
        if not _NAME.fullmatch(name) or name.lower() in taken:
            return 422, _error(f"class name {name} is invalid or taken")
        if "vectorConfig" not in body or "vectorizer" in body:
            return 422, _error("expected named vectors")
        for prop in body["properties"]:
            if not _PROPERTY.fullmatch(prop["name"]) or prop["name"] in _RESERVED:
                return 422, _error(f"{prop['name']} is not a valid property name")
            textual = prop["dataType"][0] in ("text", "text[]")
            if prop.get("tokenization") and not textual:
                return 422, _error("tokenization is not allowed for this data type")
            if prop.get("indexSearchable") and not textual:
                return 422, _error("indexSearchable is allowed only for text/text[]")
            if prop.get("indexRangeFilters") and prop["dataType"][0] not in ("int", "number"):
                return 422, _error("indexRangeFilters is allowed only for number/int/date")
            prop.setdefault("indexFilterable", True)
            prop.setdefault("indexSearchable", textual)
            prop.setdefault("indexRangeFilters", False)
        inverted = body.setdefault("invertedIndexConfig", {})
        inverted.setdefault("bm25", {"b": 0.75, "k1": 1.2})
        inverted.setdefault("cleanupIntervalSeconds", 60)
        inverted.setdefault("stopwords", {"preset": "en", "additions": None, "removals": None})
        body.setdefault("multiTenancyConfig", {"enabled": False})
        body.setdefault("replicationConfig", {"factor": 1, "asyncEnabled": False})
        body.setdefault("shardingConfig", {"desiredCount": 1})
        for vector in body["vectorConfig"].values():
            config = _HNSW | vector["vectorIndexConfig"]
            chosen = [q for q in _QUANTIZERS if config[q]["enabled"]]
            if len(chosen) > 1:
                return 422, _error(f"invalid hnsw config: two compression methods: {chosen}")
            if not chosen and not config["skipDefaultQuantization"] and self.version >= (1, 33):
                config |= {"rq": {"enabled": True, "bits": 8}, "trackDefaultQuantization": True}
            vector["vectorIndexConfig"] = config
        self.schema[name] = body
        self.objects[name] = {}
        return 200, body

    def _update(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.before_change("update collection")
        if name not in self.schema:
            return 404, None
        old = self.schema[name]
        for fixed in set(old) - {"description", "invertedIndexConfig", "replicationConfig"}:
            if body.get(fixed) != old[fixed]:
                return 422, _error(f"{fixed} is immutable")
        self.schema[name] = body
        return 200, body

    def _nodes(self, name: str) -> tuple[int, Any]:
        found = self.resolve(name)
        if found is None:
            return 404, _error("class not found")
        waiting = self.trouble.queue.pop(0) if self.trouble.queue else 0
        shard = {
            "name": "s0", "class": found, "objectCount": len(self.objects[found]),
            "vectorIndexingStatus": "READY", "vectorQueueLength": waiting, "compressed": False,
            "loaded": True,
        }  # fmt: skip
        node = {
            "name": "n0", "status": "HEALTHY", "version": self.trouble.version, "gitHash": "0",
            "shards": [shard], "stats": {"objectCount": 0, "shardCount": 1},
        }  # fmt: skip
        return 200, {"nodes": [node]}


class _Refused(Exception):  # noqa: N818
    pass


class _Grpc(weaviate_pb2_grpc.WeaviateServicer):
    """The gRPC half of the server."""

    def __init__(self, server: FakeWeaviate) -> None:
        self.server = server

    def _enter(self, context: grpc.ServicerContext) -> None:
        self.server.wait()
        headers = dict(context.invocation_metadata())
        if not self.server.accepts(headers.get("authorization")):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unauthorized: invalid api key")

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._enter(context)
        server, trouble = self.server, self.server.trouble
        errors = []
        with server.lock:
            number, server.batches = server.batches, server.batches + 1
            server.before_change("batch")
            half = len(request.objects) // 2
            for index, sent in enumerate(request.objects):
                if number == trouble.reset_at_batch and index >= half:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                try:
                    self._store(sent)
                except _Refused as error:
                    errors.append(
                        batch_pb2.BatchObjectsReply.BatchError(index=index, error=str(error))
                    )
        return batch_pb2.BatchObjectsReply(took=0.01, errors=errors)

    def _store(self, sent: Any) -> None:
        server = self.server
        found = server.resolve(sent.collection)
        if found is None:
            raise _Refused(f"class {sent.collection} not found in schema")
        schema = {p["name"]: p["dataType"][0] for p in server.schema[found]["properties"]}
        values: dict[str, Any] = dict(sent.properties.non_ref_properties)
        for array in sent.properties.text_array_properties:
            values[array.prop_name] = list(array.values)
        values |= {name: [] for name in sent.properties.empty_list_props}
        kinds = {"text": str, "number": float, "int": float, "boolean": bool, "text[]": list}
        for name, value in values.items():
            if name not in schema:
                raise _Refused(f"no such property {name}")
            if not isinstance(value, kinds[schema[name]]):
                raise _Refused(f"invalid {schema[name]} property {name}: {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise _Refused(f"json: unsupported value {value} of {name}")
            if schema[name] == "int":
                if value != int(value):
                    raise _Refused(f"invalid integer property {name}: {value!r}")
                values[name] = int(value)
        reason = server.trouble.read_only or server.trouble.refuse(values["item_id"])
        if reason:
            raise _Refused(reason)
        names = list(server.schema[found]["vectorConfig"])
        if [v.name for v in sent.vectors] != names or sent.vector_bytes:
            raise _Refused(f"expected the vectors {names}")
        vector = np.frombuffer(sent.vectors[0].vector_bytes, dtype="<f4")
        others = server.objects[found].values()
        if others and len(next(iter(others)).vector) != len(vector):
            raise _Refused("new node has a vector with another length")
        key = str(uuid.UUID(sent.uuid))
        server.objects[found][key] = _Object(key, values, vector)
        server.written[found] += 1

    def BatchDelete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._enter(context)
        with self.server.lock:
            self.server.before_change("delete objects")
            if self.server.trouble.read_only:
                context.abort(grpc.StatusCode.INTERNAL, self.server.trouble.read_only)
            objects, schema = self._open(request.collection, context)
            matched = [
                o.id for o in objects.values() if self._meets(o, request.filters, schema, context)
            ]
            for key in matched:
                del objects[key]
        return batch_delete_pb2.BatchDeleteReply(
            took=0.01, failed=0, matches=len(matched), successful=len(matched)
        )

    def Aggregate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._enter(context)
        with self.server.lock:
            objects, _ = self._open(request.collection, context)
            single = aggregate_pb2.AggregateReply.Single(objects_count=len(objects))
        return aggregate_pb2.AggregateReply(took=0.01, single_result=single)

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._enter(context)
        with self.server.lock:
            objects, schema = self._open(request.collection, context)
            if request.limit > _MOST:
                context.abort(grpc.StatusCode.UNKNOWN, "query maximum results exceeded")
            if request.after and (
                request.HasField("filters")
                or request.HasField("near_vector")
                or request.HasField("bm25_search")
            ):
                context.abort(grpc.StatusCode.UNKNOWN, "cursor api: other params cannot be set")
            rows = sorted(objects.values(), key=lambda o: o.id)
            if request.HasField("filters"):
                rows = [o for o in rows if self._meets(o, request.filters, schema, context)]
            distance: dict[str, float] = {}
            score: dict[str, float] = {}
            if request.HasField("near_vector"):
                near = request.near_vector
                if list(near.targets.target_vectors) != list(schema["__vectors__"]):
                    context.abort(grpc.StatusCode.UNKNOWN, "missing target vector")
                query = np.frombuffer(near.vectors[0].vector_bytes, dtype="<f4")
                for o in rows:
                    if len(o.vector) != len(query):
                        context.abort(grpc.StatusCode.UNKNOWN, "vector lengths don't match")
                    distance[o.id] = -float(o.vector @ query)
                rows.sort(key=lambda o: distance[o.id])
            elif request.HasField("bm25_search"):
                (name,) = request.bm25_search.properties
                if not schema[name]["indexSearchable"]:
                    context.abort(grpc.StatusCode.UNKNOWN, f"{name} has no searchable index")
                score = _bm25(request.bm25_search.query, objects, name)
                rows = sorted((o for o in rows if o.id in score), key=lambda o: -score[o.id])
            elif request.after:
                rows = [o for o in rows if o.id > request.after]
            rows = rows[: request.limit or 10]
            return search_get_pb2.SearchReply(
                took=0.01, results=[self._result(o, request, distance, score) for o in rows]
            )

    def _open(
        self, name: str, context: grpc.ServicerContext
    ) -> tuple[dict[str, _Object], dict[str, Any]]:
        found = self.server.resolve(name)
        if found is None:
            context.abort(grpc.StatusCode.UNKNOWN, f"could not find class {name} in schema")
        description = self.server.schema[found]
        schema = {p["name"]: p for p in description["properties"]}
        schema["__vectors__"] = description["vectorConfig"]
        return self.server.objects[found], schema

    def _result(
        self, o: _Object, request: Any, distance: dict[str, float], score: dict[str, float]
    ) -> Any:
        wanted = request.metadata
        meta = search_get_pb2.MetadataResult(id=o.id, id_as_bytes=uuid.UUID(o.id).bytes)
        if wanted.distance and o.id in distance:
            meta.distance, meta.distance_present = distance[o.id], True
        if wanted.score and o.id in score:
            meta.score, meta.score_present = score[o.id], True
        for name in wanted.vectors:
            meta.vectors.append(
                base_pb2.Vectors(
                    name=name, vector_bytes=o.vector.tobytes(),
                    type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32,
                )
            )  # fmt: skip
        fields = {
            name: properties_pb2.Value(text_value=o.properties[name])
            for name in request.properties.non_ref_properties
            if isinstance(o.properties.get(name), str)
        }
        return search_get_pb2.SearchResult(
            metadata=meta,
            properties=search_get_pb2.PropertiesResult(
                target_collection=request.collection,
                non_ref_props=properties_pb2.Properties(fields=fields),
            ),
        )

    def _meets(
        self, o: _Object, condition: Any, schema: dict[str, Any], context: grpc.ServicerContext
    ) -> bool:
        op = base_pb2.Filters.Operator.Name(condition.operator).removeprefix("OPERATOR_")
        if op in ("AND", "OR"):
            parts = (self._meets(o, f, schema, context) for f in condition.filters)
            return all(parts) if op == "AND" else any(parts)
        name = condition.target.property
        kind = condition.WhichOneof("test_value")
        wanted = getattr(condition, kind)
        if kind.endswith("_array"):
            wanted = list(wanted.values)
        if name == "_id":
            return o.id in (wanted if isinstance(wanted, list) else [wanted])
        declared = schema[name]
        if not declared["indexFilterable"] and not declared["indexRangeFilters"]:
            context.abort(grpc.StatusCode.UNKNOWN, f"{name} has no inverted index for filtering")
        fits = {
            "text": ("value_text", "value_text_array"),
            "text[]": ("value_text", "value_text_array"),
            "int": ("value_int",), "number": ("value_number",), "boolean": ("value_boolean",),
        }  # fmt: skip
        if kind not in fits[declared["dataType"][0]]:
            context.abort(
                grpc.StatusCode.UNKNOWN,
                f"data type filter cannot use {kind} on type {declared['dataType'][0]}",
            )
        value = o.properties.get(name)
        if isinstance(wanted, str | list):  # compared as a whole, trimmed; the empty is not indexed
            wanted = [w.strip() for w in ([wanted] if isinstance(wanted, str) else wanted)]
            if not any(wanted):
                context.abort(grpc.StatusCode.UNKNOWN, "only stopwords provided")
            held = {v.strip() for v in (value if isinstance(value, list) else [value or ""])}
            if op not in ("EQUAL", "CONTAINS_ANY"):
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"filter {op} on text")
            return bool(held & {w for w in wanted if w})
        if value is None:
            return False
        match op:
            case "EQUAL":
                return bool(value == wanted)
            case "LESS_THAN_EQUAL":
                return bool(value <= wanted)
            case "GREATER_THAN_EQUAL":
                return bool(value >= wanted)
            case "GREATER_THAN":
                return bool(value > wanted)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"filter {op}")
        return False


def _tokens(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.lower()) if word]


def _bm25(query: str, objects: dict[str, _Object], name: str) -> dict[str, float]:
    texts = {key: Counter(_tokens(o.properties.get(name, ""))) for key, o in objects.items()}
    usual = sum(sum(t.values()) for t in texts.values()) / max(1, len(texts))
    scores: dict[str, float] = {}
    for term in _tokens(query):
        holding = [key for key, t in texts.items() if term in t]
        rarity = math.log(1 + (len(texts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for key in holding:
            times = texts[key][term]
            length = sum(texts[key].values())
            gain = rarity * times / (times + 1.2 * (0.25 + 0.75 * length / usual))
            scores[key] = scores.get(key, 0.0) + gain
    return scores


def _error(text: str) -> dict[str, Any]:
    return {"error": [{"message": text}]}


def _handler(server: FakeWeaviate) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            server.wait()
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if server.accepts(self.headers.get("authorization")):
                status, reply = server.answer(self.command, self.path, body)
            else:
                status, reply = 401, {"code": 401, "message": "unauthorized: invalid api key"}
            data = b"" if reply is None else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            slow = 30 if server.trouble.drip else 0
            for n in range(slow):
                self.wfile.write(data[n : n + 1])
                time.sleep(0.1)
            self.wfile.write(data[slow:])

        do_GET = do_POST = do_PUT = do_DELETE = do  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    return Handler
