"""Proofs that a table knows nothing later than its cutoff: the log is cut, the table made again.

Belongs here: a log that was cut, and comparing what was made from it with what is stored. Does not
belong here: how any table is made.

Proofs are made at few cutoffs: the code is the same at all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.assets import proved_before
from recsys_assets.core.cutoffs import cutoff_of, cutoffs_of
from recsys_assets.core.lake import LakeError, Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.core.tables import Table

SAW_THE_FUTURE = "changes when the events after the cutoff are cut off: it saw the future"
"""Why a table is refused that differs when it is made again from a log that was cut (`cut_off`)."""


@dataclass(frozen=True)
class CutLog(Snapshot):
    """A log as it stood at `until`: whoever asks it sees nothing later."""

    until: pd.Timestamp = pd.Timestamp.min

    def to_arrow(self, columns: Sequence[str] | None = None, part: str | None = None) -> pa.Table:
        """The rows before `until`."""
        names = None if columns is None else [*dict.fromkeys([*columns, "event_time"])]
        table = Snapshot(self.lake, self.asset, self.versions).to_arrow(names, part)
        table = table.filter(pc.less(table["event_time"], self.until))
        return table if columns is None else table.select(list(columns))

    def paths(self, part: str | None = None) -> list[Path]:
        """Raises LakeError: files cannot be cut; hand over `to_arrow()` instead."""
        raise LakeError(f"{self.asset} is cut at {self.until}: it can only be read as a table")


def cut_off(interactions: Snapshot, until: pd.Timestamp) -> CutLog:
    """`interactions` as they stood at `until`."""
    return CutLog(interactions.lake, interactions.asset, interactions.versions, until=until)


def proof_cutoffs(candidate: Snapshot, cutoffs: Snapshot, *targets: str) -> list[pd.Timestamp]:
    """Where a table has to show that it knows nothing later: the earliest cutoff with labels, since
    most lies ahead of it and least behind, and those of `targets`. Left out is what the data are
    too short for, and a part that passed before, byte for byte."""
    moments = {*cutoffs_of(cutoffs, complete=True)[:1], *(cutoff_of(cutoffs, t) for t in targets)}
    return sorted(m for m in moments if m and not proved_before(candidate, part_name(m)))


def knows_nothing_later(
    candidate: Snapshot,
    contract: Table,
    interactions: Snapshot,
    moments: Iterable[pd.Timestamp],
    make: Callable[[CutLog, pd.Timestamp], pa.Table],
) -> Iterator[Failure]:
    """Cut the log at each of the cutoffs and `make` its part again: every byte must be the same.
    Names the columns that differ."""
    for as_of in moments:
        part = part_name(as_of)
        again = contract.conform(make(cut_off(interactions, as_of), as_of))
        stored = candidate.to_arrow(part=part)
        if not again.equals(stored):
            columns = [n for n in again.column_names if again.num_rows != stored.num_rows
                       or not again[n].equals(stored[n])]  # fmt: skip
            yield Failure(SAW_THE_FUTURE, ", ".join(columns[:5]), part=part)
