"""Values of a column, text or typed, as the contract's types, and a verdict on each.

Belongs here: ids, numbers, times and texts, column by column, vectorized, and the stable reasons
for refusing a value. Does not belong here: files, and rules that look at more than one column.

Every parser takes an array as a reader delivers it and a `Problems` to write refusals to, and
returns as many values as it was given, null where missing or refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.ingestion.source import SourceError
from recsys_assets.ingestion.time_zones import local_to_utc

ERASED = "erased"
REASONS: dict[str, str] = {
    ERASED: "the row of a user who is to be forgotten: only its place in the file is kept",
    "missing id": "an id is null or blank",
    "missing value": "a required value is null or blank",
    "not an exact id": "an id was stored as a floating point number and may have lost digits",
    "not a timestamp": "a time is not in the configured format, or no such date exists",
    "before the plausible time": "a time is before partitions.start or what plausible allows "
    "(1970: a wrong unit?)",
    "after the plausible time": "a time is not before partitions.end or after plausible.latest",
    "in the future": "a time is later than now",
    "not a number": "a number cannot be read",
    "not finite": "a number is NaN or infinite",
    "out of range": "a number is beyond any plausible magnitude",
    "negative": "a number must not be negative here",
    "unknown event type": "not a key of event_types, nor one of event_values",
    "unknown kind": "a promotion is neither a feature nor a display",
    "not after starts_at": "a period ends before it begins",
    "unknown status": "an item's status is neither active nor inactive",
    "wrong encoding": "bytes that are no text in the file's encoding",
    "NUL character": "a NUL byte",
    "too long": "a row or an id is longer than any real one",
    "wrong number of values": "a row has more or fewer values than the header has names",
    "broken quotes": "a quoted value is not closed, or is followed by text "
    "(does it span lines? newlines_in_values: true)",
    "duplicate of row": "the same item, user, promotion … with the same content came before",
    "conflicts with row": "the same id came before with other content",
    "excluded by rule": "the source's written rule leaves this row out",
}
"""Every code that can stand before the first colon of a reason, and what it means."""

MAX_MAGNITUDE = 1e12
MAX_ID_BYTES = 1024
_SHOWN = 80
_DIGITS_EXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}
"""Below these, neighbouring whole numbers are different numbers of the type."""
_SECOND = 1_000_000
_EPOCH_UNITS = {"epoch_s": _SECOND, "epoch_ms": 1_000, "epoch_us": 1}
_MAX_MICROSECONDS = 253_402_300_799_999_999  # the end of 9999, in the range of every library
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,5})?$"
_NOT_FINITE = r"(?i)^[+-]?(?:nan|inf|infinity)$"
_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK = r"(?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d(?:\.\d{1,12})?)?)?"
_OFFSET = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
_ISO_LOCAL = f"^{_DATE}(?:[T ]{_CLOCK})?$"
_ISO_OFFSET = f"^{_DATE}[T ]{_CLOCK}{_OFFSET}$"

_TEXT = pa.large_string()


def reason_code(reason: str) -> str:
    """The stable part of a reason: what stands before the first colon, without a row number."""
    return reason.split(":", 1)[0].rstrip("0123456789 ")


class Problems:
    """Refusals of rows, first one wins. `bad` marks the refused rows."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, dtype=bool)
        self._fields = np.full(rows, None, dtype=object)
        self._reasons = np.full(rows, None, dtype=object)

    def add(self, mask: np.ndarray, field: str, code: str, detail: pa.Array | str = "") -> None:
        """Refuse the rows of `mask`. `detail`: a text for all, or one value per row to be shown.

        Values are cut to 80 characters and control characters replaced.
        """
        where = np.flatnonzero(mask & ~self.bad)
        if not len(where):
            return
        if isinstance(detail, str):
            self._reasons[where] = f"{code}: {detail}" if detail else code
        else:
            shown = _as_shown(detail.take(pa.array(where)))
            self._reasons[where] = (pd.Series(f"{code}: '", index=where) + shown + "'").to_numpy()
        self._fields[where] = field
        self.bad[where] = True

    def fields(self) -> pa.Array:
        return pa.array(self._fields, type=_TEXT, from_pandas=True)

    def reasons(self) -> pa.Array:
        return pa.array(self._reasons, type=_TEXT, from_pandas=True)


@dataclass(frozen=True)
class NumberFormat:
    """How texts write numbers: `thousands` groups three digits, left of `decimal` only. Typed
    columns ignore it."""

    decimal: str = "."
    thousands: str | None = None
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class TimeFormat:
    """How a column writes times: iso, epoch_s/ms/us or a strptime pattern, and the zone (IANA) of
    times without an offset."""

    format: str = "iso"
    zone: str = "UTC"
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class TimeBounds:
    """Inclusive plausible times, timezone-aware. `now`: the latest moment that can have happened;
    `latest`: a configured limit beside it."""

    earliest: datetime
    now: datetime
    latest: datetime | None = None

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError("now must be timezone-aware")


