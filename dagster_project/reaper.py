"""Runs whose process is gone, and what that means.

With Dagster's default launcher a run that is killed together with its parent stays STARTED for
ever. A run of ours holds the lake's lock for its whole length, or waits for it under a lock of its
own, and the kernel frees both when the process dies: a started run that does neither, and has not
said a word for a while, is dead. So is one that is still starting when the code server that starts
it has ended; Dagster waits for it as long as a start may take on a busy machine.

Belongs here: telling dead runs from living ones, and marking them. Does not belong here: when to
look (a sensor, `recsys doctor` and every start of a run do).
"""

import json
import socket
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

from recsys_assets.core.lake import Lake

GRACE = timedelta(seconds=30)
"""How long a run may be silent between its start and its lock, or its lock and its end."""
_STARTING = dg.DagsterRunStatus.STARTING
_RUNNING = [_STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def dead_runs(instance: dg.DagsterInstance, lake: Lake, now: datetime) -> list[dg.DagsterRun]:
    """Runs that are recorded as running although nobody works on them."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_RUNNING))
    if not records:
        return []
    alive = [*lake.waiting(), lake.holder()]  # in this order: who waits becomes the holder
    return [
        record.dagster_run
        for record in records
        if (record.dagster_run.status != _STARTING or _server_is_gone(record.dagster_run))
        and not any(who.startswith(f"run {record.dagster_run.run_id},") for who in alive)
        and abs(now - _last_word(instance, record)) > GRACE  # to come: the clock was set back since
    ]


def _server_is_gone(run: dg.DagsterRun) -> bool:
    """Whether nobody listens any more where the code server did that starts a run. False where that
    cannot be said."""
    where = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    try:
        if "socket" in where:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(1)
                caller.connect(where["socket"])
        elif "port" in where:
            socket.create_connection((where["host"], where["port"]), timeout=1).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False
    return False


def _last_word(instance: dg.DagsterInstance, record: dg.RunRecord) -> datetime:
    """When a run last wrote an event: one that ends just now has let go of the lake already, and
    its record still says that it works."""
    run_id = record.dagster_run.run_id
    events = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    if not events:
        return record.update_timestamp.replace(tzinfo=UTC)
    return datetime.fromtimestamp(events[0].event_log_entry.timestamp, UTC)


def reap(instance: dg.DagsterInstance, lake: Lake, now: datetime) -> list[dg.DagsterRun]:
    """Mark dead runs as failed, and return them."""
    dead = dead_runs(instance, lake, now)
    for run in dead:
        instance.report_run_failed(
            run,
            "The process of this run is gone (killed, out of memory, or the machine restarted). "
            "Nothing it wrote is visible to readers. A daemon that runs starts it once more by "
            "itself; without one, start the job again.",
        )
    return dead
