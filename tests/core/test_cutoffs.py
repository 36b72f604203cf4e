"""Working through cutoffs keeps their order and never runs ahead of the caller's memory."""

import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.config import load_shop
from recsys_assets.core.cutoffs import (
    by_cutoff,
    cutoff_units,
    horizon_events,
    serving_cutoff,
    visits_as_of,
    visits_of,
)
from recsys_assets.core.lake import Lake, LakeError, Snapshot, part_name
from recsys_assets.core.proofs import SAW_THE_FUTURE, cut_off, knows_nothing_later
from recsys_assets.core.quality import Failure
from recsys_assets.core.tables import Column, Table
from tests.stored import stored

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
    rows = pa.table({"as_of": pa.array([MOMENTS[0]]), "target": ["live"]})
    with pytest.raises(LakeError, match="measured and never served"):
        serving_cutoff(stored(lake, "cutoffs", rows), load_shop(file))


def _log(rows: list[tuple[str, str]]) -> pa.Table:
    kind = pa.timestamp("us", tz="UTC")
    times = [pd.Timestamp(at, tz="UTC") for _, at in rows]
    return pa.table({"user_id": [u for u, _ in rows], "event_time": pa.array(times, kind)})


def test_two_users_are_never_on_one_visit(tmp_path: Path) -> None:
    """A shop may number the visits of each user from 1: u and v share visit 1, not the tea of 2."""
    rows = [
        ("u", "milk", "2024-01-01", "1"), ("v", "tea", "2024-01-01", "1"),
        ("u", "tea", "2024-01-01", "1"), ("v", "tea", "2024-01-02", "2"),
        ("u", "milk", "2024-01-02", None), ("v", "milk", "2024-01-03", None),
        ("u", "jam", "2024-01-05", "3"), ("v", "jam", "2024-01-06", "3"),
    ]  # fmt: skip
    kind = pa.timestamp("us", tz="UTC")
    log = pa.table(
        {
            "user_id": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "event_time": pa.array([pd.Timestamp(row[2], tz="UTC") for row in rows], kind),
            "session_id": pa.array([row[3] for row in rows], pa.string()),
            "counts_as_taken": [True] * len(rows),
            "polarity": pa.array([1] * len(rows), pa.int8()),
        }
    )
    events = stored(Lake(tmp_path), "interactions", log)
    cutoff, end = MOMENTS[3], MOMENTS[5]

    known = visits_as_of(events, cutoff)
    assert list(known["session_id"].isna()) == [False] * 4 + [True] * 2
    baskets = known.groupby("session_id")[["user_id", "item_id"]].agg(list)
    assert sorted(map(tuple, baskets.map(tuple).to_numpy().tolist())) == [
        (("u", "u"), ("milk", "tea")), (("v",), ("tea",)), (("v",), ("tea",)),
    ]  # fmt: skip
    assert set(known["session_id"].dropna()) >= {"2"}, "one user's alone: as it came"
    assert list(horizon_events(events, cutoff, end)["session_id"]) == ["3"], "v's is later"
    assert horizon_events(events, cutoff, MOMENTS[8])["session_id"].nunique() == 2


def test_what_was_rejected_or_left_neutral_is_no_visit() -> None:
    """A dislike counts as taken: the film leaves `discover`. Nobody likes it the more for that."""
    rows = [("film", True, -1), ("show", True, 0), ("song", True, 1), ("page", False, 1)]
    events = pa.table(
        {
            "user_id": ["u"] * 4,
            "item_id": [item for item, _, _ in rows],
            "event_time": pa.array([MOMENTS[0]] * 4, pa.timestamp("us", tz="UTC")),
            "session_id": pa.array([None] * 4, pa.string()),
            "counts_as_taken": [taken for _, taken, _ in rows],
            "polarity": pa.array([polarity for _, _, polarity in rows], pa.int8()),
        }
    )
    assert list(visits_of(events)["item_id"]) == ["song", "page"]


def _digests(folder: Path, rows: list[tuple[str, str]], moments: list[str]) -> dict[str, str]:
    lake = Lake(folder)
    log = stored(lake, "interactions", _log(rows))
    times = pa.array([pd.Timestamp(m, tz="UTC") for m in moments], pa.timestamp("us", tz="UTC"))
    cutoffs = stored(lake, "cutoffs", pa.table({"as_of": times}))
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


def test_a_table_that_knows_a_later_event_is_refused_and_the_column_is_named(
    tmp_path: Path,
) -> None:
    lake, as_of = Lake(tmp_path), pd.Timestamp(CUTOFFS[1], tz="UTC")
    log = stored(lake, "interactions", _log(EVENTS))
    columns = (Column("user_id", "string", "User"), Column("n", "int64", "Events"))
    contract = Table("counts", columns, key=("user_id",))

    def count(known: Snapshot, as_of: pd.Timestamp) -> pa.Table:
        found = known.to_arrow(["user_id"]).group_by("user_id", use_threads=False)
        return found.aggregate([([], "count_all")]).rename_columns(["user_id", "n"])

    def failures(made: pa.Table) -> list[Failure]:
        table = stored(lake, "counts", {part_name(as_of): contract.conform(made)})
        return list(knows_nothing_later(table, contract, log, [as_of], count))

    known = cut_off(log, as_of)
    assert known.to_arrow(["user_id"])["user_id"].to_pylist() == ["u", "v"], "not the third event"
    assert cut_off(log, MOMENTS[1]).to_arrow().num_rows == 1, "the moment itself is later"
    with pytest.raises(LakeError, match="only be read as a table"):
        known.paths()
    assert failures(count(known, as_of)) == []
    (failure,) = failures(count(log, as_of))
    assert failure == Failure(SAW_THE_FUTURE, "n", part=part_name(as_of))
