"""A shop nobody wrote an adapter for: German columns, semicolons, local times, two months."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from recsys_assets.core.assets import Project
from recsys_assets.core.config import Shop, load_shop
from recsys_assets.core.settings.sources import FilesSource
from recsys_assets.ingestion.arrivals import watch
from recsys_assets.ingestion.assets import landed_rows
from recsys_assets.ingestion.files import files_source, inboxes_of, ledger_of
from recsys_assets.ingestion.source import SourceError, open_source, sha256_of
from recsys_assets.ingestion.tabular import TabularSource

NOW = datetime(2024, 1, 1, tzinfo=UTC)
HOFLADEN = Path(__file__).parent.parent / "data" / "hofladen" / "shop.yaml"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return load_shop(HOFLADEN)


@pytest.fixture(scope="module")
def source(shop: Shop) -> TabularSource:
    return open_source(shop)


@pytest.fixture(scope="module")
def landed(source: TabularSource) -> pd.DataFrame:
    files = [f for f in source.files() if f.role == "interactions"]
    frames = [source.land(f, NOW) for f in files]
    assert [len(f) for f in frames] == [source.count_rows(f) for f in files]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def accepted(landed: pd.DataFrame) -> pd.DataFrame:
    return landed[landed["reject_reason"].isna()].reset_index(drop=True)


def test_ignored_columns_are_warned_about_and_nothing_else(source: TabularSource) -> None:
    assert source.check() == ["belege/2023-a.csv and 1 more: ignored columns Kasse"]


def test_ids_survive_as_written(accepted: pd.DataFrame) -> None:
    assert accepted["user_id"].tolist() == [
        "007",
        "007",
        "NA",
        "12345678901234567",
        "12345678901234567",
        "null",
    ]
    assert accepted["item_id"].tolist() == ["0010", "0010", "0020", "0030", "0030", "0010"]


def test_german_numbers_words_and_encoding(accepted: pd.DataFrame) -> None:
    assert accepted["value"].tolist()[:2] == [1234.5, 1234.5]
    assert accepted["store_id"].tolist()[:2] == ["Süd", "Süd"]
    assert accepted["quantity"].tolist() == [2, 2, 1, 1, -1, 1]
    assert accepted["event_type"].tolist() == [
        "purchase",
        "purchase",
        "view",
        "purchase",
        "return",
        "return",
    ]


def test_hours_that_a_clock_change_skips_or_repeats_take_the_offset_before_it(
    accepted: pd.DataFrame,
) -> None:
    moments = [f"{t:%m-%d %H:%M}" for t in accepted["event_time"]]
    assert moments[0] == "03-24 16:05"
    assert moments[2] == "03-26 01:30", "02:30 does not exist; it reads as 03:30 summer time"
    assert moments[3] == "10-29 00:30", "the first of two 02:30s"


def test_two_equal_lines_of_one_receipt_are_two_events(accepted: pd.DataFrame) -> None:
    assert accepted["event_id"].is_unique


def test_every_bad_line_is_found_by_file_line_field_and_reason(landed: pd.DataFrame) -> None:
    bad = landed[landed["reject_reason"].notna()]
    assert set(bad["file"]) == {"belege/2023-b.csv"}
    assert list(zip(bad["row"], bad["reject_field"], bad["reject_reason"], strict=True)) == [
        (3, "event_time", "not a timestamp: '32.13.2023 10:00'"),
        (4, "user_id", "missing id"),
        (5, "event_type", "unknown event type: 'Tausch'"),
        (6, "quantity", "not a number: 'viel'"),
        (7, "row", "wrong number of values: 7 where 9 are expected"),
        (8, "event_time", "in the future: '02.11.2099 10:05'"),
    ]


def test_catalogue_splits_paths_and_explains_what_it_leaves_out(source: TabularSource) -> None:
    items, rejects = source.items(NOW)
    assert items["item_id"].tolist() == ["0010", "0020", "0030"]
    assert items["title"].tolist() == ["Käse; am Stück", "Äpfel", "=2+5|cmd"]
    assert items[["category_1", "category_2", "category_3"]].to_numpy().tolist()[0] == [
        "Molkerei",
        "Käse",
        "Hartkäse",
    ]
    assert items["attributes"].tolist() == ['{"Gewicht": "1 kg"}', "{}", '{"Gewicht": "500 g"}']
    assert list(zip(rejects["row"], rejects["reject_reason"], strict=True)) == [
        (5, "duplicate of row 4"),
        (6, "conflicts with row 3"),
        (7, "negative: '-1,00'"),
    ]
    (file,) = (f for f in source.files() if f.role == "items")
    assert len(items) + len(rejects) == source.count_rows(file)


def test_ten_lines_are_enough_for_files_that_use_our_names(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        "name: corner\nsource:\n  kind: files\n"
        "  interactions: {path: sales.csv, event_type: purchase}\n"
        "  items: {path: items.csv}\n"
        "repeats: true\npartitions: {start: 2023-01-01}\n"
    )
    (tmp_path / "sales.csv").write_text(
        "user_id,item_id,event_time\nu,i,2023-05-01T12:00:00+02:00\nu,i,2023-05-01 12:00:00\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title\ni,Tea\n")
    source = open_source(load_shop(tmp_path / "shop.yaml"))
    assert source.check() == []
    landed = source.land(source.files()[0], NOW)
    assert landed["event_time"].dt.hour.tolist() == [10, 12]
    assert landed["event_type"].tolist() == ["purchase", "purchase"]
    assert len(source.items(NOW)[0]) == 1
    assert len(source.users(NOW)[0]) == len(source.exposures(NOW)[0]) == 0


def test_an_event_that_is_sold_is_an_item_and_no_event_id(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        "name: tickets\nsource:\n  kind: files\n"
        "  interactions: {path: sales.csv, event_type: purchase, columns: {item_id: event_id}}\n"
        "  items: {path: items.csv}\n"
        "repeats: false\npartitions: {start: 2023-01-01}\n"
    )
    (tmp_path / "sales.csv").write_text(
        "user_id,event_id,event_time\nu,concert,2023-05-01T12:00Z\nv,concert,2023-05-01T12:00Z\n"
    )
    (tmp_path / "items.csv").write_text("item_id\nconcert\n")
    source = open_source(load_shop(tmp_path / "shop.yaml"))
    (file,) = (f for f in source.files() if f.role == "interactions")
    landed = source.land(file, NOW)
    assert landed["reject_reason"].isna().all()
    assert landed["item_id"].tolist() == ["concert", "concert"]
    assert landed["event_id"].is_unique


def test_a_renamed_column_stops_with_the_nearest_match(tmp_path: Path) -> None:
    text = HOFLADEN.read_text().replace("user_id: Kundennr", "user_id: Kundennummer")
    (tmp_path / "shop.yaml").write_text(text)
    (tmp_path / "belege").symlink_to(HOFLADEN.parent / "belege")
    (tmp_path / "artikel.csv").symlink_to(HOFLADEN.parent / "artikel.csv")
    with pytest.raises(
        SourceError, match=r"'Kundennummer' \(for user_id\); did you mean 'Kundennr'"
    ):
        open_source(load_shop(tmp_path / "shop.yaml")).check()


@pytest.mark.parametrize(
    ("table", "header", "message"),
    [
        ("", "event_typ", r"no column 'event_type'; did you mean 'event_typ'"),
        ("", "event_typ", r"or say event_type: purchase there if every row is one"),
        (", rating: {}", "weigth", r"no column 'weight'; did you mean 'weigth'"),
    ],
)
def test_a_column_that_says_the_type_of_an_event_is_needed(
    tmp_path: Path, table: str, header: str, message: str
) -> None:
    source = plain(tmp_path, f"{{path: sales.csv{table}}}", f"user_id,item_id,event_time,{header}")
    with pytest.raises(SourceError, match=message):
        source.check()


def plain(
    folder: Path, interactions: str, header: str = "user_id,item_id,event_time"
) -> TabularSource:
    """A shop of our names with a file of one event and one item."""
    folder.mkdir(exist_ok=True)
    (folder / "sales.csv").write_text(f"{header}\nu,i,2024-01-02{',5' * header.count(',', 24)}\n")
    (folder / "items.csv").write_text("item_id\ni\n")
    (folder / "shop.yaml").write_text(
        "name: s\nrepeats: true\npartitions: {start: 2024-01-01}\nsource:\n  kind: files\n"
        f"  interactions: {interactions}\n  items: {{path: items.csv}}\n"
    )
    return open_source(load_shop(folder / "shop.yaml"))


def test_a_folder_with_signs_of_a_pattern_in_its_name_is_a_folder(tmp_path: Path) -> None:
    source = plain(tmp_path / "shop[1]", "{path: 'sa*.csv', event_type: view}")
    assert [f.name for f in source.files()] == ["items.csv", "sales.csv"][::-1]
    watched = watch("interactions", tmp_path / "shop[1]" / "sa*.csv", (".csv",))
    assert watched.accepts(tmp_path / "shop[1]" / "sales.csv")


def test_a_compressed_file_in_a_folder_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv.gz"):
        (tmp_path / "in" / name).write_text("user_id,item_id,event_time\n")
    source = plain(tmp_path, "{path: in, event_type: view}")
    assert source.check() == ["in/b.csv.gz: is compressed and not read; unpack it there"]


def test_a_pattern_does_not_name_hidden_files(tmp_path: Path) -> None:
    source = plain(tmp_path, "{path: '*sales.csv', event_type: view}")
    (tmp_path / "._sales.csv").write_bytes(b"\0\5\x16\7")
    assert "._sales.csv" not in [f.name for f in source.files()]


def test_a_name_that_is_no_text_and_a_file_that_cannot_be_read_are_errors_with_a_remedy(
    tmp_path: Path,
) -> None:
    source = plain(tmp_path, "{path: '*.csv', event_type: view}")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv"))
    odd.write_text("x")
    with pytest.raises(SourceError, match=r"udcff.csv': its name is not UTF-8: rename it"):
        source.files()
    with pytest.raises(SourceError, match=r"gone.csv: cannot be read .* deliver it again"):
        sha256_of(tmp_path / "gone.csv")


def test_a_wrong_delimiter_is_named(tmp_path: Path) -> None:
    text = HOFLADEN.read_text().replace('delimiter: ";"', 'delimiter: ","', 1)
    (tmp_path / "shop.yaml").write_text(text)
    (tmp_path / "belege").symlink_to(HOFLADEN.parent / "belege")
    (tmp_path / "artikel.csv").symlink_to(HOFLADEN.parent / "artikel.csv")
    with pytest.raises(SourceError, match="is the delimiter ';'"):
        open_source(load_shop(tmp_path / "shop.yaml")).check()


def test_a_path_without_files_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(HOFLADEN.read_text())
    with pytest.raises(SourceError, match=r"belege/\*\.csv: no file for interactions"):
        open_source(load_shop(tmp_path / "shop.yaml")).files()


def outside(folder: Path, interactions: str, more: str = "") -> Path:
    """A shop file in a folder of its own, with exports of two days beside it, named alike."""
    for day in ("01", "02"):
        place = folder / "exports" / f"day={day}"
        place.mkdir(parents=True)
        (place / "part-0.csv").write_text(f"user_id,item_id,event_time\nu{day},x,2024-01-{day}\n")
    (folder / "exports" / "items.csv").write_text("item_id\nx\n")
    (folder / "shop").mkdir()
    (folder / "shop" / "shop.yaml").write_text(
        "name: s\nrepeats: true\npartitions: {start: 2024-01-01}\nsource:\n  kind: files\n"
        f"  interactions: {{path: '{interactions}', event_type: purchase}}\n"
        f"  items: {{path: {folder}/exports/items.csv}}\n{more}"
    )
    return folder / "shop" / "shop.yaml"


def test_files_outside_the_shops_folder_are_told_apart_by_their_whole_path(tmp_path: Path) -> None:
    shop = outside(tmp_path, f"{tmp_path}/exports/day=*/part-0.csv")
    project = Project(home=str(tmp_path / "home"), shop_file=str(shop))
    landed = landed_rows.producer
    landed.produce(project, "")
    assert landed.judge(project, "").passed
    rows = project.lake.read("landed_rows").to_pandas()
    assert dict(zip(rows["user_id"], rows["file"], strict=True)) == {
        "u01": f"{tmp_path}/exports/day=01/part-0.csv",
        "u02": f"{tmp_path}/exports/day=02/part-0.csv",
    }


def test_a_watched_folder_may_lie_outside_of_the_shops_folder(tmp_path: Path) -> None:
    shop = load_shop(
        outside(tmp_path, f"{tmp_path}/exports/day=01/*.csv", "arrival: {settle_seconds: 0}\n")
    )
    home = tmp_path / "home"
    for inbox in inboxes_of(shop):
        assert len(ledger_of(home).accept(inbox, NOW).accepted) == 2
        assert len(ledger_of(home).accept(inbox, NOW).accepted) == 0
    source = open_source(shop, home)
    sales, items = source.files()
    assert sales.name == f"{tmp_path}/exports/day=01/part-0.csv"
    assert items.name == f"{tmp_path}/exports/items.csv"
    assert source.land(sales, NOW)["user_id"].tolist() == ["u01"]
    assert isinstance(shop.source, FilesSource)
    spec = files_source(shop, shop.source).spec_of("interactions", sales.name)
    assert spec is not None, "erasure asks for the table of a name"


def test_two_files_of_one_name_are_refused_and_none_is_lost(tmp_path: Path) -> None:
    shop = load_shop(outside(tmp_path, f"{tmp_path}/exports/day=01/*.csv"))
    assert isinstance(shop.source, FilesSource)
    (table, *_) = files_source(shop, shop.source)._tables
    roots = [tmp_path / "exports" / f"day={day}" for day in ("01", "02")]
    tables = [replace(table, root=root, pattern=root / "part-0.csv") for root in roots]
    with pytest.raises(SourceError, match=r"is called 'part-0.csv' like .*day=01/part-0.csv"):
        TabularSource(tables).files()


def test_the_same_bytes_in_two_tables_are_events_of_both(tmp_path: Path) -> None:
    for name in ("cart.csv", "sale.csv", "sale_again.csv"):
        (tmp_path / name).write_text("user_id,item_id,event_time\nu,i,2024-01-02\n")
    (tmp_path / "shop.yaml").write_text(
        "name: s\nrepeats: true\npartitions: {start: 2024-01-01}\nsource:\n  kind: files\n"
        "  interactions: [{path: cart.csv, event_type: cart},\n"
        "    {path: 'sale*.csv', event_type: purchase}]\n  items: {path: items.csv}\n"
    )
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    source = open_source(load_shop(tmp_path / "shop.yaml"))
    types = [source.land(f, NOW)["event_type"].tolist() for f in source.to_land()]
    assert types == [["cart"], ["purchase"]]
