"""What is wrong with this home, and what to do about each thing.

Needs no daemon, no webserver and no run: it reads files, Dagster's storage as far as that can be
read, and lists what the shop watches. A cron line or a systemd timer outside of Dagster runs it,
because an alert that depends on the daemon cannot say that the daemon is dead.

Belongs here: looking and saying. The one thing it changes: runs whose process is gone are marked as
failed, as the living daemon does. Does not belong here: repairing data.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

import dagster as dg
import yaml
from dagster._check import CheckError
from sqlalchemy.exc import SQLAlchemyError

from dagster_project import sensors
from dagster_project.alerts import Alert
from dagster_project.reaper import reap
from recsys_assets.core.assets import Project
from recsys_assets.core.erasures import FOLDER, WORKER, ErasureError, Erasures
from recsys_assets.core.lake import CorruptFileError, Lake, LakeError
from recsys_assets.indexing.stores import open_index
from recsys_assets.ingestion.arrivals import LedgerError, LocalInbox
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.object_store import UnreachableError
from recsys_assets.language_model.client import ledger
from recsys_assets.publishing.alias import index_of
from recsys_assets.publishing.releases import SERVED, SHORT, Releases
from recsys_assets.publishing.serving import Served

Level = Literal["error", "warning"]

LEAST_FREE_BYTES = 1_000_000_000
LEAST_FREE_SHARE = 0.05
NEAR_CAP = 0.8
HEARTBEAT = timedelta(minutes=2)
QUEUED = timedelta(hours=1)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    level: Level
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level}: {self.what}. {self.remedy}"


def examine(
    project: Project,
    instance: dg.DagsterInstance | None,
    now: datetime,
    *,
    deep: bool = False,
    daemon: bool = True,
) -> list[Finding]:
    """Everything that is wrong, errors first.

    instance: Dagster's storage, None when it cannot be opened. daemon: whether one should be alive.
    """
    home = Path(project.home)
    lake = project.lake
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: stored(lake, deep),
        lambda: gates(lake),
        lambda: served(project, now),
        lambda: release(project, deep),
        lambda: deliveries(project),
        lambda: arrivals(home),
        lambda: erasures(project),
        lambda: spend(project, now),
        lambda: disk(home),
        lambda: leftovers(lake),
        lambda: untold(project, now),
    ]
    if instance is not None:
        looks.append(lambda: runs(instance, lake, now))
        looks.append(lambda: failed(instance, now))
        if daemon:
            looks.append(lambda: daemons(instance, now))
            looks.append(lambda: instigators(instance))
    else:
        looks.append(lambda: unopened(home / "dagster"))
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except (
            LakeError, LedgerError, OSError, ValueError, KeyError, TypeError, SQLAlchemyError,
        ) as error:  # fmt: skip
            found.append(
                Finding("error", f"a look failed: {type(error).__name__}: {error}", "Repair that")
            )
    return sorted(found, key=lambda f: f.level)


def stored(lake: Lake, deep: bool) -> Iterator[Finding]:
    """Pointers, manifests and files: everything a pointer names is there and unaltered."""
    for asset in lake.assets():
        remedy = f"Restore the file from a backup, or delete it and materialize {asset} again"
        try:
            entries = lake.entries(asset)
        except (CorruptFileError, KeyError, TypeError):
            path = lake.root / "pointers" / f"{asset.replace('/', '__')}.json"
            yield Finding("error", f"{asset}: the pointer {path} cannot be read", remedy)
            continue
        hashed = deep or asset in SERVED
        for partition, entry in entries.items():
            named = dict.fromkeys(v for v in (entry.current, entry.candidate) if v)
            for version_id in named:
                try:
                    version = lake.version(version_id)
                    for file in version.files:
                        if hashed:
                            lake.verified_object(asset, file.sha256, "parquet")
                        elif lake.object_size(file.sha256, "parquet") != file.bytes:
                            raise LakeError(f"a file of it is missing or cut: {file.sha256[:12]}…")
                    lake.report(version)
                except (LakeError, ValueError, KeyError) as error:
                    where = f"{asset}[{partition}]" if partition else asset
                    yield Finding("error", f"{where}, version {version_id[:12]}: {error}", remedy)


def gates(lake: Lake) -> Iterator[Finding]:
    """Tables whose newest version is not approved, so that nothing is built from them. Of a run
    that works now the checks are still to come."""
    good = ("approved", "pending") if lake.holder() else ("approved",)
    for asset in lake.assets():
        bad = {p: e for p, e in lake.entries(asset).items() if e.verdict not in good}
        for partition, entry in list(bad.items())[:1]:
            where = f"{asset}[{partition}]" if partition else asset
            more = f" and {len(bad) - 1} more partitions" if len(bad) > 1 else ""
            reasons = "; ".join(entry.reasons) or "its check did not run to the end"
            yield Finding(
                "error",
                f"{where}{more}: the newest version is {entry.verdict}: {reasons}",
                f"Repair the cause and materialize {asset}; until then the last approved one is "
                "read",
            )


def served(project: Project, now: datetime) -> Iterator[Finding]:
    """The age of what is served, and whether anything is."""
    behind, words = sensors.staleness(project, now)
    alert = sensors.stale_alert(project, now)
    if behind is None and alert is None:
        yield Finding("error", f"nothing is served: {words}", "Start with `recsys run`")
    if alert is not None:
        late = f", {behind.total_seconds() / 3600:.0f} hours behind" if behind is not None else ""
        yield Finding("error", f"what is served {alert.what}{late}", alert.remedy)


def release(project: Project, deep: bool) -> Iterator[Finding]:
    """Whether what is served is complete, and what holds a newer one back."""
    releases = Releases(project.lake)
    try:
        state = releases.state()
    except LakeError as error:
        yield Finding("error", str(error), "Until then nothing is shown")
        return
    try:
        if state.live:
            releases.check(state.live, deep=deep)
    except LakeError as error:
        yield Finding(
            "error",
            f"release {state.live[:SHORT]}, which is served, is damaged: {error}",
            "Serve the one before (`recsys rollback`), then run the job",
        )
    else:
        yield from index(project, state.live)
    for held, lift in ((state.pinned, "unpin"), (state.frozen, "unfreeze")):
        if held:
            yield Finding(
                "warning", f"no new release is served: {held}", f"`recsys {lift}` lifts it"
            )
    newest = state.known[-1] if state.known else None
    if state.live and newest is not None and not newest.passed and newest.release_id != state.live:
        short = newest.release_id[:SHORT]
        yield Finding(
            "warning",
            f"the newest release, {short}, is blocked by its gate: {'; '.join(newest.reasons)}",
            f"Repair the cause; or, if you know better, `recsys promote {short} --anyway --why …`",
        )


def index(project: Project, live: str) -> Iterator[Finding]:
    """Whether the alias of the vector index names the index of what is served."""
    wanted = index_of(Served.open(project.lake)) if live else None
    if wanted is None:
        return
    with closing(open_index(project)) as store:
        named, there = store.active(), wanted in {r.id for r in store.releases()}
    if named != wanted:
        yield Finding(
            "error" if there else "warning",
            f"the alias of the vector index names {named or 'nothing'}, and release "
            f"{live[:SHORT]}, which is served, belongs to {wanted}",
            f"The next run moves it, or `recsys index --activate {wanted}` now"
            if there
            else "That one is kept no longer (index.keep): the next release brings its own",
        )


def deliveries(project: Project) -> Iterator[Finding]:
    """Whether every place that the shop watches can be looked at, and what is refused there."""
    not_taken = ledger_of(Path(project.home)).not_taken()
    for inbox in inboxes_of(project.shop):
        folders = {w.folder for w in inbox.watched} if isinstance(inbox, LocalInbox) else set()
        for folder in sorted(folder for folder in folders if not folder.is_dir()):
            yield Finding(
                "warning", f"{folder} is not there", "Mount or make it, or correct the shop file"
            )
        try:
            for listed in inbox.listing():
                if not_taken.get(listed.name) == listed.stamp:
                    yield Finding(
                        "error",
                        f"{listed.name} is not taken, since nobody could tell rows of erased users "
                        "in it",
                        "Deliver it again, corrected; `recsys run`, or the tick of the sensor "
                        "arrival, says what is wrong with it",
                    )
        except UnreachableError as error:
            yield Finding("error", f"{error.place} {error}", "Until then nothing arrives from it")
        for name, why in sorted(inbox.refused().items()):
            yield Finding("warning", f"{name} {why}", "Until then it is not read")


def arrivals(home: Path) -> Iterator[Finding]:
    """The ledger of arrivals and its archive."""
    for problem in ledger_of(home).problems():
        yield Finding("error", problem, "See docs/operations.md#the-ledger-of-arrivals-is-damaged")


def erasures(project: Project) -> Iterator[Finding]:
    """Erasures that nothing proved yet, a ledger without its key, and users who came back. Those
    that are under way now are still to be proved."""
    known, at_work = Erasures(Path(project.home) / FOLDER), project.lake.holder() == WORKER
    again = "`recsys forget --reapply` (docs/erasure.md)"
    try:
        erased, pending = known.erased(), known.pending()
    except ErasureError as error:
        yield Finding("error", str(error), "See docs/erasure.md")
        return
    if pending and not at_work:
        since = min(pending.values())
        yield Finding("error", f"{len(pending)} erasures are not finished, since {since}", again)
    if erased is None or not project.lake.entries("users"):
        return
    ids = project.lake.served("users").to_arrow(["user_id"])["user_id"].combine_chunks()
    if (back := int(erased(ids).sum())) and not pending:
        yield Finding(
            "error", f"{back} erased users are in the tables: a backup was restored", again
        )


def spend(project: Project, now: datetime) -> Iterator[Finding]:
    """How much of this month's cap for the language model is left."""
    settings = project.shop.language_model
    month = now.strftime("%Y-%m")
    spending = ledger(Path(project.home), settings).spending()
    spent, cap = sum(s.dollars for s in spending if s.month == month), settings.dollars_per_month
    if spent >= NEAR_CAP * cap > 0:
        yield Finding(
            "warning",
            f"the language model cost {spent:.2f} of {cap:.2f} dollars this month",
            "At the cap nothing is asked any more; see `recsys spend` and "
            "language_model.dollars_per_month",
        )


