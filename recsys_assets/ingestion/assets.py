"""Ingestion assets: source files become checked tables, and no row is lost on the way.

Belongs here: thin assets over the sources, and the rules that tie them to the files. Does not
belong here: parsing, and anything that compares rows of different files (staging does).
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.assets import (
    LOOKS,
    GatedAsset,
    Project,
    Report,
    table_asset,
    unit_of,
)
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import File, Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.ingestion import tables
from recsys_assets.ingestion.parsing import ERASED, REASONS, reason_code
from recsys_assets.ingestion.source import Role, open_source
from recsys_assets.ingestion.tabular import TabularSource

GROUP = "ingestion"
JUDGED = "judged as of"
"""In the report of a table: the clock that its rows were judged by, where files have no arrival."""
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


def source_of(project: Project) -> TabularSource:
    """The shop's files; with a watched folder, what has arrived from it."""
    seen, place = LOOKS.get(), (project.home, project.shop_file)
    if seen is not None and place in seen:
        found: TabularSource = seen[place]
        return found
    source = open_source(project.shop, Path(project.home))
    if seen is not None:
        seen[place] = source
    return source


def source_fingerprint(project: Project) -> str:
    """Hash of the names and contents of all source files."""
    files = [f"{f.role}:{f.name}:{f.sha256}" for f in source_of(project).files()]
    return hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()


def partition_of(shop: Shop, event_time: pa.ChunkedArray) -> pa.ChunkedArray:
    """The partition key of each event time (its UTC day or month), as strings."""
    text = pc.strftime(event_time, "%Y-%m-%d")
    if shop.partitions.granularity == "day":
        return text
    return pc.binary_join_element_wise(pc.utf8_slice_codeunits(text, 0, 7), "01", "-")


def _clock(source: TabularSource, role: Role, report: Report) -> datetime:
    """Now; noted in the report where times of files are judged by it."""
    now = datetime.now(UTC)
    if any(f.role == role and f.arrived is None for f in source.files()):
        report.texts[JUDGED] = now.isoformat()
    return now


def _clock_of(made: Snapshot) -> datetime:
    """The moment as of which the rows of a table were judged, if any moment was."""
    noted = made.report().get("texts", {}).get(JUDGED)
    return datetime.fromisoformat(noted) if noted else datetime.now(UTC)


def _files_to_land(project: Project) -> dict[str, str]:
    return {
        f.name: f"{f.sha256}:{f.arrived}:{f.history}:{f.since}"
        for f in source_of(project).to_land()
    }


def _files_of(source: TabularSource, role: Role) -> list[tuple[str, str, int | None]]:
    """(name, sha256, rows) of the files of a role, rows counted without the parser."""
    return [(f.name, f.sha256, source.count_rows(f)) for f in source.files() if f.role == role]


def _every_row_landed(candidate: Snapshot) -> Iterator[Failure]:
    """Judged by the files that it was made from: what came since then is for the next run."""
    landed: dict[str, int] = defaultdict(int)
    for version in candidate.versions:
        for part in version.files:
            landed[unit_of(part.part)] += part.rows
    for name, _, expected in candidate.report()["files"]["interactions"]:
        if name not in landed:
            yield Failure(f"nothing landed of {name}")
        elif expected is not None and expected != landed[name]:
            yield Failure(f"{name} has {expected:,} rows, {landed[name]:,} landed")


def _rejects_have_reasons(candidate: Snapshot) -> Iterator[Failure]:
    frame = candidate.to_pandas(["reject_field", "reject_reason", "event_id", "event_time"])
    accepted = frame["reject_reason"].isna()
    bare = int((accepted & frame["event_id"].isna()).sum())
    if bare:
        yield Failure("accepted rows without an event id", rows=bare)
    if not accepted.any():
        rejected = candidate.to_pandas(["file", "row", "reject_field", "reject_reason"])
        yield _none_acceptable("interactions", rejected)


def _none_acceptable(role: Role, rejected: pd.DataFrame) -> Failure:
    """That a table has no row, and the commonest causes, each with one row that shows it."""
    codes = rejected["reject_reason"].map(reason_code)
    causes = rejected.groupby([rejected["reject_field"], codes], sort=False)
    largest = sorted(causes, key=lambda cause: -len(cause[1]))[:3]
    why = "; ".join(
        f"{field}: {code}, that is, {REASONS[str(code)]} ({len(rows):,} rows, as row "
        f"{rows['row'].iloc[0]} of {rows['file'].iloc[0]})"
        for (field, code), rows in largest
    )
    return Failure(
        f"no row of the source is acceptable: {why or 'its files have no rows'}. Correct the "
        f"files, or what source.{role} of the shop file says about them"
    )


