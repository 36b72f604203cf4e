"""The arrival sensor, driven tick by tick: every file counts once, and only its days are made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from dagster_project import jobs, sensors
from dagster_project.definitions import gated_assets
from recsys_assets.core.assets import Project
from recsys_assets.core.lake import Lake
from recsys_assets.ingestion.files import ledger_of
from recsys_assets.ingestion.parsing import reason_code
from recsys_assets.ingestion.source import sha256_of
from tests.conftest import MINIMAL_SHOP

SHOP = MINIMAL_SHOP.replace("interactions.csv", "inbox/*.csv") + "arrival: {settle_seconds: 0}\n"
HEADER = "user_id,item_id,event_time\n"


class Watch:
    """A shop with a watched folder, its raw assets, and a daemon that we turn by hand."""

    def __init__(self, folder: Path, shop: str = SHOP) -> None:
        self.folder = folder
        (folder / "inbox").mkdir()
        (folder / "shop.yaml").write_text(shop)
        (folder / "items.csv").write_text("item_id\nx\ny\n")
        self.load(Project(home=str(folder / "home"), shop_file=str(folder / "shop.yaml")))
        self.instance = dg.DagsterInstance.ephemeral()

    def load(self, project: Project) -> None:
        """What a process knows that is started now."""
        self.project = project
        self.gated = [g for g in gated_assets(project) if g.table.name in (*jobs.LANDING, jobs.RAW)]
        self.sensor = sensors.arrival(self.project, self.gated)
        self.defs = dg.Definitions(
            assets=[g.asset for g in self.gated],
            asset_checks=[g.check for g in self.gated],
            jobs=[jobs.land_job(), jobs.ingest_job()],
            sensors=[self.sensor],
            resources={"project": self.project},
            executor=dg.in_process_executor,
        )

    @property
    def lake(self) -> Lake:
        return self.project.lake

    def deliver(self, name: str, *rows: str) -> None:
        (self.folder / "inbox" / name).write_text(HEADER + "".join(f"{r}\n" for r in rows))

    def tick(self, cursor: str | None = None) -> list[dg.RunRequest] | str:
        context = dg.build_sensor_context(instance=self.instance, cursor=cursor)
        result = self.sensor.evaluate_tick(context)
        return result.run_requests or result.skip_message or ""

    def execute(self, request: dg.RunRequest) -> bool:
        assert request.job_name is not None
        job = self.defs.resolve_job_def(request.job_name)
        done = job.execute_in_process(
            instance=self.instance, tags=request.tags, raise_on_error=False
        )
        return done.success

    def settle(self) -> list[tuple[str, str, str]]:
        """Tick and run until nothing is requested; what was run, with its range."""
        done = []
        while not isinstance(requests := self.tick(), str):
            for request in requests:
                first = request.tags.get("dagster/asset_partition_range_start", "")
                last = request.tags.get("dagster/asset_partition_range_end", "")
                done.append((request.job_name or "", first, last))
                assert self.execute(request)
        return done

    def events(self) -> list[str]:
        raw = self.lake.read("raw_interactions").to_pandas()
        return sorted(raw["user_id"] + " " + raw["event_time"].dt.strftime("%d"))

    def versions(self) -> dict[str, str]:
        return {d: e.candidate for d, e in self.lake.entries("raw_interactions").items()}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Watch]]:
    """A shop file's text -> the shop, watched."""
    monkeypatch.setattr("recsys_assets.core.assets.release_memory", lambda: None)  # costs 0.1 s
    started: list[Watch] = []

    def begin(shop: str) -> Watch:
        started.append(Watch(tmp_path, shop))
        return started[-1]

    yield begin
    for watch in started:
        watch.instance.dispose()


@pytest.fixture
def watch(start: Callable[[str], Watch]) -> Watch:
    return start(SHOP)


def test_a_file_is_landed_and_then_exactly_its_days_are_made(watch: Watch) -> None:
    watch.deliver("a.csv", "u,x,2024-01-02", "u,x,2024-01-03", "v,x,2024-01-07")
    assert watch.settle() == [
        ("land", "", ""),
        ("ingest", "2024-01-02", "2024-01-03"),
        ("ingest", "2024-01-07", "2024-01-07"),
    ]
    assert watch.events() == ["u 02", "u 03", "v 07"]


