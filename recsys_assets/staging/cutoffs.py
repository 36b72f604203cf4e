"""The grid of cutoffs and which label windows train which target.

Belongs here: arithmetic on dates. Does not belong here: reading events, or the clock.
"""

from datetime import UTC, datetime, time, timedelta

import pandas as pd

from recsys_assets.core.settings.calendar import Cutoffs

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def end_of_data(first: datetime, last: datetime, last_day_complete: bool) -> datetime:
    """The end of the last complete UTC day of data whose events span [first, last].

    The day of the newest event is taken as unfinished unless the source says otherwise.
    Raises ValueError when no complete day exists.
    """
    midnight = datetime.combine(last.astimezone(UTC).date(), time(), UTC)
    end = midnight + timedelta(days=1) if last_day_complete else midnight
    if end <= first:
        raise ValueError(
            f"the events span {first} to {last}, which is not one complete day: bring more data, "
            "or set last_day_complete: true in the shop file"
        )
    return end


def plan(grid: Cutoffs, first: datetime, end: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `cutoffs` and `fits` for data that span [first, end).

    `live` stands at `end`. `evaluate` stands at the last grid point whose horizon the data cover,
    `tune` one horizon before. Windows need at least one horizon of history before them; a target
    without a window has no row in `fits` and is served by its baseline.
    """
    horizon = timedelta(days=grid.horizon_days)
    evaluate = _at_or_before(end - horizon, grid.weekday)
    targets = {"tune": evaluate - horizon, "evaluate": evaluate, "live": end}
    fits: list[dict[str, object]] = []
    cutoffs: set[datetime] = {t for t in targets.values() if t > first}
    for target, as_of in targets.items():
        latest = _at_or_before(as_of - horizon, grid.weekday)
        for nth in range(grid.windows):
            window = latest - timedelta(days=grid.step_days) * nth
            if window < first + horizon:
                continue
            cutoffs.add(window)
            fits.append(
                {
                    "target": target,
                    "as_of": as_of,
                    "horizon_end": as_of + horizon,
                    "window_as_of": window,
                    "window_horizon_end": window + horizon,
                }
            )
    moments = sorted(cutoffs)
    times = ["as_of", "horizon_end", "window_as_of", "window_horizon_end"]
    frame = pd.DataFrame(fits, columns=["target", *times]).sort_values(["target", "window_as_of"])
    for column in times:
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return (
        pd.DataFrame(
            {
                "as_of": pd.to_datetime(pd.Series(moments), utc=True),
                "horizon_end": pd.to_datetime(pd.Series([m + horizon for m in moments]), utc=True),
                "complete": [m + horizon <= end for m in moments],
                "target": [next((n for n, t in targets.items() if t == m), None) for m in moments],
            }
        ),
        frame.reset_index(drop=True),
    )


def _at_or_before(moment: datetime, weekday: str | None) -> datetime:
    """The last UTC midnight of a weekday (None: of any day) not after `moment`."""
    midnight = datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
    if weekday is None:
        return midnight
    return midnight - timedelta(days=(midnight.weekday() - _WEEKDAYS.index(weekday)) % 7)
