"""The erasure ledger: who must never be known again, without saying who.

A line holds a keyed hash (HMAC-SHA256) of a user id, when and why; never the id. Whoever has the
ledger alone learns nothing from it; with the key, an id can be looked up, and that is all it is
for: every ingestion asks it, and so does what follows the restore of a backup.

Belongs here: the key, the lines, and telling erased ids from others. Does not belong here: finding
and removing what is stored about a user (`recsys_assets.erasure`).

Layout below the home::

    erasure/key            32 random bytes, mode 0600; made with the first line
    erasure/ledger.jsonl   append-only; `asked`, and `done` once a search found nothing any more
    lake/users_erased      empty: beside the tables, so that a ledger that is gone is missed
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.digests import json_sha256
from recsys_assets.core.durable import sync_folder
from recsys_assets.core.journal import Journal, JournalError
from recsys_assets.core.lake import LakeError

FOLDER = "erasure"
WORKER = "recsys forget"
"""Who holds the lake while users are being erased."""

Mask = npt.NDArray[np.bool_]
Erased = Callable[[pa.Array], Mask]
"""Tells of each of an array's texts (nulls too) whether it is the id of an erased user."""


class ErasureError(LakeError):
    """The ledger or its key cannot be used; the message says what to do."""


class Erasures:
    """The erasure ledger in `folder`: of a home, its `FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_path = folder / "key"
        self.path = folder / "ledger.jsonl"
        self._note = folder.parent / "lake" / "users_erased"
        self._journal = Journal(self.path)
        self._records: list[dict[str, Any]] = []
        self._checked = 0

    # -- asking ------------------------------------------------------------------------------

    def hashes(self) -> frozenset[str]:
        """Of every erased user."""
        return frozenset(r["user"] for r in self.records() if r["kind"] == "asked")

    def pending(self) -> dict[str, str]:
        """Hash -> when it was asked for, of erasures that no search has proved yet."""
        open_: dict[str, str] = {}
        for record in self.records():
            if record["kind"] == "asked":
                open_[record["user"]] = record["at"]
            else:
                open_.pop(record["user"], None)
        return open_

    def records(self) -> list[dict[str, Any]]:
        """Every line, oldest first. Raises ErasureError for a damaged one."""
        try:
            records = self._journal.records()
        except JournalError as error:
            raise ErasureError(str(error)) from error
        if records is not self._records:
            self._records, self._checked = records, 0
        for number, record in enumerate(records[self._checked :], self._checked + 1):
            if not _is_whole(record):
                raise ErasureError(
                    f"{self.path}: line {number} was altered, so nobody knows whom it is about: "
                    "restore the file from where you keep it; nothing is ingested until then"
                )
        self._checked = len(records)
        return records

    def erased(self) -> Erased | None:
        """The question to put to every delivered id; None when nobody was ever erased.

        Raises ErasureError when there are erasures and no key to recognise them by, or when the
        ledger is gone: what is delivered then must not be taken in.
        """
        self._refuse_if_gone()
        hashes = self.hashes()
        if not hashes:
            return None
        key = self.key()

        def mask(ids: pa.Array) -> Mask:
            coded = ids.cast(pa.large_string()).dictionary_encode()
            known = [hash_of(key, i) in hashes for i in coded.dictionary.to_pylist()]
            if not any(known):
                return np.zeros(len(ids), dtype=bool)
            places = pc.fill_null(coded.indices, len(known)).to_numpy(zero_copy_only=False)
            return np.array([*known, False])[places]

        return mask

    def among(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of the ids that were erased."""
        hashes = self.hashes()
        if not hashes:
            return frozenset()
        key = self.key()
        return frozenset(i for i in ids if hash_of(key, i) in hashes)

    def hash(self, user_id: str) -> str:
        """What stands for an id in the ledger."""
        return hash_of(self.key(), user_id)

    def key(self) -> bytes:
        """The key. Raises ErasureError when it is missing or is not the one of the lines."""
        try:
            key = self.key_path.read_bytes()
        except FileNotFoundError as error:
            raise ErasureError(
                f"{self.path} has erasures, but {self.key_path} is missing, so nobody can be "
                "recognised: restore the key from where you keep it; nothing is ingested until then"
            ) from error
        wrong = {r["key"] for r in self.records()} - {_name_of(key)}
        if wrong:
            raise ErasureError(
                f"{self.key_path} is not the key that {self.path} was written with: restore the "
                "one that belongs to it; nothing is ingested until then"
            )
        return key

    def _refuse_if_gone(self) -> None:
        if self._note.exists() and not self.path.exists():
            raise ErasureError(
                f"users were erased here, and {self.path}, which says whom, is not there: restore "
                f"the folder {FOLDER}, its newest copy; nothing is ingested until then"
            )

    # -- writing -----------------------------------------------------------------------------

    def ask(self, user_id: str, why: str, now: datetime) -> str:
        """Write durably that a user is to be erased; returns the hash. Twice is as good as once."""
        if re.search(rf"(?<![\w-]){re.escape(user_id)}(?![\w-])", why):
            raise ErasureError("the reason must not name the user: the ledger is kept for ever")
        self._refuse_if_gone()
        self._make_key()
        name = hash_of(self.key(), user_id)
        with self._journal.locked():
            if name not in self.pending():
                self._write("asked", name, now, {"why": why})
        self._leave_note()
        return name

    def _leave_note(self) -> None:
        if not self._note.exists():
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.touch()
            sync_folder(self._note.parent)

    def done(self, names: Collection[str], now: datetime) -> None:
        """Write that a search found nothing any more of these users."""
        with self._journal.locked():
            for name in sorted(set(names) & set(self.pending())):
                self._write("done", name, now, {})

    def take_over(self, folder: Path) -> int:
        """Add what the ledger of another folder knows and this one does not; returns how many.

        For a home restored from a backup that is older than `folder`. Both have the same key,
        unless this home has no erasures yet. Raises ErasureError when there is none in `folder`.
        """
        other = Erasures(folder)
        if not other.path.exists():
            raise ErasureError(
                f"{other.path} is not there: name the folder `erasure` that you keep apart, with "
                "its ledger.jsonl and its key"
            )
        missing = [r for r in other.records() if r not in self.records()]
        if not missing:
            return 0
        key = other.key()
        if self.records() and self.key() != key:
            raise ErasureError(f"{folder} has another key than {self.folder}: they do not belong")
        if not self.key_path.exists():
            self._make_key(key)
        with self._journal.locked():
            self._journal.append(missing)
        self._leave_note()
        return len({r["user"] for r in missing if r["kind"] == "asked"})

    def _write(self, kind: str, user: str, now: datetime, more: dict[str, str]) -> None:
        at = now.isoformat(timespec="seconds")
        line = {"kind": kind, "user": user, "at": at, "key": _name_of(self.key()), **more}
        self._journal.append([{**line, "seal": _seal(line)}])

    def _make_key(self, key: bytes | None = None) -> None:
        """Create the key where there is none, whole or not at all."""
        if self.key_path.exists() or self.path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.folder / f"key-{os.getpid()}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, key or secrets.token_bytes(32))
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            os.link(temporary, self.key_path)  # fails, and so changes nothing, if another was first
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(self.folder)


def hash_of(key: bytes, user_id: str) -> str:
    """HMAC-SHA256 of an id, hex."""
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()


def _is_whole(record: Mapping[str, Any]) -> bool:
    bare = {k: v for k, v in record.items() if k != "seal"}
    return {"kind", "user", "at", "key"} <= bare.keys() and record.get("seal") in (
        None,
        _seal(bare),
    )


def _seal(record: Mapping[str, Any]) -> str:
    """The checksum of a line. Lines of earlier programs have none."""
    return json_sha256(record)[:16]


def _name_of(key: bytes) -> str:
    return hashlib.sha256(b"name of key\0" + key).hexdigest()[:16]
