"""Enrichment assets: what texts say about items, and what behaviour says about product types."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    by_cutoff,
    cutoff_of,
    cutoffs_of,
    interactions_as_of,
    visits_as_of,
)
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.enrichment import claude, extractive, relations, tables
from recsys_assets.enrichment.vocabulary import (
    APPEAL,
    AUDIENCES,
    USES,
    Vocabulary,
    type_level,
    vocabulary,
)
from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import available, connect

GROUP = "enrichment"


def cold_texts(
    items: pd.DataFrame, interactions: Snapshot, cutoffs: Snapshot, max_events: int
) -> list[str]:
    """The texts with an item that is cold at the last target's cutoff, most such items first.

    An item is cold when it has at most `max_events` events before the cutoff.
    """
    moments = cutoffs_of(cutoffs, targets=True)
    if not moments:
        return []
    known = interactions_as_of(interactions, moments[-1], ["item_id"]).to_pandas()["item_id"]
    events = items["item_id"].map(known.value_counts()).fillna(0)
    waiting = items.loc[events <= max_events, "text"].value_counts()
    return sorted(waiting.index, key=lambda text: (-waiting[text], text))


def _terms_are_of_the_closed_sets(
    candidate: Snapshot, items: Snapshot, item_texts: Snapshot
) -> Iterator[Failure]:
    words = vocabulary(items.to_pandas(), item_texts.to_pandas(["text"])["text"])
    types = frozenset(words.types)
    allowed: dict[str, frozenset[str]] = {
        "audience": frozenset(AUDIENCES), "uses": frozenset(USES), "appeal": frozenset(APPEAL),
        "comparable_types": types, "complements": types, "keywords": words.words,
    }  # fmt: skip
    frame = candidate.to_pandas(list(allowed))
    for column, terms in allowed.items():
        strange = sum(not terms.issuperset(json.loads(cell)) for cell in frame[column])
        if strange:
            yield Failure("holds terms outside their closed set", column, strange)


def _every_text_has_a_row(candidate: Snapshot, item_texts: Snapshot) -> Iterator[Failure]:
    missing = item_texts.rows - candidate.rows
    if missing:
        yield Failure("texts without an enrichment", "text_hash", missing)


@table_asset(
    tables.ITEM_ENRICHMENT,
    group=GROUP,
    kinds=["anthropic", "python"],
    config=("language_model", "enrichment"),
    rules=[_terms_are_of_the_closed_sets, _every_text_has_a_row],
    inputs_hash=lambda shop: str(available(shop.language_model)),
    always=lambda shop: available(shop.language_model),
    pool="language_model",
)
def item_enrichment(
    items: Snapshot,
    item_texts: Snapshot,
    text_embeddings: Snapshot,
    interactions: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    project: Project,
    run_id: str,
    report: Report,
) -> pd.DataFrame:
    """What each item text says: uses, appeal, keywords, comparable product types.

    Every text is read by rules. With a key, Claude is asked about the texts of cold items, as far
    as the caps allow; a refused, failed or unaffordable answer leaves the rules' row in place.
    """
    catalogue = items.to_pandas()
    texts = item_texts.to_pandas(["text_hash", "text"]).sort_values("text_hash", ignore_index=True)
    vectors = text_embeddings.to_pandas().set_index("text_hash")["vector"]
    matrix = pa.array(vectors.loc[texts["text_hash"]]).flatten().to_numpy()
    words = vocabulary(catalogue, texts["text"])
    frame = extractive.extract(catalogue, texts, words, matrix.reshape(len(texts), -1))
    frame = frame.assign(source="extractive", model="").set_index("text_hash", drop=False)
    cold = cold_texts(catalogue, interactions, cutoffs, shop.enrichment.max_events)
    report.numbers |= {"texts": len(texts), "texts of cold items": len(cold)}
    hashes = texts.set_index("text")["text_hash"]
    asked = _ask(catalogue, cold, words, shop, project, run_id, report)
    for text, found in asked.items():
        at = hashes[text]
        for name in extractive.LISTS:
            frame.at[at, name] = getattr(found, name)
        frame.loc[at, ["source", "model"]] = ["claude", shop.language_model.model]
    report.numbers["filled by claude"] = len(asked)
    report.numbers["filled by rules"] = len(texts) - len(asked)
    for name in extractive.LISTS:
        frame[name] = frame[name].map(extractive.as_json)
    return frame.reset_index(drop=True)


def _ask(
    items: pd.DataFrame,
    cold: list[str],
    words: Vocabulary,
    shop: Shop,
    project: Project,
    run_id: str,
    report: Report,
) -> dict[str, claude.Enrichment]:
    """What the model says about the texts of cold items, where it says anything acceptable."""
    name = tables.ITEM_ENRICHMENT.name
    model = connect(Path(project.home), shop.language_model, run_id, name, seed=shop.seed)
    if model is None:
        return {}
    answers = answer_all(model, claude.task(words), claude.payloads(items, cold))
    accepted: dict[str, claude.Enrichment] = {}
    problems: Counter[str] = Counter()
    for text, answer in zip(cold, answers, strict=True):
        found, problem, dropped = claude.accept(answer, words)
        if found is not None:
            accepted[text] = found
        problems.update({problem: 1} if problem else {})
        problems["keyword outside the catalogue"] += dropped
    report.numbers |= {f"not used: {p}": n for p, n in sorted(problems.items()) if n}
    report.numbers |= model.numbers()
    return accepted


def _sees_nothing_later(
    candidate: Snapshot, interactions: Snapshot, items: Snapshot, users: Snapshot, cutoffs: Snapshot
) -> Iterator[Failure]:
    """Cut the log at a cutoff, recompute: every byte must be the same."""
    as_of = cutoff_of(cutoffs, "evaluate") or cutoff_of(cutoffs, "live")
    if as_of is None:
        return
    again = _relations(interactions, items.to_pandas(), users.to_pandas(), as_of)
    stored = candidate.to_pandas()
    stored = stored[stored["as_of"] == as_of]
    if not tables.TYPE_RELATIONS.conform(again).equals(
        tables.TYPE_RELATIONS.conform(stored.reset_index(drop=True))
    ):
        yield Failure("is not what the events before the cutoff give")


def _relations(
    interactions: Snapshot, items: pd.DataFrame, users: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame:
    known = visits_as_of(interactions, as_of)
    found = relations.type_relations(known, items, users, type_level(items))
    return found.assign(as_of=as_of, source="extractive")


@table_asset(
    tables.TYPE_RELATIONS, group=GROUP, kinds=["python", "scipy"], rules=[_sees_nothing_later]
)
def type_relations(
    interactions: Snapshot, items: Snapshot, users: Snapshot, cutoffs: Snapshot, report: Report
) -> Iterator[tuple[str, pd.DataFrame]]:
    """What goes with each product type, and who buys it, at the cutoff of each target.

    Learned from behaviour, so keyed by cutoff. How well it foretells the baskets and buyers of
    items that were cold at the tune and evaluate cutoffs is in the numbers.
    """
    catalogue, people = items.to_pandas(), users.to_pandas()

    def compute(as_of: pd.Timestamp) -> pd.DataFrame:
        return _relations(interactions, catalogue, people, as_of)

    frame = cutoffs.to_pandas().set_index("as_of")
    for part, found in by_cutoff(cutoffs_of(cutoffs, targets=True), compute):
        if len(found):
            row = frame.loc[found["as_of"].iloc[0]]
            if row["complete"]:
                measured = _measure(found, interactions, catalogue, people, row)
                report.numbers |= {f"{row['target']}: {n}": v for n, v in measured.items()}
        yield part, found


def _measure(
    found: pd.DataFrame,
    interactions: Snapshot,
    items: pd.DataFrame,
    users: pd.DataFrame,
    cutoff: pd.Series,
) -> dict[str, float]:
    events = visits_as_of(interactions, cutoff["horizon_end"])
    earlier = events["event_time"] < cutoff.name
    before, after = events[earlier], events[~earlier]
    cold = pd.Index(items["item_id"]).difference(pd.Index(before["item_id"].unique()))
    level = type_level(items)
    rates = relations.complement_hit_rates(found, before, after, items, level, cold)
    lift = relations.audience_lift(found, after, items, users, level, cold)
    return {
        "complements of a cold item's type in its baskets, share of 5": rates["complements"],
        "most popular types in them, share of 5": rates["popular types"],
        "complements of a cold item's type in its baskets, lift": rates["complements lift"],
        "most popular types in them, lift": rates["popular types lift"],
        "audience of a cold item's type among its buyers, lift": lift["audience lift"],
    }


ASSETS: list[GatedAsset] = [item_enrichment, type_relations]
