"""A watched folder: what is complete is taken once, whatever is lost, doubled or half-written."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_assets.core.config import ConfigError, Shop, load_shop
from recsys_assets.core.settings.arrival import ArrivalSettings
from recsys_assets.ingestion.arrivals import ArrivalLedger, LedgerError, LocalInbox, Look, watch
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.source import SourceError, open_source
from tests.conftest import MINIMAL_SHOP

LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""So late that every file of this test has been left alone long enough."""


class Place:
    """An inbox folder and the ledger that takes from it."""

    def __init__(self, root: Path, **options: object) -> None:
        self.root, self.folder = root, root / "inbox"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = ArrivalSettings.model_validate(options)
        self.inbox = LocalInbox(
            root, (watch("interactions", self.folder / "*.csv", (".csv",)),), self.settings
        )
        self.ledger = ArrivalLedger(root / "home" / "arrivals")

    def put(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def look(self, now: datetime = LATER) -> Look:
        return self.ledger.accept(self.inbox, now)

    def names(self, look: Look) -> list[str]:
        return [a.name.removeprefix("inbox/") for a in look.accepted]

    def contents(self) -> dict[str, str]:
        return {
            a.name.removeprefix("inbox/"): self.ledger.archived(a).read_text()
            for a in self.ledger.active()
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_file_that_was_just_written_is_still_arriving(place: Place) -> None:
    path = place.put("a.csv", "1")
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    early = place.look(written + timedelta(seconds=59))
    assert (early.accepted, early.arriving) == ([], ["inbox/a.csv"])
    assert place.names(place.look(written + timedelta(seconds=61))) == ["a.csv"]


def test_an_old_modification_time_set_by_the_sender_does_not_make_a_file_look_complete(
    place: Place,
) -> None:
    path = place.put("a.csv", "1")
    os.utime(path, (0, 0))
    now = datetime.fromtimestamp(path.stat().st_ctime, UTC)
    assert place.look(now).arriving == ["inbox/a.csv"]


def test_a_modification_time_in_the_future_does_not_keep_a_file_waiting(place: Place) -> None:
    path = place.put("a.csv", "1")
    os.utime(path, (2**32, 2**32))
    now = datetime.fromtimestamp(path.stat().st_ctime, UTC) + timedelta(seconds=61)
    assert place.names(place.look(now)) == ["a.csv"]


def test_other_bytes_of_the_same_length_and_modification_time_are_seen(place: Place) -> None:
    path = place.put("a.csv", "1")
    os.utime(path, (0, 0))
    place.look()
    place.put("a.csv", "2")
    os.utime(path, (0, 0))
    assert place.names(place.look()) == ["a.csv"]
    assert place.contents() == {"a.csv": "2"}


def test_a_ledger_from_a_backup_takes_again_what_it_does_not_know(place: Place) -> None:
    place.put("a.csv", "1")
    place.look()
    backup = place.ledger.path.read_bytes()
    place.put("a.csv", "2")
    place.look()
    place.ledger.path.write_bytes(backup)  # what spares hashing knows the newer one
    assert place.names(place.look()) == ["a.csv"]
    assert place.contents() == {"a.csv": "2"}


def test_a_content_that_came_back_was_replaced_when_it_went_last(place: Place) -> None:
    for day, text in enumerate("ABAB"):
        place.put("a.csv", text)
        place.ledger.accept(place.inbox, LATER + timedelta(days=day))
    assert place.contents() == {"a.csv": "B"}
    assert place.ledger.replaced(LATER + timedelta(days=3)) == {}, "on the fourth day only"
    assert list(place.ledger.replaced(LATER + timedelta(days=4)).values()) == [1]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may reach and write to; this process is nobody meanwhile, if it may
    read everything otherwise."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        me = os.geteuid()
        os.seteuid(me or 65534)
        yield Path(name)
        os.seteuid(me)


def test_what_may_not_be_read_is_told_and_keeps_no_other_file_back(open_folder: Path) -> None:
    place = Place(open_folder)
    closed = place.folder / "closed"
    closed.mkdir()
    place.inbox.watched = (watch("interactions", place.folder, (".csv",)),)
    for name in ("a.csv", "b.csv", "c.csv", "closed/d.csv"):
        place.put(name, name)
    (place.folder / "b.csv").chmod(0)
    closed.chmod(0)
    look = place.look()
    assert place.names(look) == ["a.csv", "c.csv"]
    assert sorted(look.refused) == ["inbox/b.csv", "inbox/closed"]
    assert all("let the user that recsys works as read it" in w for w in look.refused.values())
    closed.chmod(0o700)
    assert place.names(place.look()) == ["closed/d.csv"]
    place.folder.chmod(0)
    assert list(place.look().refused) == ["inbox"]
    place.folder.chmod(0o700)


def test_a_name_that_is_no_text_is_refused_and_the_others_are_taken(place: Place) -> None:
    place.put("a.csv", "1")
    Path(os.fsdecode(os.fsencode(place.folder) + b"/\xff.csv")).write_text("2")
    look = place.look()
    assert place.names(look) == ["a.csv"]
    assert look.refused == {"'inbox/\\udcff.csv'": "its name is not UTF-8: rename it"}


def test_with_a_marker_a_file_need_not_settle(tmp_path: Path) -> None:
    place = Place(tmp_path, marker=".done")
    path = place.put("a.csv", "1")
    place.put("a.csv.done", "")
    assert place.names(place.look(datetime.fromtimestamp(path.stat().st_mtime, UTC))) == ["a.csv"]


def test_links_pipes_and_files_that_are_too_large_are_refused_with_a_reason(tmp_path: Path) -> None:
    place = Place(tmp_path, max_megabytes=1)
    secret = tmp_path / "secret.csv"
    secret.write_text("s")
    (place.folder / "link.csv").symlink_to(secret)
    os.mkfifo(place.folder / "pipe.csv")
    with (place.folder / "large.csv").open("wb") as stream:
        stream.truncate(1_000_001)
    look = place.look()
    assert look.accepted == []
    assert set(look.refused) == {"inbox/link.csv", "inbox/pipe.csv", "inbox/large.csv"}
    assert "max_megabytes" in look.refused["inbox/large.csv"]


def test_a_file_swapped_for_a_link_between_listing_and_opening_is_not_followed(
    place: Place, tmp_path: Path
) -> None:
    place.put("a.csv", "1")
    (listed,) = place.inbox.listing()
    secret = tmp_path / "secret.csv"
    secret.write_text("s")
    (place.folder / "a.csv").unlink()
    (place.folder / "a.csv").symlink_to(secret)
    with pytest.raises(OSError):
        place.inbox.open(listed)


def test_a_folder_that_is_a_link_to_elsewhere_is_not_entered(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.csv").write_text("1")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "way-out").symlink_to(outside)
    watched = watch("interactions", inbox, (".csv",))
    local = LocalInbox(tmp_path, (watched,), ArrivalSettings())
    assert list(local.listing()) == []


def test_a_torn_last_line_is_cut_and_its_file_taken_again(place: Place) -> None:
    place.put("a.csv", "1")
    place.put("b.csv", "2")
    place.look()
    whole = place.ledger.path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        place.ledger.path.write_bytes(whole[:cut])
        assert place.ledger.torn_bytes() == cut - first
        assert [a.name for a in place.ledger.arrivals()] == ["inbox/a.csv"]
        torn = f"{place.ledger.path} ends in a torn line"
        assert place.ledger.problems()[0].startswith(torn) == (cut > first)
        assert place.names(place.look()) == ["b.csv"]
        assert place.ledger.path.read_bytes() == whole


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_of_an_earlier_line_is_refused_and_never_believed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = Place(tmp_path_factory.mktemp("place"))
    place.put("ä b.csv", "1")
    place.put("b.csv", "2")
    place.look()
    whole = bytearray(place.ledger.path.read_bytes())
    first = whole.index(b"\n")
    position = data.draw(st.integers(0, first))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    place.ledger.path.write_bytes(bytes(whole))
    with pytest.raises(LedgerError, match=r"line 1: damaged .* backup"):
        place.ledger.arrivals()


def test_an_altered_or_missing_content_is_reported(place: Place) -> None:
    place.put("a.csv", "1")
    place.look()
    assert place.ledger.problems() == []
    kept = place.ledger.archived(place.ledger.active()[0])
    kept.write_text("2")
    assert "was altered" in place.ledger.problems()[0]
    kept.unlink()
    assert "is missing" in place.ledger.problems()[0]


def test_kept_files_that_an_older_copy_of_the_record_does_not_name_are_reported(
    place: Place,
) -> None:
    place.put("a.csv", "1")
    place.look()
    older = place.ledger.path.read_bytes()
    place.put("b.csv", "2")
    place.look()
    newest, lost = place.ledger.path.read_bytes(), place.ledger.archived(place.ledger.active()[1])
    assert place.ledger.problems() == []
    place.ledger.path.write_bytes(older)
    (told,) = place.ledger.problems()
    assert told.startswith("1 kept files are in no line of") and f"first {lost}" in told
    place.ledger.path.unlink()
    assert place.ledger.problems()[0].startswith("2 kept files")
    place.ledger.path.write_bytes(newest)
    assert place.ledger.problems() == []


def _look_often(root: str) -> None:
    place = Place(Path(root))
    for _ in range(10):
        place.look()


def test_two_daemons_take_every_file_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for n in range(30):
        place.put(f"{n}.csv", str(n))
    context = multiprocessing.get_context("spawn")
    daemons = [context.Process(target=_look_often, args=(str(tmp_path),)) for _ in range(2)]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.join()
        assert daemon.exitcode == 0
    names = [a.name for a in place.ledger.arrivals()]
    assert sorted(names) == sorted(f"inbox/{n}.csv" for n in range(30))


WATCHING = (
    MINIMAL_SHOP.replace("path: interactions.csv", "path: inbox/sales*.csv") + "arrival: {}\n"
)


def watching(folder: Path, **more: str) -> Shop:
    (folder / "inbox").mkdir(exist_ok=True)
    text = WATCHING + "".join(f"{k}: {v}\n" for k, v in more.items())
    (folder / "shop.yaml").write_text(text)
    (folder / "items.csv").write_text("item_id\nx\n")
    return load_shop(folder / "shop.yaml")


def take(shop: Shop, home: Path, now: datetime = LATER, *, history: bool = False) -> Look:
    (inbox,) = inboxes_of(shop)
    return ledger_of(home).accept(inbox, now, history=history)


def test_the_source_of_a_watching_shop_is_what_arrived(tmp_path: Path) -> None:
    shop, home = watching(tmp_path), tmp_path / "home"
    with pytest.raises(SourceError, match="no file of interactions has arrived"):
        (tmp_path / "inbox" / "other.csv").write_text("not ours")
        take(shop, home)
        open_source(shop, home).files()
    sales = tmp_path / "inbox" / "sales1.csv"
    sales.write_text("user_id,item_id,event_time\nu,x,2024-01-02\n")
    take(shop, home)
    sales.unlink()
    files = open_source(shop, home).files()
    assert [(f.role, f.name) for f in files] == [
        ("interactions", "inbox/sales1.csv"), ("items", "items.csv"),
    ]  # fmt: skip
    assert len(open_source(shop, home).land(files[0], datetime(1980, 1, 1, tzinfo=UTC))) == 1


def test_an_error_about_an_archived_file_names_it_as_the_sender_did(tmp_path: Path) -> None:
    shop, home = watching(tmp_path), tmp_path / "home"
    (tmp_path / "inbox" / "sales1.csv").write_text("user,item_id,event_time\nu,x,2024-01-02\n")
    take(shop, home)
    with pytest.raises(SourceError, match=r"^inbox/sales1.csv: no column 'user_id'"):
        open_source(shop, home).check()
    source = open_source(shop, home)
    (file,) = (f for f in source.files() if f.role == "interactions")
    with pytest.raises(SourceError, match=r"^inbox/sales1.csv: no column 'user_id'") as raised:
        source.land(file, datetime(2024, 1, 3, tzinfo=UTC))
    assert raised.value.__cause__ is None, "alerts tell the first cause, which names a hash"


def test_an_error_about_an_archived_file_says_how_to_be_rid_of_it_and_that_works(
    tmp_path: Path,
) -> None:
    shop, home = watching(tmp_path), tmp_path / "home"
    sales = tmp_path / "inbox" / "sales1.csv"
    sales.write_text("")
    take(shop, home)
    sales.unlink()
    take(shop, home)
    with pytest.raises(
        SourceError, match=r"\(0 bytes\).* again, corrected, or without rows to with"
    ):
        open_source(shop, home).check()
    sales.write_text("user_id,item_id,event_time\n")
    take(shop, home)
    assert open_source(shop, home).check() == []


def refusing_late(tmp_path: Path) -> Shop:
    """A shop with an empty inbox that takes no event older than three days."""
    (tmp_path / "inbox").mkdir()
    text = WATCHING.replace("arrival: {}", "arrival: {settle_seconds: 0}")
    (tmp_path / "shop.yaml").write_text(text + "plausible: {max_age_days: 3}\n")
    (tmp_path / "items.csv").write_text("item_id\nx\n")
    return load_shop(tmp_path / "shop.yaml")


def test_late_events_are_refused_by_their_age_on_arrival_except_in_the_first_data(
    tmp_path: Path,
) -> None:
    shop, home = refusing_late(tmp_path), tmp_path / "home"
    rows = "user_id,item_id,event_time\nu,x,2024-01-02\nu,x,2024-01-08\n"
    arrived = datetime(2024, 1, 9, tzinfo=UTC) + timedelta(days=0)
    (tmp_path / "inbox" / "sales1.csv").write_text(rows)
    take(shop, home, arrived, history=True)
    (tmp_path / "inbox" / "sales2.csv").write_text(rows + "v,x,2024-01-08\n")
    take(shop, home, arrived)
    source = open_source(shop, home)
    first, second = [f for f in source.files() if f.role == "interactions"]
    years_later = datetime(2030, 1, 1, tzinfo=UTC)
    assert source.land(first, years_later)["reject_reason"].isna().tolist() == [True, True]
    reasons = source.land(second, years_later)["reject_reason"]
    assert reasons.isna().tolist() == [False, True, True]
    assert reasons.iloc[0].startswith("before the plausible time")


def test_copies_and_corrections_of_old_files_keep_the_rows_that_were_accepted(
    tmp_path: Path,
) -> None:
    shop, home = refusing_late(tmp_path), tmp_path / "home"

    def arrive(name: str, rows: str, day: int, *, history: bool = False) -> None:
        (tmp_path / "inbox" / name).write_text("user_id,item_id,event_time\n" + rows)
        take(shop, home, datetime(2024, 1, day, tzinfo=UTC), history=history)

    def accepted() -> dict[str, int]:
        source, now = open_source(shop, home), datetime(2030, 1, 1, tzinfo=UTC)
        reasons = {f.name: source.land(f, now)["reject_reason"] for f in source.to_land()}
        return {name: int(r.isna().sum()) for name, r in reasons.items()}

    arrive("sales2.csv", "u,x,2024-01-01\n", 5, history=True)
    arrive("sales3.csv", "u,x,2024-01-06\n", 6)
    before = {"inbox/sales2.csv": 1, "inbox/sales3.csv": 1}
    assert accepted() == before
    arrive("sales1.csv", "u,x,2024-01-01\n", 9)
    assert accepted() == before, "a copy under a name that sorts before"
    arrive("sales2.csv", "u,x,2024-01-01\nv,x,2024-01-01\n", 10)
    arrive("sales3.csv", "u,x,2024-01-06\nv,x,2024-01-10\nw,x,2024-01-02\n", 10)
    now = accepted()
    assert now["inbox/sales2.csv"] == 2, "a corrected file of the first data"
    assert now["inbox/sales3.csv"] == 2, "a corrected later file: as old as it was, and as new"


def test_a_name_that_no_path_of_the_shop_file_leads_to_any_more_is_not_dropped_silently(
    tmp_path: Path,
) -> None:
    shop, home = watching(tmp_path), tmp_path / "home"
    (tmp_path / "inbox" / "sales1.csv").write_text("user_id,item_id,event_time\n")
    take(shop, home)
    (tmp_path / "shop.yaml").write_text(WATCHING.replace("inbox/sales*", "elsewhere/sales*"))
    with pytest.raises(SourceError, match=r"inbox/sales1.csv arrived as interactions, but no path"):
        open_source(load_shop(tmp_path / "shop.yaml"), home).files()


def test_a_file_that_two_tables_name_is_refused_as_without_arrival(tmp_path: Path) -> None:
    shop, home = watching(tmp_path), tmp_path / "home"
    (tmp_path / "inbox" / "sales1.csv").write_text("user_id,item_id,event_time\n")
    take(shop, home)
    both = "[{path: inbox/*.csv, event_type: purchase}, {path: inbox/sales*.csv, event_type: view}]"
    (tmp_path / "shop.yaml").write_text(
        "name: s\nrepeats: true\npartitions: {start: 2024-01-01}\narrival: {}\n"
        f"source: {{kind: files, interactions: {both}, items: {{path: items.csv}}}}\n"
    )
    source = open_source(load_shop(tmp_path / "shop.yaml"), home)
    with pytest.raises(SourceError, match=r"inbox/sales1.csv: two interactions tables name"):
        source.files()


def test_only_files_can_be_watched(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        "name: s\nrepeats: true\narrival: {}\nsource: {kind: complete_journey}\n"
        "partitions: {start: 2017-01-01}\n"
    )
    with pytest.raises(ConfigError, match="arrival watches the paths of a source of kind files"):
        load_shop(tmp_path / "shop.yaml")


def test_a_ledger_line_is_one_checked_json_text(place: Place) -> None:
    place.put("a.csv", "1")
    place.look()
    (line,) = place.ledger.path.read_text().splitlines()
    check, body = json.loads(line)
    assert len(check) == 16
    assert json.loads(body)["name"] == "inbox/a.csv"


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("{kind: complete_journey}", "source of kind complete_journey do not arrive"),
        ("{kind: files, interactions: {path: s.csv}, items: {path: i.csv}}", "add arrival: {}"),
    ],
)
def test_an_age_on_arrival_is_refused_where_nobody_knows_the_arrival(
    tmp_path: Path, source: str, advice: str
) -> None:
    (tmp_path / "shop.yaml").write_text(
        "name: s\nrepeats: true\nplausible: {max_age_days: 14}\n"
        f"source: {source}\npartitions: {{start: 2017-01-01}}\n"
    )
    with pytest.raises(ConfigError, match=advice):
        load_shop(tmp_path / "shop.yaml")
