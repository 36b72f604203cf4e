"""An A/B test's read-out: who counts, what counts, and how sure a difference is."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from recsys_assets.core.assets import Project
from recsys_assets.core.settings.ab_test import AbTest
from recsys_assets.evaluation import ab_test as measure
from recsys_assets.evaluation.ab_test_assets import ab_test, sound
from tests.conftest import MINIMAL_SHOP
from tests.stored import approved

PLAN: dict[str, Any] = {
    "arms": {"old": 0.5, "new": 0.5},
    "control": "old",
    "starts": date(2026, 3, 2),
    "ends": date(2026, 3, 9),
    "days": 7,
}
TEST = AbTest(**PLAN)


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2026-{text}", tz="UTC")


def exposures(*rows: tuple[str, str, str | None, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "arm", "shown_at"])
    return frame.assign(shown_at=frame["shown_at"].map(at))


def takings(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time", "value"])
    return frame.assign(event_time=frame["event_time"].map(at))


def test_users_enter_with_their_first_exposure_and_leave_when_they_change_arms() -> None:
    shown = exposures(
        ("a", "x", "old", "03-02 00:00"),
        ("a", "y", "old", "03-05 00:00"),
        ("b", "x", "new", "03-01 23:59"),  # before the test: the next one counts
        ("b", "x", "new", "03-03 00:00"),
        ("c", "x", "old", "03-08 00:00"),
        ("c", "x", "new", "03-15 23:59"),  # within the days of those who entered last
        ("d", "x", "new", "03-09 00:00"),  # too late to enter
        ("e", "x", None, "03-04 00:00"),
        ("f", "x", "other", "03-04 00:00"),
        ("g", "x", "old", "03-08 00:00"),
        ("g", "x", "new", "03-16 00:00"),  # after the test
    )
    users = measure.assigned(measure.during(shown, TEST), TEST)
    assert users["arm"].to_dict() == {
        "a": "old", "b": "new", "c": measure.SEVERAL, "f": "other", "g": "old",
    }  # fmt: skip
    assert users["entered"].loc[["a", "b"]].tolist() == [at("03-02"), at("03-03")]


def test_what_a_user_takes_in_their_days_counts_and_nobody_is_left_out() -> None:
    shown = exposures(
        ("a", "x", "old", "03-02 12:00"),
        ("a", "x", "old", "03-04 12:00"),
        ("a", "y", "old", "03-05 00:00"),
        ("b", "x", "new", "03-02 12:00"),
    )
    users = measure.assigned(shown, TEST)
    taken = takings(
        ("a", "z", "03-02 11:59", 9.0),  # before the first exposure
        ("a", "x", "03-02 12:00", 1.0),  # at it: not because of it
        ("a", "x", "03-03 00:00", 2.0),
        ("a", "x", "03-04 00:00", np.nan),  # again: one item
        ("a", "y", "03-04 00:00", 4.0),  # before it was shown
        ("a", "z", "03-09 11:59", 8.0),  # never shown
        ("a", "y", "03-09 12:00", 16.0),  # the days are over
        ("s", "x", "03-03 00:00", 32.0),  # nobody's
    )
    found = measure.outcomes(users, taken, shown, 7)
    assert found.loc["a"].to_dict() == {
        "takings": 5.0, "shown_takings": 1.0, "active": 1.0, "value": 15.0,
    }  # fmt: skip
    assert found.loc["b"].eq(0).all()
    without = measure.outcomes(users, taken.assign(value=np.nan), shown, 7)
    assert "value" not in without


def people(old: list[float], new: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    ids = [f"u{n}" for n in range(len(old) + len(new))]
    users = pd.DataFrame({"arm": ["old"] * len(old) + ["new"] * len(new)}, index=ids)
    return users, pd.DataFrame({"takings": [*old, *new]}, index=ids)


def test_a_difference_is_welchs_and_told_once_the_test_is_over() -> None:
    users, found = people([1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0])
    running = measure.readout(users, found, TEST, over=False).set_index(["arm", "metric"])
    line = running.loc[("new", "takings")]
    assert (line["users"], line["value"]) == (4, 5.0)
    # s^2 20/3 of 4 users: standard error 1.290994, t(.975, 3) = 3.182446
    assert (line["low"], line["high"]) == pytest.approx((0.891, 9.108), abs=1e-3)
    assert pd.isna(line["difference"]) and pd.isna(line["p_value"])
    over = measure.readout(users, found, TEST, over=True).set_index(["arm", "metric"])
    line = over.loc[("new", "takings")]
    # 5 - 2, standard error sqrt(1/3 + 5/3); 2^2 / ((1/3)^2 / 2 + (5/3)^2 / 3) = 4.0755 degrees of
    # freedom, of which t(.975) is 2.7564
    assert line["difference"] == 3.0
    assert (line["difference_low"], line["difference_high"]) == pytest.approx(
        (3 - 2.7564 * 2**0.5, 3 + 2.7564 * 2**0.5), abs=1e-3
    )
    assert 0.05 < line["p_value"] < 0.11  # t(.95) is 2.12
    assert pd.isna(over.loc[("old", "takings"), "difference"])


def test_shares_are_held_against_the_plan_and_strangers_are_named() -> None:
    users, found = people([1.0] * 70, [1.0] * 30)
    users.loc["u0", "arm"], users.loc["u1", "arm"] = measure.SEVERAL, "third"
    table = measure.readout(users, found, TEST, over=True)
    split = table[table["metric"] == "users"].set_index("arm")
    assert split["users"].to_dict() == {"old": 68, "new": 30, measure.SEVERAL: 1, "third": 1}
    assert split.loc["old", "value"] == pytest.approx(68 / 98)
    assert split.loc["old", "difference"] == pytest.approx(68 / 98 - 0.5)
    # chi-square (19^2 + 19^2) / 49 = 14.735 with one degree of freedom
    assert split.loc["new", "p_value"] == pytest.approx(1.24e-4, rel=0.01)
    unsplit, third, several = sorted(measure.faults(table, TEST), key=len, reverse=True)
    assert unsplit.startswith("users are not split as planned (old 69.4%, new 30.6%; p 0.0001)")
    assert third == "users left out because they saw an arm of no plan, 'third': 1"
    assert several == "users left out because they saw more than one arm: 1"
    alike = table[table["metric"] == "takings"].set_index("arm").loc["new"]
    assert alike["difference"] == 0 and pd.isna(alike["p_value"])  # nothing varies


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (1, 1), (0, 5)])
def test_a_test_without_users_says_nothing_and_breaks_nothing(counts: tuple[int, int]) -> None:
    users, found = people([1.0] * counts[0], [2.0] * counts[1])
    table = measure.readout(users, found, TEST, over=True)
    assert set(table["arm"]) == {"old", "new"}
    assert table["p_value"].dropna().between(0, 1).all()
    assert measure.faults(table, TEST) == []


def test_an_interval_holds_the_true_difference_in_about_19_of_20_tests() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(40):  # 38 expected, a standard deviation is 1.4
        users, found = people(rng.poisson(2.0, 60).tolist(), rng.poisson(2.5, 40).tolist())
        table = measure.readout(users, found, TEST, over=True).set_index(["arm", "metric"])
        line = table.loc[("new", "takings")]
        held += line["difference_low"] <= 0.5 <= line["difference_high"]
    assert held >= 33


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ends": date(2026, 3, 2)}, "ends must be after starts"),
        ({"control": "none"}, "arms must name the control 'none' and another one"),
        ({"arms": {"old": 0.5, "new": 0.4}}, "shares of arms must add up to 1, not 0.9"),
        ({"arms": {"old": 1.0}}, "less than 1"),
    ],
)
def test_a_plan_that_cannot_be_read_out_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AbTest(**PLAN | change)


def _told(project: Project) -> dg.AssetCheckResult:
    result = sound(project=project)
    assert isinstance(result, dg.AssetCheckResult)
    return result


def test_the_table_is_read_from_the_log_and_known_until_the_live_cutoff(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        MINIMAL_SHOP + "ab_test: {arms: {old: 0.5, new: 0.5}, control: old, starts: 2026-03-02, "
        "ends: 2026-03-09, days: 7}\n"
    )
    project = Project(home=str(tmp_path), shop_file=str(tmp_path / "shop.yaml"))
    shown = exposures(
        ("a", "x", "old", "03-02 12:00"),
        ("b", "x", "new", "03-02 12:00"),
        ("c", "x", "new", "03-05 00:00"),
        ("c", "x", "old", "03-10 00:00"),
    )
    taken = takings(("a", "x", "03-03 00:00", 2.0), ("b", "x", "03-10 00:00", 9.0))

    def made(as_of: str) -> tuple[pd.DataFrame, str, dg.AssetCheckResult]:
        approved(project.lake, "cutoffs", pd.DataFrame({"target": ["live"], "as_of": [at(as_of)]}))
        ab_test.producer.produce(project, "")
        assert ab_test.producer.judge(project, "").passed
        table = project.lake.read("ab_test")
        state = str(table.report()["texts"]["state"])
        return table.to_pandas().set_index(["arm", "metric"]), state, _told(project)

    approved(project.lake, "raw_exposures", shown)
    approved(project.lake, "interactions", taken.assign(counts_as_taken=True))
    table, state, warning = made("03-09 11:00")
    assert state == "going on until 2026-03-16; the days of 0 of 3 users are over"
    assert table.loc[("old", "users"), "users"] == 1 and warning.passed
    table, state, warning = made("03-16")
    assert state == "over since 2026-03-16; the days of 3 of 3 users are over"
    assert table["value"].loc[[("old", "value"), ("new", "value")]].tolist() == [2.0, 0.0]
    assert warning.description == "users left out because they saw more than one arm: 1"
    assert not warning.passed
