"""A file of JSON lines, written by appending, that survives a kill at any moment.

Belongs here: locking, appending, reading on. Does not belong here: what a line means.

A record counts from the moment `append` returns: it is on the disk by then. A line that was cut
short by a kill was never acted upon; it is removed before the next line is written.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys_assets.core.durable import publish, sync_folder


class JournalError(RuntimeError):
    """A line in the middle of a journal cannot be read; the message names file and line."""


class Journal:
    """One journal file; any number of processes may hold it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: list[dict[str, Any]] = []
        self._offset = 0
        self._inode = 0

    def records(self) -> list[dict[str, Any]]:
        """All records so far, those of other processes included. Do not change the list."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                inode = os.fstat(stream.fileno()).st_ino
                if inode != self._inode:  # somebody has rewritten it: read it from the start
                    self._records, self._offset, self._inode = [], 0, inode
                stream.seek(self._offset)
                fresh = stream.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]
            for text in whole.splitlines():
                try:
                    self._records.append(json.loads(text))
                except ValueError as error:
                    number = len(self._records) + 1
                    raise JournalError(
                        f"{self.path}: line {number} cannot be read; restore the file from a "
                        "backup, or remove that line by hand"
                    ) from error
            self._offset += len(whole)
        return self._records

    @contextmanager
    def locked(self) -> Iterator[list[dict[str, Any]]]:
        """Hold the journal against other writers; yields all records. Freed with the process."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield self.records()

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add `records` durably. Call it inside `locked()`."""
        created = not self.path.exists()
        with self.path.open("ab") as stream:
            stream.truncate(self._offset)  # what a killed writer left of its last line
            stream.write(b"".join(map(line, records)))
            stream.flush()
            os.fsync(stream.fileno())
        if created:
            sync_folder(self.path.parent)
        self.records()

    def rewrite(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace all records, in one step. Call it inside `locked()`."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_bytes(b"".join(map(line, records)))
        publish(temporary, self.path)
        self.records()


def line(record: Mapping[str, Any]) -> bytes:
    """A record as it stands in the file."""
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"
