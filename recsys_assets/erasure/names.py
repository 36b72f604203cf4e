"""How the id of a user is recognised in texts and table cells.

Belongs here: the rule, and replacing what it finds. Does not belong here: where to look.

An id of 16 characters or more is found anywhere. A shorter one that mixes digits with something
else, holds an @, or has ten digits and more, is found as a whole word. What is left (17, ab, items,
null) is a number or a word that means other things elsewhere: it is found where the text says that
it is a user. A number, `true`, `false` or `null` that is a value of JSON is never an id.

An id is looked for as it is, as JSON and HTML spell it, and as JSON within JSON does.
"""

import html
import json
import re
from collections.abc import Collection
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

INSTEAD = "[erased]"
LONG, WORD, DIGITS = 16, 4, 10
_PERSONS = ("user", "customer", "household", "visitor", "member")
_LITERAL = re.compile(r"true|false|null|NaN|-?Infinity|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NO_VALUE = r'(?<!":)(?<!": )'
"""Not what stands unquoted after a key of JSON, which would be no JSON any more without it."""


class Names:
    """The ids of users, as they may stand in a text."""

    def __init__(self, ids: Collection[str]) -> None:
        self.ids = frozenset(ids)
        self.plain = [i for i in sorted(self.ids) if not self.is_weak(i)]

    @staticmethod
    def is_weak(user_id: str) -> bool:
        """Whether the id alone, in a text, does not tell a user from anything else."""
        if user_id.isdigit() or _LITERAL.fullmatch(user_id):
            return len(user_id) < DIGITS
        a_word = not any(c.isdigit() or c == "@" for c in user_id)
        return len(user_id) < (LONG if a_word else WORD)

    def count(self, text: bytes) -> int:
        """How often any of them stands in `text` (UTF-8, or bytes that hold it)."""
        return sum(len(p.findall(text)) for p in self._bytes)

    def replaced(self, text: str) -> str:
        """`text` with `INSTEAD` for each."""
        for pattern in self._texts:
            text = pattern.sub(lambda m: m.group("before") + INSTEAD, text)
        return text

    def cells(self, column: pa.ChunkedArray, mine: bool) -> pa.ChunkedArray:
        """Which cells hold one of them: `mine`, a column of user ids, as their value, any other as
        a text."""
        equal = pc.is_in(column, value_set=pa.array(sorted(self.ids), column.type))
        if mine:
            return equal
        found = pa.chunked_array([pa.array([False] * len(column), pa.bool_())])
        for spelt in (s for i in self.plain for s in spellings(i)):
            # cheap first: few cells hold the characters at all
            hit = pc.fill_null(pc.match_substring(column, spelt), False)
            if pc.any(hit).as_py():
                rough = column.to_pylist()
                exact = [bool(h) and self.count(c.encode()) > 0
                         for h, c in zip(hit.to_pylist(), rough, strict=True)]  # fmt: skip
                found = pc.or_(found, pa.chunked_array([pa.array(exact, pa.bool_())]))
        return found

    @cached_property
    def _texts(self) -> list[re.Pattern[str]]:
        # ASCII, as for bytes: what is found is what is replaced, also in a text without blanks.
        return [re.compile(_rule(i, self.is_weak(i)), re.ASCII) for i in sorted(self.ids)]

    @cached_property
    def _bytes(self) -> list[re.Pattern[bytes]]:
        found = []
        for pattern in self._texts:
            found.append(re.compile(pattern.pattern.encode("utf-8", "surrogatepass")))
        return found


def spellings(user_id: str) -> list[str]:
    """How a text may write an id: most JSON has `j\\u00fcrgen` for `jürgen`, and escapes quotes."""
    found = [user_id, html.escape(user_id)]
    for ascii_only in (True, False):
        once = json.dumps(user_id, ensure_ascii=ascii_only)[1:-1]
        found += [once, json.dumps(once)[1:-1]]
    return list(dict.fromkeys(found))


def _word(word: str, inside: str) -> str:
    """`word` where none of the characters `inside` a word stand before it. What JSON and Python
    write for others (`\\n`, `\\u5ba2`, `\\xa0`) ends in a letter or a digit, and is none of them.

    What stands before it is looked at from its end, so that a search begins with the word itself,
    which `re` finds much faster than a place where it might begin."""
    escapes = (r"\\[bfnrt]", r"\\u[0-9A-Fa-f]{4}", r"\\x[0-9A-Fa-f]{2}")
    before = "|".join([f"(?<!{inside}{word})", *(f"(?<={e}{word})" for e in escapes)])
    return f"{word}(?:{before})"


def _rule(user_id: str, weak: bool) -> str:
    exact = "(?:" + "|".join(re.escape(s) for s in spellings(user_id)) + ")"
    bare = _NO_VALUE if _LITERAL.fullmatch(user_id) else ""
    if weak:
        person = "|".join(_word(p, r"\w") for p in _PERSONS)
        said = rf"(?i:(?:{person})(?:[_ ]?id)?)(?:[\s:=]|\\{{0,3}}[\"']){{1,6}}"
        return rf"(?P<before>{said}){bare}{exact}(?![\w-])"
    if len(user_id) >= LONG:
        return f"(?P<before>){exact}"
    words = [_word(re.escape(s), r"[\w-]") for s in spellings(user_id)]
    return rf"(?P<before>){bare}(?:{'|'.join(words)})(?![\w-])"
