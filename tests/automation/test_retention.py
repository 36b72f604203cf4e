"""What the dry run tells is what goes, byte for byte; the next call finds nothing; what is served
and pinned, and everything it names, is untouched."""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from dagster_project import retention
from dagster_project.retention import Step, plan
from recsys_assets.core.assets import Project
from recsys_assets.core.erasures import FOLDER, Erasures
from recsys_assets.core.lake import LakeError
from recsys_assets.enrichment import claude
from recsys_assets.indexing import stores
from recsys_assets.ingestion.files import inboxes_of, ledger_of
from recsys_assets.language_model.answer import Answer
from recsys_assets.language_model.kept import Answers
from recsys_assets.language_model.request import Facts, ItemText, Task, build
from recsys_assets.publishing import manifest
from recsys_assets.publishing.releases import RELEASE, SERVED, Known, Releases
from recsys_assets.ranking.phrasing import TASK as PHRASING
from recsys_assets.ranking.phrasing import Sentence
from tests.conftest import MINIMAL_SHOP
from tests.indexing.shop import crowd, release_of
from tests.stored import approved, stored

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return shop(tmp_path)


def shop(folder: Path) -> Project:
    text = MINIMAL_SHOP + "arrival: {settle_seconds: 0}\nreleases: {keep: 1}\n"
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    return Project(home=str(folder / "home"), shop_file=str(folder / "shop.yaml"))


def steps(project: Project, now: datetime = NOW) -> dict[str, Step]:
    return {s.store: s for s in plan(project, None, [], now)}


def going(project: Project, now: datetime = NOW) -> dict[str, tuple[int, int]]:
    """Store -> how many and how many bytes, of stores that something goes from."""
    return {s.store: (s.count, s.bytes) for s in plan(project, None, [], now) if s.count}


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- a home with something old in every store ----------------------------------------------------


def index(project: Project, n: int) -> str:
    objects = crowd(20, changed=range(n))
    store = stores.open_index(project)
    store.build(release_of(objects), objects, protect={r.id for r in store.releases()})
    store.close()
    return release_of(objects).id


def release(project: Project, n: int) -> str:
    """A release with an index of its own, judged and offered; returns its id."""
    lake, rows = project.lake, [manifest.row("fact", "as_of", "", f"day {n}")]
    found = index(project, n)
    report = {"texts": {stores.RELEASE: found}}
    for name in (*SERVED, "vector_index"):
        (version,) = approved(lake, name, pa.table({"item_id": [str(n)]}), report=report).versions
        rows.append(manifest.row("table", name, "", version.content_id, version.id))
    release_id = stored(lake, RELEASE, pa.Table.from_pylist(rows)).versions[0].id
    releases = Releases(lake)
    releases.judged(Known(release_id, True, [], against=releases.state().live), "run")
    assert releases.offer(release_id, "run") == ""
    stores.activate(project, found)
    return release_id


def deliver(project: Project, text: str, at: datetime, name: str = "interactions.csv") -> None:
    Path(project.shop_file).with_name(name).write_text(text, encoding="utf-8")
    (inbox,) = inboxes_of(project.shop)
    ledger_of(Path(project.home)).accept(inbox, at)


def catalogue(project: Project, *texts: str) -> pd.DataFrame:
    frame = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(texts))], "text": texts})
    frame = frame.assign(title=frame["text"], category_1="a", category_2="", category_3="")
    approved(project.lake, "items", frame)
    return frame


