"""Rules that look at whole rows and whole files: event ids, duplicates, signs, accounting."""

import hashlib
import struct
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_assets.core.config import load_shop
from recsys_assets.core.settings.calendar import Plausible
from recsys_assets.ingestion.contract import (
    EXPOSURES,
    ITEMS,
    LANDED,
    PROMOTIONS,
    REJECTS,
    USERS,
    empty_frame,
    time_bounds,
)
from recsys_assets.ingestion.parsing import reason_code
from recsys_assets.ingestion.source import SourceError, open_source
from recsys_assets.ingestion.tables import RAW_EXPOSURES
from recsys_assets.ingestion.tabular import TabularSource

NOW = datetime(2024, 1, 1, tzinfo=UTC)
HEADER = "user_id,item_id,event_time,event_type,quantity\n"


def shop_of(folder: Path, events: str | bytes, table: str = "", extra: str = "") -> TabularSource:
    """A source whose only interactions file has this content."""
    data = events.encode() if isinstance(events, str) else events
    (folder / "events.csv").write_bytes(data)
    (folder / "items.csv").write_text("item_id\ni\n")
    return configured(folder, "events.csv", table, extra)


def configured(folder: Path, path: str, table: str = "", extra: str = "") -> TabularSource:
    (folder / "shop.yaml").write_text(
        f"name: s\nsource: {{kind: files, items: {{path: items.csv}}, interactions: {{path: {path}"
        f"{table}}}{extra}}}\nrepeats: true\npartitions: {{start: 2023-01-01}}\n"
    )
    return open_source(load_shop(folder / "shop.yaml"))


def landed(source: TabularSource, file: int = 0) -> pd.DataFrame:
    chosen = [f for f in source.files() if f.role == "interactions"][file]
    frame = source.land(chosen, NOW)
    assert len(frame) == source.count_rows(chosen)
    assert {c: str(t) for c, t in frame.dtypes.items()} == LANDED
    return frame


def codes(frame: pd.DataFrame) -> list[str | None]:
    return [None if pd.isna(r) else reason_code(r) for r in frame["reject_reason"]]


def test_equal_rows_of_one_file_are_separate_events_with_stable_ids(tmp_path: Path) -> None:
    rows = "u,i,2023-05-01,purchase,1\n"
    once = landed(shop_of(tmp_path, HEADER + rows))["event_id"].tolist()
    twice = landed(shop_of(tmp_path, HEADER + rows * 2))["event_id"].tolist()
    assert twice[0] == once[0] and twice[1] != once[0]
    noise = "u,other,2023-05-02,purchase,1\nu,,2023-05-01,purchase,1\n"
    among = landed(shop_of(tmp_path, HEADER + noise + rows * 2))
    assert among["event_id"].tolist()[2:] == twice
    assert pd.isna(among["event_id"][1]), "a refused row has no derived id"


def test_derived_ids_are_the_same_on_every_machine_and_in_every_version(tmp_path: Path) -> None:
    source = shop_of(tmp_path, HEADER + "007,i,2023-05-01T10:00:00+02:00,view,2.5\n")
    (bits,) = struct.unpack("<q", struct.pack("<d", 2.5))
    content = (
        f"user_id=3:007item_id=1:ievent_type=4:viewevent_time=1682928000000000;quantity={bits};"
    )
    expected = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()[:20]
    assert landed(source)["event_id"].tolist() == [expected] == ["1eacdf999efca2c76e24"]


def test_the_content_of_an_id_cannot_be_shifted_between_columns(tmp_path: Path) -> None:
    source = shop_of(tmp_path, HEADER + "ab,c,2023-05-01,view,1\na,bc,2023-05-01,view,1\n")
    assert landed(source)["event_id"].is_unique


@pytest.mark.parametrize(("choice", "shared"), [("one_event", 1), ("two_events", 0)])
def test_equal_rows_of_overlapping_files_are_what_the_shop_says(
    tmp_path: Path, choice: str, shared: int
) -> None:
    row = "u,i,2023-05-01,purchase,1\n"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.csv").write_text(HEADER + row)
    (tmp_path / "log" / "2.csv").write_text(HEADER + row + "u,i,2023-05-02,purchase,1\n")
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    source = configured(tmp_path, "log", f", identical_rows: {choice}")
    first, second = (set(landed(source, n)["event_id"]) for n in (0, 1))
    assert len(first & second) == shared
    again = tmp_path / "log" / "3.csv"
    again.write_bytes((tmp_path / "log" / "1.csv").read_bytes())
    source = configured(tmp_path, "log", f", identical_rows: {choice}")
    assert set(landed(source, 2)["event_id"]) == first, "the same bytes under another name"


