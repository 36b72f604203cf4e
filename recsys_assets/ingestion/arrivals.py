"""New files of a watched folder: when one is complete, and the durable record of what came.

An arrival is one content under one name. Accepting a file copies it into the archive under its
sha256 and appends one line to the ledger; from then on the source *is* the ledger: for each name
its newest content. Hence

- a lost or rewound sensor cursor, a doubled tick, two daemons: nothing twice, nothing skipped,
  because nobody remembers anything but the ledger, and it is only written under its lock;
- the same bytes under another name are one batch (landing reads each content once);
- a file that was accepted half-uploaded is healed when the rest comes: same name, newer content;
- cleaning up the folder loses nothing; an empty redelivery (header only) retracts a file.

Belongs here: looking at a folder, judging completeness, the ledger and its archive. Does not belong
here: what a file means (`tabular`), which days it touches (`assets`), when to look (the sensor).
`Inbox` is what a kind of place has to offer: a local folder here, an object store in
`object_store.py`.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Protocol

from recsys_assets.core.digests import file_sha256, read_signed_json, signed_json
from recsys_assets.core.durable import publish, sync_folder
from recsys_assets.core.settings.arrival import ArrivalSettings
from recsys_assets.ingestion.source import (
    NOT_TEXT,
    Role,
    SourceError,
    SourceFile,
    is_text,
    name_of,
)

_PIECE = 1 << 20
_NOT_TAKEN = "not taken"
"""In the place of a sha256, of a file that was refused for what it holds."""
_LET = "let the user that recsys works as read it (chmod, chown)"

Blank = Callable[[Role, str, Path], list[int]]
"""Blanks the rows of erased users in a file of this role and name, in place; gives their numbers.
Raises SourceError for a file that cannot be read, or that no path of the shop file leads to."""


class LedgerError(RuntimeError):
    """The ledger of arrivals cannot be believed; the text names the line and what to do."""


class _UnreadableError(RuntimeError):
    """In a new file the rows of erased users cannot be told from others; the text says why."""


@dataclass(frozen=True, order=True)
class Listed:
    """One name in an inbox. `changed` is when its bytes or its name last changed (not a date that
    the sender can set); `stamp` differs whenever the content may differ."""

    role: Role
    name: str
    changed: datetime
    size: int
    stamp: str


class Inbox(Protocol):
    """A place where files appear."""

    @property
    def settle(self) -> timedelta:
        """How long a file must have been left alone to count as complete."""
        ...

    def listing(self) -> Iterable[Listed]:
        """Every regular file that may be data, temporary names left out, in any order. Raises
        SourceError when the place cannot be looked at."""
        ...

    def refused(self) -> dict[str, str]:
        """name -> why it will never be read, of the last listing."""
        ...

    def open(self, listed: Listed) -> BinaryIO:
        """The bytes. Raises OSError if the file is gone or is no longer what was listed."""
        ...


@dataclass(frozen=True)
class Watched:
    """A folder and the names in it that are data of `role`; `suffixes` speak for a whole folder,
    subfolders included, `pattern` for names directly in it."""

    role: Role
    folder: Path
    pattern: str | None
    suffixes: tuple[str, ...] = ()

    def accepts(self, path: Path) -> bool:
        if self.pattern is not None:
            return path.parent == self.folder and fnmatchcase(path.name, self.pattern)
        return path.is_relative_to(self.folder) and path.suffix.lower() in self.suffixes


@dataclass
class LocalInbox:
    """Folders of this machine. `root` is what names are told relative to."""

    root: Path
    watched: tuple[Watched, ...]
    settings: ArrivalSettings
    _refused: dict[str, str] = field(default_factory=dict)

    @property
    def settle(self) -> timedelta:
        """See `Inbox.settle`."""
        return timedelta(seconds=0 if self.settings.marker else self.settings.settle_seconds)

    def listing(self) -> Iterator[Listed]:
        """See `Inbox.listing`. Links and special files are refused, and so are paths that lead out
        of their folder."""
        self._refused = {}
        for watched in self.watched:
            for path in sorted(self._below(watched)):
                if watched.accepts(path) and not is_temporary(path, watched, self.settings):
                    listed = self._look(path, watched)
                    if listed is not None:
                        yield listed

    def refused(self) -> dict[str, str]:
        """See `Inbox.refused`."""
        return dict(self._refused)

    def open(self, listed: Listed) -> BinaryIO:
        """See `Inbox.open`."""
        path = self.root / listed.name
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or _stamp(status) != listed.stamp:
            os.close(handle)
            raise OSError(f"{path} changed while it was looked at")
        return os.fdopen(handle, "rb")

    def _below(self, watched: Watched) -> Iterator[Path]:
        """Everything in its folders. `rglob` would pass over one that is closed to us."""
        folders = [watched.folder]
        if watched.pattern is None:
            folders += (p for p in watched.folder.rglob("*") if p.is_dir() and not p.is_symlink())
        for folder in folders:
            try:
                yield from folder.iterdir() if folder.is_dir() else ()
            except PermissionError:
                self._refused[name_of(folder, self.root)] = f"cannot be looked into: {_LET}"

    def _look(self, path: Path, watched: Watched) -> Listed | None:
        name = name_of(path, self.root)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode):
            return None
        if not is_text(name):
            self._refused[ascii(name)] = NOT_TEXT
            return None
        if not stat.S_ISREG(status.st_mode):
            self._refused[name] = "is not a regular file (a link, pipe or device): deliver a copy"
            return None
        if not path.resolve().is_relative_to(watched.folder.resolve()):
            self._refused[name] = "lies outside the watched folder: deliver it inside"
            return None
        if status.st_size > self.settings.max_megabytes * 1_000_000:
            self._refused[name] = too_large(status.st_size, self.settings)
            return None
        if self.settings.marker is not None and not Path(f"{path}{self.settings.marker}").exists():
            return None
        if not os.access(path, os.R_OK, effective_ids=True):
            self._refused[name] = f"cannot be read: {_LET}"
            return None
        # The modification time is the sender's to set, to the past or to the future.
        changed = datetime.fromtimestamp(status.st_ctime, UTC)
        return Listed(watched.role, name, changed, status.st_size, _stamp(status))


def is_temporary(path: Path, watched: Watched, settings: ArrivalSettings) -> bool:
    """Whether a path's name says that it is an upload under way, or a marker."""
    if settings.marker is not None and path.name.endswith(settings.marker):
        return True
    names = path.relative_to(watched.folder).parts
    return any(fnmatchcase(n, pattern) for n in names for pattern in settings.ignore)


