"""Drift measures have the values that can be worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from recsys_assets.publishing import health


def test_psi_of_two_bins_is_the_sum_over_both() -> None:
    expected = np.repeat([0.0, 1.0], [50, 50])
    actual = np.repeat([0.0, 1.0], [20, 80])
    by_hand = (0.2 - 0.5) * np.log(0.2 / 0.5) + (0.8 - 0.5) * np.log(0.8 / 0.5)
    assert health.psi(expected, actual) == pytest.approx(by_hand)


def test_psi_of_the_same_distribution_is_zero_and_nulls_are_a_bin_of_their_own() -> None:
    values = np.arange(1000.0)
    assert health.psi(values, values) == pytest.approx(0)
    half_null = np.where(values % 2 == 0, np.nan, values)
    assert health.psi(values, half_null) > 0.25


@pytest.mark.parametrize(
    ("old", "new", "bins"), [(100, 400, 10), (400, 400, 10), (61, 61, 2), (80, 80, 4), (12, 12, 0)]
)
def test_there_are_as_many_bins_as_keep_chance_below_the_limit(
    old: int, new: int, bins: int
) -> None:
    assert health.bins_for(old, new, 0.25) == bins
    if bins:
        rng = np.random.default_rng(0)
        by_chance = [
            health.psi(rng.normal(size=old), rng.normal(size=new), bins) for _ in range(200)
        ]
        assert np.mean(np.array(by_chance) > 0.25) < 0.08


def test_psi_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=500), rng.normal(0.3, size=500)
    assert health.psi(old, new) == pytest.approx(health.psi(old[::-1], rng.permutation(new)))


@pytest.mark.parametrize(
    ("feature", "looks_back"),
    [
        ("item_days_28", True), ("item_trend_7_28", True), ("ui_decayed_90", True),
        ("uc_decayed_items_60", True), ("ui_last_days", True), ("ui_due_days", True),
        ("user_trips_84", True), ("store_users_28", True), ("item_price_vs_usual", True),
        ("ui_days", False), ("ui_seen", False), ("user_items_known", False),
        ("ui_signal", False), ("ui_gap_mean", False), ("item_price", False),
    ],
)  # fmt: skip
def test_features_that_grow_with_the_history_are_told_from_those_that_look_back(
    feature: str, looks_back: bool
) -> None:
    assert health.windowed(feature) is looks_back


@pytest.mark.parametrize(
    ("feature", "days"),
    [
        ("item_days_28", 56), ("user_trend_28_84", 168), ("ui_decayed_90", 180),
        ("uc_decayed_items_60", 120), ("item_trend_7_28", 56), ("user_trips_7", 14),
        ("ui_in_last_5_trips", 0), ("ui_last_days", 0), ("item_price_vs_usual", 0),
    ],
)  # fmt: skip
def test_a_window_is_full_before_the_log_is_twice_as_long(feature: str, days: int) -> None:
    assert health.reach_days(feature) == days


def test_concentration_is_zero_for_equals_and_near_one_for_a_monopoly() -> None:
    assert health.concentration([5, 5, 5, 5]) == pytest.approx(0)
    assert health.concentration([0, 0, 0, 1]) == pytest.approx(0.75)


def test_weekly_volume_counts_back_from_the_cutoff() -> None:
    as_of = pd.Timestamp("2024-03-01", tz="UTC")
    days = [0, 0.5, 6.9, 7.0, 7.1, 30, -1]
    times = pd.Series([as_of - pd.Timedelta(days=d) for d in days])
    assert health.weekly_volume(times, as_of, weeks=3) == [3, 1, 0]


def test_a_week_of_days_without_a_time_of_day_has_seven_of_them() -> None:
    as_of = pd.Timestamp("2024-03-01", tz="UTC")
    times = pd.Series(pd.date_range("2024-02-09", "2024-02-29", tz="UTC"))
    assert health.weekly_volume(times, as_of, weeks=4) == [7, 7, 7, 0]


def test_an_empty_text_is_not_an_unseen_value() -> None:
    assert health.unseen_share(pd.Series(["a", "", "b"]), ["a"]) == 0.5