def test_a_late_event_changes_its_own_day_and_only_the_new_file_is_read(watch: Watch) -> None:
    watch.deliver("a.csv", "u,x,2024-01-02", "u,x,2024-01-03")
    watch.settle()
    before = watch.versions()
    watch.deliver("b.csv", "w,y,2024-01-05", "late,x,2024-01-02")
    assert watch.settle()[1:] == [
        ("ingest", "2024-01-02", "2024-01-02"),
        ("ingest", "2024-01-05", "2024-01-05"),
    ]
    after = watch.versions()
    assert after["2024-01-03"] == before["2024-01-03"]
    assert after["2024-01-02"] != before["2024-01-02"]
    assert watch.events() == ["late 02", "u 02", "u 03", "w 05"]
    numbers = watch.lake.read("landed_rows").report()["numbers"]
    assert (numbers["files"], numbers["files landed now"], numbers["rows landed now"]) == (2, 1, 2)


def test_neither_a_lost_or_damaged_cursor_nor_another_name_makes_anything_new(watch: Watch) -> None:
    watch.deliver("a.csv", "u,x,2024-01-02")
    watch.settle()
    for cursor in (None, "", "0", "rewound", "{broken"):
        assert watch.tick(cursor) == "nothing new", "a sensor's memory is not where the truth is"
    before = watch.versions()
    watch.deliver("z.csv", "u,x,2024-01-02")
    assert watch.settle() == [("land", "", "")]
    assert watch.versions() == before
    assert watch.lake.read("landed_rows").rows == 1


def test_a_doubled_tick_asks_once_and_two_daemons_make_one_result(watch: Watch) -> None:
    watch.deliver("a.csv", "u,x,2024-01-02")
    first, second = watch.tick(), watch.tick()
    assert isinstance(first, list) and isinstance(second, list)
    queued = watch.instance.create_run_for_job(
        watch.defs.resolve_job_def("land"), tags=dict(first[0].tags)
    )
    assert "under way" in str(watch.tick())
    watch.instance.report_run_canceled(queued)
    assert watch.execute(first[0]) and watch.execute(second[0])
    assert watch.lake.read("landed_rows").rows == 1
    assert [job for job, _, _ in watch.settle()] == ["ingest"]
    assert watch.events() == ["u 02"]


def test_a_corrected_file_replaces_its_predecessor_on_the_days_of_both(watch: Watch) -> None:
    watch.deliver("a.csv", "u,x,2024-01-02", "u,x,2024-01-03")
    watch.settle()
    watch.deliver("a.csv", "u,x,2024-01-02", "u,x,2024-01-05")
    assert watch.settle()[1:] == [
        ("ingest", "2024-01-02", "2024-01-03"),
        ("ingest", "2024-01-05", "2024-01-05"),
    ]
    assert watch.events() == ["u 02", "u 05"]


def test_a_bad_file_is_tried_again_a_few_times_and_then_waits_for_people(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "PAUSES", (sensors.PAUSES[0],) * 2)
    watch.deliver("a.csv", "u,x,2024-01-02")
    (watch.folder / "inbox" / "b.csv").write_text("who,item_id,event_time\nu,x,2024-01-02\n")
    for _ in range(3):
        requests = watch.tick()
        assert isinstance(requests, list)
        assert not watch.execute(requests[0])
    assert "failed 3 times on the same files" in str(watch.tick())
    watch.deliver("b.csv", "v,x,2024-01-02")
    watch.settle()
    assert watch.events() == ["u 02", "v 02"]


def test_a_sensor_loaded_before_the_shop_file_changed_asks_a_few_times_and_says_so(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "PAUSES", (sensors.PAUSES[0],) * 2)
    watch.deliver("a.csv", "u,x,2024-01-02")
    watch.settle()
    loaded = watch.sensor
    (watch.folder / "changed.yaml").write_text(SHOP + "currency: EUR\n")
    watch.load(Project(home=watch.project.home, shop_file=str(watch.folder / "changed.yaml")))
    assert watch.settle()[0] == ("land", "", ""), "the run of a process that was started now"
    watch.sensor = loaded
    for _ in range(2):
        requests = watch.tick()
        assert isinstance(requests, list) and watch.execute(requests[0])
    assert "reload it" in str(watch.tick())


