"""A delivered row of an erased user leaves its place in the file, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys_assets.core.config import Shop, load_shop
from recsys_assets.core.erasures import Erasures
from recsys_assets.ingestion.arrivals import ArrivalLedger, LedgerError
from recsys_assets.ingestion.blanking import blanker
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.source import open_source, sha256_of

NOW = datetime(2026, 1, 10, tzinfo=UTC)
SHOP = """\
name: s
repeats: true
time_zone: UTC
partitions: {granularity: month, start: 2025-12-01}
arrival: {settle_seconds: 0}
source:
  kind: files
  interactions: [{path: "sales*.csv", event_type: purchase, newlines_in_values: true},
                 {path: "more*.parquet", event_type: purchase}]
  items: {path: items.csv}
  users: {path: users.csv, attributes: [age]}
  onboarding_answers: {path: answers.csv}
"""
SALES = """\
user_id,item_id,event_time,context
u1,i1,2026-01-01,"two
lines"
u2,i1,2026-01-01,u1

u1,i2,2026-01-02,x
u1,i2,2026-01-02,x,too many
u2,i2,2026-01-03,x
u1,i2,someday,x
"""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "shop.yaml").write_text(SHOP, encoding="utf-8")
    (tmp_path / "sales.csv").write_text(SALES, encoding="utf-8", newline="")
    more = pd.DataFrame(
        {"user_id": [1, 2, 1], "item_id": ["i1"] * 3, "event_time": ["2026-01-04"] * 3}
    )
    more.to_parquet(tmp_path / "more.parquet")
    (tmp_path / "items.csv").write_text("item_id,title\ni1,a\ni2,b\n", encoding="utf-8")
    (tmp_path / "users.csv").write_text("user_id,age\nu1,30\nu2,31\nu1,32\n", encoding="utf-8")
    (tmp_path / "answers.csv").write_text(
        "user_id,question_id,answer,answered_at\nu1,words,cheese,never\nu2,words,soup,2026-01-01\n",
        encoding="utf-8",
    )
    return load_shop(tmp_path / "shop.yaml")


def take(shop: Shop, home: Path) -> ArrivalLedger:
    (inbox,) = inboxes_of(shop)
    ledger = ledger_of(home)
    ledger.accept(inbox, NOW, blank=blanker(shop, home))
    return ledger


def landed(shop: Shop, home: Path, name: str) -> pd.DataFrame:
    source = open_source(shop, home)
    (file,) = [f for f in source.files() if f.name == name]
    frame = source.land(file, NOW)
    assert len(frame) == source.count_rows(file)
    return frame


def forget(home: Path, *users: str) -> None:
    for user in users:
        Erasures(home / "erasure").ask(user, "", NOW)


@pytest.mark.parametrize("name", ["sales.csv", "more.parquet"])
def test_rows_of_others_stay_as_they_are_and_each_erased_row_is_counted(
    shop: Shop, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    take(shop, home)
    before = landed(shop, home, name)
    forget(home, "u1", "1")
    after = landed(shop, home, name)
    gone = after["reject_reason"] == "erased"
    theirs = before["user_id"].isin(["u1", "1"])
    assert after["row"].tolist() == before["row"].tolist()
    assert gone.tolist() == theirs.tolist()
    pd.testing.assert_frame_equal(after[~gone], before[~theirs])
    empty = after[gone].drop(columns=["batch", "file", "row", "reject_field", "reject_reason"])
    assert empty.isna().all(axis=None)


def test_users_and_answers_of_an_erased_user_are_dropped_and_counted(
    shop: Shop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    take(shop, home)
    forget(home, "u1")
    source = open_source(shop, home)
    users, rejected = source.users(NOW)
    assert users["user_id"].tolist() == ["u2"]
    assert rejected[["row", "reject_reason"]].to_numpy().tolist() == [[2, "erased"], [4, "erased"]]
    answers, rejected = source.onboarding_answers(NOW)
    assert answers["user_id"].tolist() == ["u2"]
    assert rejected["reject_reason"].tolist() == ["erased"]


def test_kept_files_lose_the_rows_and_are_still_known_by_what_was_delivered(
    shop: Shop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    ledger = take(shop, home)
    as_delivered = {f.name: (f.sha256, f.path) for f in ledger.source_files()}
    before = {n: landed(shop, home, n) for n in ("sales.csv", "more.parquet")}
    forget(home, "u1", "1")
    blank = blanker(shop, home)
    assert blank is not None
    done, failed, removed = ledger.erase(blank)
    # the third row of u1 in sales.csv is a broken line: nobody can say whose it is but by the id
    assert done == {"sales.csv": 4, "more.parquet": 2, "users.csv": 2, "answers.csv": 1}
    assert failed == removed == {} and ledger.problems() == []
    assert ledger.erase(blank) == ({}, {}, {})
    for name, (sha256, path) in as_delivered.items():
        assert (sha256_of(path) == sha256) == (name == "items.csv")
    text = as_delivered["sales.csv"][1].read_text(encoding="utf-8")
    assert text.splitlines() == [
        "user_id,item_id,event_time,context", ",,,", "", "u2,i1,2026-01-01,u1", "", ",,,", ",,,",
        "u2,i2,2026-01-03,x", ",,,",
    ]  # fmt: skip
    kept = pq.read_table(as_delivered["more.parquet"][1])
    assert kept["user_id"].to_pylist() == [None, 2, None]
    for name, old in before.items():
        new = landed(shop, home, name)
        others = old["user_id"].isin(["u2", "2"])
        assert new["row"].tolist() == old["row"].tolist()
        assert (new["reject_reason"] == "erased").tolist() == (~others).tolist()
        pd.testing.assert_frame_equal(new[others], old[others])

    # the same files again: the sender still has the rows, we do not take them
    for name in as_delivered:
        (tmp_path / name).touch()
    look = ledger.accept(inboxes_of(shop)[0], NOW, blank=blank)
    assert look.accepted == [] and ledger.problems() == []
    assert as_delivered["sales.csv"][1].read_text(encoding="utf-8") == text


def test_an_altered_note_of_blanked_rows_is_refused(shop: Shop, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ledger = take(shop, home)
    forget(home, "u1")
    blank = blanker(shop, home)
    assert blank is not None
    ledger.erase(blank)
    note, right = home / "arrivals" / "blanked.json", ledger.blanked()
    whole = note.read_text(encoding="utf-8")
    _, _, document = whole.partition("\n")
    note.write_text(document, encoding="utf-8")  # as an earlier program wrote it
    assert ledger.blanked() == right
    for torn in (whole[:70], whole.replace("[2", "[3", 1), document.replace("rows", "rovs", 1)):
        assert torn != whole
        note.write_text(torn, encoding="utf-8")
        with pytest.raises(LedgerError, match=r"blanked\.json is damaged"):
            ledger.source_files()
        assert "blanked.json is damaged" in ledger.problems()[0]


def test_a_new_file_is_kept_without_the_rows_of_erased_users(shop: Shop, tmp_path: Path) -> None:
    home = tmp_path / "home"
    take(shop, home)
    forget(home, "u1")
    (tmp_path / "sales2.csv").write_text(
        "user_id,item_id,event_time\r\nu1,i1,2026-01-05\r\nu2,i1,2026-01-05\r\n",
        encoding="utf-8", newline="",
    )  # fmt: skip
    ledger = take(shop, home)
    (arrival,) = [a for a in ledger.active() if a.name == "sales2.csv"]
    assert arrival.sha256 == sha256_of(tmp_path / "sales2.csv")
    kept = ledger.archived(arrival).read_bytes()
    assert kept == b"user_id,item_id,event_time\r\n,,\r\nu2,i1,2026-01-05\r\n"
    assert landed(shop, home, "sales2.csv")["user_id"].dropna().tolist() == ["u2"]


def test_a_bad_file_after_an_erasure_is_told_by_its_name_and_keeps_no_other_back(
    shop: Shop, tmp_path: Path
) -> None:
    home, good = tmp_path / "home", "user_id,item_id,event_time\nu2,i1,2026-01-05\n"
    take(shop, home)
    forget(home, "u1")
    (tmp_path / "sales2.csv").write_text(good.replace("user_id", "customer"), encoding="utf-8")
    (tmp_path / "sales3.csv").write_text(good, encoding="utf-8")
    ledger, (inbox,) = ledger_of(home), inboxes_of(shop)
    look = ledger.accept(inbox, NOW, blank=blanker(shop, home))
    assert [a.name for a in look.accepted] == ["sales3.csv"]
    assert look.refused["sales2.csv"].startswith("is not taken")
    assert "no column 'user_id'" in look.refused["sales2.csv"]
    assert str(home) not in look.refused["sales2.csv"]
    (tmp_path / "sales2.csv").write_text(good.replace("i1", "i2"), encoding="utf-8")
    look = ledger.accept(inbox, NOW, blank=blanker(shop, home))
    assert [a.name for a in look.accepted] == ["sales2.csv"] and look.refused == {}


def test_a_bad_file_that_was_delivered_again_is_deleted_and_nothing_of_it_is_left(
    shop: Shop, tmp_path: Path
) -> None:
    home, bad = tmp_path / "home", "customer,item_id,event_time\nu1,i1,2026-01-05\n"
    for text in (bad, bad.replace("customer", "user_id")):
        (tmp_path / "sales2.csv").write_text(text, encoding="utf-8")
        ledger = take(shop, home)
    first, second = (ledger.archived(a) for a in ledger.arrivals() if a.name == "sales2.csv")
    forget(home, "u1")
    blank = blanker(shop, home)
    assert blank is not None
    done, failed, removed = ledger.erase(blank)
    assert failed == {} and done["sales2.csv"] == 1
    assert list(removed) == ["sales2.csv"] and "no column 'user_id'" in removed["sales2.csv"]
    assert not first.exists() and second.read_text() == "user_id,item_id,event_time\n,,\n"


def test_a_torn_blanking_leaves_a_file_that_can_be_read_either_way(
    shop: Shop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    ledger = take(shop, home)
    (arrival,) = [a for a in ledger.active() if a.name == "sales.csv"]
    delivered = ledger.archived(arrival).read_bytes()
    forget(home, "u1")
    blank = blanker(shop, home)
    assert blank is not None
    ledger.erase(blank)
    blanked = ledger.archived(arrival).read_bytes()
    ledger.archived(arrival).write_bytes(delivered)  # killed between the note and the file
    assert ledger.problems() == []
    assert landed(shop, home, "sales.csv")["user_id"].dropna().unique().tolist() == ["u2"]
    ledger.erase(blank)
    assert ledger.archived(arrival).read_bytes() == blanked


def test_who_is_erased_after_a_look_began_is_in_no_file_that_it_takes(
    shop: Shop, tmp_path: Path
) -> None:
    blank = blanker(shop, tmp_path / "home")
    forget(tmp_path / "home", "u1")
    ledger = ledger_of(tmp_path / "home")
    ledger.accept(inboxes_of(shop)[0], NOW, blank=blank)
    (sales,) = [a for a in ledger.active() if a.name == "sales.csv"]
    blanked = {len(b.rows) for b in ledger.blanked().values()}
    assert blanked == {1, 2, 4}, "answers, users, sales"
    assert b"u1,i" not in ledger.archived(sales).read_bytes()


def test_no_erasure_costs_nothing(shop: Shop, tmp_path: Path) -> None:
    blank = blanker(shop, tmp_path / "home")
    assert blank is not None and blank("interactions", "sales.csv", tmp_path / "not read") == []
    take(shop, tmp_path / "home")
    assert open_source(shop, tmp_path / "home").erased is None  # type: ignore[attr-defined]
