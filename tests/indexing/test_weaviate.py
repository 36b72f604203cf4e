"""A Weaviate server in trouble: a clear error in bounded time, and what is served stays whole."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Literal

import numpy as np
import pytest

from recsys_assets.core.settings.index import Index as Settings
from recsys_assets.indexing import weaviate
from recsys_assets.indexing.contract import (
    UnavailableError,
    UnknownReleaseError,
    VectorIndexError,
)
from recsys_assets.indexing.weaviate import WeaviateIndex
from recsys_assets.indexing.weaviate_server import Patience
from tests.indexing import shop
from tests.indexing.fake_weaviate import FakeWeaviate
from tests.indexing.shop import publish, query, release_of

OLD, NEW = shop.crowd(60), shop.crowd(62, changed=range(20), gone=[30])
SHORT = Patience(connect=2.0, query=0.4, write=0.4, settle=0.0)


@pytest.fixture
def server() -> Iterator[FakeWeaviate]:
    with FakeWeaviate() as server:
        yield server


def connect(
    server: FakeWeaviate, key: str | None = None, patience: Patience | None = None
) -> WeaviateIndex:
    return WeaviateIndex(server.url, server.grpc_port, key, "shop", Settings(), patience)


@pytest.fixture
def index(server: FakeWeaviate) -> Iterator[WeaviateIndex]:
    """A store that serves OLD."""
    index = connect(server)
    publish(index, OLD)
    yield index
    index.close()


def serves(index: WeaviateIndex, objects: shop.Objects) -> None:
    """The alias names exactly `objects`, whole."""
    release = release_of(objects).id
    assert index.active() == release
    assert index.count(release) == len(objects)
    stored = index.fetch(release, objects.item_ids.to_pylist())
    assert stored.hashes == objects.hashes.to_pylist()
    assert np.allclose(stored.vectors, objects.vectors)


def test_objects_refused_once_are_sent_again(index: WeaviateIndex, server: FakeWeaviate) -> None:
    tried: set[str] = set()

    def once(item_id: str) -> str | None:
        if item_id in ("i00003", "i00007") and item_id not in tried:
            tried.add(item_id)
            return "context deadline exceeded"
        return None

    server.trouble.refuse = once
    publish(index, NEW)
    assert tried == {"i00003", "i00007"}
    serves(index, NEW)


def test_objects_refused_for_good_fail_the_build_by_name_and_the_next_run_sends_only_those(
    index: WeaviateIndex, server: FakeWeaviate
) -> None:
    server.trouble.refuse = lambda item_id: (
        "no space left on device" if item_id == "i00061" else None
    )
    with pytest.raises(
        UnavailableError, match=r"refused 1 objects 3 times \(items i00061\): its disk is full"
    ):
        index.build(release_of(NEW), NEW)
    assert [r.id for r in index.releases()] == [release_of(OLD).id]
    serves(index, OLD)
    server.trouble.refuse = lambda item_id: None
    assert index.build(release_of(NEW), NEW).written == 1


def test_a_connection_lost_in_the_middle_of_a_batch_loses_nothing(
    index: WeaviateIndex, server: FakeWeaviate
) -> None:
    server.trouble.reset_at_batch = server.batches
    publish(index, NEW)
    serves(index, NEW)


REFUSALS = {
    "store is read-only due to disk pressure": "its disk is full, free or enlarge it",
    "shard is read only": "it is in read-only mode",
    "forbidden: your role has no permission": "give its role the permissions listed in docs",
    "not enough memory mappings": "it is short of memory, give it more",
    "something new": "see its log, repair the cause",
    "Recsys_shop__a4013bcd_1 of object 5f6b4403-9c1e is odd": "see its log, repair the cause",
    "status code: 401, with response body: {}": "it does not accept the key",
}


@pytest.mark.parametrize(("said", "remedy"), REFUSALS.items())
def test_a_server_that_refuses_writes_gives_an_error_that_names_the_remedy(
    index: WeaviateIndex, server: FakeWeaviate, said: str, remedy: str
) -> None:
    server.trouble.read_only = said
    with pytest.raises(UnavailableError, match=remedy) as caught:
        index.build(release_of(NEW), NEW)
    assert said in str(caught.value)
    assert "What is served is untouched" in str(caught.value)
    serves(index, OLD)


def test_a_wrong_key_is_said_without_saying_the_key(server: FakeWeaviate) -> None:
    server.trouble.key = "right-key"
    for key in (None, "wrong-key-1234"):
        with pytest.raises(UnavailableError, match="set WEAVIATE_API_KEY") as caught:
            connect(server, key)
        assert "wrong-key" not in str(caught.value)
    index = connect(server, "right-key")
    index.build(release_of(OLD), OLD)
    server.trouble.read_only = "read-only, says Bearer right-key"
    with pytest.raises(UnavailableError) as caught:
        index.activate(release_of(OLD).id)
    assert "right-key" not in str(caught.value)
    assert "***" in str(caught.value)
    server.trouble.key = "rotated"
    with pytest.raises(UnavailableError, match="set WEAVIATE_API_KEY"):
        index.count(release_of(OLD).id)
    index.close()


@pytest.mark.parametrize("version", ["1.31.5", "1.20.0"])
def test_a_server_without_aliases_is_refused_by_version(server: FakeWeaviate, version: str) -> None:
    server.trouble.version = version
    with pytest.raises(VectorIndexError, match=f"is version {version}, .* need 1.32 or later"):
        connect(server)


@pytest.mark.parametrize("answer", [b"<html>Welcome</html>", b"{}", b"[]", b'{"version": "next"}'])
def test_what_does_not_answer_like_weaviate_is_no_weaviate(answer: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        with pytest.raises(UnavailableError, match="WEAVIATE_URL is the address of its REST API"):
            WeaviateIndex(url, 50051, None, "shop")


def test_an_object_that_fits_in_no_message_is_said_and_what_is_served_stays(
    index: WeaviateIndex,
) -> None:
    huge = shop.make(["i0", "i1"], shop.axes(2), text=["short", "long " * 3_000_000])
    with pytest.raises(UnavailableError, match="raise its GRPC_MAX_MESSAGE_SIZE or shorten"):
        index.build(release_of(huge), huge)
    serves(index, OLD)


@pytest.mark.parametrize("quantization", ["none", "rq", "sq", "bq"])
def test_vectors_are_compressed_as_configured_and_by_no_default_of_the_server(
    server: FakeWeaviate, quantization: Literal["none", "rq", "sq", "bq"]
) -> None:
    settings = Settings(quantization=quantization)
    index = WeaviateIndex(server.url, server.grpc_port, None, "shop", settings)
    index.build(release_of(OLD), OLD)
    (schema,) = server.schema.values()
    config = schema["vectorConfig"]["item"]["vectorIndexConfig"]
    assert [q for q in ("rq", "sq", "bq", "pq") if config[q]["enabled"]] == (
        [] if quantization == "none" else [quantization]
    )
    index.close()


def test_other_settings_of_the_graph_take_a_collection_of_their_own(server: FakeWeaviate) -> None:
    """A collection keeps the graph it was created with; nobody is served from the spare one."""
    before = connect(server)
    before.build(release_of(OLD), OLD)
    publish(before, NEW)
    after = WeaviateIndex(server.url, server.grpc_port, None, "shop", Settings(connections=32))
    newer = shop.crowd(61)
    assert after.build(release_of(newer), newer).written == len(newer)
    target = server.aliases[f"Recsys_shop_r_{release_of(newer).id}"]
    config = server.schema[target]["vectorConfig"]["item"]["vectorIndexConfig"]
    assert config["maxConnections"] == 32
    for index in (before, after):
        index.close()


def test_a_collection_that_somebody_deleted_is_no_release_and_is_built_again(
    index: WeaviateIndex, server: FakeWeaviate
) -> None:
    served = server.aliases["Recsys_shop"]
    del server.schema[served], server.objects[served]
    release = release_of(OLD).id
    assert index.active() is None
    assert index.releases() == []
    with pytest.raises(UnknownReleaseError, match="materialize vector_index"):
        index.count(release)
    assert index.build(release_of(OLD), OLD).written == len(OLD)
    assert server.aliases["Recsys_shop"] == served, "the old alias names nothing, half built or not"
    assert served not in server.schema
    index.activate(release)
    serves(index, OLD)


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "a byte now and then"])
def test_a_silent_server_is_waited_for_no_longer_than_our_patience(
    index: WeaviateIndex, server: FakeWeaviate, silent: bool
) -> None:
    """A byte now and then is enough for the timeouts of the client library."""
    hasty = connect(server, patience=SHORT)
    server.trouble.hang = threading.Event() if silent else None
    server.trouble.drip = not silent
    asks: list[Callable[[], object]] = [
        lambda: hasty.count(release_of(OLD).id),
        lambda: hasty.build(release_of(NEW), NEW),
        lambda: connect(server, patience=Patience(connect=0.4)),
    ]
    for ask in asks:
        with pytest.raises(UnavailableError, match=r"(did not answer|failed) .*run again"):
            ask()
    if server.trouble.hang:
        server.trouble.hang.set()
    server.trouble.drip = False
    hasty.close()
    serves(index, OLD)


def test_nobody_at_the_address_is_said_at_once(server: FakeWeaviate) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    patience = Patience(connect=0.5)
    with pytest.raises(UnavailableError, match="cannot be reached, check that it runs"):
        WeaviateIndex(f"http://127.0.0.1:{port}", server.grpc_port, None, "shop", patience=patience)
    with pytest.raises(UnavailableError, match="check WEAVIATE_GRPC_PORT"):
        WeaviateIndex(server.url, port, None, "shop", patience=patience)
    with pytest.raises(VectorIndexError, match="write it like https"):
        WeaviateIndex("weaviate.example.com", 50051, None, "shop")


def test_vectors_still_waiting_for_the_graph_are_waited_for(
    index: WeaviateIndex, server: FakeWeaviate
) -> None:
    server.trouble.queue = [7]
    index.build(release_of(NEW), NEW)
    assert server.trouble.queue == []
    server.trouble.queue = [7, 7]
    again = connect(server, patience=Patience(settle=0.0))
    newer = shop.crowd(63)
    with pytest.raises(UnavailableError, match="still has 7 vectors to index"):
        again.build(release_of(newer), newer)
    again.close()


def test_connecting_speaks_to_nobody_but_the_server(
    server: FakeWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def guarded(host: str, *rest: object, **more: object) -> object:
        asked.append(host)
        assert host in ("127.0.0.1", "localhost"), f"a call to the outside: {host}"
        return real(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    index = connect(server)
    index.build(release_of(OLD), OLD)
    index.close()
    assert set(asked) == {"127.0.0.1"}


def test_a_spare_collection_is_reused_and_the_served_one_is_never_written(
    index: WeaviateIndex, server: FakeWeaviate
) -> None:
    served = server.aliases["Recsys_shop"]
    before = server.written[served]
    for n in range(1, 4):
        objects = shop.crowd(60, changed=range(n))
        made = index.build(release_of(objects), objects)
        assert made.written == (60 if n == 1 else 1)
    assert server.written[served] == before
    assert len(server.schema) == 2


def test_a_collection_longer_than_one_page_is_read_to_its_end(
    index: WeaviateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weaviate, "_SCAN", 20)  # 60 objects: three full pages and an empty one
    once, twice = shop.crowd(60, changed=[3]), shop.crowd(59, changed=[3])
    assert index.build(release_of(once), once).written == 60
    made = index.build(release_of(twice), twice)
    assert (made.written, made.deleted, made.unchanged) == (0, 1, 59)


class _Stopped(Exception):  # noqa: N818
    pass


def _stopped_at(step: int) -> tuple[bool, str]:
    """Build and activate NEW over OLD, the server failing at the given change: whether that change
    came, and its name. Checks what is served then, and that the next run repairs it."""
    with FakeWeaviate() as server:
        index = connect(server)
        publish(index, OLD)
        middle = shop.crowd(61)
        index.build(release_of(middle), middle)  # NEW will be written over this one
        changes: list[str] = []

        def count(what: str) -> None:
            changes.append(what)
            if len(changes) == step:
                raise _Stopped(what)

        server.before_change = count
        with suppress(UnavailableError):
            publish(index, NEW)
        stopped = len(changes) >= step
        server.before_change = lambda what: None
        serves(index, OLD if stopped else NEW)
        for release in index.releases():
            assert index.count(release.id) == release.objects
        publish(index, NEW)
        serves(index, NEW)
        assert set(server.schema) == set(server.aliases.values()), "orphans stayed"
        index.close()
        return stopped, changes[-1]


@pytest.mark.parametrize("step", [1, 3, 6])
def test_stopped_between_two_changes_the_alias_names_a_complete_release(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weaviate, "BATCH", 8)
    assert _stopped_at(step)[0]


@pytest.mark.faults
def test_stopped_at_every_change_the_alias_names_a_complete_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weaviate, "BATCH", 8)
    met = []
    for step in range(1, 40):
        stopped, what = _stopped_at(step)
        if not stopped:
            break
        met.append(what)
    assert met[0] == "delete alias" and met[-2:] == ["create alias", "move alias"]
    assert {"batch", "delete objects", "update collection"} < set(met)


def test_searching_does_not_touch_other_shops(index: WeaviateIndex, server: FakeWeaviate) -> None:
    other = WeaviateIndex(server.url, server.grpc_port, None, "shop_2")
    assert other.active() is None
    assert other.releases() == []
    other.clear()
    other.close()
    hits = index.nearest(release_of(OLD).id, query(OLD.vectors[0]), 1)[0]
    assert hits.item_ids == ["i00000"]
