"""What is served is one complete release, whatever happens to the process that changes it."""

import os
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import time_machine
from rich.console import Console
from typer.testing import CliRunner

from dagster_project import cli, doctor
from dagster_project.commands import releases as commands
from recsys_assets.core.assets import Project
from recsys_assets.core.garbage import garbage
from recsys_assets.core.lake import CorruptFileError, Lake, Version, VersionKey
from recsys_assets.indexing import stores
from recsys_assets.publishing import alias, manifest
from recsys_assets.publishing.assets import history
from recsys_assets.publishing.releases import (
    RELEASE,
    SERVED,
    Known,
    Manifest,
    ReleaseError,
    Releases,
    State,
)
from recsys_assets.publishing.serving import Served
from tests.indexing import shop

KEY = VersionKey(code="c", config="", libraries="l", inputs={})


def make(lake: Lake, value: int) -> str:
    """A complete release whose every table says `value`; returns its id."""
    rows = []
    for name in SERVED:
        table = pa.table({"user_id": ["u"], "item_id": [str(value)], "title": ["t"]})
        version = lake.store(name, [("", table)], KEY)
        rows.append(manifest.row("table", name, "", version.content_id, version.id))
    rows.append(manifest.row("fact", "as_of", "", f"day {value}"))
    version = lake.store(RELEASE, [("", pa.Table.from_pylist(rows))], KEY)
    return version.id


def put(releases: Releases, value: int, *, passed: bool = True) -> str:
    """Make a release, judge it against what is served, and offer it as a scheduled run does."""
    release_id = make(releases.lake, value)
    reasons = [] if passed else ["worse than before"]
    releases.judged(Known(release_id, passed, reasons, against=releases.state().live), "run")
    releases.offer(release_id, "run")
    return release_id


def shown(lake: Lake) -> str:
    return str(Served.open(lake).lists("u")[0]["item_id"].iloc[0])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def releases(lake: Lake) -> Releases:
    return Releases(lake)


def test_before_any_release_serving_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(ReleaseError, match="start with `recsys run`"):
        Served.open(lake)


def test_equal_things_are_the_same_release(lake: Lake) -> None:
    assert make(lake, 1) == make(lake, 1) != make(lake, 2)


def test_a_release_that_passes_is_served_and_one_that_is_blocked_changes_nothing(
    lake: Lake, releases: Releases
) -> None:
    first = put(releases, 1)
    blocked = put(releases, 2, passed=False)
    assert releases.state().live == first
    assert shown(lake) == "1"
    assert "worse than before" in releases.offer(blocked, "run")


def test_what_is_newest_in_the_lake_is_not_what_is_served(lake: Lake, releases: Releases) -> None:
    put(releases, 1)
    newer = lake.store("recommendations", [("", pa.table({"user_id": ["u"]}))], KEY)
    lake.propose([newer])
    lake.approve([newer])
    assert shown(lake) == "1"


@pytest.mark.parametrize(
    ("measured", "shown"), [("served", "with the studies"), ("another", "of the release")]
)
def test_the_page_is_the_newest_one_made_of_the_served_scoreboard(
    lake: Lake, releases: Releases, measured: str, shown: str
) -> None:
    def store(name: str, text: str, **made_of: str) -> Version:
        return lake.store(name, [("", pa.table({"html": [text]}))], replace(KEY, inputs=made_of))

    boards = {name: store("scoreboard", name) for name in ("served", "another")}
    named = (boards["served"], store("report_page", "of the release"))
    rows = [manifest.row("table", v.asset, "", v.content_id, v.id) for v in named]
    release = lake.store(RELEASE, [("", pa.Table.from_pylist(rows))], KEY)
    page = store("report_page", "with the studies", scoreboard=boards[measured].content_id)
    lake.propose([page])
    lake.approve([page])
    with lake.reading() as reading:
        assert Served(releases, releases.manifest(release.id), reading).page() == shown


def test_an_entry_of_the_log_is_one_line_however_narrow_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = Releases(Lake(tmp_path / "lake"))
    first = put(releases, 1)
    put(releases, 2)
    why = " ".join(["the lists of the season before were the better ones"] * 3)
    releases.rollback(why=why)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "40")
    lines = CliRunner().invoke(cli.app, ["releases", "--log"]).stdout.splitlines()
    assert sum(why in line and first[:12] in line for line in lines) == 1


