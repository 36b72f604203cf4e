"""The log of a cutoff, from stored tables.

Belongs here: the one way from snapshots to an `EventLog`. Does not belong here: the log itself
(`contract.py`).
"""

import pandas as pd

from recsys_assets.core.cutoffs import interactions_as_of
from recsys_assets.core.lake import Snapshot
from recsys_assets.retrieval.contract import EVENT_COLUMNS, EventLog


def event_log(interactions: Snapshot, items: Snapshot, as_of: pd.Timestamp) -> EventLog:
    """The log at a cutoff, as codes."""
    known = interactions_as_of(interactions, as_of, list(EVENT_COLUMNS))
    return EventLog.from_frames(known, items.to_arrow(), as_of)
