"""A run that was killed is recorded as failed soon, and a living one never is."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from dagster_project import sensors
from dagster_project.reaper import GRACE, dead_runs, reap
from recsys_assets.core.assets import Project
from recsys_assets.core.lake import Lake

RUN = """
import subprocess, sys, time
import dagster as dg
from recsys_assets.core.assets import Project

@dg.asset
def endless(project: Project) -> None:
    child = subprocess.Popen(["sleep", "600"])
    print("working", child.pid, flush=True)
    time.sleep(600)

with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
    dg.materialize(
        [endless], instance=instance,
        resources={"project": Project(home=sys.argv[2], shop_file="unused")},
    )
"""


def test_kill_9_of_the_whole_process_group_ends_in_a_failed_run_and_a_free_lake(
    tmp_path: Path,
) -> None:
    storage, home = tmp_path / "dagster", tmp_path / "home"
    storage.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN, str(storage), str(home)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    working = process.stdout.readline()
    assert working.startswith(b"working")
    lake = Lake(home / "lake")
    with dg.DagsterInstance.local_temp(str(storage)) as instance:
        (record,) = instance.get_run_records()
        later = record.update_timestamp + GRACE + timedelta(seconds=1)
        assert lake.holder().startswith(f"run {record.dagster_run.run_id}")
        assert dead_runs(instance, lake, later) == [], "it is silent, but it holds the lake"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert lake.holder() == ""
        assert dead_runs(instance, lake, record.update_timestamp) == [], "too early to say"
        assert [r.run_id for r in reap(instance, lake, later)] == [record.dagster_run.run_id]
        (record,) = instance.get_run_records()
        assert record.dagster_run.status == dg.DagsterRunStatus.FAILURE
        assert reap(instance, lake, later) == []
        (alert,) = sensors.failures(instance, later)
        assert alert.what.startswith("The process of this run is gone")
    with lake.exclusive("the next run"):
        lake.sweep()


def test_a_run_that_has_just_let_go_of_the_lake_is_given_time_to_say_that_it_ended(
    project: Project,
) -> None:
    @dg.job
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        (record,) = instance.get_run_records()
        later = record.update_timestamp.replace(tzinfo=UTC) + 10 * GRACE
        assert dead_runs(instance, project.lake, later) == [run]
        instance.report_engine_event("Finished steps in process", run)
        soon = datetime.now(UTC) + GRACE / 2
        started = SimpleNamespace(dagster_run=run, update_timestamp=soon - 10 * GRACE)
        instance.get_run_records = lambda *_, **__: [started]  # type: ignore[method-assign,list-item,assignment,return-value]
        assert dead_runs(instance, project.lake, soon) == [], "its last word was just now"
        assert dead_runs(instance, project.lake, soon + GRACE) == [run]
        hour_back = soon - timedelta(hours=1)
        assert dead_runs(instance, project.lake, hour_back) == [run], "the clock was set back since"


def test_a_run_that_waits_for_the_lake_is_alive_until_its_process_is_gone(
    project: Project,
) -> None:
    @dg.job
    def nothing() -> None: ...

    lake, waiting = project.lake, threading.Event()

    def wait(owner: str) -> None:
        with lake.exclusive(owner, patience=60):
            waiting.wait(60)

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        owner, later = f"run {run.run_id}, process 1", datetime.now(UTC) + timedelta(hours=1)
        other = threading.Thread(target=wait, args=[owner])
        with lake.exclusive("recsys forget"):
            assert [r.run_id for r in dead_runs(instance, lake, later)] == [run.run_id]
            other.start()
            while lake.waiting() != [owner]:
                assert other.is_alive()
            assert dead_runs(instance, lake, later) == []
        while lake.holder() != owner or lake.waiting():
            assert other.is_alive()
        assert dead_runs(instance, lake, later) == [], "now it works"
        waiting.set()
        other.join()
        assert [r.run_id for r in dead_runs(instance, lake, later)] == [run.run_id]
    killed = lake.root / "tmp" / "999999999-of-a-process-that-was-killed"
    killed.mkdir()
    for name in ("lock", "waits"):
        (killed / name).write_text(owner)
    assert lake.waiting() == [], "its lock is free"
    assert lake.sweep() == 1


def test_looking_who_holds_the_lake_never_refuses_a_run_that_starts(project: Project) -> None:
    lake = project.lake
    assert lake.holder() == ""
    with lake.exclusive("run 1, process 1"):
        assert lake.holder() == "run 1, process 1"
    assert lake.holder() == ""


def test_a_finished_run_is_left_alone(project: Project) -> None:
    @dg.asset
    def fine() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([fine], instance=instance).success
        assert reap(instance, project.lake, datetime.now(UTC) + timedelta(days=1)) == []


def test_a_run_that_has_not_begun_is_left_alone(project: Project) -> None:
    @dg.job
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTING)
        assert dead_runs(instance, project.lake, datetime.now(UTC) + timedelta(days=1)) == []


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_run_that_was_starting_when_its_code_server_was_killed_is_dead(
    project: Project, tmp_path: Path, family: socket.AddressFamily
) -> None:
    @dg.job
    def nothing() -> None: ...

    later = datetime.now(UTC) + timedelta(minutes=1)
    with dg.DagsterInstance.ephemeral() as instance:
        with socket.socket(family) as server:
            here = str(tmp_path / "server")
            server.bind(here if family == socket.AF_UNIX else ("127.0.0.1", 0))
            server.listen()
            where = {"host": "localhost", "socket": here}
            if family == socket.AF_INET:
                where = {"host": "127.0.0.1", "port": server.getsockname()[1]}
            tags = {GRPC_INFO_TAG: json.dumps(where)}
            status = dg.DagsterRunStatus.STARTING
            run = instance.create_run_for_job(nothing, status=status, tags=tags)
            assert dead_runs(instance, project.lake, later) == [], "it is being started"
        assert dead_runs(instance, project.lake, datetime.now(UTC)) == [], "too early to say"
        assert [r.run_id for r in reap(instance, project.lake, later)] == [run.run_id]
        (alert,) = sensors.failures(instance, datetime.now(UTC))
        assert alert.what.startswith("The process of this run is gone")