@table_asset(
    tables.LANDED_ROWS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
    sql=["ingestion/event_ids"],
    rules=[_every_row_landed, _rejects_have_reasons],
    units=_files_to_land,
)
def landed_rows(
    project: Project, shop: Shop, todo: list[str], report: Report
) -> Iterator[tuple[str, pa.Table]]:
    """Every row of every interactions file, parsed to the data contract.

    Good rows and bad rows are both here; a bad row says which field is wrong and why. Each file is
    read once per content: the same bytes under another name give the same event ids. A file that
    landed before is kept as it landed. Parts are called `file@partition`, and `file@` holds the
    bad rows.
    """
    source = source_of(project)
    report.texts["warnings"] = "\n".join(f"- {w}" for w in source.check()) or "none"
    now = datetime.now(UTC)
    rows = rejected = erased = 0
    files = {f.name: f for f in source.to_land()}
    for name in todo:
        landed = tables.LANDED_ROWS.conform(source.land(files[name], now))
        rows += landed.num_rows
        good = pc.is_null(landed["reject_reason"])
        bad = landed.filter(pc.invert(good))
        rejected += bad.num_rows
        erased += int(pc.sum(pc.equal(bad["reject_reason"], ERASED)).as_py() or 0)
        yield f"{name}@", bad
        landed = landed.filter(good)
        keys = partition_of(shop, landed["event_time"])
        for key in sorted(pc.unique(keys).to_pylist()):
            yield f"{name}@{key}", landed.filter(pc.equal(keys, key))
    report.files["interactions"] = [
        (f.name, f.sha256, source.count_rows(f) if f.name in todo else None) for f in files.values()
    ]
    report.numbers |= {
        "files": len(files),
        "files landed now": len(todo),
        "rows landed now": rows,
        "rows rejected now": rejected - erased,
        "rows erased now": erased,
    }


def _landed_by_partition(landed_rows: Snapshot) -> dict[str, list[File]]:
    """Partition -> the parts of `landed_rows` that hold its accepted rows."""
    parts: dict[str, list[File]] = defaultdict(list)
    for version in landed_rows.versions:
        for file in version.files:
            partition = file.part.rsplit("@", 1)[-1]
            if partition:
                parts[partition].append(file)
    return parts


def _partition_digests(landed_rows: Snapshot) -> dict[str, str]:
    return {
        partition: hashlib.sha256("".join(f.part + f.sha256 for f in files).encode()).hexdigest()
        for partition, files in _landed_by_partition(landed_rows).items()
    }


def _days_are_complete(candidate: Snapshot, landed_rows: Snapshot, shop: Shop) -> Iterator[Failure]:
    landed = _landed_by_partition(landed_rows)
    for version in candidate.versions:
        wanted = sum(f.rows for f in landed.get(version.partition, []))
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


_ORDER = ("event_time", "event_id", "batch", "file", "row")


def raw_interactions(shop: Shop) -> GatedAsset:
    """Declare `raw_interactions` for the partitions of `shop`."""

    @table_asset(
        tables.RAW_INTERACTIONS,
        group=GROUP,
        kinds=["parquet", "python"],
        config=("partitions",),
        rules=[_days_are_complete],
        partitions=partitions(shop),
        units=_partition_digests,
    )
    def raw_interactions(landed_rows: Snapshot, days: list[str]) -> Iterator[tuple[str, pa.Table]]:
        """Accepted events, one partition per day (or month) of their UTC time.

        Re-materializing a partition replaces that partition and nothing else. Late rows of a day
        arrive by re-materializing it, and only the landed parts of that day are read.
        """
        names = tables.RAW_INTERACTIONS.names
        landed = _landed_by_partition(landed_rows)
        for day in days:
            parts = [landed_rows.to_arrow(names, part=f.part) for f in landed.get(day, [])]
            if not parts:
                yield day, tables.RAW_INTERACTIONS.empty()
                continue
            yield day, pa.concat_tables(parts).sort_by([(n, "ascending") for n in _ORDER])

    return raw_interactions


def _some_item_is_acceptable(candidate: Snapshot, project: Project) -> Iterator[Failure]:
    if not candidate.rows:
        yield _none_acceptable("items", source_of(project).items(datetime.now(UTC))[1])


