"""Collaborative assets: the item-to-item lists people see."""

from collections.abc import Iterator

import pandas as pd

from recsys_assets.collaborative import item_lists, tables
from recsys_assets.content.offer import on_offer
from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import live_cutoff, visits_as_of
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.quality import Failure

GROUP = "collaborative"


def _no_item_is_its_own_twin(candidate: Snapshot, items: Snapshot) -> Iterator[Failure]:
    groups = items.to_pandas(["item_id", "group_id"]).set_index("item_id")["group_id"]
    frame = candidate.to_pandas(["item_id", "other_item_id"])
    unknown = ~frame["other_item_id"].isin(groups.index)
    if unknown.any():
        yield Failure("is not in the catalogue", "other_item_id", int(unknown.sum()))
        return
    twins = frame["item_id"].map(groups) == frame["other_item_id"].map(groups)
    if twins.any():
        yield Failure("an item is offered as related to its own variant", rows=int(twins.sum()))


@table_asset(
    tables.SIMILAR_ITEMS,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("rules",),
    rules=[_no_item_is_its_own_twin],
)
def similar_items(
    interactions: Snapshot,
    items: Snapshot,
    text_vectors: TextVectors,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """For each item, what could be taken instead: alike in text and in who takes it, and popular.

    Of its category, and behind that of wider ones where this has too few products; never a variant
    of the item itself.
    """
    as_of = live_cutoff(cutoffs)
    lists = item_lists.similar_items(
        visits_as_of(interactions, as_of),
        on_offer(items.to_pandas(), shop, as_of),
        item_vectors(items, text_vectors),
    )
    report.numbers |= {"items with a list": int(lists["item_id"].nunique())}
    return lists


@table_asset(
    tables.BOUGHT_TOGETHER,
    group=GROUP,
    kinds=["python", "numpy"],
    config=("rules",),
    rules=[_no_item_is_its_own_twin],
)
def bought_together(
    interactions: Snapshot, items: Snapshot, cutoffs: Snapshot, shop: Shop, report: Report
) -> pd.DataFrame:
    """For each item, what goes into baskets with it, or with items of its category, more often than
    into others.

    Few pairs of items share many baskets: most rows go by the category (`support` is then 0).
    """
    as_of = live_cutoff(cutoffs)
    lists = item_lists.bought_together(
        visits_as_of(interactions, as_of), on_offer(items.to_pandas(), shop, as_of)
    )
    report.numbers |= {"items with a list": int(lists["item_id"].nunique())}
    return lists


ASSETS: list[GatedAsset] = [similar_items, bought_together]
