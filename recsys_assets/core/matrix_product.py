"""Products of sparse matrices whose result is wanted dense.

scipy makes the sparse product first and spreads it afterwards; here everything is added where it
belongs at once. Sums run in the order of the left matrix's entries, as scipy's do, so the last bits
are the same.

Belongs here: that product. Does not belong here: what the matrices mean, and the loop itself
(`matrix_product_kernel.py`).
"""

import numpy as np
import numpy.typing as npt
from scipy import sparse


def dense_product(left: sparse.csr_matrix, right: sparse.csr_matrix) -> npt.NDArray[np.floating]:
    """`(left @ right).toarray()` of two CSR matrices, without the sparse product between.

    Takes a step per pair of entries that meet, however large the matrices are. Raises ValueError
    when they do not fit or are not CSR.
    """
    from recsys_assets.core import matrix_product_kernel  # numba, 1 s

    if left.format != "csr" or right.format != "csr" or left.shape[1] != right.shape[0]:
        raise ValueError(
            f"{left.format} {left.shape} times {right.format} {right.shape}: the loop takes CSR "
            "matrices that fit"
        )
    out = np.zeros((left.shape[0], right.shape[1]), np.result_type(left.dtype, right.dtype))
    matrix_product_kernel.add_product(
        left.indptr, left.indices, left.data, right.indptr, right.indices, right.data, out
    )
    return out
