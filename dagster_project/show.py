"""What the command line shows of the lake.

Belongs here: reading served tables and laying them out. Does not belong here: starting runs,
computing recommendations.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid

from recsys_assets.core.lake import Lake, LakeError

FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet run a text cell as a formula (CWE-1236)."""

METRICS = ("recall", "precision", "map", "mrr", "hit", "coverage", "diversity", "novelty")
WIDE = 120
"""Terminal columns from which on the scoreboard shows every metric."""

HEADLINES = {"for_you": "For you", "discover": "New to you", "buy_again": "Buy again"}


def recommendations(
    lake: Lake,
    out: Console,
    user_id: str,
    exclude: frozenset[str],
    placement: str | None,
    n: int,
) -> None:
    """Print the served lists of one user; what is popular for somebody nobody knows."""
    served = lake.served("recommendations")
    rows = _rows_where(served.paths(), "user_id", user_id)
    if rows.num_rows == 0:
        rows = lake.served("popular_recommendations").to_arrow()
        out.print(f"Nobody knows user {user_id!r} yet: this is what is popular.", style="yellow")
    frame = rows.to_pandas()
    found = set(frame["placement"])
    placements = [p for p in HEADLINES if p in found] + sorted(found - set(HEADLINES))
    if placement is not None and placement not in placements:
        raise LakeError(f"there is no placement {placement!r}; there are: {', '.join(placements)}")
    titles = _titles(lake, frame["item_id"])
    frame = frame[~frame["item_id"].isin(exclude)]
    for name in [placement] if placement else placements:
        lines = frame[frame["placement"] == name].head(n)
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
        first = frame.iloc[0]
        out.print(f"release {first['release_id']}, data up to {first['as_of']:%F %R} UTC")


def related(lake: Lake, out: Console, item_id: str, n: int) -> None:
    """Print the two item-to-item lists of one item."""
    items = lake.served("items")
    known = _rows_where(items.paths(), "item_id", item_id)
    if known.num_rows == 0:
        raise LakeError(f"item {item_id!r} is not in the catalogue")
    out.print(f"[bold]{known['title'][0].as_py()}[/bold] ({item_id})")
    for name, title in (("similar_items", "Instead of it"), ("bought_together", "Goes with it")):
        frame = _rows_where(lake.served(name).paths(), "item_id", item_id).to_pandas().head(n)
        titles = _titles(lake, frame["other_item_id"])
        grid = Grid(title=title, title_justify="left")
        for heading in ("#", "item", "title", "score", "backed by"):
            grid.add_column(heading)
        for line in frame.to_dict("records"):
            other = line["other_item_id"]
            grid.add_row(
                str(line["rank"]), other, titles.get(other, ""),
                f"{line['score']:.3f}", str(line["support"]),
            )  # fmt: skip
        out.print(grid if len(frame) else f"{title}: too few interactions to say")


def scoreboard(lake: Lake, out: Console) -> None:
    """Print what is published and how good it is on the evaluate target, beside everything else."""
    frame = _evaluated(lake)
    if frame.empty:
        out.print("The data are too short to hold out a period: nothing was evaluated.")
        return
    published = lake.served("policies").to_pandas()
    values = frame[frame["baseline"] == ""]
    for task, heading in (
        ("all", "whatever the user takes next"), ("new", "only what they never took before"),
        ("again", "what they take again within a week"),
    ):  # fmt: skip
        rows = values[values["task"] == task]
        if rows.empty:
            continue
        table = rows.pivot_table(index="model", columns="metric", values="value", sort=False)
        low = rows[rows["metric"] == "ndcg@10"].set_index("model")
        grid = Grid(title=f"Task {task}: {heading}", title_justify="left", box=SIMPLE)
        for name in ("model", "NDCG@10", "95%"):
            grid.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
        metrics = METRICS if out.width >= WIDE else METRICS[:1]
        shown = [m for m in metrics if f"{m}@10" in table]
        for metric in shown:
            grid.add_column(metric, justify="right", no_wrap=True)
        for model in table["ndcg@10"].sort_values(ascending=False, kind="stable").index:
            interval = low.loc[model]
            grid.add_row(
                f"[bold]{model}[/bold]" if model.startswith("ours") else model,
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
            f"[bold]{line['placement']}[/bold]: NDCG@10 {value}{seeds}; published is "
            f"{line['model']} ({line['reason']}, on the period before)"
        )
        for text in _against(frame, line["task"]):
            out.print(f"  {text}")


