"""Is a sentence grounded: does it name or count nothing but what the evidence names and counts?

Belongs here: the check, as a pure function over texts. Does not belong here: making evidence
(`evidence.py`), asking a language model, and what stands in for a refused sentence.

The check is closed-world. A sentence may use ordinary words of explaining (`GLUE`), words that
occur in the evidence, and nothing else, so a product that is not in the catalogue is refused as
surely as one that is. What a clause counts and what it counts it of must be together in one text of
the evidence. What it cannot see: what belongs together across clauses, and claims made of ordinary
words alone ("this fits you").
"""

# ruff: noqa: SIM905 - a table of words reads best as words

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from recsys_assets.onboarding.preferences import stem

MAX_LENGTH = 300
"""A longer sentence is refused, in characters."""

ITEM = "The item is "
CATEGORY = "It is in the category "
"""How evidence says what the sentence is about: other texts call it "this" and "it"."""

Kind = Literal["name", "count", "claim", "form"]
Key = tuple[str, ...]
"""A name as comparable words: `name_key`."""


@dataclass(frozen=True)
class Problem:
    """Why a sentence is refused. `text` is the offending piece of the sentence."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


GLUE = frozenset(
    """
    a about above add addition after again all along already also although am an and any are as
    at back based basket be because been before being below both bought but buy buying by can
    choice chose chosen come comes could did do does due each else enjoy every explain
    explained fact far find fit fits for found from get gets give given go goes habit
    habits had happy has have here history hope how i if in into is it item items its itself
    just keep know known last let like list look looking looks made make makes match matches may
    me might mind more much must need of on onto or order ordered our ours out own
    particular pick picked place please product products purchase purchased purchases put reason
    reasons recent recommend recommendation recommended routine said same say says see seem
    seems shall shop shopping should show shown shows so some something still such suggest
    suggested suggestion suggestions suit suits sure take taken takes taking taste tastes than
    that the their them then there these they thing things think this those though thought
    through time times to too took trip trips try us use very visit visits want was we well
    were what when where which while who why will with within would you your yours yourself
    """.split()
)
"""Words that name and count nothing."""

CLAIMS = frozenset(
    """
    category categories customers different families household households kind lately listened new
    often people played popular popularity price readers regular regularly rhythm shoppers store
    streamed together today told usual usually variant variants viewers visited watch watched week
    """.split()
)
"""Ordinary words that say something about the world: allowed if the evidence has them, with any
neighbours. No negation and no praise is ordinary."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
).split()
_SIMPLE = {
    **{word: float(n) for n, word in enumerate(_ONES)},
    **{word: 20.0 + 10 * n for n, word in enumerate(_TENS)},
}
_SCALE = {"dozen": 12.0, "hundred": 100.0, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_TIMES = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
_RHYTHM = {
    "hourly": 1 / 24, "daily": 1.0, "weekly": 7.0, "biweekly": 14.0, "fortnightly": 14.0,
    "monthly": 30.0, "quarterly": 91.0, "yearly": 365.0, "annually": 365.0, "annual": 365.0,
}  # fmt: skip
_VAGUE = frozenset(
    "dozens hundreds thousands millions billions half halves quarter quarters double doubled "
    "triple tripled quadruple single couple pair trio percent percentage countless zillion".split()
)
"""Words that count but say no number that could be compared: never grounded by a number."""

_EACH = ("every", "each", "per")
_DAYS = {"day": 1.0, "week": 7.0, "fortnight": 14.0, "month": 30.0, "year": 365.0}
_UNITS = {
    **dict.fromkeys(("time", "purchase", "occasion", "order"), "times"),
    **dict.fromkeys(_DAYS, "days"),
    **dict.fromkeys(
        ("household", "people", "person", "customer", "user", "shopper", "viewer", "reader",
         "buyer", "other", "neighbour", "neighbor", "family", "member"),
        "people",
    ),
    **dict.fromkeys(("basket", "trip", "visit", "session"), "baskets"),
}  # fmt: skip
_JOINING = frozenset("and so which because but that while as since".split())
_MEASURES = frozenset({"times", "days", "ago", "last", "every", "people", "baskets", "%"})
_PRONOUN_BEFORE_ONE = frozenset({"this", "that", "another", "the", "which"})
_TAKING = frozenset(
    "bought buy purchased got ordered took taken watched read had picked chosen".split()
)

_BETWEEN = frozenset("have had already also often usually regularly the your some".split())
"""What may stand between "you", "bought" and what was bought."""

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)?|\S")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_HARMLESS = frozenset(".,;:!?-–—'\"’‘“”()…/&")