def texts(array: pa.Array, null_values: tuple[str, ...] = ()) -> pa.LargeStringArray:
    """Any plain array as texts; blank texts and `null_values` become null, others are unchanged."""
    result = array.cast(_TEXT)
    if pa.types.is_large_string(array.type):
        empty = pc.equal(pc.utf8_trim_whitespace(result), pa.scalar("", _TEXT))
        if null_values:
            empty = pc.or_(empty, pc.is_in(result, pa.array(null_values, _TEXT)))
        if pc.any(empty).as_py():
            result = pc.if_else(empty, pa.scalar(None, _TEXT), result)
    return result


def joined(arrays: Sequence[pa.Array], separator: str) -> pa.LargeStringArray:
    """The texts of several columns in one, without the missing ones; null if all are missing.

    (pyarrow 26's own join with `null_handling="skip"` drops rows in which all values are null.)
    """
    glue = pa.scalar(separator, _TEXT)
    result, *others = (texts(array) for array in arrays)
    for other in others:
        both = pc.binary_join_element_wise(result, other, glue)
        result = pc.coalesce(both, result, other)
    return result


def identifiers(
    array: pa.Array, field: str, problems: Problems, *, required: bool = True
) -> pa.LargeStringArray:
    """Ids exactly as the file writes them: no trimming, no numbers, no null words.

    Integers of a typed column become their digits. A floating point column (an integer column that
    once held nulls) is exact below 2**53 only, of single precision below 2**24: larger or
    fractional ids are refused.
    """
    if pa.types.is_floating(array.type):
        numbers = np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False))
        missing = np.isnan(numbers)
        exact = (np.abs(numbers) < _DIGITS_EXACT[array.type]) & (np.floor(numbers) == numbers)
        problems.add(~missing & ~exact, field, "not an exact id", array)
        digits = np.where(exact, numbers, 0).astype(np.int64)
        result = pa.array(digits, mask=~exact).cast(_TEXT)
    else:
        result = texts(array)
    too_long = flags(pc.greater(pc.binary_length(result), MAX_ID_BYTES))
    problems.add(too_long, field, "too long", f"an id of more than {MAX_ID_BYTES} bytes")
    if required:
        problems.add(flags(pc.is_null(result)), field, "missing id")
    return result


def numbers(
    array: pa.Array,
    field: str,
    problems: Problems,
    style: NumberFormat,
    *,
    negative_allowed: bool = False,
) -> np.ndarray:
    """float64 with NaN for missing. NaN and infinities *in the data* are refused, except that a
    null of a typed column is missing."""
    if pa.types.is_large_string(array.type):
        values = _numbers_of_texts(array, field, problems, style)
    else:
        if pa.types.is_temporal(array.type):
            problems.add(flags(pc.is_valid(array)), field, "not a number", array)
            return np.full(len(array), np.nan)
        values = np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        odd = flags(pc.is_valid(array)) & ~np.isfinite(values)
        problems.add(odd, field, "not finite", array)
        values[odd] = np.nan
    huge = np.abs(values) > MAX_MAGNITUDE
    if huge.any():
        problems.add(huge, field, "out of range", array)
        values[huge] = np.nan
    if not negative_allowed and (values < 0).any():
        problems.add(values < 0, field, "negative", array)
    return values + 0.0  # -0.0 becomes 0.0


