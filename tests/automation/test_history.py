"""Old runs go; what Dagster knows of assets, partitions and checks stays, and nothing is asked for
again because of it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from dagster_project.history import delete, needed_runs, old_runs
from dagster_project.runs import LAUNCH_TAG, LaunchedRun
from dagster_project.sensors import PAUSES, STATE_TAG, request
from recsys_assets.core.assets import CHECK, Project
from tests.automation.test_conditions import Automatic

LATER = timedelta(days=31)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]), io_manager_key="none")
def parted() -> None: ...


@dg.asset(io_manager_key="none")
def whole(context: dg.AssetExecutionContext) -> None:
    print("printed by a step")  # noqa: T201
    context.log_event(dg.AssetObservation("watched"))


@dg.asset_check(asset=whole)
def fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


CHECKS = list(fine.check_keys)
SUCCESS = dg.DagsterRunStatus.SUCCESS


def record(instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus, **tags: str) -> str:
    """The id of a run that the storage is only told of."""
    found = dg.DagsterRun(job_name=job, status=status, tags=tags)
    instance.add_run(found)
    return found.run_id


def run(instance: dg.DagsterInstance, *assets: Any, **more: Any) -> str:
    """The id of a run that makes `assets`."""
    resources = {"none": dg.mem_io_manager}
    return dg.materialize(assets, instance=instance, resources=resources, **more).run_id


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Dagster's storage in files after six runs, and their ids: partitions a, b, a; then the other
    asset with its check, again, and without."""
    folder = tmp_path_factory.mktemp("storage") / "dagster"
    folder.mkdir()
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        ids = [run(instance, parted, partition_key=key) for key in "aba"]
        ids.append(run(instance, whole, fine, tags={LAUNCH_TAG: "one"}))
        ids += [run(instance, whole, fine), run(instance, whole)]
    (folder / "logs").mkdir()
    (folder / "logs" / "one.log").write_text("started by hand")
    return folder, ids


@pytest.fixture
def ids(storage: tuple[Path, list[str]]) -> list[str]:
    return storage[1]


@pytest.fixture
def folder(storage: tuple[Path, list[str]], tmp_path: Path) -> Path:
    return shutil.copytree(storage[0], tmp_path / "dagster")


@pytest.fixture
def instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """The six runs, in a copy of their own."""
    with dg.DagsterInstance.local_temp(str(folder)) as found:
        yield found


def now() -> datetime:
    return datetime.now(UTC) + LATER


def files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


def gone(instance: dg.DagsterInstance) -> list[str]:
    return [old.run_id for old in old_runs(instance, CHECKS, now())]


def test_runs_with_the_newest_event_of_an_asset_a_partition_or_a_check_stay(
    instance: dg.DagsterInstance, ids: list[str]
) -> None:
    assert gone(instance) == [ids[0], ids[3]]
    assert needed_runs(instance, CHECKS) == {ids[1], ids[2], ids[4], ids[5]}
    assert needed_runs(instance, []) == {ids[1], ids[2], ids[5]}, "of the check, only the asset"
    assert old_runs(instance, CHECKS, datetime.now(UTC) - timedelta(days=1)) == []


def test_what_is_told_goes_with_its_files_and_what_was_printed_and_nothing_else_does(
    instance: dg.DagsterInstance, folder: Path, ids: list[str]
) -> None:
    before = files(folder)
    old = old_runs(instance, CHECKS, now())
    told = {path for o in old for path in o.files}
    printed = {p.read_text() for p in told if p.suffix in (".out", ".log")}
    assert printed >= {"printed by a step\n", "started by hand"}
    assert sum(o.bytes for o in old) == sum(p.stat().st_size for p in told) > 200_000
    delete(instance, old)
    assert before - files(folder) == told
    assert files(folder) <= before
    assert {r.run_id for r in instance.get_runs()} == set(ids) - {ids[0], ids[3]}
    assert gone(instance) == []


