"""Evaluation assets: how good the lists are, beside everything simpler."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.collaborative import factors, neighbours
from recsys_assets.collaborative.popularity import popular_items
from recsys_assets.content.categories import in_categories
from recsys_assets.content.vectors import item_vectors
from recsys_assets.core import plots
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    at_cutoff,
    cutoff_of,
    horizon_events,
    interactions_as_of,
    taken_pairs,
)
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.core.tables import Table
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.evaluation import held_out, tables
from recsys_assets.evaluation import report as page
from recsys_assets.evaluation.baselines_blend import (
    BlendWeights,
    search_blend_weights,
    tuned_weights,
)
from recsys_assets.evaluation.examples import choose_examples, lay_out
from recsys_assets.evaluation.item_list_metrics import item_list_metrics as measure_item_lists
from recsys_assets.evaluation.policy import UNDECIDED, choose
from recsys_assets.evaluation.scoreboard import Surroundings, Task, history_slices
from recsys_assets.evaluation.scoreboard import scoreboard as measure
from recsys_assets.evaluation.scoreboard import user_metrics as user_metrics_of
from recsys_assets.ranking import rules
from recsys_assets.ranking.placements import competing, placements, published, rules_of
from recsys_assets.retrieval.candidates import retriever_recall as recall_of
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import EventLog, Fitted
from recsys_assets.retrieval.factorization import FittedFactors
from recsys_assets.retrieval.logs import event_log
from recsys_assets.retrieval.neighbours import SimilarItems
from recsys_assets.retrieval.popularity import Popularity

GROUP = "evaluation"
OURS = ("ours", "ours_no_rules")
"""`ours`: what would be shown in the placement of the task; `ours_no_rules`: its raw order."""
_WITHOUT_US = ("ranker", "ranker_with_rules")
"""The ranker where something simpler is published instead of it."""
DEPTH = 100
"""Length of the lists of the evaluate target, which anybody may recompute the metrics from."""


def _factors_at(als_factors: Snapshot, log: EventLog) -> Fitted:
    stored = als_factors.to_arrow(part=part_name(log.as_of))
    warm = log.items[log.columns[: log.n_warm]]
    return FittedFactors.of(factors.from_table(stored, log.users, warm))


def _blend_parts(log: EventLog, als_factors: Snapshot, vectors: ItemVectors) -> dict[str, Fitted]:
    return {
        "content": Content(vectors.matrix, popularity=0.0, prior=0.0).fit(log),
        "collaborative": _factors_at(als_factors, log),
        "popularity": Popularity(window=28).fit(log),
    }


def _tasks(shop: Shop) -> list[str]:
    """The tasks of the shop's placements: nothing is taken again where nothing repeats."""
    named = placements(shop)
    return [task for task, placement in held_out.PLACEMENT_OF_TASK.items() if placement in named]


def _measured(cutoffs: Snapshot, labels: Snapshot, target: str) -> pd.Timestamp | None:
    """The cutoff of `target` if what users then took is known."""
    as_of = cutoff_of(cutoffs, target)
    return as_of if as_of is not None and part_name(as_of) in labels.parts else None


def _relevant(
    labels: Snapshot, interactions: Snapshot, as_of: pd.Timestamp
) -> dict[str, pd.DataFrame]:
    warm = interactions_as_of(interactions, as_of, ["item_id"])["item_id"]
    rows = labels.to_pandas(part=part_name(as_of))
    return held_out.relevant_pairs(rows, as_of, pd.Index(pc.unique(warm).to_pandas()))


