"""Delimited text (CSV and its relatives) as raw text columns, with true line numbers.

Belongs here: lines, quotes, encodings, headers. Does not belong here: what a column means.

Why not a CSV library: every one of them either drops a ragged row's values, loses the line number
of a bad row, stops at the first bad byte, or lets one stray quote swallow the rest of the file.
Here a row is a *line*, so one broken row costs one row. Where `newlines_in_values` says that quoted
values span lines, a row ends at the first line break outside quotes, and a quote that never closes
is a `SourceError`. Blank lines are not rows.

Inside a row: a value is quoted if it begins with the quote character (a quote is then doubled); a
quote elsewhere (`5" pipe`) is an ordinary character. Memory is bounded by the block size, whatever
the size of the file or of one line. All work on bytes is vectorized.
"""

import codecs
import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.ingestion.raw import MAX_ROW_BYTES, RawRows, invalid_utf8
from recsys_assets.ingestion.source import SourceError

_BLOCK_BYTES = 16 << 20
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"
_MISTAKEN = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"PAR1": "a Parquet file; set format: parquet or name it *.parquet",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b'{"': "JSON; convert it to CSV or Parquet",
    b'[{"': "JSON; convert it to CSV or Parquet",
}


@dataclass(frozen=True)
class Dialect:
    """How a text file is written. `header` names the columns of a file without a header line;
    `typed_names`: column names are written `name:type` (RecBole)."""

    delimiter: str = ","
    quote: str | None = '"'
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    newlines_in_values: bool = False
    typed_names: bool = False


def read_header(path: Path, dialect: Dialect) -> list[str]:
    """The column names, stripped of surrounding blanks.

    Raises `SourceError` for an empty file, a file of another kind, an unreadable header line and a
    name that occurs twice.
    """
    _refuse_mistaken(path)
    if dialect.header is not None:
        return list(dialect.header)
    lines = next(_lines(path, dialect, block_bytes=1 << 16), None)
    if lines is None:
        raise SourceError(f"{path}: has no header line; the first line must name the columns")
    first = lines.texts.slice(0, 1)
    if lines.overlong or len(first[0].as_py()) > MAX_ROW_BYTES:
        raise SourceError(f"{path}: the header line is longer than {MAX_ROW_BYTES} bytes")
    if invalid_utf8(first).any() or b"\0" in first[0].as_py():
        raise SourceError(
            f"{path}: the header line is not {dialect.encoding} text; set the encoding"
        )
    values, broken = _split(first.cast(pa.large_string()), dialect, None)
    if broken:
        raise SourceError(f"{path}: the header line has {broken[0]}")
    names = [value.strip() for value in values.to_pylist()]
    if dialect.typed_names:
        names = [name.split(":", 1)[0] for name in names]
    twice = sorted(name for name, n in Counter(names).items() if n > 1 and name)
    if twice:
        raise SourceError(
            f"{path}: the header names {', '.join(map(repr, twice))} more than once; which of them "
            "holds the values cannot be known: rename one"
        )
    return names


def count_rows(path: Path, dialect: Dialect) -> int:
    """Data rows of the file, counted from its bytes alone (shares nothing with the reader).

    A row begins at a byte that is no line break, after a line break (or at the start), and, with
    `newlines_in_values`, where the number of quote characters so far is even.
    """
    quote = ord(dialect.quote or '"')
    rows, quotes, previous = 0, 0, np.uint8(_NEWLINE)
    with path.open("rb") as stream:
        piece = stream.read(4 << 20).removeprefix(_BOM)
        while piece:
            while piece.endswith(b"\r") and (more := stream.read(1)):
                piece += more
            codes = np.frombuffer(_line_feeds(piece), dtype=np.uint8)
            before = np.concatenate((np.array([previous]), codes[:-1]))
            starts = np.flatnonzero((codes != _NEWLINE) & (before == _NEWLINE))
            if dialect.newlines_in_values:
                places = np.flatnonzero(codes == quote)
                starts = starts[(quotes + np.searchsorted(places, starts)) % 2 == 0]
                quotes += len(places)
            rows += len(starts)
            previous = codes[-1]
            piece = stream.read(4 << 20)
    return max(rows - (dialect.header is None), 0)


def read_rows(path: Path, dialect: Dialect, wanted: Collection[str]) -> Iterator[RawRows]:
    """The file's rows in blocks; of the columns only those `wanted`, as large_string, no nulls."""
    names = read_header(path, dialect)
    keep = [n for n, name in enumerate(names) if name in wanted]
    header_pending = dialect.header is None
    for lines in _lines(path, dialect, _BLOCK_BYTES):
        if header_pending:
            header_pending = False
            lines = replace(lines, texts=lines.texts.slice(1), numbers=lines.numbers[1:])
        if len(lines.texts):
            yield _rows_of(lines, dialect, names, keep)


