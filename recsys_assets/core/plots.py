"""Small pictures of quality, as PNG bytes, for the UI and the report.

Belongs here: drawing numbers that somebody else computed, in one style. Does not belong here:
computing them, and files. matplotlib is imported when the first picture is drawn (0.5 s), with the
Agg canvas, so that no display and no global state is touched. A picture holds aggregates only.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

OURS_COLOUR, BASELINE_COLOUR, LINE_COLOURS = (
    "#2f6f9f",
    "#b8c4cc",
    ("#2f6f9f", "#d1762e", "#5a9367", "#8a5a9e", "#b0413e", "#7a7a7a"),
)
_STROKES = ("-", "--", ":", "-.")
"""Of lines of one colour."""
_DPI = 90
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "font.family": "DejaVu Sans",
}


def metric_bars(
    metrics: pd.DataFrame,
    *,
    task: str,
    metric: str = "ndcg@10",
    highlight: Sequence[str] = (),
    title: str | None = None,
) -> bytes:
    """One bar per model with its interval, best on top, from the `metrics` of a scoreboard.

    Models in `highlight` are drawn in the strong colour. Raises ValueError when nothing matches.
    """
    wanted = (metrics["task"] == task) & (metrics["metric"] == metric)
    rows = metrics[wanted & (metrics["slice"] == "all")]
    if rows.empty:
        raise ValueError(f"no {metric} of task {task} over all users")
    rows = rows.sort_values(["value", "model"], ascending=[True, False])
    figure, axes = _canvas(6.4, 0.9 + 0.3 * len(rows))
    value = rows["value"].to_numpy(dtype=float)
    low = np.nan_to_num(value - rows["low"].to_numpy(dtype=float)).clip(min=0)
    high = np.nan_to_num(rows["high"].to_numpy(dtype=float) - value).clip(min=0)
    colours = [OURS_COLOUR if model in highlight else BASELINE_COLOUR for model in rows["model"]]
    places = np.arange(len(rows))
    axes.barh(places, value, color=colours, xerr=[low, high], error_kw={"lw": 1, "capsize": 2})
    axes.set_yticks(places, rows["model"].tolist())
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    edge = float(np.max(value + high, initial=0)) or 1.0
    for place, v, h in zip(places, value, high, strict=True):
        axes.text(v + h + edge * 0.01, place, f"{v:.4f}", va="center", fontsize=8)
    axes.set_xlim(0, edge * 1.14)
    axes.set_xlabel(f"{metric}, 95% interval over {int(rows['n_users'].max()):,} users")
    axes.set_title(title or f"Task {task}: {metric}", loc="left")
    return _png(figure)


def recall_by_retriever(recall: pd.DataFrame, *, title: str = "Recall by retriever") -> bytes:
    """One line per retriever over list length, from `retriever, k, recall`."""
    figure, axes = _canvas(6.4, 3.4)
    names = recall.groupby("retriever")["recall"].max().sort_values(ascending=False).index
    for number, name in enumerate(names):
        line = recall[recall["retriever"] == name].sort_values("k")
        axes.plot(
            line["k"],
            line["recall"],
            marker="o",
            markersize=3,
            label=str(name),
            color=LINE_COLOURS[number % len(LINE_COLOURS)],
            linestyle=_STROKES[number // len(LINE_COLOURS) % len(_STROKES)],
        )
    axes.set_xscale("log")
    ticks = sorted(recall["k"].unique())
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("candidates per user")
    axes.set_ylabel("recall")
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def score_histogram(scores: Mapping[str, npt.ArrayLike], *, title: str = "Scores") -> bytes:
    """Share of rows by score, one outline per name; values that are not finite are left out."""
    figure, axes = _canvas(6.4, 3.0)
    finite = {name: _finite(values) for name, values in scores.items()}
    everything = np.concatenate([np.zeros(0), *finite.values()])
    edges = np.histogram_bin_edges(everything, bins=50) if len(everything) else np.arange(2.0)
    for number, (name, values) in enumerate(finite.items()):
        counts = np.histogram(values, bins=edges)[0] / max(len(values), 1)
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        axes.stairs(counts, edges, label=f"{name} ({len(values):,})", color=colour, lw=1.4)
    axes.set_xlabel("score")
    axes.set_ylabel("share of rows")
    axes.set_title(title, loc="left")
    if finite:
        axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def learning_curve(
    curves: Mapping[str, Sequence[float]],
    *,
    title: str = "Learning curve",
    x_label: str = "trees",
) -> bytes:
    """One line per name over steps 1, 2, 3, ..."""
    figure, axes = _canvas(6.4, 3.0)
    for number, (name, values) in enumerate(curves.items()):
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        axes.plot(np.arange(1, len(values) + 1), list(values), label=name, color=colour, lw=1.4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(x_label)
    axes.set_ylabel("ndcg@10")
    axes.set_title(title, loc="left")
    if curves:
        axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def spread(rows: pd.DataFrame, *, title: str, highlight: Sequence[str] = ()) -> bytes:
    """One line per model over cutoffs, from `model, as_of, value, low, high`; `highlight` with
    intervals, thick and in our colour. The axis shows where they are, not how far from 0."""
    figure, axes = _canvas(6.4, 3.2)
    names = rows.groupby("model")["value"].mean().sort_values(ascending=False).index
    others = [name for name in names if name not in highlight]
    days = sorted(rows["as_of"].unique())
    for name in names:
        ours = name in highlight
        colours = (OURS_COLOUR,) if ours else LINE_COLOURS[1:]
        number = 0 if ours else others.index(name)
        line = rows[rows["model"] == name].sort_values("as_of")
        place = [days.index(day) for day in line["as_of"]]
        value = line["value"].to_numpy(dtype=float)
        error = np.abs(line[["low", "high"]].to_numpy(dtype=float).T - value) if ours else None
        axes.errorbar(
            place, value, yerr=error, marker="o", ms=4, lw=2.2 if ours else 1.2, capsize=3,
            color=colours[number % len(colours)],
            ls=_STROKES[number // len(colours) % len(_STROKES)], label=str(name),
        )  # fmt: skip
    axes.set_xticks(range(len(days)), [f"{pd.Timestamp(day):%Y-%m-%d}" for day in days])
    axes.set_xlabel("cutoff; bars: 95% interval over users")
    axes.set_ylabel("NDCG")
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def losses(rows: pd.DataFrame, *, title: str) -> bytes:
    """What is lost without each part, with its interval, from `name, loss, low, high`."""
    rows = rows.sort_values(["loss", "name"], ascending=[True, False])
    figure, axes = _canvas(6.4, 0.9 + 0.26 * max(len(rows), 1))
    places, value = np.arange(len(rows)), rows["loss"].to_numpy(dtype=float)
    error = np.abs(rows[["low", "high"]].to_numpy(dtype=float).T - value)
    axes.barh(places, value, color=OURS_COLOUR, xerr=error, error_kw={"lw": 1, "capsize": 2})
    axes.axvline(0, color="#333333", lw=0.8)
    axes.set_yticks(places, rows["name"].tolist())
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("NDCG lost without it, 95% interval over users")
    axes.set_title(title, loc="left")
    return _png(figure)


def reliability(rows: pd.DataFrame, *, title: str) -> bytes:
    """Predicted against observed chance, from `predicted, observed`, on logarithmic axes."""
    figure, axes = _canvas(4.6, 3.6)
    shown = rows[(rows["predicted"] > 0) & (rows["observed"] > 0)]
    axes.plot(shown["predicted"], shown["observed"], "o-", color=OURS_COLOUR, lw=1.2, ms=4)
    both = shown[["predicted", "observed"]].to_numpy(dtype=float)
    if both.size:
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, color="#333333", lw=0.8, ls="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_minor_formatter("")
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("predicted chance")
    axes.set_ylabel("share taken")
    axes.set_title(title, loc="left")
    return _png(figure)


def feature_importance(importance: pd.Series, *, title: str = "Feature importance") -> bytes:
    """The 20 largest features (index = name) as bars, as shares of the sum of all."""
    total = float(importance.sum()) or 1.0
    best = (importance / total).sort_index().sort_values(ascending=False, kind="stable")[:20][::-1]
    figure, axes = _canvas(6.4, 0.9 + 0.22 * max(len(best), 1))
    places = np.arange(len(best))
    axes.barh(places, best.to_numpy(), color=OURS_COLOUR)
    axes.set_yticks(places, [str(name) for name in best.index])
    axes.set_ylim(-0.6, len(best) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"share of total, best {len(best)} of {len(importance)} features")
    axes.set_title(title, loc="left")
    return _png(figure)


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, dtype=float).ravel()
    return numbers[np.isfinite(numbers)]


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="tight")
        FigureCanvasAgg(figure)
        return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    """The figure as PNG, without the metadata that would change with the library's version."""
    from matplotlib import rc_context

    target = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
