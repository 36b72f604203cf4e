"""The shop's process tree (webserver, daemon, code server), its clock and its webhook."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import URLError

import dagster as dg
import time_machine

from dagster_project import jobs, retention, sensors
from dagster_project.definitions import gated_assets
from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.lake import Lake
from recsys_assets.ingestion.arrivals import Arrival
from recsys_assets.ingestion.files import ledger_of
from recsys_assets.publishing.releases import Releases
from tests.end_to_end.test_ui import Ui

STATE = """
query State($selector: ScheduleSelector!) {
  scheduleOrError(scheduleSelector: $selector) { ... on Schedule { scheduleState { id status } } }
}
"""
START = """
mutation Start($selector: ScheduleSelector!) {
  done: startSchedule(scheduleSelector: $selector) {
    __typename ... on PythonError { message }
  }
}
"""
STOP = """
mutation Stop($id: String!) {
  done: stopRunningSchedule(id: $id) { __typename ... on PythonError { message } }
}
"""
ROOT = Path(__file__).parents[2]
PATIENCE = 600.0
"""Real seconds after which something that was expected counts as not happening."""
ADHOC, REFRESH = "__ASSET_JOB", "refresh"
"""Dagster's name for the job of runs that conditions request, and the sensor that requests them."""
LOOK = timedelta(seconds=31)
"""Simulated time between two looks of a sensor."""


class NotSeenError(AssertionError):
    """Something that had to happen did not."""


class Clock:
    """The simulated time, in a file that every process of the tree follows."""

    def __init__(self, file: Path, now: datetime) -> None:
        self.file = file
        self.move_to(now)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._ahead, UTC)

    def move_to(self, moment: datetime) -> None:
        self._ahead = moment.timestamp() - time.time()
        temporary = self.file.with_suffix(".new")
        temporary.write_text(repr(self._ahead))
        temporary.replace(self.file)

    def forward(self, by: timedelta) -> None:
        self.move_to(self.now + by)


