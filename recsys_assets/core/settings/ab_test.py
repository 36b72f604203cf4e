"""An A/B test that a shop runs on what it shows.

Belongs here: its plan. Does not belong here: who is in which arm (whoever answers requests decides,
and logs it with the exposures), and what came of it (`evaluation/ab_test.py`).
"""

from math import isclose
from typing import Annotated

from pydantic import Field, model_validator

from recsys_assets.core.settings.base import Part
from recsys_assets.core.settings.calendar import Day


class AbTest(Part):
    """The plan, written down before the test begins."""

    arms: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    """Arm, as the exposures name it -> the share of users it is meant to get."""
    control: str
    """The arm that the others are compared with."""
    starts: Day
    ends: Day
    """Users enter with their first exposure in [starts, ends), UTC midnights."""
    days: int = Field(default=14, ge=1)
    """What a user takes in so many days from then on counts; until `ends` and so many days later
    everybody stays in their arm."""

    @model_validator(mode="after")
    def _whole(self) -> "AbTest":
        if self.ends <= self.starts:
            raise ValueError("ends must be after starts")
        if self.control not in self.arms or len(self.arms) < 2:
            raise ValueError(f"arms must name the control {self.control!r} and another one")
        if not isclose(sum(self.arms.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"shares of arms must add up to 1, not {sum(self.arms.values()):g}")
        return self
