"""Starting a run in a process of its own, and following it.

Belongs here: the one way the command line starts work. The Dagster UI does the same through its run
launcher: same job, same storage, same executor, a process per run. Does not belong here: what the
job computes.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._utils.error import SerializableErrorInfo

from dagster_project import jobs, resources
from dagster_project.reaper import reap
from recsys_assets.core.durable import replacing

LAUNCH_TAG = "recsys/launch"

_SHOWN = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
}

WITHOUT_STORAGE = """\
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  runs: {max_concurrent_runs: 1}
  pools: {default_limit: 1, granularity: run}
# On a machine that is busy with other work, starting takes its time.
code_servers: {local_startup_timeout: 900}
run_monitoring: {enabled: true, start_timeout_seconds: 900, max_runtime_seconds: 21600}
# A run whose process died is started once more; one that a check or an error failed is not.
run_retries: {enabled: true, max_retries: 1, retry_on_asset_or_op_failure: false}
retention:
  schedule: {purge_after_days: 90}
  sensor: {purge_after_days: {skipped: 3, failure: 30, success: 90}}
"""
"""What earlier versions wrote: a home that has it is nobody's own settings."""

DAGSTER_YAML = f"""\
{WITHOUT_STORAGE}# SQLite in this folder, as by default, but kept open.
storage:
  custom:
    module: dagster_project.storage
    class: Storage
    config: {{base_dir: {{env: DAGSTER_HOME}}}}
"""

WORKSPACE = """\
load_from:
  - python_module: {module_name: dagster_project.definitions, location_name: recsys}
"""
"""What the UI loads, wherever it is started. Dagster keeps what is switched on under the name."""

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(128 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
}
"""How processes started from here hold memory.

Arrow's tables by jemalloc, which gives freed memory back within a second, where its usual mimalloc
held tables that were gone. (Where a build lacks jemalloc, Arrow says so and goes on.) All else by
glibc's malloc (`man mallopt`): by default an array of 30 MB, such as the scores of one batch of
users, is mapped anew each time, and clearing its pages took as long as computing it. Kept and used
again within a step, given back after it (`core.memory.release_memory`); one arena for both threads
of a run holds less than one each."""


def prepare_home() -> Path:
    """Create Dagster's own folder below the project's home, and point Dagster at it."""
    folder = resources.home() / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "dagster.yaml"
    if not settings.exists() or settings.read_text(encoding="utf-8") == WITHOUT_STORAGE:
        _write(settings, DAGSTER_YAML)
    _write(folder / "workspace.yaml", WORKSPACE)
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Threads that wait for each other sleep instead of spinning: beside other work on the machine,
    # spinning made the rankers' training many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
    return folder


def _write(file: Path, text: str) -> None:
    with replacing(file) as path:  # half of Dagster's settings would count as settings
        path.write_text(text, encoding="utf-8")


def open_instance() -> dg.DagsterInstance:
    """Dagster's storage, with every database created.

    Two processes that create them at the same moment leave them unusable, so this comes before any
    child is started.
    """
    instance = dg.DagsterInstance.get()
    instance.get_runs(limit=1)
    instance.get_asset_keys(limit=1)
    instance.all_instigator_state()
    return instance


@dataclass(frozen=True)
class Progress:
    """One thing that happened in a run, and to which asset: `what` is 'started', 'made' …"""

    what: str
    asset: str
    detail: str = ""
    rows: int | None = None
    seconds: float | None = None


