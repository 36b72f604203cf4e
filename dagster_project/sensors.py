"""Sensors: what starts or reports something because of what happened, not because of the time.

Belongs here: looking, deciding, requesting runs. Does not belong here: computing anything, and
remembering anything: what a sensor decides follows from the lake, the ledger of arrivals and the
run storage alone, so a lost or rewound cursor or a second daemon changes nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg

from dagster_project import automation, jobs
from dagster_project.alerts import Alert, Alerts
from dagster_project.reaper import reap
from dagster_project.runs import root_cause, why_failed
from recsys_assets.core.assets import GatedAsset, Project, one_look
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import LakeError
from recsys_assets.ingestion.arrivals import LedgerError, Look
from recsys_assets.ingestion.assets import partitions
from recsys_assets.ingestion.blanking import blanker
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.ingestion.object_store import UnreachableError
from recsys_assets.ingestion.source import SourceError
from recsys_assets.publishing.releases import Releases
from recsys_assets.publishing.serving import Served
from recsys_assets.publishing.watch import shifted, unhealthy

STATE_TAG = "recsys/state"
"""Tag of a requested run: a hash of what was found stale, so that the same is not asked twice."""
LOOK_BACK = timedelta(days=2)
"""Failures older than this are not told any more."""
PAUSES = (timedelta(0), timedelta(minutes=1), timedelta(minutes=10))
"""How long after each run for the same state it is tried again; then people must act."""


def take_arrivals(project: Project, now: datetime) -> Look:
    """Accept every complete new file of the places that the shop watches, if it watches any. A
    place that cannot be looked at is told among the refused, and the others are looked at.

    What comes before anything was landed, or into an empty ledger, is the shop's history. Raises
    SourceError where a part of it would come later and be refused for its age."""
    shop, look = project.shop, Look()
    home, inboxes = Path(project.home), inboxes_of(shop)
    ledger = ledger_of(home)
    landed = any(entry.current for entry in project.lake.entries("landed_rows").values())
    before = len(ledger.arrivals())
    history = bool(inboxes) and (not landed or not before)
    for inbox in inboxes:
        blank = blanker(shop, home)
        try:
            look.add(ledger.accept(inbox, now, history=history, blank=blank))
        except UnreachableError as error:
            if history and shop.plausible.max_age_days is not None:
                raise SourceError(
                    f"{error.place} {error}. The shop's first data have to be whole: what comes "
                    "after them is refused if it is older than plausible.max_age_days"
                ) from error
            look.refused[error.place] = str(error)
    look.accepted = ledger.arrivals()[before:]  # also what a place gave before it went away
    return look


def touched(project: Project, gated: Sequence[GatedAsset]) -> list[tuple[str, tuple[str, str]]]:
    """(job, partition range) pairs that would make the raw tables what the source files say.

    First the landing; once that is approved, each contiguous range of stale days. Empty when there
    is nothing to do. The range of the landing job is ('', '').
    """
    by_name = {g.table.name: g for g in gated}
    if any(by_name[name].producer.stale(project) for name in jobs.LANDING):
        return [(jobs.LAND, ("", ""))]
    keys = partitions(project.shop).get_partition_keys()
    stale = set(by_name[jobs.RAW].producer.stale(project))
    return [(jobs.INGEST, found) for found in contiguous(keys, stale)]


def wanted_state(project: Project, gated: Sequence[GatedAsset]) -> str:
    """What the raw tables would be made of: files, settings, code, libraries."""
    ours = (*jobs.LANDING, jobs.RAW)
    return str([g.producer.key(project, {}) for g in gated if g.table.name in ours])


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
    """A run of `job`, or why none is requested now. One that ended well is asked for again like one
    that failed: what it made does not count here when other code or settings are loaded here."""
    state = hashlib.sha256(f"{job} {span} {state}".encode()).hexdigest()[:16]
    runs = instance.get_run_records(dg.RunsFilter(tags={STATE_TAG: state}), limit=len(PAUSES) + 1)
    if any(not r.dagster_run.is_finished for r in runs):
        return f"{job}: under way in run {runs[0].dagster_run.run_id}"
    # who cancels a run does not want it at once again
    failed = [r for r in runs if r.dagster_run.is_failure_or_canceled]
    if len(runs) > len(PAUSES) and not failed:
        return (
            f"{job}: {len(runs)} runs ended well, last {runs[0].dagster_run.run_id}, and what they "
            "made does not count here. The program or the shop file has changed since this code "
            "was loaded: reload it (Deployment, Reload)"
        )
    if len(runs) > len(PAUSES):
        return (
            f"{job}: failed {len(failed)} times on the same files, last in run "
            f"{failed[0].dagster_run.run_id}. Repair what its failed check says and deliver the "
            f"file again under the same name, or start the job {job} by hand"
        )
    if runs:
        again = runs[0].update_timestamp.astimezone(UTC) + PAUSES[len(runs) - 1]
        if now < again:
            how = "failed" if failed else "ended"
            return f"{job}: {how}; it is tried again after {again:%F %R} UTC"
    tags = jobs.span_tags(*span) if span[0] else {}
    return dg.RunRequest(job_name=job, tags={STATE_TAG: state, **tags})


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
        look = Look()
        try:
            look = take_arrivals(project, now)
            for name, why in sorted(look.refused.items()):
                context.log.warning(f"{name} {why}")
            for taken in look.accepted:
                context.log.info(f"{taken.name} arrived ({taken.size:,} bytes)")
            holder = project.lake.holder()
            if holder:  # a run started now would be refused, and count as a failed attempt
                return dg.SkipReason(f"waiting for the end of {holder}")
            with one_look():
                wanted = touched(project, gated)
                state = wanted_state(project, gated)
        except (SourceError, LedgerError, LakeError) as error:
            return dg.SkipReason("; ".join([str(error), *_refused(look)]))
        outcomes = [request(context.instance, job, span, state, now) for job, span in wanted]
        requests = [o for o in outcomes if isinstance(o, dg.RunRequest)]
        if requests:
            return dg.SensorResult(run_requests=requests)
        notes = [o for o in outcomes if isinstance(o, str)]
        notes += [f"{name} is still arriving" for name in look.arriving]
        return dg.SkipReason("; ".join([*notes, *_refused(look)]) or "nothing new")

    return sensor


def _refused(look: Look) -> list[str]:
    return [f"{name} {why}" for name, why in sorted(look.refused.items())]


def failures(instance: dg.DagsterInstance, now: datetime) -> Iterator[Alert]:
    """One alert per run that failed lately: its first error, and what to do."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK)
    )
    for record in reversed(records):
        run = record.dagster_run
        asset, what = first_error(instance, run.run_id)
        yield Alert(
            "a-run-failed",
            f"job {run.job_name}, asset {asset}" if asset else f"job {run.job_name}",
            what,
            "consumers keep the last approved version; repair the cause and run again",
            run.run_id,
            record.update_timestamp.astimezone(UTC).isoformat(),
        )


