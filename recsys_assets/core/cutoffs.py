"""Working through cutoffs one part at a time, two side by side.

Belongs here: the loop every table keyed by `as_of` shares. Does not belong here: choosing cutoffs
(staging does), and anything that looks at events.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.config import Shop
from recsys_assets.core.lake import LakeError, Snapshot, part_name

Result = TypeVar("Result")


def interactions_as_of(
    interactions: Snapshot, as_of: pd.Timestamp, columns: list[str] | None = None
) -> pa.Table:
    """The only way from Python to the events a model may see: those before `as_of`."""
    if columns is not None and "event_time" not in columns:
        table = interactions.to_arrow([*columns, "event_time"])
        return table.filter(pc.less(table["event_time"], as_of)).select(columns)
    table = interactions.to_arrow(columns)
    return table.filter(pc.less(table["event_time"], as_of))


def horizon_events(
    interactions: Snapshot, as_of: pd.Timestamp, horizon_end: pd.Timestamp
) -> pd.DataFrame:
    """What happened in [as_of, horizon_end): to measure with, never to learn from."""
    table = interactions.to_arrow()
    inside = pc.and_(
        pc.greater_equal(table["event_time"], as_of), pc.less(table["event_time"], horizon_end)
    )
    return table.filter(inside).to_pandas()


def taken_pairs(interactions: Snapshot, as_of: pd.Timestamp) -> pd.DataFrame:
    """The (user_id, item_id) pairs that were taken before `as_of`."""
    columns = ["user_id", "item_id", "counts_as_taken", "event_time"]
    known = interactions_as_of(interactions, as_of, columns)
    pairs = known.filter(known["counts_as_taken"]).select(["user_id", "item_id"])
    return pairs.group_by(["user_id", "item_id"], use_threads=False).aggregate([]).to_pandas()


def cutoffs_of(
    cutoffs: Snapshot, *, targets: bool = False, complete: bool = False
) -> list[pd.Timestamp]:
    """The cutoffs in time order: all, only those of targets, or only those with labels."""
    frame = cutoffs.to_pandas()
    if targets:
        frame = frame[frame["target"].notna()]
    if complete:
        frame = frame[frame["complete"]]
    return list(frame["as_of"])


def cutoff_of(cutoffs: Snapshot, target: str) -> pd.Timestamp | None:
    """The cutoff of `target`, or None when the data are too short for it."""
    frame = cutoffs.to_pandas()
    found = frame.loc[frame["target"] == target, "as_of"]
    return None if found.empty else found.iloc[0]


def serving_cutoff(cutoffs: Snapshot, shop: Shop) -> pd.Timestamp:
    """The cutoff that what is shown to people is made at.

    Raises LakeError for data without one complete day, and for a benchmark: a per-user split trains
    on other users' future, so nothing learned with it may be served.
    """
    if shop.benchmark is not None:
        raise LakeError(
            f"{shop.name} is a benchmark: it is measured and never served. Run it up to its "
            "scoreboard (--select '*scoreboard_quality'), or take `benchmark` out of the shop file"
        )
    as_of = cutoff_of(cutoffs, "live")
    if as_of is None:
        raise LakeError("there is no live cutoff: the data hold no complete day")
    return as_of


def at_cutoff(table: Snapshot, as_of: pd.Timestamp) -> pd.DataFrame:
    """The rows of one cutoff; none when `table` holds nothing for it."""
    if part_name(as_of) in table.parts:
        return table.to_pandas(part=part_name(as_of))
    return table.to_pandas().iloc[:0]


def by_cutoff(
    moments: Iterable[pd.Timestamp],
    compute: Callable[[pd.Timestamp], Result],
    *,
    workers: int = 2,
) -> Iterator[tuple[str, Result]]:
    """(part name, compute(as_of)) in time order, at most `workers` results in the making.

    Results do not depend on `workers`: each is computed alone.
    """
    queue = deque(moments)
    waiting: deque[tuple[str, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers) as pool:

        def start() -> None:
            if queue:
                moment = queue.popleft()
                waiting.append((part_name(moment), pool.submit(compute, moment)))

        for _ in range(workers):
            start()
        while waiting:
            part, future = waiting.popleft()
            result = future.result()
            del future
            start()  # before the caller stores this one, so that no worker waits for the disk
            yield part, result
            del result