def too_large(size: int, settings: ArrivalSettings) -> str:
    """Why a file of so many bytes is refused."""
    return (
        f"has {size / 1e6:,.0f} MB, more than arrival.max_megabytes "
        f"({settings.max_megabytes:,}): split it, or raise the limit"
    )


@dataclass(frozen=True)
class Arrival:
    """A line of the ledger: `name` has had this content since `at`.

    `history`: it lay there when the shop's first data came in, so its events are not "late", nor
    are those of a later content of its name.
    """

    role: Role
    name: str
    sha256: str
    size: int
    at: datetime
    history: bool


@dataclass(frozen=True)
class Blanked:
    """A content without the rows of erased users: sha256 of what is kept, numbers of the rows."""

    stored: str
    rows: tuple[int, ...]


@dataclass
class Look:
    """What one look at the inbox came to."""

    accepted: list[Arrival] = field(default_factory=list)
    arriving: list[str] = field(default_factory=list)
    """not complete yet"""
    refused: dict[str, str] = field(default_factory=dict)
    """name, or a place that cannot be looked at -> why"""

    def add(self, other: "Look") -> None:
        """Take in what another inbox came to."""
        self.accepted += other.accepted
        self.arriving += other.arriving
        self.refused |= other.refused


class ArrivalLedger:
    """The append-only record of arrivals below `folder`, and the archive of their contents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "ledger.jsonl"
        self.files = folder / "files"
        self._blanked_path = folder / "blanked.json"

    def accept(
        self,
        inbox: Inbox,
        now: datetime,
        *,
        history: bool = False,
        blank: Blank | None = None,
    ) -> Look:
        """Take every complete file of `inbox` that is not yet the content of its name.

        Safe to call from anywhere, any number of times, by several processes at once. `blank`
        takes erased users' rows out of what is kept (`blanking.py`); a file that it cannot read is
        refused. Raises SourceError when the place cannot be looked at; what was taken before that
        stays.
        """
        look, unreadable = Look(), dict[str, str]()
        self.files.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._mend()
            self._sweep()
            known = {(a.role, a.name): a for a in self.active()}
            stamps = self._stamps()
            try:
                for listed in inbox.listing():
                    name, stamp = listed.name, listed.stamp
                    before = known.get((listed.role, name))
                    if before is not None and stamps.get(name) == [stamp, before.sha256]:
                        continue
                    if inbox.settle and now - listed.changed < inbox.settle:
                        look.arriving.append(name)
                        continue
                    try:
                        sha256 = self._archive(inbox, listed, blank)
                    except _UnreadableError as error:
                        unreadable[name] = str(error)
                        stamps[name] = [stamp, _NOT_TAKEN]
                        continue
                    if sha256 is None:
                        look.arriving.append(name)
                        continue
                    if before is None or before.sha256 != sha256:
                        arrival = Arrival(listed.role, name, sha256, listed.size, now, history)
                        self._append(arrival)
                        look.accepted.append(arrival)
                    stamps[name] = [stamp, sha256]
            finally:  # what was taken before a store went away is not read again
                self._keep_stamps(stamps)
            look.refused = inbox.refused() | unreadable
        return look

    def not_taken(self) -> dict[str, str]:
        """name -> stamp of what the last look refused because rows of erased users could not be
        told from others in it. Why is kept nowhere: the text may quote the file."""
        return {n: note[0] for n, note in self._stamps().items() if note[1:] == [_NOT_TAKEN]}

    def arrivals(self) -> list[Arrival]:
        """Every line, oldest first. A torn last line is not there (see `torn_bytes`).

        Raises LedgerError for a damaged line that is not the last one.
        """
        return [_parse(line, number, self.path) for number, line in enumerate(self._lines(), 1)]

    def active(self) -> list[Arrival]:
        """The newest content of each name, sorted by role and name."""
        newest = {(a.role, a.name): a for a in self.arrivals()}
        return [newest[key] for key in sorted(newest)]

    def source_files(self) -> list[SourceFile]:
        """The active contents as files of a source, in the archive."""
        blanked = self.blanked()
        nothing = Blanked("", ())
        first = {(a.role, a.name): a for a in reversed(self.arrivals())}
        return [
            SourceFile(
                role=a.role, name=a.name, path=self.archived(a), sha256=a.sha256, size=a.size,
                arrived=a.at, history=a.history or first[a.role, a.name].history,
                since=first[a.role, a.name].at, stored=blanked.get(a.sha256, nothing).stored,
                blanked=blanked.get(a.sha256, nothing).rows,
            )
            for a in self.active()
        ]  # fmt: skip

    def blanked(self) -> dict[str, Blanked]:
        """sha256 as delivered -> what was blanked in it. Raises LedgerError for a damaged note."""
        try:
            data = self._blanked_path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            # An earlier program wrote one line, without a checksum.
            document = read_signed_json(data) if b"\n" in data else json.loads(data)
            return {k: Blanked(v["stored"], tuple(v["rows"])) for k, v in document.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"{self._blanked_path} is damaged ({error}), and which rows were blanked for "
                "erased users is not known: restore it from a backup; or delete it and deliver "
                "those files again"
            ) from error

    def erase(
        self, blank: Blank, mentions: Callable[[Path], bool] = lambda path: False
    ) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
        """Blank the rows of erased users in everything that is kept, replaced contents too; of
        these also remove those that still have `mentions` then.

        Returns name -> rows blanked now, name -> why its content cannot be read and must be looked
        at, and name -> why a replaced content could not be read and was removed. Safe to repeat.
        """
        done: dict[str, int] = {}
        failed: dict[str, str] = {}
        removed: dict[str, str] = {}
        if not self.path.exists():
            return done, failed, removed
        with self._locked():
            self._sweep()
            active = {self.archived(a) for a in self.active()}
            for arrival in {(a.role, a.name, a.sha256): a for a in self.arrivals()}.values():
                path = self.archived(arrival)
                if not path.is_file():
                    continue
                copy = self.files / f"tmp-{uuid.uuid4().hex}{path.suffix}"
                try:
                    shutil.copyfile(path, copy)
                    now = self._blank(blank, arrival.role, arrival.name, arrival.sha256, copy)
                    if now:
                        copy.replace(path)
                        sync_folder(path.parent)
                        done[arrival.name] = now
                    if path not in active and mentions(path):
                        path.unlink()
                except SourceError as error:
                    told = failed if path in active else removed
                    told[arrival.name] = str(error).replace(str(copy), arrival.name)
                    if path not in active:
                        path.unlink()
                finally:
                    copy.unlink(missing_ok=True)
        return done, failed, removed

    def archived(self, arrival: Arrival) -> Path:
        """Where the content of `arrival` lies."""
        return self._place(arrival.sha256, arrival.name)

    def replaced(self, before: datetime) -> dict[Path, int]:
        """Kept contents that a newer one of their name replaced before that moment, and that no
        name has now -> their bytes. What lies in the archive without a line here stays."""
        active = {self.archived(a) for a in self.active()}
        newest: dict[tuple[Role, str], Path] = {}
        since: dict[Path, datetime] = {}
        for arrival in self.arrivals():
            name, path = (arrival.role, arrival.name), self.archived(arrival)
            if name in newest:
                since[newest[name]] = max(arrival.at, since.get(newest[name], arrival.at))
            newest[name] = path
        return {
            path: path.stat().st_size
            for path, at in sorted(since.items())
            if path not in active and at < before and path.is_file()
        }

    def drop_replaced(self, before: datetime) -> None:
        """Delete what `replaced` tells. The lines stay: the record says what was delivered."""
        with self._locked():
            for path in self.replaced(before):
                path.unlink()

    def unlisted(self) -> list[Path]:
        """Kept contents that no line names, sorted: what an older copy of the record leaves behind,
        or one that was moved away. They are no part of the shop's data."""
        kept = sorted(self.files.glob("*/*"))  # first: a file is there before its line
        listed = {self.archived(a) for a in self.arrivals()}
        return [path for path in kept if path not in listed]

    def torn_bytes(self) -> int:
        """Length of an unfinished last line: the mark of a crash while writing. It was never
        acknowledged, and the next `accept` cuts it and takes the file again."""
        if not self.path.exists():
            return 0
        data = self.path.read_bytes()
        return len(data) - data.rfind(b"\n") - 1

    def problems(self) -> list[str]:
        """What is wrong with the ledger and the archive, in words. Hashes every active content."""
        try:
            active, blanked = self.active(), self.blanked()
        except LedgerError as error:
            return [str(error)]
        found = []
        if self.torn_bytes():
            found.append(f"{self.path} ends in a torn line: the next look at the folder mends it")
        if unlisted := self.unlisted():
            found.append(
                f"{len(unlisted)} kept files are in no line of {self.path}, so no data of the shop "
                f"(first {unlisted[0]}): restore the newest copy of the ledger, or redeliver what "
                "is missing and delete the others"
            )
        for arrival in active:
            path = self.archived(arrival)
            if not path.is_file():
                found.append(f"{path} ({arrival.name}) is missing: restore it, or redeliver it")
            elif file_sha256(path) not in (arrival.sha256, _stored(blanked, arrival)):
                found.append(f"{path} ({arrival.name}) was altered: delete it and redeliver it")
        return found

    # -- inside ------------------------------------------------------------------------------

    def _place(self, sha256: str, name: str) -> Path:
        return self.files / sha256[:2] / f"{sha256}{Path(name).suffix.lower()}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        return self.path.read_bytes().split(b"\n")[:-1]

    def _mend(self) -> None:
        torn = self.torn_bytes()
        if torn:
            with self.path.open("r+b") as stream:
                stream.truncate(self.path.stat().st_size - torn)
                os.fsync(stream.fileno())

    def _sweep(self) -> None:
        for path in self.files.glob("tmp-*"):
            path.unlink()  # we hold the lock: nobody is writing it

    def _archive(self, inbox: Inbox, listed: Listed, blank: Blank | None) -> str | None:
        """Copy the content into the archive; None when the file changed while it was copied."""
        suffix = Path(listed.name).suffix.lower()
        target = self.files / f"tmp-{uuid.uuid4().hex}{suffix}"
        digest, size = hashlib.sha256(), 0
        try:
            with inbox.open(listed) as stream, target.open("wb") as copy:
                while size <= listed.size and (piece := stream.read(_PIECE)):
                    size += len(piece)
                    digest.update(piece)
                    copy.write(piece)
            if size != listed.size:
                return None
            with inbox.open(listed):  # the same stamp after copying as before
                pass
            sha256 = digest.hexdigest()
            try:
                self._blank(blank, listed.role, listed.name, sha256, target)
            except SourceError as error:
                raise _UnreadableError(
                    "is not taken, since nobody could tell rows of erased users in it: deliver it "
                    f"again, corrected. {str(error).removeprefix(f'{target}: ')}"
                ) from error
            place = self._place(sha256, listed.name)
            publish(target, place)
            sync_folder(self.files)
            return sha256
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno is None:  # raised by `open`: it changed
                return None
            raise
        finally:
            target.unlink(missing_ok=True)

    def _blank(self, blank: Blank | None, role: Role, name: str, sha256: str, path: Path) -> int:
        """Blank `path`, which holds (or once held) the content `sha256`, and note it durably.

        The note comes before the file: until the file is in its place, both are right. Returns
        how many rows were blanked now.
        """
        found = set(blank(role, name, path)) if blank is not None else set()
        if not found:
            return 0
        known = self.blanked()
        rows = found | (set(known[sha256].rows) if sha256 in known else set())
        known[sha256] = Blanked(file_sha256(path), tuple(sorted(rows)))
        document = {k: {"stored": v.stored, "rows": list(v.rows)} for k, v in known.items()}
        temporary = self._blanked_path.with_suffix(".tmp")
        temporary.write_text(signed_json(document), encoding="utf-8")
        publish(temporary, self._blanked_path)
        return len(found)

    def _append(self, arrival: Arrival) -> None:
        with self.path.open("ab") as stream:
            stream.write(_line(arrival))
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self.folder)

    def _stamps(self) -> dict[str, list[str]]:
        """What spares hashing an untouched file again. Lost or damaged, everything is hashed."""
        try:
            loaded: dict[str, list[str]] = json.loads((self.folder / "stamps.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def _keep_stamps(self, stamps: dict[str, list[str]]) -> None:
        path = self.folder / "stamps.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(stamps, sort_keys=True), encoding="utf-8")
        temporary.replace(path)


def _line(arrival: Arrival) -> bytes:
    content = {**asdict(arrival), "at": arrival.at.isoformat()}
    body = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return json.dumps([_check(body), body], ensure_ascii=False).encode() + b"\n"


def _parse(line: bytes, number: int, path: Path) -> Arrival:
    try:
        check, body = json.loads(line)
        content = json.loads(body)
        if check != _check(body):
            raise ValueError("its checksum differs")
        return Arrival(**{**content, "at": datetime.fromisoformat(content["at"])})
    except (ValueError, TypeError, KeyError) as error:
        raise LedgerError(
            f"{path}, line {number}: damaged ({error}). Restore the file from a backup; or, if "
            "every delivered file still lies in the watched folder, move the ledger away: the next "
            "look takes them all again as the shop's first data, and no event is counted twice"
        ) from error


def _check(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _stored(blanked: Mapping[str, Blanked], arrival: Arrival) -> str:
    return blanked[arrival.sha256].stored if arrival.sha256 in blanked else ""


def _stamp(status: os.stat_result) -> str:
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return "-".join(map(str, parts))


def watch(role: Role, pattern: Path, suffixes: tuple[str, ...]) -> Watched:
    """What a path of the shop file means when it is watched: a folder with everything of `suffixes`
    below it, or a folder and a glob of names in it. The folder need not exist yet."""
    folder = pattern.parent
    if not folder.is_dir() and any(sign in folder.as_posix() for sign in "*?["):
        raise SourceError(
            f"{pattern}: with `arrival`, only the file name may hold * or ?; name the folder "
            "itself to take everything below it"
        )
    one = any(sign in pattern.name for sign in "*?[") or pattern.suffix.lower() in suffixes
    if one or pattern.is_file():
        return Watched(role, pattern.parent, pattern.name)
    return Watched(role, pattern, None, suffixes)
