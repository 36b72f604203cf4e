"""Distinct numbers, as numpy's slower functions give them."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys_assets.core.arrays import distinct, first_of_each, position_in_run

NUMBERS = hnp.arrays(np.int64, st.integers(0, 50), elements=st.integers(-5, 5))
HUGE = hnp.arrays(np.int64, st.integers(0, 50), elements=st.sampled_from([-(2**62), 0, 2**62]))


@given(NUMBERS)
def test_distinct_are_the_values_once_in_their_order(values: npt.NDArray[np.int64]) -> None:
    assert distinct(values).tolist() == sorted(set(values.tolist()))


@given(st.one_of(NUMBERS, HUGE))
def test_the_first_of_each_is_where_it_stands_first(keys: npt.NDArray[np.int64]) -> None:
    listed = keys.tolist()
    assert first_of_each(keys).tolist() == [listed.index(key) for key in sorted(set(listed))]


def test_places_within_runs_start_again_where_the_key_changes() -> None:
    assert position_in_run(np.array([7, 7, 3, 3, 3, 7])).tolist() == [0, 1, 0, 1, 2, 0]
    assert position_in_run(np.zeros(0, dtype=np.int64)).tolist() == []
