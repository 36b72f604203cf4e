"""Dagster's event log with its databases kept open: the same events, for whoever reads them."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.runs import DAGSTER_YAML
from dagster_project.storage import KEPT, EventLog
from recsys_assets.erasure.names import Names
from recsys_assets.erasure.texts import quiet_base

DAYS = dg.StaticPartitionsDefinition(["mon", "tue"])


@dg.asset(partitions_def=DAYS)
def sales(context: dg.AssetExecutionContext) -> None:
    context.log.info("user-17 said hello")


@dg.asset(deps=[sales])
def items() -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.asset_check(asset=items)
def is_whole() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, metadata={"missing": 1})


OURS, DAGSTERS = DAGSTER_YAML, "telemetry: {enabled: false}\n"
Open = Callable[[str], dg.DagsterInstance]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Another instance of one home, as another process would have it."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    instances = []

    def one(settings: str = OURS) -> dg.DagsterInstance:
        (tmp_path / "dagster.yaml").write_text(settings)
        instances.append(dg.DagsterInstance.from_config(str(tmp_path)))
        return instances[-1]

    yield one
    for instance in instances:
        instance.dispose()


def _run(instance: dg.DagsterInstance) -> str:
    done = dg.materialize([sales], instance=instance, partition_key="mon")
    assert done.success
    return dg.materialize([items, is_whole], instance=instance).run_id


def _known(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What pages, sensors and commands ask, without the ids and clocks that differ."""
    check, *_ = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("items"), "is_whole"), limit=9
    )
    made = instance.get_latest_materialization_event(dg.AssetKey("items"))
    assert made and made.asset_materialization
    return {
        "events": [
            (r.event_log_entry.dagster_event_type, r.event_log_entry.step_key)
            for r in instance.get_records_for_run(run_id).records
        ],
        "assets": sorted(key.to_user_string() for key in instance.get_asset_keys()),
        "partitions": instance.get_materialized_partitions(dg.AssetKey("sales")),
        "rows": made.asset_materialization.metadata["rows"].value,
        "check": check.status,
        "runs": len(instance.get_runs()),
    }


def test_the_log_says_what_dagsters_own_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known = []
    for name, settings in (("ours", OURS), ("dagsters", DAGSTERS)):
        home = tmp_path / name
        home.mkdir()
        (home / "dagster.yaml").write_text(settings)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            assert isinstance(instance.event_log_storage, EventLog) == (name == "ours")
            known.append(_known(instance, _run(instance)))
    assert known[0] == known[1]


def test_a_home_goes_from_one_storage_to_the_other_and_back(opened: Open):
    run_id = _run(opened(DAGSTERS))
    known = _known(opened(OURS), run_id)
    later = _run(opened(OURS))
    assert _known(opened(DAGSTERS), run_id)["events"] == known["events"]
    assert _known(opened(DAGSTERS), later)["runs"] == 4


def test_how_often_databases_are_opened_does_not_depend_on_how_much_happens(
    opened: Open, monkeypatch: pytest.MonkeyPatch
):
    paths: list[str] = []
    connect = sqlite3.dbapi2.connect

    def counted(path: str, *args: Any, **more: Any) -> sqlite3.Connection:
        paths.append(path)
        return connect(path, *args, **more)

    monkeypatch.setattr("sqlite3.dbapi2.connect", counted)

    def opens(words: int) -> int:
        @dg.asset
        def talk(context: dg.AssetExecutionContext) -> None:
            for _ in range(words):
                context.log.info("hello")
                context.log_event(dg.AssetObservation("talk"))

        before = len(paths)
        assert dg.materialize([talk], instance=instance).success
        return sum("/history/runs/" in path for path in paths[before:])

    instance = opened(OURS)
    opens(1)
    assert 0 < opens(1) == opens(20)


def test_no_more_than_a_few_stay_open(opened: Open):
    writer, reader = opened(OURS), opened(OURS)
    runs = [dg.materialize([items], instance=writer).run_id for _ in range(KEPT + 1)]
    log = reader.event_log_storage
    assert isinstance(log, EventLog)
    for _ in range(2):
        for run_id in runs:
            assert reader.all_logs(run_id)
            reader.get_asset_keys()
    assert len(log._open) == KEPT and "index" in log._open
    log.dispose()
    assert not log._open and reader.all_logs(runs[0]), "what was closed is opened again"


def test_whoever_watches_a_run_sees_its_events_while_it_is_under_way(opened: Open):
    writer, reader = opened(OURS), opened(OURS)
    seen: list[str] = []
    all_seen = threading.Event()

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        def saw(entry: dg.EventLogEntry, _: str) -> None:
            seen.append(entry.user_message)
            if entry.user_message == "third":
                all_seen.set()

        reader.watch_event_logs(context.run_id, None, saw)
        for word in ("first", "second", "third"):
            context.log.info(word)
        assert all_seen.wait(30), f"the run is not over and these were seen: {seen}"
        reader.end_watch_event_logs(context.run_id, saw)

    @dg.job
    def job() -> None:
        step()

    assert job.execute_in_process(instance=writer).success
    assert [word for word in seen if word in ("first", "second", "third")] == [
        "first", "second", "third",
    ]  # fmt: skip


def test_two_write_at_once_and_nothing_is_lost(opened: Open):
    opened(OURS).get_asset_keys()  # or both would make the tables (`runs.open_instance`)

    def write(instance: dg.DagsterInstance) -> None:
        for row in range(30):
            instance.report_runless_asset_event(
                dg.AssetMaterialization("items", metadata={"row": row})
            )

    threads = [threading.Thread(target=write, args=[opened(OURS)], daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    made = opened(OURS).fetch_materializations(dg.AssetKey("items"), limit=99).records
    rows = [r.asset_materialization.metadata["row"].value for r in made if r.asset_materialization]
    assert sorted(rows) == sorted([*range(30)] * 2)


def test_a_name_can_be_erased_while_the_log_is_open(opened: Open, tmp_path: Path):
    instance = opened(OURS)
    _run(instance)
    names = Names(["user-17"])
    bases = sorted((tmp_path / "history" / "runs").glob("*.db"))
    assert sum(quiet_base(base, names) for base in bases) > 0
    left = [p.name for p in bases[0].parent.iterdir() if b"user-17" in p.read_bytes()]
    assert left == []
    assert _run(instance)
