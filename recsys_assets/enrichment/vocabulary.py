"""The closed sets of terms an enrichment may use.

Belongs here: the fixed terms (uses, appeal, audience), and the terms a catalogue brings (product
types, words). Does not belong here: who picks terms for an item (`extractive.py`, `claude.py`).

Whatever writes an enrichment, every string in it is one of these terms: a text that talks a model
into something else cannot get that something any further.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

USES = (
    "breakfast", "lunch", "dinner", "snack", "drink", "baking", "cooking", "dessert", "party",
    "gift", "cleaning", "laundry", "personal care", "health", "baby care", "pet care", "school",
    "office", "garden", "home repair", "decoration", "clothing", "travel", "sport", "entertainment",
    "reading", "learning",
)  # fmt: skip

APPEAL = (
    "low price", "premium", "store brand", "large pack", "small pack", "organic", "light",
    "seasonal", "for children", "convenient", "fresh", "frozen", "classic", "new",
)  # fmt: skip

AUDIENCES = (
    "families with children", "parents of babies", "singles", "couples", "older people",
    "young adults", "pet owners", "bakers and cooks", "health-conscious people",
    "price-conscious people", "hosts", "hobbyists", "everyone",
)  # fmt: skip

MOST_TYPES = 400
"""Product types are the values of the deepest category level with no more than so many."""

KINDS = 5
KIND_ITEMS = 5
"""A type is explained by so many categories below it, those of at least so many items."""

_WORD = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True)
class Vocabulary:
    """The terms of one catalogue. `level` is the category level its product types come from."""

    level: str
    types: tuple[str, ...]
    words: frozenset[str]
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each product type the commonest categories below it: what its name stands for."""


def words_of(text: str) -> list[str]:
    """The words of a text in the order they come, lower case, letters only."""
    return _WORD.findall(text.lower())


def type_level(items: pd.DataFrame) -> str:
    """The category level whose values serve as product types."""
    for level in ("category_3", "category_2"):
        if 1 < items.loc[items[level] != "", level].nunique() <= MOST_TYPES:
            return level
    return "category_1"


def vocabulary(items: pd.DataFrame, texts: Iterable[str]) -> Vocabulary:
    """The terms of a catalogue: its product types, and the words at least two texts use."""
    level = type_level(items)
    counted: dict[str, int] = {}
    for text in texts:
        for word in set(words_of(text)):
            counted[word] = counted.get(word, 0) + 1
    types = np.sort(items.loc[items[level] != "", level].unique())
    known = frozenset(w for w, n in counted.items() if n > 1)
    return Vocabulary(level, tuple(types), known, _kinds(items, level))


def _kinds(items: pd.DataFrame, level: str) -> dict[str, tuple[str, ...]]:
    below = {"category_1": "category_2", "category_2": "category_3"}.get(level)
    if below is None:
        return {}
    rows = items[(items[level] != "") & (items[below] != "")]
    counted = rows.groupby([level, below]).size().rename("items").reset_index()
    counted = counted[counted["items"] >= KIND_ITEMS]
    counted = counted.sort_values(["items", below], ascending=[False, True])
    names = counted.groupby(level)[below].agg(tuple)
    return {str(name): found[:KINDS] for name, found in names.items()}
