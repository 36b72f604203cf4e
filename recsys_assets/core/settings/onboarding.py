"""What a shop may say about users it hardly knows."""

from pydantic import Field

from recsys_assets.core.settings.base import Part


class Onboarding(Part):
    """Stated preferences, and how fast behaviour takes over from them."""

    k: float = Field(default=0.5, gt=0)
    """After n visits behaviour weighs (n + k) / (n + 2 k). Chosen on the tune target of the
    default data (docs/decisions/0010-behaviour-takes-over.md)."""
    few: int = Field(default=20, ge=0)
    """Up to so many visits answers count at all; beyond, the ranker alone decides."""
    questions: int = Field(default=4, ge=3, le=5)
    """How many questions are asked, the one for free words included."""
    options: int = Field(default=6, ge=2, le=12)
    """How many answers a question offers."""
    avoid: dict[str, list[str]] = {}
    """Further diets: a word people use, and the words of the catalogue it rules out. English ones
    are known (onboarding/diets.py)."""