Claim = tuple[float, str]
"""A counted number and its unit: "times", "days", "ago" (days ago), "last" (the last days), "every"
(a rhythm in days), "people", "baskets", or the next word."""


@dataclass(frozen=True)
class _Word:
    text: str
    key: str
    glued: bool
    """Written without a space after a letter or digit: "12th", "3x"."""

    @property
    def is_word(self) -> bool:
        return self.text[0].isalnum()


def check(
    sentence: str, evidence: Sequence[str], names: Collection[Key] = frozenset()
) -> list[Problem]:
    """What in `sentence` the evidence does not bear out; an empty list means grounded.

    `evidence` are the texts that are known to be true. `names` are the catalogue's titles and
    categories as `name_keys` gives them: with them, half a name from the evidence is refused where
    it is the whole name of something else ("chocolate" of "Chocolate Milk").

    Refused: a number, number word or rhythm ("weekly") that the evidence does not state with the
    same unit; a word that is neither `GLUE` nor in the evidence; words of the evidence run together
    as it never has them; "you bought this" where the evidence has no such fact; a comparison or a
    bound ("5 times more", "the most", "up to 40") in other words than the evidence's; hidden
    characters, other symbols, more than `MAX_LENGTH` characters.
    """
    form = list(_form(sentence))
    if form:
        return form
    words = _words(sentence)
    facts = [_words(text) for text in evidence]
    titles, categories = (
        [name_key(text.removeprefix(start)) for text in evidence if text.startswith(start)]
        for start in (ITEM, CATEGORY)
    )
    problems = list(_counts(words, facts, {key for name in titles + categories for key in name}))
    problems += _names(words, facts, names)
    problems += _claims(words, facts, [title for title in titles if len(title) > 1])
    problems += _comparisons(words, facts)
    return list(dict.fromkeys(problems))


def name_key(name: str) -> Key:
    """The words of a name in comparable form, numbers included, symbols left out."""
    return tuple(w.key for w in _words(name) if w.is_word)


def name_keys(names: Iterable[str]) -> frozenset[Key]:
    """Comparable forms of the catalogue's names, empty ones left out."""
    return frozenset(key for key in map(name_key, names) if key)


def _form(sentence: str) -> Iterator[Problem]:
    if not sentence.strip():
        yield Problem("form", "nothing is said")
    if len(sentence) > MAX_LENGTH:
        yield Problem("form", f"longer than {MAX_LENGTH} characters")
    for sign in sorted(set(sentence)):
        kind = unicodedata.category(sign)
        if kind in ("Cc", "Cf", "Co", "Cs", "Cn", "No", "Nl", "Mn", "Me", "Zl", "Zp"):
            yield Problem("form", f"character U+{ord(sign):04X}")


def _words(text: str) -> list[_Word]:
    found: list[_Word] = []
    end = -1
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text)):
        piece = match.group()
        glued = match.start() == end and bool(found) and found[-1].is_word and piece[0].isalnum()
        found.append(_Word(piece, stem(piece), glued))
        end = match.end()
    return found


_GLUE_KEYS = frozenset(stem(word) for word in GLUE)
_CLAIM_KEYS = frozenset(stem(word) for word in CLAIMS)
_ORDINARY = _GLUE_KEYS | _CLAIM_KEYS
_START = _Word(".", ".", glued=False)
_COMPARED = _CLAIM_KEYS | frozenset(_UNITS) | {"so", "than"}
_QUANTIFIERS = frozenset({"all", "any", "every", "each", "many", "other", "your"})
_COMPARISONS = frozenset({("same", "as"), ("too", "much"), ("too", "many"), ("all", "of")})
"""Neighbours that compare or measure in ordinary words."""

_MULTIPLIED = frozenset({"times", "twice", "thrice"})
_VAGUE_KEYS = frozenset(stem(word) for word in _VAGUE)
_CONTRACTIONS = frozenset(
    f"{word}'{end}"
    for word in ("you", "it", "that", "this", "we", "i", "they", "there", "here", "what", "who")
    for end in ("ve", "re", "ll", "d", "m")
)


