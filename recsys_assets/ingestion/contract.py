"""The landing contract: what every source must deliver, and the one way from raw rows to it.

Belongs here: the rules that look at several columns of a row or at several rows of a file, event
ids, duplicates. Does not belong here: reading files (`delimited`,
`columnar`), parsing a single column (`parsing`), anything that compares interactions of different
files or needs the catalogue (staging does).

Event ids. A source's own id is kept. Without one, `event_id` is a hash of the row's *content*:
every contract column that has a value (the currency apart, which may be the shop's default), plus,
for rows that are equal within one file, their occurrence number (1st, 2nd, ...). Hence

- two equal rows in one file (two beers, rung up one by one) are two events;
- the same file delivered again, under any name, or a file that overlaps another (last night's
  export of the last seven days) gives the same ids, and staging counts each event once;
- the order of rows, the file's name and the day of landing do not matter.

The price: a log cut into several files that holds *truly* equal events in different files looks
like an overlap. Such a source gives its own event ids, or states `identical_rows: two_events`,
which mixes the file's content hash into the id (re-deliveries of the same bytes still agree).
A refused row has no derived id and takes no occurrence number.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.settings.calendar import Plausible
from recsys_assets.core.settings.sources import EventType, Rating
from recsys_assets.core.tables import Column
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ingestion import tables
from recsys_assets.ingestion.parsing import (
    ERASED,
    NumberFormat,
    Problems,
    TimeBounds,
    TimeFormat,
    flags,
    identifiers,
    joined,
    numbers,
    texts,
    timestamps,
)
from recsys_assets.ingestion.raw import RawRows
from recsys_assets.ingestion.source import SourceFile, named

_PANDAS = {
    "string": "str",
    "float64": "float64",
    "int32": "int32",
    "int64": "int64",
    "timestamp": "datetime64[us, UTC]",
}


def _types(columns: Iterable[Column]) -> dict[str, str]:
    """Column -> its type in a frame, as the table of the stage declares it."""
    return {column.name: _PANDAS[column.type] for column in columns}


_ORIGIN = _types(tables.PROVENANCE)
_VERDICT = _types(tables.VERDICT)
_EVENT = _types(tables.EVENT)
LANDED = _types(tables.LANDED_ROWS.columns)
"""One row per physical source row. Accepted <=> `reject_reason` is null."""
ITEMS = _types(tables.RAW_ITEMS.columns)
USERS = _types(tables.RAW_USERS.columns)
EXPOSURES = _types(tables.RAW_EXPOSURES.columns)
PROMOTIONS = _types(tables.RAW_PROMOTIONS.columns)
ANSWERS = _types(tables.ONBOARDING_ANSWERS.columns)
REJECTS = {**_ORIGIN, **_VERDICT}
ROW = "row"
"""The `reject_field` of a row that could not be split into values."""

ATTRIBUTE = "attribute:"
"""Before the name of a raw column that is kept as an attribute."""
MAX_POSITION = 2**31 - 1
"""The largest that a table holds."""
MAX_ANSWER = 4_000
"""Characters; nobody types more into a form."""
EXCLUDED = "excluded_by"
"""An adapter may add this column to raw items: a text says which rule leaves the row out."""

_TEXT = pa.large_string()
_UTC_TIME = pa.timestamp("us", "UTC")
_ARROW = {
    "str": _TEXT,
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "datetime64[us, UTC]": _UTC_TIME,
}


@dataclass(frozen=True)
class InteractionRules:
    """What an interactions table's columns mean. See `core.settings.sources`."""

    event_types: Mapping[str, EventType]
    plausible: Plausible = field(default_factory=Plausible)
    currency: str = ""
    event_type: str | None = None
    event_values: Mapping[str, str] = field(default_factory=dict)
    negative_quantity: str | None = None
    rating: Rating | None = None
    identical_rows: str = "one_event"
    number_format: NumberFormat = field(default_factory=NumberFormat)
    time_format: TimeFormat = field(default_factory=TimeFormat)


