"""Every version that something names, moved onto redacted copies; the old ones deleted.

The order makes a kill harmless. Copies are written first, beside what they replace; then what is
served moves, all releases in one rename; then each table's pointer (`swap` says in which order);
then everything that nothing names any more is deleted. Until its rename each name leads to whole
old versions, after it to whole new ones. Copies depend on nothing but the old version and the
erasure, so whoever runs again makes the same ones and goes on from there.

Belongs here: that order, and what becomes of what cannot be redacted. Does not belong here: what a
redacted table looks like (`tables.py`), stores other than the lake.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.core.garbage import garbage
from recsys_assets.core.lake import CorruptFileError, Lake, LakeError, Version
from recsys_assets.erasure.tables import LANDED, Redactor
from recsys_assets.publishing.releases import RELEASE, Releases, State

_NAMING = ("release_verdict", "served_release")
"""Tables whose rows name releases."""


@dataclass
class Moved:
    """What was done to the lake."""

    versions: dict[str, str] = field(default_factory=dict)
    """old version -> its redacted copy, of those that held something"""
    tables: dict[str, int] = field(default_factory=dict)
    """table -> versions redacted"""
    lost: dict[str, str] = field(default_factory=dict)
    """version -> why it cannot be redacted; it is deleted"""
    releases_lost: dict[str, str] = field(default_factory=dict)
    releases_kept: list[str] = field(default_factory=list)
    served: tuple[str, str] = ("", "")
    """What was served before and after"""
    freed: int = 0


class Retained:
    """The versions of a lake that pointers and kept releases name."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.releases = Releases(lake)
        self.state: State = self.releases.state()
        self.moved = Moved()
        self._found: dict[str, Version] = {}
        self._parts: dict[str, list[str]] = {}
        self._collect()

    def versions(self) -> Iterator[Version]:
        """Those that can be read, the landed rows first."""
        yield from sorted(self._found.values(), key=lambda v: (v.asset != LANDED, v.asset, v.id))

    def redact(self, redactor: Redactor) -> Moved:
        """Write the copies. Nothing that anybody reads has changed after it."""
        moved = self.moved
        ordered = list(self.versions())
        for version in ordered:
            if version.asset == LANDED:
                self._try(version, lambda v: redactor.find_places(v))
        for version in ordered:
            if version.asset not in (RELEASE, *_NAMING):
                self._try(version, lambda v: self._note(v, redactor.redacted(v)))
        for asset in (RELEASE, *_NAMING):
            for version in ordered:
                if version.asset == asset:
                    self._try(version, lambda v: self._renamed(v, redactor))
        for known in self.state.known:
            names = self._parts.get(known.release_id, [])
            why = next((moved.lost[n] for n in [known.release_id, *names] if n in moved.lost), "")
            if why:
                moved.releases_lost[known.release_id] = why
            else:
                moved.releases_kept.append(moved.versions.get(known.release_id, known.release_id))
        return moved

    def swap(self, who: str, quiet: Callable[[str], str]) -> None:
        """Let releases and pointers name the copies, and make their texts `quiet`."""
        moved = self.moved
        copies, lost = moved.versions, moved.releases_lost
        # Who runs again must find what copies are made with: verdicts need the old releases, so
        # they move first; quarantine needs the old landed rows, all of it the newest release.
        rest = [a for a in self.lake.assets() if a not in (*_NAMING, LANDED, RELEASE)]
        for asset in [a for a in _NAMING if a in self.lake.assets()]:
            self.lake.repoint(asset, copies, moved.lost, quiet)
        after = self.releases.replace(self.state, copies, lost, who, quiet)
        moved.served = (self.state.live, after)
        for asset in [*rest, *(a for a in (LANDED, RELEASE) if a in self.lake.assets())]:
            self.lake.repoint(asset, copies, moved.lost, quiet)

    def delete(self, patience: float) -> int:
        """Delete what nothing names any more, once nobody reads it. Returns the bytes freed."""
        with self.lake.undisturbed(patience):
            self.lake.sweep()
            self.moved.freed = garbage(self.lake, self.releases.protected()).remove()
        return self.moved.freed

    # -- inside ------------------------------------------------------------------------------

    def _collect(self) -> None:
        named: dict[str, None] = {}
        for asset in self.lake.assets():
            for entry in self.lake.entries(asset).values():
                named |= dict.fromkeys(v for v in (entry.candidate, entry.current) if v)
        for known in self.state.known:
            named |= dict.fromkeys(v for v in (known.release_id, known.verdict) if v)
            try:
                tables = self.releases.manifest(known.release_id).tables.values()
            except (LakeError, OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
                self.moved.lost[known.release_id] = str(error)
                continue
            self._parts[known.release_id] = [v for versions in tables for v in versions]
            named |= dict.fromkeys(self._parts[known.release_id])
        for version_id in named:
            if version_id in self.moved.lost:
                continue
            try:
                self._found[version_id] = self.lake.version(version_id)
            except (LakeError, OSError, ValueError, KeyError, TypeError) as error:
                self.moved.lost[version_id] = str(error)
        self._follow_pointers()

    def _follow_pointers(self) -> None:
        """Also what a pointer's release names: an erasure that was killed after moving the kept
        releases must find the same copies of it. What retention removed is not missed."""
        for version in [v for v in self._found.values() if v.asset == RELEASE]:
            if version.id in self._parts:
                continue
            try:
                tables = self.releases.manifest(version.id).tables.values()
            except CorruptFileError:
                continue  # `redact` meets it again
            for name in (v for versions in tables for v in versions):
                if (self.lake.root / "manifests" / f"{name}.json").exists():
                    self._found.setdefault(name, self.lake.version(name))

    def _try(self, version: Version, act: Callable[[Version], None]) -> None:
        if version.id in self.moved.lost:
            return
        try:
            act(version)
        except CorruptFileError as error:
            self.moved.lost[version.id] = str(error)

    def _note(self, old: Version, new: Version) -> None:
        if new.id != old.id:
            self.moved.versions[old.id] = new.id
            self.moved.tables[old.asset] = self.moved.tables.get(old.asset, 0) + 1

    def _renamed(self, version: Version, redactor: Redactor) -> None:
        """Redact a version and let its rows name the copies of what they named."""
        new = redactor.redacted(version)
        names = self.moved.versions
        contents = {
            self._found[old].content_id: self.lake.version(copy).content_id
            for old, copy in names.items()
            if old in self._found
        }
        changed: dict[str, pa.Table] = {}
        for file in new.files:
            path = self.lake.verified_object(new.asset, file.sha256, "parquet")
            data = pq.ParquetFile(path).read()
            fresh = data
            for column, mapping in (
                ("hash", names), ("value", contents), ("release_id", names), ("incumbent", names),
                ("served_id", names),
            ):  # fmt: skip
                if column in data.column_names and (column != "value" or new.asset == RELEASE):
                    fresh = _mapped(fresh, column, mapping)
            if not fresh.equals(data):
                changed[file.part] = fresh
        if changed:
            new = redactor.stored(new, changed, self.lake.report(new))
        self._note(version, new)


def _mapped(data: pa.Table, column: str, mapping: Mapping[str, str]) -> pa.Table:
    values = [mapping.get(v, v) for v in data[column].to_pylist()]
    place = data.schema.get_field_index(column)
    return data.set_column(place, data.schema.field(column), pa.array(values, data[column].type))
