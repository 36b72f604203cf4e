"""Ingestion assets: source files become checked tables, and no row is lost on the way.

Belongs here: thin assets over the sources, and the rules that tie them to the files. Does not
belong here: parsing, and anything that compares rows of different files (staging does).
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.ingestion import tables
from recsys_assets.ingestion.source import SourceFile, open_source

GROUP = "ingestion"
SOURCES = (
    "recsys_assets.ingestion.complete_journey",
    "recsys_assets.ingestion.movielens",
    "recsys_assets.ingestion.atomic",
    "recsys_assets.ingestion.files",
)
CONFIG = (
    "source",
    "time_zone",
    "timestamps_are",
    "event_types",
    "currency",
    "plausible",
    "partitions",
)


def partitions(shop: Shop) -> dg.TimeWindowPartitionsDefinition:
    """The days or months of `raw_interactions`, as the shop file states them."""
    span = shop.partitions
    end = span.end.isoformat() if span.end else None
    if span.granularity == "month":
        return dg.MonthlyPartitionsDefinition(start_date=span.start.isoformat(), end_date=end)
    return dg.DailyPartitionsDefinition(start_date=span.start.isoformat(), end_date=end)


def source_fingerprint(shop: Shop) -> str:
    """Hash of the names and contents of all source files."""
    files = [f"{f.role}:{f.name}:{f.sha256}" for f in open_source(shop).files()]
    return hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()


def partition_of(shop: Shop, event_time: pa.ChunkedArray) -> pa.ChunkedArray:
    """The partition key of each event time (its UTC day or month), as strings."""
    text = pc.strftime(event_time, "%Y-%m-%d")
    if shop.partitions.granularity == "day":
        return text
    return pc.binary_join_element_wise(pc.utf8_slice_codeunits(text, 0, 7), "01", "-")


def _interaction_files(shop: Shop) -> list[SourceFile]:
    return [f for f in open_source(shop).files() if f.role == "interactions"]


def _every_row_landed(candidate: Snapshot, shop: Shop) -> Iterator[Failure]:
    source = open_source(shop)
    landed = candidate.to_pandas(["batch"]).groupby("batch").size()
    for file in _interaction_files(shop):
        expected, found = source.count_rows(file), int(landed.get(file.batch, 0))
        if expected != found:
            yield Failure(f"{file.name} has {expected:,} rows, {found:,} landed")


def _rejects_have_reasons(candidate: Snapshot) -> Iterator[Failure]:
    frame = candidate.to_pandas(["reject_field", "reject_reason", "event_id", "event_time"])
    accepted = frame["reject_reason"].isna()
    bare = int((accepted & frame["event_id"].isna()).sum())
    if bare:
        yield Failure("accepted rows without an event id", rows=bare)
    if not accepted.any():
        common = frame["reject_reason"].str.split(":").str[0].value_counts().head(3)
        why = "; ".join(f"{reason} ({n:,} rows)" for reason, n in common.items())
        yield Failure(f"no row of the source is acceptable: {why}")


@table_asset(
    tables.LANDED_ROWS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
    sql=["ingestion/event_ids"],
    rules=[_every_row_landed, _rejects_have_reasons],
)
def landed_rows(shop: Shop, report: Report) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every row of every interactions file, parsed to the data contract.

    Good rows and bad rows are both here; a bad row says which field is wrong and why. Each file is
    read once per content: the same bytes under another name give the same event ids.
    """
    source = open_source(shop)
    report.texts["warnings"] = "\n".join(f"- {w}" for w in source.check()) or "none"
    now = datetime.now(UTC)
    rows = rejected = 0
    batches: set[str] = set()
    for file in _interaction_files(shop):
        if file.batch in batches:
            continue
        batches.add(file.batch)
        frame = source.land(file, now)
        rows += len(frame)
        rejected += int(frame["reject_reason"].notna().sum())
        yield file.name, frame
    report.numbers |= {"files": len(batches), "rows_in": rows, "rows_rejected": rejected}