@dataclass(frozen=True)
class ItemRules:
    number_format: NumberFormat = field(default_factory=NumberFormat)
    time_format: TimeFormat = field(default_factory=TimeFormat)
    category_separator: str = ">"


@dataclass(frozen=True)
class UserRules:
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExposureRules:
    number_format: NumberFormat = field(default_factory=NumberFormat)
    time_format: TimeFormat = field(default_factory=TimeFormat)
    plausible: Plausible = field(default_factory=Plausible)


@dataclass(frozen=True)
class PromotionRules:
    number_format: NumberFormat = field(default_factory=NumberFormat)
    time_format: TimeFormat = field(default_factory=TimeFormat)


@dataclass(frozen=True)
class AnswerRules:
    time_format: TimeFormat = field(default_factory=TimeFormat)
    plausible: Plausible = field(default_factory=Plausible)
    null_values: tuple[str, ...] = ()


def land_interactions(
    blocks: Iterable[RawRows], file: SourceFile, rules: InteractionRules, now: datetime
) -> pd.DataFrame:
    """All rows of one file as `LANDED`, in the file's order.

    `blocks` carry contract names as column names; a missing column means "no value". Times are
    judged as of `bounds_of`; without a known arrival, a row refused as "in the future" is accepted
    by a later landing.
    """
    bounds = bounds_of(file, rules.plausible, now)
    parts = [part for block in blocks for part in _interaction_parts(block, rules, bounds)]
    table = _in_file_order(parts, {"row": _ORIGIN["row"], **_EVENT, **_VERDICT})
    table = _with_event_ids(table, file, rules)
    return _frame(_with_origin(table, file), LANDED)


