"""The shop file: small by default, strict in every detail, helpful when wrong."""

from pathlib import Path
from typing import get_args

import pytest

from recsys_assets.core.config import (
    ConfigError,
    Shop,
    load_shop,
    packaged_shop,
)
from recsys_assets.core.settings.sources import ExposureColumn, InteractionColumn, ItemColumn
from recsys_assets.ingestion.contract import EXPOSURES, ITEMS, LANDED

MINIMAL = """
name: corner
source: {kind: files, interactions: {path: sales.csv}, items: {path: items.csv}}
repeats: true
partitions: {start: 2024-01-01}
"""


def shop(folder: Path, text: str) -> Shop:
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    return load_shop(folder / "shop.yaml")


def test_a_minimal_shop_has_a_default_for_everything_else(tmp_path: Path) -> None:
    minimal = shop(tmp_path, MINIMAL)
    assert minimal.cutoffs.horizon_days == 28
    assert minimal.cutoffs.weekday == "monday"
    assert {name: p.length for name, p in minimal.placements.items()} == {
        "for_you": 20,
        "discover": 20,
        "buy_again": 20,
    }
    assert minimal.event_types["purchase"].counts_as_taken
    assert minimal.event_types["return"].polarity == -1
    assert minimal.naive_zone == "UTC"
    assert minimal.retriever("anything").enabled
    assert minimal.resolve("sales.csv") == tmp_path / "sales.csv"


def test_films_have_no_buy_again(tmp_path: Path) -> None:
    films = shop(tmp_path, MINIMAL.replace("repeats: true", "repeats: false"))
    assert list(films.placements) == ["for_you", "discover"]
    with pytest.raises(ConfigError, match="buy_again needs repeats: true"):
        shop(
            tmp_path,
            MINIMAL.replace("repeats: true", "repeats: false")
            + "placements: {buy_again: {length: 5}}\n",
        )


def test_an_event_type_changes_only_the_fields_it_names(tmp_path: Path) -> None:
    changed = shop(tmp_path, MINIMAL + "event_types: {view: {weight: 0.3}, gift: {weight: 2}}\n")
    assert changed.event_types["view"].model_dump() == {
        "weight": 0.3,
        "polarity": 1,
        "counts_as_taken": False,
    }
    assert changed.event_types["gift"].weight == 2
    assert "purchase" in changed.event_types


def test_zone_of_naive_timestamps_defaults_to_the_shops(tmp_path: Path) -> None:
    assert shop(tmp_path, MINIMAL + "time_zone: Europe/Berlin\n").naive_zone == "Europe/Berlin"
    both = shop(tmp_path, MINIMAL + "time_zone: Europe/Berlin\ntimestamps_are: UTC\n")
    assert (both.time_zone, both.naive_zone) == ("Europe/Berlin", "UTC")


