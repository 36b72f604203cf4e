"""`recsys onboard`: a first list for somebody who says what they like.

Belongs here: arguments and layout. Does not belong here: reading words and finding items
(`recsys_assets.onboarding`), business rules (`recsys_assets.ranking`).
"""

from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console

out = Console()


def onboard(
    words: Annotated[
        str | None, typer.Argument(help="What you like and what you do not, in your own words.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Items on the list.")] = 12,
    rerank: Annotated[
        bool, typer.Option(help="Let the language model put the list in order; needs a key.")
    ] = False,
) -> None:
    """A first list with reasons from WORDS; without words, the questions this shop would ask."""
    project = resources.project()
    if words is None:
        asked = project.lake.served("onboarding_questions").to_pandas()
        for _, rows in asked.sort_values(["place", "answer_place"]).groupby("place"):
            first = rows.iloc[0]
            out.print(f"{first['question']}  [{first['question_id']}]", style="bold")
            for row in rows[rows["answer"] != ""].to_dict("records"):
                out.print(f"  • {row['answer']}")
        return
    from recsys_assets.ranking.first_list import first_list

    model = resources.language_model("onboard")
    if rerank and model is None:
        out.print("No key, or switched off: the order stays as it is.", style="yellow")
    found = first_list(project.lake, project.shop, words, n, model, reorder=rerank)
    if found.reorder_problem:
        out.print(f"The order stays as it was: {found.reorder_problem}.", style="yellow")
    wishes = ", ".join(f"“{q}”" for q in found.queries) or "nothing in particular"
    out.print(f"Looking for: {wishes} (read by {found.source})")
    if found.avoid:
        words_against = ", ".join(f"“{word}”" for word in found.refused) or "what was ruled out"
        out.print(
            f"Leaving out {found.ruled_out:,} items for: {words_against}. The catalogue's words "
            "are all there is to go by: do not rely on them for an allergy.",
            style="yellow",
        )
    grid = Grid(title="To begin with", title_justify="left", box=SIMPLE)
    for heading in ("#", "item", "title", "category", "why"):
        grid.add_column(heading, overflow="fold")
    for row in found.rows.to_dict("records"):
        grid.add_row(str(row["rank"]), row["item_id"], row["title"], row["category"], row["reason"])
    out.print(grid)
