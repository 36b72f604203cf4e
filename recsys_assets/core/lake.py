"""The lake: immutable versions of tables, their verdicts, and one `current` pointer per asset.

Write, audit, publish. `store` and `propose` leave a *candidate*; `approve` (called by the asset's
quality gate, for exactly the version it audited) moves `current`; `read` hands out `current` and
refuses while the newest candidate is not approved. `served` hands out `current` whatever the newest
candidate is: it is for what is shown to people, which ages rather than disappears.

Belongs here: files, manifests, pointers, locks. Does not belong here: Dagster, what a table means,
and how it is judged. Nothing is ever pickled; every file is hashed before it is parsed.

Layout below the root::

    objects/<aa>/<sha256>.<parquet|json>   content-addressed, written once
    manifests/<version>.json               what a version consists of; no clock, no run id
    pointers/<asset>.json                  per partition: candidate, current, verdict
    releases.json                          which release is served (publishing/releases.py)
    log/<asset>.jsonl                      who did what when (for people, never read back)
    tmp/                                   unfinished writes; swept when their process is gone
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.core.digests import file_sha256, json_sha256
from recsys_assets.core.durable import publish

FORMAT = 1
_WAITS = "waits"
"""File in the temporary folder of who waits for the lake; says who."""
Verdict = Literal["pending", "approved", "rejected", "broken"]


class LakeError(RuntimeError):
    """Something in the lake is not as it must be; the message says what and what to do."""


class NotApprovedError(LakeError):
    """The newest version of an input has not passed its gate."""


class CorruptFileError(LakeError):
    """A stored file does not have the content its manifest promises."""


class BusyError(LakeError):
    """Another run holds the lake."""


@dataclass(frozen=True)
class VersionKey:
    """What a version was made from. Equal keys mean equal bytes, so a job may reuse the version."""

    code: str
    config: str
    libraries: str
    inputs: Mapping[str, str]
    """asset key -> content id"""


@dataclass(frozen=True)
class File:
    """One stored file of a version. `part` is the value of the table's `part_by` column, or ''.

    `key`: what this file alone was made from, where a table is made piece by piece.
    """

    part: str
    sha256: str
    rows: int
    bytes: int
    key: str = ""


@dataclass(frozen=True)
class Version:
    """One complete, immutable version of one partition of one asset."""

    asset: str
    partition: str
    files: tuple[File, ...]
    schema: tuple[tuple[str, str], ...]
    key: VersionKey
    report: str
    """sha256 of the JSON report written with it (numbers and pictures for people)"""

    @cached_property
    def content_id(self) -> str:
        """Hash of the data alone: equal for equal bytes, whatever code or inputs made them."""
        return json_sha256([[[f.part, f.sha256] for f in self.files], self.schema])

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)

    def to_json(self) -> bytes:
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Version":
        document = json.loads(data)
        found = document.pop("format")
        if found != FORMAT:
            raise LakeError(
                f"manifest has format {found}, this program reads {FORMAT}: "
                "use the program version that wrote it, or rebuild the lake from the source"
            )
        return cls(
            asset=document["asset"],
            partition=document["partition"],
            files=tuple(File(**f) for f in document["files"]),
            schema=tuple((n, t) for n, t in document["schema"]),
            key=VersionKey(**document["key"]),
            report=document["report"],
        )


@dataclass(frozen=True)
class PointerEntry:
    """State of one partition: version ids and the verdict on `candidate`."""

    candidate: str
    current: str | None = None
    verdict: Verdict = "pending"
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A readable set of versions of one asset, one per partition. Hashed on first use."""

    lake: "Lake"
    asset: str
    versions: tuple[Version, ...]
    _verified: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)

    @property
    def content_id(self) -> str:
        if len(self.versions) == 1 and not self.versions[0].partition:
            return self.versions[0].content_id
        return json_sha256([[[v.partition, v.content_id] for v in self.versions]])

    @property
    def version_id(self) -> str:
        """The id of its version, or of all its partitions' versions together."""
        if len(self.versions) == 1 and not self.versions[0].partition:
            return self.versions[0].id
        return json_sha256([[[v.partition, v.id] for v in self.versions]])

    @property
    def rows(self) -> int:
        return sum(v.rows for v in self.versions)

    @property
    def parts(self) -> list[str]:
        """Values of the `part_by` column, sorted."""
        return sorted({f.part for v in self.versions for f in v.files})

    @property
    def columns(self) -> list[str]:
        return [name for name, _ in self.versions[0].schema] if self.versions else []

    def paths(self, part: str | None = None) -> list[Path]:
        """Paths of the files (of one part), every one checked against its sha256."""
        files = [
            (v.partition, f.part, f)
            for v in self.versions
            for f in v.files
            if part is None or f.part == part
        ]
        if part is not None and not files:
            raise LakeError(f"{self.asset} has no part {part!r}; it has {self.parts}")
        return [self._verify(f) for _, _, f in sorted(files, key=lambda t: t[:2])]

    def to_arrow(
        self,
        columns: Sequence[str] | None = None,
        part: str | None = None,
    ) -> pa.Table:
        """The rows as one Arrow table, in partition and part order."""
        names = list(columns) if columns is not None else None
        tables = [
            pq.ParquetFile(p, page_checksum_verification=True).read(columns=names)
            for p in self.paths(part)
        ]
        return pa.concat_tables(tables) if len(tables) > 1 else tables[0]

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        part: str | None = None,
    ) -> pd.DataFrame:
        """The rows as a frame. Strings are Arrow-backed, times are UTC."""
        return self.to_arrow(columns, part).to_pandas()

    def where(
        self,
        column: str,
        value: str,
        part: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The rows with this value in a column, in partition and part order. Row groups that cannot
        hold it by their statistics are not read."""
        paths = [str(path) for path in self.paths(part)]
        names = list(columns) if columns is not None else None
        return pq.read_table(paths, columns=names, filters=[(column, "=", value)])

    def report(self) -> dict[str, Any]:
        """The report written with the version (numbers and pictures)."""
        return self.lake.report(self.versions[-1])

    def _verify(self, file: File) -> Path:
        found = self._verified.get(file.sha256)
        if found is None:
            found = self.lake.verified_object(self.asset, file.sha256, "parquet")
            self._verified[file.sha256] = found
        return found


Read = Callable[[str], Snapshot]
"""How a table is found by name: `Lake.served`, or the tables of one release."""


class Lake:
    """A lake in a local folder. See the module docstring for the rules and the layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("objects", "manifests", "pointers", "log", "tmp", "locks"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    # -- writing -----------------------------------------------------------------------------

    def store(
        self,
        asset: str,
        parts: Iterable[tuple[str, pa.Table]],
        key: VersionKey,
        *,
        partition: str = "",
        report: Callable[[], Mapping[str, Any]] = dict,
        part_key: Callable[[str], str] = lambda part: "",
        kept: Sequence[File] = (),
        kept_from: Version | None = None,
    ) -> Version:
        """Store `parts` as a complete version that no pointer names yet.

        `parts` yields (part name, table); it is consumed one at a time, so memory holds one part.
        `report` is called after the last part, so a producer may fill it while it goes.
        `kept` are files of the version `kept_from` that belong to this one too, as they are.
        """
        with self._scratch() as scratch:
            files = list(kept)
            schema = kept_from.schema if kept_from is not None and kept else ()
            for part, table in parts:
                found = tuple((f.name, str(f.type)) for f in table.schema)
                if kept and found != schema:
                    raise LakeError(
                        f"{asset}: part {part!r} has other columns than the parts that are kept: "
                        f"{found} and {schema}"
                    )
                schema = found
                files.append(self._store_table(scratch, part, table, part_key(part)))
            if not files:
                raise LakeError(f"{asset}: nothing to write, the producer yielded no table")
            blob = json.dumps(report(), sort_keys=True, separators=(",", ":")).encode()
            version = Version(
                asset=asset,
                partition=partition,
                files=tuple(sorted(files, key=lambda f: f.part)),
                schema=schema,
                key=key,
                report=self._store_bytes(scratch, blob, "json"),
            )
            self._publish_bytes(
                scratch, version.to_json(), self.root / "manifests" / f"{version.id}.json"
            )
        return version

    def propose(
        self, versions: Sequence[Version], run_id: str = "", *, without: Collection[str] = ()
    ) -> None:
        """Make complete `versions` (of one asset) its candidates, all partitions in one step, and
        forget the partitions `without`. Releases that hold those keep them."""
        asset = versions[0].asset
        dropped = []
        with self._pointer(asset) as entries:
            for partition in sorted(without):
                dropped.append(self.version(entries.pop(partition).candidate))
            for version in versions:
                old = entries.get(version.partition)
                current = old.current if old else None
                if old is not None and old.candidate == version.id and old.verdict == "approved":
                    continue
                entries[version.partition] = PointerEntry(version.id, current)
        for version in dropped:
            self._log(asset, "dropped", version, run_id)
        for version in versions:
            self._log(asset, "proposed", version, run_id)

    def approve(self, versions: Sequence[Version], run_id: str = "") -> None:
        """Make `versions` (of one asset) current. Refused when a newer candidate has come up."""
        asset = versions[0].asset
        with self._pointer(asset) as entries:
            for version in versions:
                entry = entries.get(version.partition)
                if entry is None or entry.candidate != version.id:
                    raise BusyError(
                        f"{_name(version)}: a newer version was written while {version.id[:12]} "
                        "was being checked; run the check again"
                    )
                entries[version.partition] = PointerEntry(version.id, version.id, "approved")
        for version in versions:
            self._log(asset, "approved", version, run_id)

    def repoint(
        self,
        asset: str,
        copies: Mapping[str, str],
        lost: Collection[str],
        quiet: Callable[[str], str],
    ) -> None:
        """Let a pointer name redacted `copies` (old id -> new) with the standing of the old, the
        reasons made `quiet`, and nothing that is `lost`: a lost candidate leaves what is current.
        """
        with self._pointer(asset) as entries:
            for partition, old in list(entries.items()):
                current = None if old.current in lost else old.current
                entry = replace(
                    old,
                    candidate=copies.get(old.candidate, old.candidate),
                    current=copies.get(current, current) if current else None,
                    reasons=tuple(quiet(r) for r in old.reasons),
                )
                if old.candidate not in lost:
                    entries[partition] = entry
                elif entry.current:
                    entries[partition] = PointerEntry(entry.current, entry.current, "approved")
                else:
                    del entries[partition]

    def reject(
        self,
        version: Version,
        reasons: Sequence[str],
        run_id: str = "",
        *,
        broken: bool = False,
    ) -> None:
        """Record that `version` failed its gate, or (`broken`) that the gate itself failed."""
        verdict: Verdict = "broken" if broken else "rejected"
        with self._pointer(version.asset) as entries:
            entry = entries.get(version.partition)
            if entry is None or entry.candidate != version.id:
                return
            entries[version.partition] = PointerEntry(
                version.id, entry.current, verdict, tuple(reasons)
            )
        self._log(version.asset, verdict, version, run_id)

    # -- reading -----------------------------------------------------------------------------

    def entries(self, asset: str) -> dict[str, PointerEntry]:
        """State per partition ('' for an asset without partitions); empty when never written."""
        path = self._pointer_path(asset)
        return _entries(self.document(path), path)

    def assets(self) -> list[str]:
        """Every asset that was ever written, sorted."""
        return sorted(p.stem.replace("__", "/") for p in (self.root / "pointers").glob("*.json"))

    def version(self, version_id: str) -> Version:
        """The manifest of `version_id`, checked against its own name."""
        path = self.root / "manifests" / f"{version_id}.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise LakeError(
                f"there is no version {version_id} in {self.root}, which names it: a file is "
                "missing, as after a restore that was cut off. Restore the folder of all state "
                "whole (docs/production.md#backup-and-restore); `recsys doctor` names all that is "
                "missing"
            ) from error
        if hashlib.sha256(data).hexdigest() != version_id:
            raise CorruptFileError(f"manifest {path} was altered: its hash is not its name")
        return Version.from_json(data)

    def intact(self, version_id: str) -> Version | None:
        """A version whose manifest and files are there, each file as long as it was; None if they
        are not. What a file holds is seen where it is read."""
        try:
            version = self.version(version_id)
        except LakeError:
            return None
        found = all(self.object_size(f.sha256, "parquet") == f.bytes for f in version.files)
        return version if found and self.object_size(version.report, "json") is not None else None

    def candidates(self, asset: str) -> list[Version]:
        """The newest version of each partition, approved or not."""
        return [self.version(e.candidate) for _, e in sorted(self.entries(asset).items())]

    def read(self, asset: str, *, tolerated_partitions: int = 0) -> Snapshot:
        """What a consumer may read: `current`, if the newest candidate of `asset` is approved.

        For a partitioned asset up to `tolerated_partitions` may be unapproved; those fall back to
        their last approved version, or are left out when they have none, but not all of them.
        Raises NotApprovedError naming the asset, the partition, the failed checks and the remedy.
        """
        entries = self.entries(asset)
        if not entries:
            raise NotApprovedError(f"{asset} has never been materialized: materialize it first")
        bad = {p: e for p, e in sorted(entries.items()) if e.verdict != "approved"}
        nothing = not any(e.current for e in entries.values())
        if "" in bad or len(bad) > tolerated_partitions or nothing:
            raise NotApprovedError(_refusal(asset, bad))
        return self._snapshot(asset, entries)

    def served(self, asset: str) -> Snapshot:
        """The last approved state, whatever became of newer candidates. For serving, not building.

        Raises NotApprovedError when no version was ever approved.
        """
        entries = self.entries(asset)
        if not any(e.current for e in entries.values()):
            raise NotApprovedError(f"{asset} has no approved version yet: run the main job first")
        return self._snapshot(asset, entries)

    def of_version(self, *versions: Version) -> Snapshot:
        """A snapshot of exactly these versions: what a gate audits."""
        return Snapshot(self, versions[0].asset, versions)

    def newest(self, asset: str) -> Snapshot:
        """The newest version of each partition, approved or not: for warnings and refused rows."""
        return self.of_version(*self.candidates(asset))

    def report(self, version: Version) -> dict[str, Any]:
        """The report written with `version`."""
        path = self.verified_object(version.asset, version.report, "json")
        loaded: dict[str, Any] = json.loads(path.read_bytes())
        return loaded

    def verified_object(self, asset: str, sha256: str, suffix: str) -> Path:
        """The path of a stored file whose bytes have the given hash, or CorruptFileError."""
        path = self.object_path(sha256, suffix)
        try:
            actual = file_sha256(path)
        except FileNotFoundError as error:
            raise CorruptFileError(f"{asset}: file {path} is missing from the lake") from error
        if actual != sha256:
            raise CorruptFileError(
                f"{asset}: file {path} was altered (its hash is {actual[:12]}…): delete it and "
                f"materialize {asset} again"
            )
        return path

    def object_size(self, sha256: str, suffix: str) -> int | None:
        """Bytes of a stored file, None when it is missing. Reads nothing of it."""
        path = self.object_path(sha256, suffix)
        return path.stat().st_size if path.is_file() else None

    # -- small documents: pointers, and what is served ---------------------------------------

    def document(self, path: Path) -> dict[str, Any]:
        """A JSON document of the lake; empty when it was never written."""
        try:
            loaded: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise _damaged(path, error) from error
        return loaded

    @contextmanager
    def changing(self, path: Path) -> Iterator[dict[str, Any]]:
        """Read, change and atomically replace a document under a lock that dies with us.

        Nothing is written when the block raises.
        """
        with (self.root / "locks" / path.stem).open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            document = self.document(path)
            yield document
            with self._scratch() as scratch:
                data = json.dumps(document, sort_keys=True, indent=1).encode()
                self._publish_bytes(scratch, data, path)

    # -- housekeeping ------------------------------------------------------------------------

    @contextmanager
    def exclusive(self, owner: str, patience: float = 0.0) -> Iterator[None]:
        """Hold the lake for one run, waiting up to `patience` seconds for whoever holds it;
        BusyError names the holder. Freed when the process dies."""
        with (self.root / "locks" / "run").open("a+", encoding="utf-8") as stream:
            if _lock_soon(stream):
                _sign(stream, owner)
            else:
                self._wait(stream, owner, patience)
            yield

    def waiting(self) -> list[str]:
        """Who waits for the lake now (see `exclusive`)."""
        gone, found = self.orphans(), []
        for path in (self.root / "tmp").glob(f"*/{_WAITS}"):
            try:
                found += [path.read_text(encoding="utf-8")] if path.parent not in gone else []
            except FileNotFoundError:
                continue  # it waits no longer
        return found

    def holder(self) -> str:
        """Who holds the lake now (see `exclusive`), '' if nobody does."""
        path = self.root / "locks" / "run"
        if not path.exists():
            return ""
        with path.open("r", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return stream.read().strip() or "unknown"
            return ""

    def reading(self) -> IO[str]:
        """As long as the returned file is open, nothing that is readable now is deleted. Also in a
        home that may only be read, such as a backup."""
        path = self.root / "locks" / "readers"
        if not path.exists():
            path.touch()
        stream = path.open("r", encoding="utf-8")
        fcntl.flock(stream, fcntl.LOCK_SH)
        return stream

    @contextmanager
    def undisturbed(self, patience: float) -> Iterator[None]:
        """Wait until nobody is `reading`, and keep new readers waiting. BusyError after `patience`
        seconds."""
        with (self.root / "locks" / "readers").open("a", encoding="utf-8") as stream:
            end = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= end:
                        raise BusyError(
                            "a process still reads what is to be deleted: end it (`fuser "
                            f"{stream.name}` names it), then run the same command again"
                        ) from error
                    time.sleep(0.05)
            yield

    def orphans(self) -> list[Path]:
        """The unfinished writes of processes that are gone."""
        found = []
        for folder in sorted((self.root / "tmp").iterdir()):
            lock = folder / "lock"
            if not lock.exists():
                if not Path(f"/proc/{folder.name.split('-')[0]}").exists():
                    found.append(folder)
                continue
            try:
                with lock.open("r+") as stream:  # makes none where one has just been removed
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, FileNotFoundError):
                continue  # somebody works there, or has just done so
            found.append(folder)
        return found

    def sweep(self) -> int:
        """Remove the orphans; returns how many."""
        orphans = self.orphans()
        for folder in orphans:
            shutil.rmtree(folder)
        return len(orphans)

    # -- inside ------------------------------------------------------------------------------

    def _wait(self, stream: IO[str], owner: str, patience: float) -> None:
        end = time.monotonic() + patience
        with self._scratch() as scratch:
            (scratch / _WAITS).write_text(owner, encoding="utf-8")
            while not _lock_soon(stream):
                if time.monotonic() < end:
                    continue
                stream.seek(0)
                raise BusyError(
                    f"another run is working on this lake ({stream.read().strip()}): "
                    "wait for it to end, or stop it, then start again"
                )
            _sign(stream, owner)

    def _snapshot(self, asset: str, entries: Mapping[str, PointerEntry]) -> Snapshot:
        versions = tuple(self.version(e.current) for _, e in sorted(entries.items()) if e.current)
        return Snapshot(self, asset, versions)

    def object_path(self, sha256: str, suffix: str) -> Path:
        return self.root / "objects" / sha256[:2] / f"{sha256}.{suffix}"

    def _pointer_path(self, asset: str) -> Path:
        return self.root / "pointers" / f"{asset.replace('/', '__')}.json"

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = self.root / "tmp" / f"{os.getpid()}-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            with (folder / "lock").open("a") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _store_table(self, scratch: Path, part: str, table: pa.Table, key: str) -> File:
        path = scratch / uuid.uuid4().hex
        pq.write_table(
            table.replace_schema_metadata(None),
            path,
            compression="zstd",
            compression_level=1,
            row_group_size=1 << 18,
            write_page_checksum=True,
            store_schema=True,
        )
        sha256 = file_sha256(path)
        size = path.stat().st_size
        publish(path, self.object_path(sha256, "parquet"))
        return File(part=part, sha256=sha256, rows=table.num_rows, bytes=size, key=key)

    def _store_bytes(self, scratch: Path, data: bytes, suffix: str) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._publish_bytes(scratch, data, self.object_path(sha256, suffix))
        return sha256

    def _publish_bytes(self, scratch: Path, data: bytes, target: Path) -> None:
        path = scratch / uuid.uuid4().hex
        path.write_bytes(data)
        publish(path, target)

    @contextmanager
    def _pointer(self, asset: str) -> Iterator[dict[str, PointerEntry]]:
        """Read, change and atomically replace a pointer."""
        path = self._pointer_path(asset)
        with self.changing(path) as document:
            entries = _entries(document, path)
            yield entries
            document.clear()
            document.update({p: asdict(e) for p, e in sorted(entries.items())})

    def _log(self, asset: str, action: str, version: Version, run_id: str) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": run_id,
            "action": action,
            "partition": version.partition,
            "version": version.id,
        }
        path = self.root / "log" / f"{asset.replace('/', '__')}.jsonl"
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def _lock_soon(stream: IO[str]) -> bool:
    """Take the exclusive lock; a moment's patience, because `holder` probes it."""
    for _ in range(5):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


