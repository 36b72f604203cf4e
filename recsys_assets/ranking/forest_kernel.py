"""The loop of `forest.py` over blocks of rows, trees and splits, compiled by numba when called.

Belongs here: that loop. Does not belong here: anything that can be done before or after it.
Importing this takes a second, so only what scores many rows does.
"""

from typing import Any

import numba
import numpy as np
from numba.core.cgutils import true_bit
from numba.extending import intrinsic

ZERO = np.float32(1e-35)
"""LightGBM takes what is not larger than this for 0."""


@intrinsic
def trailing_zeros(typing: Any, bits: Any) -> Any:
    """How many zeros an unsigned integer ends in: one instruction."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], true_bit)  # a row is in some leaf: never asked of zero

    return bits(bits), emit


@numba.njit(nogil=True, error_model="numpy")
def margins(
    columns, feature, threshold, kept, missing_right, first, leaf, values, every, width, found
):
    """Fill `found` (float64, a row each) from `columns` (float32, features x rows), `width` rows at
    a time; `every` has all bits of `kept` set. The others are the arrays of `forest.Splits`."""
    n_features, n_rows = columns.shape
    block = np.empty((n_features, width), dtype=np.float32)
    left = np.empty(width, dtype=kept.dtype)
    total = np.empty(width)
    for start in range(0, n_rows, width):
        size = min(width, n_rows - start)
        for f in range(n_features):
            for r in range(size):
                value = columns[f, start + r]
                block[f, r] = np.float32(0) if abs(value) <= ZERO else value
            for r in range(size, width):
                block[f, r] = np.float32(0)
        total[:] = 0
        for t in range(len(first) - 1):
            left[:] = every
            for s in range(first[t], first[t + 1]):
                row, limit, keep = block[feature[s]], threshold[s], kept[s]
                if missing_right[s]:
                    for r in range(width):
                        left[r] &= every if row[r] <= limit else keep
                else:
                    for r in range(width):
                        left[r] &= keep if row[r] > limit else every
            for r in range(width):
                total[r] += values[leaf[t] + trailing_zeros(left[r])]
        found[start : start + size] = total[:size]