def _number(word: _Word) -> float | None:
    if word.text.isdecimal() or _NUMBER.fullmatch(word.text):
        plain = word.text.replace(",", "") if _THOUSANDS.fullmatch(word.text) else word.text
        try:
            return float(plain.replace(",", "."))
        except ValueError:
            return float("nan")
    return _SIMPLE.get(word.text.casefold())


def _is_count(words: Sequence[_Word], i: int) -> bool:
    """Whether word i is a number, in digits or in words."""
    text = words[i].text.casefold()
    if text == "one" and i and words[i - 1].key in _PRONOUN_BEFORE_ONE:
        return i + 1 < len(words) and words[i + 1].key in _UNITS
    return _number(words[i]) is not None or text in _SCALE


def _claims_in(words: Sequence[_Word]) -> Iterator[tuple[Claim, str]]:
    """Every count of a text with its unit, and the words that state it."""
    i = 0
    while i < len(words):
        word = words[i]
        text = word.text.casefold()
        if text in _TIMES:
            yield (_TIMES[text], "times"), word.text
        elif text in _RHYTHM:
            yield (_RHYTHM[text], "every"), word.text
        elif text in _ORDINALS:
            yield (float(_ORDINALS.index(text) + 1), "ordinal"), word.text
        elif text in _VAGUE or word.key in _VAGUE_KEYS:
            follower = words[i + 1].key if i + 1 < len(words) and words[i + 1].is_word else ""
            yield (0.0, f"{text} {follower}"), word.text
        elif text in ("a", "an", "every", "each", "per") and i + 1 < len(words):
            step, at = (2.0, i + 2) if words[i + 1].text.casefold() == "other" else (1.0, i + 1)
            if at < len(words) and words[at].key in _DAYS:
                said = " ".join(w.text for w in words[i : at + 1])
                unit = _when(words, i, at) if text in ("a", "an") else "every"
                yield (step * _DAYS[words[at].key], unit), said
                i = at
            elif at < len(words) and words[at].text.casefold() in _SCALE:
                i = at - 1  # "a dozen times": the next word is the number
        elif _is_count(words, i):
            value, after = _value(words, i)
            if after < len(words) and words[after].glued:  # "12th", "3x", "500g"
                yield (value, words[after].key), word.text + words[after].text
            elif after < len(words) and words[after].text == "%":
                yield (value, "%"), word.text + "%"
            else:
                unit, factor = _unit(words, after)
                said = " ".join(w.text for w in words[i : after + 1])
                if unit == "days":
                    unit = _when(words, i, after)
                yield (value * factor, unit), said
            i = after - 1
        i += 1


def _when(words: Sequence[_Word], start: int, end: int) -> str:
    """What the days counted from word `start`, their unit at or just behind `end`, say: a moment, a
    span up to now, a rhythm, or none of these."""
    before = words[start - 1].text.casefold() if start else ""
    if before in _EACH:
        return "every"
    if any(w.key == "ago" for w in words[end : end + 4]):
        return "ago"
    return "last" if before in ("last", "past") else "days"


def _value(words: Sequence[_Word], i: int) -> tuple[float, int]:
    """The number that starts at word i, and where it ends. "two hundred and five" is one number."""
    digits = words[i].text[0].isdecimal()
    total, current = 0.0, 0.0
    start = i
    while i < len(words):
        text = words[i].text.casefold()
        number = _number(words[i])
        if text in _SCALE:
            current = max(current, 1.0) * _SCALE[text]
            if _SCALE[text] >= 1e3:
                total, current = total + current, 0.0
        elif number is not None and (i == start or not digits):
            if words[i].text[0].isdecimal() and i > start:
                break
            current += number
        elif not (
            text in ("and", "-")
            and i > start
            and not digits
            and i + 1 < len(words)
            and words[i + 1].text.casefold() in _SIMPLE
            and not (text == "and" and words[i - 1].text.casefold() not in _SCALE)
        ):
            break
        i += 1
    return total + current, i


def _unit(words: Sequence[_Word], i: int) -> tuple[str, float]:
    """The unit of a number that ends before word i, and the factor to days."""
    for word in [w for w in words[i : i + 3] if w.text != "-"][:2]:
        if not word.is_word:
            break
        if word.key in _DAYS:
            return "days", _DAYS[word.key]
        if word.key in _UNITS:
            return _UNITS[word.key], 1.0
    after = next((w for w in words[i : i + 2] if w.text != "-"), None)
    named = after is not None and after.is_word and after.key not in _GLUE_KEYS
    return (after.key, 1.0) if after is not None and named else ("", 1.0)


