"""The asset of the report page: which sections it has and in which order.

Belongs here: choosing and explaining what is shown. Does not belong here: HTML (`report.py`), words
that more than one page needs (`glossary.py`), and measuring.
"""

import base64
import json
from collections.abc import Collection, Iterator

import pandas as pd

from recsys_assets.core.assets import GatedAsset, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.metrics import ACCURACY
from recsys_assets.evaluation import ab_test as arms
from recsys_assets.evaluation import report as page
from recsys_assets.evaluation import tables
from recsys_assets.evaluation.glossary import METRICS, OUTCOMES, TASK_NAMES, caption_of
from recsys_assets.evaluation.reading import OURS
from recsys_assets.evaluation.scoreboard import EVERYBODY
from recsys_assets.retrieval.candidates import union_margins

GROUP = "evaluation"
_BEYOND = tuple(metric for metric in METRICS if metric not in ACCURACY)


@table_asset(
    tables.REPORT_PAGE,
    group=GROUP,
    kinds=["html", "python"],
    config=("name", "evaluation", "examples"),
)
def report_page(
    scoreboard: Snapshot,
    policies: Snapshot,
    retriever_recall: Snapshot,
    item_list_metrics: Snapshot,
    examples: Snapshot,
    enrichment_lift: Snapshot,
    ab_test: Snapshot,
    rankers: Snapshot,
    cutoffs: Snapshot,
    scoreboard_cutoffs: Snapshot | None,
    ablation: Snapshot | None,
    calibration: Snapshot | None,
    tuned_settings: Snapshot | None,
    shop: Shop,
) -> pd.DataFrame:
    """Everything that was measured, as one self-contained page.

    What is published and how sure that is comes first, then each task, then what explains it. What
    the scheduled studies found is on it once they have run.
    """
    table, decided = scoreboard.to_pandas(), policies.to_pandas()
    sections = [
        _summary(table, decided, cutoffs.to_pandas(), shop.evaluation.k),
        _ab_test(ab_test, shop),
        _reading(table),
        *_boards(table, scoreboard),
        _cutoff_spread(scoreboard_cutoffs),
        _item_lists(item_list_metrics, shop.evaluation.k),
        _examples(examples.to_pandas(), shop.examples.users, shop.evaluation.k),
        _cold_items(enrichment_lift),
        _retrievers(retriever_recall),
        _ablation(ablation),
        page.Section("Rankers", _pictures(rankers)),
        _calibration(calibration),
        _decisions(decided),
        _tuning(tuned_settings),
    ]
    footer = (
        "Made by `recsys scoreboard --html FILE` from the tables of the run. `recsys export "
        "evaluation_lists lists.parquet` gives every list that was measured, to recompute it."
    )
    html = page.render_page(f"How good are the recommendations? {shop.name}", sections, footer)
    return pd.DataFrame({"name": ["scoreboard"], "html": [html]})


def _pictures(source: Snapshot | None) -> list[str]:
    plots = source.report().get("plots", {}) if source is not None else {}
    return [page.figure(caption_of(name), base64.b64decode(png)) for name, png in plots.items()]


def _summary(
    table: pd.DataFrame, decided: pd.DataFrame, cutoffs: pd.DataFrame, k: int
) -> page.Section:
    section = page.Section("In short")
    board = table[(table["target"] == "evaluate") & (table["slice"] == EVERYBODY)]
    if board.empty:
        section.blocks.append(
            page.paragraph("The data are too short to hold out a period: nothing was measured.")
        )
        return section
    held = cutoffs[cutoffs["target"] == "evaluate"].iloc[0]
    own = board["baseline"] == ""
    section.blocks += [
        *(
            page.paragraph(text, lead=True)
            for line in decided.to_dict("records")
            if (text := _verdict(board, line["task"], line["placement"], line["model"]))
        ),
        page.headline_table(board[own], board[~own], decided),
        page.paragraph(
            f"Everything was learned from events before {held['as_of']:%Y-%m-%d} and measured on "
            f"what users took from then until {held['horizon_end']:%Y-%m-%d}: the first {k} places "
            "of lists ranked over the full catalogue, no negatives sampled. 'ours' is what would "
            "be shown after the business rules, 'ours_no_rules' the order before them. A value is "
            "the mean over users, and over the seeds of the ranker; 95% intervals are bootstrapped "
            "over users; differences are paired by user, so they are surer than the intervals of "
            "two values suggest. One period is one draw: the weekly studies repeat the recipe at "
            "other cutoffs."
        ),
        page.paragraph(
            "What is published was decided on the tune target, one horizon earlier, and on nothing "
            "later. A user without a list counts as 0; a user who took nothing does not count."
        ),
    ]
    if "again" not in set(decided["task"]):
        section.blocks.append(
            page.paragraph(
                "Nothing is taken twice here (repeats: false): what somebody had taken before is "
                "on no list, and taking it again counts for nobody, in any task."
            )
        )
    return section


