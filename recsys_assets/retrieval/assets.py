"""Retrieval assets: the fitted models that retrievers share, and the candidates."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.collaborative import factors, neighbours
from recsys_assets.collaborative.tables import ALS_FACTORS, ITEM_NEIGHBOURS
from recsys_assets.content.vectors import TextVectors
from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    by_cutoff,
    cutoff_units,
    cutoffs_of,
    interactions_as_of,
)
from recsys_assets.core.lake import LakeError, Snapshot, part_name
from recsys_assets.core.proofs import (
    SAW_THE_FUTURE,
    CutLog,
    cut_off,
    knows_nothing_later,
    proof_cutoffs,
)
from recsys_assets.core.quality import Failure
from recsys_assets.indexing.stores import open_index
from recsys_assets.retrieval import candidates as generator
from recsys_assets.retrieval import hidden, registry, tables
from recsys_assets.retrieval.contract import EVENT_COLUMNS, EventLog
from recsys_assets.retrieval.factorization import Als, FittedFactors
from recsys_assets.retrieval.learners import learners, people_at, units_of_people
from recsys_assets.retrieval.logs import event_log
from recsys_assets.retrieval.neighbours import SimilarItems
from recsys_assets.retrieval.through_index import DotProduct, ThroughIndex

GROUP = "retrieval"
PROOF_BATCHES = 2
"""So many batches of users get their candidates made again from a log that was cut."""
_NO_WINDOW = ""
"""The one part of a table by window where the data are too short for any."""
ALS = "als"
"""Name of the one retriever whose vectors are stored as an asset and shared."""


def _factors_are_sound(candidate: Snapshot) -> Iterator[Failure]:
    for part in candidate.parts:
        table = candidate.to_arrow(["kind", "vector"], part)
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        vectors = flat.reshape(table.num_rows, -1)
        items = vectors[pc.equal(table["kind"], "item").to_numpy()]
        if len(items) and not np.abs(items).sum(axis=1).any():
            yield Failure("every item vector is zero: nothing was learned", "vector", part=part)


def _als(shop: Shop) -> Als:
    member = registry.members(registry.configured(shop)).get(ALS)
    model = member.retriever if member else Als()
    if not isinstance(model, Als):
        raise LakeError("retrieval.als must be of kind als: its vectors are an asset of their own")
    return model


def _factorize(
    model: Als, interactions: Snapshot, items: Snapshot, as_of: pd.Timestamp, seed: int
) -> pa.Table:
    log = event_log(interactions, items, as_of)
    found = model.factorize(log, seed)
    table = factors.to_table(found, as_of, log.users, log.warm_ids)
    return table.sort_by([("kind", "ascending"), ("id", "ascending")])


def _factors_know_nothing_later(
    candidate: Snapshot, interactions: Snapshot, items: Snapshot, cutoffs: Snapshot, shop: Shop
) -> Iterator[Failure]:

    def make(log: CutLog, as_of: pd.Timestamp) -> pa.Table:
        return _factorize(_als(shop), log, items, as_of, shop.seed)

    moments = proof_cutoffs(candidate, cutoffs)
    yield from knows_nothing_later(candidate, ALS_FACTORS, interactions, moments, make)


def _log_and_items(interactions: Snapshot, items: Snapshot, cutoffs: Snapshot) -> dict[str, str]:
    return cutoff_units(cutoffs, interactions, whole=[items])


@table_asset(
    ALS_FACTORS,
    group="collaborative",
    kinds=["implicit", "python"],
    config=("retrieval", "seed"),
    rules=[_factors_are_sound, _factors_know_nothing_later],
    units=_log_and_items,
)
def als_factors(
    interactions: Snapshot,
    items: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    todo: list[str],
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """User and item vectors of an alternating-least-squares factorization, at every cutoff.

    The dot product of a user's and an item's vector says how well they fit.
    """
    model = _als(shop)

    def fit(as_of: pd.Timestamp) -> pa.Table:
        return _factorize(model, interactions, items, as_of, shop.seed)

    report.numbers |= {"factors": model.factors, "cutoffs": len(cutoffs_of(cutoffs))}
    yield from by_cutoff(cutoffs_of(cutoffs, todo=todo), fit)


def _neighbours(interactions: Snapshot, items: Snapshot, as_of: pd.Timestamp) -> pa.Table:
    log = event_log(interactions, items, as_of)
    found = SimilarItems().neighbours(log)
    return neighbours.to_table(found, as_of, log.warm_ids)


def _neighbours_know_nothing_later(
    candidate: Snapshot, interactions: Snapshot, items: Snapshot, cutoffs: Snapshot
) -> Iterator[Failure]:

    def make(log: CutLog, as_of: pd.Timestamp) -> pa.Table:
        return _neighbours(log, items, as_of)

    moments = cutoffs_of(cutoffs, targets=True)[:1]
    yield from knows_nothing_later(candidate, ITEM_NEIGHBOURS, interactions, moments, make)


@table_asset(
    ITEM_NEIGHBOURS,
    group="collaborative",
    kinds=["python", "scipy"],
    config=("retrieval",),
    rules=[_neighbours_know_nothing_later],
)
def item_neighbours(
    interactions: Snapshot, items: Snapshot, cutoffs: Snapshot
) -> Iterator[tuple[str, pa.Table]]:
    """For each item the items that the same users take, at the cutoff of each target."""

    def find(as_of: pd.Timestamp) -> pa.Table:
        return _neighbours(interactions, items, as_of)

    yield from by_cutoff(cutoffs_of(cutoffs, targets=True), find)


def _candidates_know_nothing_later(
    candidate: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    project: Project,
) -> Iterator[Failure]:
    """Cut the log at a cutoff, fit every retriever again: what some users are proposed, and every
    score of it, must be the same. Names the retrievers that differ."""
    for as_of in proof_cutoffs(candidate, cutoffs):
        ids = people_at(as_of, users, cutoffs, shop)
        some = generator.whole_batches(ids, PROOF_BATCHES, np.random.default_rng(shop.seed))
        chosen = registry.members_of(shop, items, users, text_vectors)
        log = event_log(cut_off(interactions, as_of), items, as_of)
        fitted = fit_members(log, chosen, als_factors, shop.seed)
        with indexed(project, log, fitted, chosen) as ready:
            again = tables.CANDIDATES.conform(generator.generate(log, ready, chosen, some))
        stored = candidate.to_arrow(part=part_name(as_of))
        stored = stored.filter(pc.is_in(stored["user_id"], value_set=pa.array(some, pa.string())))
        if again.equals(stored):
            continue
        guilty = [n for n in chosen if not _same_list(again, stored, n)]
        named = f" (retrievers: {', '.join(guilty)})" if guilty else ""
        yield Failure(SAW_THE_FUTURE + named, part=part_name(as_of))


def _same_list(left: pa.Table, right: pa.Table, retriever: str) -> bool:
    """Whether a retriever's own lists are the same in both, scores included."""
    score, rank = f"score_{retriever}", f"rank_{retriever}"
    own = [t.filter(pc.is_valid(t[rank])) for t in (left, right)]
    columns = ["user_id", "item_id", score, rank]
    return bool(own[0].select(columns).equals(own[1].select(columns)))


