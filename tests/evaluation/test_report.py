"""Pictures and page: readable by themselves, small, repeatable, and safe with any name."""

import re
import struct

import numpy as np
import pandas as pd
import pytest

from recsys_assets.core import plots
from recsys_assets.evaluation.report import render_report

METRICS = pd.DataFrame(
    [
        ("tune", "all", model, slice_name, metric, value, value - 0.01, value + 0.01, 100)
        for model, value in (("<b>ours</b>", 0.4), ("popular", 0.2))
        for slice_name in ("all", "users:none")
        for metric in ("hit@10", "ndcg@10")
    ],
    columns=["target", "task", "model", "slice", "metric", "value", "low", "high", "n_users"],
)
DIFFERENCES = METRICS[METRICS["model"] == "<b>ours</b>"].assign(baseline="popular", p_value=0.002)


def pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    recall = pd.DataFrame(
        [(f"r{n}", k, k / 1000 / (n + 1)) for n in range(8) for k in (10, 100, 500)],
        columns=["retriever", "k", "recall"],
    )
    importance = pd.Series(rng.random(80), index=[f"a_rather_long_feature_{n}" for n in range(80)])
    return {
        "bars": plots.metric_bars(METRICS, task="all", highlight=["<b>ours</b>"]),
        "recall": plots.recall_by_retriever(recall),
        "scores": plots.score_histogram({"taken": rng.normal(size=999), "none": [np.nan]}),
        "curve": plots.learning_curve({"train": [0.1, 0.2], "held out": [0.1, 0.15]}),
        "importance": plots.feature_importance(importance),
    }


def test_pictures_are_small_png_files_and_the_same_every_time() -> None:
    drawn, again = pictures(), pictures()
    for name, png in drawn.items():
        assert png.startswith(b"\x89PNG\r\n\x1a\n"), name
        assert len(png) < 60_000, name
        width, height = struct.unpack(">II", png[16:24])
        assert 400 < width < 1000 and 100 < height < 1000, name
        assert png == again[name], name


def test_bars_of_a_task_that_was_not_measured_are_refused() -> None:
    with pytest.raises(ValueError, match="no ndcg@10 of task new"):
        plots.metric_bars(METRICS, task="new")


def test_the_page_needs_nothing_from_outside_and_escapes_names() -> None:
    page = render_report(
        "Board",
        METRICS,
        DIFFERENCES,
        ours=["<b>ours</b>"],
        pictures=pictures(),
        texts={"Why": "A\n\nB"},
    )
    assert not re.search(r"(?:src|href)=\"(?!data:)|@import|url\(|<script", page)
    assert "<b>ours</b>" not in page and "&lt;b&gt;ours&lt;/b&gt;" in page
    assert page.count("<img") == 5 and "<p>A</p>\n<p>B</p>" in page


def test_the_page_lists_the_best_model_first_with_interval_slices_and_difference() -> None:
    page = render_report("Board", METRICS, DIFFERENCES)
    assert page.index("&lt;b&gt;ours") < page.index("popular")
    assert "0.4000 <small>0.3900 to 0.4100</small>" in page
    assert "users:none<br><small>100 users</small>" in page
    assert "+0.4000</td><td>+0.3900 to +0.4100</td><td>0.002" in page
    assert page == render_report("Board", METRICS, DIFFERENCES)
