"""Sensors: what starts or reports something because of what happened, not because of the time.

Belongs here: looking, deciding, requesting runs. Does not belong here: computing anything, and
remembering anything: what a sensor decides follows from the lake, the ledger of arrivals and the
run storage alone, so a lost or rewound cursor or a second daemon changes nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg

from dagster_project import jobs
from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.lake import LakeError
from recsys_assets.ingestion.arrivals import LedgerError, Look
from recsys_assets.ingestion.assets import partitions, source_fingerprint
from recsys_assets.ingestion.files import inbox_of, ledger_of
from recsys_assets.ingestion.source import SourceError

STATE_TAG = "recsys/state"
"""Tag of a requested run: a hash of what was found stale, so that the same is not asked twice."""
PAUSES = (timedelta(0), timedelta(minutes=1), timedelta(minutes=10))
"""How long after each failure for the same state the run is tried again; then people must act."""


def take_arrivals(project: Project, now: datetime) -> Look:
    """Accept every complete new file of the watched folders, if the shop watches any."""
    shop = project.shop
    inbox = inbox_of(shop)
    if inbox is None or shop.arrival is None:
        return Look()
    first = "landed_rows" not in project.lake.assets()
    return ledger_of(Path(project.home)).accept(inbox, shop.arrival, now, history=first)


def touched(project: Project, gated: Sequence[GatedAsset]) -> list[tuple[str, tuple[str, str]]]:
    """(job, partition range) pairs that would make the raw tables what the source files say.

    First the landing; once that is approved, each contiguous range of stale days. Empty when there
    is nothing to do. The range of the landing job is ('', '').
    """
    by_name = {g.table.name: g for g in gated}
    if any(by_name[name].stale(project) for name in jobs.LANDING):
        return [(jobs.LAND, ("", ""))]
    keys = partitions(project.shop).get_partition_keys()
    stale = set(by_name[jobs.RAW].stale(project))
    return [(jobs.INGEST, found) for found in contiguous(keys, stale)]


def contiguous(keys: Sequence[str], wanted: set[str]) -> Iterator[tuple[str, str]]:
    """The longest runs of neighbours in `keys` that are all `wanted`, as (first, last)."""
    places = [n for n, key in enumerate(keys) if key in wanted]
    if not places:
        return
    breaks = [n for n, (a, b) in enumerate(pairwise(places), 1) if b != a + 1]
    for begin, end in pairwise([0, *breaks, len(places)]):
        yield keys[places[begin]], keys[places[end - 1]]


def request(
    instance: dg.DagsterInstance, job: str, span: tuple[str, str], state: str, now: datetime
) -> dg.RunRequest | str:
    """A run of `job`, or why none is requested now."""
    state = hashlib.sha256(f"{job} {span} {state}".encode()).hexdigest()[:16]
    runs = instance.get_run_records(dg.RunsFilter(tags={STATE_TAG: state}), limit=len(PAUSES) + 1)
    if any(not r.dagster_run.is_finished for r in runs):
        return f"{job}: under way in run {runs[0].dagster_run.run_id}"
    failed = [r for r in runs if r.dagster_run.is_failure]
    if len(failed) > len(PAUSES):
        return (
            f"{job}: failed {len(failed)} times on the same files, last in run "
            f"{failed[0].dagster_run.run_id}. Repair what its failed check says and deliver the "
            f"file again under the same name, or start the job {job} by hand"
        )
    if failed:
        again = failed[0].update_timestamp.astimezone(UTC) + PAUSES[len(failed) - 1]
        if now < again:
            return f"{job}: failed; it is tried again after {again:%F %R} UTC"
    tags = {STATE_TAG: state}
    if span[0]:
        tags |= {
            "dagster/asset_partition_range_start": span[0],
            "dagster/asset_partition_range_end": span[1],
        }
    return dg.RunRequest(job_name=job, tags=tags)


def arrival(project: Project, gated: Sequence[GatedAsset]) -> dg.SensorDefinition:
    """New files, and new days of a source, become runs for exactly the days they touch."""

    @dg.sensor(
        name="arrival",
        jobs=[jobs.land_job(), jobs.ingest_job()],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Takes complete files of the watched folders into the ledger of arrivals, and requests "
            "a run for the landing, then one for each range of days that the new rows touch."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        try:
            look = take_arrivals(project, now)
            for name, why in sorted(look.refused.items()):
                context.log.warning(f"{name} {why}")
            for taken in look.accepted:
                context.log.info(f"{taken.name} arrived ({taken.size:,} bytes)")
            wanted = touched(project, gated)
            state = source_fingerprint(project)
        except (SourceError, LedgerError, LakeError) as error:
            return dg.SkipReason(str(error))
        outcomes = [request(context.instance, job, span, state, now) for job, span in wanted]
        requests = [o for o in outcomes if isinstance(o, dg.RunRequest)]
        if requests:
            return dg.SensorResult(run_requests=requests)
        notes = [o for o in outcomes if isinstance(o, str)]
        notes += [f"{name} is still arriving" for name in look.arriving]
        notes += [f"{name} {why}" for name, why in sorted(look.refused.items())]
        return dg.SkipReason("; ".join(notes) or "nothing new")

    return sensor


def all_sensors(project: Project, gated: Sequence[GatedAsset]) -> list[dg.SensorDefinition]:
    """Every sensor of the code location."""
    return [arrival(project, gated)]
