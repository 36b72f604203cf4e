"""`recsys retention`: remove what is kept no longer, or say what would go."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console

out = Console()


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove old releases, tables nothing names, old runs, replaced files, unused answers.

    What is served or pinned, and everything it names, stays. Limits: sections `retention`,
    `releases` and `index` of the shop file.
    """
    from dagster_project.definitions import check_keys, gated_assets
    from dagster_project.doctor import open_storage
    from dagster_project.retention import in_words, plan

    project = resources.project()
    with project.lake.exclusive("recsys retention"):
        instance = open_storage(resources.home() / "dagster")
        checks = check_keys(gated_assets(project))
        steps = plan(project, instance, checks, datetime.now(UTC))
        if not dry_run:
            for step in steps:
                step.remove()
    grid = Grid(title="What would go" if dry_run else "What is gone")
    for heading, side in (("from", "left"), ("how many", "right"), ("MB", "right")):
        grid.add_column(heading, justify=side)  # type: ignore[arg-type]
    for step in steps:
        grid.add_row(step.store, f"{step.count:,}", f"{step.bytes / 1e6:,.1f}")
    out.print(grid)
    for step in steps:
        if step.names or step.note:
            style = "yellow" if step.note else None
            out.print(in_words(step), style=style, soft_wrap=True)
    if instance is None:
        out.print(
            "Dagster's storage cannot be opened: runs stay (`recsys doctor`).", style="yellow"
        )
    total = sum(step.bytes for step in steps) / 1e6
    out.print(f"{total:,.1f} MB {'would be' if dry_run else 'were'} freed.")
