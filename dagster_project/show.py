"""How the command line lays out what it shows.

Belongs here: printing and writing files. Does not belong here: finding what is served
(`publishing/serving.py`), starting runs, computing recommendations.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from dagster_project import resources
from recsys_assets.content.categories import in_categories
from recsys_assets.core.durable import replacing
from recsys_assets.core.lake import Lake, LakeError, Read, Snapshot
from recsys_assets.evaluation.glossary import RETRIEVER
from recsys_assets.publishing.releases import SHORT
from recsys_assets.publishing.serving import Served, formula_safe
from recsys_assets.ranking.placements import DISCOVER
from recsys_assets.ranking.reranking import rerank_rows
from recsys_assets.staging.tables import NOT_MADE_YET

METRICS = ("recall", "precision", "map", "mrr", "hit", "coverage", "diversity", "novelty")
WIDE = 140
"""Terminal columns from which on the scoreboard shows every metric; names of models fold before
numbers are cut."""

HEADLINES = {"for_you": "For you", "discover": "New to you", "buy_again": "Buy again"}


def recommendations(
    served: Served,
    out: Console,
    user_id: str,
    exclude: frozenset[str],
    placement: str | None,
    n: int,
    order: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> None:
    """Print the served lists of one user; what is popular for somebody nobody knows.

    `order` rearranges the rows of `discover`.
    """
    frame, known = served.lists(user_id)
    if not known:
        out.print(f"Nobody knows user {user_id!r} yet: this is what is popular.", style="yellow")
    elif frame.empty:
        out.print(
            f"User {user_id!r} has no list: all that is on offer was taken before or is ruled out.",
            style="yellow",
        )
        return
    found = set(frame["placement"])
    placements = [p for p in HEADLINES if p in found] + sorted(found - set(HEADLINES))
    if placement is not None and placement not in placements:
        there = ", ".join(placements)
        raise LakeError(f"user {user_id!r} has no list {placement!r}; there are: {there}")
    titles = served.titles(frame["item_id"])
    frame = frame[~frame["item_id"].isin(exclude)]
    for name in [placement] if placement else placements:
        lines = frame[frame["placement"] == name].head(n)
        if order is not None and name == DISCOVER:
            lines = order(lines)
        grid = Grid(title=HEADLINES.get(name, name), title_justify="left", expand=False)
        for heading in ("#", "item", "title", "score", "why", "found by"):
            grid.add_column(heading, overflow="fold")
        for place, line in enumerate(lines.to_dict("records"), start=1):
            grid.add_row(
                str(place),
                line["item_id"],
                titles.get(line["item_id"], ""),
                f"{line['score']:.3f}",
                line["reason"],
                line["retrievers"],
            )
        out.print(grid)
    if len(frame):
        out.print(f"release {served.release_id}, data up to {served.as_of:%F %R} UTC")


def by_language_model(served: Served, out: Console) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Puts the rows of `discover` in the order of the language model.

    Of the placements only this one: the others say what somebody bought, and no history is sent.
    """
    project = resources.project()
    model = resources.language_model("recommend")
    if model is None:
        out.print("No key, or switched off: the order stays as it is.", style="yellow")

    def order(rows: pd.DataFrame) -> pd.DataFrame:
        items = served.table("items").to_pandas().set_index("item_id").loc[rows["item_id"]]
        private = in_categories(items, frozenset(project.shop.rules.sensitive_categories))
        purpose = "A varied list of suggestions: the most appealing first, no two alike in a row."
        ordered, problem = rerank_rows(rows, items["title"].tolist(), private, purpose, model)
        if problem:
            out.print(f"The order stays as it was: {problem}.", style="yellow")
        return ordered

    return order


def related(served: Served, out: Console, item_id: str, n: int) -> None:
    """Print the two item-to-item lists of one item; that there are none yet of a newer one."""
    if served.lacks(item_id):
        out.print(f"Item {item_id} is newer than release {served.release_id}: it has no lists yet.")
        return
    out.print(f"{served.title(item_id)} ({item_id})", style="bold")
    for name, title, unit, otherwise in (
        ("similar_items", "Instead of it", "users", "text, popularity"),
        ("bought_together", "Goes with it", "baskets", "its category"),
    ):
        frame = served.related(name, item_id).head(n)
        others = served.items(frame["other_item_id"])
        grid = Grid(title=title, title_justify="left")
        for heading in ("#", "item", "title", "category", "score", "backed by"):
            grid.add_column(heading, overflow="fold")
        for line in frame.to_dict("records"):
            other = others.loc[line["other_item_id"]]
            path = [other[f"category_{level}"] for level in (1, 2, 3)]
            grid.add_row(
                str(line["rank"]), line["other_item_id"], other["title"],
                " > ".join(p for p in path if p), f"{line['score']:.3f}",
                f"{line['support']} {unit}" if line["support"] else otherwise,
            )  # fmt: skip
        out.print(grid if len(frame) else f"{title}: too few interactions to say")


