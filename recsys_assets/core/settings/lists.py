"""What people see: placements, business rules, and the words of reasons."""

from typing import Literal

from pydantic import Field

from recsys_assets.core.settings.base import Part

PLACEMENTS = ("for_you", "discover", "buy_again")
"""In the order people see them."""


class Placement(Part):
    length: int = Field(default=20, ge=1, le=1000)


class MaxPerCategory(Part):
    level: Literal[1, 2, 3] = 2
    n: int = Field(ge=1)


class FreshnessBoost(Part):
    days: int = Field(ge=1)
    weight: float = Field(ge=0)


class Exploration(Part):
    """A seeded slot for an item outside the list, with its propensity logged. Rate 0 = off."""

    rate: float = Field(default=0.0, ge=0, le=1)
    position: int = Field(default=10, ge=1)


class RuleSettings(Part):
    """Business rules. A category matches at any level of an item's path."""

    exclude_items: list[str] = []
    exclude_categories: list[str] = []
    sensitive_categories: list[str] = []
    """Never named in a reason, and never a basis for recommending something else."""
    max_per_category: MaxPerCategory | None = None
    diversity_lambda: float = Field(default=1.0, ge=0, le=1)
    """λ of maximal marginal relevance: 1 = order by score alone, lower = more diverse."""
    freshness_boost: FreshnessBoost | None = None
    exploration: Exploration = Exploration()
    markets: list[str] = []
    """Recommend only items of these markets; empty = all."""


class Wording(Part):
    """The shop's words in reasons: `You {past} this`, `a category you {present} often`,
    `312 {people}`."""

    past: str = Field(default="bought", max_length=20)
    present: str = Field(default="buy", max_length=20)
    people: str = Field(default="households", max_length=20)
