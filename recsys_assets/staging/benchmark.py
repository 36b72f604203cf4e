"""A clock on which a per-user split is an ordinary cutoff.

Belongs here: new event times for benchmarks that split each user's own history. Does not belong
here: measuring anything, and data that are ever served: such a split trains on other users' future.

*Slots.* Slot 0 of a user is what the split holds out; slot 1 is what it holds out of the rest, and
so on until it holds out nothing. All users' slots are laid on one calendar, one horizon each, so
that slot 0 ends at `END`: the `evaluate` cutoff stands before slot 0, `tune` before slot 1, label
windows before the slots ahead of these, and everything downstream works as it does on real time.

*Order.* A user's events keep their order; equal times are ordered by a seeded hash, takings before
events of other kinds. What is not a taking (a low rating) lies in the slot of the taking before it,
and so is known at a cutoff only if it is strictly earlier than everything held out there.
"""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.metrics import pair_hash
from recsys_assets.core.settings.benchmark import Benchmark

Ints = npt.NDArray[np.int64]

END = datetime(2000, 1, 3, tzinfo=UTC)
"""Where every user's last slot ends: a midnight, and plainly not when anything happened."""

SHARES = {"leave_last": 0.0, "last_fifth": 0.2}
"""Share of a user's takings that a split holds out; 0 stands for a single one."""


def on_benchmark_clock(interactions: pa.Table, benchmark: Benchmark, time_zone: str) -> pa.Table:
    """`interactions` (contract `interactions`) with the times of the benchmark's calendar.

    `event_time` and `local_date` are replaced; a row without a session gets one of the events of
    the same user at the same original time, which the calendar would otherwise forget. Sorted by
    (event_time, event_id). A taking is a row with `counts_as_taken` and positive polarity.
    """
    user = pd.factorize(interactions["user_id"].to_pandas(), sort=True)[0]
    time = interactions["event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    taken = interactions["counts_as_taken"].to_numpy() & (interactions["polarity"].to_numpy() > 0)
    tie = pair_hash(
        interactions["user_id"].to_pandas(), interactions["item_id"].to_pandas(), benchmark.tie_seed
    )
    order = np.lexsort((tie, ~taken, time, user))
    user, is_taken = user[order], taken[order]
    slot = _slots(user, is_taken, SHARES[benchmark.split])
    group = np.cumsum(np.diff(user, prepend=-1).astype(bool) | np.diff(slot, prepend=-1) != 0) - 1
    size = np.bincount(group)
    nth = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    length = benchmark.slot_days * 86_400_000_000
    start = int(END.timestamp()) * 1_000_000 - (slot + 1) * length
    new = np.empty(len(order), dtype=np.int64)
    new[order] = start + (2 * nth + 1) * length // (2 * size[group])
    moments = pa.array(new).cast(pa.timestamp("us", "UTC"))
    together = pc.binary_join_element_wise(
        interactions["user_id"], pa.array(time).cast(pa.string()), "@"
    )
    replaced = {
        "event_time": moments,
        "local_date": pc.local_timestamp(moments.cast(pa.timestamp("us", time_zone))).cast(
            pa.date32()
        ),
        "session_id": pc.coalesce(interactions["session_id"], together),
    }
    for name, values in replaced.items():
        at = interactions.column_names.index(name)
        interactions = interactions.set_column(at, name, values)
    return interactions.sort_by([("event_time", "ascending"), ("event_id", "ascending")])


def _slots(user: Ints, is_taken: npt.NDArray[np.bool_], share: float) -> Ints:
    """The slot of every event; `user` are codes that rise, events in order within each."""
    total = np.bincount(user, weights=is_taken).astype(np.int64)
    before = np.cumsum(is_taken)
    first = np.r_[0, np.cumsum(total)[:-1]]
    nth = np.maximum(before - first[user] - 1, 0)
    sizes, kind = np.unique(total, return_inverse=True)
    tables = [slots_of(int(n), share) for n in sizes]
    offset = np.r_[0, np.cumsum([len(t) for t in tables])[:-1]]
    return np.concatenate(tables)[offset[kind[user]] + nth]


def slots_of(n: int, share: float) -> Ints:
    """The slot of each of a user's `n` takings, oldest first (a single entry for none).

    What is never held out lies in the slot after the last one, and never in slot 0: a label window
    that reaches back so far sees it as the first takings of a user without history.
    """
    slots = np.zeros(max(n, 1), dtype=np.int64)
    rest, slot = n, 0
    while held_out := int(rest * share + 1e-9) if share else int(rest > 1):
        slots[rest - held_out : rest] = slot
        rest, slot = rest - held_out, slot + 1
    slots[: max(rest, 1)] = max(slot, 1)
    return slots
