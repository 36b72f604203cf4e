"""`recsys spend`: what the language model cost.

Belongs here: arguments and layout. Does not belong here: the books (`language_model/ledger.py`).
"""

from typing import Annotated

import typer
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console
from recsys_assets.language_model.client import ledger

out = Console()


def spend(
    runs: Annotated[bool, typer.Option("--runs", help="Run by run, not only by month.")] = False,
) -> None:
    """What the language model cost, by month, asset and model, and how far the caps are."""
    settings = resources.project().shop.language_model
    spending = ledger(resources.home(), settings).spending()
    if not spending:
        out.print("Nothing was ever asked of the language model from this home.")
        return
    grid = Grid(title="Language model, US dollars")
    for name in ("month", *(["run"] if runs else []), "asset", "model"):
        grid.add_column(name)
    for name in ("calls", "open", "input", "cached", "output", "dollars"):
        grid.add_column(name, justify="right")
    totals: dict[tuple[str, ...], list[float]] = {}
    for s in spending:
        key = (s.month, *([s.run] if runs else []), s.asset, s.model)
        row = (s.calls, s.open, s.input + s.cache_write, s.cache_read, s.output, s.dollars)
        totals[key] = [a + b for a, b in zip(totals.get(key, [0.0] * 6), row, strict=True)]
    for key, values in totals.items():
        grid.add_row(*key, *(f"{v:,.0f}" for v in values[:5]), f"{values[5]:.4f}")
    out.print(grid)
    last = spending[-1].month
    spent = sum(s.dollars for s in spending if s.month == last)
    out.print(f"{last}: {spent:.4f} of {settings.dollars_per_month:.2f} dollars.")
    if any(s.open for s in spending):
        out.print("Open calls got no answer yet, or their process died; they count in full.")
