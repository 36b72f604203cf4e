"""Each trouble is told once, with asset, run, first error and what to do, and without secrets."""

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from dagster._core.events import EngineEventData
from dagster._utils.error import serializable_error_info_from_exc_info

from dagster_project import sensors
from dagster_project.alerts import WEBHOOK, Alert, Alerts
from dagster_project.reaper import reap
from dagster_project.runs import _progress, root_cause
from recsys_assets.core.assets import Project, table_asset
from recsys_assets.core.config import packaged_shop
from recsys_assets.core.tables import Column, Table
from recsys_assets.ingestion.source import SourceError, sha256_of
from tests.stored import approved

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TROUBLE = Alert("a-run-failed", "asset items", "boom\nmore", "repair it", "run-1")


class Receiver(HTTPServer):
    """A webhook on localhost that answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict] = []
        self.status = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/s3cret-path"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/login")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_an_alert_names_asset_run_first_error_and_what_to_do(
    tmp_path: Path, receiver: Receiver
) -> None:
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    assert alerts.tell(TROUBLE, NOW)
    (got,) = receiver.got
    assert got["text"] == "a-run-failed: asset items (run run-1): boom more | repair it"
    assert got["run"] == "run-1"


def test_the_same_trouble_in_another_run_is_told_again_only_after_the_pause(
    tmp_path: Path, receiver: Receiver
) -> None:
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    again = Alert(TROUBLE.kind, TROUBLE.subject, TROUBLE.what, TROUBLE.remedy, "run-2")
    other = Alert(TROUBLE.kind, "asset users", TROUBLE.what, TROUBLE.remedy, "run-2")
    told = [
        alerts.tell(TROUBLE, NOW),
        alerts.tell(again, NOW + 23 * HOUR),
        alerts.tell(other, NOW + 23 * HOUR),
        alerts.tell(again, NOW + 24 * HOUR),
    ]
    assert [bool(text) for text in told] == [True, False, True, True]
    assert len(receiver.got) == 3


def test_a_failure_is_told_once_however_long_it_is_looked_back_at(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path, again=24 * HOUR, environment={})
    first = replace(TROUBLE, happened=NOW.isoformat())
    assert alerts.tell(first, NOW + HOUR)
    assert not alerts.tell(first, NOW + 26 * HOUR)
    later = replace(TROUBLE, happened=(NOW + 30 * HOUR).isoformat())
    assert alerts.tell(later, NOW + 31 * HOUR), "that it failed again is news"


def test_an_alert_that_did_not_get_through_is_sent_at_the_next_look(
    tmp_path: Path, receiver: Receiver
) -> None:
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    receiver.status = 503
    assert alerts.tell(TROUBLE, NOW)
    receiver.status = 200
    assert alerts.tell(TROUBLE, NOW + HOUR)
    assert not alerts.tell(TROUBLE, NOW + 2 * HOUR)


def test_a_dead_webhook_costs_one_line_and_is_tried_at_each_look(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    receiver.status = 503
    told = [alerts.tell(TROUBLE, NOW + n * HOUR) for n in range(5)]
    assert told == [TROUBLE.text(), "", "", "", ""] and len(receiver.got) == 5
    assert len(alerts.lines()) == 1 and len(caplog.records) == 1, "that it failed"
    assert alerts.tell(TROUBLE, NOW + 24 * HOUR) and len(alerts.lines()) == 2, "it lasts: say so"
    receiver.status = 200
    assert alerts.tell(TROUBLE, NOW + 25 * HOUR) and alerts.lines()[-1]["delivered"]


def test_what_is_no_http_is_an_alert_that_did_not_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    monkeypatch.setattr(Handler, "do_POST", lambda self: self.wfile.write(b"220 mail ready\r\n"))
    assert alerts.tell(TROUBLE, NOW) and not alerts.lines()[-1]["delivered"]


def test_a_webhook_that_drips_is_waited_for_no_longer_than_a_silent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr("dagster_project.alerts.TIMEOUT_SECONDS", 0.1)
    dripped = []

    def drip(handler: Handler) -> None:
        for letter in b"HTTP/1.1 200 OK\r\n\r\n":  # each comes in time
            dripped.append(letter)
            handler.wfile.write(bytes([letter]))
            time.sleep(0.02)

    monkeypatch.setattr(Handler, "do_POST", drip)
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    assert alerts.tell(TROUBLE, NOW) and not alerts.lines()[-1]["delivered"]
    assert len(dripped) < 15


def test_a_silent_webhook_is_waited_for_once_in_a_look_and_an_answer_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr("dagster_project.alerts.TIMEOUT_SECONDS", 0.05)
    project = Project(home=str(tmp_path), shop_file=str(packaged_shop()))
    troubles = [replace(TROUBLE, subject=f"asset {n}") for n in range(3)]
    sensor = sensors._telling("looking", project, "", lambda instance, now: troubles)

    def undelivered() -> list[bool]:
        with dg.instance_for_test() as instance, dg.build_sensor_context(instance) as context:
            sensor(context)
        return [not line["delivered"] for line in sensors.alerts_of(project).lines()]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{port}/hook")
        assert undelivered() == [True] * 3
        silent.settimeout(0.2)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    monkeypatch.setattr("dagster_project.alerts.TIMEOUT_SECONDS", 5)
    monkeypatch.setenv(WEBHOOK, receiver.address)
    receiver.status = 400
    assert undelivered() == [True] * 3 and len(receiver.got) == 3
    receiver.status = 200
    assert undelivered() == [True] * 3 + [False] * 3


def test_a_page_to_log_in_to_is_no_place_that_an_alert_has_reached(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = Alerts(tmp_path, 24 * HOUR, {WEBHOOK: receiver.address})
    receiver.status = 302
    assert alerts.tell(TROUBLE, NOW) and not alerts.lines()[-1]["delivered"]
    assert "answered 302" in caplog.text


def test_no_secret_reaches_the_log_the_record_or_the_message(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {"ANTHROPIC_API_KEY": "sk-canary-123456", WEBHOOK: receiver.address}
    leaky = Alert("a-run-failed", "x", f"401 for sk-canary-123456 at {receiver.address}", "…")
    with caplog.at_level(logging.DEBUG):
        Alerts(tmp_path, HOUR, secrets).tell(leaky, NOW)
        broken = {**secrets, WEBHOOK: "http://127.0.0.1:1/hook/s3cret-path"}
        Alerts(tmp_path, HOUR, broken).tell(TROUBLE, NOW)
        for n, wrong in enumerate(("no address s3cret-path", f"{receiver.address} s3cret-path")):
            other = replace(TROUBLE, subject=f"asset {n}")
            Alerts(tmp_path, HOUR, {**secrets, WEBHOOK: wrong}).tell(other, NOW)
    everything = caplog.text + (tmp_path / "alerts.jsonl").read_text() + json.dumps(receiver.got)
    assert "canary" not in everything
    assert "s3cret" not in everything
    assert "[ANTHROPIC_API_KEY]" in everything


def test_a_sensor_logs_what_was_told_once_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOP_API_TOKEN", "canary-123456")
    project = Project(home=str(tmp_path), shop_file=str(packaged_shop()))
    leaky = replace(TROUBLE, what="no login with canary-123456")
    sensor = sensors._telling("looking", project, "", lambda instance, now: [leaky])
    with dg.instance_for_test() as instance, dg.build_sensor_context(instance) as context:
        sensor(context)
    log = capfd.readouterr().err
    assert log.count("no login with") == log.count("no login with [SHOP_API_TOKEN]") == 1


@pytest.mark.parametrize("name", ["DB_PASSWORD", "PGPASS", "DATABASE_DSN", "API_CREDENTIALS"])
def test_a_short_secret_by_any_usual_name_is_redacted(tmp_path: Path, name: str) -> None:
    alerts = Alerts(tmp_path, HOUR, {name: "hunter2", "KEY_BITS": "256"})
    alerts.tell(replace(TROUBLE, what="no login with hunter2, 256 bits"), NOW)
    assert alerts.lines()[0]["what"] == f"no login with [{name}], 256 bits"


def test_a_torn_record_of_alerts_is_no_reason_to_keep_silent(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path, HOUR, {})
    alerts.tell(TROUBLE, NOW)
    text = alerts.path.read_text()
    alerts.path.write_text(text[: len(text) // 2])
    assert alerts.tell(TROUBLE, NOW)


WRONG = Table("wrong", (Column("id", "string", "Id"),), key=("id",))


@table_asset(WRONG, group="test")
def wrong() -> pd.DataFrame:
    try:
        raise ZeroDivisionError("the first error")
    except ZeroDivisionError as error:
        raise RuntimeError("what came of it") from error


def test_a_failed_run_is_told_with_the_first_error_of_its_first_failed_step(
    project: Project,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [wrong.asset], resources={"project": project}, instance=instance, raise_on_error=False
        )
        assert not done.success
        now = datetime.now(UTC)
        (alert,) = sensors.failures(instance, now)
        assert alert.subject.endswith("asset wrong")
        assert "the first error" in alert.what
        assert alert.run == done.run_id
        assert list(sensors.failures(instance, now + timedelta(days=3))) == []


def test_an_error_that_says_what_to_do_is_not_lost_to_its_cause(tmp_path: Path) -> None:
    try:
        try:
            sha256_of(tmp_path / "sales.parquet")
        except SourceError as error:
            raise RuntimeError("a wrapper") from error
    except RuntimeError:
        found = root_cause(serializable_error_info_from_exc_info(sys.exc_info()))
    assert "sales.parquet: cannot be read (No such file or directory); deliver it" in found


@table_asset(Table("twice", WRONG.columns, key=("id",)), group="test")
def twice() -> pd.DataFrame:
    return pd.DataFrame({"id": ["a", "a"]})


def test_a_run_that_a_gate_ended_is_told_with_the_table_and_what_the_gate_found(
    project: Project,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.define_asset_job("some", selection=dg.AssetSelection.all())
        whole = dg.Definitions(
            [twice.asset], asset_checks=[twice.check], jobs=[job], resources={"project": project}
        )
        whole.resolve_job_def("some").execute_in_process(instance=instance, raise_on_error=False)
        (alert,) = sensors.failures(instance, datetime.now(UTC))
    assert alert.subject == "job some, asset twice"
    assert alert.what.startswith("rejected: ")
    assert "key" in alert.what or "unique" in alert.what or "more than once" in alert.what


def test_a_run_whose_code_cannot_be_loaded_is_told_with_that_error() -> None:
    @dg.job
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTING)
        try:
            raise ImportError("cannot import name 'x'")
        except ImportError:
            error = serializable_error_info_from_exc_info(sys.exc_info())
        instance.report_engine_event(
            "Could not load job definition.", run, EngineEventData(error=error)
        )
        instance.report_run_failed(run)
        (alert,) = sensors.failures(instance, datetime.now(UTC))
    assert alert.subject == "job nothing"
    assert alert.what == "ImportError: cannot import name 'x'"


def test_a_run_whose_process_is_gone_is_told_with_what_marked_it(project: Project) -> None:
    @dg.job
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        (dead,) = reap(instance, project.lake, datetime.now(UTC) + HOUR)
        (alert,) = sensors.failures(instance, datetime.now(UTC))
        (record,) = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE
        ).records
    assert dead.run_id == alert.run == run.run_id
    assert alert.what.startswith("The process of this run is gone")
    told = _progress(record.event_log_entry)
    assert told is not None and told.detail == alert.what


def test_a_drift_is_told_with_what_shifted_most_and_what_is_not_healthy(project: Project) -> None:
    def measured(psi: list[float], healthy: list[bool | None]) -> Alert | None:
        approved(
            project.lake,
            "drift",
            pd.DataFrame({"name": ["price", "score_all", "visits"], "psi": psi}),
        )
        health = {"measure": ["volume", "nulls"], "subject": ["last week", "brand"]}
        numbers = {"value": [87.0, 0.5], "usual": [338.0, None], "healthy": healthy}
        approved(project.lake, "data_health", pd.DataFrame(health | numbers))
        return sensors.drift_alert(project)

    assert sensors.drift_alert(project) is None, "nothing was measured yet"
    limit = project.shop.releases.health.psi
    assert measured([0.0, limit, 0.1], [True, None]) is None
    shifted = measured([0.3, 0.1, 0.4], [True, None])
    assert shifted is not None
    assert shifted.what == "2 features or scores have shifted: visits 0.40, price 0.30"
    ill = measured([0.0, 0.0, 0.0], [False, None])
    assert ill is not None and ill.what == "volume of last week is 87, usually 338"