def test_a_given_id_may_repeat_but_not_with_other_content(tmp_path: Path) -> None:
    frame = landed(
        shop_of(
            tmp_path,
            "event_id," + HEADER + "e1,u,i,2023-05-01,view,1\n"
            "e1,u,i,2023-05-01,view,1\n"
            "e1,u,i,2023-05-01,view,2\n"
            ",u,i,2023-05-01,view,2\n"
            "e2,u,i,2023-05-01,view,2\n",
        )
    )
    assert codes(frame) == [None, None, "conflicts with row", "missing id", None]
    assert frame["reject_reason"][2] == "conflicts with row 2: the same event id, other content"
    assert frame["event_id"].tolist()[:3] == ["e1"] * 3


def test_only_returns_may_be_negative(tmp_path: Path) -> None:
    events = HEADER + "u,i,2023-05-01,purchase,-1\nu,i,2023-05-01,return,-1\n"
    assert codes(landed(shop_of(tmp_path, events))) == ["negative", None]
    neutral = landed(shop_of(tmp_path, HEADER + "u,i,2023-05-01,neutral,-1\n"))
    assert codes(neutral) == ["negative"]
    events += "u,i,2023-05-01,purchase,0\n"
    turned = landed(shop_of(tmp_path, events, ", negative_quantity: return"))
    assert turned["event_type"].tolist() == ["return", "return", "purchase"]


def test_a_missing_quantity_is_one_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    frame = landed(shop_of(tmp_path, HEADER + "u,i,2023-05-01,view,\nu,i,2023-05-01,view,1e308\n"))
    assert frame["quantity"].tolist()[0] == 1
    assert codes(frame) == [None, "out of range"]


def test_ratings_become_likes_neutrals_and_dislikes_with_their_weight(tmp_path: Path) -> None:
    frame = landed(
        shop_of(
            tmp_path,
            "user_id,item_id,event_time,stars\n"
            + "".join(
                f"u,i,2023-05-0{n},{s}\n"
                for n, s in enumerate(["5", "4", "3.5", "3", "2.5", "", "x"], 1)
            ),
            ", columns: {weight: stars}, rating: {like_at: 4, dislike_below: 3}",
        )
    )
    assert frame["event_type"].tolist()[:5] == ["like", "like", "neutral", "neutral", "dislike"]
    assert frame["weight"].tolist()[:5] == [5, 4, 3.5, 3, 2.5]
    assert codes(frame)[5:] == ["missing value", "not a number"]


def test_a_future_event_waits_for_its_time_and_moves_no_other(tmp_path: Path) -> None:
    source = shop_of(tmp_path, HEADER + "u,i,2024-01-02,view,1\nu,i,2023-12-31,view,1\n")
    (file, _) = source.files()
    assert codes(landed(source)) == ["in the future", None]
    later = source.land(file, datetime(2024, 1, 3, tzinfo=UTC))
    assert codes(later) == [None, None]


def test_events_outside_the_partitions_are_refused_and_not_lost(tmp_path: Path) -> None:
    source = shop_of(
        tmp_path,
        HEADER
        + "".join(
            f"u,i,{day},view,1\n" for day in ("2022-12-31 23:59", "2023-01-01", "2023-12-31 23:59")
        ),
    )
    assert codes(landed(source)) == ["before the plausible time", None, None]
    text = (tmp_path / "shop.yaml").read_text()
    (tmp_path / "shop.yaml").write_text(text.replace("01-01}", "01-01, end: 2023-12-01}"))
    closed = open_source(load_shop(tmp_path / "shop.yaml"))
    assert codes(landed(closed)) == ["before the plausible time", None, "after the plausible time"]


