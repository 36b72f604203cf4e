"""Enrichment by the language model: the question, and what of its answer is believed.

Belongs here: the task (instructions, schema), and the check of an answer against the vocabularies.
Does not belong here: sending, money, retries (`language_model/`), which items are asked about.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from recsys_assets.content.categories import CATEGORY_COLUMNS
from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.enrichment.vocabulary import APPEAL, AUDIENCES, USES, Vocabulary
from recsys_assets.language_model.answer import Answer
from recsys_assets.language_model.request import ItemText, Task, build, clean

NAME = "enrichment"
VERSION = "2"
"""Changes with the instructions below; every answer is paid for anew under a new version."""

INSTRUCTIONS = """\
Describe one item of the catalogue so that a recommender can place it although nobody has bought it
yet. Judge by what the item is, not by what its text says about itself.

audience: for whom it is made. uses: what it is used for. comparable_types: the product types a
buyer would consider in its place. complements: the product types that go with it, in the same
basket or the same evening. appeal: what speaks for it. keywords: at most six words from the item's
own text that say best what it is.

Take product types only from this list, spelled exactly as they stand before the arrow; after it
are some of the things that belong to the type:
"""

Few = Annotated[list[str], Field(max_length=6)]


class Enrichment(BaseModel):
    """What the model says about one item. Longer lists and other terms are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    audience: Annotated[list[Literal[AUDIENCES]], Field(max_length=4)]  # type: ignore[valid-type]
    uses: Annotated[list[Literal[USES]], Field(max_length=4)]  # type: ignore[valid-type]
    comparable_types: Few
    keywords: Few
    appeal: Annotated[list[Literal[APPEAL]], Field(max_length=4)]  # type: ignore[valid-type]
    complements: Few


def task(vocabulary: Vocabulary) -> Task:
    """The question about an item of a catalogue with this vocabulary."""
    # Answers name types exactly, so one that cannot be sent as it stands is not offered.
    sendable = [name for name in vocabulary.types if clean(name) == name]
    listed = "\n".join(_line(name, vocabulary.kinds.get(name, ())) for name in sendable)
    return Task(NAME, VERSION, INSTRUCTIONS + listed, ItemText, Enrichment)


def _line(name: str, kinds: Sequence[str]) -> str:
    """A type as the question lists it. Names are the shop's own, but cleaned like all texts."""
    explained = "; ".join(clean(kind) for kind in kinds)
    return f"{name} => {explained}" if explained else name


def payloads(items: pd.DataFrame, texts: Sequence[str]) -> list[ItemText]:
    """What is sent about each of `texts`: the fields of its first item, by item_id."""
    first = items.sort_values("item_id").drop_duplicates("text").set_index("text")
    rows = first.loc[list(texts), ["title", *CATEGORY_COLUMNS]]
    return [
        ItemText(str(title), " > ".join(str(p) for p in path if p), "", text)
        for text, (title, *path) in zip(texts, rows.itertuples(index=False), strict=True)
    ]


def keys(items: pd.DataFrame, settings: LanguageModelSettings) -> frozenset[str]:
    """Of the answers that are kept, those about a text of the catalogue `items`, as it would be
    asked about now. The vocabulary is no part of a key."""
    question = task(Vocabulary("", (), frozenset()))
    return frozenset(
        build(question, payload, settings.model, settings.effort).key
        for payload in payloads(items, sorted(items["text"].unique()))
    )


UNKNOWN_TYPE = "unknown type"


def accept(answer: Answer, vocabulary: Vocabulary) -> tuple[Enrichment | None, str, int]:
    """(enrichment, problem, words dropped).

    One product type outside the vocabulary refuses the whole answer: who makes one up may have
    been talked into it. Keywords outside the catalogue's words are dropped and counted.
    """
    found = answer.content
    if not isinstance(found, Enrichment):
        return None, answer.problem, 0
    types = set(vocabulary.types)
    if not types.issuperset([*found.comparable_types, *found.complements]):
        return None, UNKNOWN_TYPE, 0
    kept = [w for w in found.keywords if w in vocabulary.words]
    clean = {
        name: list(dict.fromkeys(getattr(found, name))) for name in Enrichment.model_fields
    } | {"keywords": list(dict.fromkeys(kept))}
    return Enrichment(**clean), "", len(found.keywords) - len(kept)
