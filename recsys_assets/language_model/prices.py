"""What tokens cost: the packaged, versioned price table, and the shop's own prices over it.

Belongs here: prices and the two sums made from them (an upper bound before, the cost after). Does
not belong here: caps and books (`ledger.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recsys_assets.core.settings.language_model import Price

_TABLE = Path(__file__).with_name("prices.json")
_MILLION = 1_000_000


class PriceMissingError(ValueError):
    """A model has no price, so no cap could hold: nothing may be sent to it."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more answers, as the service reports them; `input` is the uncached part."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )


@dataclass(frozen=True)
class Prices:
    """Prices by model. `version` names the table that a cost was computed with."""

    version: str
    models: Mapping[str, Price]

    @classmethod
    def load(cls, own: Mapping[str, Price] | None = None) -> "Prices":
        """The packaged table, with `own` prices in place of or beside its rows."""
        table = json.loads(_TABLE.read_text(encoding="utf-8"))
        models = {name: Price(**fields) for name, fields in table["models"].items()}
        version = table["version"] + ("+own" if own else "")
        return cls(version, models | dict(own or {}))

    def of(self, model: str) -> Price:
        """The price of `model`. Raises PriceMissingError, which says where to add one."""
        try:
            return self.models[model]
        except KeyError as error:
            raise PriceMissingError(
                f"language_model.model: there is no price for {model!r}, so its cost cannot be "
                "capped; add it under language_model.prices in the shop file, or use one of "
                f"{', '.join(sorted(self.models))}"
            ) from error

    def cost(self, model: str, usage: Usage, *, batch: bool = False) -> float:
        """Dollars for the `usage` of one answer."""
        price = self.of(model)
        dollars = (
            usage.input * price.input
            + usage.output * price.output
            + usage.cache_read * price.cache_read
            + usage.cache_write * price.cache_write
        ) / _MILLION
        prompt = usage.input + usage.cache_read + usage.cache_write
        if price.long_from is not None and prompt > price.long_from:
            dollars *= price.long_factor
        return dollars * (price.batch_factor if batch else 1.0)

    def upper_bound(
        self, model: str, prompt: str, max_tokens: int, *, batch: bool = False
    ) -> float:
        """The most one request can cost: every prompt token written to the cache, and the longest
        answer. A token is taken to be two ASCII characters or one byte of anything else; real
        tokenizers need some four characters of English."""
        ascii_only = len(prompt.encode("ascii", "ignore"))
        tokens = (ascii_only + 1) // 2 + len(prompt.encode()) - ascii_only
        price = self.of(model)
        dearest = max(price.input, price.cache_write)
        dollars = (tokens * dearest + max_tokens * price.output) / _MILLION
        if price.long_from is not None and tokens > price.long_from:
            dollars *= price.long_factor
        return dollars * (price.batch_factor if batch else 1.0)