def _counts(
    words: Sequence[_Word], facts: Sequence[Sequence[_Word]], about: Collection[str]
) -> Iterator[Problem]:
    known = [{claim for claim, _ in _claims_in(fact)} for fact in facts]
    for clause in _clauses(words):
        claims = dict(_claims_in(clause))
        strange = [said for claim, said in claims.items() if not any(claim in k for k in known)]
        yield from (Problem("count", said) for said in strange)
        together = {claim for claim in claims if claim[1] in _MEASURES}
        if strange:
            continue
        able = [fact for fact, k in zip(facts, known, strict=True) if together <= k]
        if not able:
            yield Problem("count", " … ".join(claims.values()))
        elif not any(_bears(fact, clause, about, counts=bool(together)) for fact in able):
            yield Problem("claim", " ".join(w.text for w in clause))


def _bears(
    fact: Sequence[_Word], clause: Sequence[_Word], about: Collection[str], *, counts: bool
) -> bool:
    """Whether the fact that has a clause's counts is about what the clause is about.

    A clause that counts, or that names something other than the item, has its other names and what
    it claims ("often", "usual") from one fact. The item's own names may stand for "this" and "it".
    """
    said = {w.key for w in fact}
    phrases = [tuple(w.key for w in run) for run in _runs(fact, _counted(fact))]
    own: list[Key] = []
    others: list[Key] = []
    counted = _counted(clause)
    for run in _runs(clause, counted):
        keys = tuple(w.key for w in run)
        (own if set(keys) <= set(about) else others).append(keys)
    if not counts and not others:
        return True
    if counts and not said & {"this", "it"}:
        others += own
    claims = {w.key for i, w in enumerate(clause) if w.key in _CLAIM_KEYS and i not in counted}
    claimed = claims - {"category", "rhythm"}
    return claimed <= said and all(any(_contains(p, keys) for p in phrases) for keys in others)


def _clauses(words: Sequence[_Word]) -> Iterator[Sequence[_Word]]:
    """A sentence in pieces within which numbers belong together."""
    start = 0
    for i, word in enumerate(words):
        parts = word.text in ",;:.!?()"
        joins = word.text.casefold() in _JOINING and not (
            i and i + 1 < len(words) and _is_count(words, i - 1) and _is_count(words, i + 1)
        )
        if parts or joins:
            yield words[start:i]
            start = i + 1
    yield words[start:]


def _names(
    words: Sequence[_Word], facts: Sequence[Sequence[_Word]], names: Collection[Key]
) -> Iterator[Problem]:
    runs = [run for fact in facts for places in (_counted(fact), ()) for run in _runs(fact, places)]
    phrases = {tuple(w.key for w in run) for run in runs}
    said = {w.key for fact in facts for w in fact}
    for word in words:
        if word.key in _CLAIM_KEYS and word.key not in said:
            yield Problem("claim", word.text)
    for run in _runs(words, _counted(words)):
        keys = tuple(w.key for w in run)
        strange = [w.text for w in run if w.key not in said]
        if strange:
            yield from (Problem("name", text) for text in strange)
        elif not any(_contains(phrase, keys) for phrase in phrases) or (
            keys in names and keys not in phrases
        ):
            yield Problem("name", " ".join(w.text for w in run))
    spoken = [tuple(w.key for w in fact if w.is_word) for fact in facts]
    for name in names:
        if len(name) > 1 and all(_is_plain(part) for part in name):
            yield from _plain_name(words, name, spoken)


def _plain_name(words: Sequence[_Word], name: Key, spoken: Sequence[Key]) -> Iterator[Problem]:
    """A name made of ordinary words only ("The One"), where it is written like a name."""
    said = [w for w in words if w.is_word]
    for i in range(len(said) - len(name) + 1):
        piece = said[i : i + len(name)]
        if (
            tuple(w.key for w in piece) == name
            and all(w.text[0].isupper() for w in piece)
            and not any(_contains(fact, name) for fact in spoken)
        ):
            yield Problem("name", " ".join(w.text for w in piece))


def _is_plain(key: str) -> bool:
    return key in _GLUE_KEYS or key in _SIMPLE or key in _TIMES


