"""A forgotten user is in no store any more, the others are as they were, and a search says so."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dagster_project.definitions import gated_assets
from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.erasures import ErasureError, Erasures
from recsys_assets.core.lake import BusyError, Lake
from recsys_assets.erasure import forget as forgetting
from recsys_assets.erasure import retained, search, tables, texts
from recsys_assets.erasure.forget import Outcome, forget
from recsys_assets.erasure.names import Names
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.publishing.releases import Manifest, Releases
from recsys_assets.publishing.serving import Served
from tests.erasure.home import GONE, NOW, build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that every test has a copy of."""
    folder = tmp_path_factory.mktemp("built") / "shop"
    build(folder)
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Project:
    place = shutil.copytree(built, tmp_path / "shop")
    return Project(home=str(place / "home"), shop_file=str(place / "shop.yaml"))


def erase(project: Project, *users: str, dry_run: bool = False, anyway: bool = False) -> Outcome:
    graph = gated(project.shop_file)
    return forget(project, graph, users, "asked", NOW, dry_run=dry_run, anyway=anyway)


_graph: list[GatedAsset] = []


def gated(shop_file: str) -> list[GatedAsset]:
    """The graph's tables: the same for every shop of these tests, so declared once."""
    if not _graph:
        _graph.extend(gated_assets(Project(home="", shop_file=shop_file)))
    return _graph


def release_tables(lake: Lake, manifest: Manifest) -> dict[str, pa.Table]:
    """Every table of a release, as one."""
    releases = Releases(lake)
    return {n: releases.table(manifest, n).to_arrow() for n in manifest.tables}


def others(table: pa.Table) -> pa.Table:
    """The rows that are not the forgotten user's."""
    for name in ("user_id", "id"):
        if name in table.column_names:
            table = table.filter(pc.fill_null(pc.not_equal(table[name], GONE), True))
    return table


def contents(home: Path) -> dict[str, bytes]:
    skipped = ("lake/log", "lake/locks", "lake/releases.json", "erasure", "spill")
    return {
        name: p.read_bytes()
        for p in home.rglob("*")
        if p.is_file()
        and not (name := p.relative_to(home).as_posix()).startswith(skipped)
        and not name.endswith((".db", "-wal", "-shm"))
    }


def test_nothing_of_a_forgotten_user_is_left_and_others_rows_are_what_they_were(
    project: Project,
) -> None:
    lake, releases = project.lake, Releases(project.lake)
    before = releases.state()
    old = [release_tables(lake, releases.manifest(k.release_id)) for k in before.known]
    pointers = {a: lake.entries(a) for a in lake.assets()}
    found = erase(project, GONE)
    assert found.proved, found.searched
    grep = subprocess.run(["grep", "-rlaF", GONE, project.home], capture_output=True, check=False)
    assert grep.stdout == b""

    after = releases.state()
    assert len(after.known) == len(after.stack) + 1 == 2
    assert after.pinned == "[erased] complained"
    assert not {k.release_id for k in after.known} & {k.release_id for k in before.known}
    for known, was in zip(after.known, old, strict=True):
        releases.check(known.release_id, deep=True)
        now = release_tables(lake, releases.manifest(known.release_id))
        for name in ("interactions", "recommendations", "items", "als_factors"):
            assert now[name].equals(others(was[name])), name
        landed = now["landed_rows"]
        kept = landed.filter(pc.is_valid(landed["user_id"]))
        assert kept.equals(
            others(was["landed_rows"]).filter(pc.is_valid(others(was["landed_rows"])["user_id"]))
        )
        assert landed.num_rows == was["landed_rows"].num_rows
        gone = landed.filter(pc.equal(landed["reject_reason"], "erased"))
        assert sorted(gone["row"].to_pylist()) == [2, 4]
        assert now["quarantine"].num_rows == now["examples"].num_rows == 0
        assert now["rejected_entities"]["reject_reason"].to_pylist() == ["erased"]
        assert "soup" not in now["report_page"]["html"][0].as_py()
    verdict = lake.of_version(lake.version(after.known[0].verdict)).to_pandas().iloc[0]
    assert verdict["release_id"] == after.known[0].release_id
    assert verdict["text"] == "golden user [erased] has a list"

    for asset, entries in pointers.items():
        new = lake.entries(asset)
        assert {p: e.verdict for p, e in new.items()} == {p: e.verdict for p, e in entries.items()}
    assert lake.entries("interactions")[""].reasons == ("user [erased] came twice",)
    assert lake.entries("items") == pointers["items"]  # nothing of them in it: as it was
    lists, known_user = Served.open(lake).lists("bob")
    assert known_user and len(lists) == 1
    with pytest.raises(Exception, match="popular_recommendations"):  # as somebody unknown
        Served.open(lake).lists(GONE)