def test_while_a_run_works_files_are_taken_and_their_runs_wait(watch: Watch) -> None:
    watch.deliver("a.csv", "u,x,2024-01-02")
    with watch.lake.exclusive("run 1, process 1"):
        assert watch.tick() == "waiting for the end of run 1, process 1"
    names = [a.name for a in ledger_of(watch.folder / "home").arrivals()]
    assert names == ["inbox/a.csv", "items.csv"]
    assert isinstance(watch.tick(), list)


def test_nothing_delivered_yet_is_said_and_is_no_failure(watch: Watch) -> None:
    assert "no file of interactions has arrived yet" in str(watch.tick())


def test_neighbouring_days_become_one_range() -> None:
    days = ["1", "2", "3", "4", "5"]
    assert list(sensors.contiguous(days, {"1", "2", "4", "not a day"})) == [("1", "2"), ("4", "4")]
    assert list(sensors.contiguous(days, set())) == []


def test_a_source_that_nobody_watches_but_that_grew_is_asked_for_its_new_day_only(
    start: Callable[[str], Watch],
) -> None:
    watch = start(SHOP.partition("arrival:")[0])
    watch.deliver("a.csv", "u,x,2024-01-02")
    assert watch.settle() == [("land", "", ""), ("ingest", "2024-01-02", "2024-01-02")]
    before = watch.versions()
    watch.deliver("b.csv", "v,y,2024-01-05")
    assert watch.settle() == [("land", "", ""), ("ingest", "2024-01-05", "2024-01-05")]
    assert watch.versions()["2024-01-02"] == before["2024-01-02"]
    assert watch.events() == ["u 02", "v 05"]
    assert ledger_of(watch.folder / "home").arrivals() == [], "there is no watched folder"


def landed_reasons(watch: Watch) -> list[str | None]:
    rows = watch.lake.read("landed_rows").to_pandas().sort_values("user_id")
    return [None if pd.isna(r) else reason_code(r) for r in rows["reject_reason"]]


def test_what_comes_into_an_empty_ledger_is_history_and_what_comes_later_is_not(
    start: Callable[[str], Watch],
    tmp_path: Path,
) -> None:
    watch = start(SHOP + "plausible: {max_age_days: 14}\n")
    watch.deliver("a.csv", "a,x,2024-01-02")
    assert watch.settle()[0] == ("land", "", "")
    ledger = ledger_of(tmp_path / "home").path
    ledger.rename(tmp_path / "away.jsonl")
    assert watch.tick() == "nothing new"
    watch.deliver("b.csv", "b,x,2024-01-02")
    watch.settle()
    assert landed_reasons(watch) == [None, "before the plausible time"]
    assert watch.events() == ["a 02"]


def test_first_data_that_their_gate_refused_are_first_data_when_they_come_again(
    start: Callable[[str], Watch],
) -> None:
    watch = start(SHOP + "plausible: {max_age_days: 14}\n")
    watch.deliver("a.csv", "a,x,no time")
    (request,) = watch.tick()
    assert isinstance(request, dg.RunRequest) and not watch.execute(request)
    watch.deliver("a.csv", "a,x,2024-01-02")
    watch.settle()
    assert landed_reasons(watch) == [None]


def test_a_look_at_a_source_without_arrival_reads_each_file_once(
    start: Callable[[str], Watch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = start(SHOP.replace("arrival: {settle_seconds: 0}\n", ""))
    watch.deliver("a.csv", "u,x,2024-01-02")
    watch.settle()
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("recsys_assets.ingestion.source.sha256_of", counted)
    assert watch.tick() == "nothing new"
    assert sorted(read) == ["a.csv", "items.csv"]
    watch.deliver("a.csv", "u,x,2024-01-03")
    assert not isinstance(watch.tick(), str), "the next look looks again"
