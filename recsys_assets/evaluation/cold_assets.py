"""The asset that measures how items without history are found, with and without their enrichment.

Belongs here: a thin asset over `cold_items.py`. Does not belong here: measuring, and the page.
"""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import at_cutoff, interactions_as_of, visits_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.metrics import per_user_metrics
from recsys_assets.enrichment.relations import type_relations as relations_of
from recsys_assets.enrichment.vocabulary import type_level
from recsys_assets.evaluation import cold_items, held_out, tables
from recsys_assets.evaluation.cold_items import (
    CONTENT,
    EVERYTHING,
    TWINS,
    ColdSet,
    EnrichmentUses,
    UseVerdict,
)
from recsys_assets.evaluation.reading import first_places, measured_cutoff
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import EVENT_COLUMNS, EventLog, hidden_items
from recsys_assets.retrieval.newcomers import Newcomers

GROUP = "evaluation"
HIDDEN_SHARE = 0.05
"""Share of the items with history whose history is hidden."""

Frames = Mapping[str, pd.DataFrame]


@table_asset(
    tables.ENRICHMENT_LIFT,
    group=GROUP,
    kinds=["python", "scipy"],
    config=("evaluation", "seed"),
)
def enrichment_lift(
    item_enrichment: Snapshot,
    type_relations: Snapshot,
    tune_lists: Snapshot,
    evaluation_lists: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """Whether the enrichment helps to find items nobody has taken, and what warm items lose by it.

    On items without history and on items whose history is hidden: recall of text similarity, of
    what became of like products, and of that with each use of the enrichment; then the lists of
    `discover` with their last place given to a cold item. Weights are chosen on tune.
    """
    texts = text_vectors["item_texts"].to_pandas(["text_hash", "text"])
    enrichment = item_enrichment.to_pandas().merge(texts, on="text_hash")
    catalogue, people, stored = items.to_pandas(), users.to_pandas(), items.to_arrow()
    content = Content(item_vectors(items, text_vectors).matrix)
    decided: list[UseVerdict] | None = None
    frames: list[pd.DataFrame] = []
    for target, lists in (("tune", tune_lists), ("evaluate", evaluation_lists)):
        as_of = measured_cutoff(cutoffs, labels, target)
        if as_of is None:
            continue
        known = interactions_as_of(interactions, as_of, list(EVENT_COLUMNS))
        log = EventLog.from_frames(known, stored, as_of)
        later = labels.to_pandas(part=part_name(as_of))
        where = ColdSet.of(log, later)
        if where.relevant.empty:
            continue
        given = EnrichmentUses.of(
            log, catalogue, enrichment, at_cutoff(type_relations, as_of), people
        )
        newcomers, uses = Newcomers().fit(log), given.fit(log)
        if target == "tune":
            tried, _ = cold_items.measure(where, newcomers, uses, cold_items.grid(), depths=(20,))
            decided = cold_items.verdicts(tried, shop.evaluation.bootstrap, shop.seed)
        if decided is None:
            continue
        mixes = cold_items.chosen_mixes(decided)
        found, cold = cold_items.measure(where, newcomers, uses, mixes, content.fit(log))
        summed = partial(_summed, shop=shop, target=target)
        frames += summed(found, cold_items.NO_HISTORY)
        frames += summed(_in_lists(lists, later, where, cold, shop), cold_items.IN_LISTS)

        gone = hidden_items(log.warm_ids, HIDDEN_SHARE, shop.seed)
        less = EventLog.from_frames(known, stored, as_of, gone)
        hidden = ColdSet.of(less, later[later["is_new"]], gone)
        if len(hidden.relevant):
            rows = visits_of(known)
            rows = rows[~rows["item_id"].isin(gone)]
            relations = relations_of(rows, catalogue, people, type_level(catalogue))
            given = EnrichmentUses.of(less, catalogue, enrichment, relations, people)
            found, _ = cold_items.measure(
                hidden, Newcomers().fit(less), given.fit(less), mixes, content.fit(less)
            )
            frames += summed(found, cold_items.HIDDEN)
    if decided is None:
        return tables.ENRICHMENT_LIFT.empty().to_pandas()
    table = pd.concat(frames, ignore_index=True)
    table["weight"] = table["model"].map({cold_items.use_name(v.use): v.weight for v in decided})
    _show(report, table, decided)
    table = table.reindex(columns=tables.ENRICHMENT_LIFT.names)
    return table.sort_values(list(tables.ENRICHMENT_LIFT.key), ignore_index=True)


def _in_lists(
    source: Snapshot, later: pd.DataFrame, where: ColdSet, cold: Frames, shop: Shop
) -> dict[str, pd.DataFrame]:
    """NDCG of the lists of `discover`, as they are and with a cold last place: of everything new
    that was then taken, and of what was warm in it."""
    k = shop.evaluation.k
    lists = first_places(source, "new", k)
    model = "ours_no_rules" if (lists["model"] == "ours_no_rules").any() else held_out.RANKER
    lists = lists[(lists["model"] == model) & (lists["seed"] == shop.seed)]
    if lists.empty:
        return {}
    new = later.loc[later["is_new"], ["user_id", "item_id"]]
    warm = where.log.items[where.log.columns[: where.log.n_warm]]
    relevant = {"ndcg@10": new, "ndcg@10 warm": new[new["item_id"].isin(warm)]}
    variants = {cold_items.AS_IT_IS: lists} | {
        cold_items.slot_name(name): cold_items.with_a_cold_slot(lists, cold[name], k)
        for name in (CONTENT, TWINS, EVERYTHING)
    }
    found = {}
    for name, rows in variants.items():
        metrics = {
            metric: per_user_metrics(rows, pairs, (k,)).set_index("user_id")[f"ndcg@{k}"]
            for metric, pairs in relevant.items()
        }
        found[name] = pd.DataFrame(metrics)
    return found


def _summed(found: Frames, cold_set: str, *, shop: Shop, target: str) -> list[pd.DataFrame]:
    against = cold_items.rivals(found)
    draws, seed = shop.evaluation.bootstrap, shop.evaluation.seed
    return [
        frame.assign(target=target, cold_set=cold_set)
        for frame in cold_items.summary(found, against, draws, seed)
    ]


def _show(report: Report, table: pd.DataFrame, decided: list[UseVerdict]) -> None:
    own = table[(table["baseline"] == "") & (table["metric"] == cold_items.DECIDES)]
    own = own[own["cold_set"] == cold_items.NO_HISTORY]
    for row in own[own["model"].isin([CONTENT, TWINS, EVERYTHING])].to_dict("records"):
        report.numbers[f"{row['target']}: {row['metric']}, {row['model']}"] = float(row["value"])
    for verdict in decided:
        report.texts[verdict.use.replace("_", " ")] = verdict.sentence
    report.texts["verdict"] = cold_items.conclusion(decided)


ASSETS: list[GatedAsset] = [enrichment_lift]
