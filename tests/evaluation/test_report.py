"""Pictures and page: readable by themselves, small, repeatable, and safe with any name."""

import re
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_assets.core import plots
from recsys_assets.core.metrics import per_user_metrics
from recsys_assets.evaluation import page_assets
from recsys_assets.evaluation import report as page
from recsys_assets.evaluation.tables import RETRIEVER_RECALL
from recsys_assets.retrieval.candidates import retriever_recall

METRICS = pd.DataFrame(
    [
        ("evaluate", "all", model, slice_name, metric, value, value - 0.01, value + 0.01, 100)
        for model, value in (("ours", 0.4), ("<b>popular</b>", 0.2))
        for slice_name in ("all", "users:none")
        for metric in ("hit@10", "ndcg@10")
    ],
    columns=["target", "task", "model", "slice", "metric", "value", "low", "high", "n_users"],
).assign(n_seeds=3, seed_low=0.39, seed_high=0.41)
OURS = METRICS[METRICS["model"] == "ours"]
DIFFERENCES = pd.concat(
    OURS.assign(baseline=name, p_value=0.002) for name in ("retriever: r", "<b>popular</b>")
)
ITEM_LISTS = pd.DataFrame(
    {
        "list": "similar_items",
        "model": ["ours", "popularity"],
        "value": [0.2, 0.1],
        "low": [0.15, 0.05],
        "high": [0.25, 0.15],
        "covered": [0.5, 1.0],
        "difference": [0.1, np.nan],
        "difference_low": [0.02, np.nan],
        "difference_high": [0.2, np.nan],
        "p_value": [0.01, np.nan],
        "n_cases": 1234,
    }
)
POLICIES = pd.DataFrame({"task": ["all"], "placement": ["for_you"], "model": ["<i>ranker</i>"]})


def pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    recall = pd.DataFrame(
        [(f"r{n}", k, k / 1000 / (n + 1)) for n in range(8) for k in (10, 100, 500)],
        columns=["retriever", "k", "recall"],
    )
    importance = pd.Series(rng.random(80), index=[f"a_rather_long_feature_{n}" for n in range(80)])
    return {
        "bars": plots.metric_bars(METRICS, task="all", highlight=["ours"]),
        "recall": plots.recall_by_retriever(recall),
        "scores": plots.score_histogram({"taken": rng.normal(size=999), "none": [np.nan]}),
        "curve": plots.learning_curve({"train": [0.1, 0.2], "held out": [0.1, 0.15]}),
        "importance": plots.feature_importance(importance),
        "spread": plots.spread(
            pd.DataFrame(
                {
                    "model": ["ranker", "ranker", "popular"],
                    "as_of": pd.to_datetime(["2017-10-09", "2017-12-04", "2017-12-04"], utc=True),
                    "value": [0.4, 0.5, 0.2],
                    "low": [0.3, 0.4, 0.1],
                    "high": [0.5, 0.6, 0.3],
                }
            ),
            title="Cutoffs",
            highlight=("ranker",),
        ),
        "losses": plots.losses(
            pd.DataFrame(
                {"name": ["a", "b"], "loss": [0.1, -0.1], "low": [0.0, -0.2], "high": [0.2, 0.0]}
            ),
            title="What each part is worth",
        ),
        "reliability": plots.reliability(
            pd.DataFrame({"predicted": [0.0, 0.1, 0.3], "observed": [0.0, 0.12, 0.31]}),
            title="Calibration",
        ),
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


def page_of_everything() -> str:
    examples = pd.DataFrame(
        {
            "example": "A",
            "kind": "win",
            "column": ["ours", "ours", "best"],
            "place": [1, 2, 1],
            "title": ["<script>", "MILK", "BREAD"],
            "found": [True, False, False],
        }
    )
    cutoffs = pd.DataFrame(
        {
            "as_of": pd.to_datetime(["2017-10-09", "2017-11-06", "2017-12-04"], utc=True),
            "role": ["earlier", "tune", "evaluate"],
            "model": "ranker",
            "metric": "ndcg",
            "value": [0.40, 0.99, 0.42],
        }
    )
    board = [
        page.headline_table(METRICS, DIFFERENCES, POLICIES),
        page.model_table(METRICS[METRICS["slice"] == "all"], ("ndcg", "hit"), ["ours"]),
        page.slice_table(METRICS),
        page.difference_table(DIFFERENCES),
        page.item_list_table(ITEM_LISTS),
        page.glossary_table(page.metric_meanings(["ndcg@10"]) | page.model_meanings(["<em>"])),
        page.plain_table(pd.DataFrame({"what": ["<u>"], "n": [1200], "share": [0.5]})),
        page.folded("more <i>", [page.paragraph("A & B")]),
        *(page.figure(name, png) for name, png in pictures().items()),
    ]
    looks = [page.spread_table(cutoffs), page.example_lists(examples)]
    return page.render_page(
        "Board",
        [page.Section("Board", board), page.Section("Looks", looks), page.Section("None")],
        footer="from <s>",
    )


def test_the_page_needs_nothing_from_outside_and_escapes_names() -> None:
    html = page_of_everything()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|@import|url\(|<script", html)
    for name in ("<b>popular", "<i>ranker", "<u>", "more <i>", "<em>", "from <s>"):
        assert name not in html and name.replace("<", "&lt;").replace(">", "&gt;") in html
    assert html.count("<img") == len(pictures())
    assert html == page_of_everything()


def test_a_printed_page_cuts_no_wide_table_off() -> None:
    html = page_of_everything()
    assert "div.wide { overflow-x: auto; }" in html, "on a screen it is scrolled"
    printed = html.partition("@media print")[2]
    assert "div.wide { overflow: visible; }" in printed and "A4 landscape" in printed


def test_the_page_says_first_what_is_published_with_seeds_and_paired_differences() -> None:
    html = page_of_everything()
    row = html[html.index("<td>for_you") : html.index("</tr>", html.index("<td>for_you"))]
    assert "0.4000 <small>0.3900 to 0.4100</small>" in row and "0.3900 to 0.4100</td>" in row
    assert row.index("popular&lt;/b&gt;: +0.4000") < row.index("retriever: r: +0.4000")
    assert "p 0.002" in row


def test_what_is_published_instead_of_the_ranker_is_not_compared_with_itself_by_name() -> None:
    board = pd.DataFrame(
        {
            "task": "new",
            "model": "ours",
            "baseline": ["", "blend_tuned", "popular"],
            "metric": "ndcg@10",
            "value": [0.11, 0.005, 0.05],
            "low": [0.07, -0.001, 0.02],
            "high": [0.17, 0.012, 0.09],
        }
    )
    numbers = "(+0.0050, 95% -0.0010 to +0.0120)."
    said = page_assets._verdict(board, "new", "discover", "blend_tuned")
    assert said.endswith(f"told apart by these users from its own order before the rules {numbers}")
    said = page_assets._verdict(board, "new", "discover", "ranker")
    assert said.endswith(f"from the best simpler model, blend_tuned {numbers}")


def test_named_users_of_whom_nothing_was_measured_are_told_by_number() -> None:
    rows = pd.DataFrame(
        {"task": "all", "example": ["u1", "A"], "kind": ["named", "win"], "column": "ours",
         "place": 1, "title": "MILK", "found": True}
    )  # fmt: skip
    said = "1 of the 2 users whom the shop file names took nothing in that period"
    shown = "".join(page_assets._examples(rows, ["u1", "gone"], 10).blocks)
    assert said in shown and "gone" not in shown
    assert "users whom" not in "".join(page_assets._examples(rows, ["u1"], 10).blocks)
    nobody = page_assets._examples(rows.iloc[:0], ["u1"], 10)
    assert "1 of the 1 users" in "".join(nobody.blocks)
    assert page_assets._examples(rows.iloc[:0], [], 10).blocks == []


@pytest.mark.parametrize(("tasks", "said"), [(["all"], True), (["all", "again"], False)])
def test_where_nothing_repeats_the_page_says_that_taking_again_does_not_count(
    tasks: list[str], said: bool
) -> None:
    board = METRICS.assign(baseline="", model="ours")
    policies = pd.DataFrame({"task": tasks, "placement": tasks, "model": "ranker"})
    day = pd.Timestamp("2024-05-06", tz="UTC")
    cutoffs = pd.DataFrame({"target": ["evaluate"], "as_of": [day], "horizon_end": [day]})
    shown = page_assets._summary(board.drop_duplicates("metric"), policies, cutoffs, 10)
    assert ("Nothing is taken twice here" in "".join(shown.blocks)) is said


def test_the_columns_of_retriever_recall_say_what_is_a_mean_over_users_and_what_a_share() -> None:
    """One of u's three and v's only one is found: (1/3 + 1) / 2 by user, 2 of 4 pairs."""
    labels = pd.DataFrame(
        {"user_id": list("uuuv"), "item_id": list("abca"), "taken": True, "is_new": True}
    )
    pool = pd.DataFrame(
        {"user_id": ["u", "v"], "item_id": "a", "rank_als": 1, "seen": False}
    )  # fmt: skip
    found = retriever_recall(pool, labels).iloc[0]
    assert found[["recall", "unique"]].tolist() == [pytest.approx(2 / 3), 0.5]
    said = {c.name: c.meaning for c in RETRIEVER_RECALL.columns}
    assert said["recall"].endswith("mean over users") and "of all pairs" in said["unique"]
    assert said["recall_*"].endswith("mean over users")


def test_the_glossary_says_what_metrics_are_divided_by() -> None:
    lists = pd.DataFrame({"user_id": "u", "item_id": ["x", "a"], "rank": [1, 2]})
    relevant = pd.DataFrame({"user_id": "u", "item_id": ["a", "b"]})
    found = per_user_metrics(lists, relevant, (10,)).iloc[0]
    meanings = page.metric_meanings(["precision@10", "map@10"])
    assert found["precision@10"] == 1 / 10 and "empty places counted" in meanings["precision@10"]
    assert found["map@10"] == (1 / 2) / 2 and "as the best list has" in meanings["MAP@10"]


def test_the_page_lists_the_best_model_first_and_the_users_of_each_slice() -> None:
    html = page_of_everything()
    table = html[html.index("<th>model</th>") :]
    assert table.index("<td>ours") < table.index("popular")
    assert "none<br>0 baskets<br><small>100 users</small>" in html


def test_the_page_says_on_which_users_a_difference_is_beyond_noise() -> None:
    rows = pd.DataFrame(
        {
            "model": "ours",
            "baseline": "popular",
            "slice": ["users:over 20", "all", "users:none", "users:1-5"],
            "metric": "ndcg@10",
            "value": [0.1, 0.02, -0.1, 0.3],
            "low": [0.05, -0.01, -0.2, 0.1],
            "high": [0.15, 0.03, 0.2, 0.5],
            "p_value": [0.002, 0.2, 0.9, 0.01],
            "n_users": [500, 600, 5, 20],
        }
    )
    table = page.difference_table(rows)
    assert table.index("everybody") < table.index("0 baskets") < table.index("heavy")
    assert '<td class="good">+0.1000</td>' in table
    assert "<td>+0.0200</td>" in table, "an interval with zero in it is no gain"
    assert '<td class="weak">-0.1000</td>' in table, "five users say little"
    assert '<td class="weak">+0.3000</td>' in table, "so do twenty who agree"


def test_an_item_list_is_shown_with_its_paired_gain_and_how_many_cases_it_covers() -> None:
    row = page.item_list_table(ITEM_LISTS).split("<tr")[2]
    assert "0.2000 <small>0.1500 to 0.2500</small>" in row
    assert "+0.1000 <small>+0.0200 to +0.2000, p 0.010</small>" in row
    assert "<td>50.0%</td><td>1,234</td>" in row


def test_a_table_says_yes_and_no_and_not_one_and_zero() -> None:
    table = page.plain_table(pd.DataFrame({"trial": [1], "won": [True], "lost": [False]}))
    assert "<td>1</td><td>yes</td><td>no</td>" in table


def test_a_section_without_content_is_left_out() -> None:
    html = page_of_everything()
    assert 'href="#looks"' in html and "None" not in html


def test_the_spread_counts_every_cutoff_but_the_one_settings_were_chosen_on() -> None:
    html = page_of_everything()
    assert "<td>0.4100</td><td>0.4000</td><td>0.4200</td>" in html
    assert "2017-11-06<br><small>tune</small>" in html


def test_what_an_example_user_then_took_is_marked() -> None:
    html = page_of_everything()
    assert '<li class="hit">&lt;script&gt;</li><li>MILK</li>' in html


def test_over_cutoffs_ours_is_in_our_colour_wherever_it_ends_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plots, "_png", lambda figure: figure)
    days = ("2017-10-09", "2017-12-04")
    lines = [(f"m{n}", day, 0.40 + n / 100) for n in range(7) for day in days]
    rows = pd.DataFrame(lines, columns=["model", "as_of", "value"])
    rows = rows.assign(low=rows["value"] - 0.01, high=rows["value"] + 0.01)
    figure: Any = plots.spread(rows, title="all", highlight=("m0",))
    axes = figure.axes[0]
    drawn = {c.get_label(): c.lines[0] for c in axes.containers}
    assert drawn["m0"].get_color() == plots.OURS_COLOUR
    styles = {(line.get_color(), line.get_linestyle()) for line in drawn.values()}
    assert len(styles) == 7
    assert axes.get_ylim()[0] > 0.3, "values from 0.39 to 0.47 fill the picture"


def test_every_retriever_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_png", lambda figure: figure)
    rows = [(f"r{n}", k, n / 20) for n in range(20) for k in (10, 100)]
    figure: Any = plots.recall_by_retriever(
        pd.DataFrame(rows, columns=["retriever", "k", "recall"])
    )
    drawn = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(drawn) == 20
