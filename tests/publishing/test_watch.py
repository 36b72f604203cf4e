"""Warnings speak up when the data change, and keep quiet when they do not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.settings.releases import Health
from recsys_assets.publishing import watch

AS_OF = pd.Timestamp("2024-03-25", tz="UTC")
ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "category_1": ["food", "food", "food", "toys"],
        "category_2": "",
        "brand": ["x", "x", "y", "z"],
        "status": ["active", "active", "active", "inactive"],
        "available_from": pd.to_datetime([None] * 4, utc=True),
        "available_to": pd.to_datetime([None] * 4, utc=True),
    }
)
LISTS = pd.DataFrame({"placement": "for_you", "item_id": ["a", "b", "a", "b"], "policy": "ranker"})

DELIVERED = pd.Series(["a", "b"] * 140)
MANY = {"item": 1000, "type": 1000, "user": 1000}


def steady() -> pd.DataFrame:
    """Ten events a day for twelve weeks, on two items in turn."""
    days = np.repeat(np.arange(84), 10)
    frame = pd.DataFrame(
        {
            "event_time": AS_OF - pd.to_timedelta(days + 0.5, unit="D"),
            "item_id": np.tile(["a", "b"], 420),
            "counts_as_taken": True,
        }
    )
    return frame.assign(**dict.fromkeys(watch.NULLABLE, "1"))


def unhealthy(
    events: pd.DataFrame, lists: pd.DataFrame = LISTS, delivered: pd.Series = DELIVERED
) -> set[tuple[str, str]]:
    table = watch.measure(events, ITEMS, lists, delivered, AS_OF, Health())
    bad = table[table["healthy"].eq(False)]
    return set(zip(bad["measure"], bad["subject"], strict=True))


def test_nothing_is_said_about_steady_data() -> None:
    assert unhealthy(steady()) == set()


def test_who_buys_seldom_is_not_taken_for_a_shift() -> None:
    """Half of the users took nothing lately, at the window as now."""
    at = pd.DataFrame({"user_id": [f"u{n}" for n in range(40)], "user_takes_28": [0, 0, 1, 3] * 10})
    chosen = watch.people({"window": at, "idle": at.head(2), "live": at}, "live", seed=7)
    assert set(chosen) == {"window", "live"} and len(chosen["live"]) == 20
    then, now = (
        at.set_index("user_id").loc[chosen[part]].to_dict("series") for part in ("window", "live")
    )
    assert watch.drift(then, now, "feature", (MANY, MANY), 0.25)["psi"].tolist() == [0.0]


def test_a_week_with_a_third_of_the_events_is_told() -> None:
    events = steady()
    last_week = events["event_time"] > AS_OF - pd.Timedelta(days=7)
    thinned = events[~last_week | (np.arange(len(events)) % 3 == 0)]
    assert unhealthy(thinned) == {("volume", "last week")}


def test_a_catalogue_that_lost_products_people_take_is_told() -> None:
    """Events on them go to quarantine, of all weeks alike, so the volume says nothing."""
    assert unhealthy(steady(), delivered=pd.Series(["a", "gone"] * 5 + ["b"] * 90)) == set()
    told = unhealthy(steady(), delivered=pd.Series(["a", "gone"] * 6 + ["b"] * 88))
    assert told == {("unknown items", "events")}
    assert unhealthy(steady(), delivered=DELIVERED.iloc[:0]) == set()


@pytest.mark.parametrize("weeks", [1, 2, 4, 5, 7])
def test_a_young_shop_is_compared_with_the_weeks_it_had(weeks: int) -> None:
    events = steady()
    young = events[events["event_time"] > AS_OF - pd.Timedelta(days=7 * weeks)]
    table = watch.measure(young, ITEMS, LISTS, DELIVERED, AS_OF, Health()).set_index("measure")
    assert table.loc["volume", "value"] == 70
    full = weeks > 2  # the first day is half a one, and so the first week is no full one
    assert table.loc["volume", "usual"] == (70 if full else 0)
    assert table.loc["volume", "healthy"]
    assert table.loc["concentration", "healthy"] is None
    last = young["event_time"] > AS_OF - pd.Timedelta(days=7)
    thinned = young[~last | (np.arange(len(young)) % 3 == 0)]
    assert (("volume", "last week") in unhealthy(thinned)) == full


@pytest.mark.parametrize(("days", "told"), [(30, set()), (55, set()), (56, {"unseen", "nulls"})])
def test_two_days_of_history_are_nothing_to_hold_a_month_against(days: int, told: set[str]) -> None:
    events = steady()
    young = events[events["event_time"] > AS_OF - pd.Timedelta(days=days)]
    lately = young["event_time"] > AS_OF - pd.Timedelta(days=28)
    other = young.assign(item_id=young["item_id"].mask(lately, "d"), price=None)
    other.loc[~lately, "price"] = 1.0
    table = watch.measure(other, ITEMS, LISTS, DELIVERED, AS_OF, Health())
    assert {"unseen", "nulls"} <= set(table["measure"])
    bad = set(table.loc[table["healthy"].eq(False), "measure"])
    assert bad - {"concentration"} == told


def test_a_category_and_brand_nobody_took_before_are_told() -> None:
    events = steady()
    events.loc[:29, "item_id"] = "d"  # the last three days
    found = unhealthy(events)
    assert {("unseen", "category_1"), ("unseen", "brand")} <= found


def test_a_column_that_goes_empty_is_told() -> None:
    events = steady()
    events.loc[:139, "store_id"] = None  # half of the last 28 days
    assert unhealthy(events) == {("nulls", "store_id")}


def test_everybody_taking_one_item_is_told() -> None:
    events = steady()
    recent = events["event_time"] > AS_OF - pd.Timedelta(days=28)
    events.loc[recent & (np.arange(len(events)) % 20 != 1), "item_id"] = "a"
    assert ("concentration", "items taken") in unhealthy(events)


def test_lists_that_mostly_fill_up_are_told_and_coverage_counts_what_is_on_offer() -> None:
    filled = LISTS.assign(policy=["ranker", "fallback", "fallback", "ranker"])
    assert unhealthy(steady(), filled) == {("fallback", "for_you")}
    for ended, covered in ((AS_OF + pd.Timedelta("1h"), 2 / 3), (AS_OF, 2 / 2)):
        items = ITEMS.assign(available_to=[pd.NaT, pd.NaT, ended, pd.NaT])
        table = watch.measure(steady(), items, LISTS, DELIVERED, AS_OF, Health())
        assert table.set_index("measure").loc["coverage", "value"] == pytest.approx(covered)


def test_a_shifted_feature_stands_out_and_its_means_and_nulls_are_told() -> None:
    then = {"item_days_7": np.arange(100.0), "item_days_28": np.arange(100.0)}
    now = {"item_days_7": np.arange(100.0) + 50, "item_days_28": np.append(np.arange(99.0), np.nan)}
    table = watch.drift(then, now, "feature", (MANY, MANY), 0.25).set_index("name")
    assert table.loc["item_days_7", "psi"] > 0.25 > table.loc["item_days_28", "psi"]
    assert table.loc["item_days_7", "mean_now"] == pytest.approx(99.5)
    assert table.loc["item_days_28", "null_now"] == pytest.approx(0.01)


def test_in_a_young_shop_only_short_windows_are_compared() -> None:
    """Trips of a steady user in 84 days are 6 in a log of six weeks and 12 in one of twelve."""
    frame = pa.table({n: [1.0] for n in ("user_trips_7", "user_trips_84", "user_trend_28_84")})
    assert list(watch.windowed_columns(frame, 42)) == ["user_trips_7"]
    assert list(watch.windowed_columns(frame, 168)) == frame.column_names


def test_what_few_types_or_items_differ_by_is_no_shift() -> None:
    """Twelve types in ten bins: a value that has moved by less than a hundredth changes its bin."""
    rng = np.random.default_rng(3)
    of_type = rng.uniform(size=12)
    rows = rng.integers(0, 12, size=20_000)
    then = {"type_trend_7_28": of_type[rows], "user_last_days": rows.astype(float)}
    moved = of_type + rng.normal(0, 0.05, size=12)
    now = {"type_trend_7_28": moved[rows], "user_last_days": rows.astype(float)}
    seen = watch.drift(then, now, "feature", (MANY, MANY), 0.25).set_index("name")
    assert seen.loc["type_trend_7_28", "psi"] > 0.25, "as if 20,000 rows were as many types"
    few = {"item": 61, "type": 12, "user": 400}
    assert watch.drift(then, now, "feature", (few, few), 0.25)["name"].tolist() == [
        "user_last_days"
    ]


def test_rows_are_about_few_items_types_and_users() -> None:
    frame = pa.table(
        {
            "user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"],
            "type_days_28": [3.0, 3.0, 3.0], "type_trend_7_28": [1.0, None, 1.0],
        }
    )  # fmt: skip
    assert watch.told_apart(frame) == {"item": 2, "type": 2, "user": 2}
