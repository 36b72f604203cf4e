"""Where a served recommendation comes from: release, features, scores, models and input versions.

Belongs here: collecting what the served release knows about one row. Does not belong here: a
sentence for the user (`ranking/evidence.py`), layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from recsys_assets.core.lake import LakeError, part_name
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.publishing.releases import SHORT
from recsys_assets.publishing.serving import Served
from recsys_assets.ranking.evidence import (
    NOT_RANKED,
    Contribution,
    NoContributionsError,
    recompute,
)
from recsys_assets.ranking.placements import listed


@dataclass(frozen=True)
class Trace:
    """Everything behind one row of a served list.

    `row`: the row as people get it. `scores`: the rankers' and each retriever's score and place.
    `features`: what the ranker saw and what each added, largest first; empty with a `note` where no
    ranker gave the order. `made_of`: table -> version, walked back from the list to the raw data.
    """

    release_id: str
    row: Mapping[str, object]
    scores: Mapping[str, float]
    features: tuple[Contribution, ...]
    note: str
    made_of: Mapping[str, str]
    libraries: Mapping[str, str]


def trace(
    served: Served, warehouse: Warehouse, user_id: str, item_id: str, placement: str | None = None
) -> Trace:
    """Trace one row; of the placement people see first if none is named.

    The ranker's score is computed again from the release's own tables, and its features are given
    only if it comes out the same to the last bit. Raises LakeError when the item is not on a list.
    """
    lists, known = served.lists(user_id)
    row = listed(lists, item_id, placement)
    if row is None:
        where = placement or "any list"
        raise LakeError(f"item {item_id!r} is not on {where} that user {user_id!r} is served")
    as_of = pd.Timestamp(row["as_of"])
    scores: dict[str, float] = {}
    features: tuple[Contribution, ...] = ()
    note = "" if known else "nobody knows this user: the item is what is popular"
    if known:
        for table in ("scored_candidates", "candidates"):
            scores |= _scores(served, table, user_id, item_id, part_name(as_of))
        note = NOT_RANKED.get(str(row["policy"]), "")
    if known and not note:
        try:
            features = tuple(
                recompute(served.table, warehouse, user_id, item_id, as_of, str(row["placement"]))
            )
        except NoContributionsError as error:
            note = str(error)
    return Trace(
        served.manifest.release_id,
        row,
        scores,
        features,
        note,
        made_of(served, "recommendations" if known else "popular_recommendations"),
        served.manifest.libraries,
    )


def made_of(served: Served, table: str) -> dict[str, str]:
    """Every table `table` was made from, directly or not, nearest first -> its version.

    A partitioned table has one version per day; it is named by all of them together.
    """
    found: dict[str, str] = {}
    todo = [table]
    while todo:
        name = todo.pop(0)
        if name in found or name not in served.manifest.tables:
            continue
        snapshot = served.table(name)
        days = len(snapshot.versions)
        found[name] = snapshot.version_id[:SHORT] + (f" ({days} partitions)" if days > 1 else "")
        todo += sorted({i for v in snapshot.versions for i in v.key.inputs})
    return found


def _scores(served: Served, table: str, user_id: str, item_id: str, part: str) -> dict[str, float]:
    frame = served.where(table, "user_id", user_id, part).to_pandas()
    frame = frame[frame["item_id"] == item_id].select_dtypes("number")
    if frame.empty:
        return {}
    return {str(k): float(v) for k, v in frame.iloc[0].items() if pd.notna(v)}
