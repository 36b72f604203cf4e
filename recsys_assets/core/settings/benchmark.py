"""Public benchmarks that split every user's own history instead of time.

Belongs here: which split, and how equal times are ordered. Does not belong here: how the split
becomes a calendar (`staging/benchmark.py`).
"""

from typing import Literal

from recsys_assets.core.settings.base import Part


class Benchmark(Part):
    """A per-user split. It trains on other users' future, so nothing made with it is ever served.

    `leave_last` holds out each user's last taking, `last_fifth` the last fifth (rounded down).
    Equal times are put into a random order that `tie_seed` chooses: report the mean of several.
    """

    split: Literal["leave_last", "last_fifth"]
    tie_seed: int = 0

    @property
    def slot_days(self) -> int:
        """How long what is held out at once lasts on the benchmark's calendar.

        A day for a single taking, so that "the last 28 days" are a user's last 28 takings.
        """
        return 1 if self.split == "leave_last" else 28
