"""From answers to a profile: queries, their vectors, and bans.

Belongs here: what a set of answers means, and the profile as a frame. Does not belong here: reading
free words (`preferences.py`, `reading.py`), choosing questions, items.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.core.config import Shop
from recsys_assets.onboarding.diets import DIETS
from recsys_assets.onboarding.preferences import Preferences, bans, stems
from recsys_assets.onboarding.questions import AVOID, LIKES
from recsys_assets.onboarding.shelf import Shelf, Words

SITTING = pd.Timedelta(minutes=10)
"""Answers to one question within this time of the newest belong to it; older ones are replaced."""

MAX_PROFILE = 12
"""Queries of one profile."""

CONTEXT = 0.3
"""Weight of a sentence's embedding beside that of a query taken from it."""

Reader = Callable[[str], tuple[Preferences, str]]
"""Reads free words: the preferences and their source, `key_terms` or `claude`."""
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Profile:
    """What one user said: (query, source, context) in order, and stems to avoid. The context is the
    sentence that a query was taken from, '' where it speaks for itself."""

    queries: tuple[tuple[str, str, str], ...]
    avoid: frozenset[str]


def standing(answers: pd.DataFrame, as_of: datetime | pd.Timestamp) -> pd.DataFrame:
    """The answers before `as_of` that no later sitting has replaced, in a fixed order."""
    known = answers[answers["answered_at"] < pd.Timestamp(as_of)]
    newest = known.groupby(["user_id", "question_id"])["answered_at"].transform("max")
    kept = known[known["answered_at"] >= newest - SITTING]
    kept = kept.sort_values(["user_id", "question_id", "answered_at", "answer"], kind="stable")
    return kept.drop_duplicates(["user_id", "question_id", "answer"]).reset_index(drop=True)


def profile(
    answers: Sequence[tuple[str, str]],
    read: Reader,
    diets: Mapping[str, Iterable[str]] = DIETS,
) -> Profile:
    """What (question_id, answer) pairs say.

    A question is known by the first word of its id: `likes_…` chose a category, `avoid` chose a
    diet or a thing; the answer to any other question is read as free words. So an answer keeps its
    meaning when the questions change.
    """
    queries: list[tuple[str, str, str]] = []
    avoid: set[str] = set()
    for question, answer in answers:
        kind = question.split("_")[0]
        if kind == LIKES:
            queries.append((" ".join(answer.split()), "answer", ""))
        elif kind == AVOID:
            avoid |= bans(answer, diets)
        else:
            wishes, source = read(answer)
            avoid |= wishes.avoid
            queries += [(q, source, wishes.contexts.get(q, "")) for q in wishes.queries]
    wanted: dict[str, tuple[str, str, str]] = {}
    for query in queries:
        if query[0] and not set(stems(query[0])) <= avoid:
            wanted.setdefault(query[0], query)
    return Profile(tuple(wanted.values())[:MAX_PROFILE], frozenset(avoid))


def as_frame(
    profiles: Mapping[str, Profile],
    words: Words,
    encode: Encode,
    as_of: pd.Timestamp,
    unnamed: frozenset[str] = frozenset(),
) -> pd.DataFrame:
    """Rows of `stated_preferences`. Words with stems of `unnamed` are searched for, but never
    become a term that may be shown."""
    rows = []
    asked = []
    for user, said in profiles.items():
        avoid = json.dumps(sorted(said.avoid))
        queries = said.queries or ((("", "key_terms", ""),) if said.avoid else ())
        for place, (query, source, context) in enumerate(queries, start=1):
            terms = catalogue_terms(query, words, unnamed)
            rows.append((user, place, query, source, terms, avoid))
            asked.append((query, context))
    columns = ["user_id", "place", "query", "source", "terms", "avoid"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["vector"] = pd.Series(query_vectors(asked, encode), dtype=object)
    return frame.assign(as_of=as_of).sort_values(["user_id", "place"], ignore_index=True)


def query_vectors(
    asked: Sequence[tuple[str, str]], encode: Encode
) -> list[npt.NDArray[np.float32]]:
    """Unit vectors of (query, context) pairs: the query's embedding, moved towards that of the
    sentence it was taken from, if there is one. Each distinct text is encoded once."""
    texts = sorted({query for query, _ in asked} | {context for _, context in asked if context})
    known = dict(zip(texts, encode(texts), strict=True)) if texts else {}
    made = []
    for query, context in asked:
        vector = known[query] + CONTEXT * known[context] if context else known[query]
        made.append((vector / np.linalg.norm(vector)).astype(np.float32))
    return made


def catalogue_terms(query: str, words: Words, unnamed: frozenset[str]) -> str:
    """The words of a query that the catalogue has and that may be named in a reason."""
    return " ".join(
        w for w in query.split() if words.known(stems(w)) and not set(stems(w)) & unnamed
    )


def unnamed_stems(shop: Shop) -> frozenset[str]:
    """The words of sensitive categories, which no reason ever names."""
    return frozenset(word for name in shop.rules.sensitive_categories for word in stems(name))


def visits(known: pd.DataFrame, users: pd.Series) -> pd.Series:
    """How many visits each of `users` is known to have made: sessions with something taken."""
    taken = known[known["counts_as_taken"].to_numpy(dtype=bool) & known["user_id"].isin(users)]
    own = taken["session_id"].fillna(taken["event_time"].astype(str))
    counts = own.groupby(taken["user_id"]).nunique()
    return counts.reindex(pd.Index(users).unique()).fillna(0).astype(int)


def candidates(preferences: pd.DataFrame, shelf: Shelf) -> pd.DataFrame:
    """For every profile of `stated_preferences` its items, best first, as `user_id, item_id, place,
    wished, terms`. Profiles that say the same are searched once.
    """
    found: dict[tuple[object, ...], pd.DataFrame] = {}
    parts = []
    for user, rows in preferences.groupby("user_id", sort=True):
        wished = rows[rows["query"] != ""].sort_values("place")
        vectors = [np.asarray(v, dtype=np.float32) for v in wished["vector"]]
        key = (*wished["query"], *(v.tobytes() for v in vectors), rows["avoid"].iloc[0])
        if key not in found:
            made = shelf.candidates(
                list(wished["query"]),
                vectors,
                frozenset(json.loads(rows["avoid"].iloc[0])),
            )
            terms = np.array([*wished["terms"], ""], dtype=object)
            query = made["query"].to_numpy()
            found[key] = made.assign(wished=query >= 0, terms=terms[query])
        parts.append(found[key].assign(user_id=user))
    columns = ["user_id", "item_id", "place", "wished", "terms"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
