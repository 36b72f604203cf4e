"""From what somebody says they like to search queries and to what must not be shown.

Belongs here: reading one text by its words, against the catalogue's own vocabulary. Does not belong
here: vectors and items (`shelf.py`), asking a language model (`reading.py`).

No model is needed: clauses are cut at punctuation, what follows a negation is avoided, diets rule
out what they stand for, and what is left between ordinary words are the queries.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from recsys_assets.onboarding.diets import CARRIERS, DIETS, GROUPS, LIFTED
from recsys_assets.onboarding.ordinary import (
    AILMENTS,
    EATING,
    LISTING,
    NEGATIONS,
    ORDINARY,
    SUBJECTS,
    WITHIN,
)

MAX_QUERIES = 8
"""More wishes than this are not searched for."""

MAX_WORDS = 4
"""A query has at most so many words."""

MAX_CHARACTERS = 2_000
"""What is said beyond is not read."""

_FREE = r"[^\W\d_]+[\s-]free\b(?!\s+(?:range|of|from)\b)|[^\W\d_]{3,}frei(?:e[mnrs]?)?\b"
_NON = r"\bnon[\s-][^\W\d_]+"
_CLAIM = re.compile(f"{_FREE}|{_NON}")
"""What says that something is not in it: "meat-free", "sugar free", "zuckerfrei", "non-dairy"."""

_WORD = re.compile(rf"{_FREE}|{_NON}|[^\W_]+(?:['’][^\W_]+)?")
_SENTENCE_END = re.compile(
    r"[.;:!?()\n\r]+|\s[-–—]+\s|\b(?:but|however|although|though|aber)\b"
    r"|\band\s+(?=(?:i|we|he|she|they|my|our|like|love|want|enjoy|prefer)\b)"
    r"|\bund\s+(?=(?:ich|wir|er|sie|mein|unser|mag|mögen|liebe|lieben)\b)"
)
_PRAISE = re.compile(
    r"\b(?:can't|cannot|cant|could never|couldn't|never) (?:get|have) enough(?: of)?\b"
    r"|\b(?:can't|cannot|cant|couldn't|could not) (?:live|do|be) without\b"
    r"|\b(?:can't|cannot|cant|couldn't|could not) (?:resist|wait for)\b"
    r"|\b(?:nicht|nie) genug(?: von)?\b"
)
"""What holds a word of negation and praises: "can't get enough chocolate"."""

_REFUSAL = re.compile(
    r"\b(?:anything|everything|all) but\b"
    r"|\bfree (?:of|from)\b|\bfrei von\b"
    r"|\b(?:gave|given|giving) up(?: on)?\b"
    r"|\bcut(?:ting)? (?:down on|back on|out)\b"
    r"|\b(?:stopped|quit) (?:eating|drinking|buying)\b"
)
"""What refuses without a word of negation: "anything but pork"."""
_HEADING = re.compile(rf"\b({'|'.join(sorted(NEGATIONS))})\s*:")
"""Before a list: "allergies: peanuts, shrimp"."""


@dataclass(frozen=True)
class Preferences:
    """What somebody wants: texts to search for, in the order they were said, and words to avoid.

    `contexts` has the sentence that a query was taken from, without what is avoided in it: it tells
    which dogs, and whose formula, is meant.
    """

    queries: tuple[str, ...]
    avoid: frozenset[str] = frozenset()
    contexts: Mapping[str, str] = field(default_factory=dict)


def stem(word: str) -> str:
    """A word in the form in which words are compared: lower case, singular."""
    word = word.casefold().replace("’", "'").removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "oes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def stems(text: str) -> list[str]:
    """The words of a text, in order, as `stem` gives them; "sugar free" is one word, which is
    neither "sugar" nor "free"."""
    return [_term(word) for word in _WORD.findall(text.casefold())]


def read_words(
    text: str,
    vocabulary: Collection[str] = frozenset(),
    diets: Mapping[str, Iterable[str]] = DIETS,
) -> Preferences:
    """The wishes and the bans in `text`.

    `vocabulary` are the stems of the catalogue's words: a long word that is not among them is
    replaced by the one that it misspells, if there is exactly one close enough. `diets` maps a word
    to the words it rules out. A text without any wish gives no query.
    """
    text = text[:MAX_CHARACTERS].casefold().replace("’", "'")
    avoid: set[str] = set()
    contexts: dict[str, str] = {}
    ruled = {stem(word): words for word, words in diets.items()}
    for claim in _CLAIM.findall(text):
        diet = ruled.get(stem(claim))
        avoid |= _banned(_claimed(claim)) if diet is None else {stem(w) for w in diet}
        if _term(claim) in vocabulary:
            contexts[" ".join(claim.split())] = ""
    text = _PRAISE.sub(" love ", _CLAIM.sub(" ", text))
    text = _HEADING.sub(r"\1 ", _REFUSAL.sub(" avoid ", text))
    for sentence in _SENTENCE_END.split(text):
        queries: list[str] = []
        said: list[str] = []
        for wanted, unwanted in _clauses(sentence, ruled):
            for word in unwanted:
                avoid |= _banned(word)
            for word in wanted:
                avoid |= {stem(w) for w in ruled.get(stem(word), ())}
            said += wanted
            for run in _runs(wanted):
                for first in range(0, len(run), MAX_WORDS):
                    words = [_corrected(w, vocabulary) for w in run[first : first + MAX_WORDS]]
                    queries.append(" ".join(words))
        for query in queries:
            contexts.setdefault(query, " ".join(said))
    kept = [q for q in contexts if not set(stems(q)) <= avoid][:MAX_QUERIES]
    return Preferences(tuple(kept), frozenset(avoid), {q: contexts[q] for q in kept})


def avoided(words: Collection[str], avoid: Collection[str]) -> bool:
    """Whether an item with these stems is ruled out by the stems of `avoid`.

    "meat-free" and "non-dairy" lift the ban on that word, "gluten-free" also that on what usually
    contains gluten (`diets.CARRIERS`), a word of `diets.LIFTED` lifts all.
    """
    has, out = set(words), set(avoid)
    if has & _LIFTED:
        return False
    for thing, carriers in _CARRIERS.items():
        if thing in out and {f"{thing}-free", f"{thing}frei"} & has:
            out -= carriers
    return any(not {f"{w}-free", f"non-{w}", f"{w}frei"} & has for w in has & out)


def bans(word: str, diets: Mapping[str, Iterable[str]] = DIETS) -> frozenset[str]:
    """The stems that a diet ("vegan") or a thing ("nuts") somebody avoids rules out."""
    key = stem(word)
    named = {stem(name): words for name, words in diets.items()}
    if key in named:
        return frozenset(map(stem, named[key]))
    return frozenset(_banned(word.casefold()))


def refused(
    text: str, avoid: Collection[str], diets: Mapping[str, Iterable[str]] = DIETS
) -> tuple[str, ...]:
    """The words of `text` that the bans `avoid` were read from, as they were said."""
    found = []
    for word in _WORD.findall(text[:MAX_CHARACTERS].casefold().replace("’", "'")):
        ruled_out = bans(word, diets)
        if _CLAIM.fullmatch(word) and not ruled_out <= set(avoid):
            ruled_out = bans(_claimed(word), diets)
        if ruled_out and ruled_out <= set(avoid):
            found.append(word)
    return tuple(dict.fromkeys(found))


_LIFTED = frozenset(stem(word) for word in LIFTED)
_CARRIERS = {thing: frozenset(map(stem, words)) for thing, words in CARRIERS.items()}


def _clauses(sentence: str, diets: Collection[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Wanted and unwanted words of a sentence, clause by clause.

    A negation reaches over commas as long as a list goes on: "no onions, garlic or nuts".
    """
    pieces = [words for piece in sentence.split(",") if (words := _WORD.findall(piece))]
    reach = -1
    for place, words in enumerate(pieces):
        wanted, unwanted = _split(words)
        if unwanted:
            reach = _end_of_list(pieces, place, _lists(words[len(wanted) :]), diets)
        elif place <= reach:
            wanted, unwanted = [], words
        yield wanted, unwanted