def disk(home: Path) -> Iterator[Finding]:
    """Space for the next run."""
    usage = shutil.disk_usage(home)
    if usage.free < max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * usage.total):
        yield Finding(
            "error",
            f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} GB are free at {home}",
            "Free space: old versions first (docs/operations.md#retention)",
        )


def leftovers(lake: Lake) -> Iterator[Finding]:
    """Unfinished writes of processes that are gone."""
    orphans = lake.orphans()
    if orphans:
        yield Finding(
            "warning",
            f"{len(orphans)} unfinished writes of dead processes in {lake.root / 'tmp'}",
            "The next run removes them",
        )


def untold(project: Project, now: datetime) -> Iterator[Finding]:
    """Whether the newest alert reached the webhook. A trouble that lasts is written down again each
    `alert_again_hours`, so an older line is of one that is over."""
    alerts = sensors.alerts_of(project)
    newest = alerts.lines()[-1:]
    recent = [a for a in newest if now - datetime.fromisoformat(a["at"]) < 2 * alerts.again]
    for line in recent:
        if line["delivered"]:
            continue
        yield Finding(
            "error",
            f"the newest alert did not reach the webhook: {line['key']}",
            "Check the address in $RECSYS_ALERT_WEBHOOK and whether it answers",
        )


def runs(instance: dg.DagsterInstance, lake: Lake, now: datetime) -> Iterator[Finding]:
    """Runs that are recorded as alive but are not, and runs that nobody starts."""
    for run in reap(instance, lake, now):
        yield Finding(
            "warning",
            f"run {run.run_id} of {run.job_name} had lost its process; it is marked as failed now",
            "Start it again, unless the daemon does",
        )
    waiting = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING])
    )
    old = [r for r in waiting if now - r.create_timestamp > QUEUED]
    if old:
        yield Finding(
            "error",
            f"{len(old)} runs wait for more than an hour, among them {old[-1].dagster_run.run_id}",
            "Look at the run that works now, and whether the daemon lives",
        )


