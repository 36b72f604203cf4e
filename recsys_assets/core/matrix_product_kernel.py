"""The loop of `matrix_product.py`, compiled by numba when called.

Belongs here: that loop. Does not belong here: anything that can be done before or after it.
Importing this takes a second, so only what multiplies does.
"""

import numba


@numba.njit(nogil=True, error_model="numpy")
def add_product(left_start, left_column, left_value, right_start, right_column, right_value, out):
    """Add the product of two CSR matrices, each given by its three arrays, to the dense `out`."""
    for r in range(len(left_start) - 1):
        row = out[r]
        for at in range(left_start[r], left_start[r + 1]):
            factor, middle = left_value[at], left_column[at]
            for place in range(right_start[middle], right_start[middle + 1]):
                row[right_column[place]] += factor * right_value[place]
