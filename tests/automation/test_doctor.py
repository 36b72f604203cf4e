"""The doctor sees every kind of damage, names it and its remedy, and never dies of it."""

import json
import resource
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._daemon.types import DaemonHeartbeat

from dagster_project import doctor, jobs, sensors
from dagster_project.doctor import Finding
from recsys_assets.core.assets import Project
from recsys_assets.core.erasures import WORKER, Erasures
from recsys_assets.core.lake import Lake, part_name
from recsys_assets.ingestion.files import ledger_of
from recsys_assets.language_model.client import ledger
from recsys_assets.publishing import manifest
from recsys_assets.publishing.releases import RELEASE, Known, Releases
from tests.stored import approved, stored

NOW = datetime(2024, 1, 11, 12, tzinfo=UTC)


def served(lake: Lake, as_of: datetime) -> None:
    """A release of nothing but lists that know everything before `as_of`, and it is served."""
    approved(lake, "recommendations", pa.table({"item_id": [f"{as_of:%F}"]}))
    rows = manifest.table_rows({"recommendations": lake.read("recommendations")})
    rows.append(manifest.row("fact", "as_of", "", part_name(as_of)))
    approved(lake, RELEASE, pa.Table.from_pylist(rows))
    releases, release_id = Releases(lake), lake.candidates(RELEASE)[0].id
    releases.judged(Known(release_id, passed=True, against=releases.state().live), "a test")
    assert releases.offer(release_id, "a test") == ""


@pytest.fixture
def home(project: Project) -> Path:
    """A healthy home: lists that know everything up to the end of the shop's data."""
    served(project.lake, datetime(2024, 1, 11, tzinfo=UTC))
    approved(project.lake, "numbers", pa.table({"x": [1, 2, 3]}))
    return Path(project.home)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def look(
    project: Project, instance: dg.DagsterInstance | None, now: datetime = NOW, **options: bool
) -> list[Finding]:
    return doctor.examine(project, instance, now, **{"daemon": False, **options})


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert found[0].remedy
    return found[0]


def test_a_healthy_home_has_no_findings(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    assert look(project, instance) == []


def turned(good: bytes) -> bytes:
    """One bit turned, of the last letter or digit (JSON stays JSON) or else of the first byte."""
    place = max((n for n, byte in enumerate(good) if chr(byte).isalnum()), default=0)
    return good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]


@pytest.mark.parametrize("kind", ["flip", "cut", "gone"])
def test_every_damaged_file_of_what_is_served_is_found(
    project: Project, home: Path, instance: dg.DagsterInstance, kind: str
) -> None:
    version = project.lake.candidates("recommendations")[0]
    objects = project.lake.root / "objects"
    for path in [*objects.glob(f"*/{version.files[0].sha256}*"),
                 *objects.glob(f"*/{version.report}*"),
                 project.lake.root / "manifests" / f"{version.id}.json"]:  # fmt: skip
        good = path.read_bytes()
        if kind == "flip":
            path.write_bytes(turned(good))
        elif kind == "cut":
            path.write_bytes(good[:-1])
        else:
            path.unlink()
        found = look(project, instance)
        assert any("recommendations" in f.what and f.level == "error" for f in found), path
        path.write_bytes(good)
    assert look(project, instance) == []