def land_items(
    blocks: Iterable[tuple[SourceFile, RawRows, ItemRules]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`ITEMS` sorted by item_id, `REJECTS` sorted by file and row).

    The first row of an item id wins: an equal one is a "duplicate of row", another a "conflicts
    with row". Missing texts stay null; `category` is split at the separator.
    """
    parts = []
    for file, block, rules in blocks:
        with named(file):
            parts += [_with_origin(part, file) for part in _item_parts(block, rules)]
    return _entities(parts, ITEMS, ("item_id",))


def land_users(
    blocks: Iterable[tuple[SourceFile, RawRows, UserRules]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`USERS` sorted by user_id, `REJECTS`). Duplicates as for items."""
    parts = []
    for file, block, rules in blocks:
        problems = Problems(len(block.rows))
        columns = {
            "user_id": identifiers(_get(block, "user_id"), "user_id", problems),
            "attributes": _attributes(block, rules.null_values),
        }
        parts += [_with_origin(p, file) for p in _parts(block, columns, problems, USERS)]
    return _entities(parts, USERS, ("user_id",))


def land_exposures(
    blocks: Iterable[tuple[SourceFile, RawRows, ExposureRules]], now: datetime
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`EXPOSURES` sorted by request, placement and position, `REJECTS`)."""
    parts = []
    for file, block, rules in blocks:
        problems = Problems(len(block.rows))
        number_format, bounds = rules.number_format, bounds_of(file, rules.plausible, now)
        columns: dict[str, Any] = {
            name: identifiers(_get(block, name), name, problems)
            for name in ("request_id", "user_id", "item_id", "placement")
        }
        position = numbers(_get(block, "position"), "position", problems, number_format)
        problems.add(np.isnan(position), "position", "missing value")
        whole = (position >= 1) & (np.floor(position) == position)
        whole &= position <= MAX_POSITION
        problems.add(~whole, "position", "out of range", _get(block, "position"))
        columns["position"] = np.where(whole, position, 0).astype(np.int64)
        with named(file):
            moments = timestamps(
                _get(block, "shown_at"), "shown_at", problems, rules.time_format, bounds
            )
        columns["shown_at"] = _time_array(*moments)
        propensity = numbers(_get(block, "propensity"), "propensity", problems, number_format)
        problems.add(propensity > 1, "propensity", "out of range", _get(block, "propensity"))
        columns["propensity"] = propensity
        for name in ("release_id", "policy", "arm"):
            columns[name] = texts(_get(block, name), number_format.null_values)
        parts += [_with_origin(p, file) for p in _parts(block, columns, problems, EXPOSURES)]
    return _entities(parts, EXPOSURES, ("request_id", "placement", "position"))


def land_promotions(
    blocks: Iterable[tuple[SourceFile, RawRows, PromotionRules]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`PROMOTIONS` sorted by item, kind and start, `REJECTS`).

    An empty `known_from` is the start, an empty `reach` is 1.
    """
    parts = []
    for file, block, rules in blocks:
        problems = Problems(len(block.rows))
        columns: dict[str, Any] = {
            "item_id": identifiers(_get(block, "item_id"), "item_id", problems)
        }
        kind = texts(_get(block, "kind"), rules.number_format.null_values)
        problems.add(flags(pc.is_null(kind)), "kind", "missing value")
        ours = pc.is_in(kind, pa.array(tables.PROMOTION_KINDS, kind.type))
        problems.add(
            flags(pc.and_(pc.is_valid(kind), pc.invert(ours))), "kind", "unknown kind", kind
        )
        columns["kind"] = kind
        with named(file):
            style = rules.time_format
            starts = timestamps(_get(block, "starts_at"), "starts_at", problems, style, None)
            ends = timestamps(
                _get(block, "ends_at"), "ends_at", problems, style, None, required=False
            )
            known = timestamps(
                _get(block, "known_from"), "known_from", problems, style, None, required=False
            )
        columns["starts_at"], columns["ends_at"] = _time_array(*starts), _time_array(*ends)
        empty = starts[1] & ends[1] & (ends[0] <= starts[0])
        problems.add(empty, "ends_at", "not after starts_at", _get(block, "ends_at"))
        reach = numbers(_get(block, "reach"), "reach", problems, rules.number_format)
        problems.add(reach > 1, "reach", "out of range", _get(block, "reach"))
        columns["reach"] = np.where(np.isnan(reach), 1.0, reach)
        columns["known_from"] = _time_array(
            np.where(known[1], known[0], starts[0]), known[1] | starts[1]
        )
        parts += [_with_origin(p, file) for p in _parts(block, columns, problems, PROMOTIONS)]
    return _entities(parts, PROMOTIONS, ("item_id", "kind", "starts_at"))


def land_answers(
    blocks: Iterable[tuple[SourceFile, RawRows, AnswerRules]], now: datetime
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`ANSWERS` sorted by user, question, answer and time, `REJECTS`).

    An answer longer than `MAX_ANSWER` characters is refused."""
    parts = []
    for file, block, rules in blocks:
        problems = Problems(len(block.rows))
        columns: dict[str, Any] = {
            name: identifiers(_get(block, name), name, problems)
            for name in ("user_id", "question_id")
        }
        said = texts(_get(block, "answer"), rules.null_values)
        problems.add(flags(pc.is_null(said)), "answer", "missing value")
        length = pc.fill_null(pc.utf8_length(said), 0)
        problems.add(flags(pc.greater(length, MAX_ANSWER)), "answer", "too long")
        columns["answer"] = said
        bounds = bounds_of(file, rules.plausible, now)
        with named(file):
            moments = timestamps(
                _get(block, "answered_at"), "answered_at", problems, rules.time_format, bounds
            )
        columns["answered_at"] = _time_array(*moments)
        parts += [_with_origin(p, file) for p in _parts(block, columns, problems, ANSWERS)]
    return _entities(parts, ANSWERS, tuple(ANSWERS))


def with_erased(
    frame: pd.DataFrame, erased: Mapping[SourceFile, Sequence[int]], contract: Mapping[str, str]
) -> pd.DataFrame:
    """`frame` and a row for each erased one, that says where it was and nothing else."""
    parts = [frame]
    for file, found in erased.items():
        rows = np.unique(np.asarray(found, np.int64))
        known = {"row": pa.array(rows)}
        for name, text in {"reject_field": "user_id", "reject_reason": ERASED}.items():
            known[name] = pa.array([text] * len(rows), _TEXT)
        known |= {n: pa.array([getattr(file, a)] * len(rows), _TEXT) for n, a in _NAMED_BY.items()}
        bare = [known.get(f.name, pa.nulls(len(rows), f.type)) for f in _schema(contract)]
        parts.append(_frame(pa.table(bare, schema=_schema(contract)), contract))
    if len(parts) == 1:
        return frame
    return pd.concat(parts, ignore_index=True).sort_values(
        ["file", "row"], kind="stable", ignore_index=True
    )


_NAMED_BY = {"batch": "batch", "file": "name"}


def bounds_of(file: SourceFile, plausible: Plausible, now: datetime) -> TimeBounds:
    """The plausible times in one file: as of its arrival, where that is known, so that they are the
    same whenever it is read; else as of `now`. Age is measured from when its name first came;
    without arrival, and in history, no age is late."""
    if file.arrived is None or file.history:
        plausible = plausible.model_copy(update={"max_age_days": None})
    return time_bounds(plausible, file.arrived or now, file.since)


def time_bounds(plausible: Plausible, now: datetime, since: datetime | None = None) -> TimeBounds:
    """The configured bounds (dates mean whole UTC days) and `now` plus the allowed clock skew.
    Age is measured from `since`, else from `now`."""
    earliest = datetime.combine(plausible.earliest, time(), tzinfo=UTC)
    if plausible.max_age_days is not None:
        earliest = max(earliest, (since or now) - timedelta(days=plausible.max_age_days))
    latest = None
    if plausible.latest is not None:
        day_after = datetime.combine(plausible.latest + timedelta(days=1), time(), tzinfo=UTC)
        latest = day_after - timedelta(microseconds=1)
    skew = timedelta(minutes=plausible.clock_skew_minutes)
    return TimeBounds(earliest, now + skew, latest)


def empty_frame(columns: Mapping[str, str]) -> pd.DataFrame:
    """A frame of no rows with the contract's types."""
    return _frame(_schema(columns).empty_table(), columns)


def _schema(columns: Mapping[str, str]) -> pa.Schema:
    return pa.schema([(c, _ARROW[t]) for c, t in columns.items()])


def _get(block: RawRows, name: str) -> pa.Array:
    array = block.columns.get(name)
    return pa.nulls(len(block.rows), _TEXT) if array is None else array


def _optional_id(
    block: RawRows, name: str, problems: Problems, null_values: tuple[str, ...]
) -> pa.LargeStringArray:
    array = _get(block, name)
    if pa.types.is_large_string(array.type):
        array = texts(array, null_values)
    return identifiers(array, name, problems, required=False)


def _interaction_parts(
    block: RawRows, rules: InteractionRules, bounds: TimeBounds
) -> Iterator[pa.Table]:
    problems = Problems(len(block.rows))
    style, nulls = rules.number_format, rules.number_format.null_values
    columns: dict[str, Any] = {
        "event_id": identifiers(_get(block, "event_id"), "event_id", problems, required=False)
    }
    if "event_id" in block.columns:
        problems.add(flags(pc.is_null(columns["event_id"])), "event_id", "missing id")
    for name in ("user_id", "item_id"):
        columns[name] = identifiers(_get(block, name), name, problems)
    moments, valid = timestamps(
        _get(block, "event_time"), "event_time", problems, rules.time_format, bounds
    )
    columns["event_time"] = _time_array(moments, valid)
    for name in ("quantity", "value"):
        columns[name] = numbers(_get(block, name), name, problems, style, negative_allowed=True)
    for name in ("price", "discount", "weight"):
        columns[name] = numbers(_get(block, name), name, problems, style)
    columns["event_type"], polarity = _event_types(block, columns, rules, problems)
    for name in ("quantity", "value"):
        below = (columns[name] < 0) & (polarity >= 0)
        if below.any():
            problems.add(below, name, "negative", _get(block, name))
    if "quantity" not in block.columns:
        columns["quantity"] = np.ones(len(block.rows))
    else:
        # A refused quantity stays missing; an empty one means one piece.
        empty = flags(pc.is_null(texts(_get(block, "quantity"), nulls)))
        columns["quantity"] = np.where(empty, 1.0, columns["quantity"])
    columns["currency"] = pc.coalesce(
        texts(_get(block, "currency"), nulls), pa.scalar(rules.currency, _TEXT)
    )
    for name in ("session_id", "store_id"):
        columns[name] = _optional_id(block, name, problems, nulls)
    columns["context"] = texts(_get(block, "context"), nulls)
    yield from _parts(block, columns, problems, _EVENT)


def _event_types(
    block: RawRows, columns: Mapping[str, Any], rules: InteractionRules, problems: Problems
) -> tuple[pa.LargeStringArray, np.ndarray]:
    """(names, null where unknown; polarity, 0 where unknown)."""
    names = list(rules.event_types)
    rows = len(block.rows)
    if rules.rating is not None:
        rating = columns["weight"]
        problems.add(np.isnan(rating), "weight", "missing value")
        words = pa.array(["like", "dislike", "neutral"], _TEXT)
        liked, disliked = rating >= rules.rating.like_at, rating < rules.rating.dislike_below
        picks = np.where(liked, 0, np.where(disliked, 1, 2))
        found = words.take(pa.array(picks, mask=np.isnan(rating)))
    elif rules.event_type is not None:
        found = pa.array([rules.event_type], _TEXT).take(pa.array(np.zeros(rows, dtype=np.int64)))
    else:
        raw = texts(_get(block, "event_type"))
        problems.add(flags(pc.is_null(raw)), "event_type", "missing value")
        encoded = pc.dictionary_encode(raw)
        words = [rules.event_values.get(w, w) for w in encoded.dictionary.to_pylist()]
        known = [w if w in rules.event_types else None for w in words]
        found = pa.array(known, _TEXT).take(encoded.indices)
        unknown = flags(pc.and_(pc.is_valid(raw), pc.is_null(found)))
        problems.add(unknown, "event_type", "unknown event type", raw)
    if rules.negative_quantity is not None:
        below = pa.array(columns["quantity"] < 0)
        if pc.any(below).as_py():
            found = pc.if_else(below, pa.scalar(rules.negative_quantity, _TEXT), found)
    position = pc.index_in(found, pa.array(names, _TEXT)).to_numpy(zero_copy_only=False)
    signs = np.array([rules.event_types[name].polarity for name in names])
    known_type = ~np.isnan(position) if position.dtype.kind == "f" else np.ones(rows, dtype=bool)
    safe = np.where(known_type, position, 0).astype(np.int64)
    return found, np.where(known_type, signs[safe], 0)


def _item_parts(block: RawRows, rules: ItemRules) -> Iterator[pa.Table]:
    problems = Problems(len(block.rows))
    nulls = rules.number_format.null_values
    columns: dict[str, Any] = {"item_id": identifiers(_get(block, "item_id"), "item_id", problems)}
    for name in ("title", "brand", "text", "market"):
        columns[name] = texts(_get(block, name), nulls)
    columns["group_id"] = _optional_id(block, "group_id", problems, nulls)
    if "category" in block.columns:
        path = texts(block.columns["category"], nulls)
        padding = pa.scalar(rules.category_separator * 2, _TEXT)
        path = pc.coalesce(path, pa.scalar("", _TEXT))
        padded = pc.binary_join_element_wise(path, padding, pa.scalar("", _TEXT))
        levels = pc.split_pattern(padded, rules.category_separator)
        for level in (1, 2, 3):
            name = pc.list_element(levels, level - 1)
            columns[f"category_{level}"] = texts(pc.utf8_trim_whitespace(name))
    else:
        for name in ("category_1", "category_2", "category_3"):
            columns[name] = texts(_get(block, name), nulls)
    columns["price"] = numbers(_get(block, "price"), "price", problems, rules.number_format)
    for name in ("available_from", "available_to"):
        columns[name] = _time_array(
            *timestamps(_get(block, name), name, problems, rules.time_format, None, required=False)
        )
    status = pc.utf8_lower(pc.utf8_trim_whitespace(texts(_get(block, "status"), nulls)))
    status = pc.coalesce(status, pa.scalar("active", _TEXT))
    known = flags(pc.is_in(status, pa.array(["active", "inactive"], _TEXT)))
    problems.add(~known, "status", "unknown status", _get(block, "status"))
    columns["status"] = status
    columns["attributes"] = _attributes(block, nulls)
    if EXCLUDED in block.columns:
        why = block.columns[EXCLUDED]
        problems.add(flags(pc.is_valid(why)), ROW, "excluded by rule", why)
    yield from _parts(block, columns, problems, ITEMS)


def _attributes(block: RawRows, null_values: tuple[str, ...]) -> pa.LargeStringArray:
    """One JSON object of texts per row, keys sorted, without the values that are missing."""
    rows = len(block.rows)
    pieces = []
    for name in sorted(n for n in block.columns if n.startswith(ATTRIBUTE)):
        values = texts(block.columns[name], null_values).dictionary_encode()
        key = json.dumps(name.removeprefix(ATTRIBUTE), ensure_ascii=False)
        words = [json.dumps(word, ensure_ascii=False) for word in values.dictionary.to_pylist()]
        pieces.append(pa.array([f"{key}: {w}" for w in words], _TEXT).take(values.indices))
    if not pieces:
        return pa.array(["{}"] * rows, _TEXT)
    inside = pc.coalesce(joined(pieces, ", "), pa.scalar("", _TEXT))
    return pc.binary_join_element_wise(
        pa.scalar("{", _TEXT), inside, pa.scalar("}", _TEXT), pa.scalar("", _TEXT)
    )


def _time_array(values: np.ndarray, valid: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~valid).cast(_UTC_TIME)


def _parts(
    block: RawRows, columns: Mapping[str, Any], problems: Problems, contract: Mapping[str, str]
) -> Iterator[pa.Table]:
    """The block's readable rows and its broken rows, both with the contract's columns."""
    schema = _schema({"row": _ORIGIN["row"], **contract, **_VERDICT})
    verdict = {"reject_field": problems.fields(), "reject_reason": problems.reasons()}
    arrays = [
        pa.array(values, from_pandas=True) if isinstance(values, np.ndarray) else values
        for values in ({"row": block.rows, **columns, **verdict}[name] for name in schema.names)
    ]
    yield pa.table([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)
    if len(block.broken_rows):
        count = len(block.broken_rows)
        broken = {
            "row": pa.array(block.broken_rows, pa.int64()),
            "reject_field": pa.array([ROW] * count, _TEXT),
            "reject_reason": pa.array(block.broken_reasons, _TEXT),
        }
        yield pa.table([broken.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


def _in_file_order(parts: Sequence[pa.Table], contract: Mapping[str, str]) -> pa.Table:
    if not parts:
        return _schema(contract).empty_table()
    table = pa.concat_tables(parts).combine_chunks()
    rows = np.asarray(table["row"])
    if (rows[1:] > rows[:-1]).all():
        return table
    return table.take(pa.array(np.argsort(rows, kind="stable")))


def _with_origin(table: pa.Table, file: SourceFile) -> pa.Table:
    zeros = pa.array(np.zeros(len(table), dtype=np.int32))
    for name, value in (("file", file.name), ("batch", file.batch)):
        table = table.add_column(0, name, pa.array([value], _TEXT).take(zeros))
    return table


def _with_event_ids(table: pa.Table, file: SourceFile, rules: InteractionRules) -> pa.Table:
    """Derive missing ids, and refuse a given id that came before with other content."""
    accepted = flags(pc.is_null(table["reject_reason"]).combine_chunks())
    if pc.any(pc.is_valid(table["event_id"])).as_py():
        return _without_conflicts(table, accepted)
    where = np.flatnonzero(accepted)
    chosen = table if len(where) == len(table) else table.take(pa.array(where))
    salt = file.batch if rules.identical_rows == "two_events" else ""
    ids = _identities(chosen, salt)["event_id"].combine_chunks().cast(_TEXT)
    if len(where) < len(table):
        ids = pc.replace_with_mask(pa.nulls(len(table), _TEXT), pa.array(accepted), ids)
    return table.set_column(table.schema.get_field_index("event_id"), "event_id", ids)


def _without_conflicts(table: pa.Table, accepted: np.ndarray) -> pa.Table:
    where = np.flatnonzero(accepted)
    ids = table["event_id"].combine_chunks().take(pa.array(where))
    codes = np.asarray(ids.dictionary_encode().indices)
    several = where[np.bincount(codes)[codes] > 1]
    if not len(several):
        return table
    some = table.take(pa.array(several))
    same = pd.DataFrame(
        {
            "id": some["event_id"].to_pandas(),
            "content": _identities(some, "")["content"].to_pandas(),
            "row": np.asarray(some["row"]),
        }
    )
    first = same.groupby("id", sort=False)[["content", "row"]].transform("first")
    differs = (same["content"] != first["content"]).to_numpy()
    if not differs.any():
        return table
    said = "conflicts with row " + first["row"].astype(str) + ": the same event id, other content"
    verdicts = {"reject_reason": said.to_numpy()[differs], "reject_field": "event_id"}
    for name, verdict in verdicts.items():
        values = table[name].to_pandas().to_numpy(dtype=object)
        values[several[differs]] = verdict
        position = table.schema.get_field_index(name)
        table = table.set_column(position, name, pa.array(values, _TEXT, from_pandas=True))
    return table


def _identities(table: pa.Table, salt: str) -> pa.Table:
    """(position, content, event_id) of each row; see `sql/ingestion/event_ids.sql`."""
    columns: dict[str, pa.Array] = {"position": pa.array(np.arange(len(table)))}
    for name in _EVENT:
        column = table[name].combine_chunks()
        if pa.types.is_floating(column.type):
            missing = flags(pc.is_null(column))
            bits = np.asarray(column.to_numpy(zero_copy_only=False)).view(np.int64)
            column = pa.array(bits, mask=missing)
        elif pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        columns[name] = column
    # Nothing is summed here, so two threads give the same bytes as one.
    warehouse = Warehouse(threads=2)
    return warehouse.query("ingestion/event_ids", {"landed": pa.table(columns)}, {"salt": salt})


def _entities(
    parts: Sequence[pa.Table], contract: Mapping[str, str], key: tuple[str, ...]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accepted rows once per key, sorted by it, and everything else with its reason."""
    if not parts:
        return empty_frame(contract), empty_frame(REJECTS)
    frame = _frame(pa.concat_tables(parts), {**_ORIGIN, **contract, **_VERDICT})
    frame = frame.sort_values(["file", "row"], kind="stable", ignore_index=True)
    good = frame[frame["reject_reason"].isna()]
    again = good[good.duplicated(list(key))]
    if len(again):
        firsts = good.drop_duplicates(list(key))
        before = again[list(key)].merge(firsts, on=list(key), how="left")
        before.index = again.index
        same = np.ones(len(again), dtype=bool)
        for name in contract:
            left, right = again[name], before[name]
            same &= ((left == right) | (left.isna() & right.isna())).to_numpy(dtype=bool)
        place = before["row"].astype(str)
        other_file = before["file"] != again["file"]
        place = place.where(~other_file, place + ": in " + before["file"])
        verdict = pd.Series("conflicts with row ", index=again.index)
        verdict[same] = "duplicate of row "
        frame.loc[again.index, "reject_reason"] = verdict + place
        frame.loc[again.index, "reject_field"] = key[0]
    rejected = frame["reject_reason"].notna()
    accepted = frame.loc[~rejected, list(contract)]
    return (
        accepted.sort_values(list(key), kind="stable", ignore_index=True),
        frame.loc[rejected, list(REJECTS)].reset_index(drop=True),
    )


def _frame(table: pa.Table, contract: Mapping[str, str]) -> pd.DataFrame:
    """An Arrow table as a frame with exactly the contract's columns and types."""
    columns = {
        name: table[name].cast(_ARROW[kind]).to_pandas().astype(kind)
        for name, kind in contract.items()
    }
    return pd.DataFrame(columns)
