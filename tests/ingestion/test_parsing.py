"""One value at a time: ids, numbers, times."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_assets.ingestion.parsing import (
    REASONS,
    NumberFormat,
    Problems,
    TimeBounds,
    TimeFormat,
    identifiers,
    joined,
    numbers,
    reason_code,
    texts,
    timestamps,
)
from recsys_assets.ingestion.source import SourceError
from recsys_assets.ingestion.time_zones import local_to_utc

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOUNDS = TimeBounds(datetime(1990, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
TEXT = pa.large_string()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def strings(*values: str | None) -> pa.Array:
    return pa.array(values, TEXT)


def moment_of(value: object, format: str = "iso", zone: str = "UTC") -> datetime | str:
    """The parsed moment, or the reason for refusing it."""
    array = strings(value) if isinstance(value, str) else pa.array([value])
    problems = Problems(1)
    values, valid = timestamps(array, "t", problems, TimeFormat(format, zone), BOUNDS)
    assert valid[0] == (not problems.bad[0])
    return EPOCH + timedelta(microseconds=int(values[0])) if valid[0] else _reason(problems)


def number_of(value: object, style: NumberFormat | None = None) -> float | str | None:
    """The parsed number, None if missing, or the reason for refusing it."""
    array = strings(value) if isinstance(value, str) else pa.array([value])
    problems = Problems(1)
    (result,) = numbers(array, "n", problems, style or NumberFormat()).tolist()
    if problems.bad[0]:
        return _reason(problems)
    return None if np.isnan(result) else float(result)


def _reason(problems: Problems) -> str:
    (reason,) = problems.reasons().to_pylist()
    assert reason_code(reason) in REASONS
    return reason_code(reason)


@pytest.mark.parametrize("value", ["007", "NA", "null", "None", "nan", "9007199254740993", " é "])
def test_ids_are_what_the_file_says(value: str) -> None:
    assert identifiers(strings(value, None), "id", Problems(2)).to_pylist() == [value, None]


def test_integer_ids_beside_nulls_keep_all_digits() -> None:
    ids = pa.array([9007199254740993, None, 12345678901234567])
    problems = Problems(3)
    assert identifiers(ids, "id", problems).to_pylist() == [
        "9007199254740993",
        None,
        "12345678901234567",
    ]
    assert problems.bad.tolist() == [False, True, False]


def test_ids_that_went_through_floats_are_refused_once_digits_may_be_lost() -> None:
    problems = Problems(4)
    ids = identifiers(pa.array([7.0, 9007199254740994.0, 1.5, float("inf")]), "id", problems)
    assert ids.to_pylist()[0] == "7"
    assert problems.bad.tolist() == [False, True, True, True]


@pytest.mark.parametrize(("kind", "limit"), [(np.float16, 2**11), (np.float32, 2**24)])
def test_ids_in_floats_of_less_precision_are_refused_from_where_two_are_one(
    kind: type[np.floating], limit: int
) -> None:
    ids = pa.array(np.array([limit - 1, limit, limit + 1], kind))
    assert ids[1] == ids[2]
    problems = Problems(3)
    assert identifiers(ids, "id", problems).to_pylist() == [str(limit - 1), None, None]
    assert problems.bad.tolist() == [False, True, True]


def test_blank_ids_are_missing_and_endless_ones_refused() -> None:
    problems = Problems(3)
    identifiers(strings("", "  ", "x" * 2000), "id", problems)
    assert [reason_code(r) for r in problems.reasons().to_pylist()] == [
        "missing id",
        "missing id",
        "too long",
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)))
@settings(max_examples=50, deadline=None)
def test_no_id_is_ever_changed(ids: list[str]) -> None:
    found = identifiers(strings(*ids), "id", Problems(len(ids))).to_pylist()
    assert [f for f, i in zip(found, ids, strict=True) if i.strip()] == [
        i for i in ids if i.strip()
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.5", 1.5),
        (" -0 ", 0.0),
        ("1e3", 1000.0),
        ("", None),
        (None, None),
        (3, 3.0),
        (2**62, "out of range"),
        ("nan", "not finite"),
        ("-Infinity", "not finite"),
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
        ("1e308", "out of range"),
        ("1e400", "out of range"),
        (1e308, "out of range"),
        ("-1", "negative"),
        ("0x10", "not a number"),
        ("1,5", "not a number"),
        ("NA", "not a number"),
    ],
)
def test_numbers_are_finite_and_plausible_or_refused(
    value: object, expected: float | str | None
) -> None:
    assert number_of(value) == expected


def test_decimal_comma_and_thousands() -> None:
    german = NumberFormat(",", ".")
    assert number_of("1.234,50", german) == 1234.5
    assert number_of("1 234,50", NumberFormat(",", " ")) == 1234.5
    assert number_of("1.5", NumberFormat(",")) == "not a number"
    assert number_of("NA", NumberFormat(null_values=("NA",))) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.234", 1234.0),
        ("+12.345.678,9", 12345678.9),
        ("999", 999.0),
        ("10.50", "not a number"),
        ("1.2345", "not a number"),
        ("1234.567", "not a number"),
        (".500", "not a number"),
        ("1.234.5", "not a number"),
        ("1.23.456", "not a number"),
        ("1,234.567", "not a number"),
        ("1..234", "not a number"),
    ],
)
def test_a_mark_of_thousands_stands_before_exactly_three_digits(
    value: str, expected: float | str
) -> None:
    assert number_of(value, NumberFormat(",", ".")) == expected
    assert number_of(value.replace(".", "'"), NumberFormat(",", "'")) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2020-02-29", utc(2020, 2, 29)),
        ("2020-03-01 10:00", utc(2020, 3, 1, 10)),
        ("2020-03-01T10:00:00.123456789", utc(2020, 3, 1, 10, 0, 0, 123456)),
        ("2020-03-01T10:00:00Z", utc(2020, 3, 1, 10)),
        ("2020-03-01 10:00:00 UTC", utc(2020, 3, 1, 10)),
        ("2020-03-01 10:00:00 +0200", utc(2020, 3, 1, 8)),
        ("2020-03-01T10:00:00-05:30", utc(2020, 3, 1, 15, 30)),
    ],
)
def test_iso_times_with_and_without_offset(value: str, expected: datetime) -> None:
    assert moment_of(value) == expected


def test_times_of_one_column_may_mix_offsets_and_local_clock() -> None:
    problems = Problems(3)
    column = strings("2020-07-01 12:00", "2020-07-01 12:00+00:00", "2021-02-29")
    values, valid = timestamps(column, "t", problems, TimeFormat(zone="Europe/Berlin"), BOUNDS)
    assert ((values[1] - values[0]) // 3_600_000_000, valid.tolist()) == (2, [True, True, False])


@pytest.mark.parametrize(
    "value", ["32/13/2017", "2021-02-29", "2020-01-01 24:00", "now", "today", "NaT", "1577836800"]
)
def test_what_is_no_iso_time_is_refused(value: str) -> None:
    assert moment_of(value) == "not a timestamp"


@pytest.mark.parametrize("value", ["now", "today", "NaT", "32.01.2020", "1.1.2020 x"])
def test_a_pattern_never_reads_the_wall_clock(value: str) -> None:
    assert moment_of(value, "%d.%m.%Y") == "not a timestamp"


def test_patterns_with_and_without_offset() -> None:
    assert moment_of("01.07.2020", "%d.%m.%Y", "Europe/Berlin") == datetime(
        2020, 6, 30, 22, tzinfo=UTC
    )
    assert moment_of("01/07/20 +0100", "%d/%m/%y %z") == datetime(2020, 6, 30, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "format", "expected"),
    [
        ("1577836800", "epoch_s", utc(2020, 1, 1)),
        ("1577836800.25", "epoch_s", utc(2020, 1, 1, 0, 0, 0, 250000)),
        (1577836800.25, "epoch_s", utc(2020, 1, 1, 0, 0, 0, 250000)),
        (1577836800123, "epoch_ms", utc(2020, 1, 1, 0, 0, 0, 123000)),
    ],
)
def test_epochs(value: object, format: str, expected: datetime) -> None:
    assert moment_of(value, format) == expected


@pytest.mark.parametrize("value", [1577836800000, "1577836800000", 2**63 - 1, 1e300])
def test_milliseconds_read_as_seconds_land_in_the_future_and_are_refused(value: object) -> None:
    assert moment_of(value, "epoch_s") == "in the future"


@pytest.mark.parametrize("value", [1577836800, "1577836800", 0, "0"])
def test_seconds_read_as_milliseconds_land_in_1970_and_are_refused(value: object) -> None:
    assert moment_of(value, "epoch_ms") == "before the plausible time"


def test_numbers_without_a_configured_epoch_stop_the_file() -> None:
    with pytest.raises(SourceError, match="set time_format to epoch_s"):
        moment_of(1577836800)


def test_typed_timestamps_of_any_unit() -> None:
    base = np.datetime64("2020-01-01T00:00:00", "s")
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array([base.astype(f"datetime64[{unit}]")])
        values, _ = timestamps(column, "t", Problems(1), TimeFormat(zone="Asia/Tokyo"), BOUNDS)
        assert EPOCH + timedelta(microseconds=int(values[0])) == datetime(
            2019, 12, 31, 15, tzinfo=UTC
        )
    far = pa.array([2**62], pa.timestamp("s"))
    problems = Problems(1)
    timestamps(far, "t", problems, TimeFormat(), BOUNDS)
    assert _reason(problems) == "in the future"


def test_fractions_of_an_epoch_in_text_keep_every_microsecond() -> None:
    micros = np.arange(0, 1_000_000, 997)
    column = pa.array([f"1577836800.{m:06d}" for m in micros], pa.large_string())
    values, valid = timestamps(column, "t", Problems(len(micros)), TimeFormat("epoch_s"), None)
    assert valid.all() and (values == 1_577_836_800_000_000 + micros).all()
    assert moment_of("1577836800123.4", "epoch_ms") == utc(2020, 1, 1, 0, 0, 0, 123400)
    assert moment_of("1577836800123456.7", "epoch_us") == utc(2020, 1, 1, 0, 0, 0, 123456)


def test_a_time_of_day_is_no_time_whatever_the_format() -> None:
    column = pa.array([1], pa.time32("s"))
    with pytest.raises(SourceError, match=r"for t holds time32\[s\], which is no date"):
        timestamps(column, "t", Problems(1), TimeFormat("epoch_s"), None)


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u202f"])
def test_a_blank_between_thousands_may_be_one_that_does_not_break_the_line(blank: str) -> None:
    assert number_of(f"1{blank}234,5", NumberFormat(",", " ")) == 1234.5


def test_the_end_of_9999_is_the_same_time_in_types_and_in_text() -> None:
    end = datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001
    for zone in ("UTC", "America/New_York"):
        for column in (pa.array([end], pa.timestamp("us")), strings(end.isoformat())):
            values, _ = timestamps(column, "t", Problems(1), TimeFormat(zone=zone), None)
            assert (EPOCH + timedelta(microseconds=int(values[0]))).year == 9999


def test_reasons_show_at_most_eighty_characters_of_the_value() -> None:
    problems = Problems(1)
    numbers(strings("x\ny" * 100), "n", problems, NumberFormat())
    (reason,) = problems.reasons().to_pylist()
    assert reason == "not a number: '" + ("x?y" * 100)[:80] + "'"


ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Asia/Kolkata",
]


@given(
    wall=st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001
    zone=st.sampled_from(ZONES),
)
@settings(max_examples=200, deadline=None)
def test_zone_arithmetic_agrees_with_zoneinfo(wall: datetime, zone: str) -> None:
    as_number = np.array([(wall.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)])
    utc = local_to_utc(as_number, zone)
    moment = EPOCH + timedelta(microseconds=int(utc[0]))
    assert moment == wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)


def test_every_hour_around_the_clock_changes_agrees_with_zoneinfo() -> None:
    for zone in ZONES:
        for start in (utc(2021, 3, 10), utc(2021, 10, 1)):
            walls = [(start + timedelta(minutes=30 * n)).replace(tzinfo=None) for n in range(2160)]
            numbers_ = np.array(walls, dtype="datetime64[us]").astype(np.int64)
            expected = [w.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for w in walls]
            found = local_to_utc(numbers_, zone)
            assert [EPOCH + timedelta(microseconds=int(f)) for f in found] == expected


def test_joining_keeps_a_row_in_which_everything_is_missing() -> None:
    assert joined([strings("a", None, None), strings("b", "c", "")], "-").to_pylist() == [
        "a-b",
        "c",
        None,
    ]
    assert texts(pa.array([1, None])).to_pylist() == ["1", None]