def paid(project: Project, texts: Sequence[str], at: datetime, *, task: Task | None = None) -> None:
    """Answers about items with these texts, last used `at`."""
    wanted = task or claude.task(claude.Vocabulary("", (), frozenset()))
    settings = project.shop.language_model
    requests = [
        build(wanted, ItemText(text, "a", "", text), settings.model, settings.effort)
        for text in texts
    ]
    empty = claude.Enrichment(
        audience=[], uses=[], comparable_types=[], keywords=[], appeal=[], complements=[]
    )
    Answers(Path(project.home), lambda: at).keep(
        {r.key: r for r in requests}, {r.key: Answer(empty) for r in requests}
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four releases, of which the second is served and pinned; a replaced delivery; an answer about
    an item that is gone; an index that a killed run left."""
    folder = tmp_path_factory.mktemp("built")
    project = shop(folder)
    for n in (1, 2, 3, 4):
        release(project, n)
    Releases(project.lake).rollback(2, why="complaints")
    stores.activate(project, release_of(crowd(20, changed=range(2))).id)
    deliver(project, "user_id,item_id,event_time\n", NOW - timedelta(days=60))
    deliver(project, "user_id,item_id,event_time\nu,i,2024-01-01\n", NOW - timedelta(days=50))
    catalogue(project, "soup", "bread")
    paid(project, ["soup", "a thing of the past"], NOW - timedelta(days=300))
    left = Path(project.home) / "index_parts" / "als_202601010000"
    left.mkdir(parents=True)
    (left / "vectors.npy").write_bytes(b"0" * 1000)
    return folder


@pytest.fixture
def old(built: Path, tmp_path: Path) -> Project:
    """That home, in a copy of its own."""
    return shop(shutil.copytree(built, tmp_path / "old"))


def test_the_dry_run_changes_no_byte_and_tells_exactly_what_then_goes(old: Project) -> None:
    home = Path(old.home)
    before = contents(home)
    told = going(old)
    assert contents(home) == before
    assert {store: count for store, (count, _) in told.items()} == {
        "releases": 1, "versions of tables": 7, "releases of the vector index": 1,
        "replaced deliveries": 1, "answers of the language model": 1, "indexes of killed runs": 1,
    }  # fmt: skip
    places = {
        "versions of tables": ["lake/objects", "lake/manifests"],
        "releases of the vector index": ["index"],
        "replaced deliveries": ["arrivals"],
        "answers of the language model": ["language_model"],
        "indexes of killed runs": ["index_parts"],
    }
    sizes = {store: sum(size(home / p) for p in found) for store, found in places.items()}
    for step in plan(old, None, [], NOW):
        step.remove()
    for store, found in places.items():
        assert sizes[store] - sum(size(home / p) for p in found) == told[store][1], store
    assert going(old) == {}


def test_what_is_served_pinned_and_could_be_gone_back_to_is_untouched(old: Project) -> None:
    releases = Releases(old.lake)
    state = releases.state()
    for step in plan(old, None, [], NOW):
        step.remove()
    after = releases.state()
    assert (after.live, after.pinned, after.stack) == (state.live, "complaints", state.stack)
    ids = [k.release_id for k in state.known]
    assert [k.release_id for k in after.known] == [ids[0], ids[1], ids[3]]
    named = []
    for known in after.known:
        releases.check(known.release_id, deep=True)
        table = releases.table(releases.manifest(known.release_id), "vector_index")
        named.append(stores.release_of(table))
    store = stores.open_index(old)
    assert sorted(r.id for r in store.releases()) == sorted(named)
    assert store.active() == named[1]
    store.close()
    assert [e.action for e in after.log][-1] == "expired"


def test_the_alias_keeps_its_index_though_no_release_names_it(project: Project) -> None:
    release(project, 1)
    stray = [index(project, n) for n in (5, 6)]
    stores.activate(project, stray[0])
    assert steps(project)["releases of the vector index"].names == (stray[1],)


def test_an_index_that_cannot_be_asked_is_named_and_the_rest_goes(old: Project) -> None:
    remote = old.model_copy(update={"vector_store": "weaviate"})
    found = steps(remote)
    assert "WEAVIATE_URL" in found["releases of the vector index"].note
    assert found["releases"].count == 1


# -- delivered files -----------------------------------------------------------------------------


def test_a_replaced_delivery_goes_when_it_was_replaced_long_ago_and_no_name_has_it(
    project: Project,
) -> None:
    first, second = "user_id,item_id,event_time\n", "user_id,item_id,event_time\na,b,2024-01-01\n"
    deliver(project, first, NOW - timedelta(days=90))
    deliver(project, second, NOW - timedelta(days=29))
    assert going(project) == {}, "replaced for 29 days only"
    later = NOW + timedelta(days=2)
    assert going(project, later) == {"replaced deliveries": (1, len(first))}
    deliver(project, first, NOW + timedelta(days=1))
    assert going(project, later) == {}, "it is the content of its name again"
    assert going(project, later + timedelta(days=31)) == {"replaced deliveries": (1, len(second))}
    steps(project, later + timedelta(days=31))["replaced deliveries"].remove()
    ledger = ledger_of(Path(project.home))
    assert len(ledger.arrivals()) == 3 and ledger.problems() == []
    (active,) = ledger.source_files()
    assert active.path.read_text() == first


# -- answers that were paid for ------------------------------------------------------------------


def test_an_answer_about_an_item_of_the_catalogue_stays_for_ever(project: Project) -> None:
    catalogue(project, "soup")
    paid(project, ["soup", "gone"], NOW - timedelta(days=4000))
    steps(project)["answers of the language model"].remove()
    settings = project.shop.language_model
    wanted = claude.task(claude.Vocabulary("", (), frozenset()))
    requests = {
        text: build(wanted, ItemText(text, "a", "", text), settings.model, settings.effort)
        for text in ("soup", "gone")
    }
    found = Answers(Path(project.home), lambda: NOW).get(list(requests.values()))
    assert list(found) == [requests["soup"].key]


def test_an_answer_of_a_retired_wording_or_model_goes_once_unused(project: Project) -> None:
    catalogue(project, "soup")
    now = claude.task(claude.Vocabulary("", (), frozenset()))
    retired = Task(now.name, "0", now.instructions, now.payload, now.answer)
    paid(project, ["soup"], NOW - timedelta(days=200), task=retired)
    paid(project, ["soup"], NOW - timedelta(days=200))
    (count, _) = going(project)["answers of the language model"]
    assert count == 1
    Path(project.shop_file).write_text(MINIMAL_SHOP + "language_model: {model: claude-next}\n")
    fresh = Project(home=project.home, shop_file=str(Path(project.shop_file)))
    from recsys_assets.core import assets

    assets._shop.cache_clear()
    assert going(fresh)["answers of the language model"][0] == 2


def test_without_a_catalogue_no_answer_about_an_item_goes(project: Project) -> None:
    paid(project, ["soup"], NOW - timedelta(days=4000))
    assert going(project) == {}


def test_an_answer_that_is_used_stays_and_its_use_is_noted_once_a_month(project: Project) -> None:
    settings = project.shop.language_model
    request = build(PHRASING, Facts("soup", ("bought 3 times",)), settings.model, settings.effort)
    home = Path(project.home)

    def at(days: int) -> Answers:
        return Answers(home, lambda: NOW + timedelta(days=days))

    at(0).keep({request.key: request}, {request.key: Answer(Sentence(sentence="Again?"))})
    path = home / "language_model" / "answers.jsonl"
    for days in (1, 29, 31, 40, 60):
        assert request.key in at(days).get([request])
    uses = [json.loads(line)["used"][:10] for line in path.read_text().splitlines()]
    assert uses == ["2026-06-01", "2026-07-02"]
    assert going(project, NOW + timedelta(days=200)) == {}
    told = going(project, NOW + timedelta(days=212))
    assert told == {"answers of the language model": (1, path.stat().st_size)}
    reader = at(1)
    assert reader.get([request])
    steps(project, NOW + timedelta(days=212))["answers of the language model"].remove()
    assert reader.get([request]) == {}, (
        "a process that had read the file sees that it was rewritten"
    )
    reader.keep({request.key: request}, {request.key: Answer(Sentence(sentence="Again?"))})
    assert request.key in at(1).get([request])


# -- the rules of the whole ----------------------------------------------------------------------


def test_while_an_erasure_is_unfinished_nothing_goes(old: Project) -> None:
    erasures = Erasures(Path(old.home) / FOLDER)
    name = erasures.ask("ann", "letter", NOW)
    with pytest.raises(LakeError, match="forget --reapply"):
        plan(old, None, [], NOW)
    erasures.done([name], NOW)
    assert going(old)


def test_the_job_removes_what_the_dry_run_told_and_holds_the_lake_like_any_run(
    old: Project,
) -> None:
    told = {s.store: s.count for s in plan(old, None, [], datetime.now(UTC))}
    assert sum(told.values()) > 5
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(jobs=[retention.job([])], resources={"project": old}).resolve_job_def(
            retention.JOB
        )
        with old.lake.exclusive("another run"):
            assert not job.execute_in_process(instance=instance, raise_on_error=False).success
        assert going(old), "a run that is refused removes nothing"
        assert job.execute_in_process(instance=instance).success
    left = plan(old, None, [], datetime.now(UTC))
    assert [s.store for s in left if s.count] == []


@pytest.mark.parametrize("dry", [True, False])
def test_the_command_says_how_many_and_how_much_per_store(
    old: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry: bool
) -> None:
    from dagster_project import resources
    from dagster_project.commands.retention import retention as command

    monkeypatch.setenv(resources.HOME, old.home)
    monkeypatch.setenv(resources.SHOP, old.shop_file)
    before = contents(Path(old.home) / "arrivals")
    command(dry_run=dry)
    text = capsys.readouterr().out
    assert ("would be freed" in text) == dry
    assert "releases of the vector index" in text
    assert (contents(Path(old.home) / "arrivals") == before) == dry
