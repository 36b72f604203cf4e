"""From what somebody says they like to search queries and to what must not be shown.

Belongs here: reading one text by its words, against the catalogue's own vocabulary. Does not belong
here: vectors and items (`shelf.py`), asking a language model (`reading.py`).

No model is needed: clauses are cut at punctuation, what follows a negation is avoided, diets rule
out what they stand for, and what is left between ordinary words are the queries.
"""

# ruff: noqa: SIM905 - a table of words reads best as words

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from recsys_assets.onboarding.diets import DIETS, GROUPS, LIFTED

MAX_QUERIES = 8
"""More wishes than this are not searched for."""

MAX_WORDS = 4
"""A query has at most so many words."""

MAX_CHARACTERS = 2_000
"""What is said beyond is not read."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_SENTENCE_END = re.compile(
    r"[.;:!?()\n\r]+|\s[-–—]+\s|\b(?:but|however|although|though)\b"
    r"|\band\s+(?=(?:i|we|he|she|they|my|our|like|love|want|enjoy|prefer)\b)"
)
_FREE = re.compile(r"\b([^\W\d_]+)[\s-]free\b")
_NON = re.compile(r"\bnon[\s-]([^\W\d_]+)\b")

NEGATIONS = frozenset(
    """
    allergic allergy aren't avoid avoiding avoids can't cannot cant dislike dislikes doesn't
    doesnt don't dont except exclude excluding hate hates intolerant isn't less minus never no
    not nothing refuse skip without won't wont
    """.split()
)
"""What stands behind one of these in a clause is avoided."""

_ORDINARY = frozenset(
    """
    a about after all also always am an and any anything are around as at baby's back be because
    been best big bit both buy buying by cook cooking cooks day days do does each eat eating
    eats enjoy enjoys especially etc ever every everyone everything family favorite favorites
    favourite few find fine five food foods for four friend friends from get gets getting give
    go going good great guest guests had has have he her here him his home house household how
    husband i i'd i'll i'm i've if in into is it it's its just keep kind kinds know lately lazy
    like likes live lives living lot lots love lover lovers loves made make makes making man
    many me meal meals member members mine month months more most mostly much my myself need
    needs new nice not now of off often ok on once one only or order other our out over people
    person please prefer prefers really recipe recipes regularly seven she shop shopping since
    single six so some someone something sometimes stuff such take takes tend than that the
    their them then there these they thing things think this those three time times to together
    too try trying twice two up us use used usually very want wants was we we're we've week
    weekend weekends weeks well what when where which while who wife will with woman work would
    year years yes you your
    """.split()
)
"""Words that are no wish by themselves. "food" and "meal" count within a query, not alone."""

_WITHIN = frozenset({"food", "foods", "meal", "meals"})
_SUBJECTS = frozenset("i i'm i've we we're we've they he she love like want enjoy prefer".split())


@dataclass(frozen=True)
class Preferences:
    """What somebody wants: texts to search for, the most distinctive first, and words to avoid."""

    queries: tuple[str, ...]
    avoid: frozenset[str] = frozenset()


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
    """The words of a text, in order, as `stem` gives them."""
    return [stem(word) for word in _WORD.findall(text)]


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
    for pattern in (_FREE, _NON):
        for word in pattern.findall(text):
            avoid |= _banned(word)
        text = pattern.sub(" ", text)
    queries: list[str] = []
    ruled = {stem(word): words for word, words in diets.items()}
    for wanted, unwanted in _clauses(text):
        for word in unwanted:
            avoid |= _banned(word)
        for word in wanted:
            avoid |= {stem(w) for w in ruled.get(stem(word), ())}
        for run in _runs(wanted):
            for first in range(0, len(run), MAX_WORDS):
                words = [_corrected(w, vocabulary) for w in run[first : first + MAX_WORDS]]
                queries.append(" ".join(words))
    kept = [q for q in dict.fromkeys(queries) if not set(stems(q)) <= avoid]
    return Preferences(tuple(kept[:MAX_QUERIES]), frozenset(avoid))


def avoided(words: Collection[str], avoid: Collection[str], raw: str = "") -> bool:
    """Whether an item with these stems is ruled out by the stems of `avoid`.

    `raw` is the item's text: "meat-free" and "non-dairy" in it lift the ban on that word, and a
    word of `diets.LIFTED` lifts all.
    """
    hit = set(words) & set(avoid)
    if not hit or set(words) & _LIFTED:
        return False
    text = raw.casefold()
    harmless = {stem(w) for w in (*_FREE.findall(text), *_NON.findall(text))}
    return not hit <= harmless


def bans(word: str, diets: Mapping[str, Iterable[str]] = DIETS) -> frozenset[str]:
    """The stems that a diet ("vegan") or a thing ("nuts") somebody avoids rules out."""
    key = stem(word)
    named = {stem(name): words for name, words in diets.items()}
    if key in named:
        return frozenset(map(stem, named[key]))
    return frozenset(_banned(word.casefold()))


_LIFTED = frozenset(stem(word) for word in LIFTED)


def _clauses(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Wanted and unwanted words, clause by clause.

    A negation reaches over commas as long as a list goes on: "no onions, garlic or nuts".
    """
    for sentence in _SENTENCE_END.split(text):
        pieces = [words for piece in sentence.split(",") if (words := _WORD.findall(piece))]
        reach = -1
        for place, words in enumerate(pieces):
            wanted, unwanted = _split(words)
            if unwanted:
                reach = _end_of_list(pieces, place)
            elif place <= reach:
                wanted, unwanted = [], words
            yield wanted, unwanted


def _end_of_list(pieces: list[list[str]], start: int) -> int:
    """The last of the pieces that continue the list begun in piece `start`."""
    end = start
    for place in range(start + 1, len(pieces)):
        if set(pieces[place]) & _SUBJECTS or set(pieces[place]) & NEGATIONS:
            break
        if set(pieces[place]) & {"or", "nor"}:
            end = place
    return end


def _split(clause: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first negation, and those behind it."""
    for place, word in enumerate(clause):
        if word not in NEGATIONS or (word == "not" and clause[place + 1 : place + 2] == ["only"]):
            continue
        before, after = clause[:place], clause[place + 1 :]
        if word in ("allergy", "intolerant") and before and before[-1] not in _ORDINARY:
            return before[:-1], [before[-1], *after]  # "a nut allergy", "lactose intolerant"
        return before, after
    return clause, []


def _runs(words: list[str]) -> Iterator[list[str]]:
    """What stands between ordinary words, numbers left out."""
    run: list[str] = []
    for word in [*words, "the"]:
        if word in _ORDINARY or word.isdecimal():
            if word in _WITHIN and run:
                run.append(word)
                continue
            if run:
                yield run
            run = []
        else:
            run.append(word)


def _banned(word: str) -> set[str]:
    key = stem(word)
    if word in _ORDINARY:
        return set()
    return {key, *(stem(w) for w in GROUPS.get(key, ()))}


def _corrected(word: str, vocabulary: Collection[str]) -> str:
    if len(word) < 6 or not vocabulary or stem(word) in vocabulary:
        return word
    close = difflib.get_close_matches(stem(word), vocabulary, n=2, cutoff=0.86)
    return close[0] if len(close) == 1 else word