def _empty(table: Table) -> pd.DataFrame:
    return pd.DataFrame({c.name: [] for c in table.columns if not c.is_pattern})


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
    as_of = _measured(cutoffs, labels, "tune")
    if as_of is None:
        return _empty(tables.BLEND_WEIGHTS)
    relevant = _relevant(labels, interactions, as_of)
    log = event_log(interactions, items, as_of)
    vectors = item_vectors(items, item_texts, text_embeddings)
    components = held_out.blend_components(
        log,
        _blend_parts(log, als_factors, vectors),
        relevant["all"]["user_id"].drop_duplicates(),
    )
    found = []
    for task in ("all", "new"):
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
    return pd.concat(found, ignore_index=True) if found else _empty(tables.BLEND_WEIGHTS)


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
        as_of = _measured(cutoffs, labels, target)
        if as_of is None:
            continue
        part = part_name(as_of)
        proposed = candidates.to_arrow(part=part)
        scored = scored_candidates.to_arrow(["seen", "score_all", "score_new"], part)
        for name in scored.column_names:
            proposed = proposed.append_column(name, scored[name])
        recall = recall_of(proposed, labels.to_pandas(part=part))
        found.append(recall.assign(target=target))
    if not found:
        return _empty(tables.RETRIEVER_RECALL)
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
    return table


def _cutoff(
    as_of: pd.Timestamp,
    people: pd.Series,
    tasks: list[str],
    interactions: Snapshot,
    items: Snapshot,
    candidates: Snapshot,
    scored_candidates: Snapshot,
    als_factors: Snapshot,
    item_neighbours: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    blend_weights: Snapshot,
) -> held_out.Cutoff:
    """What the lists of one cutoff are made from, read from the tables that hold it."""
    part = part_name(as_of)
    log = event_log(interactions, items, as_of)

    def neighbour_model() -> Fitted:
        warm = pd.Index(log.items[log.columns[: log.n_warm]])
        links = neighbours.from_table(item_neighbours.to_arrow(part=part), warm)
        return SimilarItems().using(log, links)

    def blend_parts() -> dict[str, Fitted]:
        vectors = item_vectors(items, item_texts, text_embeddings)
        return _blend_parts(log, als_factors, vectors)

    return held_out.Cutoff(
        log=log,
        known=interactions_as_of(interactions, as_of).to_pandas(),
        people=people,
        candidates=candidates.to_arrow(part=part),
        scored=scored_candidates.to_arrow(part=part),
        factors=lambda: _factors_at(als_factors, log),
        neighbours=neighbour_model,
        blend_parts=blend_parts,
        weights=_tuned(blend_weights),
        tasks=tasks,
    )


def _tuned(blend_weights: Snapshot) -> dict[str, BlendWeights]:
    grid = blend_weights.to_pandas()
    return {
        str(task): tuned_weights(rows.sort_values("ndcg", ascending=False, kind="stable"))
        for task, rows in grid.groupby("task", sort=True)
    }


def _stacked(
    lists: Iterable[tuple[str, str, int, pd.DataFrame]],
    people: pd.Series,
    as_of: pd.Timestamp,
    table: Table,
) -> pa.Table:
    """The lists of several models, for `people`, as one table in the order of its key."""
    names = [c.name for c in table.columns]
    found = [
        table.conform(
            rows[rows["user_id"].isin(people)].assign(
                as_of=as_of, task=task, model=model, seed=seed
            )[names]
        )
        for task, model, seed, rows in lists
    ]
    if not found:
        return table.arrow_schema().empty_table()
    return pa.concat_tables(found).sort_by([(name, "ascending") for name in table.key])


def _people(relevant: Mapping[str, pd.DataFrame]) -> pd.Series:
    return relevant["all"]["user_id"].drop_duplicates().sort_values(ignore_index=True)


def _scored_of(scored: pa.Table, people: pd.Series) -> pa.Table:
    return scored.filter(pc.is_in(scored["user_id"], value_set=pa.array(people, pa.string())))


