"""The asset of the report page: which sections it has and in which order.

Belongs here: choosing and explaining what is shown. Does not belong here: HTML (`report.py`) and
measuring.
"""

import base64
from collections.abc import Iterator

import pandas as pd

from recsys_assets.core.assets import GatedAsset, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    cutoff_of,
)
from recsys_assets.core.lake import Snapshot
from recsys_assets.evaluation import report as page
from recsys_assets.evaluation import tables
from recsys_assets.evaluation.reading import (
    OURS,
)
from recsys_assets.retrieval.candidates import union_margins

GROUP = "evaluation"


@table_asset(tables.REPORT_PAGE, group=GROUP, kinds=["html", "python"], config=("name",))
def report_page(
    scoreboard: Snapshot,
    policies: Snapshot,
    retriever_recall: Snapshot,
    item_list_metrics: Snapshot,
    examples: Snapshot,
    enrichment_lift: Snapshot,
    rankers: Snapshot,
    recommendations: Snapshot,
    cutoffs: Snapshot,
    scoreboard_cutoffs: Snapshot | None,
    ablation: Snapshot | None,
    calibration: Snapshot | None,
    tuned_settings: Snapshot | None,
    shop: Shop,
) -> pd.DataFrame:
    """Everything that was measured, as one self-contained page.

    What the scheduled studies found is on it once they have run.
    """
    table, decided = scoreboard.to_pandas(), policies.to_pandas()
    sections = [
        _summary(table, decided, recommendations, cutoffs),
        *_boards(table, scoreboard),
        _decisions(decided),
        _item_lists(item_list_metrics),
        page.Section("Examples", [
            block
            for task, rows in examples.to_pandas().groupby("task", sort=True)
            for block in (
                page.heading(page.TASK_NAMES[str(task)].capitalize()),
                page.example_lists(rows),
            )
        ]),
        _cold_items(enrichment_lift),
        _retrievers(retriever_recall),
        page.Section("Ranker", _pictures(rankers)),
        _cutoff_spread(scoreboard_cutoffs),
        page.Section("What each part is worth", _pictures(ablation)),
        page.Section("Calibration", _pictures(calibration)),
        _tuning(tuned_settings),
    ]  # fmt: skip
    html = page.render_page(f"How good are the recommendations? {shop.name}", sections)
    return pd.DataFrame({"name": ["scoreboard"], "html": [html]})


def _pictures(source: Snapshot | None) -> list[str]:
    plots = source.report().get("plots", {}) if source is not None else {}
    return [page.figure(name, base64.b64decode(png)) for name, png in plots.items()]


def _summary(
    table: pd.DataFrame, decided: pd.DataFrame, recommendations: Snapshot, cutoffs: Snapshot
) -> page.Section:
    section = page.Section("In short")
    board = table[table["target"] == "evaluate"]
    if board.empty:
        section.blocks.append(
            page.paragraph("The data are too short to hold out a period: nothing was measured.")
        )
        return section
    as_of = cutoff_of(cutoffs, "evaluate")
    release = recommendations.report().get("texts", {}).get("release", "")
    own = board["baseline"] == ""
    section.blocks += [
        page.headline_table(board[own], board[~own], decided),
        page.paragraph(
            f"Everything was learned from events before {as_of:%Y-%m-%d} and measured on what "
            "users took in the horizon after it, ranked over the full catalogue. 'ours' is what "
            "would be shown after the business rules; 'ours_no_rules' is the order before. A value "
            "is the mean over users and over seeds of the ranker; intervals are 95% bootstrap "
            "intervals over users; differences are paired by user. What is published was decided "
            "on the tune target, one horizon earlier, and on nothing later."
        ),
        page.paragraph(f"Release measured beside: {release}", note=True),
    ]
    return section


def _boards(table: pd.DataFrame, source: Snapshot) -> Iterator[page.Section]:
    """One section per task of the evaluate target; the tune target folded away in it."""
    pictures = source.report().get("plots", {})
    own = table[table["baseline"] == ""]
    for task, name in page.TASK_NAMES.items():
        section = page.Section(name.capitalize())
        for target, rows in own[own["task"] == task].groupby("target", sort=True):
            everybody = rows[rows["slice"] == "all"]
            blocks = [
                page.model_table(everybody, OURS),
                page.slice_table(rows, OURS),
            ]
            if target == "evaluate":
                if f"ndcg {task}" in pictures:
                    png = base64.b64decode(pictures[f"ndcg {task}"])
                    section.blocks.append(page.figure(f"NDCG, task {task}", png))
                section.blocks += blocks
            else:
                section.blocks.append(page.folded("The same on the tune target", blocks))
        yield section


