"""Working through cutoffs one part at a time, two side by side.

Belongs here: the loop every table keyed by `as_of` shares, the digests by which a part is known to
be unchanged, and the one door to events before a cutoff. Does not belong here: choosing cutoffs
(staging does), proving that a table knows nothing later (`proofs.py`).
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.core.config import Shop
from recsys_assets.core.lake import LakeError, Snapshot, part_name
from recsys_assets.core.threads import side_by_side

Result = TypeVar("Result")

VISITS = ["user_id", "item_id", "event_time", "session_id", "counts_as_taken"]
"""What lists and reasons are counted from (`visits_of`); a log has many more columns."""

_PAIR = ["user_id", "item_id"]


def interactions_as_of(
    interactions: Snapshot, as_of: pd.Timestamp, columns: list[str] | None = None
) -> pa.Table:
    """The only way from Python to the events a model may see: those before `as_of`."""
    if columns is not None and "event_time" not in columns:
        table = interactions.to_arrow([*columns, "event_time"])
        return table.filter(pc.less(table["event_time"], as_of)).select(columns)
    table = interactions.to_arrow(columns)
    return table.filter(pc.less(table["event_time"], as_of))


def visits_as_of(interactions: Snapshot, as_of: pd.Timestamp) -> pd.DataFrame:
    """`visits_of` the events before `as_of`."""
    return visits_of(interactions_as_of(interactions, as_of, [*VISITS, "polarity"]))


def visits_of(events: pa.Table) -> pd.DataFrame:
    """The columns `VISITS` of the events that speak for an item: who took what, when and on which
    visit. What was rejected or left neutral counts neither as popular nor as liked.
    No two users share a `session_id` here (`own_sessions`)."""
    return own_sessions(events.filter(pc.greater(events["polarity"], 0)).select(VISITS)).to_pandas()


def own_sessions(events: pa.Table) -> pa.Table:
    """`events` in which every `session_id` is one user's.

    A shop may number the visits of each user from 1, and receipts of two tills may have one number:
    a session that several users share becomes one of each, its id with theirs behind it. An event
    without a session stays without.
    """
    users = events.group_by("session_id").aggregate([("user_id", "count_distinct")])
    several = pc.and_(
        pc.greater(users["user_id_count_distinct"], 1), pc.is_valid(users["session_id"])
    )
    shared = users.filter(several)["session_id"]
    if not len(shared):
        return events
    session = events["session_id"]
    own = pc.binary_join_element_wise(session, events["user_id"], "\x1f")
    own = pc.if_else(pc.is_in(session, value_set=shared), own, session)
    return events.set_column(events.schema.get_field_index("session_id"), "session_id", own)


def horizon_events(
    interactions: Snapshot, as_of: pd.Timestamp, horizon_end: pd.Timestamp
) -> pd.DataFrame:
    """`visits_of` what happened in [as_of, horizon_end): to measure with, never to learn from."""
    table = interactions.to_arrow([*VISITS, "polarity"])
    inside = pc.and_(
        pc.greater_equal(table["event_time"], as_of), pc.less(table["event_time"], horizon_end)
    )
    return visits_of(table.filter(inside))


def taken_pairs(interactions: Snapshot, as_of: pd.Timestamp) -> pd.DataFrame:
    """The (user_id, item_id) pairs that were taken before `as_of`."""
    known = interactions_as_of(interactions, as_of, [*_PAIR, "counts_as_taken"])
    return _pairs(known.filter(known["counts_as_taken"]))


def met_pairs(interactions: Snapshot, as_of: pd.Timestamp) -> pd.DataFrame:
    """The (user_id, item_id) pairs that had any event before `as_of`: also what was only looked at,
    left neutral or rejected."""
    return _pairs(interactions_as_of(interactions, as_of, _PAIR))


def _pairs(events: pa.Table) -> pd.DataFrame:
    return events.group_by(_PAIR, use_threads=False).aggregate([]).select(_PAIR).to_pandas()


def cutoffs_of(
    cutoffs: Snapshot,
    *,
    targets: bool = False,
    complete: bool = False,
    todo: Collection[str] | None = None,
) -> list[pd.Timestamp]:
    """The cutoffs in time order: all, only those of targets, only those with labels, or only those
    whose part is in `todo`."""
    frame = cutoffs.to_pandas()
    if todo is not None:
        frame = frame[frame["as_of"].map(part_name).isin(todo)]
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


def live_cutoff(cutoffs: Snapshot) -> pd.Timestamp:
    """The cutoff at the end of the data. Raises LakeError for data without one complete day."""
    as_of = cutoff_of(cutoffs, "live")
    if as_of is None:
        raise LakeError("there is no live cutoff: the data hold no complete day")
    return as_of


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
    return live_cutoff(cutoffs)


def at_cutoff(table: Snapshot, as_of: pd.Timestamp) -> pd.DataFrame:
    """The rows of one cutoff; none when `table` holds nothing for it."""
    if part_name(as_of) in table.parts:
        return table.to_pandas(part=part_name(as_of))
    return table.to_pandas().iloc[:0]


_DIGESTS: dict[tuple, dict[pd.Timestamp, str]] = {}


def cutoff_units(
    cutoffs: Snapshot,
    interactions: Snapshot,
    *,
    same: Sequence[Snapshot] = (),
    whole: Sequence[Snapshot] = (),
) -> dict[str, str]:
    """Part name of each cutoff -> digest of all that its part may depend on (see `assets.Units`).

    That is the events before the cutoff, its own part of the tables in `same`, and everything of
    the tables in `whole`. A later event changes none of it, so the past is not computed again. Only
    for tables whose parts do not look at each other, nor past their cutoff.
    """
    moments = cutoffs_of(cutoffs)
    asked = (interactions.content_id, *moments)
    if asked not in _DIGESTS:
        _DIGESTS.clear()  # one log at a time is worked on
        _DIGESTS[asked] = _log_digests(interactions, moments)
    known = _DIGESTS[asked]
    everything = [snapshot.content_id for snapshot in whole]
    units = {}
    for as_of in moments:
        part = part_name(as_of)
        own = [f.sha256 for s in same for v in s.versions for f in v.files if f.part == part]
        text = "|".join([known[as_of], *own, "", *everything])
        units[part] = hashlib.sha256(text.encode()).hexdigest()
    return units


def _log_digests(
    interactions: Snapshot, moments: Sequence[pd.Timestamp]
) -> dict[pd.Timestamp, str]:
    """Moment -> hash of the events before it, columns and order included.

    Built from a hash per day and one of the rest of the moment's own day: which other moments are
    asked for changes nothing.
    """
    table = interactions.to_arrow()
    table = table.take(pc.array_sort_indices(table["event_time"]))  # stable; it is sorted already
    times = table["event_time"].to_numpy()
    wanted = [m.tz_convert("UTC").tz_localize(None).to_datetime64() for m in moments]
    days = np.unique(times.astype("datetime64[D]"))
    bounds = np.searchsorted(times, days.astype(times.dtype))
    hashes = [
        rows_digest(table, begin, end)
        for begin, end in pairwise([*bounds.tolist(), table.num_rows])
    ]
    found = {}
    for moment, at in zip(moments, wanted, strict=True):
        end = int(np.searchsorted(times, at))
        whole_days = int(np.searchsorted(days, at.astype("datetime64[D]")))
        begin = int(bounds[whole_days]) if whole_days < len(bounds) else table.num_rows
        digest = hashlib.sha256("".join(hashes[:whole_days]).encode())
        digest.update(rows_digest(table, begin, end).encode() if end > begin else b"")
        found[moment] = digest.hexdigest()
    return found


def rows_digest(table: pa.Table, begin: int = 0, end: int | None = None) -> str:
    """A hash of some rows, through Parquet, whose bytes follow from the values alone; an Arrow
    stream may carry whatever stands in memory behind a slice."""
    sink = pa.BufferOutputStream()
    rows = table.slice(begin, (table.num_rows if end is None else end) - begin)
    pq.write_table(rows, sink, compression="none", use_dictionary=False, write_statistics=False)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def by_cutoff(
    moments: Iterable[pd.Timestamp],
    compute: Callable[[pd.Timestamp], Result],
    *,
    workers: int = 2,
) -> Iterator[tuple[str, Result]]:
    """(part name, compute(as_of)) in time order, at most `workers` results in the making.

    Results do not depend on `workers`: each is computed alone, its numerics on one thread.
    """
    moments = list(moments)
    results = side_by_side(moments, compute, workers=workers)
    for moment, result in zip(moments, results, strict=True):
        yield part_name(moment), result
        del result
