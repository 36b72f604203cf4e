"""How releases are judged, kept and watched."""

from typing import Literal

from pydantic import Field, field_validator

from recsys_assets.core.settings.base import Part

Task = Literal["all", "new"]


MARGIN: dict[Task, float] = {"all": 0.01, "new": 0.005}
"""A shop file changes one of them without naming the other."""


class Gate(Part):
    """When a new release may replace the one that is served.

    Differences are of NDCG at `evaluation.k`, means over users, with 95% intervals from a paired
    bootstrap.
    """

    margin: dict[Task, float] = MARGIN
    """How much worse, at most, an unchanged recipe or a slice of users may be."""
    changed_recipe: Literal["superior", "not_inferior"] = "superior"
    """What a changed recipe must be shown to be, on task all."""
    min_users: int = Field(default=200, ge=1)
    """With fewer users to measure on, differences are reported but decide nothing. Holds for
    slices too."""
    must_beat: list[str] = ["popularity_7d", "personal_frequency", "best_retriever"]
    """Models of the scoreboard; `best_retriever` is the best single retriever of the shop."""
    implausible_gain: float = Field(default=0.3, gt=0)
    """A gain on task all of this share is held back until somebody has found out why."""
    implausible_lead: float = Field(default=0.5, gt=0)
    """The same for a lead over what is simpler (the best single retriever; where things are often
    taken again, personal frequency), which a first release has to pass too."""
    implausible_auc: float = Field(default=0.95, gt=0.5, le=1)
    """A single feature that orders a user's candidates so well is a leak until somebody has found
    out why. On the default data the best one reaches .81."""
    max_cold_taken: float = Field(default=0.5, gt=0, le=1)
    """Of the items on offer that nobody had ever taken, the share that is taken within the horizon.
    Above it the catalogue was made of what sold. On the default data it is .10."""
    golden_users: list[str] = []
    """Users who must have lists that come from the ranker."""
    min_served: float = Field(default=0.99, ge=0, le=1)
    """Share of users who must have a list of every placement that promises one."""
    min_coverage: float = Field(default=0.5, ge=0)
    """Different items shown, as a share of what the served release shows."""
    min_overlap: float = Field(default=0.1, ge=0, le=1)
    """Share of a user's first ten items, on average, that they were shown before."""
    max_score_shift: float = Field(default=1.0, gt=0)
    """Population stability index of the live scores against the served release's, same recipe."""

    @field_validator("must_beat", mode="after")
    @classmethod
    def _once(cls, given: list[str]) -> list[str]:
        return list(dict.fromkeys(given))

    @field_validator("margin", mode="after")
    @classmethod
    def _both_margins(cls, given: dict[Task, float]) -> dict[Task, float]:
        return MARGIN | given


class Health(Part):
    """From where on drift and the health of the data are worth a warning. Nothing is blocked."""

    psi: float = Field(default=0.25, gt=0)
    """Population stability index of a feature or score: above 0.25 is a shift by rule of thumb."""
    volume: float = Field(default=0.5, gt=0, lt=1)
    """Last week against the median week before: below this share, or above its inverse."""
    concentration: float = Field(default=0.05, gt=0)
    """Change of the Gini coefficient of events over items, from 28 days to the next."""
    unseen: float = Field(default=0.02, ge=0)
    """Share of recent events on a category or brand that nobody had taken before."""
    unknown: float = Field(default=0.05, ge=0)
    """Share of recent events on items that the catalogue does not list (they are in quarantine)."""
    nulls: float = Field(default=0.1, ge=0)
    """Rise of the share of empty values in a column, recent events against earlier ones."""
    fallback: float = Field(default=0.2, ge=0)
    """Share of a placement's rows that only fill up what the candidates could not."""


class ReleaseSettings(Part):
    keep: int = Field(default=5, ge=1)
    """How many of the newest releases keep their tables. What is served and what was served before
    it are kept beyond that."""
    gate: Gate = Gate()
    health: Health = Health()