class Webhook(HTTPServer):
    """Where alerts go: what was sent, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.alerts: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Webhook)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.alerts.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    job: str
    succeeded: bool
    run_id: str


class Plant:
    """`recsys ui` on a port of its own, under a simulated clock."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock, self.home = folder, clock, folder / "home"
        self.webhook = Webhook()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.environment = {
            **os.environ,
            "RECSYS_HOME": str(self.home),
            "RECSYS_SHOP": str(folder / "shop.yaml"),
            "RECSYS_ALERT_WEBHOOK": f"http://127.0.0.1:{self.webhook.server_port}/",
            "SIMULATED_CLOCK": str(clock.file),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "clock"), str(ROOT)]),
            "COLUMNS": "200",
        }
        for name in ("DAGSTER_HOME", "WEAVIATE_URL", "ANTHROPIC_API_KEY"):
            self.environment.pop(name, None)
        self.process: subprocess.Popen[bytes] | None = None
        self.told, self._seen = 0, set[str]()

    # -- the tree ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the tree, and wait for the daemon's first heartbeats."""
        with (self.folder / "ui.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "dagster_project.cli", "ui",
                 "--port", str(self.port)],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        began = self.clock.now.timestamp()

        def alive() -> bool:
            beats = self.instance.get_daemon_statuses().values()
            return all(
                b.last_heartbeat is not None and b.last_heartbeat.timestamp >= began
                for b in beats
                if b.required
            )

        def answers() -> bool:
            try:
                Ui(self.port).selector()
            except (URLError, ConnectionError, TimeoutError, LookupError):
                return False
            return True

        # Who opens Dagster's databases while another process creates them spoils them.
        self.wait(answers, "an answer of the webserver")
        self.wait(alive, "heartbeats of the daemon")
        self._switch(jobs.WEEKLY, on=False)
        self._switch(jobs.DAILY, on=False)
        self._switch(retention.JOB, on=False)

    def stop(self) -> None:
        """End the tree as Ctrl-C does; what is left after a minute is killed."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        self.kill()

    def kill(self) -> None:
        """SIGKILL every process of the tree at once: daemon, webserver, code server, runs."""
        while members := self._members():  # until none is left, nor was started meanwhile
            self._signal(members, signal.SIGKILL)
            time.sleep(0.1)
        if self.process is not None:
            self.process.wait()
        self.process = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Every process of the tree stands still meanwhile, wherever it is."""
        members = self._members()
        try:
            self._signal(members, signal.SIGSTOP)
            yield
        finally:
            self._signal(members, signal.SIGCONT)

    @staticmethod
    def _signal(members: list[int], number: signal.Signals) -> None:
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, number)

    def _members(self) -> list[int]:
        """Processes that live by our clock, whoever started them."""
        mark, found = f"SIMULATED_CLOCK={self.clock.file}".encode(), []
        for place in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in place.read_bytes().split(b"\0"):
                    found.append(int(place.parent.name))
        return found

    # -- what it did ---------------------------------------------------------------------------

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        os.environ["DAGSTER_HOME"] = str(self.home / "dagster")
        return dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"])

    @property
    def project(self) -> Project:
        return Project(home=str(self.home), shop_file=str(self.folder / "shop.yaml"))

    @cached_property
    def _landing(self) -> list[GatedAsset]:
        names = (*jobs.LANDING, jobs.RAW)
        return [g for g in gated_assets(self.project) if g.table.name in names]

    @property
    def lake(self) -> Lake:
        return self.project.lake

    @property
    def served(self) -> str:
        return Releases(self.lake).state().live

    def arrivals(self) -> list[Arrival]:
        return ledger_of(self.home).arrivals()

    def unfinished(self) -> list[dg.DagsterRun]:
        return [r for r in self.instance.get_runs(limit=50) if not r.is_finished]

    def new_runs(self) -> list[Ran]:
        """Runs that finished since this was asked last, oldest first."""
        found = [
            Ran(REFRESH if r.job_name == ADHOC else r.job_name, r.is_success, r.run_id)
            for r in reversed(self.instance.get_runs(limit=200))
            if r.is_finished and r.run_id not in self._seen
        ]
        self._seen |= {r.run_id for r in found}
        return found

    def new_alerts(self) -> list[dict[str, str]]:
        """Alerts that reached the webhook since this was asked last."""
        found = self.webhook.alerts[self.told :]
        self.told += len(found)
        return found

    def recsys(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The command line, under the same clock."""
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "dagster_project.cli", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    # -- schedules, as the UI switches them ------------------------------------------------------

    def _switch(self, schedule: str, *, on: bool) -> None:
        ui = Ui(self.port)
        selector = {**ui.selector(), "scheduleName": schedule}
        found = ui.ask(STATE, selector=selector)["scheduleOrError"]["scheduleState"]
        if (found["status"] == "RUNNING") == on:
            return
        done = (ui.ask(START, selector=selector) if on else ui.ask(STOP, id=found["id"]))["done"]
        if done["__typename"] != "ScheduleStateResult":
            raise NotSeenError(f"schedule {schedule} could not be switched: {done}")

    # -- waiting -------------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool], what: str, *, ticking: bool = False) -> None:
        """Wait for `until`; `ticking`: whenever no run works, time leaps to the sensors' next
        look."""
        deadline, leap = time.monotonic() + PATIENCE, time.monotonic() + 4
        while not until():
            if time.monotonic() > deadline:
                raise NotSeenError(f"{what}: not within {PATIENCE:.0f} s")
            if self.process is not None and self.process.poll() is not None:
                raise NotSeenError(f"{what}: the tree ended by itself, see {self.folder}/ui.log")
            time.sleep(0.5)
            if ticking and time.monotonic() > leap and not self.unfinished():
                self.clock.forward(LOOK)
                leap = time.monotonic() + 4

    def leap(self, moment: datetime) -> None:
        """Move the clock to `moment` while nothing works: a run that waits to be started would have
        waited for hours, and be given up."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with self.held():
                if not self.unfinished():
                    self.clock.move_to(moment)
                    return
            time.sleep(1)
        raise NotSeenError(f"no moment without a run before {moment:%F %R} UTC")

    def taken(self, contents: int) -> bool:
        """Whether the ledger has so many arrivals, every row landed, and nothing works."""
        if len(self.arrivals()) < contents or self.unfinished():
            return False
        with time_machine.travel(self.clock.now):  # which days there are depends on the time
            return not sensors.touched(self.project, self._landing)

    def scheduled(self, job: str, moment: datetime, *, once_until: datetime | None = None) -> Ran:
        """Switch a schedule on, move the clock just past `moment`, when its job is due, and wait
        for the end of the run. It must not be due a second time until `once_until`."""

        def ticked() -> list[dg.DagsterRun]:
            runs = self.instance.get_runs(dg.RunsFilter(job_name=job), limit=40)
            return [r for r in runs if r.run_id not in before]

        before = {r.run_id for r in self.instance.get_runs(dg.RunsFilter(job_name=job), limit=1000)}
        self._switch(job, on=True)
        self.leap(moment + timedelta(seconds=2))
        self.wait(lambda: bool(ticked()), f"the {job} run of {moment:%F %R} UTC", ticking=True)
        self.wait(lambda: not self.unfinished(), f"the end of the {job} run")
        if once_until is not None and once_until > self.clock.now:
            self.leap(once_until)
            time.sleep(10)
        self._switch(job, on=False)
        if len(ticked()) > 1:
            raise NotSeenError(f"{moment:%F %R} UTC is due once, {len(ticked())} runs came of it")
        (ran,) = ticked()
        return Ran(ran.job_name, ran.is_success, ran.run_id)
