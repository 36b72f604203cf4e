"""Working through cutoffs keeps their order and never runs ahead of the caller's memory."""

import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.config import load_shop
from recsys_assets.core.cutoffs import by_cutoff, serving_cutoff
from recsys_assets.core.lake import Lake, LakeError, VersionKey

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


def test_a_benchmark_is_never_served(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(
        "name: bench\nrepeats: false\npartitions: {start: 2024-01-01}\n"
        "source: {kind: files, interactions: {path: a.csv}, items: {path: b.csv}}\n"
        "benchmark: {split: leave_last}\n",
        encoding="utf-8",
    )
    lake = Lake(tmp_path / "lake")
    key = VersionKey(code="c", config="c", libraries="l", inputs={})
    rows = pa.table({"as_of": pa.array([MOMENTS[0]]), "target": ["live"]})
    version = lake.store("cutoffs", [("", rows)], key)
    with pytest.raises(LakeError, match="measured and never served"):
        serving_cutoff(lake.of_version(version), load_shop(file))
