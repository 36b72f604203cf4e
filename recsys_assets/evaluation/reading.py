"""What every measurement reads: which cutoff was measured, what users then took, whose lists.

Belongs here: turning stored tables into the frames that `scoreboard.py` and `held_out.py` work on.
Does not belong here: assets, metrics.
"""

from collections.abc import Mapping

import pandas as pd
import pyarrow.compute as pc

from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.evaluation import held_out
from recsys_assets.ranking.placements import PLACEMENT_OF_TASK, placements

OURS = ("ours", "ours_no_rules")
"""`ours`: what would be shown in the placement of the task; `ours_no_rules`: its raw order."""
WITHOUT_US = ("ranker", "ranker_with_rules")
"""The ranker where something simpler is published instead of it."""


def tasks_of(shop: Shop) -> list[str]:
    """The tasks of the shop's placements: nothing is taken again where nothing repeats."""
    named = placements(shop)
    return [task for task, placement in PLACEMENT_OF_TASK.items() if placement in named]


def measured_cutoff(cutoffs: Snapshot, labels: Snapshot, target: str) -> pd.Timestamp | None:
    """The cutoff of `target` if what users then took is known."""
    as_of = cutoff_of(cutoffs, target)
    return as_of if as_of is not None and part_name(as_of) in labels.parts else None


def relevant_at(
    labels: Snapshot, interactions: Snapshot, as_of: pd.Timestamp, shop: Shop
) -> dict[str, pd.DataFrame]:
    """What users took in the horizon of a cutoff, per task: user_id, item_id."""
    warm = interactions_as_of(interactions, as_of, ["item_id"])["item_id"]
    rows = labels.to_pandas(part=part_name(as_of))
    known = pd.Index(pc.unique(warm).to_pandas())
    return held_out.relevant_pairs(rows, as_of, known, repeats=shop.repeats)


def people_of(relevant: Mapping[str, pd.DataFrame]) -> pd.Series:
    """Ids of everybody who then took something, sorted: for whom lists are made."""
    return relevant["all"]["user_id"].drop_duplicates().sort_values(ignore_index=True)


def first_places(source: Snapshot, task: str, k: int) -> pd.DataFrame:
    """The first k places of every list of a task."""
    part = task if task in source.parts else None
    columns = ["task", "model", "seed", "user_id", "item_id", "rank"]
    table = source.to_arrow(columns, part)
    chosen = pc.and_(pc.equal(table["task"], task), pc.less_equal(table["rank"], k))
    return table.filter(chosen).drop_columns("task").to_pandas()
