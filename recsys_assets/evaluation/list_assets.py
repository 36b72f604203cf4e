"""Assets of the lists that are measured, and of the choice of what is published.

Belongs here: thin assets over `held_out.py` and `policy.py`. Does not belong here: metrics, and the
report: a new table on a page must not make lists anew.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Annotated

import pandas as pd
import pyarrow as pa

from recsys_assets.collaborative import neighbours
from recsys_assets.content.vectors import TEXT_VECTORS, TextVectors, item_vectors
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import at_cutoff, cutoff_of, visits_as_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.tables import Table
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.evaluation import held_out, tables
from recsys_assets.evaluation.baselines_blend import (
    BlendWeights,
    best_first,
    search_blend_weights,
    tuned_weights,
)
from recsys_assets.evaluation.policy import NOT_TRAINED, UNDECIDED, choose
from recsys_assets.evaluation.reading import (
    measured_cutoff,
    people_of,
    relevant_at,
    tasks_of,
)
from recsys_assets.evaluation.scoreboard import user_metrics as user_metrics_of
from recsys_assets.ranking.features import retrievers_of, rows_of_users
from recsys_assets.ranking.lists import lists_to_depth
from recsys_assets.ranking.placements import (
    PLACEMENT_OF_TASK,
    competing,
    placements,
    published,
    rules_of,
)
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import EventLog, Fitted
from recsys_assets.retrieval.factorization import FittedFactors
from recsys_assets.retrieval.logs import event_log
from recsys_assets.retrieval.neighbours import SimilarItems
from recsys_assets.retrieval.popularity import Popularity

GROUP = "evaluation"
DEPTH = 100
"""Length of the lists of the evaluate target, which anybody may recompute the metrics from."""

Made = Annotated[
    dict[str, Snapshot],
    (
        "interactions", "items", "candidates", "scored_candidates", "als_factors",
        "item_neighbours", *TEXT_VECTORS, "blend_weights",
    ),
]  # fmt: skip
"""What the lists of a cutoff are made from, by name; see `_cutoff`."""


def _blend_parts(log: EventLog, als_factors: Snapshot, vectors: ItemVectors) -> dict[str, Fitted]:
    return {
        "content": Content(vectors.matrix, popularity=0.0, prior=0.0).fit(log),
        "collaborative": FittedFactors.stored(als_factors, log),
        "popularity": Popularity(window=28).fit(log),
    }


@table_asset(
    tables.BLEND_WEIGHTS,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("evaluation", "repeats"),
)
def blend_weights(
    interactions: Snapshot,
    items: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """The weights of `embedding similarity + collaborative + popularity`, searched on a grid.

    Only the tune target is looked at; the evaluate target then measures the winner.
    """
    as_of = measured_cutoff(cutoffs, labels, "tune")
    if as_of is None:
        return tables.BLEND_WEIGHTS.empty().to_pandas()
    relevant = relevant_at(labels, interactions, as_of, shop)
    log = event_log(interactions, items, as_of)
    vectors = item_vectors(items, text_vectors)
    components = held_out.blend_components(
        log,
        _blend_parts(log, als_factors, vectors),
        relevant["all"]["user_id"].drop_duplicates(),
    )
    found = []
    for task in ("all", "new"):
        if relevant[task].empty:
            continue
        fresh = task == "new" or not shop.repeats
        rows = components[~components["seen"]] if fresh else components
        grid = search_blend_weights(rows, relevant[task], k=shop.evaluation.k)
        found.append(grid.assign(task=task))
        best = tuned_weights(grid)
        report.numbers |= {
            f"{task} content": best.content,
            f"{task} collaborative": best.collaborative,
            f"{task} popularity": best.popularity,
            f"{task} ndcg on tune": float(grid["ndcg"].iloc[0]),
        }
    return (
        pd.concat(found, ignore_index=True) if found else tables.BLEND_WEIGHTS.empty().to_pandas()
    )


def _cutoff(
    as_of: pd.Timestamp,
    people: pd.Series,
    tasks: list[str],
    shop: Shop,
    made: Mapping[str, Snapshot],
) -> held_out.Cutoff:
    """What the lists of one cutoff are made from, read from the tables that hold it."""
    part = part_name(as_of)
    log = event_log(made["interactions"], made["items"], as_of)
    candidates, scored = made["candidates"], made["scored_candidates"]

    def neighbour_model() -> Fitted:
        links = neighbours.links_of(made["item_neighbours"].to_arrow(part=part), log.warm_ids)
        return SimilarItems().using(log, links)

    def blend_parts() -> dict[str, Fitted]:
        return _blend_parts(log, made["als_factors"], item_vectors(made["items"], made))

    return held_out.Cutoff(
        log=log,
        known=visits_as_of(made["interactions"], as_of),
        people=people,
        retrievers=retrievers_of(candidates.columns),
        candidates=lambda columns: candidates.to_arrow(columns, part),
        scored=scored.to_arrow([c for c in scored.columns if c != "retrievers"], part),
        factors=lambda: FittedFactors.stored(made["als_factors"], log),
        neighbours=neighbour_model,
        blend_parts=blend_parts,
        weights=_tuned(made["blend_weights"]),
        tasks=tasks,
        repeats=shop.repeats,
    )


def _tuned(blend_weights: Snapshot) -> dict[str, BlendWeights]:
    grid = best_first(blend_weights.to_pandas())
    return {str(task): tuned_weights(rows) for task, rows in grid.groupby("task", sort=True)}


def _stacked(
    lists: Iterable[tuple[str, str, int, pd.DataFrame]],
    people: pd.Series,
    as_of: pd.Timestamp,
    table: Table,
) -> pa.Table:
    """The lists of several models, for `people`, as one table in the order of its key."""
    names = table.names
    found = [
        table.ordered(
            table.conform(
                rows[rows["user_id"].isin(people)].assign(
                    as_of=as_of, task=task, model=model, seed=seed
                )[names]
            )
        )
        for task, model, seed, rows in sorted(lists, key=lambda named: named[:3])
    ]
    if not found:
        return table.empty()
    return table.ordered(pa.concat_tables(found))


@table_asset(
    tables.TUNE_LISTS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "placements", "repeats", "seed"),
)
def tune_lists(
    made: Made,
    labels: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
) -> pa.Table:
    """The lists of the ranker and of everything simpler on the tune target.

    What is published is decided on these, and on nothing later.
    """
    as_of = measured_cutoff(cutoffs, labels, "tune")
    if as_of is None:
        return tables.TUNE_LISTS.empty()
    people = people_of(relevant_at(labels, made["interactions"], as_of, shop))
    k, tasks = shop.evaluation.k, tasks_of(shop)
    cutoff = _cutoff(as_of, people, tasks, shop, made)
    scored = rows_of_users(cutoff.scored, people.tolist()).to_pandas()
    lists = [
        *(
            (task, held_out.RANKER, shop.seed, held_out.top(competing(scored, placement, shop), k))
            for task, placement in PLACEMENT_OF_TASK.items()
            if task in tasks
        ),
        *((task, model, shop.seed, rows) for task, model, rows in held_out.all_lists(cutoff, k)),
    ]
    return _stacked(lists, people, as_of, tables.TUNE_LISTS)


@table_asset(
    tables.POLICIES,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "placements", "repeats"),
)
def policies(
    tune_lists: Snapshot,
    interactions: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    rankers: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """What is published per placement: the ranker, unless something simpler beats it beyond noise.

    Decided by a paired comparison on the tune target, before the evaluate target is looked at.
    Where only the served ranker had enough data to learn from, nothing was compared with it.
    """
    as_of = measured_cutoff(cutoffs, labels, "tune")
    relevant = {} if as_of is None else relevant_at(labels, interactions, as_of, shop)
    lists = tune_lists.to_pandas()
    rows = []
    trained = set(rankers.to_pandas(["target", "task"]).itertuples(index=False, name=None))
    for task in tasks_of(shop):
        own = lists[lists["task"] == task]
        chosen = UNDECIDED
        if ("live", task) in trained and ("tune", task) not in trained:
            chosen = NOT_TRAINED
        elif len(own) and len(relevant[task]):
            chosen = choose(
                user_metrics_of(relevant[task], own, shop.evaluation.k),
                draws=shop.evaluation.bootstrap,
                seed=shop.evaluation.seed,
            )
        placement = PLACEMENT_OF_TASK[task]
        rows.append({"task": task, "placement": placement, **asdict(chosen)})
        report.texts[placement] = f"published: {chosen.model}; {chosen.reason}"
    return pd.DataFrame(rows)


@table_asset(
    tables.STAND_INS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("placements", "repeats"),
)
def stand_ins(
    policies: Snapshot,
    made: Made,
    users: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """The order of the simpler model wherever it is published instead of the ranker.

    For everybody, at the evaluate and the live cutoff; empty where the ranker wins everywhere.
    """
    frame = policies.to_pandas()
    chosen = frame[frame["model"] != held_out.RANKER]
    moments = [m for t in ("evaluate", "live") if (m := cutoff_of(cutoffs, t)) is not None]
    report.numbers["placements"] = len(chosen)
    if chosen.empty or not moments:
        yield "", tables.STAND_INS.empty()
        return
    everyone = users.to_pandas(["user_id"])["user_id"]
    wanted = set(zip(chosen["task"], chosen["model"], strict=True))
    depth = max(rules_of(shop, p).pool for p in placements(shop))
    for as_of in moments:
        cutoff = _cutoff(as_of, everyone, tasks_of(shop), shop, made)
        found = [
            tables.STAND_INS.conform(
                rows.drop(columns="rank").assign(as_of=as_of, placement=PLACEMENT_OF_TASK[task])
            )
            for task, _, rows in held_out.all_lists(cutoff, depth, wanted)
        ]
        table = pa.concat_tables(found) if found else tables.STAND_INS.empty()
        yield part_name(as_of), table.sort_by([(k, "ascending") for k in tables.STAND_INS.key])


@table_asset(
    tables.EVALUATION_LISTS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("rules", "placements", "repeats", "seed"),
)
def evaluation_lists(
    made: Made,
    stand_ins: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """The lists of every model on the evaluate target: ours, each baseline, blend and retriever.

    All are made of what was known at the cutoff, over the full catalogue, for the users who then
    took something. `ours` is what would have been shown, `ours_no_rules` the order before the
    business rules; where something simpler is published, `ranker` and `ranker_with_rules` stand
    beside them. The ranker is there once per seed.
    """
    as_of = measured_cutoff(cutoffs, labels, "evaluate")
    if as_of is None:
        yield "", tables.EVALUATION_LISTS.empty()
        return
    people = people_of(relevant_at(labels, made["interactions"], as_of, shop))
    tasks = tasks_of(shop)
    measured = [*tasks, held_out.COLD]
    cutoff = _cutoff(as_of, people, measured, shop, made)
    lists: dict[str, list[tuple[str, str, int, pd.DataFrame]]] = {task: [] for task in measured}
    for task, model, rows in held_out.all_lists(cutoff, DEPTH):
        lists[task].append((task, model, shop.seed, rows))
    instead = at_cutoff(stand_ins, as_of)
    instead = instead[instead["user_id"].isin(people)]
    catalogue, taken = made["items"].to_pandas(), cutoff.taken
    vectors = item_vectors(made["items"], made)
    nobody = instead.iloc[:0]
    everybody = rows_of_users(cutoff.scored, people.tolist())
    for seed, ranked, table in held_out.seeds_of(everybody, shop.seed, tasks):
        scored = table.to_pandas()
        for task in ranked:
            placement = PLACEMENT_OF_TASK[task]
            replaced = placement in set(instead["placement"])
            if replaced and seed == shop.seed:
                variants = [("ours", instead), ("ranker", nobody)]
            else:
                variants = [("ranker" if replaced else "ours", nobody)]
            for name, standing in variants:
                order = published(scored, placement, shop, standing)
                shown = lists_to_depth(
                    order, catalogue, rules_of(shop, placement), DEPTH,
                    as_of=as_of, taken=taken, vectors=vectors,
                )  # fmt: skip
                raw, ruled = (
                    ("ours_no_rules", "ours") if name == "ours" else ("ranker", "ranker_with_rules")
                )
                lists[task].append((task, raw, seed, held_out.top(order, DEPTH)))
                lists[task].append((task, ruled, seed, shown))
                if task == "new":
                    cold = order[~order["item_id"].isin(cutoff.log.warm_ids)]
                    lists[held_out.COLD].append(
                        (held_out.COLD, raw, seed, held_out.top(cold, DEPTH))
                    )
    for task in measured:
        report.numbers[f"models {task}"] = len({model for _, model, _, _ in lists[task]})
        yield task, _stacked(lists[task], people, as_of, tables.EVALUATION_LISTS)


ASSETS: list[GatedAsset] = [
    blend_weights,
    tune_lists,
    policies,
    stand_ins,
    evaluation_lists,
]
