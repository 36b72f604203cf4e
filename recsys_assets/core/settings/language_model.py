"""How a shop uses the language model: which one, how much money, how much patience.

The key is not here: it comes from the environment variable ANTHROPIC_API_KEY alone. Without it, or
with `enabled: false`, nothing is ever sent.
"""

from typing import Literal

from pydantic import Field

from recsys_assets.core.settings.base import Part


class Price(Part):
    """Dollars per million tokens. Prompts longer than `long_from` tokens cost `long_factor` more;
    requests of a batch cost `batch_factor` of the price."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_write: float = Field(ge=0)
    cache_read: float = Field(ge=0)
    batch_factor: float = Field(default=1.0, gt=0, le=1)
    long_from: int | None = Field(default=None, ge=1)
    long_factor: float = Field(default=1.0, ge=1)


class LanguageModelSettings(Part):
    """The section `language_model` of the shop file."""

    enabled: bool = True
    """false = never used, key or not."""
    model: str = "claude-haiku-5-5"
    effort: Literal["low", "medium", "high"] | None = "low"
    """How much the model thinks before it answers; null = the model's own default."""
    dollars_per_run: float = Field(default=1.0, ge=0)
    dollars_per_month: float = Field(default=10.0, ge=0)
    """Hard caps, checked before every request with an upper bound of its cost."""
    call_seconds: float = Field(default=30.0, gt=0)
    """One request, retries included."""
    run_seconds: float = Field(default=900.0, gt=0)
    """Everything one asset asks, waiting for a batch included."""
    attempts: int = Field(default=3, ge=1, le=10)
    batch_from: int = Field(default=40, ge=1)
    """From this many requests on they go as one batch, at the batch price."""
    prices: dict[str, Price] = {}
    """Prices of models that the packaged table lacks or that your contract changes."""