def _ab_test(source: Snapshot, shop: Shop) -> page.Section:
    section = page.Section("A/B test")
    rows, test = source.to_pandas(), shop.ab_test
    if rows.empty or test is None:
        return section
    section.blocks = [
        *(page.paragraph(text, lead=True) for text in arms.faults(rows, test)),
        page.paragraph(
            f"Users enter with their first exposure from {test.starts} until {test.ends}, and what "
            f"each takes in {test.days} days counts. It is {source.report()['texts']['state']}. "
            "Means are over users whose days are over, with 95% intervals; differences to the "
            f"control, {test.control}, are Welch's, at 95%, and told once the test is over. Of "
            "the metric users the value is the share an arm got, the difference that to the plan."
        ),
        page.plain_table(rows.rename(columns=lambda c: c.replace("_", " "))),
        page.folded(
            "What is counted of each user",
            [page.glossary_table(OUTCOMES)],
        ),
    ]
    return section


def _verdict(board: pd.DataFrame, task: str, placement: str, published: str) -> str:
    """One sentence: what is published in a placement and whether it beats the best of everything
    simpler, or, where that is what is published, its own order before the business rules."""
    rows = board[(board["task"] == task) & (board["model"] == "ours")]
    rows = rows[rows["metric"].str.startswith("ndcg")]
    value = rows[rows["baseline"] == ""]
    if value.empty:
        return ""
    text = f"{placement} publishes {published}: NDCG {value['value'].iloc[0]:.4f}"
    against = rows[rows["baseline"] != ""].sort_values("value")
    if against.empty:
        return f"{text}."
    least = against.iloc[0]
    if least["low"] > 0:
        said = "better beyond noise than"
    elif least["high"] < 0:
        said = "worse beyond noise than"
    else:
        said = "not told apart by these users from"
    other = "its own order before the rules"
    if least["baseline"] != published:
        other = f"the best simpler model, {least['baseline']}"
    return (
        f"{text}, {said} {other} ({least['value']:+.4f}, 95% {least['low']:+.4f} to "
        f"{least['high']:+.4f})."
    )


def _reading(table: pd.DataFrame) -> page.Section:
    section = page.Section("How to read it")
    own = table[table["baseline"] == ""]
    if own.empty:
        return section
    everybody = own[own["slice"] == EVERYBODY]
    section.blocks = [
        page.folded(
            "What each metric says",
            [page.glossary_table(page.metric_meanings(everybody["metric"].unique().tolist()))],
        ),
        page.folded(
            "What each model is",
            [page.glossary_table(page.model_meanings(everybody["model"].unique().tolist()))],
        ),
        page.folded(
            "What the slices are",
            [
                page.paragraph(
                    "Users by the baskets in their history before the cutoff. Items by their share "
                    "of all events before it: head items make the first half of them, middle items "
                    "the next 30%, tail items the rest, cold items none. An item slice counts the "
                    "users who took such an item, and the lists stay as they are. Slices of fewer "
                    f"than {page.SMALL_SLICE} users are grey: they say little."
                )
            ],
        ),
    ]
    return section