def test_a_flipped_bit_in_a_table_that_is_not_served_needs_the_deep_look(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    version = project.lake.candidates("numbers")[0]
    (path,) = (project.lake.root / "objects").glob(f"*/{version.files[0].sha256}*")
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert look(project, instance) == []
    assert "numbers" in only(look(project, instance, deep=True)).what
    path.write_bytes(good[:-1])
    assert "missing or cut" in only(look(project, instance)).what


def test_a_store_that_cannot_be_reached_and_a_delivery_that_is_refused_are_named(
    project: Project, home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, sold = Path(project.shop_file), "s3://shop-inbox/sales"
    watched = shop.read_text().replace("path: interactions.csv", f"path: {sold}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        shop.write_text(watched + f"arrival: {{endpoint: '{endpoint}'}}\n")
        (shop.parent / "items.csv").symlink_to("elsewhere.csv")
        no_key, link = look(project, instance)
        assert no_key.level == "error"
        assert f"{endpoint} cannot be read without keys: set AWS_ACCESS_KEY_ID" in no_key.what
        assert (link.level, link.what.partition(":")[0]) == (
            "warning", "items.csv is not a regular file (a link, pipe or device)"
        )  # fmt: skip
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        away, *_ = look(project, instance)
        assert f"s3://shop-inbox cannot be reached at {endpoint}" in away.what
    assert "a-secret" not in f"{no_key} {away} {link}"


def test_a_file_that_an_erasure_keeps_out_is_an_error_until_it_comes_corrected(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    shop = Path(project.shop_file)
    shop.write_text(shop.read_text() + "arrival: {settle_seconds: 0}\n")
    erasures = Erasures(home / "erasure")
    erasures.done([erasures.ask("u9", "", NOW)], NOW)
    file, good = shop.parent / "interactions.csv", "user_id,item_id,event_time\nu2,i1,2024-01-05\n"
    file.write_text(good.replace("user_id", "customer"))
    sensors.take_arrivals(project, NOW)
    found = only(look(project, instance))
    assert found.level == "error" and found.what.startswith("interactions.csv is not taken")
    file.write_text(good)
    assert look(project, instance) == [], "it is another content, and was not looked at yet"
    sensors.take_arrivals(project, NOW)
    assert look(project, instance) == []


def test_a_watched_folder_that_is_not_there_is_named(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    shop, gone = Path(project.shop_file), "share/sales_*.csv"
    text = shop.read_text().replace("path: interactions.csv", f"path: {gone}")
    shop.write_text(text + "arrival: {}\n")
    found = only(look(project, instance))
    assert (found.level, found.what) == ("warning", f"{shop.parent / 'share'} is not there")
    (shop.parent / "share").mkdir()
    assert look(project, instance) == []


def test_a_pointer_that_is_no_json_is_named(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    (project.lake.root / "pointers" / "numbers.json").write_text("{")
    assert any("numbers.json cannot be read" in f.what for f in look(project, instance))


def test_a_damaged_file_of_a_served_release_that_no_pointer_names_is_found(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    version = project.lake.candidates("recommendations")[0]
    approved(project.lake, "recommendations", pa.table({"item_id": ["newer"]}))
    (path,) = (project.lake.root / "objects").glob(f"*/{version.files[0].sha256}*")
    path.write_bytes(b"torn")
    found = only(look(project, instance))
    assert "which is served, is damaged" in found.what and "recsys rollback" in found.remedy


def test_a_torn_pointer_to_what_is_served_is_named(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    (project.lake.root / "releases.json").write_text("{")
    found = look(project, instance)
    assert found and all("releases.json cannot be read" in f.what for f in found)


def test_that_what_is_served_cannot_be_read_is_told_and_that_nothing_ever_was_is_not(
    project: Project, home: Path, tmp_path: Path
) -> None:
    fresh = Project(home=str(tmp_path / "fresh"), shop_file=project.shop_file)
    assert sensors.stale_alert(fresh, NOW) is None and sensors.stale_alert(project, NOW) is None
    (project.lake.root / "releases.json").write_text("{")
    alert = sensors.stale_alert(project, NOW)
    assert alert is not None and alert.what.startswith("cannot be read: ")


def test_a_release_that_somebody_holds_is_a_warning(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    Releases(project.lake).freeze(why="the sale")
    found = only(look(project, instance))
    assert found.level == "warning" and "the sale" in found.what


def test_a_release_that_its_gate_blocked_is_a_warning_with_the_reasons(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    """Every run is green then, and what is served ages."""
    releases = Releases(project.lake)
    releases.judged(Known("f" * 64, False, ["scores: stability index 9.00"]), "a test")
    found = only(look(project, instance))
    assert found.level == "warning" and "blocked by its gate: scores: stability" in found.what
    assert "recsys promote ffffffffffff --anyway" in found.remedy
    releases.judged(Known("a" * 64, passed=True), "a test")
    assert look(project, instance) == []


def test_a_rejected_table_is_named_with_its_reason(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    project.lake.propose(stored(project.lake, "numbers", pa.table({"x": [9]})).versions)
    project.lake.reject(project.lake.candidates("numbers")[0], ["x: has maximum 9"])
    assert "rejected: x: has maximum 9" in only(look(project, instance)).what


def test_a_table_that_a_run_is_making_is_no_finding_until_the_run_is_gone(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    project.lake.propose(stored(project.lake, "numbers", pa.table({"x": [9]})).versions)
    with project.lake.exclusive("run 1"):
        assert look(project, instance) == []
    assert "its check did not run to the end" in only(look(project, instance)).what


def test_age_counts_from_the_data_and_not_past_the_end_of_a_closed_data_set(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    assert look(project, instance, NOW + timedelta(days=365)) == []
    served(project.lake, datetime(2024, 1, 7, tzinfo=UTC))
    found = only(look(project, instance))
    assert "96 hours behind" in found.what and "held back (recsys releases)" in found.remedy


def test_nothing_served_is_an_error(project: Project, instance: dg.DagsterInstance) -> None:
    assert "nothing is served" in only(look(project, instance)).what


def test_after_a_restore_that_was_cut_off_it_is_said_that_files_are_missing(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    for path in (project.lake.root / "manifests").iterdir():
        path.unlink()
    found = look(project, instance)
    assert not any("nothing is served" in f.what or "recsys run" in f.remedy for f in found)
    (unread,) = [f for f in found if f.what.startswith("what is served cannot be read")]
    assert "a restore that was cut off. Restore the folder of all state whole" in unread.what


def test_erased_users_without_the_ledger_that_says_whom_are_an_error(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    erasures = Erasures(home / "erasure")
    erasures.ask("u1", "", NOW)
    assert "1 erasures are not finished" in only(look(project, instance)).what
    erasures.path.unlink()
    assert "users were erased here" in only(look(project, instance)).what


def test_a_torn_ledger_of_arrivals_is_found(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    ledger = ledger_of(home)
    ledger.folder.mkdir()
    ledger.path.write_text('["0123')
    assert "torn line" in only(look(project, instance)).what


@pytest.mark.parametrize(
    ("total", "free", "enough"),
    [(100, 6, True), (100, 4, False), (10, 1.1, True), (10, 0.9, False)],
    ids=["large", "large: a twentieth is not free", "small", "small: a gigabyte is not free"],
)
def test_a_full_disk_is_seen_before_it_is_full(
    home: Path, monkeypatch: pytest.MonkeyPatch, total: float, free: float, enough: bool
) -> None:
    usage = SimpleNamespace(total=total * 1e9, used=(total - free) * 1e9, free=free * 1e9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    found = list(doctor.disk(home))
    assert bool(found) != enough
    assert all(f"{free:.1f} GB of {total:.0f} GB are free" in f.what for f in found)


def test_unfinished_writes_of_a_dead_process_are_a_warning(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    (project.lake.root / "tmp" / "999999999-abc").mkdir()
    assert only(look(project, instance)).level == "warning"


def test_an_alert_that_never_arrived_is_found_while_it_is_news(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    line = json.dumps({"at": NOW.isoformat(), "key": "k", "delivered": False}) + "\n"
    (home / "alerts.jsonl").write_text(line + '{"at": "20')
    assert "did not reach the webhook" in only(look(project, instance)).what
    assert look(project, instance, NOW + timedelta(hours=48)) == []


@pytest.mark.parametrize("settings", ["telemetry: {enabled: false}\n", "[1]\n", "a: [\n", "a: 1\n"])
def test_a_broken_storage_of_dagster_is_one_finding_and_the_rest_is_still_looked_at(
    project: Project, home: Path, settings: str
) -> None:
    folder = home / "dagster"
    assert doctor.open_storage(folder) is None and look(project, None) == [], "none yet is fine"
    (folder / "storage").mkdir(parents=True)
    (folder / "dagster.yaml").write_text(settings)
    (folder / "history").mkdir()
    (folder / "history" / "runs.db").write_text("no database")
    assert doctor.open_storage(folder) is None
    (project.lake.root / "tmp" / "999999999-abc").mkdir()
    found = look(project, doctor.open_storage(folder))
    assert [f.level for f in found] == ["error", "warning"]
    assert "move it away" in found[0].remedy


def test_a_storage_of_dagster_that_cannot_be_written_to_is_not_said_to_be_damaged(
    project: Project, home: Path
) -> None:
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").touch()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        found = only(look(project, None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{home / 'dagster'} (File too large)" in found.what
    assert "move it away" not in found.remedy


def test_a_run_that_failed_is_told_until_its_job_succeeds(
    instance: dg.DagsterInstance,
) -> None:
    broken = True

    @dg.op
    def copy() -> None:
        if broken:
            raise RuntimeError("the disk of the source is gone")

    @dg.job
    def some() -> None:
        copy()

    some.execute_in_process(instance=instance, raise_on_error=False)
    now = datetime.now(UTC)
    found = list(doctor.failed(instance, now))
    assert "the disk of the source is gone" in only(found).what and "job some" in found[0].what
    broken = False
    some.execute_in_process(instance=instance)
    assert list(doctor.failed(instance, now)) == []


def test_a_landing_that_failed_is_over_once_a_whole_run_has_landed(
    instance: dg.DagsterInstance,
) -> None:
    """People are told to run again, and `recsys run` is another job than the sensor's."""

    def run(name: str, *steps: str, well: bool = True) -> None:
        def does() -> None:
            if not well:
                raise RuntimeError("no column 'item_id'")

        @dg.job(name=name)
        def some() -> None:
            for step in steps:
                dg.op(name=step)(does)()

        some.execute_in_process(instance=instance, raise_on_error=False)

    run(jobs.LAND, "landed_rows", "raw_items", well=False)
    run(jobs.TUNE, "tuned_settings", well=False)
    run(jobs.MAIN, "landed_rows")
    assert len(list(doctor.failed(instance, datetime.now(UTC)))) == 2, "that is less, not more"
    run(jobs.LAND, "landed_rows", "raw_items", well=False)
    again = [f for f in doctor.failed(instance, datetime.now(UTC)) if "job land" in f.what]
    assert " failed, as 1 before it: job land, asset landed_rows" in only(again).what
    run(jobs.MAIN, "landed_rows", "raw_items", "rankers")
    assert "job tune" in only(list(doctor.failed(instance, datetime.now(UTC)))).what
    run(jobs.WEEKLY, "landed_rows", "tuned_settings")
    assert list(doctor.failed(instance, datetime.now(UTC))) == []


def beat(instance: dg.DagsterInstance, at: datetime) -> None:
    for name in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), name, "id", []))


def test_a_dead_daemon_is_seen_within_two_minutes_and_a_living_one_is_fine(
    project: Project, home: Path, tmp_path: Path
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        found = only(look(project, instance, daemon=True))
        assert "no heartbeat of" in found.what and "recsys ui" in found.remedy
        beat(instance, NOW)
        assert look(project, instance, NOW + timedelta(seconds=119), daemon=True) == []
        assert look(project, instance, NOW - timedelta(seconds=119), daemon=True) == []
        found = only(look(project, instance, NOW - timedelta(hours=1), daemon=True))
        assert f"of {NOW:%F %R} UTC, which is still to come: the clock was set back" in found.what
        later = look(project, instance, NOW + timedelta(seconds=121), daemon=True)
        assert "SENSOR" in only(later).what


def test_a_stopped_schedule_is_a_warning(project: Project, home: Path, tmp_path: Path) -> None:
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        ScheduleInstigatorData,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="m"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "r"), "daily")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        beat(instance, NOW)
        state = InstigatorState(
            origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED,
            ScheduleInstigatorData("30 4 * * *"),
        )  # fmt: skip
        instance.add_instigator_state(state)
        found = only(look(project, instance, daemon=True))
        assert found.what == "schedule daily is stopped"


def test_an_erasure_that_is_not_proved_is_an_error_and_one_that_came_back_too(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    erasures = Erasures(home / "erasure")
    name = erasures.ask("u1", "", NOW)
    assert "1 erasures are not finished" in only(look(project, instance)).what
    with project.lake.exclusive(WORKER):
        assert look(project, instance) == []
    erasures.done([name], NOW)
    assert look(project, instance) == []
    approved(project.lake, "users", pa.table({"user_id": ["u1", "u2"]}))
    assert "1 erased users are in the tables" in only(look(project, instance)).what
    erasures.key_path.unlink()
    assert "restore the key" in only(look(project, instance)).what


def test_spending_near_its_cap_is_a_warning(
    project: Project, home: Path, instance: dg.DagsterInstance
) -> None:
    settings = project.shop.language_model
    books = ledger(home, settings)
    path = home / "language_model" / "ledger.jsonl"
    assert books.spending() == []
    cap = settings.dollars_per_month
    line = {"kind": "reserve", "id": "a", "at": "", "month": f"{NOW:%Y-%m}", "run": "r",
            "asset": "x", "model": "m", "requests": 1, "dollars": 0.5 * cap}  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert look(project, instance) == []
    path.write_text(json.dumps({**line, "dollars": 0.9 * cap}) + "\n", encoding="utf-8")
    finding = only(look(project, instance))
    assert finding.level == "warning" and "of 10.00 dollars" in finding.what
