"""What is kept no longer, in every store of a home: told first, then removed, exactly that.

`plan` looks and changes nothing; its steps are the dry run, and `remove` of each is the real thing.
It runs by itself as the job `retention` and by hand as `recsys retention`, under the lake's lock:
no run works meanwhile, and no erasure.

Belongs here: which stores there are, and the order. Does not belong here: what may go from a store
(the store says), and limits (the sections `retention`, `releases` and `index` of the shop file).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree

import dagster as dg

from dagster_project import history
from recsys_assets.core.assets import Project
from recsys_assets.core.erasures import FOLDER, Erasures
from recsys_assets.core.garbage import garbage
from recsys_assets.core.lake import LakeError, NotApprovedError
from recsys_assets.enrichment import claude
from recsys_assets.indexing import stores
from recsys_assets.indexing.contract import VectorIndexError
from recsys_assets.indexing.tables import VECTOR_INDEX
from recsys_assets.ingestion.files import ledger_of
from recsys_assets.language_model.kept import Answers
from recsys_assets.publishing.releases import PATIENCE, SHORT, Releases, State

JOB = "retention"


@dataclass(frozen=True)
class Step:
    """What goes from one store. `names`: ids, where people know them; `note`: why nothing can be
    said about this store now."""

    store: str
    count: int
    bytes: int
    remove: Callable[[], None]
    names: tuple[str, ...] = ()
    note: str = ""


def plan(
    project: Project,
    instance: dg.DagsterInstance | None,
    checks: Sequence[dg.AssetCheckKey],
    now: datetime,
) -> list[Step]:
    """What goes from each store. To be called, and removed, while holding the lake.

    instance: Dagster's storage, None when there is none. checks: those of the code as it is.
    Raises LakeError while an erasure is unfinished: it still needs what would go.
    """
    if Erasures(Path(project.home) / FOLDER).pending():
        raise LakeError(
            "an erasure is not finished, and it needs the old tables to know whom it is about: run "
            "`recsys forget --reapply` first (docs/erasure.md)"
        )
    releases, keep = Releases(project.lake), project.shop.releases.keep
    gone = releases.expired(keep)
    after = releases.without(gone)
    steps = [
        *_lake(releases, gone, after, keep),
        _index(project, releases, after),
        _parts(Path(project.home)),
        _delivered(project, now),
        _answers(project, now),
    ]
    if instance is not None:
        steps.append(_runs(instance, checks, now - timedelta(project.shop.retention.runs_days)))
    return steps


def job(checks: Sequence[dg.AssetCheckKey]) -> dg.JobDefinition:
    """What the schedule starts. It holds the lake like any run; what goes is in its log."""

    @dg.op(name="remove")
    def remove(context: dg.OpExecutionContext, project: Project) -> None:
        """Removes what is kept no longer, store by store."""
        for step in plan(project, context.instance, checks, datetime.now(UTC)):
            step.remove()
            context.log.info(in_words(step))

    @dg.job(
        name=JOB,
        description="Removes what is kept no longer (docs/operations.md#retention).",
        executor_def=dg.in_process_executor,
    )
    def whole() -> None:
        remove()

    return whole


def in_words(step: Step) -> str:
    """One line about a step."""
    names = f" ({', '.join(step.names)})" if step.names else ""
    note = f"; not looked at: {step.note}" if step.note else ""
    return f"{step.store}: {step.count:,}{names}, {step.bytes / 1e6:,.1f} MB{note}"


def _lake(releases: Releases, gone: list[str], after: State, keep: int) -> Iterator[Step]:
    def forget() -> None:
        if gone:
            releases.forget(gone, keep)

    yield Step("releases", len(gone), 0, forget, tuple(r[:SHORT] for r in gone))
    found = garbage(releases.lake, releases.protected(after))

    def remove() -> None:
        if found.manifests or found.objects:
            with releases.lake.undisturbed(PATIENCE):
                found.remove()

    yield Step("versions of tables", len(found.manifests), found.bytes, remove)


def _index(project: Project, releases: Releases, after: State) -> Step:
    try:
        ids, size = stores.unnamed(project, _named_indexes(releases, after))
    except VectorIndexError as error:
        return Step("releases of the vector index", 0, 0, lambda: None, note=str(error))

    def remove() -> None:
        if ids:
            stores.drop(project, ids)

    return Step("releases of the vector index", len(ids), size, remove, tuple(ids))


def _named_indexes(releases: Releases, state: State) -> set[str]:
    """Index releases that a kept release, or a pointer of the lake, names."""
    lake, name = releases.lake, VECTOR_INDEX.name
    versions = {v for e in lake.entries(name).values() for v in (e.candidate, e.current) if v}
    for known in state.known:
        versions.update(releases.manifest(known.release_id).tables.get(name, ()))
    return {stores.release_of(lake.of_version(lake.version(v))) for v in versions}


def _parts(home: Path) -> Step:
    """Indexes that a run made for itself and, killed, did not remove."""
    found = sorted((home / "index_parts").glob("*"))
    size = sum(p.stat().st_size for folder in found for p in folder.rglob("*") if p.is_file())

    def remove() -> None:
        for folder in found:
            rmtree(folder)

    return Step("indexes of killed runs", len(found), size, remove)


def _delivered(project: Project, now: datetime) -> Step:
    before = now - timedelta(project.shop.retention.replaced_days)
    ledger = ledger_of(Path(project.home))
    found = ledger.replaced(before)

    def remove() -> None:
        if found:
            ledger.drop_replaced(before)

    return Step("replaced deliveries", len(found), sum(found.values()), remove)


def _answers(project: Project, now: datetime) -> Step:
    before = now - timedelta(project.shop.retention.answers_days)
    answers = Answers(Path(project.home), lambda: now)
    idle = answers.idle(before)
    if any(found.task in (claude.NAME, "") for found in idle.values()):
        asked = _still_asked(project)
        if asked is None:
            idle = {k: found for k, found in idle.items() if found.task not in (claude.NAME, "")}
        else:
            idle = {k: found for k, found in idle.items() if k not in asked}
    size = sum(found.bytes for found in idle.values())

    def remove() -> None:
        if idle:
            answers.drop(idle, before)

    return Step("answers of the language model", len(idle), size, remove)


def _still_asked(project: Project) -> frozenset[str] | None:
    """Keys of the questions about items of the catalogue; None without a catalogue."""
    try:
        items = project.lake.served("items").to_pandas()
    except NotApprovedError:
        return None
    return claude.keys(items, project.shop.language_model)


def _runs(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], before: datetime
) -> Step:
    old = history.old_runs(instance, checks, before)
    size = sum(run.bytes for run in old)
    return Step("runs, with events and logs", len(old), size, lambda: history.delete(instance, old))