def test_the_beginning_of_an_id_must_name_one_release(releases: Releases) -> None:
    first = put(releases, 1)
    assert releases.resolve(first[:12]) == first
    put(releases, 2)
    with pytest.raises(ReleaseError, match="2 releases begin with ''"):
        releases.resolve("")
    with pytest.raises(ReleaseError, match="no release begins"):
        releases.resolve("x")


def test_what_was_rolled_back_is_promoted_again_by_people_only(releases: Releases) -> None:
    first, second, third = (put(releases, n) for n in (1, 2, 3))
    releases.rollback(2, why="complaints")
    releases.unpin(why="the cause is not in the program")
    for value, release_id in ((2, second), (3, third)):
        assert put(releases, value) == release_id, "the next run makes and judges the same"
        assert "rolled back (complaints)" in releases.offer(release_id, "run")
    assert releases.state().live == first
    releases.promote(third, why="they were mistaken")
    put(releases, 4)
    releases.rollback(why="worse")
    assert releases.state().live == third
    assert [k.withdrawn for k in releases.state().known if k.release_id == third] == [""]


def test_a_rollback_serves_the_one_before_and_the_next_schedule_does_not_undo_it(
    lake: Lake, releases: Releases
) -> None:
    put(releases, 1)
    put(releases, 2)
    releases.rollback(why="complaints")
    assert shown(lake) == "1"
    third = put(releases, 3)
    assert shown(lake) == "1"
    assert "pinned (complaints)" in releases.offer(third, "run")
    releases.unpin(why="fixed")
    fourth = put(releases, 4)
    assert releases.state().live == fourth


def test_rolling_back_twice_goes_two_back_and_no_further_than_there_are(
    lake: Lake, releases: Releases
) -> None:
    for value in (1, 2, 3):
        put(releases, value)
    releases.rollback(2, why="")
    assert shown(lake) == "1"
    with pytest.raises(ReleaseError, match=r"0 earlier releases are kept\. `recsys releases`"):
        releases.rollback(why="")


def test_a_person_may_promote_what_the_gate_blocked_only_by_saying_so(
    lake: Lake, releases: Releases
) -> None:
    put(releases, 1)
    blocked = put(releases, 2, passed=False)
    with pytest.raises(ReleaseError, match="worse than before"):
        releases.promote(blocked, why="")
    releases.promote(blocked, why="known and accepted", anyway=True)
    assert shown(lake) == "2"
    entry = releases.state().log[-1]
    assert (entry.action, entry.why) == ("promoted against its gate", "known and accepted")


def test_while_frozen_nothing_is_promoted_but_a_rollback_works(
    lake: Lake, releases: Releases
) -> None:
    put(releases, 1)
    second = put(releases, 2)
    releases.freeze(why="sale")
    third = put(releases, 3)
    assert releases.state().live == second
    with pytest.raises(ReleaseError, match="frozen \\(sale\\)"):
        releases.promote(third, why="")
    releases.rollback(why="")
    assert shown(lake) == "1"


def test_a_verdict_against_something_no_longer_served_promotes_nothing(
    lake: Lake, releases: Releases
) -> None:
    first = put(releases, 1)
    late = make(lake, 2)
    releases.judged(Known(late, passed=True, against=first), "run")
    third = put(releases, 3)
    assert "judged against" in releases.offer(late, "run")
    assert releases.state().live == third


