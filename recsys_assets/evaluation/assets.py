"""Evaluation assets: how good the lists are, beside everything simpler."""

import base64
from collections.abc import Iterator

import pandas as pd

from recsys_assets.collaborative import factors, neighbours
from recsys_assets.collaborative.popularity import popular_items
from recsys_assets.content.vectors import item_vectors
from recsys_assets.core import plots
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of, taken_pairs
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.evaluation import held_out, tables
from recsys_assets.evaluation.baselines_blend import (
    BlendWeights,
    search_blend_weights,
    tuned_weights,
)
from recsys_assets.evaluation.report import render_report
from recsys_assets.evaluation.scoreboard import Surroundings, Task, history_slices
from recsys_assets.evaluation.scoreboard import scoreboard as measure
from recsys_assets.ranking import rules
from recsys_assets.ranking.placements import PlacementName, competing, rules_of
from recsys_assets.retrieval.candidates import retriever_recall as recall_of
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import EventLog, Fitted
from recsys_assets.retrieval.factorization import FittedFactors
from recsys_assets.retrieval.logs import event_log
from recsys_assets.retrieval.neighbours import SimilarItems
from recsys_assets.retrieval.popularity import Popularity

GROUP = "evaluation"
TASKS = ("all", "new")
PLACEMENT_OF_TASK: dict[str, PlacementName] = {"all": "for_you", "new": "discover"}
OURS = ("ours", "ours_no_rules")
"""`ours`: what would be shown (placement for_you for task all, discover for new)."""


def _factors_at(als_factors: Snapshot, log: EventLog) -> Fitted:
    stored = als_factors.to_arrow(part=part_name(log.as_of))
    warm = log.items[log.columns[: log.n_warm]]
    return FittedFactors.of(factors.from_table(stored, log.users, warm))