@pytest.mark.parametrize("user_id", ["items", "null", "true", "table"])
def test_an_id_that_is_an_ordinary_word_leaves_everything_else_as_it_was(
    project: Project, user_id: str
) -> None:
    home = Path(project.home)
    before = {n: b for n, b in contents(home).items() if not n.startswith("lake/")}
    found = erase(project, user_id, anyway=True)
    assert found.proved and not found.texts and not found.moved.releases_lost
    assert set(found.rows) == {"examples", "report_page"}, "which go with anybody"
    assert {n: b for n, b in contents(home).items() if not n.startswith("lake/")} == before


def test_what_a_release_consists_of_is_never_taken_for_a_user(project: Project) -> None:
    lake, release = project.lake, project.lake.candidates("release")[0]
    rows = pa.table({"kind": ["table"], "name": ["sales-2"], "value": ["by sales-2"]})
    version = lake.store("release", [("", rows)], release.key)
    redactor = tables.Redactor(lake, Names(["sales-2"]), "", {})
    (row,) = lake.of_version(redactor.redacted(version)).to_arrow().to_pylist()
    assert row == {"kind": "table", "name": "sales-2", "value": "by [erased]"}


def test_a_redacted_table_is_made_again_and_landed_rows_are_not(project: Project) -> None:
    lake = project.lake
    landed = {f.part: f.key for f in lake.candidates("landed_rows")[0].files}
    erase(project, GONE)
    assert lake.candidates("landed_rows")[0].key.inputs == {"x": "y"}
    assert {f.part: f.key for f in lake.candidates("landed_rows")[0].files} == landed
    assert set(lake.candidates("recommendations")[0].key.inputs) == {"x", "erased"}
    assert lake.candidates("items")[0].key.inputs == {"x": "y"}
    keys = {f.part: f.key for f in lake.candidates("als_factors")[0].files}
    assert keys == {"a": "", "b": "key of b"}


def test_a_dry_run_counts_and_changes_nothing(project: Project) -> None:
    before = contents(Path(project.home))
    found = erase(project, GONE, dry_run=True)
    assert contents(Path(project.home)) == before
    assert not Erasures(Path(project.home) / "erasure").hashes()
    assert set(found.learned) <= set(project.lake.assets()), "what was never made is not named"
    done = erase(project, GONE)
    assert {n: r for n, r in found.rows.items() if r} == {n: r for n, r in done.rows.items() if r}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('examples: {users: ["70003"]}', True),
        ('releases: {gate: {golden_users: ["70003"]}}', True),
        ("ranker: {all: {rounds: 70003}}", False),
    ],
)
def test_a_number_that_the_shop_file_lists_as_a_user_is_told(
    project: Project, line: str, named: bool
) -> None:
    file = Path(project.shop_file)
    file.write_text(f"{file.read_text('utf-8')}{line}\n", encoding="utf-8")
    told = forget(
        Project(home=project.home, shop_file=project.shop_file), gated(project.shop_file),
        ["70003"], "asked", NOW, dry_run=True, anyway=True,
    )  # fmt: skip
    assert told.named_in_shop == named


