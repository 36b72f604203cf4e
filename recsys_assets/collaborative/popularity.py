"""What is taken most, lately or ever.

Belongs here: counting taken events per item. Does not belong here: lists per user (baselines,
rules), and popularity as a retriever among others (`retrieval/popularity.py`).
"""

from datetime import datetime

import pandas as pd

LATELY_DAYS = 28


def popular_items(
    interactions: pd.DataFrame, *, as_of: datetime | pd.Timestamp, days: float | None = None
) -> pd.Series:
    """Taken events per item, in the last `days` before `as_of` or ever; most popular first.

    `interactions` has `item_id, event_time, counts_as_taken` and must end before `as_of`. Ties by
    item_id. Index item_id, values int64.
    """
    taken = taken_before(interactions, as_of)
    if days is not None:
        taken = taken[taken["event_time"] >= pd.Timestamp(as_of) - pd.Timedelta(days=days)]
    counts = taken.groupby("item_id").size().sort_index()
    return counts.sort_values(ascending=False, kind="stable").rename("count")


def popular_lately(
    interactions: pd.DataFrame, *, as_of: datetime | pd.Timestamp, horizon_days: int
) -> pd.Series:
    """What is popular with everybody now: `popular_items` of the last 28 days.

    Where a shop looks less far ahead (`horizon_days`), what was taken longer ago says little about
    tomorrow: counted are so many days, and all 28 only order what they leave equal.
    """
    counts = popular_items(interactions, as_of=as_of, days=LATELY_DAYS)
    if horizon_days >= LATELY_DAYS:
        return counts
    recent = popular_items(interactions, as_of=as_of, days=horizon_days)
    both = recent.reindex(counts.index).fillna(0) + counts / (counts.max() + 1)
    return both.sort_values(ascending=False, kind="stable").rename("count")


def taken_before(interactions: pd.DataFrame, as_of: datetime | pd.Timestamp) -> pd.DataFrame:
    """The events that count as taken. Raises ValueError if `interactions` reach `as_of`."""
    if len(interactions) and interactions["event_time"].max() >= pd.Timestamp(as_of):
        raise ValueError(f"interactions must end before {pd.Timestamp(as_of)}")
    return interactions[interactions["counts_as_taken"].to_numpy(dtype=bool)]