def _sign(stream: IO[str], owner: str) -> None:
    stream.truncate(0)
    stream.write(owner)
    stream.flush()


def part_name(value: datetime | pd.Timestamp) -> str:
    """The part name of a cutoff: its UTC time in ISO form, minutes precision."""
    return pd.Timestamp(value).tz_convert("UTC").strftime("%Y-%m-%dT%H:%MZ")


def split_parts(table: pa.Table, column: str | None) -> Iterator[tuple[str, pa.Table]]:
    """Split rows into parts by a timestamp column, in time order; one part '' without a column."""
    if column is None or table.num_rows == 0:
        yield "", table
        return
    for value in pc.unique(table[column]).sort():
        yield part_name(value.as_py()), table.filter(pc.equal(table[column], value))


def _entries(document: Mapping[str, Any], path: Path) -> dict[str, PointerEntry]:
    try:
        return {
            p: PointerEntry(e["candidate"], e["current"], e["verdict"], tuple(e["reasons"]))
            for p, e in document.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CorruptFileError:
    return CorruptFileError(
        f"{path} is damaged ({error}): restore it from a backup; or delete it and "
        f"materialize {path.stem.replace('__', '/')} again"
    )


def _name(version: Version) -> str:
    return f"{version.asset}[{version.partition}]" if version.partition else version.asset


def _refusal(asset: str, bad: Mapping[str, PointerEntry]) -> str:
    partition, entry = next(iter(bad.items()))
    where = f"{asset}[{partition}]" if partition else asset
    more = f" (and {len(bad) - 1} more partitions)" if len(bad) > 1 else ""
    match entry.verdict:
        case "rejected":
            why = f"was rejected by its quality check: {'; '.join(entry.reasons)}"
        case "broken":
            why = f"could not be judged, its quality check itself failed: {entry.reasons[0]}"
        case _:
            why = "has not been audited yet: its quality check did not run to the end"
    return (
        f"the newest version of {where}{more} {why}. Consumers keep the last approved version; "
        f"repair the cause, then materialize {asset} with its check"
    )
