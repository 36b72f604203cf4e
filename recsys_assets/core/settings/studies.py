"""How much the scheduled studies do: spread over cutoffs, ablations, tuning. `make run` does none.

Belongs here: budgets. Does not belong here: what is measured (`evaluation`), and any setting that
changes what is shown.
"""

from pydantic import Field

from recsys_assets.core.settings.base import Part


class Studies(Part):
    cutoffs: int = Field(default=3, ge=1)
    """At how many cutoffs the whole recipe is measured: the evaluate target, and earlier ones a
    horizon apart (the tune target is left out: settings were chosen on it)."""
    users: int = Field(default=500, ge=10)
    """How many users ablations look at and tuning searches on."""
    trials: int = Field(default=20, ge=1)
    """How many settings of each ranker tuning tries."""