def first_error(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str]:
    """(asset, text) of the first failed step of a run, or ('', why the run failed as a whole).

    A run that failed before its first step, because its code could not be loaded for example, says
    why in an event of Dagster's own. What a gate ended is told with what the gate found.
    """
    wanted = {
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.RUN_FAILURE,
        dg.DagsterEventType.ENGINE_EVENT,
    }
    before = ""
    for record in instance.get_records_for_run(run_id, of_type=wanted, ascending=True).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        match event.event_type:
            case dg.DagsterEventType.ENGINE_EVENT:
                before = before or root_cause(event.engine_event_data.error)
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if check.blocking and not check.passed:
                    return check.asset_key.to_user_string(), f"rejected: {check.description}"
            case dg.DagsterEventType.RUN_FAILURE:
                return "", before or why_failed(event) or _SILENT
            case _:
                error = root_cause(event.step_failure_data.error)
                return event.step_key or "", error or _SILENT
    return "", before or _SILENT


_SILENT = "it failed without saying why"


def stale_after(shop: Shop) -> timedelta:
    """How old the data behind what is served may be. Just before a daily run lists are up to two
    days old (how much depends on the zone), three where the newest day counts as unfinished."""
    configured = shop.automation.stale_after_hours
    if configured is not None:
        return timedelta(hours=configured)
    if shop.partitions.granularity == "month":
        return timedelta(days=35)
    return timedelta(hours=60 if shop.last_day_complete else 84)