def _evaluated(lake: Lake) -> pd.DataFrame:
    frame = lake.served("scoreboard").to_pandas()
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


def write_into_markdown(lake: Lake, file: Path) -> None:
    """Replace what stands between the scoreboard marks of `file` by the current numbers."""
    start, end = "<!-- scoreboard:start -->", "<!-- scoreboard:end -->"
    text = file.read_text(encoding="utf-8")
    if start not in text or end not in text:
        raise LakeError(f"{file} lacks the marks {start} and {end}")
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    file.write_text(f"{before}{start}\n{_markdown(lake)}\n{end}{after}", encoding="utf-8")


def _markdown(lake: Lake) -> str:
    frame = _evaluated(lake)
    values = frame[frame["baseline"] == ""]
    lines = [
        "| placement | published | NDCG@10 (95%) | less the best baseline and the best retriever |",
        "|---|---|---|---|",
    ]
    for line in lake.served("policies").to_pandas().to_dict("records"):
        own = values[(values["task"] == line["task"]) & (values["model"] == "ours")]
        if len(own):
            value, interval, seeds = _headline(own)
            against = "<br>".join(_against(frame, line["task"]))
            lines.append(
                f"| {line['placement']} | {line['model']} | {value} ({interval}){seeds} "
                f"| {against} |"
            )
    lines += [
        "",
        "| model | NDCG@10 all | R@10 all | NDCG@10 new | R@10 new |",
        "|---|---|---|---|---|",
    ]
    order = [("all", "ndcg@10"), ("all", "recall@10"), ("new", "ndcg@10"), ("new", "recall@10")]
    rows = values[values["metric"].isin(["ndcg@10", "recall@10"])]
    rows = rows[rows["task"].isin(["all", "new"])]
    wide = rows.pivot_table(index="model", columns=["task", "metric"], values="value")
    for model, cells in wide.sort_values(order[0], ascending=False).iterrows():
        shown = ["" if k not in cells or pd.isna(cells[k]) else f"{cells[k]:.4f}" for k in order]
        name = f"**{model}**" if str(model).startswith("ours") else str(model)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def export(lake: Lake, table: str, file: Path) -> int:
    """Write the approved rows of `table`; returns how many. CSV cells are made formula-safe."""
    data = lake.read(table).to_arrow()
    if file.suffix == ".parquet":
        pq.write_table(data, file)
    elif file.suffix == ".csv":
        pa_csv.write_csv(_plain(data), file)
    else:
        raise LakeError(f"{file}: the file name must end in .parquet or .csv")
    return data.num_rows


def _plain(data: pa.Table) -> pa.Table:
    """Texts that a spreadsheet would run get a leading apostrophe; vectors become JSON texts."""
    for place, field in enumerate(data.schema):
        column = data.column(place)
        if pa.types.is_list(field.type):
            column = pa.chunked_array([pa.array([str(v) for v in column.to_pylist()])])
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = column.cast(pa.string())
            risky = pc.is_in(
                pc.utf8_slice_codeunits(column, 0, 1), value_set=pa.array(FORMULA_START)
            )
            quoted = pc.binary_join_element_wise(pa.scalar("'"), column, "")
            column = pc.if_else(risky, quoted, column)
        else:
            continue
        data = data.set_column(place, field.name, column)
    return data


def _rows_where(paths: list[Path], column: str, value: str) -> pa.Table:
    return pq.read_table([str(p) for p in paths], filters=[(column, "=", value)])


def _titles(lake: Lake, ids: "pd.Series[str]") -> dict[str, str]:
    items = lake.served("items").to_arrow(["item_id", "title"])
    wanted = items.filter(pc.is_in(items["item_id"], value_set=pa.array(ids, pa.string())))
    found: dict[str, str] = dict(
        zip(wanted["item_id"].to_pylist(), wanted["title"].to_pylist(), strict=True)
    )
    return found


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
