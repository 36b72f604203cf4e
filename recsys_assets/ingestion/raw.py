"""Rows as a file holds them, before anybody says what they mean.

Belongs here: the shape in which both readers (`delimited`, `columnar`) hand over rows, and which
rows are broken as such. Does not belong here: column meanings, event types, ids, times.
"""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

MAX_ROW_BYTES = 1 << 20
"""A longer text row, or a longer value of a typed file, goes to quarantine."""


@dataclass(frozen=True)
class RawRows:
    """A block of consecutive physical rows, split into readable and broken ones.

    `rows[i]` is where `columns[*][i]` stands in the file: the line number of a text file (the
    header is line 1), the 1-based data row of Parquet. `broken_rows` and `broken_reasons` are the
    rest, so `len(rows) + len(broken_rows)` physical rows in all.
    """

    rows: np.ndarray
    columns: Mapping[str, pa.Array]
    broken_rows: np.ndarray
    broken_reasons: list[str]


def invalid_utf8(values: pa.LargeBinaryArray) -> np.ndarray:
    """Which of the values (no nulls, zero offset not required) are not valid UTF-8.

    One linear pass over the bytes; Python is entered once per invalid place only.
    """
    offsets = np.frombuffer(values.buffers()[1], dtype=np.int64)
    offsets = offsets[values.offset : values.offset + len(values) + 1]
    bad = np.zeros(len(values), dtype=bool)
    if len(values) == 0 or values.buffers()[2] is None:
        return bad
    data = memoryview(values.buffers()[2])
    # A value may end inside a character whose rest would be the next value's beginning, so every
    # value must also start at a character: no continuation byte (10xxxxxx).
    starts = offsets[:-1]
    filled = starts < offsets[1:]
    first_bytes = np.frombuffer(data, dtype=np.uint8)[starts[filled]]
    bad[np.flatnonzero(filled)[(first_bytes & 0xC0) == 0x80]] = True
    position, end = int(offsets[0]), int(offsets[-1])
    while position < end:
        try:
            codecs.utf_8_decode(data[position:end], "strict", True)
            break
        except UnicodeDecodeError as error:
            index = int(np.searchsorted(offsets, position + error.start, side="right")) - 1
            bad[index] = True
            position = int(offsets[index + 1])
    return bad
