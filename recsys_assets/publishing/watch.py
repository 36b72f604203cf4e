"""Drift of what the ranker sees, and the health of the data, as tables of numbers.

Belongs here: which numbers are looked at, over frames that somebody else reads. Does not belong
here: formulas (`health.py`), reading tables and thresholds' defaults (assets, settings).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.content.offer import available
from recsys_assets.core.metrics import seeded_sample
from recsys_assets.core.settings.releases import Health
from recsys_assets.publishing import health

RECENT_DAYS = 28
USERS = 400
"""Users whose candidates are compared, then and now."""
LEVELS = ("category_1", "category_2", "brand")
"""Columns of items in which a value that nobody took before is news."""
NULLABLE = ("value", "session_id", "store_id", "price", "discount", "context")
"""Columns of interactions that may be empty, and whose emptiness is watched."""


def people(habits: Mapping[str, pd.DataFrame], live: str, seed: int) -> dict[str, list[str]]:
    """Whom to look at in each part: users who took something in the 28 days before it, chosen alike
    at the windows and now, or the choice itself looks like a shift.

    habits: `user_id, user_takes_28` by part. Of `live` as many users as of all other parts
    together, `USERS` at most; a part without any is left out.
    """
    each = max(1, USERS // max(1, len(set(habits) - {live})))
    found = {}
    for part, frame in habits.items():
        active = frame.loc[frame["user_takes_28"] > 0, "user_id"].tolist()
        found[part] = seeded_sample(active, USERS if part == live else each, seed, "drift")
    return {part: users for part, users in found.items() if users}


def told_apart(frame: pa.Table) -> dict[str, int]:
    """How many items, types and users the rows of candidates with features are about."""
    types = [name for name in frame.column_names if name.startswith("type_")]
    return {
        "item": pc.count_distinct(frame["item_id"]).as_py(),
        "type": frame.group_by(types).aggregate([]).num_rows if types else 0,
        "user": pc.count_distinct(frame["user_id"]).as_py(),
    }


_ABOUT = {"item": "item", "promo": "item", "store": "item", "type": "type"}
"""What a feature tells apart, by the first word of its name; all others tell users apart."""


def drift(
    then: Mapping[str, np.ndarray],
    now: Mapping[str, np.ndarray],
    kind: str,
    counts: tuple[Mapping[str, int], Mapping[str, int]],
    limit: float,
) -> pd.DataFrame:
    """One row per column: its stability index, and its mean and share of nulls then and now.

    Columns are float arrays with NaN for null; those missing on one side are left out. `counts` of
    then and now (`told_apart`): many rows about few items or types are few values, which differ by
    chance. A column is looked at in as many bins as keep chance below `limit`, and left out where
    there are too few for two.
    """
    rows = []
    for name in sorted(set(then) & set(now)):
        old, new = then[name], now[name]
        about = _ABOUT.get(name.split("_")[0], "user")
        bins = health.bins_for(counts[0][about], counts[1][about], limit)
        if not bins:
            continue
        rows.append(
            {
                "kind": kind,
                "name": name,
                "psi": health.psi(old, new, bins),
                "mean_then": _mean(old),
                "mean_now": _mean(new),
                "null_then": float(np.isnan(old).mean()) if len(old) else 0.0,
                "null_now": float(np.isnan(new).mean()) if len(new) else 0.0,
            }
        )
    return pd.DataFrame(rows, columns=DRIFT_COLUMNS)


DRIFT_COLUMNS = ["kind", "name", "psi", "mean_then", "mean_now", "null_then", "null_now"]


def windowed_columns(frame: pa.Table, history_days: int) -> dict[str, np.ndarray]:
    """The features of a frame that look back over a window, as float arrays; without those that a
    log of `history_days` is too short for, which move as it grows."""
    return {
        name: frame[name].to_numpy().astype(float)
        for name in frame.column_names
        if health.windowed(name) and health.reach_days(name) <= history_days
    }


def measure(
    events: pd.DataFrame,
    items: pd.DataFrame,
    lists: pd.DataFrame,
    delivered: pd.Series,
    as_of: pd.Timestamp,
    rules: Health,
) -> pd.DataFrame:
    """Volume, concentration, unseen categories, unknown items, nulls, coverage and fallback: what
    is, what was.

    events: those before `as_of` (contract `interactions`); items: the catalogue; lists: what would
    be shown; delivered: the item of every event that was delivered of the last `RECENT_DAYS`, also
    of those in quarantine. `healthy` is null where nothing is asked of a number, or too little is
    known to ask.
    """
    taken = events[events["counts_as_taken"]]
    recent = events["event_time"] >= as_of - pd.Timedelta(days=RECENT_DAYS)
    whole = as_of - pd.Timedelta(days=2 * RECENT_DAYS - 1)
    known = bool((taken["event_time"] <= whole).any())  # not half a period beside a whole one
    rows = [_volume(taken, as_of, rules), _concentration(taken, as_of, rules, known)]
    rows += _unseen(events, items, recent, rules, known)
    rows += _nulls(events, recent, rules, known)
    unknown = float((~delivered.isin(items["item_id"])).mean()) if len(delivered) else 0.0
    rows.append(
        _row("unknown items", "events", unknown, limit=rules.unknown,
             healthy=unknown <= rules.unknown)
    )  # fmt: skip
    offered = int(available(items, as_of).sum())
    for placement, own in lists.groupby("placement", sort=True):
        covered = own["item_id"].nunique() / max(1, offered)
        rows.append(_row("coverage", str(placement), covered))
        share = float((own["policy"] == "fallback").mean())
        rows.append(
            _row("fallback", str(placement), share, limit=rules.fallback,
                 healthy=share <= rules.fallback)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=HEALTH_COLUMNS)


HEALTH_COLUMNS = ["measure", "subject", "value", "usual", "limit", "healthy"]


def _volume(taken: pd.DataFrame, as_of: pd.Timestamp, rules: Health) -> dict[str, object]:
    age = (as_of - taken["event_time"].min()).days if len(taken) else 0
    last, *before = health.weekly_volume(taken["event_time"], as_of)
    before = before[: max(0, age // 7 - 1)]  # before its first event a shop had no weeks
    usual = float(np.median(before)) if before else 0.0
    ratio = last / usual if usual else 1.0
    low, high = rules.volume, 1 / rules.volume
    return _row("volume", "last week", float(last), usual, rules.volume, low <= ratio <= high)


def _concentration(
    taken: pd.DataFrame, as_of: pd.Timestamp, rules: Health, known: bool
) -> dict[str, object]:
    age = (as_of - taken["event_time"]).dt.total_seconds() / 86_400
    now, before = (
        health.concentration(
            taken.loc[age.between(lo, lo + RECENT_DAYS, inclusive="right"), "item_id"]
            .value_counts()
            .to_numpy()
        )
        for lo in (0, RECENT_DAYS)
    )
    calm = abs(now - before) <= rules.concentration if known else None
    return _row("concentration", "items taken", now, before, rules.concentration, calm)


def _unseen(
    events: pd.DataFrame,
    items: pd.DataFrame,
    recent: "pd.Series[bool]",
    rules: Health,
    known: bool,
) -> list[dict[str, object]]:
    if not (~recent).any():
        return []
    rows = []
    for level in LEVELS:
        values = events["item_id"].map(items.set_index("item_id")[level]).fillna("")
        before = values[~recent]
        if not (before != "").any():
            continue
        share = health.unseen_share(values[recent], pd.Index(before.unique()))
        calm = share <= rules.unseen if known else None
        rows.append(_row("unseen", level, share, limit=rules.unseen, healthy=calm))
    return rows


def _nulls(
    events: pd.DataFrame, recent: "pd.Series[bool]", rules: Health, known: bool
) -> list[dict[str, object]]:
    if not recent.any() or recent.all():
        return []
    rows = []
    for name in NULLABLE:
        empty = events[name].isna()
        now, before = float(empty[recent].mean()), float(empty[~recent].mean())
        calm = now - before <= rules.nulls if known else None
        rows.append(_row("nulls", name, now, before, rules.nulls, calm))
    return rows


def _row(
    measure: str,
    subject: str,
    value: float,
    usual: float | None = None,
    limit: float | None = None,
    healthy: bool | None = None,
) -> dict[str, object]:
    return {
        "measure": measure, "subject": subject, "value": value, "usual": usual, "limit": limit,
        "healthy": healthy,
    }  # fmt: skip


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def shifted(drift: pd.DataFrame, limit: float) -> list[str]:
    """What of the table of that name is above the limit, with its index, the largest first."""
    rows = drift[drift["psi"] > limit].sort_values("psi", ascending=False, kind="stable")
    return [f"{name} {psi:.2f}" for name, psi in zip(rows["name"], rows["psi"], strict=True)]


def unhealthy(health: pd.DataFrame) -> list[str]:
    """What in the table `data_health` is beyond its limit, a clause each."""
    return [_in_words(row) for row in health[health["healthy"].eq(False)].to_dict("records")]


def _in_words(row: Mapping[Any, Any]) -> str:
    usual = "" if pd.isna(row["usual"]) else f", usually {row['usual']:.3g}"
    return f"{row['measure']} of {row['subject']} is {row['value']:.3g}{usual}"