def test_who_is_a_number_where_the_user_has_no_name(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    releases.freeze(why="a container")
    assert releases.state().log[-1].who == "uid 54321"


def test_every_change_is_in_the_log_with_who_when_and_why(releases: Releases) -> None:
    put(releases, 1)
    put(releases, 2)
    releases.rollback(why="complaints")
    log = releases.state().log
    assert [e.action for e in log] == [
        "passed the gate", "promoted", "passed the gate", "promoted", "rolled back 1",
    ]  # fmt: skip
    assert all(e.who and pd.Timestamp(e.at).tzinfo for e in log)
    assert log[-1].why == "complaints"


def test_a_release_with_a_missing_or_altered_file_is_never_served(
    lake: Lake, releases: Releases
) -> None:
    put(releases, 1)
    bad = make(lake, 2)
    releases.judged(Known(bad, passed=True, against=releases.state().live), "run")
    named = releases.manifest(bad).tables["recommendations"][0]
    path = lake.object_path(lake.version(named).files[0].sha256, "parquet")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(CorruptFileError, match="was altered"):
        releases.offer(bad, "run")
    path.unlink()
    with pytest.raises(CorruptFileError, match="missing"):
        releases.promote(bad, why="")
    assert shown(lake) == "1"


def test_a_file_of_what_nobody_is_shown_is_measured_and_hashed_when_asked_for(
    lake: Lake, releases: Releases
) -> None:
    labels = lake.store("labels", [("", pa.table({"x": [1]}))], KEY)
    rows = [manifest.row("table", "labels", "", labels.content_id, labels.id)]
    release = lake.store(RELEASE, [("", pa.Table.from_pylist(rows))], KEY).id
    releases.check(release, deep=True)
    path = lake.object_path(labels.files[0].sha256, "parquet")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    releases.check(release)
    with pytest.raises(CorruptFileError, match="was altered"):
        releases.check(release, deep=True)
    path.write_bytes(content[:-1])
    with pytest.raises(CorruptFileError, match="missing or cut"):
        releases.check(release)


def test_the_verdict_on_a_kept_release_is_kept(lake: Lake, releases: Releases) -> None:
    verdict = lake.store("release_verdict", [("", pa.table({"x": [1]}))], KEY)
    releases.judged(Known(make(lake, 1), passed=True, verdict=verdict.id), "run")
    assert garbage(lake, releases.protected()).remove() == 0
    assert lake.intact(verdict.id) is not None


def test_nobody_goes_back_to_a_release_that_expired(releases: Releases) -> None:
    ids = [put(releases, value) for value in range(1, 5)]
    releases.forget(releases.expired(1), 1)
    assert releases.state().stack == ids[2:]
    with pytest.raises(ReleaseError, match="1 earlier releases"):
        releases.rollback(2, why="")


def test_a_pin_goes_with_the_release_that_it_held(releases: Releases) -> None:
    first, second, third = (put(releases, value) for value in (1, 2, 3))
    releases.rollback(why="complaints")
    before = releases.state()
    assert releases.replace(before, {}, {third: "damaged"}, "forget", str) == second
    assert releases.state().pinned == "complaints"
    with pytest.raises(ReleaseError, match="just changed"):
        releases.replace(before, {}, {second: "damaged"}, "forget", str)
    before = releases.state()
    assert releases.replace(before, {}, {second: "damaged"}, "forget", str) == first
    assert releases.state().pinned == "", "or nothing would ever be promoted again"


def test_retention_keeps_what_is_served_and_what_was_served_before(
    lake: Lake, releases: Releases
) -> None:
    ids = [put(releases, value) for value in range(1, 6)]
    releases.rollback(3, why="")  # live is 2, pinned; before it 1
    gone = releases.expired(1)
    assert gone == ids[2:4]
    after = releases.without(gone)
    releases.forget(gone, 1)
    assert releases.state().known == after.known
    assert garbage(lake, releases.protected()).remove() > 0
    assert [k.release_id for k in releases.state().known] == [ids[0], ids[1], ids[4]]
    for kept in (ids[0], ids[1], ids[4]):
        releases.check(kept, deep=True)
    releases.rollback(why="")
    assert shown(lake) == "1"


def test_what_is_served_again_meanwhile_does_not_expire(lake: Lake, releases: Releases) -> None:
    ids = [put(releases, value) for value in range(1, 5)]
    gone = releases.expired(1)
    assert gone == ids[:2]
    releases.rollback(3, why="complaints")
    with pytest.raises(ReleaseError, match="just changed"):
        releases.forget(gone, 1)
    assert shown(lake) == "1"


def test_a_manifest_reads_back_what_was_written() -> None:
    rows = [
        manifest.row("table", "raw", "2024-01-02", "content", "b"),
        manifest.row("table", "raw", "2024-01-01", "content", "a"),
        manifest.row("metric", "ndcg@10 all", "", repr(0.1 + 0.2)),
        manifest.row("library", "numpy", "", "2.4.6"),
    ]
    read = Manifest.read("r", pd.DataFrame(rows))
    assert set(read.tables["raw"]) == {"a", "b"}
    assert read.metrics == {"ndcg@10 all": 0.1 + 0.2}
    assert read.libraries == {"numpy": "2.4.6"}


CHANGE = """
import sys
from pathlib import Path
from recsys_assets.core.lake import Lake
from recsys_assets.publishing.releases import Releases
releases = Releases(Lake(Path(sys.argv[1])))
if sys.argv[2] == "rollback":
    releases.rollback(why="")
else:
    releases.promote(sys.argv[3], why="")
"""


def change(root: Path, *arguments: str, kill_at: int = 0) -> "subprocess.Popen[bytes]":
    """Start a promote or rollback in a process of its own, killed at its n-th fsync or rename."""
    strace = [
        "/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,rename",
        "-e", f"inject=fsync,rename:signal=SIGKILL:when={kill_at}",
    ]  # fmt: skip
    return subprocess.Popen(
        [*(strace if kill_at else []), sys.executable, "-c", CHANGE, str(root), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_killed_at_any_fsync_or_rename_a_complete_release_is_served(
    lake: Lake, releases: Releases, action: str
) -> None:
    if not Path("/usr/bin/strace").exists():
        pytest.skip("strace is not installed: apt-get install strace")
    first, second = put(releases, 1), put(releases, 2)
    third = make(lake, 3)
    releases.judged(Known(third, passed=True), "run")
    wanted = third if action == "promote" else first
    for nth in range(1, 9):
        code = change(lake.root, action, third, kill_at=nth).wait()
        state = releases.state()
        assert state.live in (second, wanted), f"killed at {nth}"
        assert len(state.log) == (5 if state.live == second else 6), "a change without its log line"
        releases.check(state.live, deep=True)
        lake.sweep()
        assert not list((lake.root / "tmp").iterdir())
        if code == 0 or state.live == wanted:
            break
    assert nth > 1, "nothing was killed"
    assert releases.state().live == wanted


def test_two_promotes_at_once_end_in_one_of_them_and_both_are_in_the_log(
    lake: Lake, releases: Releases
) -> None:
    put(releases, 1)
    rivals = [make(lake, value) for value in (2, 3)]
    for release_id in rivals:
        releases.judged(Known(release_id, passed=True), "run")
    racing = [change(lake.root, "promote", release_id) for release_id in rivals]
    assert [process.wait() for process in racing] == [0, 0]
    state = releases.state()
    assert sorted(state.stack[1:]) == sorted(rivals)
    assert [e.action for e in state.log].count("promoted by hand") == 2


def indexed(project: Project) -> dict[str, str]:
    """Two releases served one after the other, the alias untouched: release -> its index."""
    releases = Releases(project.lake)
    shelf, index_of = shop.shelf(), {}
    for count in (4, 5):
        objects = shelf.take(list(range(count)))
        release = shop.release_of(objects)
        with closing(stores.open_index(project)) as index:
            index.build(release, objects)
        texts = {"texts": {stores.RELEASE: release.id}}
        table = pa.table({"n": [count]})
        named = releases.lake.store("vector_index", [("", table)], KEY, report=lambda t=texts: t)
        rows = [manifest.row("table", named.asset, "", named.content_id, named.id)]
        made = releases.lake.store(RELEASE, [("", pa.Table.from_pylist(rows))], KEY).id
        releases.judged(Known(made, passed=True), "run")
        releases.promote(made, why="")
        index_of[made] = release.id
    return index_of


def test_a_promotion_killed_before_the_alias_moved_is_told_and_finished_by_the_same_command(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_HOME", project.home)
    monkeypatch.setenv("RECSYS_SHOP", project.shop_file)
    index_of, releases = indexed(project), Releases(project.lake)
    first, second = index_of
    stores.activate(project, index_of[first])
    (told,) = doctor.release(project, deep=False)
    assert told.level == "error"
    assert f"names {index_of[first]}" in told.what and second[:12] in told.what
    assert f"--activate {index_of[second]}" in told.remedy
    before = releases.state()
    commands.promote(second)
    assert releases.state() == before, "it was served already"
    assert stores.active(project) == index_of[second]
    assert list(doctor.release(project, deep=False)) == []
    stores.drop(project, [index_of[first]])
    releases.rollback(why="complaints")
    told = next(doctor.release(project, deep=False))
    assert told.level == "warning" and "kept no longer" in told.remedy


def test_a_rollback_that_was_cut_off_before_it_said_so_goes_no_further_back_when_it_is_repeated(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_HOME", project.home)
    monkeypatch.setenv("RECSYS_SHOP", project.shop_file)
    releases = Releases(project.lake)
    first, second, third, fourth = (put(releases, value) for value in (1, 2, 3, 4))

    def rollback() -> str:
        with commands.out.capture() as got:
            commands.rollback(why="complaints")
        return got.get()

    releases.rollback(why="complaints")  # so far a command came that was killed then
    assert "was cut off" in (said := rollback()) and fourth[:12] in said and third[:12] in said
    assert releases.state().live == third
    assert "was cut off" not in rollback(), "it was told now: this one is another"
    assert releases.state().live == second
    releases.rollback(why="complaints")
    for release in (fourth, first):
        releases.promote(release, why="served again since")
    assert "was cut off" not in rollback()
    assert releases.state().live == fourth


def test_of_two_changes_at_once_the_alias_of_the_index_names_what_is_served_at_last(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases, releases_of = Releases(project.lake), indexed(project)

    def back() -> None:
        releases.rollback(why="complaints")
        assert alias.follow(project) == ""

    other = threading.Thread(target=back)

    def late(project: Project, release_id: str) -> None:
        if not other.ident:  # who promoted is about to name its release: now somebody rolls back
            other.start()
            other.join(0.2)
        stores.activate(project, release_id)

    monkeypatch.setattr(alias, "activate", late)
    assert alias.follow(project) == ""
    other.join()
    assert stores.active(project) == releases_of[releases.state().live]
    first, second = releases_of
    assert releases.state().live == first
    releases.promote(second, why="")
    assert alias.follow(project) == ""
    stores.drop(project, [releases_of[first]])
    releases.rollback(why="")
    assert alias.follow(project).startswith(
        f"the vector index of this release, {releases_of[first]}, is kept no longer"
    )


def test_the_history_in_the_ui_says_who_did_what_when_and_why_newest_first(
    releases: Releases,
) -> None:
    first, _ = put(releases, 1), put(releases, 2)
    releases.rollback(1, why="complaints")
    newest, *older = (r.data for r in history(releases.state()).records)
    assert (newest["what"], newest["why"]) == ("rolled back 1", "complaints")
    assert newest["release"] == first[:12]
    assert [r["at (UTC)"] for r in older] == sorted((r["at (UTC)"] for r in older), reverse=True)
    assert history(State()).records == []


def test_the_history_of_releases_can_be_read_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setattr(commands, "out", Console(width=80))
    releases = Releases(Lake(tmp_path / "lake"))
    first, blocked = put(releases, 1), put(releases, 2, passed=False)
    commands.releases()
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert [row for row in rows if row] == [
        [first[:12], "day 1", "", "passed", "served"],
        [blocked[:12], "day 2", "", "blocked", ""],
    ]
    assert lines[-1] == f"{blocked[:12]}: worse than before"


def test_status_counts_from_when_a_release_was_served_and_says_what_holds_the_next(
    releases: Releases,
) -> None:
    def status() -> str:
        with commands.out.capture() as got:
            commands.print_served(releases.lake, commands.out)
        return " ".join(got.get().split())

    with time_machine.travel("2026-05-01T00:00Z", tick=False):
        first = put(releases, 1)
    with time_machine.travel("2026-05-01T06:00Z", tick=False):
        releases.freeze(why="the sale")
        second = put(releases, 2)
        assert f"release {first[:12]}, data up to day 1, for 6.0 hours." in status()
        assert f"{second[:12]}, is not: releases are frozen (the sale)" in status()
        releases.unfreeze(why="")
        releases.promote(second, why="")
        releases.rollback(1, why="bad")
        assert "for 0.0 hours." in status() and "is not: it was rolled back (bad)" in status()
    with time_machine.travel("2026-05-01T05:00Z", tick=False):
        assert "since 2026-05-01T06:00:00+00:00, which is still to come by this" in status()


def test_promoting_against_the_gate_needs_to_say_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    releases = Releases(Lake(tmp_path / "lake"))
    put(releases, 1, passed=False)
    with pytest.raises(ReleaseError, match="name the one you mean"):
        commands.promote(anyway=True)
    assert releases.state().live == ""
