"""The proof: a search over every file of a home for users who are to be forgotten.

It knows as little as it can of how the stores work. Parquet files are decoded and every text cell
is read; everything else is read as bytes, gzip and zlib unpacked, databases with their write-ahead
logs and free pages. A delivered text file is parsed as its table says, for ids that are numbers.

Belongs here: looking. Does not belong here: removing anything.
"""

import gzip
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.core.erasures import FOLDER as LEDGER
from recsys_assets.erasure.names import Names

ARRIVALS = "arrivals/ledger.jsonl"
"""The record of delivered files: every line has a checksum, so no word of it is exchanged."""
_FILE_NAMED_AFTER_USER = (
    "the name of a delivered file: rename the file where it is delivered, then move the ledger "
    "away (docs/erasure.md)"
)
_MENTIONED = (
    "a text in a row of somebody else: deliver the file again without it under the same name "
    "(docs/erasure.md)"
)
_UNLISTED = (
    "a file that no line of the record of arrivals names, so nobody can say whose rows it holds: "
    "restore the newest copy of the record, or delete the file (docs/erasure.md)"
)
SIDE_FILES = ("-wal", "-shm", "-journal")
_PIECE = 64 << 20
_OVERLAP = 4096
_NUMBERS_ONLY = (".npy", ".faiss")
"""Arrays of numbers: an id of a few characters would be found there by accident."""


@dataclass(frozen=True)
class Left:
    """Something that was found: in which file (relative to the home), where in it, how often."""

    file: str
    where: str
    times: int

    def __str__(self) -> str:
        return f"{self.file}{f', {self.where}' if self.where else ''}: {self.times}"


@dataclass(frozen=True)
class Searched:
    """What a search came to."""

    files: int
    bytes: int
    left: tuple[Left, ...]


Delivered = Callable[[Path], int | None]
"""How many rows of a delivered file are the users', as its table says; None: of which table it is
nobody knows."""


def search(home: Path, names: Names, delivered: Delivered) -> Searched:
    """Look into every file below `home` for the users of `names`."""
    found: list[Left] = []
    files = size = 0
    kept = home / "arrivals" / "files"
    for path in sorted(p for p in home.rglob("*") if p.is_file() and not p.is_symlink()):
        if path.parent == home / LEDGER:
            continue  # keyed hashes; the key tells nothing
        files += 1
        size += path.stat().st_size
        name = path.relative_to(home).as_posix()
        if times := names.count(name.encode()):
            found.append(Left(name, "its name", times))
        for where, times in found_in(path, names):
            told = _FILE_NAMED_AFTER_USER if name == ARRIVALS else where
            told = _MENTIONED if path.is_relative_to(kept) else told
            found.append(Left(name, told, times))
        if path.is_relative_to(kept) and (rows := delivered(path)) != 0:
            found.append(Left(name, "rows", rows) if rows else Left(name, _UNLISTED, 1))
    return Searched(files, size, tuple(found))


def found_in(path: Path, names: Names) -> Iterator[tuple[str, int]]:
    """Where in a file the users are, and how often."""
    with path.open("rb") as stream:
        start = stream.read(16)
    if start.startswith(b"PAR1"):
        yield from _in_parquet(path, names)
    elif start.startswith(b"\x1f\x8b"):
        with gzip.open(path) as unpacked:
            yield from _in_bytes(unpacked.read, names)
    else:
        if path.suffix not in _NUMBERS_ONLY or any(len(i) >= 8 for i in names.plain):
            with path.open("rb") as stream:
                yield from _in_bytes(stream.read, names)
        if start.startswith(b"SQLite format 3"):
            yield from _in_packed(path, names)


def _in_bytes(read: Callable[[int], bytes], names: Names) -> Iterator[tuple[str, int]]:
    times, carry = 0, b""
    while piece := read(_PIECE):
        data = carry + piece
        times += names.count(data) - (names.count(carry) if carry else 0)
        carry = data[-_OVERLAP:]
    if times:
        yield "", times


def _in_parquet(path: Path, names: Names) -> Iterator[tuple[str, int]]:
    try:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            data = file.read_row_group(group)
            for field in data.schema:
                kind = field.type
                mine = field.name == "user_id"
                text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
                if not text and not (mine and pa.types.is_integer(kind)):
                    continue
                column = data[field.name].cast(pa.string())
                hit = np.asarray(names.cells(column, mine=mine).to_numpy(), dtype=bool)
                if field.name == "id" and "kind" in data.column_names:  # vectors of users and items
                    users = np.asarray(pa.compute.equal(data["kind"], "user").to_numpy(), bool)
                    same = names.cells(column, mine=True).to_numpy()
                    hit = hit | (users & np.asarray(same, bool))
                if hit.any():
                    yield f"column {field.name}", int(hit.sum())
    except (pa.ArrowException, OSError, ValueError):
        yield from _in_bytes(path.open("rb").read, names)


def _in_packed(path: Path, names: Names) -> Iterator[tuple[str, int]]:
    """zlib values of a database."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
        base.text_factory = bytes
        for table, columns in tables_of(base).items():
            for column in columns:
                times = 0
                query = 'SELECT "{1}" FROM "{0}" WHERE typeof("{1}") = \'blob\''
                for (value,) in base.execute(query.format(table, column)):
                    try:
                        times += names.count(zlib.decompress(value))
                    except zlib.error:
                        continue
                if times:
                    yield f"{table}.{column}, packed", times
    base.close()


def tables_of(base: sqlite3.Connection) -> dict[str, list[str]]:
    """Table -> columns of a database."""
    rows = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    names = [r[0].decode() if isinstance(r[0], bytes) else r[0] for r in rows]
    found = {}
    for name in names:
        if not name.startswith("sqlite_"):
            info = base.execute(f'PRAGMA table_info("{name}")').fetchall()
            found[name] = [c[1].decode() if isinstance(c[1], bytes) else c[1] for c in info]
    return found