def test_what_the_ui_shows_of_assets_and_checks_is_the_same(instance: dg.DagsterInstance) -> None:
    def shown() -> list[object]:
        checks = instance.event_log_storage.get_asset_check_summary_records(CHECKS)
        last = checks[CHECKS[0]].last_completed_check_execution_record
        assert last is not None and last.event is not None
        return [
            *instance.get_asset_records(),
            instance.get_materialized_partitions(dg.AssetKey("parted")),
            instance.get_latest_materialization_event(dg.AssetKey("whole")),
            last.status, last.event, last.id,
        ]  # fmt: skip

    before = shown()
    assert "watched" in repr(before) and "'a', 'b'" in repr(sorted(before[-5]))  # type: ignore[call-overload]
    delete(instance, old_runs(instance, CHECKS, now()))
    assert shown() == before


def test_a_run_under_way_and_the_newest_of_all_stay_however_old(
    instance: dg.DagsterInstance,
) -> None:
    newest = record(instance, "landing", SUCCESS)
    assert newest not in gone(instance)
    under_way = record(instance, "landing", dg.DagsterRunStatus.STARTED)
    record(instance, "landing", SUCCESS)
    assert under_way not in gone(instance)


def test_what_is_left_of_a_run_that_was_deleted_in_the_ui_goes(
    instance: dg.DagsterInstance, ids: list[str]
) -> None:
    instance.delete_run(ids[3])
    (old,) = old_runs(instance, CHECKS, datetime.now(UTC) - timedelta(days=1))
    assert old.run_id == ids[3]
    assert {p.suffix for p in old.files} == {".db", ".out", ".err", ".complete"}
    delete(instance, [old])
    assert gone(instance) == ids[:1]


def test_a_sensor_that_gave_up_does_not_begin_anew(instance: dg.DagsterInstance) -> None:
    def asked() -> str:
        return str(request(instance, "landing", ("", ""), "files", now()))

    wanted = request(instance, "landing", ("", ""), "files", now())
    assert isinstance(wanted, dg.RunRequest) and STATE_TAG in wanted.tags
    for _ in range(4):
        record(instance, "landing", dg.DagsterRunStatus.FAILURE, **wanted.tags)
    record(instance, "another", SUCCESS)
    assert "failed 4 times" in asked()
    delete(instance, old_runs(instance, CHECKS, now()))
    assert "failed 4 times" in asked()
    record(instance, "landing", SUCCESS)
    delete(instance, old_runs(instance, CHECKS, now()))
    assert "failed" not in asked(), "the files came right; their failures are history"


def test_conditions_ask_for_nothing_again_and_still_see_what_is_new(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_assets.core.assets.release_memory", lambda: None)
    automatic = Automatic(project)
    instance = automatic.graph.instance
    assert automatic.make(1.0, run=("numbers", "doubled", "quadrupled"))
    automatic.requested()
    assert automatic.make(2.0)
    assert automatic.graph.run("doubled", "quadrupled")
    assert not automatic.requested()
    checks = [dg.AssetCheckKey(dg.AssetKey(n), CHECK) for n in ("numbers", "doubled", "quadrupled")]
    old = old_runs(instance, checks, now())
    assert len(old) == 1, "of three runs the first"
    delete(instance, old)
    assert not automatic.requested()
    automatic.cursor = None
    assert not automatic.requested(), "not even when the daemon has lost its cursor"
    assert automatic.make(3.0)
    assert automatic.requested() == ["doubled", "quadrupled"]


def test_a_run_that_people_cancel_is_not_asked_for_without_end() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        later = now() + timedelta(days=1)
        for _ in PAUSES:
            wanted = request(instance, "land", ("", ""), "files", later)
            assert isinstance(wanted, dg.RunRequest)
            create_run_for_test(
                instance, job_name="land", tags=wanted.tags, status=dg.DagsterRunStatus.CANCELED
            )
        create_run_for_test(
            instance, job_name="land", tags=wanted.tags, status=dg.DagsterRunStatus.CANCELED
        )
        assert "start the job land by hand" in str(
            request(instance, "land", ("", ""), "files", later)
        )


def test_a_run_that_is_stopped_by_hand_leaves_no_child(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); "
                              "time.sleep(60)"], stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None and child.stdout.read(1)
    with dg.DagsterInstance.ephemeral() as instance:
        LaunchedRun(child, instance, "launch", tmp_path / "log").stop(patience=5)
    assert child.returncode is not None
