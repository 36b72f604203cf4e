"""Breaking a publish at one system call, and one checker for what must hold afterwards.

A publish here is what the daemon does with one delivered file: the sensor's tick takes it into the
ledger, the landing run, the days' run, with every gate. It runs in a forked child (everything heavy
is imported once), which waits until strace holds it and then meets its fault.
"""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import time_machine

from dagster_project import jobs
from recsys_assets.core import lake as lake_module
from recsys_assets.core.lake import Lake
from recsys_assets.ingestion.files import ledger_of
from tests.automation.test_arrival_sensor import Watch
from tests.faults import invariants

STRACE = Path("/usr/bin/strace")
CALLS = ("write", "fsync", "rename", "unlink", "unlinkat", "rmdir")
FIRST = ["u,x,2024-01-02", "u,y,2024-01-03", "v,x,2024-01-03"]
SECOND = ["w,y,2024-01-05", "late,x,2024-01-02", "u,x,2024-01-02", "bad,x,1970-01-01"]
EVENTS = ["late 02", "u 02", "u 02", "u 03", "v 03", "w 05"]
"""User and day of every event that must be there in the end, each once."""
PATIENCE = 30.0
"""Seconds after which a publish that is stuck is killed."""
DIED = "the process ended with"
"""What is said of a publish that ended without a word, by a signal (a number below zero) or by the
C library: the reaper finds it, like any killed run."""


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th `call` of any one thread: a signal, or an error number's name.

    With `at` only calls count that are made on this file of the shop, or on this folder and what
    lies in it beforehand (strace looks at open files, and at the first path of a call).
    """

    call: str
    nth: int
    effect: str
    at: str = ""

    def arguments(self, shop: Path) -> list[str]:
        """What strace is told."""
        kind = "signal" if self.effect.startswith("SIG") else "error"
        place = shop / self.at
        paths = [place, *(place.iterdir() if place.is_dir() else ())] if self.at else []
        inject = f"inject={self.call}:{kind}={self.effect}:when={self.nth}"
        return [*(f"-P{path}" for path in paths), "-e", f"trace={self.call}", "-e", inject]

    def __str__(self) -> str:
        return f"{self.effect} at {self.call} {self.nth} {self.at}".rstrip()


class Publish:
    """A small shop with one file published and a second one delivered; restored for each fault."""

    def __init__(self, root: Path) -> None:
        # Once here, and not in every fork: 5 s, and .3 s.
        import great_expectations  # noqa: F401
        import sqlglot.lineage  # noqa: F401

        self.folder, self._saved, self._said = root / "shop", root / "saved", root / "said"
        self.folder.mkdir()
        self.watch = Watch(self.folder)
        self.watch.deliver("a.csv", *FIRST)
        self._in_child(self._publish)
        self.before = contents(self.watch.lake)
        self.watch.deliver("b.csv", *SECOND)
        shutil.copytree(self.folder, self._saved)
        self.struck = 0
        """How many faults really hit the publish."""
        self.calls = self._count()
        self.after = contents(self.watch.lake)
        assert self.before != self.after

    def points(self, effect: str) -> list[Fault]:
        """Every place at which `effect` can strike."""
        return [Fault(c, n, effect) for c in CALLS for n in range(1, self.calls[c] + 1)]

    def strike(self, fault: Fault, *, check_only: bool = False) -> list[str]:
        """Publish with `fault` and look; then, if all held and not `check_only`, publish again
        without and look again. Returns what did not hold."""
        self._restore()
        status = self._in_child(self._publish, fault.arguments(self.folder))
        self.struck += status != 0
        broken = [f"{fault}: {what}" for what in self._torn()]
        if check_only or broken:
            return broken
        self._in_child(self._publish_again)
        return broken + [f"{fault}, then again: {what}" for what in self.unsound()]

    def publish_undisturbed(self) -> None:
        """Publish once from the beginning, without any fault."""
        self._restore()
        self._in_child(self._publish)

    def collide(self) -> list[str]:
        """Publish in two processes at once, then once more; returns what did not hold."""
        self._restore()
        both = [self._start(self._publish) for _ in range(2)]
        for _, go in both:
            os.write(go, b"x")
        for child, go in both:
            os.close(go)
            os.waitpid(child, 0)
        broken = [f"two at once: {what}" for what in self._torn()]
        self._in_child(self._publish_again)
        return broken + [f"two at once, then again: {what}" for what in self.unsound()]

    def interrupt(self, after: float) -> list[str]:
        """SIGKILL after so many seconds of a publish, then publish again."""
        self._restore()
        child, go = self._start(self._publish)
        os.write(go, b"x")
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        os.close(go)
        _, status = os.waitpid(child, 0)
        self.struck += status != 0
        broken = [f"killed after {after:.3f} s: {what}" for what in self._torn()]
        self._in_child(self._publish_again)
        return broken + [f"killed after {after:.3f} s: {what}" for what in self.unsound()]

    def starve(self, megabytes: int) -> tuple[list[str], str]:
        """Publish with so much address space more than the process has (RLIMIT_AS), then again
        without a limit: what did not hold, and the error ('' if it was enough, `DIED` where
        a library cannot do without memory)."""

        def starving() -> None:
            own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (own + megabytes * 2**20,) * 2)
            self._publish_or_say()

        return self._disturbed(starving, f"{megabytes} MB")

    def jump(self, clock: timedelta, nth: int) -> tuple[list[str], str]:
        """Publish while the clock of the system jumps once, before the n-th file is put in its
        place, then again with the right clock: what did not hold, and the error ('' without)."""

        def jumping() -> None:
            real, places = lake_module.publish, itertools.count(1)
            with time_machine.travel(datetime.now(UTC), tick=True) as traveller:

                def publish(path: Path, target: Path) -> None:
                    if next(places) == nth:
                        traveller.shift(clock)
                    real(path, target)

                lake_module.publish = publish  # in this fork only
                self._publish_or_say()

        return self._disturbed(jumping, f"{clock} at place {nth}")

    def unsound(self) -> list[str]:
        """What does not hold after an undisturbed publish (I1, I2, I4, I6, I7)."""
        found = self._torn()
        if found:
            return found
        lake = self.watch.lake
        if contents(lake) != self.after:
            found.append("the bytes are not those of an undisturbed run (I6)")
        if self.watch.events() != EVENTS:
            found.append(f"events are lost or doubled: {self.watch.events()} (I1)")
        landed, refused = lake.read("landed_rows"), "reject_reason"
        if landed.rows != 7 or landed.to_pandas([refused])[refused].notna().sum() != 1:
            found.append("rows in are not accepted + quarantined (I1)")
        names = Counter(a.name for a in ledger_of(self.watch.folder / "home").arrivals())
        if names != {"inbox/a.csv": 1, "inbox/b.csv": 1, "items.csv": 1}:
            found.append(f"arrivals are lost or doubled: {dict(names)} (I1)")
        if left := list((lake.root / "tmp").iterdir()):  # whoever they belong to: nobody is there
            found.append(f"unfinished writes are left: {left} (I7)")
        return found + invariants.strays(self.folder / "home")

    def _torn(self) -> list[str]:
        """What must hold at any moment, right after a crash too (I2, I4)."""
        lake = self.watch.lake
        found = invariants.torn(lake)
        if found:
            return found
        for asset, before in self.before.items():
            now = contents(lake)[asset]
            wrong = [p for p in before if now.get(p) not in (before[p], self.after[asset].get(p))]
            if wrong:
                found.append(f"{asset}{wrong} is neither the old nor the new version (I4)")
            lake.served(asset).to_arrow()
        return found

    def _publish(self) -> None:
        self.watch.settle()

    def _publish_again(self) -> None:
        """Publish; if all had been done but for clearing up, the next run clears up, whichever it
        is, and nothing was left to request one."""
        if not self.watch.settle() and self.watch.lake.orphans():
            assert self.watch.execute(dg.RunRequest(job_name=jobs.LAND))

    def _publish_or_say(self) -> None:
        """Publish; what a run that fails says is left in a file."""
        try:
            self._publish()
        except BaseException as error:
            self._said.write_text(f"{error!r}: {'; '.join(self._failures())}", encoding="utf-8")
            raise

    def _failures(self) -> list[str]:
        """Step and messages of every failed step, causes last."""
        found = []
        for run in self.watch.instance.get_runs():
            for entry in self.watch.instance.all_logs(run.run_id, dg.DagsterEventType.STEP_FAILURE):
                event = entry.get_dagster_event()
                error, texts = event.step_failure_data.error, []
                while error is not None:
                    texts.append(error.message.strip())
                    error = error.cause
                found.append(f"{event.step_key}: {' <- '.join(texts)}")
        return found

    def _disturbed(self, work: Callable[[], object], what: str) -> tuple[list[str], str]:
        self._restore()
        self._said.unlink(missing_ok=True)
        child, go = self._start(work)
        os.write(go, b"x")
        os.close(go)
        end = time.monotonic() + PATIENCE
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.05)
        status = ended[1]
        broken = [f"{what}: {found}" for found in self._torn()]
        said = self._said.read_text(encoding="utf-8") if self._said.exists() else ""
        if status and not said:
            said = f"{DIED} {os.waitstatus_to_exitcode(status)}"
        self._in_child(self._publish_again)
        return broken + [f"{what}, then again: {found}" for found in self.unsound()], said

    def _restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self._saved, self.folder)

    def _count(self) -> Counter[str]:
        """How often one publish makes each call, the busiest thread counting."""
        log = self._saved.parent / "calls"
        self._in_child(self._publish, ["-o", str(log), "-e", f"trace={','.join(CALLS)}"])
        per_thread: Counter[tuple[str, str]] = Counter()
        for line in log.read_text(errors="replace").splitlines():
            thread, _, rest = line.partition(" ")
            call = rest.strip().partition("(")[0]
            if call in CALLS:
                per_thread[thread, call] += 1
        return Counter({c: max((n for (_, d), n in per_thread.items() if d == c), default=0)
                        for c in CALLS})  # fmt: skip

    def _in_child(self, work: Callable[[], object], strace: list[str] | None = None) -> int:
        """Run `work` in a fork, below strace if arguments are given; its wait status."""
        child, go = self._start(work)
        tracer = _attach(child, strace) if strace is not None else None
        os.write(go, b"x")
        os.close(go)
        _, status = os.waitpid(child, 0)
        if tracer is not None:
            tracer.wait()
        if strace is None and status:
            raise AssertionError("an undisturbed publish failed")
        return status

    def _start(self, work: Callable[[], object]) -> tuple[int, int]:
        """A fork that does `work` once a byte is written to the returned pipe: (process, pipe)."""
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go)
                os.read(ready, 1)
                quiet = os.open(os.devnull, os.O_WRONLY)
                os.dup2(quiet, 1)
                os.dup2(quiet, 2)
                work()
                code = 0
            finally:
                os._exit(code)
        os.close(ready)
        return child, go


def _attach(process: int, arguments: list[str]) -> "subprocess.Popen[bytes]":
    output = [] if "-o" in arguments else ["-o", "/dev/null"]
    tracer = subprocess.Popen(
        [str(STRACE), "-f", *output, *arguments, "-p", str(process)],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    if b"attached" not in line:
        os.kill(process, signal.SIGKILL)
        raise AssertionError(f"strace cannot attach: {line!r}")
    return tracer


def contents(lake: Lake) -> dict[str, dict[str, str]]:
    """asset -> partition -> content of what is current."""
    return {
        asset: {
            partition: lake.version(entry.current).content_id
            for partition, entry in lake.entries(asset).items()
            if entry.current
        }
        for asset in lake.assets()
    }
