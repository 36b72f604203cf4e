"""The scoreboard as one HTML page that needs nothing else: no script, font, image or style outside.

Belongs here: laying out frames, pictures and texts that are given, everything escaped. Does not
belong here: numbers of its own, ids of users, files.
"""

import base64
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from recsys_assets.core.metrics import ACCURACY
from recsys_assets.evaluation.glossary import (
    METRICS,
    RETRIEVER,
    TASK_NAMES,
    kind_of,
    meaning_of,
    metric_name,
    slice_name,
    slices_in_order,
)
from recsys_assets.evaluation.scoreboard import EVERYBODY

SMALL_SLICE = 200
"""Below so many users a slice is shown, in grey, and says little."""

_STYLE = """
:root { --ink: #1f2a33; --soft: #5d6b76; --line: #dde3e8; --strong: #2f6f9f; --tint: #eef4f8;
       --good: #2e7d4f; --bad: #b0413e; }
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
       margin: 2rem auto 4rem; max-width: 80rem; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .6rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: .9rem;
     border-top: 2px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.7rem 0 .35rem; }
p { max-width: 52rem; margin: .45rem 0; } p.note { color: var(--soft); font-size: 13.5px; }
p.lead { font-size: 1.05rem; max-width: 60rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: .6rem 0;
      border-bottom: 1px solid var(--line); font-size: 14px; } a { color: var(--strong); }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0; }
div.wide { overflow-x: auto; }
th, td { padding: .28rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
       font-variant-numeric: tabular-nums; white-space: nowrap; vertical-align: top; }
th { vertical-align: bottom; border-bottom: 2px solid var(--line); font-weight: 600; }
td.wrap { white-space: normal; min-width: 16rem; max-width: 34rem; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
tr.ours td { font-weight: 600; background: var(--tint); }
td small, th small { color: var(--soft); font-weight: 400; } td.best { color: var(--strong); }
td.kind { text-align: left; color: var(--soft); font-weight: 400; } td.weak { color: var(--soft); }
td.good { color: var(--good); } td.bad { color: var(--bad); }
figure { margin: .8rem 1.2rem .8rem 0; display: inline-block; vertical-align: top;
         max-width: 100%; }
figure img { max-width: 100%; height: auto; } figcaption { color: var(--soft); font-size: 13px; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--strong); }
div.user { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
           gap: 0 1.6rem; max-width: 70rem; }
ol { font-size: 13px; padding-left: 1.6rem; margin: .2rem 0 .8rem; }
li.hit { color: var(--good); font-weight: 600; } li.hit::after { content: " \\2713"; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 2px solid var(--line);
         color: var(--soft); font-size: 13px; }
@media print { @page { size: A4 landscape; margin: 1cm; } body { margin: 0; max-width: none; }
  div.wide { overflow: visible; } table { font-size: 10px; } th, td { padding: .2rem .35rem; }
  tr, figure { break-inside: avoid; } h2, h3 { break-after: avoid; } nav { display: none; } }
"""


@dataclass
class Section:
    """A part of the page: a heading and finished pieces of HTML."""

    heading: str
    blocks: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.heading.lower())


def render_page(title: str, sections: Sequence[Section], footer: str) -> str:
    """The page of `sections` that have something in them. The same input gives the same page."""
    filled = [s for s in sections if s.blocks]
    links = "".join(f'<a href="#{s.anchor}">{escape(s.heading)}</a>' for s in filled)
    body = "\n".join(
        f'<h2 id="{s.anchor}">{escape(s.heading)}</h2>\n' + "\n".join(s.blocks) for s in filled
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n{body}\n"
        f"<footer>{escape(footer)}</footer>\n</body></html>\n"
    )


def paragraph(text: str, note: bool = False, lead: bool = False) -> str:
    mark = ' class="note"' if note else ' class="lead"' if lead else ""
    return f"<p{mark}>{escape(text)}</p>"


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def folded(summary: str, blocks: Sequence[str]) -> str:
    """Blocks behind a line that opens them."""
    return f"<details><summary>{escape(summary)}</summary>\n" + "\n".join(blocks) + "</details>"


