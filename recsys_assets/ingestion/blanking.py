"""Rows of erased users, blanked in delivered files that we keep.

A blanked row stays a row: every other row keeps its number, and its values to the byte. What the
file was delivered as stays its name (`arrivals`), so a redelivery is still recognised.

Belongs here: finding and blanking such rows in text and Parquet files. Does not belong here: which
files are kept (`arrivals`), and what ingestion does about a row that arrives (`tabular`).
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.core.config import Shop
from recsys_assets.core.durable import publish
from recsys_assets.core.erasures import FOLDER as ERASURES
from recsys_assets.core.erasures import Erased, Erasures
from recsys_assets.core.settings.sources import FilesSource
from recsys_assets.ingestion.arrivals import Blank
from recsys_assets.ingestion.delimited import Dialect
from recsys_assets.ingestion.files import files_source
from recsys_assets.ingestion.source import Role, SourceError
from recsys_assets.ingestion.tabular import TableSpec, erased_of

_WORD = re.compile(rb"[^\s\"',;|\t]+")


def blanker(shop: Shop, home: Path) -> Blank | None:
    """What to do with a file before it is kept; None when nothing is kept. Who was erased is asked
    for each file: somebody may have been since the look began that takes it."""
    if not isinstance(shop.source, FilesSource):
        return None
    erasures, source = Erasures(home / ERASURES), files_source(shop, shop.source)

    def blank(role: Role, name: str, path: Path) -> list[int]:
        erased = erasures.erased()
        if erased is None or role == "items":
            return []
        spec = source.spec_of(role, name)
        if spec is None:
            raise SourceError(f"{name}: no path of the shop file leads to it any more")
        rows = rows_of(spec, path, erased)
        if rows:
            write_blanked(spec, path, rows)
        return rows

    return blank


def rows_of(spec: TableSpec, path: Path, erased: Erased) -> list[int]:
    """Numbers of the rows of erased users, sorted. A broken line is theirs if one of its words is
    the id: nobody can tell which column it stood in."""
    found: list[int] = []
    broken: list[int] = []
    for block in spec.blocks(path):
        found += block.rows[erased_of(block, erased)].tolist()
        broken += block.broken_rows.tolist()
    if broken and spec.is_parquet(path):
        found += _broken_values(spec, path, broken, erased)
    elif broken:
        wanted = frozenset(broken)
        for number, line in _rows(path, spec.dialect):
            if number in wanted and erased(_words(line, spec.dialect)).any():
                found.append(number)
    return sorted(found)


def write_blanked(spec: TableSpec, path: Path, rows: Collection[int]) -> None:
    """Replace the file by one in which these rows have no values, durably and in one step."""
    target = path.with_name(f"{path.name}.blanked")
    if spec.is_parquet(path):
        _blank_parquet(path, target, rows)
    else:
        _blank_text(spec, path, target, frozenset(rows))
    publish(target, path)


def _blank_parquet(path: Path, target: Path, rows: Collection[int]) -> None:
    table = pq.read_table(path)
    gone = np.zeros(table.num_rows, dtype=bool)
    gone[np.asarray(sorted(rows), dtype=np.int64) - 1] = True
    places = np.arange(table.num_rows)
    index = pa.array(places, mask=gone)
    schema = pa.schema([f.with_nullable(True) for f in table.schema])
    columns = [column.combine_chunks().take(index) for column in table.columns]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), target, compression="zstd")


def _broken_values(spec: TableSpec, path: Path, rows: Collection[int], erased: Erased) -> list[int]:
    """Rows of a Parquet file with a value nobody can read, and an erased user's id beside it."""
    name = spec.columns.get("user_id", "user_id")
    ids = pq.read_table(path, columns=[name] if isinstance(name, str) else list(name)).column(0)
    places = np.asarray(sorted(rows), dtype=np.int64)
    some = ids.combine_chunks().take(pa.array(places - 1))
    readable = [_text(v) for v in some.to_pylist()]
    return places[erased(pa.array(readable, pa.large_string()))].tolist()


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _blank_text(spec: TableSpec, path: Path, target: Path, rows: frozenset[int]) -> None:
    dialect = spec.dialect
    width = len(spec.header(path))
    empty = dialect.delimiter.encode(dialect.encoding) * (width - 1)
    if width == 1 and dialect.quote is not None:
        empty = (dialect.quote * 2).encode()
    with target.open("wb") as out:
        for number, line in _rows(path, dialect):
            if number not in rows:
                out.write(line)
                continue
            bom = b"\xef\xbb\xbf" if number == 1 and line.startswith(b"\xef\xbb\xbf") else b""
            end = b"\r\n" if line.endswith(b"\r\n") else b"\n" if line.endswith(b"\n") else b""
            further = line.count(b"\n") - line.endswith(b"\n")  # a row of several lines
            out.write(bom + empty + b"\n" * further + end)


def _rows(path: Path, dialect: Dialect) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, bytes with the line end) of each row, and of each blank line."""
    spanning = dialect.newlines_in_values and dialect.quote is not None
    quote = (dialect.quote or '"').encode()
    number, pending, first = 0, b"", 1
    with path.open("rb") as stream:
        for line in stream:
            number += 1
            pending += line
            if spanning and pending.count(quote) % 2:
                continue
            yield first, pending
            pending, first = b"", number + 1
    if pending:
        yield first, pending


def _words(line: bytes, dialect: Dialect) -> pa.Array:
    """Everything in a broken line that may be an id: its values, and its words."""
    values = [v.strip() for v in line.split(dialect.delimiter.encode(dialect.encoding))]
    values += [v.strip(b"\"'") for v in values]
    words = {*values, *_WORD.findall(line)}
    return pa.array(sorted(w.decode(dialect.encoding, "replace") for w in words), pa.large_string())
