"""Reading somebody's own words with the language model, where there is one.

Belongs here: the task, and the check of what comes back. Does not belong here: the client, and
reading without a model (`preferences.py`), which stands in whenever there is no usable answer.

What the model leaves out is never lifted: a ban that the words alone give stays a ban.
"""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, Field

from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.request import Task, Wish
from recsys_assets.onboarding.diets import DIETS
from recsys_assets.onboarding.preferences import (
    MAX_QUERIES,
    MAX_WORDS,
    Preferences,
    bans,
    read_words,
    stems,
)
from recsys_assets.onboarding.shelf import Words

LONGEST = 60
"""Characters of one query or ban."""


class Reading(BaseModel, extra="forbid", strict=True):
    queries: list[str] = Field(description="short search queries, each about something different")
    avoid: list[str] = Field(description="single words for things that must not be shown")


TASK = Task(
    name="wish",
    version="1",
    instructions=(
        "`words` is what a new customer typed about what they like. Turn it into at most "
        f"{MAX_QUERIES} search queries for the shop's catalogue, each of at most {MAX_WORDS} "
        "words, each about something different, in the words a catalogue would use: kinds of "
        "products, cuisines, uses. Do not repeat names or anything personal. List in `avoid` "
        "single words for whatever they do not want, diets spelled out (a vegetarian avoids meat, "
        "beef, pork, chicken, fish, ...). If there is no wish, leave the lists empty."
    ),
    payload=Wish,
    answer=Reading,
    max_tokens=500,
)


def read(
    text: str,
    words: Words,
    model: LanguageModel | None,
    diets: Mapping[str, Iterable[str]] = DIETS,
) -> tuple[Preferences, str]:
    """The preferences in `text`, and who read them: `claude` or `key_terms`.

    Without a model, or when its answer is refused or names nothing, the words alone are read.
    """
    by_words = read_words(text, words.postings, diets)
    if model is None or not text.strip():
        return by_words, "key_terms"
    answer = answer_all(model, TASK, [Wish(text)])[0]
    if not isinstance(answer.content, Reading):
        return by_words, "key_terms"
    checked = accepted(answer.content, by_words.avoid, diets)
    if not checked.queries and not checked.avoid:
        return by_words, "key_terms"
    return checked, "claude"


def accepted(
    reading: Reading, avoid: frozenset[str], diets: Mapping[str, Iterable[str]] = DIETS
) -> Preferences:
    """What of a model's reading may be used: short plain queries that no ban rules out. `diets` as
    in `read_words`."""
    found = set(avoid)
    for word in reading.avoid[:50]:
        if len(word) <= LONGEST and len(stems(word)) == 1:
            found |= bans(word, diets)
    queries = []
    for query in reading.queries[:MAX_QUERIES]:
        words = stems(query)
        if 0 < len(words) <= 2 * MAX_WORDS and len(query) <= LONGEST and not set(words) <= found:
            queries.append(" ".join(query.split()).casefold())
    return Preferences(tuple(dict.fromkeys(queries)), frozenset(found))