def timestamps(
    array: pa.Array,
    field: str,
    problems: Problems,
    style: TimeFormat,
    bounds: TimeBounds | None,
    *,
    required: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """(UTC microseconds since 1970, which of them are valid).

    A time with an offset means that offset; one without means `style.zone` (see `time_zones` for
    hours that a clock change repeats or skips). Digits beyond microseconds are cut.
    """
    if pa.types.is_large_string(array.type):
        array = texts(array, style.null_values)
    present = flags(pc.is_valid(array))
    if required:
        problems.add(~present, field, "missing value")
    values, valid = _moments(array, field, present, style)
    problems.add(present & ~valid, field, "not a timestamp", array)
    if bounds is not None:
        early = valid & (values < _microseconds(bounds.earliest))
        future = valid & (values > _microseconds(bounds.now))
        late = np.zeros_like(valid)
        if bounds.latest is not None:
            late = valid & (values > _microseconds(bounds.latest))
        for mask, code in (
            (early, "before the plausible time"),
            (future, "in the future"),
            (late, "after the plausible time"),
        ):
            if mask.any():
                problems.add(mask, field, code, array)
        valid = valid & ~early & ~future & ~late
    return np.where(valid, values, 0), valid


def flags(array: pa.Array) -> np.ndarray:
    """A boolean array as numpy, null = False."""
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def _as_shown(values: pa.Array) -> np.ndarray:
    shown = values.cast(_TEXT) if not pa.types.is_large_string(values.type) else values
    shown = pc.utf8_slice_codeunits(pc.fill_null(shown, ""), 0, _SHOWN)
    shown = pc.replace_substring_regex(shown, r"[\x00-\x1f\x7f]", "?")
    return np.asarray(shown.to_numpy(zero_copy_only=False))


def _numbers_of_texts(
    array: pa.LargeStringArray, field: str, problems: Problems, style: NumberFormat
) -> np.ndarray:
    shown = texts(array, style.null_values)
    plain = pc.utf8_trim_whitespace(shown)
    if style.thousands == " ":  # which is often written as one that does not break the line
        plain = pc.replace_substring_regex(plain, "[\u00a0\u202f]", " ")
    if style.thousands is not None:
        # Elsewhere the mark is a sign that the number is written otherwise: 10.50 is not 1050.
        mark, rest = f"[{style.thousands}]", f"[^{style.thousands}]"
        groups = rf"^[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:[^\d{style.thousands}]{rest}*)?$"
        marked = pc.match_substring(plain, style.thousands)
        misplaced = pc.and_(marked, pc.invert(pc.match_substring_regex(plain, groups)))
        plain = pc.replace_substring(plain, style.thousands, "")
        plain = pc.if_else(misplaced, pa.scalar("?", _TEXT), plain)
    if style.decimal != ".":
        # A point is then no part of a number, unless it groups thousands (gone by now).
        has_point = pc.match_substring(plain, ".")
        plain = pc.replace_substring(plain, style.decimal, ".")
        plain = pc.if_else(has_point, pa.scalar("?", _TEXT), plain)
    present = flags(pc.is_valid(plain))
    readable = flags(pc.match_substring_regex(plain, _NUMBER))
    odd = present & ~readable
    if odd.any():
        not_finite = flags(pc.match_substring_regex(plain, _NOT_FINITE))
        problems.add(odd & not_finite, field, "not finite", shown)
        problems.add(odd & ~not_finite, field, "not a number", shown)
        plain = pc.if_else(pa.array(readable), plain, pa.scalar(None, _TEXT))
    values = np.array(plain.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return values


def _moments(
    array: pa.Array, field: str, present: np.ndarray, style: TimeFormat
) -> tuple[np.ndarray, np.ndarray]:
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), dtype=np.int64), present
    if pa.types.is_timestamp(kind):
        raw = np.asarray(pc.fill_null(array.cast(pa.int64()), 0))
        per_second = {"s": 1, "ms": 1_000, "us": _SECOND, "ns": 1_000_000_000}[kind.unit]
        values, valid = _scaled(raw, per_second, present)
        return _from_zone(values, valid, style.zone) if kind.tz is None else (values, valid)
    if pa.types.is_date(kind):
        days = np.asarray(pc.fill_null(array.cast(pa.date32()).cast(pa.int32()), 0))
        values, valid = _scaled(days.astype(np.int64) * 86_400, 1, present)
        return _from_zone(values, valid, style.zone)
    if pa.types.is_temporal(kind):
        raise SourceError(f"column for {field} holds {kind}, which is no date; deliver a timestamp")
    if style.format in _EPOCH_UNITS:
        return _epochs(array, present, _SECOND // _EPOCH_UNITS[style.format])
    if not pa.types.is_large_string(kind):
        raise SourceError(
            f"column for {field} holds {kind}, but time_format is {style.format!r}; set "
            "time_format to epoch_s or epoch_ms (numbers since 1970)"
        )
    plain = pc.utf8_trim_whitespace(array)
    if style.format == "iso":
        return _iso(plain, style.zone)
    return _by_pattern(plain, style)


def _scaled(raw: np.ndarray, per_second: int, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers of any unit to microseconds; out-of-range ones become the nearest limit, so that
    they are judged by their meaning (too early, too late) and never wrap around."""
    if per_second > _SECOND:
        return np.where(present, raw // (per_second // _SECOND), 0), present
    factor = _SECOND // per_second
    limit = _MAX_MICROSECONDS // factor
    return np.where(present, np.clip(raw, -limit, limit) * factor, 0), present


def _epochs(array: pa.Array, present: np.ndarray, per_second: int) -> tuple[np.ndarray, np.ndarray]:
    if pa.types.is_integer(array.type):
        raw = np.asarray(pc.fill_null(array, 0))
        return _scaled(np.clip(raw, None, 2**63 - 1).astype(np.int64), per_second, present)
    if pa.types.is_large_string(array.type):
        plain = pc.utf8_trim_whitespace(array)
        readable = flags(pc.match_substring_regex(plain, r"^-?\d{1,18}(?:\.\d*)?$"))
        plain = pc.if_else(pa.array(readable), plain, pa.scalar(None, _TEXT))
        whole = pc.replace_substring_regex(plain, r"\..*$", "").cast(pa.int64())
        # From the digits: as a double, .000001 s may be a little less than one microsecond.
        places = len(str(_SECOND // per_second)) - 1
        parts = pc.replace_substring_regex(plain, r"^-?\d+\.?", "")
        parts = pc.utf8_slice_codeunits(pc.utf8_rpad(parts, 6, "0"), 0, places)
        parts = pc.binary_join_element_wise(pa.scalar("0", _TEXT), parts, pa.scalar("", _TEXT))
        sign = np.where(flags(pc.starts_with(plain, "-")), -1, 1)
        fraction = np.asarray(pc.fill_null(parts.cast(pa.int64()), 0))
        values, valid = _scaled(np.asarray(pc.fill_null(whole, 0)), per_second, readable)
        return values + sign * fraction, valid
    numbers_ = np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    finite = present & np.isfinite(numbers_)
    limit = float(_MAX_MICROSECONDS)
    scaled = np.clip(np.where(finite, numbers_, 0) * (_SECOND // per_second), -limit, limit)
    return np.rint(scaled).astype(np.int64), finite


def _iso(plain: pa.LargeStringArray, zone: str) -> tuple[np.ndarray, np.ndarray]:
    # "2019-10-01 00:00:00 UTC" and "... +0200" are common and mean what they say.
    if flags(pc.match_substring_regex(plain, r"[0-9] ?(?:UTC|GMT|z|[+-]\d\d)")).any():
        plain = pc.replace_substring_regex(plain, r"(\d) ?(?:UTC|GMT|z)$", r"\1Z")
        plain = pc.replace_substring_regex(plain, r"(:\d\d(?:\.\d+)?) ([+-]\d\d)", r"\1\2")
    plain = pc.replace_substring_regex(plain, r"(\.\d{6})\d+", r"\1")
    offset = flags(pc.match_substring_regex(plain, _ISO_OFFSET))
    local = flags(pc.match_substring_regex(plain, _ISO_LOCAL)) & ~offset
    values = np.zeros(len(plain), dtype=np.int64)
    valid = np.zeros(len(plain), dtype=bool)
    for mask, kind in ((offset, pa.timestamp("us", "UTC")), (local, pa.timestamp("us"))):
        if not mask.any():
            continue
        some = plain if mask.all() else plain.filter(pa.array(mask))
        got, good = _cast_iso(some, kind)
        values[mask], valid[mask] = got, good
    values[local], valid[local] = _from_zone(values[local], valid[local], zone)
    return values, valid


def _cast_iso(some: pa.LargeStringArray, kind: pa.DataType) -> tuple[np.ndarray, np.ndarray]:
    try:
        moments = some.cast(kind)
    except pa.ArrowInvalid:  # a date that does not exist, such as 30 February
        days = pc.utf8_slice_codeunits(some, 0, 10)
        unique = pc.unique(days)
        real = [_is_real_day(day) for day in unique.to_pylist()]
        good = flags(pc.is_in(days, unique.filter(pa.array(real, pa.bool_()))))
        moments = pc.if_else(pa.array(good), some, pa.scalar(None, _TEXT)).cast(kind)
    valid = flags(pc.is_valid(moments))
    return np.asarray(pc.fill_null(moments.cast(pa.int64()), 0)), valid


def _is_real_day(day: str) -> bool:
    try:
        datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _by_pattern(plain: pa.LargeStringArray, style: TimeFormat) -> tuple[np.ndarray, np.ndarray]:
    # pandas reads the words "now" and "today" as the wall clock, whatever the pattern.
    numeric = flags(pc.match_substring_regex(plain, r"\d"))
    series = pd.Series(pc.if_else(pa.array(numeric), plain, pa.scalar(None, _TEXT)).to_pandas())
    aware = "%z" in style.format or "%Z" in style.format
    parsed = pd.to_datetime(series, format=style.format, errors="coerce", utc=aware)
    valid = parsed.notna().to_numpy()
    moments = parsed.dt.tz_localize(None) if aware else parsed
    values = moments.to_numpy().astype("datetime64[us]").astype(np.int64)
    values = np.where(valid, values, 0)
    return (values, valid) if aware else _from_zone(values, valid, style.zone)


def _from_zone(values: np.ndarray, valid: np.ndarray, zone: str) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(local_to_utc(values, zone), _MAX_MICROSECONDS), valid


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