def _decisions(decided: pd.DataFrame) -> page.Section:
    section = page.Section("What is published, and why")
    columns = [
        "placement", "model", "reason", "ranker_ndcg", "simpler_ndcg", "difference", "low", "high",
        "n_users",
    ]  # fmt: skip
    section.blocks = [
        page.paragraph(
            "The ranker is published unless the best simpler model beats it on the tune target by "
            "more than noise (a paired 95% interval wholly below zero)."
        ),
        page.plain_table(decided[columns].rename(columns=lambda c: c.replace("_", " "))),
    ]
    return section


def _item_lists(source: Snapshot) -> page.Section:
    section = page.Section("Item-to-item lists")
    rows = source.to_pandas()
    if len(rows):
        section.blocks = [
            page.paragraph(
                "Made at the evaluate cutoff. bought_together: one item of a held-out basket is "
                "shown, a hit is another item of that basket. similar_items: a user takes a new "
                "product of a known category, a hit is that the list of the item they took last "
                "there has it. Popularity is the same for everybody, of the category for "
                "similar_items."
            ),
            page.plain_table(rows.rename(columns=lambda c: c.replace("_", " "))),
        ]
    return section


_COLD_SETS = {
    "no history": "Among the items nobody had taken before the cutoff",
    "hidden": "Among items made cold: all history of a random 5% of the others is hidden",
    "in lists": "The lists of discover, their last place given to an item without history",
}


def _cold_items(source: Snapshot) -> page.Section:
    section = page.Section("Items without history, and whether their enrichment helps")
    rows, told = source.to_pandas(), source.report().get("texts", {})
    if rows.empty:
        return section
    section.blocks = [
        page.paragraph(told["verdict"]),
        page.paragraph(
            "'text similarity' is the content retriever; 'like products' counts what became of "
            "other new products of the same group, kind and brand, and how much the user takes of "
            "them. To that each use of the enrichment is added at the best of three weights on "
            "tune. Values are means over users who then took such an item, with 95% bootstrap "
            "intervals; differences are paired by user: to 'like products', and of that to 'text "
            "similarity'. 'ndcg@10 warm' counts only what others had taken before."
        ),
        page.plain_table(
            pd.DataFrame(
                [(use, text) for use, text in told.items() if use != "verdict"],
                columns=["use", "verdict on tune, all comparisons considered"],
            )
        ),
    ]
    for cold_set, title in _COLD_SETS.items():
        for target in ("evaluate", "tune"):
            own = rows[(rows["cold_set"] == cold_set) & (rows["target"] == target)]
            if own.empty:
                continue
            table = page.comparison_table(own)
            if target == "evaluate":
                section.blocks += [page.heading(title), table]
            else:
                section.blocks.append(page.folded("The same on the tune target", [table]))
    return section


def _cutoff_spread(source: Snapshot | None) -> page.Section:
    section = page.Section("The same recipe at other cutoffs")
    rows = source.to_pandas() if source is not None else pd.DataFrame()
    for task in page.TASK_NAMES:
        own = rows[rows["task"] == task] if len(rows) else rows
        if len(own):
            section.blocks += [page.heading(f"NDCG, task {task}"), page.spread_table(own)]
    if section.blocks:
        note = (
            "One window is one draw: fitted anew at each cutoff on what was known then. Settings "
            "were chosen on tune, which is shown and not counted in mean, least and most."
        )
        section.blocks.insert(0, page.paragraph(note))
    return section


def _retrievers(source: Snapshot) -> page.Section:
    """What each finds on the last measured target, and whether all together find more."""
    section = page.Section("Retrievers", _pictures(source))
    rows = source.to_pandas()
    rows = rows[rows["target"] == rows["target"].min()]  # evaluate where it was measured
    depths = [c for c in rows.columns if c.startswith("recall_")]
    for task, own in rows.groupby("task", sort=True):
        margins = union_margins(own)
        said = ", ".join(f"{m:+.4f} at {d.removeprefix('recall_')}" for d, m in margins.items())
        section.blocks += [
            page.heading(page.TASK_NAMES[str(task)].capitalize()),
            page.paragraph(f"Recall of the union less that of its best member: {said}."),
            page.plain_table(
                own.sort_values("recall", ascending=False)[
                    ["retriever", *depths, "recall", "unique"]
                ]
            ),
        ]
    return section


def _tuning(source: Snapshot | None) -> page.Section:
    section = page.Section("Tuning")
    rows = source.to_pandas() if source is not None else pd.DataFrame()
    for task, trials in rows.groupby("task", sort=True) if len(rows) else ():
        best = trials.sort_values(["ndcg", "trial"], ascending=[False, True]).head(5)
        section.blocks += [
            page.heading(f"Task {task}: the best of {len(trials)} trials; 0 is as configured"),
            page.plain_table(best[["trial", "ndcg", "settings"]]),
        ]
    return section


ASSETS: list[GatedAsset] = [
    report_page,
]