@table_asset(
    tables.RAW_ITEMS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
    rules=[_some_item_is_acceptable],
)
def raw_items(project: Project, report: Report) -> pd.DataFrame:
    """The catalogue as the source gives it: every item on offer, sold or not."""
    source = source_of(project)
    report.files["items"] = _files_of(source, "items")
    return source.items(datetime.now(UTC))[0]


@table_asset(
    tables.RAW_USERS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
)
def raw_users(project: Project, report: Report) -> pd.DataFrame:
    """Users and their optional attributes, whether or not they ever interacted."""
    source = source_of(project)
    report.files["users"] = _files_of(source, "users")
    return source.users(datetime.now(UTC))[0]


@table_asset(
    tables.RAW_EXPOSURES,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
)
def raw_exposures(project: Project, report: Report) -> pd.DataFrame:
    """What was shown to whom, if the source records it. Empty for sources that do not."""
    source = source_of(project)
    report.files["exposures"] = _files_of(source, "exposures")
    return source.exposures(_clock(source, "exposures", report))[0]


@table_asset(
    tables.RAW_PROMOTIONS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
    sql=["ingestion/complete_journey_promotions"],
)
def raw_promotions(project: Project, report: Report) -> pd.DataFrame:
    """What the shop put forward and when. Empty for sources that do not say."""
    source = source_of(project)
    report.files["promotions"] = _files_of(source, "promotions")
    return source.promotions()[0]


@table_asset(
    tables.ONBOARDING_ANSWERS,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
)
def onboarding_answers(project: Project, report: Report) -> pd.DataFrame:
    """What new users said they like: options they chose and words they typed, as they came."""
    source = source_of(project)
    report.files["onboarding_answers"] = _files_of(source, "onboarding_answers")
    return source.onboarding_answers(_clock(source, "onboarding_answers", report))[0]


def _entity_rows_add_up(
    candidate: Snapshot,
    raw_items: Snapshot,
    raw_users: Snapshot,
    raw_exposures: Snapshot,
    raw_promotions: Snapshot,
    onboarding_answers: Snapshot,
) -> Iterator[Failure]:
    """Of the roles whose files were the same when the table and the rejects were made: a delivery
    in between makes the table anew, and the rejects with it."""
    tables_of = {
        "items": raw_items,
        "users": raw_users,
        "exposures": raw_exposures,
        "promotions": raw_promotions,
        "onboarding_answers": onboarding_answers,
    }
    rejected = candidate.to_pandas(["role"])["role"].value_counts()
    for role, files in candidate.report()["files"].items():
        if files != tables_of[role].report().get("files", {}).get(role):
            continue
        rows_in, good = sum(rows for _, _, rows in files), tables_of[role].rows
        bad = int(rejected.get(role, 0))
        if rows_in != good + bad:
            yield Failure(
                f"files of {role} have {rows_in:,} rows; accepted {good:,} + rejected {bad:,} = "
                f"{good + bad:,}"
            )


@table_asset(
    tables.REJECTED_ENTITIES,
    group=GROUP,
    kinds=["parquet", "python"],
    config=CONFIG,
    inputs_hash=source_fingerprint,
    code=SOURCES,
    sql=["ingestion/complete_journey_promotions"],
    rules=[_entity_rows_add_up],
    after=["raw_items", "raw_users", "raw_promotions"],
)
def rejected_entities(
    project: Project, raw_exposures: Snapshot, onboarding_answers: Snapshot, report: Report
) -> pd.DataFrame:
    """Rows of the item, user, exposure, promotion and answer files that were not accepted, and why.

    Each is judged as of the moment at which its table was, or it might be in neither.
    """
    source, now = source_of(project), datetime.now(UTC)
    answered = _clock_of(onboarding_answers)
    entities: tuple[Role, ...] = (
        "items", "users", "exposures", "promotions", "onboarding_answers",
    )  # fmt: skip
    report.files = {r: _files_of(source, r) for r in entities if r not in source.summed_up}
    frames = [
        source.items(now)[1].assign(role="items"),
        source.users(now)[1].assign(role="users"),
        source.exposures(_clock_of(raw_exposures))[1].assign(role="exposures"),
        source.promotions()[1].assign(role="promotions"),
        source.onboarding_answers(answered)[1].assign(role="onboarding_answers"),
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
        raw_promotions,
        onboarding_answers,
        rejected_entities,
    ]