def staleness(project: Project, now: datetime) -> tuple[timedelta | None, str]:
    """(how far behind the data that is served is, in words); None while nothing is served.

    What counts is the age of the newest event that the served lists know, never when a run last
    ended: a run on the same old data refreshes nothing. A closed data set ends at its end.
    """
    try:
        as_of = Served.open(project.lake).as_of.to_pydatetime()
    except LakeError as error:
        return None, str(error)
    end = project.shop.partitions.end
    newest = now if end is None else min(now, datetime.combine(end, time(), UTC))
    behind = newest - as_of
    return behind, f"knows events up to {as_of:%F %R} UTC"


def stale_alert(project: Project, now: datetime) -> Alert | None:
    """Told when what is served is older than the shop allows, or cannot be read any more."""
    behind, words = staleness(project, now)
    allowed = stale_after(project.shop)
    if behind is None and _was_served(project):
        return Alert(
            "what-is-served-is-stale",
            "served recommendations",
            f"cannot be read: {words}",
            "nothing is shown until then: see recsys doctor, or serve the one before (recsys "
            "rollback)",
        )
    if behind is None or behind <= allowed:
        return None
    return Alert(
        "what-is-served-is-stale",
        "served recommendations",
        words,
        f"allowed are {allowed.total_seconds() / 3600:.0f} hours; look for missing files (recsys "
        "arrivals), failed runs and stopped schedules (recsys doctor), and a newer release that is "
        "held back (recsys releases)",
    )


def _was_served(project: Project) -> bool:
    try:
        return bool(Releases(project.lake).state().live)
    except LakeError:
        return True  # who was served is written in the file that cannot be read


def drift_alert(project: Project) -> Alert | None:
    """Told when the last run found features, scores or data that are not as they were."""
    try:
        drift = project.lake.served("drift").to_pandas()
        health = project.lake.served("data_health").to_pandas()
    except LakeError:
        return None
    found = shifted(drift, project.shop.releases.health.psi)
    texts = [f"{len(found)} features or scores have shifted: {', '.join(found[:5])}"] * bool(found)
    texts += unhealthy(health)
    if not texts:
        return None
    return Alert(
        "the-data-drift",
        "what the models see",
        "; ".join(texts),
        "see the assets drift and data_health; if it lasts, retrain and look at the scoreboard",
    )


def alerts_of(project: Project) -> Alerts:
    """Where alerts of this project go."""
    again = timedelta(hours=project.shop.automation.alert_again_hours)
    return Alerts(Path(project.home), again)


def _telling(
    name: str, project: Project, text: str, find: Callable[[dg.DagsterInstance, datetime], Iterable]
) -> dg.SensorDefinition:
    """A sensor that tells people what `find` finds, and starts nothing."""

    @dg.sensor(
        name=name,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=text,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now, alerts = datetime.now(UTC), alerts_of(project)
        looked = (alerts.tell(a, now) for a in find(context.instance, now))
        told = [text for text in looked if text]
        for text in told:
            context.log.error(text)
        return dg.SkipReason(f"{len(told)} alerts" if told else "nothing to tell")

    return sensor


def all_sensors(project: Project, gated: Sequence[GatedAsset]) -> list[dg.SensorDefinition]:
    """Every sensor of the code location."""

    def stale(instance: dg.DagsterInstance, now: datetime) -> list[Alert]:
        found = stale_alert(project, now)
        return [found] if found else []

    def drifted(instance: dg.DagsterInstance, now: datetime) -> list[Alert]:
        found = drift_alert(project)
        return [found] if found else []

    def failed(instance: dg.DagsterInstance, now: datetime) -> Iterator[Alert]:
        reap(instance, project.lake, now)
        yield from failures(instance, now)

    return [
        arrival(project, gated),
        automation.sensor(),
        _telling(
            "failed_runs", project,
            "Marks runs whose process is gone as failed, and tells each failure once.", failed,
        ),
        _telling(
            "staleness", project,
            "Tells when the data behind what is served are older than the shop allows.", stale,
        ),
        _telling(
            "drift", project,
            "Tells when features, scores or the data are not as they were in training.", drifted,
        ),
    ]  # fmt: skip
