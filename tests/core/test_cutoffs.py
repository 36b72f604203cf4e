"""Working through cutoffs keeps their order and never runs ahead of the caller's memory."""

import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.config import load_shop
from recsys_assets.core.cutoffs import by_cutoff, cutoff_units, serving_cutoff
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


def _log(rows: list[tuple[str, str]]) -> pa.Table:
    kind = pa.timestamp("us", tz="UTC")
    times = [pd.Timestamp(at, tz="UTC") for _, at in rows]
    return pa.table({"user_id": [u for u, _ in rows], "event_time": pa.array(times, kind)})


def _digests(folder: Path, rows: list[tuple[str, str]], moments: list[str]) -> dict[str, str]:
    lake = Lake(folder)
    key = VersionKey(code="", config="", libraries="", inputs={})
    log = lake.of_version(lake.store("interactions", [("", _log(rows))], key))
    times = pa.array([pd.Timestamp(m, tz="UTC") for m in moments], pa.timestamp("us", tz="UTC"))
    cutoffs = lake.of_version(lake.store("cutoffs", [("", pa.table({"as_of": times}))], key))
    return cutoff_units(cutoffs, log)


EVENTS = [("u", "2024-01-01 10:00"), ("v", "2024-01-02 00:00"), ("u", "2024-01-03 12:00")]
CUTOFFS = ["2024-01-02 00:00", "2024-01-03 00:00", "2024-01-03 12:00", "2024-01-05 00:00"]


def test_an_event_changes_the_units_of_later_cutoffs_only(tmp_path: Path) -> None:
    before = _digests(tmp_path, EVENTS, CUTOFFS)
    assert len(set(before.values())) == 3, "nothing happened on the 3rd before noon"
    for at, changed in (
        ("2024-01-01 09:00", 4),
        ("2024-01-02 00:00", 3),
        ("2024-01-03 11:59", 2),
        ("2024-01-03 12:00", 1),
        ("2024-01-05 00:00", 0),
    ):
        rows = sorted([*EVENTS, ("w", at)], key=lambda row: row[1])
        after = _digests(tmp_path, rows, CUTOFFS)
        assert [p for p in before if before[p] != after[p]] == list(before)[4 - changed :], at


def test_a_changed_value_is_a_changed_unit_and_other_cutoffs_are_not_looked_at(
    tmp_path: Path,
) -> None:
    before = _digests(tmp_path, EVENTS, CUTOFFS)
    other = _digests(tmp_path, [("x", EVENTS[0][1]), *EVENTS[1:]], CUTOFFS)
    assert not set(before.values()) & set(other.values())
    alone = _digests(tmp_path, EVENTS, CUTOFFS[2:3])
    assert alone.items() <= before.items()
