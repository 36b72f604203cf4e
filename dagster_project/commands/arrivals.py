"""`recsys arrivals`: what came in through the watched folders."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console
from recsys_assets.ingestion.files import ledger_of

out = Console()


def take() -> dict[str, str]:
    """Take what is complete, and say what came, what is still arriving and what is refused; returns
    the last: name, or a place that cannot be looked at -> why."""
    from dagster_project.sensors import take_arrivals

    look = take_arrivals(resources.project(), datetime.now(UTC))
    for arrival in look.accepted:
        out.print(f"{arrival.name} arrived ({arrival.size:,} bytes)")
    for name in look.arriving:
        out.print(f"{name} is still arriving: it comes with a later run")
    tell(look.refused)
    return look.refused


def tell(refused: dict[str, str], before: str = "") -> None:
    """Print what is refused, and why, each line with `before` in front."""
    for name, why in sorted(refused.items()):
        out.print(f"{before}{name} {why}", style="yellow", soft_wrap=True)


def arrivals(
    n: Annotated[int, typer.Option("-n", min=1, help="How many of the newest lines.")] = 20,
) -> None:
    """What the watched folders delivered: name, content, when; and what is wrong with it."""
    ledger = ledger_of(Path(resources.home()))
    lines = ledger.arrivals()
    grid = Grid(title=f"{len(lines):,} arrivals in {ledger.path}")
    for heading in ("arrived (UTC)", "role", "name", "bytes", "content"):
        grid.add_column(heading, justify="right" if heading == "bytes" else "left")
    for line in lines[-n:]:
        grid.add_row(f"{line.at:%F %T}", line.role, line.name, f"{line.size:,}", line.sha256[:12])
    out.print(grid)
    for problem in ledger.problems():
        out.print(problem, style="red")
