"""`recsys explain`: the evidence behind one recommendation.

Belongs here: arguments and layout. Does not belong here: collecting evidence
(`recsys_assets.ranking.evidence`).
"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console

if TYPE_CHECKING:
    from recsys_assets.ranking.evidence import Contribution, Theme

out = Console()


def explain(
    user_id: Annotated[str, typer.Argument(help="Id of the user.")],
    item_id: Annotated[str, typer.Argument(help="Id of an item on one of the user's lists.")],
    placement: Annotated[
        str | None,
        typer.Option(help="On this list; default: for_you, else discover, else buy_again."),
    ] = None,
) -> None:
    """Why ITEM_ID is recommended to USER_ID: the sentence, and every piece of evidence for it."""
    from recsys_assets.publishing.serving import Served
    from recsys_assets.ranking import evidence, phrasing
    from recsys_assets.ranking.grounding import name_keys

    project = resources.project()
    served = Served.open(project.lake)
    found = evidence.collect(
        served.table, project.shop, project.warehouse, user_id, item_id, placement
    )
    where = f"{found.placement}, place {found.rank}, policy {found.policy}"
    out.print(f"{found.title} ({item_id}): {where}", style="bold")
    model = resources.language_model("explain")
    names = frozenset[tuple[str, ...]]()
    if model is not None:
        columns = ["title", "category_1", "category_2", "category_3"]
        items = served.table("items").to_arrow(columns)
        names = name_keys({text for c in columns for text in items[c].unique().to_pylist()})
    said = phrasing.phrase(found, model, names)
    out.print(said.text)
    if said.problem:
        out.print(f"In our own words: {said.problem}.", style="dim")
    if found.sensitive:
        out.print("A sensitive category: nothing about it is ever named.", style="yellow")
    for title, lines in (("True of it", found.facts), ("Found by", found.proposed)):
        if lines:
            out.print(f"\n{title}", style="bold")
        for line in lines:
            out.print(f"  • {line}")
    if found.note:
        out.print(f"\nNo contributions of a ranker: {found.note}.", style="yellow")
    if found.themes:
        out.print()
        out.print(_themes(found.themes))
        out.print(_features(found.contributions))


def _themes(themes: "tuple[Theme, ...]") -> Grid:
    grid = Grid(title="What moved its score", title_justify="left", box=SIMPLE)
    grid.add_column("what the ranker looks at")
    grid.add_column("adds", justify="right")
    for theme in themes:
        grid.add_row(theme.text, f"{theme.amount:+.3f}")
    return grid


def _features(contributions: "tuple[Contribution, ...]") -> Grid:
    grid = Grid(title="The largest single features", title_justify="left", box=SIMPLE)
    for heading, side in (("feature", "left"), ("meaning", "left"), ("value", "right")):
        grid.add_column(heading, justify=side)  # type: ignore[arg-type]
    grid.add_column("adds", justify="right")
    for c in contributions:
        value = "none" if c.value is None else f"{c.value:.4g}"
        grid.add_row(c.feature, c.meaning, value, f"{c.amount:+.3f}")
    return grid
