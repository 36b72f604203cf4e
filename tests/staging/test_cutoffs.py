"""The calendar of cutoffs never lets a label window reach past its target."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.settings.calendar import Cutoffs
from recsys_assets.staging.cutoffs import end_of_data, plan


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def test_the_default_data_give_the_protocol_cutoffs() -> None:
    end = end_of_data(utc(2017, 1, 1, 11), utc(2018, 1, 1, 4), last_day_complete=False)
    cutoffs, fits = plan(Cutoffs(), utc(2017, 1, 1, 11), end)
    named = cutoffs.dropna(subset="target").set_index("target")["as_of"]
    assert named["tune"] == pd.Timestamp(2017, 11, 6, tz="UTC")
    assert named["evaluate"] == pd.Timestamp(2017, 12, 4, tz="UTC")
    assert named["live"] == pd.Timestamp(2018, 1, 1, tz="UTC")
    windows = fits.loc[fits["target"] == "evaluate", "window_as_of"]
    assert [f"{w:%m-%d}" for w in windows] == ["09-25", "10-09", "10-23", "11-06"]


def test_the_unfinished_last_day_is_left_out_unless_the_source_says_it_is_complete() -> None:
    first, last = utc(2024, 1, 1), utc(2024, 3, 5, 13)
    assert end_of_data(first, last, last_day_complete=False) == utc(2024, 3, 5)
    assert end_of_data(first, last, last_day_complete=True) == utc(2024, 3, 6)


def test_less_than_one_complete_day_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="last_day_complete"):
        end_of_data(utc(2024, 1, 1, 3), utc(2024, 1, 1, 9), last_day_complete=False)


def test_a_new_day_does_not_move_the_cutoffs_of_the_past() -> None:
    first = utc(2023, 1, 2)
    monday = plan(Cutoffs(), first, utc(2024, 1, 1))[0]
    thursday = plan(Cutoffs(), first, utc(2024, 1, 4))[0]
    assert set(monday["as_of"][:-1]) <= set(thursday["as_of"])


def test_short_data_have_a_live_cutoff_and_no_windows() -> None:
    cutoffs, fits = plan(Cutoffs(), utc(2024, 1, 1), utc(2024, 1, 15))
    assert list(cutoffs["target"]) == ["live"]
    assert fits.empty


grids = st.builds(
    Cutoffs,
    horizon_days=st.integers(1, 60),
    step_days=st.integers(1, 30),
    windows=st.integers(1, 8),
    weekday=st.sampled_from(["monday", "thursday", "sunday"]),
)


@given(grids, st.integers(1, 900), st.integers(0, 23))
def test_no_window_ends_after_its_target_and_every_window_is_a_cutoff(
    grid: Cutoffs, days: int, hour: int
) -> None:
    first = utc(2021, 5, 3, hour)
    end = datetime(2021, 5, 4, tzinfo=UTC) + timedelta(days=days)
    cutoffs, fits = plan(grid, first, end)
    assert (fits["window_horizon_end"] <= fits["as_of"]).all()
    assert fits["window_as_of"].isin(cutoffs["as_of"]).all()
    assert (fits["window_as_of"] > pd.Timestamp(first)).all()
    assert cutoffs["as_of"].is_unique and cutoffs["as_of"].is_monotonic_increasing
    complete = cutoffs["horizon_end"] <= pd.Timestamp(end)
    assert (cutoffs["complete"] == complete).all()
    assert cutoffs["target"].dropna().is_unique