def _boards(table: pd.DataFrame, source: Snapshot) -> Iterator[page.Section]:
    """One section per task of the evaluate target; the tune target folded away in it."""
    pictures = source.report().get("plots", {})
    own = table["baseline"] == ""
    for task, name in TASK_NAMES.items():
        section = page.Section(name.capitalize())
        rows = table[(table["task"] == task) & (table["target"] == "evaluate")]
        if len(rows):
            everybody = rows[own & (rows["slice"] == EVERYBODY)]
            section.blocks.append(
                page.paragraph(f"{everybody['n_users'].max():,} users with something to find.")
            )
            if f"ndcg {task}" in pictures:
                png = base64.b64decode(pictures[f"ndcg {task}"])
                section.blocks.append(page.figure(caption_of(f"ndcg {task}"), png))
            section.blocks += [
                page.heading("Accuracy"),
                page.model_table(everybody, ACCURACY, OURS),
            ]
            if len(rows[~own]):
                section.blocks += [
                    page.heading("Against the best simpler models"),
                    page.difference_table(rows[~own]),
                ]
            section.blocks += [
                page.heading("By users and items (NDCG)"),
                page.slice_table(rows[own], OURS),
                page.heading("Beyond accuracy"),
                page.model_table(everybody, ("ndcg", *_BEYOND), OURS),
            ]
        tuned = table[own & (table["task"] == task) & (table["target"] == "tune")]
        if len(tuned):
            everybody = tuned[tuned["slice"] == EVERYBODY]
            blocks = [page.model_table(everybody, ACCURACY), page.slice_table(tuned)]
            section.blocks.append(
                page.folded("The same on the tune target, where settings were chosen", blocks)
            )
        yield section


def _cutoff_spread(source: Snapshot | None) -> page.Section:
    section = page.Section("The same recipe at other cutoffs")
    rows = source.to_pandas() if source is not None else pd.DataFrame()
    if rows.empty:
        return section
    section.blocks = [
        page.paragraph(
            "One window is one draw: the recipe is fitted anew at each cutoff on what was known "
            "then, and measured on the period after it. Settings were chosen on tune, which is "
            "shown and not counted in mean, least and most. One seed at earlier cutoffs."
        ),
        *_pictures(source),
    ]
    for task, name in TASK_NAMES.items():
        own = rows[rows["task"] == task]
        if len(own):
            section.blocks += [page.heading(f"NDCG, {name}"), page.spread_table(own)]
    return section