def failed(instance: dg.DagsterInstance, now: datetime) -> Iterator[Finding]:
    """Runs that failed lately, unless one that did all of their steps, or a retry, succeeded
    since. Of several with the same trouble the newest."""
    alerts = list(sensors.failures(instance, now))
    earliest = min((datetime.fromisoformat(a.happened) for a in alerts), default=now)
    good = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=earliest)
    )
    since = [(r.update_timestamp, r.dagster_run, _steps(instance, r.dagster_run)) for r in good]
    told: dict[str, list[Alert]] = {}
    for alert in alerts:
        run, happened = instance.get_run_by_id(alert.run), datetime.fromisoformat(alert.happened)
        if run is None:
            continue
        steps = _steps(instance, run)  # none: it failed before anything was planned
        if not any(
            later.root_run_id == alert.run
            or (steps <= done if steps else later.job_name == run.job_name)
            for at, later, done in since
            if at > happened
        ):
            told.setdefault(alert.key, []).append(alert)
    for *before, alert in told.values():
        times = f", as {len(before)} before it" if before else ""
        yield Finding("error", f"run {alert.run} failed{times}: {alert.subject}: {alert.what}",
                      f"{alert.remedy[0].upper()}{alert.remedy[1:]}")  # fmt: skip


def _steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    plan = run.execution_plan_snapshot_id
    return set(instance.get_execution_plan_snapshot(plan).step_keys_to_execute) if plan else set()