def nearest(name: str, found: Sequence[str]) -> str | None:
    """The found column most like `name`, ignoring case and punctuation."""
    plain = {re.sub(r"\W|_", "", other.casefold()): other for other in reversed(found)}
    match = difflib.get_close_matches(re.sub(r"\W|_", "", name.casefold()), plain, n=1)
    return plain[match[0]] if match else None


def _line_feeds(data: bytes) -> bytes:
    """Line ends as one byte; \\r\\r\\n is one, as a doubled conversion leaves it."""
    return data.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n")


def _refuse_mistaken(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if not start:
        raise SourceError(
            f"{path}: is empty (0 bytes); deliver it again, if without rows then with a header"
        )
    for magic, meaning in _MISTAKEN.items():
        if start.startswith(magic):
            raise SourceError(f"{path}: is {meaning}")


@dataclass(frozen=True)
class _Rows:
    """Whole rows, with line feeds only. `overlong`: one row, cut short by `cut_breaks` lines."""

    data: bytes
    overlong: bool = False
    cut_breaks: int = 0


def _whole_rows(path: Path, dialect: Dialect, block_bytes: int) -> Iterator[_Rows]:
    """The file's bytes, cut at row ends. Never holds more than a block and one row's limit."""
    quote = dialect.quote.encode() if dialect.newlines_in_values and dialect.quote else None
    carry, line = b"", 1
    with path.open("rb") as stream:

        def read() -> bytes:
            data = stream.read(block_bytes)
            while data.endswith(b"\r") and (more := stream.read(1)):
                data += more
            return _line_feeds(data)

        data = read().removeprefix(_BOM)
        while data:
            carry += data
            end = _last_row_end(carry, quote)
            if end:
                yield _Rows(carry[:end])
                line += carry.count(b"\n", 0, end)
                carry = carry[end:]
            if len(carry) > MAX_ROW_BYTES:
                kept, carry = carry[:MAX_ROW_BYTES], carry[MAX_ROW_BYTES:]
                odd = quote is not None and kept.count(quote) % 2 == 1
                closing = b"\n" if not odd else (quote or b"") + b"\n"
                cut = 0
                while (end := _first_row_end(carry, quote, odd)) == 0:
                    odd ^= quote is not None and carry.count(quote) % 2 == 1
                    cut += carry.count(b"\n")
                    carry = read()
                    if not carry and odd:
                        raise SourceError(_never_closed(path, line))
                    carry = carry or b"\n"
                cut += carry.count(b"\n", 0, end) - 1
                yield _Rows(kept + closing, overlong=True, cut_breaks=cut)
                line += kept.count(b"\n") + cut + 1
                carry = carry[end:]
            data = read()
    if carry:
        if quote is not None and carry.count(quote) % 2:
            raise SourceError(_never_closed(path, line))
        yield _Rows(carry + b"\n")


def _last_row_end(data: bytes, quote: bytes | None) -> int:
    """Just behind the last line break outside quotes, 0 if there is none."""
    if quote is None or quote not in data:
        return data.rfind(b"\n") + 1
    codes = np.frombuffer(data, dtype=np.uint8)
    breaks = np.flatnonzero(codes == _NEWLINE)
    outside = breaks[np.searchsorted(np.flatnonzero(codes == quote[0]), breaks) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _first_row_end(data: bytes, quote: bytes | None, odd: bool) -> int:
    """Just behind the first line break outside quotes; `odd`: data begins inside quotes."""
    if quote is None:
        return data.find(b"\n") + 1
    codes = np.frombuffer(data, dtype=np.uint8)
    breaks = np.flatnonzero(codes == _NEWLINE)
    before = np.searchsorted(np.flatnonzero(codes == quote[0]), breaks) + odd
    outside = breaks[before % 2 == 0]
    return int(outside[0]) + 1 if len(outside) else 0


def _never_closed(path: Path, line: int) -> str:
    return (
        f"{path}: in the row that begins on line {line} a quote is opened and never closed; close "
        "it, or set newlines_in_values: false so that it costs one line only"
    )


@dataclass(frozen=True)
class _Lines:
    """Non-blank rows' bytes as UTF-8 (invalid where the file's are), and their line numbers."""

    texts: pa.LargeBinaryArray
    numbers: np.ndarray
    overlong: bool


def _lines(path: Path, dialect: Dialect, block_bytes: int) -> Iterator[_Lines]:
    line_number = 1
    spanning = dialect.newlines_in_values and dialect.quote is not None
    for raw in _whole_rows(path, dialect, block_bytes):
        text = raw.data
        if codecs.lookup(dialect.encoding).name != "utf-8":
            decoded = text.decode(dialect.encoding, "surrogateescape")
            text = decoded.encode("utf-8", "surrogatepass")
        codes = np.frombuffer(text, dtype=np.uint8)
        breaks = np.flatnonzero(codes == _NEWLINE)
        ends = breaks
        if spanning:
            quotes = np.flatnonzero(codes == ord(dialect.quote or '"'))
            ends = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
        starts = np.concatenate((np.zeros(1, dtype=np.int64), ends[:-1] + 1))
        numbers = line_number + np.searchsorted(breaks, starts)
        line_number += len(breaks) + raw.cut_breaks
        # Arrow's values touch, so the closing line breaks have to be cut out.
        inside = np.ones(len(codes), dtype=bool)
        inside[ends] = False
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), ends - np.arange(len(ends))))
        texts = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(),
            len(ends),
            [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(codes[inside])],
        )
        filled = ends > starts
        if not filled.all():
            texts, numbers = texts.filter(pa.array(filled)), numbers[filled]
        if len(texts):
            yield _Lines(texts, numbers, raw.overlong)


