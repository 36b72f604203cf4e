"""`recsys search`, the look-alikes of `recsys similar`, and `recsys index`.

Belongs here: arguments, which release is asked, layout. Does not belong here: searching
(`recsys_assets.ranking.search`), the index.
"""

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid

from dagster_project import resources
from dagster_project.console import Console

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from recsys_assets.core.assets import Project
    from recsys_assets.indexing.contract import VectorIndex

out = Console()


def search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    user: Annotated[str | None, typer.Option(help="Blend in this user's taste.")] = None,
    category: Annotated[str | None, typer.Option(help="Of this category, at any level.")] = None,
    brand: Annotated[str | None, typer.Option(help="Of this brand.")] = None,
    market: Annotated[str | None, typer.Option(help="Offered in this market.")] = None,
    min_price: Annotated[float | None, typer.Option(help="At least this price.")] = None,
    max_price: Annotated[float | None, typer.Option(help="At most this price.")] = None,
    warm: Annotated[
        bool | None, typer.Option("--warm/--cold", help="With history, or without.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="Items to show.")] = 10,
    rerank: Annotated[
        bool, typer.Option(help="Let the language model put the results in order; needs a key.")
    ] = False,
) -> None:
    """Items that match TEXT by meaning and by words, of those that may be shown right now."""
    from recsys_assets.content import embed
    from recsys_assets.indexing.contract import Vectors
    from recsys_assets.indexing.objects import Filter
    from recsys_assets.ranking.search import Question, find, read_query, spelled

    text = read_query(text)
    where = Filter(
        category=category, brand=brand, market=market, min_price=min_price, max_price=max_price,
        warm=warm, available_at=_now(),
    )  # fmt: skip
    project = resources.project()
    release, catalogue = _release(project), _offered(project)
    asked, text = text, spelled(text, catalogue["text"])
    if text != asked:
        out.print(f"No item says {asked!r}: searching for {text!r}.")
    model = project.shop.encoder.model
    query = Vectors(embed.model_id(model), embed.embed(embed.load_encoder(model), [text]))
    with closing(_open(project)) as index:
        taste = _taste(project, index, release, user) if user else None
        if user and taste is None:
            out.print(f"User {user} has no history in the index: nobody's taste is blended in.")
        question = Question(text, query, taste, where)
        found = find(index, release, question, catalogue["group_id"], n)
    if rerank and len(found):
        found = _reranked(project, found, catalogue, text)
    _show(found, catalogue, f"Search: {text}", release)
    if found.empty:
        levels = ["category_1", "category_2", "category_3"]
        for name, value, columns in (("category", category, levels), ("brand", brand, ["brand"])):
            names = catalogue[columns].stack().str.lower()
            if value and not names.eq(value.lower()).any():
                out.print(f"No item that may be shown has the {name} {value!r}.")


def alike(item_id: str, n: int) -> None:
    """Print the items nearest to ITEM_ID in the index, other products only."""
    from recsys_assets.indexing.contract import Vectors
    from recsys_assets.indexing.objects import Filter
    from recsys_assets.ranking.search import Question, find

    project = resources.project()
    release, catalogue = _release(project), _offered(project)
    with closing(_open(project)) as index:
        stored = index.fetch(release, [item_id])
        if not stored.item_ids:
            out.print(f"Looks like it: item {item_id} is not in index release {release}.")
            return
        others = catalogue["group_id"]
        own = _group(project, item_id)
        others = others[(others != own) | (others == "")].drop(item_id, errors="ignore")
        query = Vectors(index.release(release).model, stored.vectors)
        found = find(
            index, release, Question(None, query, where=Filter(available_at=_now())), others, n
        )
    _show(found, catalogue, "Looks like it", release)


def index(
    activate: Annotated[
        str | None, typer.Option(help="First point the store's alias at this release.")
    ] = None,
) -> None:
    """The releases of the vector index: what the store holds, what is approved, what is active."""
    from recsys_assets.indexing import stores

    project = resources.project()
    if activate is not None:
        stores.activate(project, activate)
    approved = stores.approved_release(project.lake)
    with closing(_open(project)) as store:
        active = store.active()
        grid = Grid(title=f"Releases in the {project.vector_store} index", title_justify="left")
        for heading in ("release", "state", "objects", "model", "built from"):
            grid.add_column(heading, overflow="fold")
        for release in store.releases():
            states = (("approved", approved), ("active", active))
            state = ", ".join(name for name, of in states if of == release.id)
            inputs = ", ".join(f"{k} {v[:8]}" for k, v in sorted(release.built_from.items()))
            grid.add_row(release.id, state, f"{release.objects:,}", release.model, inputs)
    out.print(grid)


def _reranked(
    project: "Project", found: "pd.DataFrame", catalogue: "pd.DataFrame", text: str
) -> "pd.DataFrame":
    from recsys_assets.content.categories import in_categories
    from recsys_assets.ranking.reranking import rerank_rows

    rows = catalogue.loc[found["item_id"]]
    private = in_categories(rows, frozenset(project.shop.rules.sensitive_categories))
    model = resources.language_model("search")
    if model is None:
        out.print("No key, or switched off: the order stays as it is.", style="yellow")
    purpose = f"Results for this search: {text}"
    found, problem = rerank_rows(found, rows["title"].tolist(), private, purpose, model)
    if problem:
        out.print(f"The order stays as it was: {problem}.", style="yellow")
    return found


def _open(project: "Project") -> "VectorIndex":
    from recsys_assets.indexing.stores import open_index

    return open_index(project)


def _release(project: "Project") -> str:
    """The release that is asked: the one the last approved version of the asset stands for."""
    from recsys_assets.indexing.stores import release_of

    return release_of(project.lake.served("vector_index"))


def _now() -> int:
    """For the index's own filter: it looks no deeper than so many hits, and what is not offered
    now must not take their places."""
    return int(datetime.now(UTC).timestamp())


def _offered(project: "Project") -> "pd.DataFrame":
    """What the catalogue and the rules allow to be shown now, by item id."""
    import pandas as pd

    from recsys_assets.ranking.placements import rules_of
    from recsys_assets.ranking.rules import eligible

    shop = project.shop
    items = project.lake.served("items").to_pandas()
    allowed = eligible(items, rules_of(shop, "for_you"), pd.Timestamp(datetime.now(UTC)))
    return items[allowed].set_index("item_id")


def _group(project: "Project", item_id: str) -> str:
    """The group of an item of the catalogue, offered or not; '' for none."""
    item = project.lake.served("items").where("item_id", item_id, columns=["group_id"])
    return (item["group_id"][0].as_py() or "") if item.num_rows else ""


def _taste(
    project: "Project", index: "VectorIndex", release: str, user: str
) -> "np.ndarray | None":
    """The user's profile among the vectors of the release; None without history there."""
    import numpy as np

    from recsys_assets.content.profiles import profiles
    from recsys_assets.core.vectors import ItemVectors

    columns = ["user_id", "item_id", "event_time", "counts_as_taken"]
    interactions = project.lake.served("interactions")
    events = interactions.where("user_id", user, columns=columns).to_pandas()
    events = events[events["counts_as_taken"]]
    stored = index.fetch(release, sorted(set(events["item_id"])))
    if not stored.item_ids:
        return None
    vectors = ItemVectors(np.array(stored.item_ids, dtype=object), stored.vectors)
    _, matrix = profiles(events, vectors, events["event_time"].max())
    return matrix if len(matrix) else None


def _show(found: "pd.DataFrame", catalogue: "pd.DataFrame", title: str, release: str) -> None:
    if found.empty:
        out.print(f"{title}: nothing found")
        return
    personal = found["taste"].notna().any()
    grid = Grid(title=title, title_justify="left")
    for heading in ("#", "item", "title", "category", "score", *(["taste"] if personal else [])):
        grid.add_column(heading, overflow="fold")
    for place, line in enumerate(found.to_dict("records"), start=1):
        item = catalogue.loc[line["item_id"]]
        path = [item["category_1"], item["category_2"], item["category_3"]]
        taste = [f"{line['taste']:.3f}"] if personal else []
        grid.add_row(
            str(place), line["item_id"], item["title"], " > ".join(p for p in path if p),
            f"{line['score']:.3f}", *taste,
        )  # fmt: skip
    out.print(grid)
    out.print(f"index release {release}")