@dataclass
class LaunchedRun:
    """A run under way in a child process."""

    process: "subprocess.Popen[bytes]"
    instance: dg.DagsterInstance
    launch: str
    log: Path
    run_id: str = ""

    def follow(self, pause: float = 0.5) -> Iterator[Progress]:
        """What happens, as it happens, until the child has ended."""
        cursor: str | None = None
        while True:
            ended = self.process.poll() is not None
            if not self.run_id:
                self.run_id = self._find()
            more = bool(self.run_id)
            while more:
                page = self.instance.get_records_for_run(
                    self.run_id, cursor=cursor, of_type=_SHOWN, limit=200
                )
                cursor, more = page.cursor, page.has_more
                for record in page.records:
                    found = _progress(record.event_log_entry)
                    if found:
                        yield found
            if ended:
                return
            time.sleep(pause)

    def stop(self, patience: float = 60) -> None:
        """End the child, if it lives, as Ctrl-C does, so that the storage knows; kill it if it
        lingers."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def succeeded(self) -> bool:
        """Whether the run ended well; only meaningful once `follow` is through."""
        if self.process.wait() != 0 or not self.run_id:
            return False
        run = self.instance.get_run_by_id(self.run_id)
        return run is not None and run.is_success

    def _find(self) -> str:
        runs = self.instance.get_runs(
            filters=dg.RunsFilter(tags={LAUNCH_TAG: self.launch}), limit=1
        )
        return runs[0].run_id if runs else ""


def launch(
    selection: str | None, partition_range: tuple[str, str], job: str = jobs.MAIN
) -> LaunchedRun:
    """Start a job (or those of its steps that `selection` means) in a child process."""
    home = prepare_home()
    instance = open_instance()
    reap(instance, resources.project().lake, datetime.now(UTC))
    identity = uuid.uuid4().hex
    tags = {LAUNCH_TAG: identity, **jobs.span_tags(*partition_range)}
    target = ["job", "execute", "-j", job]
    if selection:
        target += ["-o", selection]
    log = home / "logs"
    log.mkdir(exist_ok=True)
    log_file = log / f"{identity}.log"
    with log_file.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", *target, "-m", "dagster_project.definitions",
             "--tags", json.dumps(tags)],
            stdout=stream,
            stderr=stream,
        )  # fmt: skip
    return LaunchedRun(process, instance, identity, log_file)


def _progress(record: dg.EventLogEntry) -> Progress | None:
    event = record.dagster_event
    if event is None:
        return None
    match event.event_type:
        case dg.DagsterEventType.STEP_START:
            return Progress("started", event.step_key or "")
        case dg.DagsterEventType.ASSET_MATERIALIZATION:
            made = event.step_materialization_data.materialization
            if made.partition is not None:
                return None
            metadata = {k: v.value for k, v in made.metadata.items()}
            return Progress(
                "reused" if metadata.get("reused") else "made",
                made.asset_key.to_user_string(),
                rows=metadata.get("dagster/row_count"),  # type: ignore[arg-type]
                seconds=metadata.get("seconds"),  # type: ignore[arg-type]
                detail=str(metadata.get("made again because of", "")),
            )
        case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            result = event.asset_check_evaluation_data
            return Progress(
                "approved" if result.passed else "rejected",
                result.asset_key.to_user_string(),
                detail=result.description or "",
            )
        case dg.DagsterEventType.STEP_FAILURE:
            detail = root_cause(event.step_failure_data.error)
            return Progress("failed", event.step_key or "", detail=detail)
        case dg.DagsterEventType.RUN_FAILURE:
            # before any step: the lake was held by another run, for example
            return Progress("failed", "", detail=why_failed(event))
    return None


def why_failed(event: dg.DagsterEvent) -> str:
    """Why a run failed as a whole, '' if it is not said. Of a run whose process is gone Dagster
    keeps a message and no error."""
    error = event.job_failure_data.error if event.event_specific_data is not None else None
    return root_cause(error) or event.message or ""


def root_cause(error: SerializableErrorInfo | None) -> str:
    """The text of the error that all others came of, '' for none; the innermost of ours, if there
    is one: it has the text of what caused it, and says where and what to do."""
    texts = []
    while error is not None:
        texts.append(error.message.strip())
        error = error.cause
    ours = [text for text in texts if text.startswith("recsys_assets.")]
    return (ours or texts or [""])[-1]
