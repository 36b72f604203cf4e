"""Users' ids taken out of logs, journals and databases that are not tables of the lake.

Belongs here: rewriting a text file in one step, and a database without leaving old pages. Does not
belong here: tables (`tables.py`), and delivered files (`ingestion.blanking`).
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recsys_assets.core.durable import publish
from recsys_assets.core.erasures import FOLDER as LEDGER
from recsys_assets.core.lake import LakeError
from recsys_assets.erasure.names import Names
from recsys_assets.erasure.search import ARRIVALS, SIDE_FILES, tables_of

_OTHERS = ("objects", "manifests", "pointers", "locks", "tmp", "releases.json")
"""Of the lake: what `retained.py` rewrites."""
UNFINISHED = ".quiet-tmp"
"""Suffix of a text that is being written."""
_WAIT = 30.0
_TEXTS = 'SELECT rowid, "{1}" FROM "{0}" WHERE typeof("{1}") = \'text\''
_UPDATE = 'UPDATE "{0}" SET "{1}" = ? WHERE rowid = ?'
"""Names come from the database itself; values are bound."""
_SQLITE = b"SQLite format 3"
_TASKS = ("wish", "explanation")
"""Questions about what somebody typed or did (`onboarding.reading`, `ranking.phrasing`)."""
_ANSWERS = ({"queries", "avoid"}, {"sentence"})
"""What their answers consist of, where an older journal does not name the question."""


def sweep(home: Path) -> None:
    """Remove what a killed erasure left half-written."""
    for path in list(home.rglob(f"*{UNFINISHED}")):
        path.unlink()


def texts_of(home: Path) -> Iterator[Path]:
    """Text files of a home that nothing else rewrites: logs, alerts, journals, compute logs."""
    skipped = [home / "lake" / n for n in _OTHERS]
    skipped += [home / LEDGER, home / "arrivals" / "files", home / ARRIVALS, home / "spill"]
    skipped += [home / "index", home / "index_parts"]  # arrays: a short id may be bytes of a number
    for path in sorted(p for p in home.rglob("*") if p.is_file() and not p.is_symlink()):
        apart = any(path.is_relative_to(s) for s in skipped)
        if not apart and not path.name.endswith(SIDE_FILES) and not is_base(path):
            yield path


def bases_of(home: Path) -> list[Path]:
    """Databases of a home: Dagster's storage."""
    return sorted(p for p in home.rglob("*.db") if p.is_file() and is_base(p))


def is_base(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    with path.open("rb") as stream:
        return stream.read(len(_SQLITE)) == _SQLITE


def quiet_text(path: Path, names: Names, *, dry_run: bool = False) -> int:
    """Replace what `names` finds in a text file, in one step; returns how often it did."""
    data = path.read_bytes()
    times = names.count(data)
    if times and not dry_run:
        text = names.replaced(data.decode("utf-8", "surrogateescape"))
        temporary = path.with_name(path.name + UNFINISHED)
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))
        shutil.copymode(path, temporary)
        publish(temporary, path)
    return times


def quiet_base(path: Path, names: Names, *, dry_run: bool = False) -> int:
    """Replace what `names` finds in every text of a database and leave no old page of it.

    Returns how often. Raises LakeError while somebody else has it locked.
    """
    sides = [path, *(path.with_name(path.name + s) for s in ("-wal", "-journal"))]
    times = sum(names.count(p.read_bytes()) for p in sides if p.exists())
    if not times or dry_run:
        return times
    base = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
    try:
        base.execute("PRAGMA secure_delete = ON")
        base.execute("BEGIN IMMEDIATE")
        for table, columns in tables_of(base).items():
            for column in columns:
                rows = base.execute(_TEXTS.format(table, column))
                changed = [
                    (new, rowid)
                    for rowid, text in rows
                    if (new := names.replaced(text)) != text
                ]  # fmt: skip
                base.executemany(_UPDATE.format(table, column), changed)
        base.execute("COMMIT")
        base.execute("VACUUM")
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        raise LakeError(
            f"{path}: {error}. Stop `recsys ui` (or the daemon), then run the same command again"
        ) from error
    finally:
        base.close()
    return times


def drop_answers(home: Path, *, dry_run: bool = False) -> int:
    """Forget every kept answer about what people typed or did: they are kept by a hash of the
    question, so nobody can say whose they are. Asking again costs cents."""
    path = home / "language_model" / "answers.jsonl"
    if not path.exists():
        return 0
    lines = [(line, _record(line)) for line in path.read_bytes().splitlines(keepends=True)]
    gone = {r["key"] for _, r in lines if _is_personal(r)}
    if gone and not dry_run:
        stay = b"".join(line for line, record in lines if record.get("key") not in gone)
        temporary = path.with_name(path.name + UNFINISHED)
        temporary.write_bytes(stay)
        publish(temporary, path)
    return len(gone)


def _record(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_personal(record: Mapping[str, Any]) -> bool:
    content = record.get("content")
    return record.get("task") in _TASKS or (isinstance(content, dict) and set(content) in _ANSWERS)