def test_a_file_that_changed_after_it_was_listed_is_not_landed(tmp_path: Path) -> None:
    source = shop_of(tmp_path, HEADER)
    (file, _) = source.files()
    file.path.write_text(HEADER + "u,i,2023-05-01,view,1\n")
    with pytest.raises(SourceError, match="changed after it was listed"):
        source.land(file, NOW)
    with pytest.raises(SourceError, match="no longer"):
        source.land(replace(file, sha256="0" * 64), NOW)


def test_a_file_of_no_rows_lands_as_an_empty_typed_frame(tmp_path: Path) -> None:
    assert len(landed(shop_of(tmp_path, HEADER))) == 0


def test_typed_and_text_files_of_the_same_events_give_the_same_ids(tmp_path: Path) -> None:
    source = shop_of(tmp_path, HEADER + "7,10,2023-05-01 10:00:00,view,2\n8,10,,view,2\n")
    as_text = landed(source)
    table = pa.table(
        {
            "user_id": pa.array([7, 8]),
            "item_id": pa.array(["10", "10"]).dictionary_encode(),
            "event_time": pa.array([datetime(2023, 5, 1, 10), None], pa.timestamp("ns")),  # noqa: DTZ001
            "event_type": ["view", "view"],
            "quantity": pa.array([2, 2], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "events.parquet")
    as_types = landed(configured(tmp_path, "events.parquet"))
    assert as_types["event_id"][0] == as_text["event_id"][0]
    assert codes(as_types) == codes(as_text) == [None, "missing value"]
    assert as_types["row"].tolist() == [1, 2]


def test_times_in_the_old_format_of_parquet_reach_the_end_of_9999(tmp_path: Path) -> None:
    shop_of(tmp_path, HEADER)
    for_ever = pa.array([datetime(9999, 12, 31)], pa.timestamp("us"))  # noqa: DTZ001
    table = pa.table({"item_id": ["i"], "available_to": for_ever})
    pq.write_table(table, tmp_path / "items.parquet", use_deprecated_int96_timestamps=True)
    text = (tmp_path / "shop.yaml").read_text().replace("items.csv", "items.parquet")
    (tmp_path / "shop.yaml").write_text(text)
    items, _ = open_source(load_shop(tmp_path / "shop.yaml")).items(NOW)
    assert items["available_to"].dt.year.tolist() == [9999]


def test_text_in_parquet_is_checked_like_text_in_csv(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    raw = pa.array([b"u", b"\xff", b"a\0", None], pa.binary())
    users = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    rest = {"item_id": ["i"] * 4, "event_time": ["2023-05-01"] * 4, "event_type": ["view"] * 4}
    pq.write_table(pa.table({"user_id": users, **rest}), tmp_path / "e.parquet")
    frame = landed(configured(tmp_path, "e.parquet"))
    assert codes(frame) == [None, "wrong encoding", "NUL character", "missing id"]


def test_corrupt_or_nested_parquet_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    good = pa.table({"user_id": ["u"], "item_id": [["i"]], "event_time": ["2023-05-01"]})
    pq.write_table(good, tmp_path / "e.parquet")
    source = configured(tmp_path, "e.parquet", ", event_type: view")
    with pytest.raises(SourceError, match="column 'item_id' is list"):
        landed(source)
    data = (tmp_path / "e.parquet").read_bytes()
    (tmp_path / "e.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"e\.parquet: is not a readable Parquet file"):
        configured(tmp_path, "e.parquet").check()


def test_uuids_are_the_texts_that_everybody_writes(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    ids = [UUID("0af3b1c2-0000-4000-8000-00000000000e"), None, UUID(int=2**128 - 1)]
    users = pa.array([i and i.bytes for i in ids], pa.uuid())
    rest = {"item_id": ["i"] * 3, "event_time": ["2023-05-01"] * 3, "event_type": ["view"] * 3}
    pq.write_table(pa.table({"user_id": users, **rest}), tmp_path / "e.parquet")
    frame = landed(configured(tmp_path, "e.parquet"))
    assert codes(frame) == [None, "missing id", None]
    assert frame["user_id"].dropna().tolist() == [str(i) for i in ids if i]


@pytest.mark.parametrize("encoded", [False, True])
def test_bytes_of_a_fixed_size_are_an_error_that_names_file_and_column(
    tmp_path: Path, encoded: bool
) -> None:
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    users = pa.array([b"\x00\x01"], pa.binary(2))
    rest = {"item_id": ["i"], "event_time": ["2023-05-01"]}
    users = users.dictionary_encode() if encoded else users
    pq.write_table(pa.table({"user_id": users, **rest}), tmp_path / "e.parquet")
    with pytest.raises(
        SourceError, match=r"e\.parquet: column 'user_id' is fixed_size_binary\[2\]"
    ):
        landed(configured(tmp_path, "e.parquet", ", event_type: view"))


def test_a_position_that_no_table_holds_costs_its_row(tmp_path: Path) -> None:
    (tmp_path / "shown.csv").write_text(
        "request_id,user_id,item_id,placement,position,shown_at\n"
        "a,u,i,home,2147483647,2023-05-01\nb,u,i,home,2147483648,2023-05-01\n"
    )
    shown, rejects = shop_of(tmp_path, HEADER, extra=", exposures: {path: shown.csv}").exposures(
        NOW
    )
    assert RAW_EXPOSURES.conform(shown)["position"].to_pylist() == [2147483647]
    assert codes(rejects) == ["out of range"]


def test_words_for_no_value_are_none_in_optional_ids_and_joined_texts(tmp_path: Path) -> None:
    source = shop_of(
        tmp_path,
        "user_id,item_id,event_time,session_id,store_id\nNULL,i,2023-05-01,NULL,NULL\n",
        ", event_type: view, null_values: ['NULL']",
    )
    row = landed(source).iloc[0]
    assert row["user_id"] == "NULL" and pd.isna(row["session_id"]) and pd.isna(row["store_id"])
    (tmp_path / "items.csv").write_text("item_id,group_id,a,b\ni,NULL,soup,NULL\n")
    text = (tmp_path / "shop.yaml").read_text()
    mapped = "items.csv, null_values: ['NULL'], columns: {title: [a, b]}"
    (tmp_path / "shop.yaml").write_text(text.replace("items.csv", mapped))
    items, _ = open_source(load_shop(tmp_path / "shop.yaml")).items(NOW)
    assert items["title"].tolist() == ["soup"] and items["group_id"].isna().all()


def test_words_for_no_value_are_none_in_attributes_and_answers(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id,town,size\nu,-,-\nv,Ulm,-\n")
    (tmp_path / "answers.csv").write_text(
        "user_id,question_id,answer,answered_at\nu,q,-,2023-05-01\nv,q,tea,2023-05-01\n"
    )
    source = shop_of(
        tmp_path,
        HEADER,
        extra=", users: {path: users.csv, null_values: ['-'], attributes: [town, size]}, "
        "onboarding_answers: {path: answers.csv, null_values: ['-']}",
    )
    assert source.users(NOW)[0]["attributes"].tolist() == ["{}", '{"town": "Ulm"}']
    answers, rejects = source.onboarding_answers(NOW)
    assert answers["answer"].tolist() == ["tea"]
    assert codes(rejects) == ["missing value"]
    (tmp_path / "items.csv").write_text("item_id,size\ni,-\nj,8\n")
    text = (tmp_path / "shop.yaml").read_text()
    items = "items: {path: items.csv, null_values: ['-'], attributes: [size]}"
    (tmp_path / "shop.yaml").write_text(text.replace("items: {path: items.csv}", items))
    source = open_source(load_shop(tmp_path / "shop.yaml"))
    assert source.items(NOW)[0]["attributes"].tolist() == ["{}", '{"size": "8"}']


def test_numbers_for_times_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\ni\n")
    times = pa.table({"user_id": ["u"], "item_id": ["i"], "event_time": [1_700_000_000]})
    pq.write_table(times, tmp_path / "e.parquet")
    source = configured(tmp_path, "e.parquet", ", event_type: view")
    with pytest.raises(SourceError, match=r"e\.parquet: column for event_time holds int64"):
        landed(source)
    pq.write_table(pa.table({"item_id": ["i"], "available_from": [1]}), tmp_path / "i.parquet")
    text = (tmp_path / "shop.yaml").read_text().replace("items.csv", "i.parquet")
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(SourceError, match=r"i\.parquet: column for available_from holds int64"):
        open_source(load_shop(tmp_path / "shop.yaml")).items(NOW)


def test_exposures_are_landed_where_a_shop_has_them(tmp_path: Path) -> None:
    (tmp_path / "shown.csv").write_text(
        "request_id,user_id,item_id,placement,position,shown_at,propensity\n"
        "r,u,i,home,1,2023-05-01,0.5\nr,u,i,home,1,2023-05-01,0.5\nr,u,j,home,0,2023-05-01,\n"
        "r,u,j,home,2,2023-05-01,1.5\n"
    )
    source = shop_of(tmp_path, HEADER, extra=", exposures: {path: shown.csv}")
    shown, rejects = source.exposures(NOW)
    assert {c: str(t) for c, t in shown.dtypes.items()} == EXPOSURES
    assert shown["position"].tolist() == [1]
    assert codes(rejects) == ["duplicate of row", "out of range", "out of range"]


def test_promotions_are_landed_where_a_shop_has_them(tmp_path: Path) -> None:
    (tmp_path / "leaflet.csv").write_text(
        "item_id,kind,starts_at,ends_at,reach,known_from\n"
        "i,feature,2023-05-01,2023-05-08,0.5,2023-04-20\n"
        "i,feature,2023-05-01,2023-05-08,0.5,2023-04-20\n"
        "i,display,2024-01-01,,,\ni,poster,2023-05-01,,1,\ni,,2023-05-01,,1,\n"
        "j,feature,2023-05-08,2023-05-08,1,\nj,feature,2023-05-08,,1.5,\n"
        "j,feature,2023-05-08,,1,soon\n"
    )
    source = shop_of(tmp_path, HEADER, extra=", promotions: {path: leaflet.csv}")
    shown, rejects = source.promotions()
    assert {c: str(t) for c, t in shown.dtypes.items()} == PROMOTIONS
    assert shown["kind"].tolist() == ["display", "feature"]
    assert shown["reach"].tolist() == [1.0, 0.5]
    assert shown["ends_at"].isna().tolist() == [True, False]
    assert shown["known_from"].dt.strftime("%m-%d").tolist() == ["01-01", "04-20"]
    assert codes(rejects) == [
        "duplicate of row", "unknown kind", "missing value", "not after starts_at", "out of range",
        "not a timestamp",
    ]  # fmt: skip


def test_empty_frames_have_the_contract_types() -> None:
    for contract in (LANDED, ITEMS, USERS, EXPOSURES, PROMOTIONS, REJECTS):
        assert {c: str(t) for c, t in empty_frame(contract).dtypes.items()} == contract


field = st.sampled_from(
    [
        "u",
        "007",
        "NA",
        "",
        '"',
        '"a,b"',
        "2023-05-01",
        "1e308",
        "nan",
        "purchase",
        "\xff",
        "\0",
        "-1",
    ]
)
lines = st.lists(st.lists(field, min_size=1, max_size=6).map(",".join), max_size=10)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines=lines)
def test_every_row_is_either_complete_or_refused(tmp_path: Path, lines: list[str]) -> None:
    data = (HEADER + "\n".join(lines)).encode("latin-1")
    frame = landed(shop_of(tmp_path, data))
    accepted = frame[frame["reject_reason"].isna()]
    required = ["event_id", "user_id", "item_id", "event_type", "event_time", "quantity"]
    assert accepted[required].notna().all().all()
    assert (frame["reject_reason"].isna() == frame["reject_field"].isna()).all()
    assert frame["row"].is_monotonic_increasing
    assert accepted["event_id"].is_unique


def test_bounds_are_whole_days_and_age_counts_from_when_the_name_first_came() -> None:
    day = timedelta(days=1)
    plausible = Plausible(latest=date(2024, 1, 1), max_age_days=14, clock_skew_minutes=10)
    bounds = time_bounds(plausible, NOW, since=NOW - 3 * day)
    assert bounds.earliest == NOW - 17 * day
    assert bounds.latest == NOW + day - timedelta(microseconds=1)
    assert bounds.now == NOW + timedelta(minutes=10)
    assert time_bounds(plausible, NOW).earliest == NOW - 14 * day
    old = Plausible(earliest=date(2023, 12, 25), max_age_days=14)
    assert time_bounds(old, NOW).earliest == datetime(2023, 12, 25, tzinfo=UTC)
