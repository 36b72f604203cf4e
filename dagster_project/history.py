"""Old runs in Dagster's storage: which of them nothing needs, and removing those.

What `delete_run` of Dagster takes away are the run, its events, and the copies of its events by
which assets are known: whether an asset was ever made, with what data, which partitions there are.
So the runs that hold the newest of these stay, however old, and conditions see what they saw.
It leaves the run's own database file (SQLite) and what its steps printed; those go here.

Belongs here: that choice, through Dagster's own API as far as it goes. Does not belong here: runs
that are under way or dead (`reaper.py`), ticks (Dagster purges them, see `dagster.yaml`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

from dagster_project.runs import LAUNCH_TAG
from dagster_project.sensors import STATE_TAG

_ENDED = [
    dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED,
]  # fmt: skip
_AT_ONCE = 500
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class OldRun:
    """A run that may go; `files` are its database and what was printed, side files included."""

    run_id: str
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def old_runs(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], before: datetime
) -> list[OldRun]:
    """Finished runs that nothing needs and nobody has touched since `before`, oldest first; then
    what is left of runs that were deleted in the UI."""
    places = _Places(instance)
    left = places.run_ids()  # looked at before the runs: what is new has its run by then
    ended = dg.RunsFilter(statuses=_ENDED, updated_before=before)
    runs = [r.dagster_run for r in instance.get_run_records(ended, ascending=True)]
    needed = needed_runs(instance, checks)
    found = [
        OldRun(run.run_id, places.files(run.run_id, run.tags.get(LAUNCH_TAG, "")))
        for run in runs
        if run.run_id not in needed
    ]
    gone = [i for i in sorted(left) if not instance.has_run(i)]
    return found + [OldRun(i, places.files(i)) for i in gone]


def delete(instance: dg.DagsterInstance, old: Iterable[OldRun]) -> None:
    """Delete runs with their events and files. Killed, the next call goes on."""
    places = _Places(instance)
    for run in old:
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
        instance.delete_run(run.run_id)
        for path in {*run.files, *places.files(run.run_id)}:  # Dagster keeps the emptied database
            path.unlink(missing_ok=True)


def needed_runs(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> set[str]:
    """Runs that hold the newest event of an asset, of one of its partitions or of a check; the
    newest runs of all (SQLite would number events anew); and failures the sensors count."""
    found: set[str | None] = set()
    for record in instance.get_asset_records():
        entry = record.asset_entry
        found |= {entry.last_run_id, entry.last_planned_materialization_run_id}
        for event in (
            entry.last_materialization_record, entry.last_observation_record,
            entry.last_failed_to_materialize_record,
        ):  # fmt: skip
            found.add(event.run_id if event else None)
        found.update(_of_partitions(instance, entry.asset_key))
    for summary in instance.event_log_storage.get_asset_check_summary_records(checks).values():
        found.add(summary.last_run_id)
        last = summary.last_completed_check_execution_record
        found.add(last.run_id if last else None)
    for order in ("id", "update_timestamp"):
        found |= {r.dagster_run.run_id for r in instance.get_run_records(limit=1, order_by=order)}
    return {run_id for run_id in (*found, *_open_failures(instance)) if run_id}


def _of_partitions(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    for kind, fetch in (
        (dg.DagsterEventType.ASSET_MATERIALIZATION, instance.fetch_materializations),
        (dg.DagsterEventType.ASSET_OBSERVATION, instance.fetch_observations),
    ):
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(key, kind)
        ids = sorted(set(newest.values()))
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=some)
            yield from (r.run_id for r in fetch(wanted, limit=len(some)).records)


def _open_failures(instance: dg.DagsterInstance) -> Iterator[str]:
    """Failed runs that a sensor requested, since the last success of their job: by these it knows
    that it has tried often enough (`sensors.request`)."""
    succeeded: dict[str, datetime] = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
        run = record.dagster_run
        if STATE_TAG not in run.tags:
            continue
        if run.job_name not in succeeded:
            good = dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS])
            newest = [r.create_timestamp for r in instance.get_run_records(good, limit=1)]
            succeeded[run.job_name] = newest[0] if newest else datetime.min.replace(tzinfo=UTC)
        if record.create_timestamp > succeeded[run.job_name]:
            yield run.run_id


class _Places:
    """Where files of runs lie, as far as Dagster keeps them on this machine."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        events, logs = instance.event_log_storage, instance.compute_log_manager
        self._events: Path | None = None
        self._logs: Path | None = None
        if isinstance(events, SqliteEventLogStorage):
            self._events = Path(events.path_for_shard("")).parent
        if isinstance(logs, LocalComputeLogManager):
            self._logs = Path(logs.get_captured_local_path(["one"], "out")).parent
        self._launched = Path(instance.root_directory) / "logs"

    def files(self, run_id: str, launch: str = "") -> tuple[Path, ...]:
        """Every file of a run: its events, what its steps printed, what its process printed."""
        found: list[Path] = []
        if self._events is not None:
            found += self._events.glob(f"{run_id}.db*")
        if self._logs is not None:
            found += (p for p in (self._logs / run_id).rglob("*") if p.is_file())
        if launch and (log := self._launched / f"{launch}.log").is_file():
            found.append(log)
        return tuple(sorted(found))

    def run_ids(self) -> set[str]:
        """Ids of runs that left something here."""
        found: set[str] = set()
        if self._events is not None:
            found |= {path.stem for path in self._events.glob("*.db")}
        if self._logs is not None and self._logs.is_dir():
            found |= {path.name for path in self._logs.iterdir()}
        return {i for i in found if _ID.fullmatch(i)}
