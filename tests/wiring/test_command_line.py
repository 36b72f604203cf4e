"""Errors that people can act on are one line of the command line, and not a traceback."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from dagster._core.workspace.load_target import WorkspaceFileTarget
from typer.testing import CliRunner

from dagster_project import cli, resources, runs, show
from dagster_project.commands import search
from recsys_assets.core.config import ConfigError
from recsys_assets.core.journal import JournalError
from recsys_assets.core.lake import FORMAT, Lake, LakeError
from recsys_assets.ingestion.arrivals import LedgerError
from recsys_assets.ingestion.source import SourceError
from recsys_assets.language_model.prices import PriceMissingError
from recsys_assets.publishing.releases import RELEASE, Known, Releases
from recsys_assets.ranking.search import Question
from tests.conftest import MINIMAL_SHOP
from tests.publishing import golden
from tests.stored import stored


def at_home(folder: Path, patch: pytest.MonkeyPatch, shop: str = MINIMAL_SHOP) -> None:
    """Let every command be about a shop file and a home in `folder`."""
    (folder / "shop.yaml").write_text(shop)
    patch.setenv("RECSYS_SHOP", str(folder / "shop.yaml"))
    patch.setenv("RECSYS_HOME", str(folder / "home"))


LONG = "a.csv: [/red] is no value of [b]this[/b] column; " + "deliver it again " * 9


def test_a_ui_on_a_port_that_is_taken_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cli.os, "execv", lambda *arguments: started.append(arguments))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(cli.app, ["ui", "--port", port])
    assert done.exit_code == 2 and f"port {port} cannot be had" in done.output
    assert not started and not (tmp_path / "home").exists()


def test_a_second_ui_of_a_home_is_told_where_the_first_one_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(resources.HOME, str(tmp_path))
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))
    first, second = (CliRunner().invoke(cli.app, ["ui", "--port", port]) for port in ports)
    assert first.exit_code == 0 and len(started) == 1
    assert isinstance(second.exception, LakeError)
    assert f"runs already, at http://127.0.0.1:{ports[0]}:" in str(second.exception)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        *((kind(LONG), LONG) for kind in (LakeError, ConfigError, SourceError, LedgerError)),
        (PriceMissingError("no price"), "no price"),
        (JournalError("j.jsonl: line 2 cannot be read"), "j.jsonl: line 2 cannot be read"),
        (PermissionError(13, "Permission denied", "/home/x"), "/home/x: Permission denied"),
        (TimeoutError("nobody answers"), "nobody answers"),
    ],
)
def test_what_people_can_act_on_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    line: str,
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_run_of_a_shop_whose_paths_cannot_be_watched_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = MINIMAL_SHOP.replace("interactions.csv", '"*/sales.csv"') + "arrival: {}\n"
    at_home(tmp_path, monkeypatch, watched)
    monkeypatch.setattr(sys, "argv", ["recsys", "run"])
    with pytest.raises(SystemExit):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert "only the file name may hold * or ?" in line


def test_a_home_that_serves_another_shop_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(shutil.copytree(golden.FOLDER / f"format-{FORMAT}", tmp_path / "home") / "lake")
    releases = Releases(lake)
    rows = lake.of_version(lake.version(releases.state().live)).to_pandas()
    rows.loc[rows["kind"] == "settings", "value"] = '{"name": "grocer"}'
    (release,) = stored(lake, RELEASE, rows).versions
    releases.judged(Known(release.id, True), "run")
    releases.promote(release.id, why="it is another shop's")
    at_home(tmp_path, monkeypatch)
    monkeypatch.setattr(runs, "launch", lambda *asked: pytest.fail("a run was started"))
    monkeypatch.setattr(sys, "argv", ["recsys", "run"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "serves the shop 'grocer'" in capsys.readouterr().err


def test_what_could_not_be_taken_is_told_again_at_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(tmp_path, monkeypatch, f"{MINIMAL_SHOP}arrival: {{settle_seconds: 0}}\n")
    (tmp_path / "interactions.csv").symlink_to("elsewhere.csv")
    ended = SimpleNamespace(follow=lambda: iter(()), stop=lambda: None, succeeded=True, run_id="r")
    monkeypatch.setattr(runs, "launch", lambda *of_what: ended)
    said = CliRunner().invoke(cli.app, ["run", "--select", "items"]).stdout
    first, last = (line for line in said.splitlines() if "interactions.csv" in line)
    assert last == f"Not in this run: {first}" == said.splitlines()[-1]
    assert "not a regular file" in first


def _nobody_reads() -> None:
    raise BrokenPipeError


def _unheeded(number: int, frame: object) -> None:
    raise AssertionError("SIGTERM ends the command, and the run goes on")


@pytest.mark.parametrize(
    ("ends", "code"), [(lambda: signal.raise_signal(signal.SIGTERM), 130), (_nobody_reads, 1)]
)
def test_a_command_that_ends_early_leaves_no_run_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Callable[[], None], code: int
) -> None:
    at_home(tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["recsys", "run"])
    before = signal.signal(signal.SIGTERM, _unheeded)
    # of a suite in the background of a script even the children ignore SIGINT
    heeds = "import signal, time; signal.signal(2, signal.SIG_DFL); print(flush=True)"
    wait = [sys.executable, "-c", f"{heeds}; time.sleep(600)"]
    child = subprocess.Popen(wait, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    with dg.DagsterInstance.ephemeral() as instance:
        launched = runs.LaunchedRun(child, instance, "launch", tmp_path / "log")
        monkeypatch.setattr(launched, "_find", lambda: ends() or "")
        monkeypatch.setattr(runs, "launch", lambda *of_what: launched)
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code == code and child.returncode == -signal.SIGINT
        finally:
            signal.signal(signal.SIGTERM, before)
            child.kill()


def test_an_error_of_several_tables_is_told_once() -> None:
    gone = ": sales.csv: no file"
    problems = [("landed_rows", gone), ("users", gone), ("items", ": has 0 rows"), ("users", gone)]
    told = ["landed_rows, users: sales.csv: no file", "items: has 0 rows", "run: the lake is held"]
    assert cli._once([*problems, ("run", gone), ("run", ": the lake is held")]) == told


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_file_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    file = tmp_path / "nowhere" / name
    expected = rf"{name} cannot be written \(No such file or directory\): name a file in a folder"
    with pytest.raises(LakeError, match=expected), show.written(file) as path:
        show.export(pa.table({"a": [1]}), path)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_file_that_cannot_be_written_to_its_end_is_as_it_was(tmp_path: Path, name: str) -> None:
    file, long = tmp_path / name, pa.table({"a": [f"value {n}" for n in range(5_000)]})
    with show.written(file) as path:
        show.export(pa.table({"a": [1]}), path)
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(LakeError, match="cannot be written"), show.written(file) as path:
            show.export(long, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [name]
    link = tmp_path / f"link-{name}"
    link.symlink_to(file)
    file.chmod(0o640)
    with show.written(link) as path:
        show.export(long, path)
    assert link.is_symlink() and len(file.read_bytes()) > 10_000
    assert file.stat().st_mode & 0o777 == 0o640


def test_what_a_killed_export_had_written_goes_with_the_next_one(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    others = [tmp_path / ".table-1999.csv", tmp_path / f".table.recsys-{os.getppid()}.csv"]
    for other in others:  # a file of somebody's, and an export that is under way
        other.touch()
    child = os.fork()
    if child == 0:
        with show.written(file) as path:
            path.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 3
    with show.written(file) as path:
        path.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([file, *others])


def test_settings_of_dagster_that_cannot_be_written_are_not_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            runs.prepare_home()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "dagster").iterdir()) == []
    runs.prepare_home()
    assert (tmp_path / "dagster" / "dagster.yaml").read_text("utf-8") == runs.DAGSTER_YAML


@pytest.mark.parametrize(
    ("before", "after"),
    [(runs.WITHOUT_STORAGE, runs.DAGSTER_YAML), ("telemetry: {enabled: true}\n", None)],
)
def test_settings_of_dagster_are_replaced_only_where_nobody_changed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str | None
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    settings = tmp_path / "dagster" / "dagster.yaml"
    settings.parent.mkdir()
    settings.write_text(before)
    runs.prepare_home()
    assert settings.read_text() == (after or before)
    assert "storage:" not in runs.WITHOUT_STORAGE


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "\u00b2"])
def test_a_port_that_is_none_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv(resources.WEAVIATE_GRPC_PORT, port)
    with pytest.raises(ConfigError, match=f"WEAVIATE_GRPC_PORT is '{port}': set it to a port"):
        resources.project()
    monkeypatch.setenv(resources.WEAVIATE_GRPC_PORT, "50052")
    assert resources.project().weaviate_grpc_port == 50052


@pytest.mark.parametrize(
    "command", [["onboard", "tea"], ["recommend", "u"], ["similar", "i"], ["arrivals"]]
)
def test_a_list_of_no_items_is_refused(command: list[str]) -> None:
    found = CliRunner().invoke(cli.app, [*command, "-n", "0"])
    assert found.exit_code == 2 and "'-n'" in found.output


def test_make_clean_leaves_a_home_elsewhere_alone() -> None:
    root = Path(__file__).parents[2]
    said = subprocess.run(
        ["make", "--dry-run", "clean"], cwd=root, capture_output=True, text=True, check=True,
        env={**os.environ, "RECSYS_HOME": "/srv/state", "MAKEFLAGS": ""},
    ).stdout  # fmt: skip
    assert "/srv/state" not in said and "/.recsys*" in said


def test_the_index_is_asked_only_for_what_is_offered_now(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Question, list[str]]] = []

    def find(index: object, release: str, question: Question, groups: pd.Series, n: int) -> None:
        asked.append((question, list(groups.index)))

    store = SimpleNamespace(
        fetch=lambda release, ids: SimpleNamespace(item_ids=ids, vectors=np.eye(1)),
        release=lambda release: SimpleNamespace(model="m"),
        close=lambda: None,
    )
    monkeypatch.setattr("recsys_assets.ranking.search.find", find)
    monkeypatch.setattr(resources, "project", lambda: None)
    groups = pd.Series({"i1": "g", "sold out": "g", "i2": ""})
    offered = pd.DataFrame({"group_id": groups.drop("sold out")})
    for name, stub in (
        ("_release", "r"), ("_offered", offered), ("_open", store), ("_show", None)
    ):  # fmt: skip
        monkeypatch.setattr(search, name, lambda *given, stub=stub: stub)
    monkeypatch.setattr(search, "_group", lambda project, item_id: groups[item_id])
    search.alike("i1", 3)
    search.alike("sold out", 3)
    assert asked[0][0].where.available_at == pytest.approx(time.time(), abs=60)
    assert [ids for _, ids in asked] == [["i2"], ["i2"]]  # nor is a variant shown of what is not


def test_the_ui_loads_the_graph_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr(runs, "open_instance", lambda: SimpleNamespace(dispose=lambda: None))
    monkeypatch.setattr(os, "execv", lambda program, arguments: asked.append(arguments))
    cli.ui(port=3001)
    (given,) = asked
    file = given[given.index("--workspace") + 1]
    (origin,) = WorkspaceFileTarget([file]).create_origins()
    assert origin.location_name == "recsys"
    assert origin.loadable_target_origin.module_name == "dagster_project.definitions"