def scoreboard(read: Read, out: Console) -> None:
    """Print what is published and how good it is on the evaluate target, beside everything else."""
    frame = _evaluated(read)
    if frame.empty:
        out.print("The data are too short to hold out a period: nothing was evaluated.")
        return
    published = read("policies").to_pandas()
    values = frame[frame["baseline"] == ""]
    repeats = "again" in set(published["task"])
    whatever = "whatever the user takes next" + ("" if repeats else ", taken before left out")
    for task, heading in (
        ("all", whatever), ("new", "only what they never took before"),
        ("again", "what they take again within a week"),
    ):  # fmt: skip
        rows = values[values["task"] == task]
        if rows.empty:
            continue
        table = rows.pivot_table(index="model", columns="metric", values="value", sort=False)
        low = rows[rows["metric"] == "ndcg@10"].set_index("model")
        grid = Grid(title=f"Task {task}: {heading}", title_justify="left", box=SIMPLE)
        for name in ("model", "NDCG@10", "95%"):
            left = name == "model"
            grid.add_column(name, justify="left" if left else "right", no_wrap=not left)
        metrics = METRICS if out.width >= WIDE else METRICS[:1]
        shown = [m for m in metrics if f"{m}@10" in table]
        for metric in shown:
            grid.add_column(metric, justify="right", no_wrap=True)
        for model in table["ndcg@10"].sort_values(ascending=False, kind="stable").index:
            interval = low.loc[model]
            grid.add_row(
                Text(model, "bold" if model.startswith("ours") else ""),
                f"{table.loc[model, 'ndcg@10']:.4f}",
                f"{interval['low']:.3f}-{interval['high']:.3f}",
                *[_number(table.loc[model, f"{m}@10"]) for m in shown],
            )
        out.print(grid)
    for line in published.to_dict("records"):
        own = values[(values["task"] == line["task"]) & (values["model"] == "ours")]
        if own.empty:
            continue
        value, _, seeds = _headline(own)
        out.print(
            f"{line['placement']}: NDCG@10 {value}{seeds}; published is "
            f"{line['model']} ({line['reason']}, on the period before)"
        )
        for text in _against(frame, line["task"]):
            out.print(f"  {text}")


def _evaluated(read: Read) -> pd.DataFrame:
    frame = read("scoreboard").to_pandas()
    return frame[(frame["target"] == "evaluate") & (frame["slice"] == "all")]


def _headline(own: pd.DataFrame) -> tuple[str, str, str]:
    """NDCG of a model, its interval, and how far its seeds are apart."""
    row = own[own["metric"] == "ndcg@10"].iloc[0]
    seeds = ""
    if row["n_seeds"] > 1:
        spread = f"{row['seed_low']:.4f} to {row['seed_high']:.4f}"
        seeds = f", mean of {int(row['n_seeds'])} seeds ({spread})"
    return f"{row['value']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}", seeds


def _against(frame: pd.DataFrame, task: str) -> list[str]:
    """Our lists less the best baseline's and the best retriever's, paired by user."""
    rows = frame[(frame["task"] == task) & (frame["model"] == "ours") & (frame["baseline"] != "")]
    rows = rows[rows["metric"] == "ndcg@10"].sort_values("value")
    return [
        f"{row.value:+.4f} ({row.low:+.4f} to {row.high:+.4f}) against {row.baseline}"
        for row in rows.itertuples()
    ]


def green(run_id: str, lake: Lake, out: Console) -> None:
    """Print that a run ended well, and which tables nobody reads since their check did not run."""
    made = {a for a in lake.assets() for e in lake.entries(a).values() if e.verdict == "pending"}
    if made:
        out.print(
            f"Run {run_id} is green, but not yet checked, and so not read by anything: "
            f"{', '.join(sorted(made))}. The check of each is a step of its own, NAME_quality.",
            style="yellow",
        )
    else:
        out.print(f"Run {run_id} is green: every table passed its check.")