def test_a_release_that_cannot_be_redacted_is_deleted_and_named(project: Project) -> None:
    lake, releases = project.lake, Releases(project.lake)
    served, newest = releases.state().live, releases.state().known[-1].release_id
    (version,) = releases.manifest(served).tables["interactions"]
    file = lake.version(version).files[0]
    lake.object_path(file.sha256, "parquet").write_bytes(b"damaged")
    found = erase(project, GONE)
    assert found.proved
    assert set(found.moved.releases_lost) == {served}
    assert "was altered" in found.moved.releases_lost[served]
    state = releases.state()
    assert [e.before for e in state.log if e.action == "redacted"] == [newest]
    assert len(state.known) == 1 and served not in state.stack


def test_a_restored_backup_is_redacted_again_from_the_ledger_alone(
    project: Project, tmp_path: Path
) -> None:
    home = Path(project.home)
    shutil.copytree(home, tmp_path / "backup")
    erase(project, GONE)
    shutil.copytree(home / "erasure", tmp_path / "apart")
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)
    erasures = Erasures(home / "erasure")
    assert erasures.take_over(tmp_path / "apart") == 1
    found = erase(project)
    assert found.users == 1 and found.proved
    assert subprocess.run(["grep", "-rqaF", GONE, str(home)], check=False).returncode == 1


def nothing(*_: object, **__: object) -> int:
    return 0


@pytest.mark.parametrize(
    ("module", "name", "instead", "where"),
    [
        (texts, "quiet_base", nothing, "runs.db"),
        (texts, "quiet_text", nothing, "alerts.jsonl"),
        (forgetting, "blanker", lambda shop, home: None, "arrivals/files"),
        (retained.Retained, "delete", nothing, "lake/objects"),
        (tables.Redactor, "redacted", lambda self, version: version, "column user_id"),
    ],
)  # fmt: skip
def test_a_store_that_is_left_out_is_found_by_the_search(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    instead: Callable[..., object],
    where: str,
) -> None:
    monkeypatch.setattr(module, name, instead)
    found = erase(project, GONE)
    assert not found.proved and found.searched is not None
    assert any(where in str(left) for left in found.searched.left), found.searched.left
    assert Erasures(Path(project.home) / "erasure").pending()
    monkeypatch.undo()
    assert erase(project, GONE).proved


def test_a_file_named_after_a_user_is_told_and_the_record_of_arrivals_stays_whole(
    project: Project,
) -> None:
    home = Path(project.home)
    (home.parent / f"sales.{GONE}.csv").write_text("user_id,item_id,event_time\n", "utf-8")
    ledger, (inbox,) = ledger_of(home), inboxes_of(project.shop)
    ledger.accept(inbox, NOW)
    before = ledger.arrivals()
    found = erase(project, GONE)
    assert not found.proved and found.searched is not None
    (left,) = found.searched.left
    assert (left.file, left.times) == ("arrivals/ledger.jsonl", 1)
    assert "rename the file" in left.where
    assert ledger.arrivals() == before and not ledger.problems()


def test_a_mention_in_somebody_elses_row_goes_when_the_file_is_delivered_again(
    project: Project,
) -> None:
    home, folder = Path(project.home), Path(project.shop_file).parent
    (inbox,), kept = inboxes_of(project.shop), home / "arrivals" / "files"
    items = folder / "items.csv"
    for text in (f"friend of {GONE}", "b"):
        items.write_text(f"item_id,title\ni1,a\ni2,{text}\n", encoding="utf-8")
        (came,) = ledger_of(home).accept(inbox, NOW).accepted
        found = erase(project, GONE)
        assert found.searched is not None
        left = [(Path(x.file).stem, x.where) for x in found.searched.left]
        if text != "b":
            assert left == [(came.sha256, search._MENTIONED)]
    assert found.proved and not left
    assert {p.stem for p in kept.rglob("*.csv")} >= {a.sha256 for a in ledger_of(home).active()}


