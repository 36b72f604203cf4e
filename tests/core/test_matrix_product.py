"""The dense product of sparse matrices, beside scipy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from recsys_assets.core.matrix_product import dense_product


@settings(deadline=None)  # the loop is compiled for each pair of types
@given(
    sizes=st.tuples(*[st.integers(0, 9)] * 3),
    density=st.floats(0, 1),
    seed=st.integers(0, 1000),
    types=st.tuples(*[st.sampled_from(["f4", "f8"])] * 2),
)
def test_it_is_scipys_to_the_last_bit(
    sizes: tuple[int, int, int], density: float, seed: int, types: tuple[str, str]
) -> None:
    n, m, k = sizes
    rng = np.random.default_rng(seed)
    left = sparse.random(n, m, density, format="csr", random_state=rng).astype(types[0])
    right = sparse.random(m, k, density, format="csr", random_state=rng).astype(types[1])
    for matrix in (left, right):
        matrix.data -= 0.5
    ours, theirs = dense_product(left, right), (left @ right).toarray()
    assert ours.dtype == theirs.dtype
    assert ours.tobytes() == theirs.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    two, three = (sparse.csr_matrix((n, n)) for n in (2, 3))
    with pytest.raises(ValueError, match="fit"):
        dense_product(two, three)
    with pytest.raises(ValueError, match="CSR"):
        dense_product(two.tocsc(), two)
