"""`recsys forget`: erase a user from every store, and prove it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console
from recsys_assets.core.erasures import FOLDER, Erasures
from recsys_assets.core.lake import LakeError
from recsys_assets.publishing.releases import SHORT

if TYPE_CHECKING:
    from recsys_assets.erasure.forget import Outcome

out = Console()
OUT_OF_REACH = (
    "Out of reach: the shop's own files and databases, files written by `recsys export` or "
    "`--html`, backups (after a restore: `recsys forget --reapply`), alerts that a webhook got, "
    "and texts already sent to the language model's service."
)


def forget(
    user_id: Annotated[str | None, typer.Argument(help="Id of the user, exactly.")] = None,
    why: Annotated[str, typer.Option("--why", help="Kept in the ledger; must not name them.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    reapply: Annotated[
        bool, typer.Option("--reapply", help="Everybody in the ledger: after a restore.")
    ] = False,
    ledger: Annotated[
        Path | None, typer.Option(help="With --reapply: the newer `erasure` folder, kept apart.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also if no table and no delivered file has the id.")
    ] = False,
) -> None:
    """Erase USER_ID everywhere: tables, releases, files, Dagster's storage; then search for them.

    Exit code 1 if anything is left."""
    from dagster_project.definitions import gated_assets
    from recsys_assets.erasure.forget import forget as erase

    if (user_id is None) != reapply:
        raise LakeError("say whom: `recsys forget USER`, or `recsys forget --reapply`")
    if ledger is not None and not reapply:
        raise LakeError("--ledger goes with --reapply")
    if ledger is not None and dry_run:
        raise LakeError("--dry-run goes without --ledger: it takes nothing over")
    project, now = resources.project(), datetime.now(UTC)
    erasures = Erasures(Path(project.home) / FOLDER)
    if ledger is not None:
        out.print(f"{erasures.take_over(ledger.resolve())} erasures taken over from {ledger}")
    users = [user_id] if user_id is not None else []
    found = erase(
        project, gated_assets(project), users, why, now, dry_run=dry_run, anyway=anyway,
        say=lambda text: out.print(f"  … {text}", style="dim"),
    )  # fmt: skip
    if reapply:
        out.print(
            f"{len(erasures.hashes())} users are in the ledger; {found.users} of them were known."
        )
    _print_erased(found, "would be " if dry_run else "")
    if dry_run:
        return
    if not _print_search(found):
        raise typer.Exit(1)


def _print_erased(found: "Outcome", would: str) -> None:
    """What was replaced and deleted where; `would` is "would be " if nothing was, else ""."""
    grid = Grid(title=f"What {would or 'was '}erased")
    for heading, side in (("table", "left"), ("versions", "right"), ("rows", "right")):
        grid.add_column(heading, justify=side)  # type: ignore[arg-type]
    for name in sorted({*found.rows, *found.moved.tables}):
        grid.add_row(name, f"{found.moved.tables.get(name, 0):,}", f"{found.rows.get(name, 0):,}")
    out.print(grid)
    for title, counts in (
        ("mentions in texts and databases", found.texts), ("rows of delivered files", found.blanked)
    ):  # fmt: skip
        for name, times in sorted(counts.items()):
            out.print(f"{title} {would}replaced: {name}: {times:,}", soft_wrap=True)
    if found.answers:
        out.print(f"{found.answers} kept answers of the language model about people {would}dropped")
    moved = found.moved
    if moved.releases_kept:
        kept = ", ".join(r[:SHORT] for r in moved.releases_kept)
        out.print(f"Releases kept, redacted: {kept}", soft_wrap=True)
    for release, problem in moved.releases_lost.items():
        out.print(f"Release {release[:SHORT]} deleted, it cannot be redacted: {problem}",
                  style="yellow", soft_wrap=True)  # fmt: skip
    for version, problem in moved.lost.items():
        if version not in moved.releases_lost:
            out.print(f"Version {version[:SHORT]} {would}deleted, it cannot be redacted: {problem}",
                      style="yellow", soft_wrap=True)  # fmt: skip
    for name, problem in found.removed.items():
        out.print(f"A replaced file {name} deleted, it cannot be read: {problem}",
                  style="yellow", soft_wrap=True)  # fmt: skip
    if moved.served[0] != moved.served[1]:
        before, after = (r[:SHORT] or "nothing" for r in moved.served)
        out.print(f"Served: {after}, before: {before}; {moved.freed / 1e6:,.1f} MB deleted.")
    out.print(
        "Learned from everybody, made again by the next run (studies: the next weekly one): "
        + ", ".join(found.learned),
        soft_wrap=True,
    )
    out.print(OUT_OF_REACH, soft_wrap=True)
    if found.named_in_shop:
        out.print("The shop file names the user: remove that line.", style="yellow")


def _print_search(found: "Outcome") -> bool:
    """What the search after an erasure found; whether it proves that nothing is left."""
    for name, problem in found.unreadable.items():
        out.print(f"left: {name} cannot be read. Deliver it again, corrected, then run this again: "
                  f"{problem}", style="red", soft_wrap=True)  # fmt: skip
    assert found.searched is not None
    for left in found.searched.left:
        out.print(f"left: {left}", style="red", soft_wrap=True)
    looked = f"{found.searched.files:,} files, {found.searched.bytes / 1e6:,.1f} MB searched"
    if found.proved:
        out.print(f"{looked}: nothing of them is left.", style="green")
    else:
        out.print(f"{looked}: NOT everything is erased.", style="red")
    return found.proved
