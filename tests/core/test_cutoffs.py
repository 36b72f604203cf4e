"""Working through cutoffs keeps their order and never runs ahead of the caller's memory."""

import threading

import pandas as pd
import pytest

from recsys_assets.core.cutoffs import by_cutoff

MOMENTS = [pd.Timestamp(f"2024-01-{day:02d}", tz="UTC") for day in range(1, 10)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_time_order_whatever_the_number_of_workers(workers: int) -> None:
    found = list(by_cutoff(MOMENTS, lambda m: m.day, workers=workers))
    assert found == [(f"2024-01-{day:02d}T00:00Z", day) for day in range(1, 10)]


def test_at_most_one_more_result_than_workers_is_alive() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    def compute(moment: pd.Timestamp) -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return moment.day

    for _part, _result in by_cutoff(MOMENTS, compute, workers=2):
        with lock:
            alive -= 1
    assert most <= 3


def test_an_error_in_one_cutoff_reaches_the_caller() -> None:
    def compute(moment: pd.Timestamp) -> int:
        if moment.day == 4:
            raise ValueError("day 4")
        return moment.day

    with pytest.raises(ValueError, match="day 4"):
        list(by_cutoff(MOMENTS, compute))


def test_no_cutoff_is_no_result() -> None:
    assert list(by_cutoff([], lambda m: m)) == []
