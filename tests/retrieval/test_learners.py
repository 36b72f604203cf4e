"""Which users a label window is learned from."""

from itertools import pairwise

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.settings.calendar import Cutoffs
from recsys_assets.retrieval.learners import learners

USERS = [f"u{n}" for n in range(10)]
FIRST = pd.Timestamp("2024-03-04", tz="UTC")


def windows(n: int, **settings: int) -> list[list[str]]:
    cutoffs = Cutoffs(step_days=14, **settings)
    step = pd.Timedelta(days=cutoffs.step_days)
    return [learners(USERS, FIRST + step * nth, cutoffs, seed=0) for nth in range(n)]


def test_a_small_shop_is_learned_from_as_a_whole() -> None:
    assert windows(2, users_per_window=10) == [sorted(USERS)] * 2


def test_every_window_takes_the_next_users_of_the_circle() -> None:
    first, second, third, *_, sixth = windows(6, users_per_window=4)
    assert [len(w) for w in (first, second, third)] == [4, 4, 4]
    assert not set(first) & set(second)
    assert len(set(third) & set(first)) == 2  # 12 places, 10 users
    assert sixth == first  # 20 places later: twice around


def test_the_draw_knows_neither_order_nor_who_else_asks() -> None:
    cutoffs = Cutoffs(users_per_window=4)
    drawn = learners(USERS, FIRST, cutoffs, seed=0)
    assert learners([*reversed(USERS), "u3"], FIRST, cutoffs, seed=0) == drawn == sorted(drawn)
    others = [learners(USERS, FIRST, cutoffs, seed) for seed in range(1, 9)]
    assert any(other != drawn for other in others)


@given(st.integers(1, 12), st.integers(1, 28), st.integers(-4_000, 4_000))
def test_nobody_is_asked_much_more_often_than_others(n: int, step: int, day: int) -> None:
    cutoffs = Cutoffs(step_days=step, users_per_window=n)
    moments = [FIRST + pd.Timedelta(days=day + step * nth) for nth in range(10)]
    drawn = [learners(USERS, moment, cutoffs, seed=3) for moment in moments]
    assert all(len(w) == min(n, 10) for w in drawn)
    times = pd.Series([user for w in drawn for user in w]).value_counts()
    assert times.max() - times.reindex(USERS).fillna(0).min() <= 1
    if n <= 5:
        assert not any(set(a) & set(b) for a, b in pairwise(drawn))
