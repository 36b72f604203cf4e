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
    """Which of the values (without nulls) are not valid UTF-8.

    One linear pass over the bytes; Python is entered once per invalid place only.
    """
    offsets = np.frombuffer(values.buffers()[1], dtype=np.int64)
    offsets = offsets[values.offset : values.offset + len(values) + 1]
    bad = np.zeros(len(values), dtype=bool)
    if len(values) == 0 or values.buffers()[2] is None:
        return bad
    data = memoryview(values.buffers()[2])
    # Values touch, so a character torn between two of them looks whole: a value that begins with
    # a continuation byte (10xxxxxx) is invalid, and the one before it has to be asked by itself.
    filled = np.flatnonzero(offsets[:-1] < offsets[1:])
    first_bytes = np.frombuffer(data, dtype=np.uint8)[offsets[filled]]
    for place in np.flatnonzero((first_bytes & 0xC0) == 0x80):
        bad[filled[place]] = True
        if place:
            before = filled[place - 1]
            bad[before] |= not _is_utf8(data[int(offsets[before]) : int(offsets[before + 1])])
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


def _is_utf8(data: memoryview) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", True)
    except UnicodeDecodeError:
        return False
    return True