def test_a_file_that_nobody_can_read_is_told_by_its_name_and_keeps_the_erasure_open(
    project: Project,
) -> None:
    home, folder = Path(project.home), Path(project.shop_file).parent
    (inbox,) = inboxes_of(project.shop)
    rows = f"{GONE},i1,2026-01-02\nb,i1,2026-01-02\n"
    for header in ("", "user_id,item_id,event_time\n"):
        (folder / "sales2.csv").write_text(header + rows, encoding="utf-8")
        ledger_of(home).accept(inbox, NOW)
        found = erase(project, GONE)
        assert found.searched is not None
        assert found.proved is bool(header)
        assert [*found.unreadable] == ([] if header else ["sales2.csv"])
    assert "no column 'user_id'" in found.removed["sales2.csv"]
    assert not any(GONE in p.read_text() for p in (home / "arrivals" / "files").rglob("*.csv"))


def test_a_kept_file_that_the_record_of_arrivals_does_not_name_is_told(project: Project) -> None:
    home = Path(project.home)
    ledger = ledger_of(home)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    (sales,) = [a for a in ledger.active() if a.name == "sales.csv"]
    rest = [x for x, a in zip(lines, ledger.arrivals(), strict=True) if a != sales]
    ledger.path.write_bytes(b"".join(rest))  # restored from an older copy
    ledger.archived(sales).write_text(
        "user_id,item_id,event_time\nfan17,i1,2026-01-01\n", encoding="utf-8"
    )
    found = erase(project, GONE)
    assert not found.proved and found.searched is not None
    (left,) = found.searched.left
    assert left.file.endswith(ledger.archived(sales).name) and "no line of the record" in left.where
    ledger.archived(sales).unlink()
    assert erase(project, GONE).proved


@pytest.mark.parametrize("folder", ["index", "index_parts/als_202601010000"])
def test_an_array_whose_bytes_look_like_an_id_is_not_rewritten(
    project: Project, folder: str
) -> None:
    array = Path(project.home) / folder / "files" / "vectors.npy"
    array.parent.mkdir(parents=True)
    array.write_bytes(b"\x00" + GONE.encode() + b"\x00")
    assert erase(project, GONE).proved
    assert array.read_bytes() == b"\x00" + GONE.encode() + b"\x00"


def test_a_run_that_works_is_not_disturbed(project: Project) -> None:
    before = contents(Path(project.home))
    with project.lake.exclusive("run 7"), pytest.raises(BusyError, match="run 7"):
        erase(project, GONE)
    assert contents(Path(project.home)) == before


def test_who_reads_the_old_release_reads_it_to_its_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PATIENCE", 0.1)
    reader = Served.open(project.lake)
    with pytest.raises(BusyError, match="still reads"):
        erase(project, GONE)
    assert reader.lists("bob")[1]  # files that it had not opened yet are still there
    del reader
    assert erase(project, GONE).proved


def attempt(place: Path, last: int) -> int:
    """Forget in the home at `place`, killed at this call (0: never); returns how many calls."""
    project = Project(home=str(place / "home"), shop_file=str(place / "shop.yaml"))
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        erase(project, GONE)
    return calls


def killed(place: Path, point: int) -> None:
    """Forget in the home at `place` in a fork that is killed at this call."""
    child = os.fork()
    if child == 0:
        try:
            attempt(place, point)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, point


