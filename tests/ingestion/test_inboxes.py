"""What holds wherever files arrive: the same tests on a folder and on a store that speaks S3."""

import http.client
import http.server
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from dagster_project import sensors
from recsys_assets.core.assets import Project
from recsys_assets.core.config import ConfigError, load_shop
from recsys_assets.core.settings.arrival import ArrivalSettings
from recsys_assets.ingestion import object_store
from recsys_assets.ingestion.arrivals import ArrivalLedger, Inbox, Listed, LocalInbox, watch
from recsys_assets.ingestion.assets import assets
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.object_store import RACE, StoreInbox, UnreachableError
from recsys_assets.ingestion.source import SourceError, open_source
from tests.conftest import MINIMAL_SHOP

LATER = datetime(2100, 1, 1, tzinfo=UTC)
SECRET = "canary-secret-9f2c"
BUCKET = "shop-inbox"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"{host}:{port}"
    started.stop()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


class Place(Protocol):
    """Where files are put, an inbox that watches it (*.csv directly, or everything below), and the
    ledger that takes from it."""

    ledger: ArrivalLedger

    def put(self, name: str, text: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def inbox(self, pattern: str = "*.csv", **settings: Any) -> Inbox: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "inbox"
        self.folder.mkdir()
        self.ledger = ArrivalLedger(root / "home")

    def put(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def inbox(self, pattern: str = "*.csv", **settings: Any) -> Inbox:
        watched = watch("interactions", self.folder / pattern, (".csv",))
        return LocalInbox(self.root, (watched,), ArrivalSettings.model_validate(settings))


class Store:
    def __init__(self, root: Path, server: str) -> None:
        self.server = server
        self.client = fs.S3FileSystem(
            access_key="key", secret_key=SECRET, region="us-east-1", scheme="http",
            endpoint_override=server, allow_bucket_creation=True, allow_bucket_deletion=True,
        )  # fmt: skip
        self.client.create_dir(BUCKET)
        self.client.delete_dir_contents(BUCKET)
        self.ledger = ArrivalLedger(root / "home")

    def put(self, name: str, text: str) -> None:
        with self.client.open_output_stream(f"{BUCKET}/in/{name}") as stream:
            stream.write(text.encode())

    def remove(self, name: str) -> None:
        self.client.delete_file(f"{BUCKET}/in/{name}")

    def inbox(self, pattern: str = "*.csv", **settings: Any) -> StoreInbox:
        watched = watch("interactions", Path(f"s3://{BUCKET}/in/{pattern}"), (".csv",))
        given = ArrivalSettings.model_validate({"endpoint": f"http://{self.server}", **settings})
        return StoreInbox((watched,), given)


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(tmp_path)
    return Store(tmp_path, request.getfixturevalue("server"))


@pytest.fixture
def store(tmp_path: Path, server: str) -> Store:
    return Store(tmp_path, server)


def contents(place: Place) -> list[str]:
    return [place.ledger.archived(a).read_text() for a in place.ledger.active()]


def taken(place: Place, inbox: Inbox | None = None) -> int:
    """How many files a look takes that finds nothing wrong."""
    look = place.ledger.accept(inbox or place.inbox(), LATER)
    assert (look.arriving, look.refused) == ([], {})
    return len(look.accepted)


# -- on both -------------------------------------------------------------------------------------


def test_a_file_is_taken_once_however_often_one_looks(place: Place) -> None:
    place.put("a.csv", "1")
    look = place.ledger.accept(place.inbox(), LATER)
    assert [(a.name.endswith("/a.csv"), a.size, a.at) for a in look.accepted] == [(True, 1, LATER)]
    assert taken(place) == 0
    (place.ledger.folder / "stamps.json").unlink()
    assert taken(place) == 0, "the stamps only spare work"
    assert len(place.ledger.arrivals()) == 1


@pytest.mark.parametrize(
    "name", [".a.csv", "_a.csv", "a.csv.part", "a.csv.tmp", "a.csv~", "a.csv.crdownload", "a.txt"]
)
def test_temporary_names_and_names_that_are_not_watched_do_not_exist(
    place: Place, name: str
) -> None:
    place.put(name, "1")
    assert taken(place) == 0


def test_a_pattern_takes_names_directly_there_and_a_prefix_everything_below(place: Place) -> None:
    place.put("a.csv", "1")
    place.put("deep/b.csv", "2")
    place.put("_under/c.csv", "3")
    assert taken(place) == 1
    assert contents(place) == ["1"]
    assert taken(place, place.inbox("")) == 1
    assert contents(place) == ["1", "2"]


def test_nothing_there_is_nothing_arrived(place: Place) -> None:
    assert taken(place) == taken(place, place.inbox("")) == 0


def test_with_a_marker_a_file_is_there_once_the_marker_is(place: Place) -> None:
    place.put("a.csv", "1")
    assert taken(place, place.inbox(marker=".done")) == 0
    place.put("a.csv.done", "")
    assert taken(place, place.inbox(marker=".done")) == 1
    assert contents(place) == ["1"]


def test_new_content_under_an_old_name_replaces_it(place: Place) -> None:
    place.put("a.csv", "1\n2")
    assert taken(place) == 1
    place.put("a.csv", "1\n2\n3\n")
    assert taken(place) == 1
    assert contents(place) == ["1\n2\n3\n"]


def test_the_same_bytes_under_another_name_are_the_same_batch(place: Place) -> None:
    place.put("a.csv", "1")
    place.put("b.csv", "1")
    assert taken(place) == 2
    first, second = place.ledger.source_files()
    assert first.batch == second.batch


def test_cleaning_up_loses_nothing(place: Place) -> None:
    place.put("a.csv", "1")
    assert taken(place) == 1
    place.remove("a.csv")
    assert taken(place) == 0
    assert contents(place) == ["1"]


def test_a_file_that_is_too_large_is_refused_with_the_reason(place: Place) -> None:
    place.put("a.csv", "x" * 1_000_001)
    look = place.ledger.accept(place.inbox(max_megabytes=1), LATER)
    ((name, why),) = look.refused.items()
    assert name.endswith("/a.csv") and "max_megabytes" in why
    assert look.accepted == []


def test_what_changed_or_went_since_it_was_listed_is_still_arriving(place: Place) -> None:
    place.put("a.csv", "1")
    place.put("b.csv", "2")
    inbox = place.inbox()
    a, b = sorted(inbox.listing(), key=lambda listed: listed.name)
    place.put("a.csv", "changed")
    place.remove("b.csv")
    for listed in (a, b):
        with pytest.raises(OSError):
            inbox.open(listed)


def test_what_was_just_written_waits(place: Place) -> None:
    place.put("a.csv", "1")
    inbox = place.inbox(settle_seconds=5)
    (listed,) = inbox.listing()
    early = place.ledger.accept(inbox, listed.changed + timedelta(seconds=4))
    assert (early.accepted, early.arriving) == ([], [listed.name])
    assert len(place.ledger.accept(inbox, listed.changed + timedelta(seconds=5)).accepted) == 1


# -- what only a store can do --------------------------------------------------------------------


def test_an_object_waits_as_long_as_its_time_could_hide_a_change_whatever_settles(
    store: Store,
) -> None:
    assert store.inbox(settle_seconds=0).settle == store.inbox(marker=".done").settle == RACE


def test_a_large_object_arrives_whole(store: Store) -> None:
    text = "".join(f"{n}\n" for n in range(500_000))
    store.put("a.csv", text)
    assert taken(store) == 1
    assert contents(store) == [text]


def told(inbox: StoreInbox) -> tuple[str, str, float]:
    """Which place cannot be looked at, why, and how long that took to find out."""
    begun = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        list(inbox.listing())
    why = str(caught.value)
    assert SECRET not in why and "\n" not in why
    return caught.value.place, why, time.monotonic() - begun


def test_a_bucket_that_is_not_there_is_named_with_the_remedy(store: Store) -> None:
    watched = watch("interactions", Path("s3://nobodys-bucket/in"), (".csv",))
    inbox = StoreInbox((watched,), ArrivalSettings(endpoint=f"http://{store.server}"))
    place, why, _ = told(inbox)
    assert place == "s3://nobodys-bucket"
    assert "is no bucket of this store: correct the path" in why


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_keys_the_variable_to_set_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(name)
    _, why, _ = told(store.inbox())
    assert f"set {name} in the environment" in why


def test_keys_that_are_refused_are_told_from_a_store_that_is_away(store: Store) -> None:
    store.put("a.csv", "1")
    asked = http.client.HTTPConnection(store.server)
    asked.request("POST", "/moto-api/reset-auth", "0")
    assert asked.getresponse().status == 200
    try:
        place, why, _ = told(store.inbox())
    finally:
        asked.request("POST", "/moto-api/reset-auth", "inf")
        asked.getresponse()
        asked.close()
    assert place == f"s3://{BUCKET}"
    assert "refuses the keys" in why and "allowed to list the bucket" in why


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that answers like this."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("status", [301, 400])
def test_keys_that_expired_and_another_region_are_not_said_to_pass_by_themselves(
    store: Store, status: int
) -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # as the store says it: without a word
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with answering(Refusing) as address:
        place, why, _ = told(store.inbox(endpoint=address, region="eu-west-1"))
    assert place == f"s3://{BUCKET}"
    assert f"refuses the request ({status})" in why and "tried again" not in why
    assert "AWS_SESSION_TOKEN" in why and "arrival.region (eu-west-1)" in why


@pytest.mark.parametrize(
    "page", [b"", b"<html><body>Sign in</body></html>", b"<!DOCTYPE html><p>Sign in<br>"]
)
def test_what_answers_but_is_no_store_is_not_taken_for_a_store_in_which_nothing_lies(
    store: Store, page: bytes
) -> None:
    class Console(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(page)

        def log_message(self, *arguments: object) -> None: ...

    with answering(Console) as address:
        place, why, _ = told(store.inbox(endpoint=address))
    assert place == f"s3://{BUCKET}"
    assert f"answers at {address} as no S3 store does" in why and "arrival.endpoint" in why


def test_a_store_that_is_away_or_says_nothing_costs_a_bounded_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "SILENT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        _, why, seconds = told(store.inbox(endpoint=address))
        assert f"cannot be reached at {address}" in why and seconds < 10
        silent.listen()
        _, why, seconds = told(store.inbox(endpoint=address))
        assert "cannot be reached" in why and seconds < 20


def test_a_store_that_goes_away_while_an_object_is_read_leaves_no_half_object(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a.csv", "1")
    store.put("b.csv", "2")

    class Torn:
        def readinto(self, buffer: object) -> int:
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56")

        def close(self) -> None: ...

    inbox = store.inbox()
    whole = StoreInbox.open

    def opened(self: StoreInbox, listed: Any) -> Any:
        if listed.name.endswith("b.csv"):
            return object_store._Object(self, f"{BUCKET}/in/b.csv", Torn(), 1)
        return whole(self, listed)

    monkeypatch.setattr(StoreInbox, "open", opened)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        store.ledger.accept(inbox, LATER)
    assert contents(store) == ["1"]
    assert [p.name for p in store.ledger.files.glob("tmp-*")] == []
    read: list[str] = []

    def noted(self: StoreInbox, listed: Any) -> Any:
        read.append(listed.name)
        return whole(self, listed)

    monkeypatch.setattr(StoreInbox, "open", noted)
    assert taken(store) == 1
    assert contents(store) == ["1", "2"]
    assert {name.rpartition("/")[2] for name in read} == {"b.csv"}, "what was taken is not read"


@pytest.mark.parametrize("oldest", [None, 30])
def test_of_the_first_data_nothing_is_left_for_later_to_be_refused_for_its_age(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oldest: int | None
) -> None:
    for name in ("sales1.csv", "sales2.csv"):
        store.put(name, "user_id,item_id,event_time\nu,x,2024-01-02\n")
    path = shop_file(tmp_path, f"http://{store.server}")
    path.write_text(path.read_text() + f"plausible: {{max_age_days: {oldest or 'null'}}}\n")
    project = Project(home=str(tmp_path / "home"), shop_file=str(path))
    whole = StoreInbox.open

    def opened(self: StoreInbox, listed: Any) -> Any:
        if listed.name.endswith("sales2.csv"):
            raise UnreachableError(f"s3://{BUCKET}", "is away")
        return whole(self, listed)

    monkeypatch.setattr(StoreInbox, "open", opened)
    names = [f"s3://{BUCKET}/in/sales{n}.csv" for n in (1, 2)]
    if oldest:
        with pytest.raises(SourceError, match=r"is away\. The shop's first data have to be whole"):
            sensors.take_arrivals(project, LATER)
    else:
        look = sensors.take_arrivals(project, LATER)
        assert [a.name for a in look.accepted] == ["items.csv", names[0]]
        assert look.refused == {f"s3://{BUCKET}": "is away"}
    monkeypatch.setattr(StoreInbox, "open", whole)
    (second,) = sensors.take_arrivals(project, LATER).accepted
    assert second.name == names[1] and second.history


def test_a_reply_that_ends_early_is_not_filled_up_with_whatever_was_in_memory(
    store: Store,
) -> None:
    class Short(http.server.BaseHTTPRequestHandler):  # HTTP/1.0: the end of a body is its length
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(206)
            self.end_headers()
            self.wfile.write(b"x" * 50)

        def log_message(self, *arguments: object) -> None: ...

    with answering(Short) as address:
        inbox = store.inbox(endpoint=address)
        changed = datetime(2024, 1, 1, tzinfo=UTC)
        stamp = f"100-{int(changed.timestamp()) * 10**9}"
        listed = Listed("interactions", f"s3://{BUCKET}/in/a.csv", changed, 100, stamp)
        with inbox.open(listed) as stream, pytest.raises(UnreachableError, match="sends less of"):
            stream.read(1000)


# -- in a shop -----------------------------------------------------------------------------------


def shop_file(folder: Path, endpoint: str, path: str = f"s3://{BUCKET}/in/sales*.csv") -> Path:
    text = MINIMAL_SHOP.replace("path: interactions.csv", f"path: {path}")
    (folder / "items.csv").write_text("item_id\nx\n")
    (folder / "shop.yaml").write_text(
        text + f"arrival: {{settle_seconds: 0, endpoint: '{endpoint}'}}\n"
    )
    return folder / "shop.yaml"


def test_a_shop_reads_what_arrived_from_a_store_and_from_a_folder(
    store: Store, tmp_path: Path
) -> None:
    store.put("sales1.csv", "user_id,item_id,event_time\nu,x,2024-01-02\n")
    shop = load_shop(shop_file(tmp_path, f"http://{store.server}"))
    home = tmp_path / "home"
    for inbox in inboxes_of(shop):
        ledger_of(home).accept(inbox, LATER)
    store.remove("sales1.csv")
    source = open_source(shop, home)
    files = source.files()
    assert [(f.role, f.name) for f in files] == [
        ("interactions", f"s3://{BUCKET}/in/sales1.csv"), ("items", "items.csv"),
    ]  # fmt: skip
    assert source.land(files[0], LATER)["user_id"].tolist() == ["u"]


def test_the_sensor_says_that_a_store_is_away_and_takes_what_lies_elsewhere(
    tmp_path: Path,
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        project = Project(home=str(tmp_path / "home"), shop_file=str(shop_file(tmp_path, endpoint)))
        look = sensors.take_arrivals(project, LATER)
        assert [a.name for a in look.accepted] == ["items.csv"]
        assert f"cannot be reached at {endpoint}" in look.refused[f"s3://{BUCKET}"]
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance)
            tick = sensors.arrival(project, assets(project.shop)).evaluate_tick(context)
    assert "no file of interactions has arrived yet" in str(tick.skip_message)
    assert f"s3://{BUCKET} cannot be reached" in str(tick.skip_message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gs://bucket/in", "gs:// is not read"),
        ("s3://key:secret@bucket/in", "keys come from AWS_ACCESS_KEY_ID"),
        ("s3:///in", "expected s3://bucket/prefix"),
    ],
)
def test_a_place_that_cannot_be_read_is_refused_in_the_shop_file(
    tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_shop(shop_file(tmp_path, "http://localhost:9000", path))


def test_a_store_without_arrival_and_keys_in_an_address_are_refused(tmp_path: Path) -> None:
    text = MINIMAL_SHOP.replace("path: interactions.csv", "path: s3://bucket/in")
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(ConfigError, match="add arrival"):
        load_shop(tmp_path / "shop.yaml")
    with pytest.raises(ConfigError, match="no keys here"):
        load_shop(shop_file(tmp_path, "http://key:secret@localhost:9000"))
