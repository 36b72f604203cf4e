"""Stored tables some users at a time, so that memory does not grow with the number of users.

Belongs here: which users go together, and reading their rows of a table that is sorted by user.
Does not belong here: what is done with the rows.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.core.lake import Snapshot

USER = "user_id"


def user_blocks(table: Snapshot, part: str, most_rows: int) -> Iterator[list[str]]:
    """The users of one part, in order, as many together as have `most_rows` rows, or one who alone
    has more. A part without rows is one block of nobody."""
    column = pa.chunked_array(
        [
            chunk
            for path in table.paths(part)
            for chunk in pq.ParquetFile(path, read_dictionary=[USER]).read([USER])[USER].chunks
        ],
        pa.dictionary(pa.int32(), pa.string()),
    )
    counts = pc.value_counts(column)  # in the order in which they come
    users = counts.field("values").dictionary_decode().to_pylist()
    ends = np.cumsum(counts.field("counts").to_numpy())
    first = 0
    while first < len(users):
        before = ends[first - 1] if first else 0
        stop = max(int(np.searchsorted(ends, before + most_rows, side="right")), first + 1)
        yield users[first:stop]
        first = stop
    if not users:
        yield []


def rows_of(table: Snapshot, part: str, users: Sequence[str]) -> pa.Table:
    """The rows that these users have in one part, in their order.

    One row group is in memory beside what is kept, and groups without any of the users are not
    read, if their statistics say so.
    """
    wanted = pa.array(users, pa.string())
    least, most = min(users, default=None), max(users, default=None)
    found = []
    for path in table.paths(part):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        found.append(file.schema_arrow.empty_table())
        at = file.schema_arrow.names.index(USER)
        for group in range(file.num_row_groups):
            said = file.metadata.row_group(group).column(at).statistics
            told = said is not None and said.has_min_max
            if least is None or (told and (said.max < least or said.min > most)):
                continue
            rows = file.read_row_group(group)
            found.append(rows.filter(pc.is_in(rows[USER], value_set=wanted)))
    return pa.concat_tables(found)


def tables_of(
    tables: Mapping[str, Snapshot], part: str, users: Sequence[str]
) -> dict[str, pa.Table]:
    """One part of several tables, of those by user only the rows of `users`."""
    return {
        name: rows_of(table, part, users) if USER in table.columns else table.to_arrow(part=part)
        for name, table in tables.items()
    }
