"""Equal bits need one thread, and nobody may take that away from somebody else."""

import threading
from collections.abc import Iterator

import pandas as pd
import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_info, threadpool_limits

from recsys_assets.core.cutoffs import by_cutoff
from recsys_assets.core.threads import one_thread

MOMENTS = pd.date_range("2024-01-01", periods=6, tz="UTC")


def blas_threads() -> list[int]:
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with threadpool_limits(limits=2, user_api="blas"):
        assert blas_threads() == [2, 2], "numpy's and scipy's"
        yield


def test_nothing_that_ends_gives_more_threads_to_what_still_computes() -> None:
    first_ended = threading.Event()

    def compute(moment: pd.Timestamp) -> list[int]:
        with one_thread():
            if moment != MOMENTS[0]:
                first_ended.wait(10)
            found = blas_threads()
        first_ended.set()
        return found + blas_threads()

    assert [found for _, found in by_cutoff(MOMENTS, compute)] == [[1] * 4] * 6
    assert blas_threads() == [2, 2]


def test_without_threads_of_ours_it_holds_as_long_as_asked() -> None:
    with one_thread():
        with one_thread():
            assert blas_threads() == [1, 1]
        assert blas_threads() == [1, 1]
    assert blas_threads() == [2, 2]