def converges(template: Path, folder: Path, choose: Callable[[int], Iterable[int]]) -> None:
    """Kill at the points that are chosen from so many, look, forget again, look again."""
    earlier = Erasures(template / "home" / "erasure")  # one key for all copies
    earlier.done([earlier.ask("zoe", "", NOW)], NOW)
    undisturbed = shutil.copytree(template, folder / "at-0")
    points = choose(attempt(undisturbed, 0))
    whole = contents(undisturbed / "home")
    served = Releases(Lake(undisturbed / "home" / "lake")).state()
    for point in points:
        place = shutil.copytree(template, folder / f"at-{point}")
        killed(place, point)
        project = Project(home=str(place / "home"), shop_file=str(place / "shop.yaml"))
        lake, releases = project.lake, Releases(project.lake)
        releases.check(releases.state().live, deep=True)
        for known in releases.state().known:
            releases.check(known.release_id, deep=True)
        for asset in lake.assets():
            lake.served(asset).to_arrow()
        assert ledger_of(place / "home").problems() == [], point
        assert erase(project, GONE).proved, point
        assert contents(place / "home") == whole, point
        state = releases.state()
        assert (state.stack, state.known) == (served.stack, served.known), point
        ledger = (place / "home" / "erasure" / "ledger.jsonl").read_text(encoding="utf-8")
        kinds = [json.loads(line)["kind"] for line in ledger.splitlines()]
        assert kinds in (["asked", "done"] * 2, ["asked", "done"] * 3), point
        shutil.rmtree(place)


def test_forget_killed_at_a_sample_of_its_steps_is_finished_by_the_next(
    project: Project, tmp_path: Path
) -> None:
    """While copies are written, and twice while names move onto them."""
    template = Path(project.shop_file).parent
    converges(template, tmp_path, lambda calls: (calls // 4, calls * 2 // 3, calls * 5 // 7))


@pytest.mark.faults
def test_forget_killed_at_every_step_is_finished_by_the_next(
    project: Project, tmp_path: Path
) -> None:
    converges(Path(project.shop_file).parent, tmp_path, lambda calls: range(1, calls + 1))


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("user_id", ["ann-71", "", " "])
def test_an_id_that_nobody_has_is_refused_before_anything_changes(
    project: Project, user_id: str, dry_run: bool
) -> None:
    before = contents(Path(project.home))
    with pytest.raises(ErasureError, match=r"nobody has the id 'ann-71'|the id is empty"):
        erase(project, user_id, dry_run=dry_run)
    assert contents(Path(project.home)) == before
    assert not Erasures(Path(project.home) / "erasure").hashes()


def test_an_id_that_only_a_delivered_file_holds_is_erased(project: Project) -> None:
    home = Path(project.home)
    (home.parent / "sales2.csv").write_text("user_id,item_id,event_time\nkim-1,i1,2026-01-02\n")
    (inbox,) = inboxes_of(project.shop)
    ledger_of(home).accept(inbox, NOW)
    found = erase(project, "kim-1")
    assert found.proved and list(found.blanked.values()) == [1]


def test_a_reason_must_not_name_the_user_and_may_hold_the_id_within_a_word(tmp_path: Path) -> None:
    erasures = Erasures(tmp_path / "erasure")
    erasures.ask("a", "letter of May", NOW)
    for why in ("a wrote", "letter (a)"):
        with pytest.raises(ErasureError, match="must not name"):
            erasures.ask("a", why, NOW)


def test_nobody_to_erase_again_is_an_error(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ErasureError, match="--ledger FOLDER"):
        erase(project)
    with pytest.raises(ErasureError, match=r"elsewhere/ledger\.jsonl is not there"):
        Erasures(Path(project.home) / "erasure").take_over(tmp_path / "elsewhere")


def test_answers_about_people_go_with_the_notes_of_their_use_and_others_stay(
    tmp_path: Path,
) -> None:
    path = tmp_path / "language_model" / "answers.jsonl"
    path.parent.mkdir()
    lines = [
        {"key": "a", "problem": "", "content": {"queries": ["soup"], "avoid": []}},
        {"key": "b", "problem": "", "content": {"uses": ["soup"]}, "task": "enrichment"},
        {"key": "c", "problem": "", "content": {"sentence": "You bought it 3 times."}},
        {"key": "d", "problem": "refused", "content": None, "task": "explanation"},
        {"key": "e", "problem": "refused", "content": None, "task": "wish"},
        {"key": "a", "used": "2026-01-01"},
        {"key": "b", "used": "2026-01-01"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert texts.drop_answers(tmp_path, dry_run=True) == texts.drop_answers(tmp_path) == 4
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["b", "b"]