def _days_are_complete(candidate: Snapshot, landed_rows: Snapshot, shop: Shop) -> Iterator[Failure]:
    landed = landed_rows.to_arrow(["event_time", "reject_reason"])
    landed = landed.filter(pc.is_null(landed["reject_reason"]))
    expected = partition_of(shop, landed["event_time"]).to_pandas().value_counts()
    for version in candidate.versions:
        wanted = int(expected.get(version.partition, 0))
        if version.rows != wanted:
            yield Failure(
                f"partition {version.partition} has {version.rows:,} rows, "
                f"the source has {wanted:,} acceptable ones"
            )
        snapshot = candidate.lake.of_version(version)
        keys = partition_of(shop, snapshot.to_arrow(["event_time"])["event_time"])
        strays = int(pc.sum(pc.not_equal(keys, version.partition)).as_py() or 0)
        if strays:
            yield Failure(f"rows outside partition {version.partition}", "event_time", strays)


_ORDER = ("partition", "event_time", "event_id", "batch", "file", "row")


def raw_interactions(shop: Shop) -> GatedAsset:
    """Declare `raw_interactions` for the partitions of `shop`."""

    @table_asset(
        tables.RAW_INTERACTIONS,
        group=GROUP,
        kinds=["parquet", "python"],
        config=("partitions",),
        rules=[_days_are_complete],
        partitions=partitions(shop),
    )
    def raw_interactions(
        landed_rows: Snapshot, shop: Shop, days: list[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """Accepted events, one partition per day (or month) of their UTC time.

        Re-materializing a partition replaces that partition and nothing else. Late rows of a day
        arrive by re-materializing it.
        """
        names = [c.name for c in tables.RAW_INTERACTIONS.columns]
        rows = landed_rows.to_arrow([*names, "reject_reason"])
        rows = rows.filter(pc.is_null(rows["reject_reason"])).select(names)
        keys = partition_of(shop, rows["event_time"])
        order = pc.sort_indices(
            rows.append_column("partition", keys),
            [(name, "ascending") for name in _ORDER],
        )
        rows, keys = rows.take(order), keys.take(order)
        counts = pc.value_counts(keys)
        offsets, start = dict[str, tuple[int, int]](), 0
        for entry in counts:
            size = entry["counts"].as_py()
            offsets[entry["values"].as_py()] = (start, size)
            start += size
        for day in days:
            begin, size = offsets.get(day, (0, 0))
            yield day, rows.slice(begin, size)

    return raw_interactions


@table_asset(
    tables.RAW_ITEMS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
)
def raw_items(shop: Shop) -> pd.DataFrame:
    """The catalogue as the source gives it: every item on offer, sold or not."""
    return open_source(shop).items(datetime.now(UTC))[0]


@table_asset(
    tables.RAW_USERS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
)
def raw_users(shop: Shop) -> pd.DataFrame:
    """Users and their optional attributes, whether or not they ever interacted."""
    return open_source(shop).users(datetime.now(UTC))[0]


@table_asset(
    tables.RAW_EXPOSURES,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
)
def raw_exposures(shop: Shop) -> pd.DataFrame:
    """What was shown to whom, if the source records it. Empty for sources that do not."""
    return open_source(shop).exposures(datetime.now(UTC))[0]


def _entity_rows_add_up(candidate: Snapshot, raw_items: Snapshot, shop: Shop) -> Iterator[Failure]:
    source = open_source(shop)
    rejected = candidate.to_pandas(["role"])["role"].value_counts()
    rows_in = sum(source.count_rows(f) for f in source.files() if f.role == "items")
    found = raw_items.rows + int(rejected.get("items", 0))
    if rows_in and rows_in != found:
        yield Failure(
            f"item files have {rows_in:,} rows; accepted {raw_items.rows:,} + rejected "
            f"{int(rejected.get('items', 0)):,} = {found:,}"
        )


@table_asset(
    tables.REJECTED_ENTITIES,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
    rules=[_entity_rows_add_up],
)
def rejected_entities(shop: Shop) -> pd.DataFrame:
    """Rows of the item, user and exposure files that were not accepted, each with its reason."""
    source, now = open_source(shop), datetime.now(UTC)
    frames = [
        source.items(now)[1].assign(role="items"),
        source.users(now)[1].assign(role="users"),
        source.exposures(now)[1].assign(role="exposures"),
    ]
    rejected = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
    return rejected.sort_values(["role", "file", "row"], kind="stable", ignore_index=True)


def assets(shop: Shop) -> list[GatedAsset]:
    """The stage's assets, for `shop`."""
    return [
        landed_rows,
        raw_interactions(shop),
        raw_items,
        raw_users,
        raw_exposures,
        rejected_entities,
    ]