@table_asset(
    tables.TUNE_LISTS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("evaluation", "placements", "repeats", "seed"),
)
def tune_lists(
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
) -> pa.Table:
    """The lists of the ranker and of everything simpler on the tune target.

    What is published is decided on these, and on nothing later.
    """
    as_of = _measured(cutoffs, labels, "tune")
    if as_of is None:
        return tables.TUNE_LISTS.arrow_schema().empty_table()
    people, k, tasks = (
        _people(_relevant(labels, interactions, as_of)),
        shop.evaluation.k,
        _tasks(shop),
    )
    cutoff = _cutoff(
        as_of, people, tasks, interactions, items, candidates, scored_candidates, als_factors,
        item_neighbours, item_texts, text_embeddings, blend_weights,
    )  # fmt: skip
    scored = _scored_of(cutoff.scored, people).to_pandas()
    lists = [
        *(
            (task, held_out.RANKER, shop.seed, held_out.top(competing(scored, placement), k))
            for task, placement in held_out.PLACEMENT_OF_TASK.items()
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
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """What is published per placement: the ranker, unless something simpler beats it beyond noise.

    Decided by a paired comparison on the tune target, before the evaluate target is looked at.
    """
    as_of = _measured(cutoffs, labels, "tune")
    relevant = {} if as_of is None else _relevant(labels, interactions, as_of)
    lists = tune_lists.to_pandas()
    rows = []
    for task in _tasks(shop):
        own = lists[lists["task"] == task]
        chosen = UNDECIDED
        if len(own) and len(relevant[task]):
            chosen = choose(
                user_metrics_of(relevant[task], own, shop.evaluation.k),
                draws=shop.evaluation.bootstrap,
                seed=shop.evaluation.seed,
            )
        placement = held_out.PLACEMENT_OF_TASK[task]
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
    scored_candidates: Snapshot,
    candidates: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    item_neighbours: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    blend_weights: Snapshot,
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
        yield "", tables.STAND_INS.arrow_schema().empty_table()
        return
    everyone = users.to_pandas(["user_id"])["user_id"]
    wanted = set(zip(chosen["task"], chosen["model"], strict=True))
    depth = max(rules_of(shop, p).pool for p in placements(shop))
    for as_of in moments:
        cutoff = _cutoff(
            as_of, everyone, _tasks(shop), interactions, items, candidates, scored_candidates,
            als_factors, item_neighbours, item_texts, text_embeddings, blend_weights,
        )  # fmt: skip
        found = [
            tables.STAND_INS.conform(
                rows.drop(columns="rank").assign(
                    as_of=as_of, placement=held_out.PLACEMENT_OF_TASK[task]
                )
            )
            for task, _, rows in held_out.all_lists(cutoff, depth, wanted)
        ]
        table = pa.concat_tables(found) if found else tables.STAND_INS.arrow_schema().empty_table()
        yield part_name(as_of), table.sort_by([(k, "ascending") for k in tables.STAND_INS.key])


@table_asset(
    tables.EVALUATION_LISTS,
    group=GROUP,
    kinds=["python", "pandas"],
    config=("rules", "placements", "repeats", "seed"),
)
def evaluation_lists(
    scored_candidates: Snapshot,
    stand_ins: Snapshot,
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
) -> Iterator[tuple[str, pa.Table]]:
    """The lists of every model on the evaluate target: ours, each baseline, blend and retriever.

    All are made of what was known at the cutoff, over the full catalogue, for the users who then
    took something. `ours` is what would have been shown, `ours_no_rules` the order before the
    business rules; where something simpler is published, `ranker` and `ranker_with_rules` stand
    beside them. The ranker is there once per seed.
    """
    as_of = _measured(cutoffs, labels, "evaluate")
    if as_of is None:
        yield "", tables.EVALUATION_LISTS.arrow_schema().empty_table()
        return
    people, tasks = _people(_relevant(labels, interactions, as_of)), _tasks(shop)
    measured = [*tasks, held_out.COLD]
    cutoff = _cutoff(
        as_of, people, measured, interactions, items, candidates, scored_candidates, als_factors,
        item_neighbours, item_texts, text_embeddings, blend_weights,
    )  # fmt: skip
    lists: dict[str, list[tuple[str, str, int, pd.DataFrame]]] = {task: [] for task in measured}
    for task, model, rows in held_out.all_lists(cutoff, DEPTH):
        lists[task].append((task, model, shop.seed, rows))
    instead = at_cutoff(stand_ins, as_of)
    instead = instead[instead["user_id"].isin(people)]
    catalogue, taken = items.to_pandas(), cutoff.taken
    vectors = item_vectors(items, item_texts, text_embeddings)
    nobody = instead.iloc[:0]
    for seed, table in held_out.seeds_of(_scored_of(cutoff.scored, people), shop.seed).items():
        scored = table.to_pandas()
        for task in tasks:
            placement = held_out.PLACEMENT_OF_TASK[task]
            own = rules_of(shop, placement)
            own = replace(own, length=DEPTH, pool=2 * DEPTH)
            replaced = placement in set(instead["placement"])
            if replaced and seed == shop.seed:
                variants = [("ours", instead), ("ranker", nobody)]
            else:
                variants = [("ranker" if replaced else "ours", nobody)]
            for name, standing in variants:
                order = published(scored, placement, standing)
                shown = rules.apply_rules(
                    order, catalogue, own, as_of=as_of, taken=taken, vectors=vectors
                )
                raw, ruled = (
                    ("ours_no_rules", "ours") if name == "ours" else ("ranker", "ranker_with_rules")
                )
                lists[task].append((task, raw, seed, held_out.top(order, DEPTH)))
                lists[task].append((task, ruled, seed, shown))
                if task == "new":
                    cold = order[~order["item_id"].isin(cutoff.warm)]
                    lists[held_out.COLD].append(
                        (held_out.COLD, raw, seed, held_out.top(cold, DEPTH))
                    )
    for task in measured:
        report.numbers[f"models {task}"] = len({model for _, model, _, _ in lists[task]})
        yield task, _stacked(lists[task], people, as_of, tables.EVALUATION_LISTS)


@table_asset(tables.USER_METRICS, group=GROUP, kinds=["python", "numpy"], config=("evaluation",))
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
        as_of = _measured(cutoffs, labels, target)
        if as_of is None:
            continue
        for task, pairs in _relevant(labels, interactions, as_of).items():
            lists = _lists_of(source, task, shop.evaluation.k)
            if len(pairs) and len(lists):
                found = user_metrics_of(pairs, lists, shop.evaluation.k)
                frames.append(found.assign(target=target, task=task))
    if not frames:
        return _empty(tables.USER_METRICS)
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values(list(tables.USER_METRICS.key), ignore_index=True)


def _lists_of(source: Snapshot, task: str, k: int) -> pd.DataFrame:
    """The first k places of every list of a task."""
    part = task if task in source.parts else None
    columns = ["task", "model", "seed", "user_id", "item_id", "rank"]
    table = source.to_arrow(columns, part)
    chosen = pc.and_(pc.equal(table["task"], task), pc.less_equal(table["rank"], k))
    return table.filter(chosen).drop_columns("task").to_pandas()


def _is_measured(candidate: Snapshot, labels: Snapshot, cutoffs: Snapshot) -> Iterator[Failure]:
    if _measured(cutoffs, labels, "evaluate") is not None:
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
    tune_lists: Snapshot,
    evaluation_lists: Snapshot,
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

    Full ranking over the catalogue, means over users (and over seeds, with their spread), bootstrap
    over users. `ours` is what would be shown; `ours_no_rules` is its order before the rules. Both
    are compared, paired by user, with the best baseline and with the best retriever.
    """
    frames = []
    k = shop.evaluation.k
    for target, source in (("tune", tune_lists), ("evaluate", evaluation_lists)):
        as_of = _measured(cutoffs, labels, target)
        if as_of is None:
            continue
        known = interactions_as_of(interactions, as_of).to_pandas()
        found = {
            task: Task(pairs, _lists_of(source, task, k))
            for task, pairs in _relevant(labels, interactions, as_of).items()
        }
        models = {str(m) for task in found.values() for m in task.lists["model"].unique()}
        simpler = models - {*OURS, *_WITHOUT_US}
        retrievers = {m for m in simpler if m.startswith(held_out.RETRIEVER)}
        board = measure(
            target,
            found,
            Surroundings(
                popularity=popular_items(known, as_of=as_of),
                items=items.to_pandas(["item_id", "category_2", "group_id"]),
                taken=taken_pairs(interactions, as_of),
                user_slices=history_slices(
                    known, pd.Index(_people(_relevant(labels, interactions, as_of)))
                ),
                vectors=item_vectors(items, item_texts, text_embeddings),
            ),
            rivals={"baselines": sorted(simpler - retrievers), "retrievers": sorted(retrievers)},
            k=k,
            draws=shop.evaluation.bootstrap,
            seed=shop.evaluation.seed,
            beyond=target == "evaluate",
        )
        frames += [board.metrics.assign(baseline=""), board.differences]
    columns = [c.name for c in tables.SCOREBOARD.columns]
    if not frames:
        return _empty(tables.SCOREBOARD)
    table = pd.concat([f.reindex(columns=columns) for f in frames if len(f)], ignore_index=True)
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
    config=("evaluation",),
)
def item_list_metrics(
    interactions: Snapshot,
    items: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    cutoffs: Snapshot,
    labels: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """How often the item-to-item lists hit, made at the evaluate cutoff, beside popularity.

    `bought_together` on baskets of the horizon, `similar_items` on new products of a category the
    user knew.
    """
    as_of = _measured(cutoffs, labels, "evaluate")
    if as_of is None:
        return _empty(tables.ITEM_LIST_METRICS)
    known = interactions_as_of(interactions, as_of).to_pandas()
    table = measure_item_lists(
        known,
        horizon_events(interactions, as_of, as_of + pd.Timedelta(days=shop.cutoffs.horizon_days)),
        items.to_pandas(),
        item_vectors(items, item_texts, text_embeddings),
        popular_items(known, as_of=as_of),
        k=shop.evaluation.k,
        draws=shop.evaluation.bootstrap,
        seed=shop.evaluation.seed,
    )
    for line in table[table["n_cases"] > 0].to_dict("records"):
        report.numbers[f"{line['list']} {line['model']} hit"] = float(line["value"])
    return table.reindex(columns=[c.name for c in tables.ITEM_LIST_METRICS.columns])


@table_asset(
    tables.EXAMPLES, group=GROUP, kinds=["python", "pandas"], config=("evaluation", "rules", "seed")
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
    """A few users of the evaluate target to look at, with product names and without their ids.

    Where we won most, where we lost most, and ordinary ones; chosen by a seeded rule, compared with
    the best model that is not ours. Products of sensitive categories are there without their name.
    """
    as_of = _measured(cutoffs, labels, "evaluate")
    if as_of is None:
        return _empty(tables.EXAMPLES)
    scores = user_metrics.to_pandas()
    scores = scores[(scores["target"] == "evaluate") & (scores["seed"] == shop.seed)]
    relevant = _relevant(labels, interactions, as_of)
    known = interactions_as_of(interactions, as_of, ["user_id", "item_id", "counts_as_taken"])
    known = known.filter(known["counts_as_taken"]).select(["user_id", "item_id"])
    catalogue = items.to_pandas()
    private = in_categories(catalogue, frozenset(shop.rules.sensitive_categories))
    titles = catalogue["title"].mask(private, "(sensitive category)").set_axis(catalogue["item_id"])
    found = []
    for task in ("all", "new"):
        wide = scores[scores["task"] == task].pivot(index="user_id", columns="model", values="ndcg")
        others = [m for m in sorted(wide.columns) if m not in (*OURS, *_WITHOUT_US)]
        if "ours" not in wide or not others:
            continue
        rival = str(wide[others].mean().idxmax())
        chosen = choose_examples(wide["ours"] - wide[rival], seed=shop.evaluation.seed, salt=task)
        mine = known.filter(pc.is_in(known["user_id"], pa.array(chosen["user_id"], pa.string())))
        times = mine.to_pandas().value_counts(["user_id", "item_id"]).rename("times").reset_index()
        times = times.sort_values(
            ["user_id", "times", "item_id"], ascending=[True, False, True], kind="stable"
        )
        lists = _lists_of(evaluation_lists, task, shop.evaluation.k)
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
    return pd.concat(found, ignore_index=True) if found else _empty(tables.EXAMPLES)


@table_asset(tables.REPORT_PAGE, group=GROUP, kinds=["html", "python"], config=("name",))
def report_page(
    scoreboard: Snapshot,
    policies: Snapshot,
    retriever_recall: Snapshot,
    item_list_metrics: Snapshot,
    examples: Snapshot,
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
        page.Section("Retrievers", _pictures(retriever_recall)),
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
    blend_weights,
    retriever_recall,
    tune_lists,
    policies,
    stand_ins,
    evaluation_lists,
    user_metrics,
    scoreboard,
    item_list_metrics,
    examples,
    report_page,
]