def _every_user_has_candidates(
    candidate: Snapshot, users: Snapshot, cutoffs: Snapshot, shop: Shop
) -> Iterator[Failure]:
    for as_of in cutoffs_of(cutoffs, todo=candidate.parts):
        part = part_name(as_of)
        expected = pa.array(people_at(as_of, users, cutoffs, shop), pa.string())
        found = pc.unique(candidate.to_arrow(["user_id"], part)["user_id"])
        missing = len(expected) - int(pc.sum(pc.is_in(expected, value_set=found)).as_py() or 0)
        if missing:
            yield Failure("users without a single candidate", "user_id", missing, part)


def _candidates_are_catalogue_items(candidate: Snapshot, items: Snapshot) -> Iterator[Failure]:
    known = items.to_arrow(["item_id"])["item_id"].combine_chunks()
    for part in candidate.parts:
        ids = pc.unique(candidate.to_arrow(["item_id"], part)["item_id"])
        strange = int(pc.sum(pc.invert(pc.is_in(ids, value_set=known))).as_py() or 0)
        if strange:
            yield Failure("is not in the catalogue", "item_id", strange, part)


def _all_that_retrievers_see(
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
) -> dict[str, str]:
    whole = [items, users, *text_vectors.values()]
    units = cutoff_units(cutoffs, interactions, same=[als_factors], whole=whole)
    return units_of_people(units, users, cutoffs, shop)


