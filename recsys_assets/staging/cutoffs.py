"""The grid of cutoffs and which label windows train which target.

Belongs here: arithmetic on dates. Does not belong here: reading events, or the clock.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import pandas as pd

TARGETS = ("tune", "evaluate", "live")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Grid:
    """Grid of UTC midnights, of one weekday or (None) of every day: labels look `horizon_days`
    ahead, windows lie `step_days` apart, and each target is trained by at most `windows` of them.
    """

    horizon_days: int = 28
    step_days: int = 14
    windows: int = 4
    weekday: str | None = "monday"

    @property
    def horizon(self) -> timedelta:
        return timedelta(days=self.horizon_days)

    def at_or_before(self, moment: datetime) -> datetime:
        """The last grid point not after `moment`."""
        midnight = datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
        if self.weekday is None:
            return midnight
        back = (midnight.weekday() - _WEEKDAYS.index(self.weekday)) % 7
        return midnight - timedelta(days=back)


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


def plan(grid: Grid, first: datetime, end: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `cutoffs` and `fits` for data that span [first, end).

    `live` stands at `end`. `evaluate` stands at the last grid point whose horizon the data cover,
    `tune` one horizon before. Windows need at least one horizon of history before them; a target
    without a window has no row in `fits` and is served by its baseline.
    """
    evaluate = grid.at_or_before(end - grid.horizon)
    targets = {"tune": evaluate - grid.horizon, "evaluate": evaluate, "live": end}
    earliest = first + grid.horizon
    fits: list[dict[str, object]] = []
    cutoffs: set[datetime] = {t for t in targets.values() if t > first}
    for target in TARGETS:
        as_of = targets[target]
        latest = grid.at_or_before(as_of - grid.horizon)
        for nth in range(grid.windows):
            window = latest - timedelta(days=grid.step_days) * nth
            if window < earliest:
                continue
            cutoffs.add(window)
            fits.append(
                {
                    "target": target,
                    "as_of": as_of,
                    "horizon_end": as_of + grid.horizon,
                    "window_as_of": window,
                    "window_horizon_end": window + grid.horizon,
                }
            )
    moments = sorted(cutoffs)
    columns = ["target", "as_of", "horizon_end", "window_as_of", "window_horizon_end"]
    times = columns[1:]
    frame = pd.DataFrame(fits, columns=columns).sort_values(["target", "window_as_of"])
    for column in times:
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return (
        pd.DataFrame(
            {
                "as_of": pd.to_datetime(pd.Series(moments), utc=True),
                "horizon_end": pd.to_datetime(
                    pd.Series([m + grid.horizon for m in moments]), utc=True
                ),
                "complete": [m + grid.horizon <= end for m in moments],
                "target": [next((n for n, t in targets.items() if t == m), None) for m in moments],
            }
        ),
        frame.reset_index(drop=True),
    )
