"""On the benchmark clock an ordinary cutoff holds out exactly what the per-user split holds out."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.settings.benchmark import Benchmark
from recsys_assets.staging.benchmark import END, on_benchmark_clock, slots_of
from tests.staging.splits import leave_last_split, time_share_split

SPLITS = {"leave_last": leave_last_split, "last_fifth": time_share_split}


def ratings(rows: list[tuple[str, str, str, int]]) -> pa.Table:
    """Rows of `interactions` from (user, item, minute of 1998-01-01, rating)."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "minute", "rating"])
    time = pd.to_datetime("1998-01-01T00:" + frame["minute"], utc=True).astype(
        "datetime64[us, UTC]"
    )
    table = pa.table(
        {
            "event_id": [f"e{n:04d}" for n in range(len(frame))],
            "user_id": pa.array(frame["user_id"], pa.string()),
            "item_id": pa.array(frame["item_id"], pa.string()),
            "event_time": pa.array(time).cast(pa.timestamp("us", "UTC")),
            "local_date": pa.array(time.dt.date),
            "session_id": pa.nulls(len(frame), pa.string()),
            "weight": pa.array(frame["rating"], pa.float32()),
            "polarity": pa.array(np.where(frame["rating"] >= 4, 1, -1), pa.int8()),
            "counts_as_taken": np.ones(len(frame), dtype=bool),
        }
    )
    return table.sort_by([("event_time", "ascending"), ("event_id", "ascending")])


def random_ratings() -> pa.Table:
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}", f"{rng.integers(1 + user // 2):02d}", int(rng.integers(2, 6)))
        for user in range(40)
        for item in rng.permutation(60)[: user + 1]
    ]
    return ratings(rows)


def held_out(table: pa.Table, split: str, slot: int) -> pd.DataFrame:
    """(user, item) of the liked items in one slot of the calendar."""
    frame = table.to_pandas()
    days = pd.Timedelta(days=Benchmark(split=split).slot_days)  # type: ignore[arg-type]
    end = pd.Timestamp(END) - slot * days
    inside = (frame["event_time"] >= end - days) & (frame["event_time"] < end)
    return frame[inside & (frame["polarity"] > 0)]


def pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(frame["user_id"], frame["item_id"], strict=True))


def first_times(table: pa.Table) -> list[tuple[str, pd.Timestamp]]:
    liked = table.to_pandas().query("polarity > 0")
    return list(liked.groupby("user_id")["event_time"].min().items())  # type: ignore[arg-type]


def test_slots_are_the_split_applied_again_and_again() -> None:
    assert slots_of(4, 0.0).tolist() == [3, 2, 1, 0]
    assert slots_of(10, 0.2).tolist() == [5, 5, 5, 5, 4, 3, 2, 1, 0, 0]


def test_the_only_taking_of_a_user_is_never_held_out() -> None:
    assert slots_of(1, 0.0).tolist() == [1]
    assert slots_of(4, 0.2).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_evaluate_horizon_is_the_split_and_the_tune_horizon_the_split_of_the_rest(
    split: str, seed: int
) -> None:
    table = random_ratings()
    moved = on_benchmark_clock(table, Benchmark(split=split, tie_seed=seed), "UTC")  # type: ignore[arg-type]
    liked = table.to_pandas().query("polarity > 0").reset_index(drop=True)
    test = SPLITS[split](liked, seed=seed)
    assert pairs(held_out(moved, split, 0)) == pairs(liked[test])
    rest = liked[~test].reset_index(drop=True)
    again = SPLITS[split](rest, seed=seed)
    found = held_out(moved, split, 1)
    begun = {user for user, time in first_times(moved) if time < found["event_time"].min()}
    assert pairs(found[found["user_id"].isin(begun)]) == pairs(rest[again])


def test_a_low_rating_is_known_only_if_strictly_earlier_than_everything_held_out() -> None:
    table = ratings(
        [
            ("a", "first", "01", 5),
            ("a", "low before", "02", 1),
            ("a", "low at the same time", "03", 1),
            ("a", "last", "03", 5),
            ("a", "low after", "04", 2),
        ]
    )
    moved = on_benchmark_clock(table, Benchmark(split="leave_last"), "UTC").to_pandas()
    evaluate = pd.Timestamp(END) - pd.Timedelta(days=1)
    known = moved[moved["event_time"] < evaluate]
    assert set(known["item_id"]) == {"first", "low before"}


def test_a_users_events_keep_their_order_and_what_happened_together_stays_together() -> None:
    table = random_ratings()
    before = table.to_pandas().set_index("event_id")
    after = on_benchmark_clock(table, Benchmark(split="last_fifth"), "UTC").to_pandas()
    original = before.loc[after["event_id"], "event_time"].set_axis(after.index)
    assert original.groupby(after["user_id"]).apply(lambda s: s.is_monotonic_increasing).all()
    assert not after.duplicated(["user_id", "event_time"]).any()
    assert original.groupby(after["session_id"]).nunique().eq(1).all()
    assert after["session_id"].nunique() == len(before[["user_id", "event_time"]].drop_duplicates())
    assert (after["local_date"] == after["event_time"].dt.date).all()


def test_equal_times_are_ordered_by_the_tie_seed_and_by_nothing_else() -> None:
    table = random_ratings()

    def order(rows: pa.Table, seed: int) -> list[str]:
        clock = Benchmark(split="leave_last", tie_seed=seed)
        return on_benchmark_clock(rows, clock, "UTC")["event_id"].to_pylist()

    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    assert order(table, 0) == order(shuffled, 0)
    assert order(table, 0) != order(table, 1)


def history(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time"])
    return frame.assign(event_time=pd.to_datetime(frame["event_time"], unit="s", utc=True))


def test_leave_last_keeps_the_only_interaction_of_a_user_for_training() -> None:
    frame = history([("u", "b", 2), ("u", "a", 1), ("single", "a", 9)])
    assert leave_last_split(frame, seed=0).tolist() == [True, False, False]


def test_equal_times_are_split_by_the_seed_and_not_by_the_order_of_rows() -> None:
    frame = history([("u", item, 1) for item in "abcdefgh"])
    held_out = {
        frame.loc[leave_last_split(frame, seed=seed), "item_id"].item() for seed in range(20)
    }
    assert len(held_out) > 3
    turned = frame[::-1].reset_index(drop=True)
    assert (
        frame.loc[leave_last_split(frame, seed=3), "item_id"].item()
        == turned.loc[leave_last_split(turned, seed=3), "item_id"].item()
    )


def test_time_share_split_takes_the_last_fifth_of_each_user() -> None:
    frame = history([("u", f"i{n}", n) for n in range(10)] + [("few", "a", 1), ("few", "b", 2)])
    assert frame.loc[time_share_split(frame, seed=0), "item_id"].tolist() == ["i8", "i9"]
