"""When a shop's jobs run by themselves, and when somebody is told."""

from typing import Literal

from pydantic import Field

from recsys_assets.core.settings.base import Part

_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"


class Automation(Part):
    """Times are wall-clock times of `time_zone`, across daylight-saving changes."""

    time_zone: str | None = None
    """IANA zone of the times below; null = the shop's `time_zone`."""
    daily_at: str = Field(default="04:30", pattern=_CLOCK)
    """The run that builds and publishes."""
    weekly_on: Literal[
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
    ] = "sunday"
    weekly_at: str = Field(default="01:30", pattern=_CLOCK)
    """The run that also tunes and evaluates at many cutoffs, on `weekly_on`."""
    retention_at: str = Field(default="00:45", pattern=_CLOCK)
    """The run that removes what is kept no longer (section `retention`)."""
    stale_after_hours: float | None = Field(default=None, gt=0)
    """How old the data behind what is served may be before somebody is told; null = 60 hours for
    daily partitions, 35 days for monthly ones."""
    alert_again_hours: float = Field(default=24, gt=0)
    """The same trouble is told again after so long, not at every look."""