def _runs(words: Sequence[_Word], counted: Collection[int]) -> Iterator[list[_Word]]:
    """Neighbouring words that are neither glue nor counted; a hyphen does not part them."""
    run: list[_Word] = []
    for i, word in enumerate(words):
        if word.text in ("-", "&", "'", "’"):
            continue
        ordinary = word.key in _ORDINARY or word.text.casefold() in _CONTRACTIONS or i in counted
        if not word.is_word and word.text not in _HARMLESS:
            yield [word]
        if not word.is_word or ordinary:
            if run:
                yield run
            run = []
        else:
            run.append(word)
    if run:
        yield run


def _counted(words: Sequence[_Word]) -> set[int]:
    """Places of words that are part of a count, which is judged as a count."""
    places: set[int] = set()
    for i, word in enumerate(words):
        text = word.text.casefold()
        before = words[i - 1].text.casefold() if i else ""
        if text in _TIMES or text in _RHYTHM or text in _ORDINALS or word.key in _VAGUE_KEYS:
            places.add(i)
        elif _number(word) is not None or text in _SCALE:
            places |= {i}
            for place in range(i + 1, min(i + 3, len(words))):
                follower = words[place]
                if (place == i + 1 and follower.glued) or follower.key in _UNITS:
                    places.add(place)
        elif word.text == "%" or (
            word.key in _DAYS and before in ("a", "an", "every", "each", "per", "other")
        ):
            places.add(i)
    return places


def _claims(
    words: Sequence[_Word], facts: Sequence[Sequence[_Word]], titles: Collection[Key]
) -> Iterator[Problem]:
    """ "You bought this" has to be a fact of its own."""
    if any(_says_taken(fact, ()) for fact in facts):
        return
    if _says_taken(words, titles):
        yield Problem("claim", "that the item itself was taken before")


def _says_taken(words: Sequence[_Word], titles: Collection[Key]) -> bool:
    """Whether it says "you bought" of this, of it, or of what begins like one of `titles`."""
    said = [w.text.casefold().replace("’", "'") for w in words if w.is_word]
    for i, word in enumerate(said):
        if word in ("you", "you've", "you'd"):
            rest = [w for w in said[i + 1 : i + 7] if w not in _BETWEEN]
            if len(rest) >= 2 and rest[0] in _TAKING:
                object_ = tuple(stem(w) for w in rest[1:3])
                if rest[1] in ("this", "it") or any(object_ == t[:2] for t in titles):
                    return True
    return False


def _comparisons(words: Sequence[_Word], facts: Sequence[Sequence[_Word]]) -> Iterator[Problem]:
    """Words that together compare or bound, where no fact has them side by side."""
    known = {pair for fact in facts for pair in _pairs(fact)}
    for a, b in pairwise([_START, *words]):
        compares = (
            b.key == "most"
            or a.key == "than"
            or (a.key == "due" and b.key != "to")
            or (a.text.casefold() in _TAKING and b.key == "by")
            or (a.key == "more" and b.key in _COMPARED)
            or (a.text.casefold() in _MULTIPLIED and b.key in ("more", "as", "the"))
            or (b.key == "more" and _number(a) is not None)
            or (a.key == "to" and _number(b) is not None)
            or (a.key, b.key) in _COMPARISONS
            or (a.key in _QUANTIFIERS and _is_people(b))
            or (_is_people(a) and b.is_word and b.key != "in")
            or (a.key == "new" and b.is_word and b.key not in _JOINING | {"to", "for"})
            or (a.key in ("with", "to", "for") and _is_people(b))
        )
        if compares and _pair(a, b) not in known:
            yield Problem("claim", f"{a.text} {b.text}" if a is not _START else b.text)


def _pairs(words: Sequence[_Word]) -> Iterator[tuple[str, str]]:
    return (_pair(a, b) for a, b in pairwise([_START, *words]))


def _pair(a: _Word, b: _Word) -> tuple[str, str]:
    """Two neighbours in comparable form; everybody who buys or watches is "people"."""
    first, second = ("people" if _is_people(w) else w.key for w in (a, b))
    return first, second


def _is_people(word: _Word) -> bool:
    return _UNITS.get(word.key) == "people" and word.key != "other"


def _contains(whole: Key, part: Key) -> bool:
    """Whether `part` stands in `whole`, its words side by side."""
    n = len(part)
    return any(whole[i : i + n] == part for i in range(len(whole) - n + 1))
