"""What came of an A/B test: what the users of each arm took, beside those of the control.

Belongs here: who counts, what is counted, and the statistics. Does not belong here: the plan
(`core/settings/ab_test.py`), reading tables.

Users are what is assigned and so what is counted, each with everything they took in their first
`days` days of the test: whatever brought it about, since a list may only move a purchase from the
search box to itself. No difference is told before the planned end: who looks every day and stops at
the first p-value below .05 finds one between equal arms far more often than once in twenty.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from recsys_assets.core.settings.ab_test import AbTest
from recsys_assets.evaluation.glossary import OUTCOMES
from recsys_assets.evaluation.tables import AB_TEST

USERS = "users"
SEVERAL = "(in several arms)"


def planned_end(test: AbTest) -> pd.Timestamp:
    """When the days of the last user who may enter are over."""
    return pd.Timestamp(test.ends, tz="UTC") + pd.Timedelta(days=test.days)


def during(shown: pd.DataFrame, test: AbTest) -> pd.DataFrame:
    """The exposures (user_id, item_id, arm, shown_at) in an arm while the test goes on."""
    begin = pd.Timestamp(test.starts, tz="UTC")
    goes_on = (shown["shown_at"] >= begin) & (shown["shown_at"] < planned_end(test))
    return shown[shown["arm"].notna() & goes_on]


def assigned(shown: pd.DataFrame, test: AbTest) -> pd.DataFrame:
    """The users who entered the test: their arm, `SEVERAL` where exposures name more than one, and
    the time of their first exposure. Columns arm, entered; index user_id.

    shown: `during` the test.
    """
    users = shown.groupby("user_id", sort=True).agg(
        arm=("arm", "first"), arms=("arm", "nunique"), entered=("shown_at", "min")
    )
    users["arm"] = users["arm"].mask(users["arms"] > 1, SEVERAL)
    return users.loc[users["entered"] < pd.Timestamp(test.ends, tz="UTC"), ["arm", "entered"]]


def outcomes(
    users: pd.DataFrame, taken: pd.DataFrame, shown: pd.DataFrame, days: int
) -> pd.DataFrame:
    """`OUTCOMES` of each user in [entered, entered + days); those who took nothing have zeros.

    users: `assigned`; taken: user_id, item_id, event_time, value of events that count as taken;
    shown: user_id, item_id, shown_at. `value` is left out where no event of the period has one.
    """
    own = taken.merge(users[["entered"]], left_on="user_id", right_index=True)
    since = own["event_time"] - own["entered"]
    own = own[(since >= pd.Timedelta(0)) & (since < pd.Timedelta(days=days))]
    first = shown.groupby(["user_id", "item_id"])["shown_at"].min().rename("shown_at").reset_index()
    seen = own.merge(first, on=["user_id", "item_id"])
    seen = seen[seen["event_time"] > seen["shown_at"]].drop_duplicates(["user_id", "item_id"])
    found = pd.DataFrame(
        {
            "takings": own.groupby("user_id").size(),
            "shown_takings": seen.groupby("user_id").size(),
        },
        index=users.index,
    ).fillna(0.0)
    found["active"] = (found["takings"] > 0).astype(float)
    if own["value"].notna().any():
        found["value"] = own.groupby("user_id")["value"].sum().reindex(users.index).fillna(0.0)
    return found


def readout(users: pd.DataFrame, found: pd.DataFrame, test: AbTest, *, over: bool) -> pd.DataFrame:
    """One row per arm and metric.

    users: `assigned`; found: `outcomes` of those whose days are over, by outcome; over: the planned
    end has passed. Metric `users`: how many an arm got, their share among the planned arms, its
    difference to the planned share, and the p-value of all shares (chi-square). Outcomes: the mean
    over users with its 95% interval; once the test is over the difference to the control with its
    interval and p-value (Welch's t). Columns as in the contract `AB_TEST`.
    """
    rows = [*_split(users, test)]
    arm = users.loc[found.index, "arm"]
    for outcome in (name for name in OUTCOMES if name in found):
        control = found.loc[arm == test.control, outcome].to_numpy()
        for name in test.arms:
            values = found.loc[arm == name, outcome].to_numpy()
            row: dict[str, object] = {"arm": name, "metric": outcome, "users": len(values)}
            if len(values):
                row["value"] = float(values.mean())
            if len(values) > 1:
                row["low"], row["high"] = _around(values)
            if over and name != test.control and min(len(values), len(control)) > 1:
                row |= _against(values, control)
            rows.append(row)
    return pd.DataFrame(rows, columns=AB_TEST.names)


def _split(users: pd.DataFrame, test: AbTest) -> Iterator[dict[str, object]]:
    from scipy import stats  # 1 s

    counts = users["arm"].value_counts()
    got = counts.reindex(list(test.arms), fill_value=0).to_numpy()
    planned = np.array(list(test.arms.values())) / sum(test.arms.values())
    p_value = stats.chisquare(got, planned * got.sum()).pvalue if got.sum() else np.nan
    shares = got / max(got.sum(), 1)
    for name, n, share, plan in zip(test.arms, got, shares, planned, strict=True):
        yield {
            "arm": name, "metric": USERS, "users": int(n), "value": float(share),
            "difference": float(share - plan), "p_value": float(p_value),
        }  # fmt: skip
    for name in sorted(set(counts.index) - set(test.arms)):
        yield {"arm": name, "metric": USERS, "users": int(counts[name])}


def _around(values: np.ndarray) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy import stats  # 1 s

    interval = stats.ttest_1samp(values, 0.0).confidence_interval()
    return float(interval.low), float(interval.high)


def _against(values: np.ndarray, control: np.ndarray) -> dict[str, object]:
    difference = float(values.mean() - control.mean())
    if np.ptp(values) == 0 and np.ptp(control) == 0:
        return {"difference": difference}
    from scipy import stats  # 1 s

    test = stats.ttest_ind(values, control, equal_var=False)
    interval = test.confidence_interval()
    return {
        "difference": difference, "difference_low": float(interval.low),
        "difference_high": float(interval.high), "p_value": float(test.pvalue),
    }  # fmt: skip


UNLIKELY = 0.001
"""Shares of arms that come about so seldom by chance are a fault of the assignment."""


def faults(table: pd.DataFrame, test: AbTest) -> list[str]:
    """Why a `readout` must not be believed, in words; empty where nothing speaks against it."""
    split = table[table["metric"] == USERS].set_index("arm")
    planned = split.loc[split.index.isin(list(test.arms))]
    if not split["users"].sum():
        return []
    found = []
    if (planned["p_value"] < UNLIKELY).any():
        shares = ", ".join(f"{arm} {value:.1%}" for arm, value in planned["value"].items())
        found.append(
            f"users are not split as planned ({shares}; p {planned['p_value'].iloc[0]:.1g}): look "
            "at how they are assigned, and at whether an arm loses exposures"
        )
    for arm, n in split["users"].drop(planned.index).items():
        what = "more than one arm" if arm == SEVERAL else f"an arm of no plan, {arm!r}"
        found.append(f"users left out because they saw {what}: {n:,}")
    return found
