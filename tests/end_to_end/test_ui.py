"""The Dagster UI runs the same job on the same storage, and its gates hold there too."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import ROOT, ShopRun, copied

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on InvalidSubsetError { message }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Ui:
    """A running `recsys ui`, driven through its GraphQL endpoint."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
        return found

    def selector(self) -> dict[str, str]:
        nodes = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes "
                         "{ name location { name } } } } }")  # fmt: skip
        node = nodes["repositoriesOrError"]["nodes"][0]
        return {"repositoryLocationName": node["location"]["name"], "repositoryName": node["name"]}

    def run(self, *assets: str) -> str:
        """Materialize `assets` (all by default) with their checks; returns the final status."""
        selector: dict[str, Any] = {**self.selector(), "jobName": "recommend"}
        if assets:
            selector["assetSelection"] = [{"path": [a]} for a in assets]
            selector["assetCheckSelection"] = [
                {"assetKey": {"path": [a]}, "name": "quality"} for a in assets
            ]
        tags = [
            {"key": "dagster/asset_partition_range_start", "value": "2017-05-01"},
            {"key": "dagster/asset_partition_range_end", "value": "2017-12-01"},
        ]
        params = {
            "selector": selector,
            "runConfigData": "{}",
            "executionMetadata": {"tags": tags},
            "mode": "default",
        }
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            run_id = launched["run"]["runId"]
            status: str = self.ask(STATUS, id=run_id)["runOrError"]["status"]
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            time.sleep(1)
        return "TIMEOUT"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def shop(shop_run: ShopRun, tmp_path_factory: pytest.TempPathFactory) -> ShopRun:
    """A copy of the small shop, to be spoilt."""
    return copied(shop_run, tmp_path_factory.mktemp("spoilt") / "shop")


@pytest.fixture(scope="module")
def ui(shop: ShopRun) -> Iterator[Ui]:
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "dagster_project.cli", "ui", "--port", str(port)],
        cwd=ROOT,
        env=shop.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    found = Ui(port)
    try:
        for _ in range(120):
            try:
                found.ask("{ version }")
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, "the UI ended by itself"
                time.sleep(0.5)
        else:
            pytest.fail("the UI did not come up within a minute")
        yield found
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_main_job_launched_from_the_ui_ends_green(ui: Ui) -> None:
    assert ui.run() == "SUCCESS"


def test_a_single_asset_can_be_rematerialized(ui: Ui, shop: ShopRun) -> None:
    assert ui.run("items") == "SUCCESS"
    assert shop.lake.entries("items")[""].verdict == "approved"


def test_poison_does_not_pass_materialize_all_and_a_repair_does(ui: Ui, shop: ShopRun) -> None:
    sales = Path(shop.folder / "sales.csv")
    good = sales.read_text(encoding="utf-8")
    before = shop.lake.served("recommendations").content_id
    sales.write_text(good.replace("what", "article", 1), encoding="utf-8")
    assert ui.run() == "FAILURE"
    assert shop.lake.served("recommendations").content_id == before
    again = run_alone(shop)
    assert again.returncode == 1
    assert "sales.csv" in again.stderr and "what" in again.stderr, again.stderr
    assert "Traceback" not in again.stderr
    assert shop.recsys("recommend", "nobody").returncode == 0, "the old release is still served"
    sales.write_text(good, encoding="utf-8")
    assert ui.run() == "SUCCESS"
    assert shop.lake.served("recommendations").content_id == before


def run_alone(shop: ShopRun) -> "subprocess.CompletedProcess[str]":
    """`recsys run`, again for as long as a run of the UI's sensors holds the lake: such a run is
    refused with the name of the holder."""
    deadline = time.monotonic() + 120
    while True:
        done = shop.recsys("run")
        if "another run is working on this lake" not in done.stderr or time.monotonic() > deadline:
            return done


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("products.csv", "id,name,aisle,shelf,kind,maker\n", "raw_items was rejected"),
        ("products.csv", "", "products.csv"),
        ("sales.csv", "who,what,at,how_many,paid,receipt,shop\n", "landed_rows was rejected"),
    ],
    ids=["empty catalogue", "empty file", "empty window"],
)
def test_emptiness_keeps_the_previous_state_and_says_so(
    shop: ShopRun, name: str, content: str, words: str
) -> None:
    path = shop.folder / name
    good, before = path.read_bytes(), shop.lake.served("recommendations").content_id
    resent = shop.folder / "sales_resent.csv"
    aside = resent.read_bytes()
    try:
        path.write_text(content, encoding="utf-8")
        if name == "sales.csv":
            resent.write_text(content, encoding="utf-8")
        done = run_alone(shop)
        assert done.returncode == 1
        assert words in done.stderr, done.stderr
        assert shop.lake.served("recommendations").content_id == before
    finally:
        path.write_bytes(good)
        resent.write_bytes(aside)