def _relevant(labels: Snapshot, as_of: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """What users took in the horizon of a target, per task."""
    frame = labels.to_pandas(part=part_name(as_of))
    pairs = ["user_id", "item_id"]
    return {"all": frame[pairs], "new": frame.loc[frame["is_new"], pairs]}


def _components(
    interactions: Snapshot,
    items: Snapshot,
    als_factors: Snapshot,
    vectors: ItemVectors,
    users: pd.Series,
    as_of: pd.Timestamp,
) -> pd.DataFrame:
    log = event_log(interactions, items, as_of)
    parts: dict[str, Fitted] = {
        "content": Content(vectors.matrix, popularity=0.0, prior=0.0).fit(log),
        "collaborative": _factors_at(als_factors, log),
        "popularity": Popularity(window=28).fit(log),
    }
    return held_out.blend_components(log, parts, users)


@table_asset(tables.BLEND_WEIGHTS, group=GROUP, kinds=["python", "numpy"], config=("evaluation",))
def blend_weights(
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """The weights of `embedding similarity + collaborative + popularity`, searched on a grid.

    Only the tune target is looked at; the evaluate target then measures the winner.
    """
    as_of = cutoff_of(cutoffs, "tune")
    empty = pd.DataFrame({c.name: [] for c in tables.BLEND_WEIGHTS.columns})
    if as_of is None or part_name(as_of) not in labels.parts:
        return empty
    relevant = _relevant(labels, as_of)
    components = _components(
        interactions,
        items,
        als_factors,
        item_vectors(items, item_texts, text_embeddings),
        relevant["all"]["user_id"].drop_duplicates(),
        as_of,
    )
    found = []
    for task in TASKS:
        if relevant[task].empty:
            continue
        rows = components[~components["seen"]] if task == "new" else components
        grid = search_blend_weights(rows, relevant[task], k=shop.evaluation.k)
        found.append(grid.assign(task=task))
        best = tuned_weights(grid)
        report.numbers |= {
            f"{task} content": best.content,
            f"{task} collaborative": best.collaborative,
            f"{task} popularity": best.popularity,
            f"{task} ndcg on tune": float(grid["ndcg"].iloc[0]),
        }
    return pd.concat(found, ignore_index=True) if found else empty


@table_asset(tables.RETRIEVER_RECALL, group=GROUP, kinds=["python", "pandas"])
def retriever_recall(
    candidates: Snapshot,
    scored_candidates: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    report: Report,
) -> pd.DataFrame:
    """What each retriever finds of what users then took, alone and beyond the others."""
    found = []
    for target in ("tune", "evaluate"):
        as_of = cutoff_of(cutoffs, target)
        if as_of is None or part_name(as_of) not in labels.parts:
            continue
        part = part_name(as_of)
        proposed = candidates.to_arrow(part=part)
        seen = scored_candidates.to_arrow(["seen"], part)["seen"]
        recall = recall_of(
            proposed.append_column("seen", seen), labels.to_pandas(part=part)
        ).assign(target=target)
        found.append(recall)
    if not found:
        return pd.DataFrame({c.name: [] for c in tables.RETRIEVER_RECALL.columns[:3]}).assign(
            recall_100=[], recall_500=[], recall=[], unique=[]
        )
    table = pd.concat(found, ignore_index=True)
    last = table[table["target"] == table["target"].iloc[-1]]
    for task in TASKS:
        rows = last[last["task"] == task]
        depths = [c for c in rows.columns if c.startswith("recall_")]
        long = rows[["retriever", *depths]].melt("retriever", depths, "k", "recall")
        long["k"] = long["k"].str.removeprefix("recall_").astype(int)
        picture = plots.recall_by_retriever(long, title=f"Recall by retriever, task {task}")
        report.plot(f"recall {task}", picture)
        union = rows[rows["retriever"] == "union"]
        if len(union):
            report.numbers[f"recall of the union, {task}"] = float(union["recall"].iloc[0])
    return table


@table_asset(
    tables.HELD_OUT_LISTS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "rules", "placements", "seed"),
)
def held_out_lists(
    scored_candidates: Snapshot,
    candidates: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    item_neighbours: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    blend_weights: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """The lists of every model for the tune and evaluate targets: ours, baselines, retrievers.

    All are made of what was known at the cutoff, over the full catalogue, for the users who then
    took something.
    """
    found = []
    vectors = item_vectors(items, item_texts, text_embeddings)
    k = shop.evaluation.k
    for target in ("tune", "evaluate"):
        as_of = cutoff_of(cutoffs, target)
        if as_of is None or part_name(as_of) not in labels.parts:
            continue
        part = part_name(as_of)
        relevant = _relevant(labels, as_of)
        people = relevant["all"]["user_id"].drop_duplicates().sort_values(ignore_index=True)
        log = event_log(interactions, items, as_of)
        known = interactions_as_of(interactions, as_of).to_pandas()
        taken = held_out.seen_pairs(log).to_frame(index=False)
        proposed = candidates.to_arrow(part=part)
        scored = scored_candidates.to_pandas(part=part)
        seen = scored["seen"].to_numpy()
        neighbour_links = neighbours.from_table(
            item_neighbours.to_arrow(part=part), pd.Index(log.items[log.columns[: log.n_warm]])
        )
        components = _components(interactions, items, als_factors, vectors, people, as_of)
        sources = [
            _our_lists(scored, items, taken, vectors, shop, as_of, k),
            held_out.baseline_lists(known, people, taken, as_of, k),
            held_out.fitted_lists(log, "als", _factors_at(als_factors, log), people, k),
            held_out.fitted_lists(
                log, "item_neighbours", SimilarItems().using(log, neighbour_links), people, k
            ),
            held_out.blended(components, "blend_given", dict.fromkeys(TASKS, BlendWeights()), k),
            held_out.blended(components, "blend_tuned", _tuned(blend_weights), k),
            held_out.retriever_lists(proposed, seen, k),
        ]
        for source in sources:
            for task, model, lists in source:
                mine = lists[lists["user_id"].isin(people)]
                found.append(mine.assign(target=target, task=task, model=model))
    if not found:
        return pd.DataFrame({c.name: [] for c in tables.HELD_OUT_LISTS.columns})
    table = pd.concat(found, ignore_index=True)
    report.numbers["models"] = int(table["model"].nunique())
    keys = ["target", "task", "model", "user_id", "rank"]
    return table[[c.name for c in tables.HELD_OUT_LISTS.columns]].sort_values(keys)


def _tuned(blend_weights: Snapshot) -> dict[str, BlendWeights]:
    grid = blend_weights.to_pandas()
    return {
        str(task): tuned_weights(rows.sort_values("ndcg", ascending=False, kind="stable"))
        for task, rows in grid.groupby("task", sort=True)
    }


def _our_lists(
    scored: pd.DataFrame,
    items: Snapshot,
    taken: pd.DataFrame,
    vectors: ItemVectors,
    shop: Shop,
    as_of: pd.Timestamp,
    k: int,
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    catalogue = items.to_pandas()
    for task, placement in PLACEMENT_OF_TASK.items():
        rows = competing(scored, placement)
        yield task, "ours_no_rules", held_out.top(rows, k)
        shown = rules.apply_rules(
            rows, catalogue, rules_of(shop, placement), as_of=as_of, taken=taken, vectors=vectors
        )
        yield task, "ours", shown.loc[shown["rank"] <= k, ["user_id", "item_id", "rank"]]


def _is_measured(candidate: Snapshot, labels: Snapshot, cutoffs: Snapshot) -> Iterator[Failure]:
    as_of = cutoff_of(cutoffs, "evaluate")
    if as_of is not None and part_name(as_of) in labels.parts:
        frame = candidate.to_pandas()
        frame = frame[frame["baseline"] == ""]
        rows = frame[(frame["target"] == "evaluate") & (frame["metric"].str.startswith("ndcg"))]
        for model in ("ours", *held_out.BASELINES):
            if rows[rows["model"] == model].empty:
                yield Failure(f"{model} is not on the scoreboard")
        good = rows["value"].dropna()
        if len(good) and not good.between(0, 1).all():
            yield Failure("NDCG outside 0 to 1", "value")
        if len(good) and (good > 0.95).any():
            yield Failure("an NDCG above .95 is a leak until proven otherwise", "value")


@table_asset(
    tables.SCOREBOARD,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation",),
    rules=[_is_measured],
)
def scoreboard(
    held_out_lists: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """How good every model's lists are on users who then took something, with 95% intervals.

    Full ranking over the catalogue, means over users, bootstrap over users. `ours` is what would be
    shown; `ours_no_rules` is the ranker's raw order.
    """
    frames = []
    vectors = item_vectors(items, item_texts, text_embeddings)
    everything = held_out_lists.to_pandas()
    for target in ("tune", "evaluate"):
        as_of = cutoff_of(cutoffs, target)
        lists = everything[everything["target"] == target]
        if as_of is None or lists.empty:
            continue
        relevant = _relevant(labels, as_of)
        known = interactions_as_of(interactions, as_of).to_pandas()
        board = measure(
            target,
            {
                task: Task(
                    pairs,
                    {str(m): rows for m, rows in lists[lists["task"] == task].groupby("model")},
                )
                for task, pairs in relevant.items()
                if len(pairs)
            },
            Surroundings(
                popularity=popular_items(known, as_of=as_of),
                items=items.to_pandas(),
                taken=taken_pairs(interactions, as_of),
                user_slices=history_slices(known, sorted(lists["user_id"].unique())),
                vectors=vectors,
            ),
            baselines=sorted(set(lists["model"].astype(str)) - set(OURS)),
            k=shop.evaluation.k,
            draws=shop.evaluation.bootstrap,
            seed=shop.evaluation.seed,
        )
        frames += [board.metrics.assign(baseline="", p_value=None), board.differences]
    columns = [c.name for c in tables.SCOREBOARD.columns]
    if not frames:
        return pd.DataFrame({c: [] for c in columns})
    table = pd.concat(frames, ignore_index=True)[columns]
    _show(report, table, shop.evaluation.k)
    return table.astype({"p_value": "float64"})


def _show(report: Report, table: pd.DataFrame, k: int) -> None:
    rows = table[(table["slice"] == "all") & (table["baseline"] == "")]
    rows = rows[rows["target"] == rows["target"].iloc[-1]]
    for task in TASKS:
        own = rows[(rows["task"] == task) & (rows["metric"] == f"ndcg@{k}")]
        if own.empty:
            continue
        for line in own[own["model"].isin(OURS)].to_dict("records"):
            report.numbers[f"{line['model']} ndcg@{k} {task}"] = float(line["value"])
        best = own[~own["model"].isin(OURS)].sort_values("value", ascending=False).iloc[0]
        report.numbers[f"best other ndcg@{k} {task}"] = float(best["value"])
        report.texts[f"best other {task}"] = str(best["model"])
        title = f"NDCG@{k}, task {task}"
        report.plot(
            f"ndcg {task}",
            plots.metric_bars(rows, task=task, metric=f"ndcg@{k}", title=title, highlight=OURS),
        )


@table_asset(tables.REPORT_PAGE, group=GROUP, kinds=["html", "python"], config=("name",))
def report_page(
    scoreboard: Snapshot,
    retriever_recall: Snapshot,
    rankers: Snapshot,
    recommendations: Snapshot,
    shop: Shop,
) -> pd.DataFrame:
    """The scoreboard, the retrievers and what the ranker looks at, as one self-contained page."""
    table = scoreboard.to_pandas()
    own = table["baseline"] == ""
    pictures: dict[str, bytes] = {}
    for source in (scoreboard, retriever_recall, rankers):
        for name, png in source.report().get("plots", {}).items():
            pictures[name] = base64.b64decode(png)
    texts = {
        "Release": recommendations.report().get("texts", {}).get("release", ""),
        "How to read this": (
            "Everything was learned before the cutoff and measured on what users took in the "
            "horizon after it, ranked over the full catalogue. 'ours' is what would be shown after "
            "the business rules; 'ours_no_rules' is the ranker's own order. Intervals are 95% "
            "bootstrap intervals over users."
        ),
    }
    html = render_report(
        f"How good are the recommendations? {shop.name}",
        table[own],
        table[~own],
        ours=OURS,
        pictures=pictures,
        texts=texts,
    )
    return pd.DataFrame({"name": ["scoreboard"], "html": [html]})


ASSETS: list[GatedAsset] = [
    blend_weights,
    retriever_recall,
    held_out_lists,
    scoreboard,
    report_page,
]