def test_section_hash_sees_meaning_and_nothing_else(tmp_path: Path) -> None:
    base = shop(tmp_path, MINIMAL)
    lines = MINIMAL.strip().splitlines()
    (tmp_path / "elsewhere").mkdir()
    reordered = shop(
        tmp_path / "elsewhere", "# a comment\n" + "\n".join(reversed(lines)) + "\nseed: 7\n"
    )
    everything = list(Shop.model_fields)
    assert base.section_hash(*everything) == reordered.section_hash(*reversed(everything))
    longer = shop(tmp_path, MINIMAL + "cutoffs: {horizon_days: 14}\n")
    assert longer.section_hash("cutoffs") != base.section_hash("cutoffs")
    assert longer.section_hash("rules") == base.section_hash("rules")
    with pytest.raises(KeyError, match="cutofs"):
        base.section_hash("cutofs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rules: {max_per_catgory: {n: 1}}", "rules.max_per_catgory: unknown key; did you mean"),
        ("rules: {exclude_items: [007]}", "rules.exclude_items.0: .* put it in quotes"),
        ("rules: {markets: [NO]}", "rules.markets.0: .* reads False here; put it in quotes"),
        ("time_zone: Mars/Olympus", "time_zone: 'Mars/Olympus' is not an IANA time zone"),
        ("placements: {home: {length: 3}}", "placements.home: Input should be 'for_you'"),
        ("plausible: {clock_skew_minutes: -1}", "plausible.clock_skew_minutes: .*found -1"),
        ("event_types: {view: {weight: .inf}}", "event_types.view.weight: .*finite"),
        ("evaluation: {bootstrap: 0}", "evaluation.bootstrap: "),
        ("evaluation: {k: 20}", "evaluation.k: unknown key; .*known keys here: bootstrap, seed"),
        (f"wording: {{people: {'x' * 28}}}", "wording.people: .*at most 20 characters"),
        ("plausible: {earliest: 20240131}", "plausible.earliest: 20240131 is not a date; write"),
        ("plausible: {latest: 1989-01-01}", "plausible: latest must not be before earliest"),
        ("plausible: {latest: 9999-12-31}", "plausible.latest: .*less than or equal"),
        ("plausible: {clock_skew_minutes: 9999999}", "clock_skew_minutes: .*less than or equal"),
        ("plausible: {max_age_days: 9999999}", "plausible.max_age_days: .*less than or equal"),
        ("arrival: {settle_seconds: 1.0e+15}", "arrival.settle_seconds: .*less than or equal"),
        ("plausible: {earliest: 17.11.2026}", "earliest: write a valid date .*like 2026-11-17"),
        ("arrival: {settle_seconds: 1m}", "settle_seconds: write a number .*like 60 .*found '1m'"),
        ("last_day_complete: yes please", "last_day_complete: write true or false"),
        ("automation: {daily_at: noon}", "automation.daily_at: write a time of day .*like '04:30'"),
        ("seed: x", "seed: write a whole number"),
        ("rules: {exclude_items: x}", r"rules.exclude_items: write a list, like \[first"),
        ("retrieval: {als: 3}", "retrieval.als: write keys and values, like"),
        ("name: again", "key 'name' is given twice"),
        ("rules: [", "not valid YAML"),
    ],
)
def test_errors_name_the_file_the_key_and_what_to_do(
    tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        shop(tmp_path, MINIMAL + change + "\n")
    assert str(tmp_path / "shop.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("colums: {}", "source.interactions.0.colums: unknown key; did you mean columns"),
        ("columns: {usr: a}", "source.interactions.0.columns.usr: Input should be 'event_id'"),
        ("encoding: utf-16", "source.interactions.0.encoding: 'utf-16' is not an encoding"),
        ("event_type: kauf", "names the event type 'kauf', which is not in event_types"),
        ("event_values: {K: kauf}", r"event_values\.K names the event type 'kauf'"),
        ("delimiter: '::'", "needs quote: null"),
        ("decimal: ',', thousands: ','", "cannot be the same character"),
        ("rating: {like_at: 2}", "dislike_below must not be greater"),
        ("rating: {}, event_type: view", "the event type follows from it; remove event_type"),
        ("header: [a, b, a]", "header: names 'a' more than once"),
        ("columns: {user_id: a, item_id: a}", "user_id, item_id name the same column"),
        ("negative_quantity: view", "rows of the type 'view' must not be negative"),
        *(
            (f"encoding: {name}", f"'{name}' is not an encoding")
            for name in ("idna", "rot13", "iso2022_jp")
        ),
        *(
            (f"time_format: '{text}'", "is not a way to write times")
            for text in ("dd.mm.yyyy", "epoch", "mixed", "ISO8601", "%d.%m.%Q", "%d.%m.%", "%%")
        ),
    ],
)
def test_errors_in_a_table_are_as_precise(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shop(tmp_path, MINIMAL.replace("path: sales.csv", f"path: sales.csv, {table}"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("category_separator: ''", "category_separator: .*at least 1 character"),
        ("columns: {price: [a, b]}", "columns.price: write the name of one column"),
        ("columns: {title: []}", "columns.title: write the name of one column, or of several"),
        ("columns: {category: a, category_2: b}", "category is split into category_1..3; name"),
    ],
)
def test_errors_in_the_catalogue_are_as_precise(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shop(tmp_path, MINIMAL.replace("path: items.csv", f"path: items.csv, {table}"))


def test_a_table_that_is_only_a_path_is_told_how_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a table; write \{path: items.csv\}"):
        shop(tmp_path, MINIMAL.replace("{path: items.csv}", "items.csv"))


def test_keys_that_are_merged_give_way_to_those_that_are_written(tmp_path: Path) -> None:
    event_types = "event_types: {view: &v {weight: 0.5}, peek: {<<: *v, weight: 0.2}}\n"
    assert shop(tmp_path, MINIMAL + event_types).event_types["peek"].weight == 0.2


def test_a_missing_file_and_an_unknown_source_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_shop(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"source: .*'complete_journey'"):
        shop(tmp_path, MINIMAL.replace("kind: files", "kind: flies"))
    with pytest.raises(
        ConfigError, match=r"name: write a-z, .*like corner_shop .found 'Tiny Shop'"
    ):
        shop(tmp_path, MINIMAL.replace("name: corner", "name: Tiny Shop"))
    with pytest.raises(ConfigError, match="partitions: missing; add this key"):
        shop(tmp_path, MINIMAL.replace("partitions: {start: 2024-01-01}", ""))


def test_months_begin_on_their_first_day(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be first days of a month"):
        shop(tmp_path, MINIMAL.replace("2024-01-01", "2024-01-15"))
    with pytest.raises(ConfigError, match="end must be after start"):
        shop(tmp_path, MINIMAL.replace("2024-01-01", "2024-01-01, end: 2024-01-01"))


@pytest.mark.parametrize("name", ["complete_journey", "movielens_100k"])
def test_packaged_shops_load(name: str) -> None:
    assert load_shop(packaged_shop(name)).name == name


def test_mappable_columns_are_the_contracts_columns() -> None:
    origin = {"batch", "file", "row", "reject_field", "reject_reason"}
    assert set(get_args(InteractionColumn)) == set(LANDED) - origin
    assert set(get_args(ItemColumn)) - {"category"} == set(ITEMS) - {"attributes"}
    assert set(get_args(ExposureColumn)) == set(EXPOSURES)


def test_a_benchmark_lays_a_cutoff_before_every_slot(tmp_path: Path) -> None:
    chosen = "cutoffs: {windows: 9, users_per_window: 70}\n"
    last = shop(tmp_path, MINIMAL + "benchmark: {split: leave_last}\n" + chosen)
    assert last.cutoffs.model_dump() == {
        "horizon_days": 1,
        "step_days": 1,
        "windows": 9,
        "users_per_window": 70,
        "weekday": None,
    }
    with pytest.raises(ConfigError, match="remove horizon_days from cutoffs"):
        shop(tmp_path, MINIMAL + "benchmark: {split: last_fifth}\ncutoffs: {horizon_days: 9}\n")
