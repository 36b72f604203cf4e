"""Time: partitions of the raw table, which times are plausible, and the grid of cutoffs."""

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from recsys_assets.core.settings.base import Part


def _written_as_date(value: Any) -> Any:
    # They would be read as seconds since 1970.
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdigit()):
        raise ValueError(f"{value} is not a date; write one like 2024-01-31")
    return value


Day = Annotated[dt.date, BeforeValidator(_written_as_date)]


class Partitions(Part):
    """The raw table's partitions by UTC time: months for long histories, days for short ones.

    `end` (exclusive) closes a finished data set; null = partitions go on with the calendar. Events
    outside [start, end) have no partition and go to quarantine."""

    granularity: Literal["day", "month"] = "month"
    start: Day
    end: Day | None = None
    tolerated: int = Field(default=0, ge=0)
    """How many partitions may be unapproved while later stages go on without them."""

    @model_validator(mode="after")
    def _ordered(self) -> "Partitions":
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if self.granularity == "month" and any(d and d.day != 1 for d in (self.start, self.end)):
            raise ValueError("with granularity: month, start and end must be first days of a month")
        return self


class Plausible(Part):
    """Times outside are mistakes (1970, a millisecond read as a second) and go to quarantine."""

    earliest: Day = dt.date(1990, 1, 1)
    latest: Annotated[Day, Field(le=dt.date(9999, 12, 30))] | None = None
    max_age_days: int | None = Field(default=None, ge=1, le=36_525)
    """Events older than this when their file arrives are late. What comes with the shop's first
    data is history and may be older. Needs `arrival`."""
    clock_skew_minutes: int = Field(default=10, ge=0, le=1_000_000)
    """How far a source's clock may run ahead of ours."""

    @model_validator(mode="after")
    def _ordered(self) -> "Plausible":
        if self.latest is not None and self.latest < self.earliest:
            raise ValueError("latest must not be before earliest")
        return self


class Cutoffs(Part):
    """The grid of moments at which models are trained, tuned and evaluated: UTC midnights of one
    weekday, or of every day (`weekday: null`)."""

    horizon_days: int = Field(default=28, ge=1)
    step_days: int = Field(default=14, ge=1)
    windows: int = Field(default=4, ge=1)
    users_per_window: int = Field(default=5_000, ge=1)
    """A window is learned from at most so many users, the next one from others."""
    weekday: (
        Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None
    ) = "monday"