@table_asset(
    tables.CANDIDATES,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("retrieval", "cutoffs", "seed"),
    rules=[
        _every_user_has_candidates,
        _candidates_are_catalogue_items,
        _candidates_know_nothing_later,
    ],
    units=_all_that_retrievers_see,
)
def candidates(
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    als_factors: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    project: Project,
    todo: list[str],
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """What the retrievers propose to each user at each cutoff, every pair scored by all of them.

    Each retriever brings its best already-taken and its best new items; the union goes on to the
    ranker. Users without history get what is popular and what fits nobody's past in particular. A
    cutoff that only teaches is asked for the users whom its window is learned from.
    """
    chosen = registry.members_of(shop, items, users, text_vectors)

    def generate(as_of: pd.Timestamp) -> pa.Table:
        log = event_log(interactions, items, as_of)
        fitted = fit_members(log, chosen, als_factors, shop.seed)
        with indexed(project, log, fitted, chosen) as ready:
            return generator.generate(log, ready, chosen, people_at(as_of, users, cutoffs, shop))

    per_user: list[float] = []
    for part, table in by_cutoff(cutoffs_of(cutoffs, todo=todo), generate):
        per_user.append(table.num_rows / max(1, len(pc.unique(table["user_id"]))))
        yield part, table
    report.numbers |= {
        "retrievers": len(chosen),
        "candidates per user": round(float(np.mean(per_user or [0.0])), 1),
        "cutoffs computed now": len(todo),
    }
    report.texts["retrievers"] = "\n".join(f"- {n}: `{m.retriever}`" for n, m in chosen.items())


def _windows_that_hide(
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    fits: Snapshot,
    text_vectors: TextVectors,
) -> dict[str, str]:
    whole = [items, users, *text_vectors.values()]
    windows = {part_name(moment) for moment in fits.to_pandas()["window_as_of"]}
    units = cutoff_units(cutoffs, interactions, whole=whole)
    return {part: units[part] for part in sorted(windows)} or {_NO_WINDOW: ""}


@table_asset(
    tables.HIDDEN_CANDIDATES,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("retrieval", "cutoffs", "seed"),
    units=_windows_that_hide,
)
def hidden_candidates(
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    fits: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    todo: list[str],
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """What would be proposed of a random 5% of the catalogue had nobody ever taken it.

    Others are hidden in every label window. The ranker learns from these rows instead of what it
    would see of the same items with their history, so that it knows items without one.
    """
    ids = users.to_arrow(["user_id"])["user_id"].to_pylist()
    catalogue = items.to_arrow()
    chosen = registry.members_of(shop, items, users, text_vectors)

    def propose(as_of: pd.Timestamp) -> pa.Table:
        known = interactions_as_of(interactions, as_of, list(EVENT_COLUMNS))
        taught = learners(ids, as_of, shop.cutoffs, shop.seed)
        return hidden.propose(known, catalogue, as_of, chosen, taught, shop.seed)

    report.numbers |= {"hidden share": hidden.SHARE, "windows computed now": len(todo)}
    yield from by_cutoff(cutoffs_of(cutoffs, todo=todo), propose)
    if _NO_WINDOW in todo:
        yield _NO_WINDOW, tables.HIDDEN_CANDIDATES.empty()


@contextmanager
def indexed(
    project: Project,
    log: EventLog,
    fitted: dict[str, registry.Fitted],
    chosen: dict[str, registry.Member],
) -> Iterator[dict[str, registry.Fitted]]:
    """`fitted`, those that are configured so asking an index, which is removed afterwards."""
    ready = dict(fitted)
    with ExitStack() as stack:
        for name, member in chosen.items():
            if not member.through_index:
                continue
            model = fitted[name]
            if not isinstance(model, DotProduct):
                raise LakeError(
                    f"retrieval.{name}.through_index: only kinds als, bpr and content can be asked "
                    "through an index; remove the key"
                )
            index = open_index(project, f"{name}_{log.as_of:%Y%m%d%H%M}")
            stack.callback(index.close)
            stack.callback(index.clear)
            ready[name] = ThroughIndex.build(name, model, member, log, index)
        yield ready


def fit_members(
    log: EventLog,
    chosen: dict[str, registry.Member],
    als_factors: Snapshot,
    seed: int,
) -> dict[str, registry.Fitted]:
    """Fit every retriever at one cutoff; ALS takes its stored vectors instead of a second fit."""
    fitted = registry.fit(log, {n: m for n, m in chosen.items() if n != ALS}, seed)
    if ALS in chosen:
        fitted[ALS] = FittedFactors.stored(als_factors, log)
    return fitted


ASSETS: list[GatedAsset] = [als_factors, item_neighbours, candidates, hidden_candidates]