def figure(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    name = escape(caption, quote=True)
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def plain_table(rows: pd.DataFrame) -> str:
    """A frame as it is: its column names as head, numbers with four digits."""
    words = {c for c in rows if any(isinstance(v, str) for v in rows[c])}
    head = "".join(
        f"{'<th class=text>' if c in words else '<th>'}{escape(str(c))}</th>" for c in rows.columns
    )
    lines = []
    for line in rows.itertuples(index=False):
        cells = []
        for value in line:
            if isinstance(value, str):
                wrap = " wrap" if len(value) > 40 else ""
                cells.append(f'<td class="text{wrap}">{escape(value)}</td>')
            elif value is None or pd.isna(value):
                cells.append("<td></td>")
            elif isinstance(value, (bool, np.bool_)):
                cells.append(f"<td>{'yes' if value else 'no'}</td>")
            elif isinstance(value, (int, np.integer)):
                cells.append(f"<td>{value:,}</td>")
            else:
                cells.append(f"<td>{value:.4f}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _table(head, lines)


def headline_table(metrics: pd.DataFrame, differences: pd.DataFrame, policies: pd.DataFrame) -> str:
    """Per placement what is published and how it compares: one row a task, NDCG of `ours`."""
    lines = []
    published = policies.set_index("task")[["placement", "model"]]
    for task in [t for t in TASK_NAMES if t in published.index]:
        own = _ndcg(metrics[(metrics["task"] == task) & (metrics["slice"] == EVERYBODY)])
        own = own[own["model"] == "ours"]
        if own.empty:
            continue
        row = own.iloc[0]
        seeds = int(row["n_seeds"]) if pd.notna(row["n_seeds"]) else 1
        spread = f"{row['seed_low']:.4f} to {row['seed_high']:.4f}" if seeds > 1 else "one"
        cells = [
            f"<td>{escape(str(published.loc[task, 'placement']))}</td>",
            f'<td class="text">{escape(str(published.loc[task, "model"]))}</td>',
            f"<td>{_with_interval(row, '.4f')}</td>",
            f"<td>{spread}</td>",
        ]
        against = _ndcg(differences[(differences["task"] == task)])
        against = against[(against["slice"] == EVERYBODY) & (against["model"] == "ours")]
        against = against.sort_values("baseline", key=lambda s: s.str.startswith(RETRIEVER))
        text = [
            f"{escape(str(r.baseline))}: {r.value:+.4f} "
            f"<small>{r.low:+.4f} to {r.high:+.4f}, p {r.p_value:.3f}</small>"
            for r in against.itertuples()
        ]
        cells.append(f'<td class="text">{"<br>".join(text)}</td>')
        cells.append(f"<td>{int(row['n_users']):,}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = (
        '<th>placement</th><th class="text">published</th><th>NDCG <small>95%</small></th>'
        '<th>seeds</th><th class="text">difference to the best baseline and the best retriever, '
        "<small>paired by user</small></th><th>users</th>"
    )
    return _table(head, lines)


def model_table(rows: pd.DataFrame, metrics: Sequence[str], ours: Sequence[str] = ()) -> str:
    """Models in rows, best first by NDCG; those of `metrics` that were measured in columns.

    NDCG comes with its interval; the best value of an accuracy metric is marked. Nothing when none
    of `metrics` was measured.
    """
    known = {str(m).split("@")[0]: str(m) for m in rows["metric"].unique()}
    shown = [known[m] for m in metrics if m in known]
    if not shown:
        return ""
    first = known["ndcg"]
    values = rows.pivot(index="model", columns="metric", values="value")
    values = values.sort_index().sort_values(first, ascending=False, kind="stable")[shown]
    best = values.max()
    bounds = rows[rows["metric"] == first].set_index("model")
    head = "".join(
        f"<th>{escape(metric_name(m))}{' <small>95% interval</small>' if m == first else ''}</th>"
        for m in shown
    )
    lines = []
    for model, line in zip(values.index, values.to_numpy(dtype=float), strict=True):
        cells = [f'<td>{escape(str(model))}</td><td class="kind">{kind_of(str(model))}</td>']
        for metric, value in zip(shown, line, strict=True):
            better_is_more = metric.split("@")[0] in ACCURACY
            text = "" if np.isnan(value) else f"{value:.4f}"
            if metric == first:
                low, high = bounds.loc[model, ["low", "high"]].to_numpy(dtype=float)
                text += f" <small>{low:.4f} to {high:.4f}</small>"
            cells.append(f"<td{_best(better_is_more and value == best[metric] > 0)}>{text}</td>")
        lines.append(f"<tr{_mark(model, ours)}>{''.join(cells)}</tr>")
    return _table(f'<th>model</th><th class="text">kind</th>{head}', lines)


def difference_table(differences: pd.DataFrame) -> str:
    """Our NDCG less the best baseline's and the best retriever's, per slice of users, paired."""
    own = _ndcg(differences[differences["model"] == "ours"])
    if own.empty:
        return ""
    lines = []
    for rival in sorted(own["baseline"].unique(), key=lambda name: (kind_of(name), name)):
        of_rival = own[own["baseline"] == rival].set_index("slice")
        for name in slices_in_order(of_rival.index):
            row = of_rival.loc[name]
            weak = ' class="weak"' if row["n_users"] < SMALL_SLICE else ""
            lines.append(
                f"<tr{_mark(name, (EVERYBODY,))}><td>ours</td>"
                f'<td class="text">{escape(str(rival))}</td>'
                f'<td class="text">{escape(slice_name(str(name)))}</td>'
                f"<td>{int(row['n_users']):,}</td>"
                f"<td{weak or _sure(row)}>{row['value']:+.4f}</td>"
                f"<td{weak}>{row['low']:+.4f} to {row['high']:+.4f}</td>"
                f"<td{weak}>{_p(row['p_value'])}</td></tr>"
            )
    head = (
        '<th>lists of</th><th class="text">less those of</th><th class="text">users</th>'
        "<th>how many</th><th>NDCG difference</th><th>95% interval</th><th>p</th>"
    )
    return _table(head, lines)


def comparison_table(rows: pd.DataFrame) -> str:
    """Models in rows as given; per metric the value and the difference to the model's baseline."""
    own = rows[rows["baseline"] == ""].set_index(["model", "metric"])
    differences = rows[rows["baseline"] != ""].set_index(["model", "metric"])
    metrics = list(dict.fromkeys(own.index.get_level_values("metric")))
    head = "".join(f"<th>{escape(m)}</th><th>difference</th>" for m in metrics)
    lines = []
    for model in dict.fromkeys(own.index.get_level_values("model")):
        cells = []
        for metric in metrics:
            value = own.loc[(model, metric)]
            cells.append(f"<td>{_with_interval(value, '.4f')}</td>")
            known = (model, metric) in differences.index
            cells.append(
                f"<td>{_with_interval(differences.loc[(model, metric)], '+.4f')}</td>"
                if known
                else "<td></td>"
            )
        lines.append(f"<tr><td>{escape(str(model))}</td>{''.join(cells)}</tr>")
    note = f"{int(own['n_users'].max()):,} users with something to find."
    return paragraph(note, note=True) + _table(f"<th>model</th>{head}", lines)


def _with_interval(row: pd.Series | dict[Hashable, Any], form: str) -> str:
    """A value and its interval, empty where nothing could be measured."""
    if pd.isna(row["value"]):
        return ""
    return f"{row['value']:{form}} <small>{row['low']:{form}} to {row['high']:{form}}</small>"


def slice_table(rows: pd.DataFrame, ours: Sequence[str] = ()) -> str:
    """NDCG per slice, with the number of users of each; nothing when there are no slices."""
    rows = _ndcg(rows)
    if rows["slice"].nunique() < 2:
        return ""
    values = rows.pivot(index="model", columns="slice", values="value")
    values = values[slices_in_order(values.columns)]
    users = rows.groupby("slice")["n_users"].max()
    order = values[EVERYBODY].sort_index().sort_values(ascending=False, kind="stable").index
    head = "".join(
        f"<th>{escape(slice_name(str(s))).replace(': ', '<br>')}"
        f"<br><small>{users[s]:,} users</small></th>"
        for s in values.columns
    )
    best = values.max()
    lines = []
    for model in order:
        cells = "".join(
            "<td></td>"
            if pd.isna(v)
            else f"<td{_best(v == best[name] > 0) or _weak(users[name])}>{v:.4f}</td>"
            for name, v in values.loc[model].items()
        )
        lines.append(f"<tr{_mark(model, ours)}><td>{escape(str(model))}</td>{cells}</tr>")
    return _table(f"<th>model</th>{head}", lines)


def item_list_table(rows: pd.DataFrame) -> str:
    """The item-to-item lists: hit rates with intervals, and ours less popularity, paired."""
    lines = []
    for row in rows.to_dict("records"):
        gain = ""
        if pd.notna(row["difference"]):
            gain = (
                f"{row['difference']:+.4f} <small>{row['difference_low']:+.4f} to "
                f"{row['difference_high']:+.4f}, p {_p(row['p_value'])}</small>"
            )
        covered = "" if pd.isna(row["covered"]) else f"{row['covered']:.1%}"
        lines.append(
            f"<tr{_mark(row['model'], ('ours',))}><td>{escape(row['list'])}</td>"
            f'<td class="text">{escape(row["model"])}</td>'
            f"<td>{_with_interval(row, '.4f')}</td><td>{gain}</td>"
            f"<td>{covered}</td><td>{row['n_cases']:,}</td></tr>"
        )
    head = (
        '<th>list</th><th class="text">whose</th><th>hit rate <small>95% interval</small></th>'
        "<th>ours less popularity <small>paired by case</small></th>"
        "<th>cases with a list</th><th>cases</th>"
    )
    return _table(head, lines)


def glossary_table(names: Mapping[str, str]) -> str:
    """Terms and what they mean."""
    return _table(
        '<th>term</th><th class="text">what it says</th>',
        [
            f'<tr><td>{escape(name)}</td><td class="text wrap">{escape(text)}</td></tr>'
            for name, text in names.items()
        ],
    )


def metric_meanings(metrics: Sequence[str]) -> dict[str, str]:
    """Name -> meaning of the metrics of a scoreboard (`ndcg@10`), in their usual order."""
    known = {str(m).split("@")[0]: metric_name(str(m)) for m in metrics}
    return {known[m]: text for m, (_, text) in METRICS.items() if m in known}


def model_meanings(models: Sequence[str]) -> dict[str, str]:
    """Name -> meaning of each model."""
    return {m: meaning_of(m) for m in sorted(models, key=lambda m: (kind_of(m), m))}


def spread_table(rows: pd.DataFrame) -> str:
    """NDCG of each model at each cutoff, from a scoreboard over cutoffs of one task."""
    rows = _ndcg(rows)
    values = rows.pivot(index="model", columns="as_of", values="value")
    roles = rows.groupby("as_of")["role"].first()
    counted = values[[m for m in values.columns if roles[m] != "tune"]]
    values = values.assign(mean=counted.mean(axis=1), least=counted.min(axis=1))
    values = values.assign(most=counted.max(axis=1))[counted.notna().all(axis=1)]
    values = values.sort_index().sort_values("mean", ascending=False, kind="stable")
    head = "".join(
        f"<th>{c:%Y-%m-%d}<br><small>{escape(roles[c])}</small></th>"
        if isinstance(c, pd.Timestamp)
        else f"<th>{c}</th>"
        for c in values.columns
    )
    lines = [
        f"<tr{_mark(model, ('ranker',))}><td>{escape(str(model))}</td>"
        + "".join("<td></td>" if pd.isna(v) else f"<td>{v:.4f}</td>" for v in line)
        + "</tr>"
        for model, line in zip(values.index, values.to_numpy(dtype=float), strict=True)
    ]
    return _table(f"<th>model</th>{head}", lines)


def example_lists(rows: pd.DataFrame) -> str:
    """Users side by side: their past, our list, the other model's; what they then took is marked.

    `rows` are those of one task of the table `examples`.
    """
    parts = []
    for (example, kind), user in rows.groupby(["example", "kind"], sort=True):
        columns = []
        for column in user["column"].unique():
            lines = user[user["column"] == column].sort_values("place")
            names = "".join(
                f'<li class="hit">{escape(t)}</li>' if hit else f"<li>{escape(t)}</li>"
                for t, hit in zip(lines["title"], lines["found"], strict=True)
            )
            title = f"<strong>{escape(column)}</strong> <small>{int(lines['found'].sum())} of "
            title += f"{len(lines)} then taken</small>"
            columns.append(f"<div>{title}<ol>{names}</ol></div>")
        parts.append(
            heading(f"User {example}: {kind}") + f'<div class="user">{"".join(columns)}</div>'
        )
    return "\n".join(parts)


def _ndcg(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["metric"].str.startswith("ndcg")]


def _table(head: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _mark(model: object, ours: Sequence[str]) -> str:
    return ' class="ours"' if model in ours else ""


def _best(is_best: bool) -> str:
    return ' class="best"' if is_best else ""


def _weak(n_users: int) -> str:
    return ' class="weak"' if n_users < SMALL_SLICE else ""


def _sure(row: pd.Series) -> str:
    """Marks a difference whose interval does not hold zero."""
    return ' class="good"' if row["low"] > 0 else ' class="bad"' if row["high"] < 0 else ""


def _p(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"