def standing(served_release: Snapshot, live: str, out: Console) -> None:
    """Print what became of the release a run has made; `live` is served now."""
    line = served_release.to_pandas().iloc[0]
    if line["release_id"] == live:
        out.print(f"Release {line['release_id'][:SHORT]} is served.")
        return
    reason = line["reason"] or f"it was, but {live[:SHORT]} is now (`recsys releases --log`)"
    text = f"Release {line['release_id'][:SHORT]} is not served: {reason}"
    out.print(text, style="yellow", markup=False)


def warnings(table: Snapshot, out: Console) -> None:
    """Print what the report of a table warns of."""
    if told := table.report().get("texts", {}).get("warnings"):
        out.print(told, style="yellow", markup=False)


def waiting(lake: Lake, out: Console) -> None:
    """Print how many accepted rows nothing uses yet because their day or month is not over."""
    if any(entry.current for entry in lake.entries("quarantine").values()):
        rows = lake.served("quarantine").report().get("numbers", {}).get(NOT_MADE_YET, 0)
        if rows:
            out.print(
                f"{rows:,} rows wait until their day or month is over; with "
                "partitions.granularity: day they wait for a day at most.",
                style="yellow",
            )


def write_into_markdown(read: Read, file: Path) -> None:
    """Replace what stands between the scoreboard marks of `file` by the current numbers."""
    start, end = "<!-- scoreboard:start -->", "<!-- scoreboard:end -->"
    table = _markdown(read)
    with written(file) as path:
        text = file.read_text(encoding="utf-8")
        if start not in text or end not in text:
            raise LakeError(f"{file} lacks the marks {start} and {end}")
        before, rest = text.split(start, 1)
        after = rest.split(end, 1)[1]
        path.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")


def _markdown(read: Read) -> str:
    """The models that say most, and below them what is published and how sure we are.

    Ours, every baseline and blend, and of the retrievers the best of each task; the report page has
    them all.
    """
    frame = _evaluated(read)
    values = frame[frame["baseline"] == ""]
    lines = [
        "| model | NDCG@10 all | R@10 all | NDCG@10 new | R@10 new |",
        "|---|---|---|---|---|",
    ]
    order = [("all", "ndcg@10"), ("all", "recall@10"), ("new", "ndcg@10"), ("new", "recall@10")]
    rows = values[values["metric"].isin(["ndcg@10", "recall@10"])]
    rows = rows[rows["task"].isin(["all", "new"])]
    wide = rows.pivot_table(index="model", columns=["task", "metric"], values="value")
    low, high = (rows.pivot_table(end, "model", ["task", "metric"]) for end in ("low", "high"))
    retrievers = wide[wide.index.str.startswith(RETRIEVER)]
    best = {retrievers[key].idxmax() for key in order if key in wide and len(retrievers)}
    told = wide[~wide.index.isin(retrievers.index.difference(list(best)))]
    for model, cells in told.sort_values(order[0], ascending=False).iterrows():
        shown = []
        for key in order:
            text = "" if key not in cells or pd.isna(cells[key]) else f"{cells[key]:.4f}"
            if text and str(model).startswith("ours") and key[1] == "ndcg@10":
                text += f" ({low[key][str(model)]:.4f} to {high[key][str(model)]:.4f})"
            shown.append(text)
        name = f"**{model}**" if str(model).startswith("ours") else str(model)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines.append("")
    for line in read("policies").to_pandas().to_dict("records"):
        own = values[(values["task"] == line["task"]) & (values["model"] == "ours")]
        if len(own):
            value, interval, seeds = _headline(own)
            against = "; ".join(_against(frame, line["task"]))
            lines.append(
                f"- `{line['placement']}` publishes {line['model']}: NDCG@10 {value} "
                f"({interval}){seeds}; paired by user {against or 'with nothing'}."
            )
    if left_out := len(wide) - len(told):
        lines.append(f"- {left_out} more retrievers alone: `recsys scoreboard`.")
    return "\n".join(lines)


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """A path to write what is to be `file`, which changes in one step at the end, or not at all;
    that it cannot be written is a `LakeError` that says why."""
    try:
        with replacing(file.resolve()) as path:
            yield path
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise LakeError(
            f"{file} cannot be written ({why}): name a file in a folder that is there and that you "
            "may write to"
        ) from error


def export(data: pa.Table, file: Path) -> None:
    """Write a table to a .parquet or .csv file. CSV cells are made formula-safe."""
    if file.suffix == ".parquet":
        pq.write_table(data, file)
    elif file.suffix == ".csv":
        pa_csv.write_csv(formula_safe(data), file)
    else:
        ending = file.suffix or "nothing"
        raise LakeError(f"the file name must end in .parquet or .csv, and ends in {ending}")


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