def _item_lists(source: Snapshot, k: int) -> page.Section:
    section = page.Section("Item-to-item lists")
    rows = source.to_pandas()
    if len(rows):
        section.blocks = [
            page.paragraph(
                f"Made at the evaluate cutoff; the first {k} places. bought_together: one item of "
                "a held-out basket is shown, a hit is another item of that basket. similar_items: "
                "a user takes a new product of a category they knew, a hit is that the list of the "
                "item they took last there has it. Popularity is the same list for everybody, for "
                "similar_items the most popular of the category. A case without a list is a miss."
            ),
            page.item_list_table(rows),
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


def _examples(rows: pd.DataFrame, named: Collection[str], k: int) -> page.Section:
    section = page.Section("Users to look at")
    missing = set(named) - set(rows.loc[rows["kind"] == "named", "example"])
    if rows.empty and not missing:
        return section
    section.blocks = [
        page.paragraph(
            f"What they took most before the cutoff, and the first {k} of our list and of the best "
            "other model; green: taken in the period after it. Users are drawn by a seeded hash "
            "from the best, the middle and the worst tenth by our NDCG less the other model's, and "
            "shown under a letter, unless the shop file names them (`examples`). Products of "
            "sensitive categories have no name here."
        )
    ]
    if missing:  # told by number: they may be users who had themselves erased
        section.blocks.append(
            page.paragraph(
                f"{len(missing)} of the {len(set(named))} users whom the shop file names took "
                "nothing in that period: nothing was measured for them, and they are not here."
            )
        )
    for task, own in rows.groupby("task", sort=True):
        section.blocks += [
            page.heading(TASK_NAMES[str(task)].capitalize()),
            page.example_lists(own),
        ]
    return section


def _retrievers(source: Snapshot) -> page.Section:
    section = page.Section("Retrievers")
    rows = source.to_pandas()
    rows = rows[rows["target"] == "evaluate"] if len(rows) else rows
    if rows.empty:
        return section
    section.blocks = [
        page.paragraph(
            "What share of what a user took each retriever brings among its first so many "
            "candidates and in its whole list, mean over users; unique: of all that users took, "
            "the share that no other retriever brings. The union is in the order of the ranker."
        ),
        *_pictures(source),
    ]
    depths = [c for c in rows.columns if c.startswith("recall_")]
    for task, own in rows.groupby("task", sort=True):
        margins = union_margins(own)
        said = ", ".join(f"{m:+.4f} at {d.removeprefix('recall_')}" for d, m in margins.items())
        own = own.sort_values(["recall", "retriever"], ascending=[False, True])
        shown = own[["retriever", *depths, "recall", "unique"]]
        section.blocks += [
            page.heading(TASK_NAMES[str(task)].capitalize()),
            page.paragraph(f"Recall of the union less that of its best member: {said}."),
            page.plain_table(shown.rename(columns=lambda c: c.replace("_", "@"))),
        ]
    return section


def _ablation(source: Snapshot | None) -> page.Section:
    section = page.Section("What each part is worth")
    if source is None or not source.rows:
        return section
    rows = source.to_pandas()
    section.blocks = [
        page.paragraph(
            f"The ranker learned anew without a part, on {int(rows['n_users'].max()):,} users of "
            "the tune target drawn by a seeded hash: right of zero, the part helps. Of "
            "twenty parts without effect about one has its whole 95% interval left or right of "
            "zero. Parts stand in for each other, so the losses do not add up."
        ),
        *_pictures(source),
    ]
    return section


def _calibration(source: Snapshot | None) -> page.Section:
    section = page.Section("Calibration")
    if source is None or not source.rows:
        return section
    errors = source.to_pandas().groupby("task")["error"].first()
    said = "; ".join(f"{task} {error:.4f}" for task, error in errors.items())
    section.blocks = [
        page.paragraph(
            "Candidates of the evaluate target in tenths by score: the chance the ranker predicts "
            "against the share that was then taken. On the dashed line a predicted chance is one. "
            f"Expected calibration error (mean distance over candidates): {said}."
        ),
        *_pictures(source),
    ]
    return section


def _decisions(decided: pd.DataFrame) -> page.Section:
    section = page.Section("What is published, and why")
    columns = [
        "placement", "model", "reason", "ranker_ndcg", "simpler_ndcg", "difference", "low", "high",
        "n_users",
    ]  # fmt: skip
    section.blocks = [
        page.paragraph(
            "The ranker is published unless the best simpler model beats it on the tune target by "
            "more than noise (a paired interval wholly below zero that holds for all simpler "
            "models together at 95%)."
        ),
        page.plain_table(decided[columns].rename(columns=lambda c: c.replace("_", " "))),
    ]
    return section


def _tuning(source: Snapshot | None) -> page.Section:
    section = page.Section("Tuning")
    rows = source.to_pandas() if source is not None else pd.DataFrame()
    if rows.empty:
        return section
    section.blocks = [
        page.paragraph(
            "The best settings that were tried on a sample of users of the tune target, and what "
            "they do on other users. Trial 0 is as configured. Proposed is what beats it beyond "
            "noise there too. Nothing changes by itself: the asset `tuned_settings` holds the YAML."
        )
    ]
    for task, trials in rows.groupby("task", sort=True):
        best = trials.sort_values(["ndcg", "trial"], ascending=[False, True]).head(5)
        best = pd.concat([best, trials[trials["trial"] == 0]]).drop_duplicates("trial")
        texts = [
            ", ".join(f"{name} {value}" for name, value in json.loads(text).items())
            for text in best["settings"]
        ]
        section.blocks += [
            page.heading(f"Task {task}: the best of {len(trials)} trials"),
            page.plain_table(
                best[["trial", "ndcg", "others_ndcg", "is_confirmed"]]
                .rename(columns={"others_ndcg": "others", "is_confirmed": "proposed"})
                .assign(settings=texts)
            ),
        ]
    return section


ASSETS: list[GatedAsset] = [report_page]