def unopened(folder: Path) -> Iterator[Finding]:
    """That Dagster's storage, which could not be opened, is damaged, or that its folder cannot be
    written to."""
    if not (folder / "dagster.yaml").exists():
        return  # nothing was ever run here
    what = "Dagster's own storage cannot be opened"
    try:
        with TemporaryFile(dir=folder) as stream:
            stream.write(bytes(4096))
    except OSError as error:
        what += f", since nothing can be written in {folder} ({error.strerror})"
        remedy = "Free space there, or let recsys write there; it need not be damaged"
    else:
        remedy = (
            "Restore $RECSYS_HOME/dagster from a backup, or move it away and start again: the lake "
            "knows what was built, only the history of runs is lost"
        )
    yield Finding("error", what, f"What is served is not affected. {remedy}")


def daemons(instance: dg.DagsterInstance, now: datetime) -> Iterator[Finding]:
    """The heartbeat of each daemon that schedules, sensors and the queue need."""
    statuses = instance.get_daemon_statuses()
    dead, to_come = [], []
    for name, status in sorted(statuses.items()):
        if not status.required:
            continue
        beat = status.last_heartbeat
        if beat is None or now.timestamp() - beat.timestamp > HEARTBEAT.total_seconds():
            dead.append(name)
        elif beat.timestamp - now.timestamp() > HEARTBEAT.total_seconds():
            to_come.append(beat.timestamp)
        elif beat.errors:
            text = str(beat.errors[0].message).strip().splitlines()[0]
            yield Finding("error", f"daemon {name}: {text}", "See the log of `recsys ui`")
    if to_come:
        until = datetime.fromtimestamp(max(to_come), UTC)
        yield Finding(
            "error",
            f"the newest heartbeat is of {until:%F %R} UTC, which is still to come: the clock was "
            "set back, and until then sensors wait and nobody can say whether the daemon lives",
            "Set the clock right; if it is right now, start what is due by hand until then "
            "(`recsys run`)",
        )
    if dead:
        yield Finding(
            "error",
            f"no heartbeat of {', '.join(dead)} within {HEARTBEAT.seconds} seconds",
            "Start the daemon (systemctl restart recsys, or `recsys ui`). Without one, say "
            "--without-daemon",
        )


def instigators(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Schedules and sensors that somebody stopped, or whose last tick failed."""
    for state in instance.all_instigator_state():
        kind, name = state.instigator_type.value.lower(), state.instigator_name
        if not state.is_running:
            yield Finding("warning", f"{kind} {name} is stopped", "Start it in the UI (Automation)")
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        if ticks and ticks[0].is_failure:
            error = ticks[0].error
            text = error.message.strip().splitlines()[0] if error else "unknown"
            yield Finding("error", f"{kind} {name}: its last tick failed: {text}", "See its ticks")


def open_storage(folder: Path) -> dg.DagsterInstance | None:
    """Dagster's storage below a home, None when there is none or it is broken."""
    if not (folder / "dagster.yaml").exists():
        return None
    os.environ["DAGSTER_HOME"] = str(folder)  # its settings say where its databases are by it
    try:
        instance = dg.DagsterInstance.from_config(str(folder))
        instance.get_runs(limit=1)
        instance.all_instigator_state()
        return instance
    except (SQLAlchemyError, OSError, ValueError, yaml.YAMLError, dg.DagsterError, CheckError):
        return None