def _rows_of(lines: _Lines, dialect: Dialect, names: Sequence[str], keep: Sequence[int]) -> RawRows:
    texts, numbers = lines.texts, lines.numbers
    reasons = np.full(len(texts), None, dtype=object)
    reasons[invalid_utf8(texts)] = f"wrong encoding: not {dialect.encoding.upper()}"
    reasons[_flags(pc.match_substring(texts, b"\0"))] = "NUL character: found in the row"
    too_long = _flags(pc.greater(pc.binary_length(texts), MAX_ROW_BYTES)) | lines.overlong
    reasons[too_long] = f"too long: more than {MAX_ROW_BYTES} bytes"
    good = np.flatnonzero(reasons == None)  # noqa: E711 (element-wise)
    values, broken = _split(texts.take(pa.array(good)).cast(pa.large_string()), dialect, len(names))
    for where, what in broken.items():
        reasons[good[where]] = what
    good = np.flatnonzero(reasons == None)  # noqa: E711 (element-wise)
    bad = np.flatnonzero(reasons != None)  # noqa: E711 (element-wise)
    picks = np.arange(len(good), dtype=np.int64) * len(names)
    return RawRows(
        rows=numbers[good],
        columns={names[n]: values.take(pa.array(picks + n)) for n in keep},
        broken_rows=numbers[bad],
        broken_reasons=reasons[bad].tolist(),
    )


def _split(
    texts: pa.LargeStringArray, dialect: Dialect, width: int | None
) -> tuple[pa.LargeStringArray, dict[int, str]]:
    """(values of the well-formed rows one after the other, reasons by position of the others).

    `width` is the number of columns; None takes it from the first row (for the header).
    """
    delimiter, quote = dialect.delimiter, dialect.quote
    broken: dict[int, str] = {}
    count = len(texts)
    separator = delimiter
    if quote is not None:
        quoted = _flags(pc.match_substring(texts, quote))
        if quoted.any():
            # Rows with quotes: check their form, then put NUL (refused before this) between
            # values. Each match of the second pattern begins where the one before ended, so it is
            # always one whole value and its delimiter.
            d, q = re.escape(delimiter), re.escape(quote)
            closed, plain = f"{q}(?:[^{q}]|{q}{q})*{q}", f"[^{q}{d}][^{d}]*"
            separator = "\0"
            end = pa.scalar(delimiter, pa.large_string())
            marked = pc.binary_join_element_wise(texts, end, pa.scalar("", pa.large_string()))
            well_formed = _flags(
                pc.match_substring_regex(marked, f"^(?:(?:{closed}|{plain})?{d})*$")
            )
            for where in np.flatnonzero(~well_formed):
                broken[int(where)] = "broken quotes: a quote is not closed or has text after it"
            keep = pa.array(np.flatnonzero(well_formed))
            texts = pc.replace_substring_regex(
                marked.take(keep), f"((?:{closed}|{plain})?){d}", r"\1" + "\0"
            )
            texts = pc.binary_slice(texts.cast(pa.large_binary()), 0, -1).cast(pa.large_string())
            positions = np.flatnonzero(well_formed)
        else:
            positions = np.arange(count)
    else:
        quoted = np.zeros(count, dtype=bool)
        positions = np.arange(count)
    found = np.asarray(pc.count_substring(texts, separator)) + 1
    if width is None:
        width = int(found[0]) if len(found) else 0
    fitting = found == width
    if not fitting.all():
        for where, n in zip(positions[~fitting].tolist(), found[~fitting].tolist(), strict=True):
            broken[where] = f"wrong number of values: {n} where {width} are expected"
        texts = texts.take(pa.array(np.flatnonzero(fitting)))
    values = pc.split_pattern(texts, separator).flatten()
    if quoted.any():
        assert quote is not None
        begins = pc.starts_with(values, quote)
        wrapped = pc.if_else(begins, values, pa.scalar(quote * 2, pa.large_string()))
        inner = pc.binary_slice(wrapped.cast(pa.large_binary()), 1, -1).cast(pa.large_string())
        values = pc.if_else(begins, pc.replace_substring(inner, quote * 2, quote), values)
    return values, broken


def _flags(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)
