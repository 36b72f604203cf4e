"""Evaluation assets: how good the lists are, beside everything simpler."""

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.collaborative.popularity import popular_items
from recsys_assets.content.categories import in_categories
from recsys_assets.content.offer import on_offer
from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core import plots
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    horizon_events,
    interactions_as_of,
    taken_pairs,
    visits_as_of,
)
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.evaluation import tables
from recsys_assets.evaluation.examples import choose_examples, lay_out
from recsys_assets.evaluation.glossary import RETRIEVER
from recsys_assets.evaluation.item_list_metrics import item_list_metrics as measure_item_lists
from recsys_assets.evaluation.reading import (
    OURS,
    WITHOUT_US,
    first_places,
    measured_cutoff,
    people_of,
    relevant_at,
)
from recsys_assets.evaluation.scoreboard import MeasuredTask, Surroundings, history_slices
from recsys_assets.evaluation.scoreboard import scoreboard as measure
from recsys_assets.evaluation.scoreboard import user_metrics as user_metrics_of
from recsys_assets.retrieval.candidates import retriever_recall as recall_of
from recsys_assets.retrieval.candidates import union_margins

GROUP = "evaluation"


@table_asset(tables.RETRIEVER_RECALL, group=GROUP, kinds=["python", "pandas"], config=("repeats",))
def retriever_recall(
    candidates: Snapshot,
    scored_candidates: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """What each retriever finds of what users then took, alone and beyond the others."""
    found = []
    for target in ("tune", "evaluate"):
        as_of = measured_cutoff(cutoffs, labels, target)
        if as_of is None:
            continue
        part = part_name(as_of)
        proposed = candidates.to_arrow(part=part)
        scored = scored_candidates.to_arrow(["seen", "score_all", "score_new"], part)
        for name in scored.column_names:
            proposed = proposed.append_column(name, scored[name])
        recall = recall_of(proposed, labels.to_pandas(part=part), repeats=shop.repeats)
        found.append(recall.assign(target=target))
    if not found:
        return tables.RETRIEVER_RECALL.empty().to_pandas()
    table = pd.concat(found, ignore_index=True)
    last = table[table["target"] == table["target"].iloc[-1]]
    for task in ("all", "new"):
        rows = last[last["task"] == task]
        depths = [c for c in rows.columns if c.startswith("recall_")]
        long = rows[["retriever", *depths]].melt("retriever", depths, "k", "recall")
        long["k"] = long["k"].str.removeprefix("recall_").astype(int)
        picture = plots.recall_by_retriever(long, title=f"Recall by retriever, task {task}")
        report.plot(f"recall {task}", picture)
        union = rows[rows["retriever"] == "union"]
        if len(union):
            report.numbers[f"recall of the union, {task}"] = float(union["recall"].iloc[0])
            for depth, margin in union_margins(rows).items():
                report.numbers[f"union less its best member, {depth}, {task}"] = margin
    return table


@table_asset(
    tables.USER_METRICS,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("evaluation", "repeats"),
)
def user_metrics(
    tune_lists: Snapshot,
    evaluation_lists: Snapshot,
    interactions: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
) -> pd.DataFrame:
    """How good each model's list was for each user: what every comparison is paired on."""
    frames = []
    for target, source in (("tune", tune_lists), ("evaluate", evaluation_lists)):
        as_of = measured_cutoff(cutoffs, labels, target)
        if as_of is None:
            continue
        for task, pairs in relevant_at(labels, interactions, as_of, shop).items():
            lists = first_places(source, task, shop.evaluation.k)
            if len(pairs) and len(lists):
                found = user_metrics_of(pairs, lists, shop.evaluation.k)
                frames.append(found.assign(target=target, task=task))
    if not frames:
        return tables.USER_METRICS.empty().to_pandas()
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values(list(tables.USER_METRICS.key), ignore_index=True)


LEAST_USERS = 50
"""Of how many users a mean is looked at for being too good to be true."""


def _is_measured(candidate: Snapshot, labels: Snapshot, cutoffs: Snapshot) -> Iterator[Failure]:
    as_of = measured_cutoff(cutoffs, labels, "evaluate")
    # Where nobody took anything in that time, there is nothing to measure.
    if as_of is not None and labels.to_arrow(["user_id"], part_name(as_of)).num_rows:
        frame = candidate.to_pandas()
        frame = frame[(frame["target"] == "evaluate") & (frame["baseline"] == "")]
        rows = frame[frame["metric"].str.startswith("ndcg")]
        for model in ("ours", "popularity_all"):
            if rows[rows["model"] == model].empty:
                yield Failure(f"{model} is not on the scoreboard")
        good = rows["value"].dropna()
        if len(good) and not good.between(0, 1).all():
            yield Failure("NDCG outside 0 to 1", "value")
        # Five people may well take just what was first, everybody the only new product, and who
        # took anything of the head of a shop with one dominant product took that one.
        many = rows[
            (rows["slice"] == "all") & (rows["task"] != "cold") & (rows["n_users"] >= LEAST_USERS)
        ]
        if (many["value"] > 0.95).any():
            yield Failure("an NDCG above .95 is a leak until proven otherwise", "value")


@table_asset(
    tables.SCOREBOARD,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "repeats"),
    rules=[_is_measured],
)
def scoreboard(
    tune_lists: Snapshot,
    evaluation_lists: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """How good every model's lists are on users who then took something, with 95% intervals.

    Full ranking over the catalogue, means over users (and over seeds, with their spread), bootstrap
    over users. `ours` is what would be shown; `ours_no_rules` is its order before the rules. Both
    are compared, paired by user, with the best baseline and with the best retriever.
    """
    frames = []
    k = shop.evaluation.k
    for target, source in (("tune", tune_lists), ("evaluate", evaluation_lists)):
        as_of = measured_cutoff(cutoffs, labels, target)
        if as_of is None:
            continue
        known = visits_as_of(interactions, as_of)
        relevant = relevant_at(labels, interactions, as_of, shop)
        found = {
            task: MeasuredTask(pairs, first_places(source, task, k))
            for task, pairs in relevant.items()
        }
        models = {str(m) for task in found.values() for m in task.lists["model"].unique()}
        simpler = models - {*OURS, *WITHOUT_US}
        retrievers = {m for m in simpler if m.startswith(RETRIEVER)}
        board = measure(
            target,
            found,
            Surroundings(
                popularity=popular_items(known, as_of=as_of),
                items=items.to_pandas(["item_id", "category_2", "group_id"]),
                taken=taken_pairs(interactions, as_of),
                user_slices=history_slices(known, pd.Index(people_of(relevant))),
                vectors=item_vectors(items, text_vectors),
            ),
            rivals={"baselines": sorted(simpler - retrievers), "retrievers": sorted(retrievers)},
            k=k,
            draws=shop.evaluation.bootstrap,
            seed=shop.evaluation.seed,
            beyond=target == "evaluate",
        )
        frames += [board.metrics.assign(baseline=""), board.differences]
    frames = [f.reindex(columns=tables.SCOREBOARD.names) for f in frames if len(f)]
    if not frames:
        return tables.SCOREBOARD.empty().to_pandas()
    table = pd.concat(frames, ignore_index=True)
    _show(report, table, k)
    return table.astype({"p_value": "float64", "n_seeds": "Int32"})


def _show(report: Report, table: pd.DataFrame, k: int) -> None:
    rows = table[(table["slice"] == "all") & (table["baseline"] == "")]
    rows = rows[rows["target"] == rows["target"].iloc[-1]]
    for task in rows["task"].unique():
        own = rows[(rows["task"] == task) & (rows["metric"] == f"ndcg@{k}")]
        for line in own[own["model"].isin(OURS)].to_dict("records"):
            report.numbers[f"{line['model']} ndcg@{k} {task}"] = float(line["value"])
        others = own[~own["model"].isin(OURS)].sort_values("value", ascending=False)
        if len(others):
            report.numbers[f"best other ndcg@{k} {task}"] = float(others["value"].iloc[0])
            report.texts[f"best other {task}"] = str(others["model"].iloc[0])
        title = f"NDCG@{k}, task {task}"
        report.plot(
            f"ndcg {task}",
            plots.metric_bars(rows, task=task, metric=f"ndcg@{k}", title=title, highlight=OURS),
        )


@table_asset(
    tables.ITEM_LIST_METRICS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "rules"),
)
def item_list_metrics(
    interactions: Snapshot,
    items: Snapshot,
    text_vectors: TextVectors,
    cutoffs: Snapshot,
    labels: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """How often the item-to-item lists hit, made at the evaluate cutoff, beside popularity.

    `bought_together` on baskets of the horizon, `similar_items` on new products of a category the
    user knew.
    """
    as_of = measured_cutoff(cutoffs, labels, "evaluate")
    if as_of is None:
        return tables.ITEM_LIST_METRICS.empty().to_pandas()
    known = visits_as_of(interactions, as_of)
    table = measure_item_lists(
        known,
        horizon_events(interactions, as_of, as_of + pd.Timedelta(days=shop.cutoffs.horizon_days)),
        on_offer(items.to_pandas(), shop, as_of),
        item_vectors(items, text_vectors),
        popular_items(known, as_of=as_of),
        k=shop.evaluation.k,
        draws=shop.evaluation.bootstrap,
        seed=shop.evaluation.seed,
    )
    for line in table[table["n_cases"] > 0].to_dict("records"):
        report.numbers[f"{line['list']} {line['model']} hit"] = float(line["value"])
    return table.reindex(columns=tables.ITEM_LIST_METRICS.names)


@table_asset(
    tables.EXAMPLES,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "examples", "repeats", "rules", "seed"),
)
def examples(
    user_metrics: Snapshot,
    evaluation_lists: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
) -> pd.DataFrame:
    """A few users of the evaluate target to look at, with product names; nobody unless asked for.

    Where we won most, where we lost most, and ordinary ones; drawn by a seeded rule and shown by
    letter, and those the shop file names; compared with the best model that is not ours. Products
    of sensitive categories are there without their name.
    """
    as_of = measured_cutoff(cutoffs, labels, "evaluate")
    wanted = shop.examples
    if as_of is None or not (wanted.per_kind or wanted.users):
        return tables.EXAMPLES.empty().to_pandas()
    scores = user_metrics.to_pandas()
    scores = scores[(scores["target"] == "evaluate") & (scores["seed"] == shop.seed)]
    relevant = relevant_at(labels, interactions, as_of, shop)
    known = interactions_as_of(interactions, as_of, ["user_id", "item_id", "counts_as_taken"])
    known = known.filter(known["counts_as_taken"]).select(["user_id", "item_id"])
    catalogue = items.to_pandas()
    private = in_categories(catalogue, frozenset(shop.rules.sensitive_categories))
    titles = catalogue["title"].mask(private, "(sensitive category)").set_axis(catalogue["item_id"])
    found = []
    for task in ("all", "new"):
        wide = scores[scores["task"] == task].pivot(index="user_id", columns="model", values="ndcg")
        others = [m for m in sorted(wide.columns) if m not in (*OURS, *WITHOUT_US)]
        if "ours" not in wide or not others:
            continue
        rival = str(wide[others].mean().idxmax())
        chosen = choose_examples(
            wide["ours"] - wide[rival],
            per_kind=wanted.per_kind,
            named=wanted.users,
            seed=shop.evaluation.seed,
            salt=task,
        )
        mine = known.filter(pc.is_in(known["user_id"], pa.array(chosen["user_id"], pa.string())))
        times = mine.to_pandas().value_counts(["user_id", "item_id"]).rename("times").reset_index()
        times = times.sort_values(
            ["user_id", "times", "item_id"], ascending=[True, False, True], kind="stable"
        )
        lists = first_places(evaluation_lists, task, shop.evaluation.k)
        laid = lay_out(
            chosen,
            lists[lists["seed"] == shop.seed],
            relevant[task],
            times,
            titles,
            {"ours": "ours", rival: rival},
            shop.evaluation.k,
        )
        found.append(laid.assign(task=task))
    return pd.concat(found, ignore_index=True) if found else tables.EXAMPLES.empty().to_pandas()


ASSETS: list[GatedAsset] = [
    retriever_recall,
    user_metrics,
    scoreboard,
    item_list_metrics,
    examples,
]