def _lists(refusal: Sequence[str]) -> bool:
    """Whether what is named next, after a comma, is refused too: "I avoid pork, beef", but not "no
    meat, thai food". `refusal` begins with the word of negation."""
    word, named = refusal[0], refusal[1:]
    if all(w in ORDINARY for w in named):
        return False
    can_not = word in ("can't", "cannot", "cant")
    return word in LISTING or named[0] in EATING or (can_not and named[0] == "have")


def _end_of_list(pieces: list[list[str]], start: int, lists: bool, diets: Collection[str]) -> int:
    """The last of the pieces that continue the list begun in piece `start`: up to the last "or" or
    the last that names only what people often leave out ("no onions, garlic, nuts"), and where the
    refusal `lists`, those that name things and say nothing else."""
    end = start
    for place in range(start + 1, len(pieces)):
        piece = set(pieces[place])
        if piece & SUBJECTS or piece & NEGATIONS or any(stem(w) in diets for w in piece):
            break
        named = piece - {"and", "und"}
        bare = not (named & ORDINARY) - WITHIN
        goes_on = bool(piece & {"or", "nor", "oder", "noch"}) or all(
            stem(w) in GROUPS for w in named
        )
        if goes_on or (lists and bare and end == place - 1):
            end = place
    return end


def _split(clause: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first negation, and those behind it."""
    for place, word in enumerate(clause):
        if word not in NEGATIONS or (word == "not" and clause[place + 1 : place + 2] == ["only"]):
            continue
        before, after = clause[:place], clause[place + 1 :]
        if word in AILMENTS and before and before[-1] not in ORDINARY:
            return before[:-1], [before[-1], *after]  # "a nut allergy", "lactose intolerant"
        return before, after
    return clause, []


def _runs(words: list[str]) -> Iterator[list[str]]:
    """What stands between ordinary words, numbers left out."""
    run: list[str] = []
    for word in [*words, "the"]:
        if word in ORDINARY or word.isdecimal():
            if word in WITHIN and run:
                run.append(word)
                continue
            if run:
                yield run
            run = []
        else:
            run.append(word)


def _banned(word: str) -> set[str]:
    key = stem(word)
    if word in ORDINARY:
        return set()
    return {key, *(stem(w) for w in GROUPS.get(key, ()))}


def _claimed(claim: str) -> str:
    """What a claim says is not in it: "sugar" of "sugar free", "dairy" of "non-dairy"."""
    parts = re.split(r"[\s-]+", claim)
    if len(parts) == 1:
        return re.sub(r"frei(?:e[mnrs]?)?$", "", claim)
    return parts[1] if parts[0] == "non" else parts[0]


def _term(word: str) -> str:
    """The stem of a word, or of a claim ("sugar-free", "non-dairy", "zuckerfrei")."""
    if not _CLAIM.fullmatch(word):
        return stem(word)
    thing = _claimed(word)
    if re.match(r"non[\s-]", word):
        return f"non-{stem(thing)}"
    return f"{thing}frei" if word.startswith(f"{thing}frei") else f"{stem(thing)}-free"


def _corrected(word: str, vocabulary: Collection[str]) -> str:
    """A misspelt word as the catalogue spells it. The first letter is seldom wrong, and "healthy"
    is no misspelling of "health"."""
    if len(word) < 6 or not vocabulary or stem(word) in vocabulary:
        return word
    close = difflib.get_close_matches(stem(word), vocabulary, n=2, cutoff=0.86)
    if len(close) != 1 or word.startswith(close[0]) or close[0][0] != word[0]:
        return word
    return close[0]
