"""The scoreboard as one HTML page that needs nothing else: no script, font, image or style outside.

Belongs here: laying out frames, pictures and texts that are given. Does not belong here: numbers of
its own, rows of users, files.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from recsys_assets.core.metrics import ACCURACY
from recsys_assets.evaluation.scoreboard import EVERYBODY

_STYLE = """
:root { --ink: #1f2a33; --soft: #5d6b76; --line: #dde3e8; --strong: #2f6f9f; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2rem auto;
       max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.note { color: var(--soft); } table { border-collapse: collapse; font-size: 13px; }
div.wide { overflow-x: auto; } th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line);
       text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.ours td { font-weight: 600; }
td small { color: var(--soft); } td.best { color: var(--strong); }
figure { margin: 1rem 0; } figure img { max-width: 100%; }
figcaption { color: var(--soft); font-size: 13px; }
"""


def render_report(
    title: str,
    metrics: pd.DataFrame,
    differences: pd.DataFrame,
    *,
    ours: Sequence[str] = (),
    pictures: Mapping[str, bytes] | None = None,
    texts: Mapping[str, str] | None = None,
) -> str:
    """A page with a table per target and task, the paired differences, slices and pictures.

    `metrics` and `differences` are those of a scoreboard (several targets may be stacked); `ours`
    are the models in bold; `pictures` maps a caption to PNG bytes, `texts` a heading to plain text,
    paragraphs separated by an empty line. Everything that is given is escaped. The same input gives
    the same page.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    for heading, text in (texts or {}).items():
        body.append(f"<h2>{escape(heading)}</h2>")
        body += [f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip()]
    for (target, task), part in metrics.groupby(["target", "task"], sort=True):
        body.append(f"<h2>Target {escape(str(target))}, task {escape(str(task))}</h2>")
        everybody = part[part["slice"] == EVERYBODY]
        body.append(_model_table(everybody, ours))
        own = differences[(differences["target"] == target) & (differences["task"] == task)]
        if len(own):
            body.append(_difference_table(own[own["slice"] == EVERYBODY]))
        body.append(_slice_table(part, ours))
    for caption, png in (pictures or {}).items():
        data = base64.b64encode(png).decode("ascii")
        name = escape(caption, quote=True)
        body.append(
            f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _model_table(rows: pd.DataFrame, ours: Sequence[str]) -> str:
    """Models in rows, best first by NDCG; metrics in columns, the accuracy ones first."""
    metrics = _ordered_metrics(rows["metric"].unique().tolist())
    first = metrics[0]
    values = rows.pivot(index="model", columns="metric", values="value")[metrics]
    values = values.sort_index().sort_values(first, ascending=False, kind="stable")
    best = values.max()
    bounds = rows[rows["metric"] == first].set_index("model")
    head = "".join(f"<th>{escape(metric)}</th>" for metric in metrics)
    lines = []
    for model, line in zip(values.index, values.to_numpy(dtype=float), strict=True):
        cells = [f"<td>{escape(str(model))}</td>"]
        for metric, value in zip(metrics, line, strict=True):
            better_is_more = metric.split("@")[0] in ACCURACY
            mark = ' class="best"' if better_is_more and value == best[metric] else ""
            shown = "" if np.isnan(value) else f"{value:.4f}"
            if metric == first:
                low, high = bounds.loc[model, ["low", "high"]].to_numpy(dtype=float)
                shown += f" <small>{low:.4f} to {high:.4f}</small>"
            cells.append(f"<td{mark}>{shown}</td>")
        lines.append(f"<tr{_mark(model, ours)}>{''.join(cells)}</tr>")
    n_users = int(rows["n_users"].max())
    return (
        f'<p class="note">{n_users:,} users with something to find. After {escape(first)}: 95% '
        "bootstrap interval over users.</p>" + _table(f"<th>model</th>{head}", lines)
    )


def _difference_table(rows: pd.DataFrame) -> str:
    metrics = _ordered_metrics(rows["metric"].unique().tolist())
    rows = rows[rows["metric"] == metrics[0]].sort_values(["value", "model"], ascending=False)
    lines = [
        f"<tr><td>{escape(str(r.model))} against {escape(str(r.baseline))}</td>"
        f"<td>{r.value:+.4f}</td><td>{r.low:+.4f} to {r.high:+.4f}</td>"
        f"<td>{r.p_value:.3f}</td></tr>"
        for r in rows.itertuples()
    ]
    head = f"<th>paired by user</th><th>{escape(metrics[0])}</th><th>95% interval</th><th>p</th>"
    return _table(head, lines)


def _slice_table(rows: pd.DataFrame, ours: Sequence[str]) -> str:
    """The first metric per slice, with the number of users of each."""
    metric = _ordered_metrics(rows["metric"].unique().tolist())[0]
    rows = rows[rows["metric"] == metric]
    values = rows.pivot(index="model", columns="slice", values="value")
    users = rows.groupby("slice")["n_users"].max()
    order = values[EVERYBODY].sort_index().sort_values(ascending=False, kind="stable").index
    head = "".join(
        f"<th>{escape(str(s))}<br><small>{users[s]:,} users</small></th>" for s in values.columns
    )
    lines = []
    for model in order:
        cells = "".join(
            "<td></td>" if pd.isna(v) else f"<td>{v:.4f}</td>" for v in values.loc[model]
        )
        lines.append(f"<tr{_mark(model, ours)}><td>{escape(str(model))}</td>{cells}</tr>")
    return f'<p class="note">{escape(metric)} by slice.</p>' + _table(
        f"<th>model</th>{head}", lines
    )


def _table(head: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _mark(model: object, ours: Sequence[str]) -> str:
    return ' class="ours"' if model in ours else ""


def _ordered_metrics(names: Sequence[str]) -> list[str]:
    """NDCG and recall first, the other accuracy metrics, then what is beyond accuracy."""
    rank = {name: place for place, name in enumerate((*ACCURACY, "coverage", "diversity"))}
    return sorted(names, key=lambda name: (rank.get(name.split("@")[0], len(rank)), name))
