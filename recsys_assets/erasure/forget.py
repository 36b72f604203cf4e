"""Forgetting users in a whole home, in the order that survives a kill, and proving it.

1. the ledger: from here on nothing of them is ingested;
2. texts: Dagster's storage, logs, alerts, answers kept by the language model's journal;
3. the lake: redacted copies, then what is served, then pointers (`erasure.retained`);
4. delivered files that are kept; 5. what nothing names any more is deleted; 6. the search.

A kill anywhere leaves everything readable; the same command again goes on. The old tables go last,
because from them the ids are known again when only the ledger's hashes are at hand (`--reapply`).

Belongs here: that order, and the report. Does not belong here: how any store is rewritten.
"""

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.erasures import FOLDER, WORKER, Erased, ErasureError, Erasures
from recsys_assets.core.lake import LakeError
from recsys_assets.core.settings.sources import FilesSource
from recsys_assets.erasure import texts
from recsys_assets.erasure.names import Names
from recsys_assets.erasure.retained import Moved, Retained
from recsys_assets.erasure.search import Delivered, Searched, found_in, search
from recsys_assets.erasure.tables import LANDED, Redactor
from recsys_assets.ingestion.blanking import blanker, rows_of
from recsys_assets.ingestion.files import files_source, ledger_of
from recsys_assets.ingestion.parsing import ERASED
from recsys_assets.ingestion.source import SourceError, open_source
from recsys_assets.publishing.releases import PATIENCE

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What was done (in a dry run: would be), and what is left."""

    users: int
    """found in the stores, or asked for"""
    rows: dict[str, int] = field(default_factory=dict)
    """table -> rows removed from all its versions"""
    moved: Moved = field(default_factory=Moved)
    texts: dict[str, int] = field(default_factory=dict)
    """file -> mentions replaced"""
    answers: int = 0
    """of the language model about what people did or typed, dropped"""
    blanked: dict[str, int] = field(default_factory=dict)
    """delivered file -> rows blanked"""
    unreadable: dict[str, str] = field(default_factory=dict)
    """delivered file -> why its rows cannot be told apart"""
    removed: dict[str, str] = field(default_factory=dict)
    """delivered file -> why a content of it that was replaced could not be read and went"""
    learned: list[str] = field(default_factory=list)
    """tables there are that were learned from everybody: the next run makes them again, those of
    the studies the next weekly one"""
    searched: Searched | None = None
    named_in_shop: bool = False

    @property
    def proved(self) -> bool:
        """Whether the search found nothing, and everything could be read."""
        return self.searched is not None and not self.searched.left and not self.unreadable


def forget(
    project: Project,
    gated: Sequence[GatedAsset],
    users: Collection[str],
    why: str,
    now: datetime,
    *,
    dry_run: bool = False,
    anyway: bool = False,
    say: Say = lambda text: None,
) -> Outcome:
    """Erase `users`, and everybody in the ledger whom the stores know again. See the module.

    Holds the lake: BusyError while a run works. ErasureError when the ledger has no key, when it
    knows nobody and nobody is named, and for an id that nobody has, unless `anyway`.
    """
    home, lake = Path(project.home), project.lake
    erasures = Erasures(home / FOLDER)
    if not all(user.strip() for user in users):
        raise ErasureError("the id is empty: say whom")
    if not users and not erasures.hashes():
        raise ErasureError(
            f"{erasures.path} knows of no erasure, so there is nobody to erase again. Name the "
            "ledger that you keep apart: --ledger FOLDER"
        )
    with lake.exclusive(WORKER):
        lake.sweep()
        texts.sweep(home)
        retained = Retained(lake)
        columns = {g.table.name: g.table.user_ids for g in gated if g.table.user_ids}
        looker = Redactor(lake, Names(users), "", columns)
        ids = _known_again(project, users, erasures, retained, looker, anyway)
        if not dry_run:
            for user in users:
                erasures.ask(user, why, now)
        names = Names(ids)
        mark = hashlib.sha256("".join(sorted(erasures.hashes())).encode()).hexdigest()
        redactor = Redactor(lake, names, mark, columns, places=set(_entity_places(project, ids)))
        kept = [name for name in learned(gated) if lake.entries(name)]
        outcome = Outcome(len(ids), learned=kept)
        shop = project.shop
        listed = {*shop.examples.users, *shop.releases.gate.golden_users}
        outcome.named_in_shop = bool(listed & ids) or names.count(shop.file.read_bytes()) > 0
        _quiet(home, names, outcome, dry_run)
        if dry_run:
            _count(retained, redactor, outcome)
            return outcome
        say("writing redacted copies")
        outcome.moved = retained.redact(redactor)
        outcome.rows = redactor.removed
        say("moving what is served, and every pointer")
        retained.swap(WORKER, names.replaced)
        blank = blanker(project.shop, home)
        if blank is not None:
            outcome.blanked, outcome.unreadable, outcome.removed = ledger_of(home).erase(
                blank, lambda path: any(found_in(path, names))
            )
        say("deleting the old files")
        retained.delete(PATIENCE)
        shutil.rmtree(home / "spill", ignore_errors=True)
        say("searching")
        outcome.searched = search(home, names, _delivered(project, ids))
        if outcome.proved:
            # Without a name, whoever is still pending is in no table and in no kept file.
            erasures.done([erasures.hash(i) for i in ids] if users else erasures.pending(), now)
    return outcome


def _known_again(
    project: Project,
    users: Collection[str],
    erasures: Erasures,
    retained: Retained,
    looker: Redactor,
    anyway: bool,
) -> set[str]:
    """`users`, and everybody in the ledger whom a table holds. ErasureError for one whom neither a
    table nor a delivered file holds, unless `anyway`."""
    ids = set(users)
    # Whom the ledger knows was in the tables once: an erasure that was killed goes on.
    strangers = set() if anyway else ids - erasures.among(ids)
    if strangers or erasures.hashes():
        for version in retained.versions():
            try:
                seen = set(looker.ids_of(version))
            except LakeError:
                continue  # cannot be read: `redact` names and drops it
            strangers -= seen
            ids |= erasures.among(seen)
    for user in sorted(strangers):
        delivered = _delivered(project, {user})
        if not any(delivered(path) for path in sorted(_kept(Path(project.home)))):
            raise ErasureError(
                f"nobody has the id {user!r}: no table and no delivered file holds it. Correct "
                "it, or say --anyway to look for it in texts and keep it out from now on"
            )
    return ids


def learned(gated: Sequence[GatedAsset]) -> list[str]:
    """Tables below the interactions that are about everybody at once: they hold no row of anyone,
    but what anyone did is in their numbers until they are made again."""
    below = {"interactions"}
    found = []
    for asset in gated:
        if below & set(asset.producer.inputs):
            below.add(asset.table.name)
            if not any(c.name == "user_id" for c in asset.table.columns):
                found.append(asset.table.name)
    return found


def _is_one_of(ids: Collection[str]) -> Erased:
    wanted = pa.array(sorted(ids), pa.large_string())

    def mask(array: pa.Array) -> np.ndarray:
        found = pa.compute.is_in(array.cast(pa.large_string()), value_set=wanted)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)

    return mask


def _entity_places(project: Project, ids: Collection[str]) -> list[tuple[str, str, int]]:
    """Where rows of these users stand in files of users, exposures and answers."""
    source = open_source(project.shop, Path(project.home))
    source.erased = _is_one_of(ids)
    far = datetime(9000, 1, 1, tzinfo=UTC)
    found: list[tuple[str, str, int]] = []
    for read in (source.users, source.exposures, source.onboarding_answers):
        try:
            rejects = read(far)[1]
        except SourceError:
            continue  # the file is gone or bad: no row of it can be told from another
        mine = rejects[rejects["reject_reason"] == ERASED]
        found += list(zip(mine["batch"], mine["file"], mine["row"].tolist(), strict=True))
    return found


def _quiet(home: Path, names: Names, outcome: Outcome, dry: bool) -> None:
    for path in texts.texts_of(home):
        if times := texts.quiet_text(path, names, dry_run=dry):
            outcome.texts[path.relative_to(home).as_posix()] = times
    for path in texts.bases_of(home):
        if times := texts.quiet_base(path, names, dry_run=dry):
            outcome.texts[path.relative_to(home).as_posix()] = times
    if names.ids:
        outcome.answers = texts.drop_answers(home, dry_run=dry)


def _count(retained: Retained, redactor: Redactor, outcome: Outcome) -> None:
    for version in retained.versions():
        try:
            if version.asset == LANDED:
                redactor.find_places(version)
            if rows := redactor.touched(version):
                outcome.rows[version.asset] = outcome.rows.get(version.asset, 0) + rows
                tables = outcome.moved.tables
                tables[version.asset] = tables.get(version.asset, 0) + 1
        except LakeError as error:
            outcome.moved.lost[version.id] = str(error)


def _kept(home: Path) -> Iterator[Path]:
    """The delivered files that are kept."""
    return (p for p in (home / "arrivals" / "files").rglob("*") if p.is_file())


def _delivered(project: Project, ids: Collection[str]) -> Delivered:
    """How many rows of a kept file are these users'."""
    shop, ledger = project.shop, ledger_of(Path(project.home))
    mine = _is_one_of(ids)
    known = {ledger.archived(a): (a.role, a.name) for a in ledger.arrivals()}

    def count(path: Path) -> int | None:
        if path not in known:
            return None
        if not isinstance(shop.source, FilesSource):
            return 0
        role, name = known[path]
        spec = files_source(shop, shop.source).spec_of(role, name)
        if role == "items" or spec is None:
            return 0
        try:
            return len(rows_of(spec, path, mine))
        except SourceError:
            return 0  # `ArrivalLedger.erase` names it, and nothing is proved as long as it is there

    return count
