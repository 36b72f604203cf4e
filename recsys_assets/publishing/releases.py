"""Releases: what one consists of, and which one is served.

A release is a version of the table `release`: one row per thing it is made of (tables, models,
settings, code, libraries, numbers), each by its hash. Its id is that version's id, so equal things
are the same release, and nothing in it can change. What is *served* is one small document beside
the tables, changed only here: by compare-and-swap, under a lock that dies with its process, in one
rename. Killed anywhere, it names a release that is complete.

Belongs here: manifests, the served pointer with its log, and what retention must keep. Does not
belong here: whether a release is good (`gate.py`), what its rows mean to a person (`serving.py`).
"""

import getpass
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from recsys_assets.core.lake import CorruptFileError, Lake, LakeError, Snapshot, Version

RELEASE = "release"
SERVED = (
    "recommendations", "popular_recommendations", "similar_items", "bought_together", "items",
)  # fmt: skip
"""Tables people are shown. Their files are hashed before a release is put in front of anybody."""

SHORT = 12
"""Characters of an id that people are shown; any unambiguous beginning is understood."""


ROLLED_BACK = "rolled back"
"""Beginning of that action in the log."""

PATIENCE = 60.0
"""Seconds that a deletion waits for people who read what is to go."""


class ReleaseError(LakeError):
    """A release cannot be served, or what is served may not be changed now."""


@dataclass(frozen=True)
class Manifest:
    """What one release consists of.

    `tables`: asset -> version ids, one per partition. `settings`: the shop's configuration as
    understood. `facts`: what it knows of itself (`as_of`, `evaluate_as_of`, `recipe`, `build_id`).
    """

    release_id: str
    tables: Mapping[str, tuple[str, ...]]
    settings: str
    libraries: Mapping[str, str]
    facts: Mapping[str, str]
    metrics: Mapping[str, float]

    @classmethod
    def read(cls, release_id: str, rows: pd.DataFrame) -> "Manifest":
        """From the rows of the table `release`."""
        of = {str(kind): group for kind, group in rows.groupby("kind", sort=False)}
        empty = rows.iloc[:0]

        def values(kind: str) -> dict[str, str]:
            group = of.get(kind, empty)
            return dict(zip(group["name"], group["value"], strict=True))

        named = of.get("table", empty).groupby("name", sort=True)["hash"]
        return cls(
            release_id,
            {str(name): tuple(hashes) for name, hashes in named},
            values("settings").get("shop", "{}"),
            values("library"),
            values("fact"),
            {name: float(value) for name, value in values("metric").items()},
        )


@dataclass
class Known:
    """A release that was made, and how it was judged. `against` is what was served then."""

    release_id: str
    passed: bool
    reasons: list[str] = field(default_factory=list)
    verdict: str = ""
    """version id of the table `release_verdict`; '' before there was a gate to judge it"""
    against: str = ""
    withdrawn: str = ""
    """why it was rolled back; set, no schedule promotes it again"""


@dataclass
class Entry:
    """One line of the log: who did what to which release, when and why."""

    at: str
    who: str
    action: str
    release_id: str = ""
    before: str = ""
    why: str = ""


@dataclass
class State:
    """What is served and how it came to that. `stack`: releases served in turn, the last is live.

    `pinned`: a roll-back holds; automation does not promote, people may. `untold`: whoever asked
    for that roll-back was not told yet that it is done. `frozen`: nobody promotes.
    """

    stack: list[str] = field(default_factory=list)
    pinned: str = ""
    untold: bool = False
    frozen: str = ""
    known: list[Known] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)

    @property
    def live(self) -> str:
        """The release that is served, '' if none ever was."""
        return self.stack[-1] if self.stack else ""

    def find(self, release_id: str) -> Known | None:
        return next((k for k in self.known if k.release_id == release_id), None)

    def cut(self) -> Entry | None:
        """The roll-back that holds, if its command ended before it could say so."""
        if not (self.pinned and self.untold):
            return None
        return next(e for e in reversed(self.log) if e.action.startswith(ROLLED_BACK))

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "State":
        if not document:
            return cls()
        return cls(
            stack=list(document["stack"]),
            pinned=document["pinned"],
            untold=document.get("untold", False),  # earlier versions wrote none
            frozen=document["frozen"],
            known=[Known(**k) for k in document["known"]],
            log=[Entry(**e) for e in document["log"]],
        )


class Releases:
    """The releases of one lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._path = lake.root / "releases.json"

    # -- reading -----------------------------------------------------------------------------

    def state(self) -> State:
        """What is served now, and every release that is kept."""
        try:
            return State.read(self.lake.document(self._path))
        except (CorruptFileError, ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(
                f"{self._path} cannot be read ({type(error).__name__}), so it is not known what is "
                "served: restore it from a backup, or delete it and run the job: its release is "
                "then served as the first one"
            ) from error

    def live(self) -> Manifest:
        """The served release. Raises ReleaseError when there is none, saying why."""
        state = self.state()
        if state.live:
            return self.manifest(state.live)
        if state.known:
            newest = state.known[-1]
            raise ReleaseError(
                f"nothing is served: release {newest.release_id[:SHORT]} was made but not promoted "
                f"({'; '.join(newest.reasons)}); repair the cause, or promote it yourself with "
                f"`recsys promote {newest.release_id[:SHORT]} --anyway --why …`"
            )
        raise ReleaseError("nothing is released yet: start with `recsys run`")

    def manifest(self, release_id: str) -> Manifest:
        """What a release consists of, every byte of the list checked against its hash."""
        version = self.lake.version(release_id)
        if version.asset != RELEASE:
            raise ReleaseError(f"{release_id[:SHORT]} is a version of {version.asset}, no release")
        return Manifest.read(release_id, self.lake.of_version(version).to_pandas())

    def table(self, manifest: Manifest, asset: str) -> Snapshot:
        """A table exactly as a release names it."""
        if asset not in manifest.tables:
            raise ReleaseError(
                f"release {manifest.release_id[:SHORT]} holds no table {asset}; it holds: "
                f"{', '.join(manifest.tables)}"
            )
        versions = [self.lake.version(v) for v in manifest.tables[asset]]
        return Snapshot(self.lake, asset, tuple(sorted(versions, key=lambda v: v.partition)))

    def resolve(self, beginning: str) -> str:
        """The id of the one kept release that begins like this."""
        found = [k.release_id for k in self.state().known if k.release_id.startswith(beginning)]
        if len(found) != 1:
            what = "no release begins" if not found else f"{len(found)} releases begin"
            raise ReleaseError(f"{what} with {beginning!r}: see `recsys releases`")
        return found[0]

    def check(self, release_id: str, *, deep: bool = False) -> None:
        """Raise CorruptFileError or LakeError unless the release is complete.

        Every manifest it names is there and unaltered, every file is there in its size, and the
        files of what people are shown (`deep`: all files) have the bytes they promise.
        """
        manifest = self.manifest(release_id)
        for asset, versions in manifest.tables.items():
            for version_id in versions:
                self._check_version(self.lake.version(version_id), deep or asset in SERVED)

    def _check_version(self, version: Version, hashed: bool) -> None:
        for file in version.files:
            if hashed:
                self.lake.verified_object(version.asset, file.sha256, "parquet")
                continue
            if self.lake.object_size(file.sha256, "parquet") != file.bytes:
                path = self.lake.object_path(file.sha256, "parquet")
                raise CorruptFileError(
                    f"{version.asset}: file {path} of {version.id[:SHORT]} is missing or cut"
                )

    # -- changing what is served -------------------------------------------------------------

    def judged(self, known: Known, who: str) -> None:
        """Record a release and the verdict on it; a second verdict replaces the first."""
        with self._changing() as state:
            old = state.find(known.release_id)
            if old is not None:
                known = replace(known, withdrawn=old.withdrawn)
            if old == known:
                return
            state.known = [k for k in state.known if k.release_id != known.release_id]
            state.known.append(known)
            action = "passed the gate" if known.passed else "blocked by the gate"
            why = "; ".join(known.reasons)
            state.log.append(_entry(who, action, known.release_id, known.against, why))

    def offer(self, release_id: str, who: str) -> str:
        """Promote a release for a scheduled run, unless something speaks against it.

        Returns '' when the release is served now, else why it is not. Never raises for a release
        that is merely not wanted.
        """
        self.check(release_id)
        with self._changing() as state:
            known = state.find(release_id)
            if known is None:
                raise ReleaseError(f"release {release_id[:SHORT]} was never judged")
            if state.live == release_id:
                return ""
            if not known.passed:
                return "blocked by its gate: " + "; ".join(known.reasons)
            if known.withdrawn:
                return f"it was rolled back ({known.withdrawn}): `recsys promote` brings it back"
            if state.frozen:
                return f"releases are frozen ({state.frozen}): `recsys unfreeze` lifts it"
            if state.pinned:
                return (
                    f"release {state.live[:SHORT]} is pinned ({state.pinned}): `recsys unpin` "
                    "lifts it"
                )
            if known.against != state.live:
                return (
                    f"it was judged against {known.against[:SHORT] or 'nothing'}, but "
                    f"{state.live[:SHORT] or 'nothing'} is served now: run the job again"
                )
            state.log.append(_entry(who, "promoted", release_id, state.live))
            state.stack.append(release_id)
        return ""

    def promote(self, release_id: str, *, why: str, anyway: bool = False) -> None:
        """Serve a release because somebody says so; lifts a pin. Nothing if it is served already.

        Raises ReleaseError when releases are frozen, or when the gate blocked it and not `anyway`.
        """
        self.check(release_id)
        with self._changing() as state:
            if state.frozen:
                raise ReleaseError(f"releases are frozen ({state.frozen}): `recsys unfreeze` first")
            known = state.find(release_id)
            if known is None:
                raise ReleaseError(f"release {release_id[:SHORT]} is not kept: `recsys releases`")
            if not known.passed and not anyway:
                raise ReleaseError(
                    f"the gate blocked release {release_id[:SHORT]} ({'; '.join(known.reasons)}): "
                    "repair the cause, or say --anyway and --why"
                )
            if state.live == release_id and not state.pinned:
                return
            action = "promoted by hand" if known.passed else "promoted against its gate"
            state.log.append(_entry(_user(), action, release_id, state.live, why))
            state.pinned = known.withdrawn = ""
            if state.live != release_id:
                state.stack.append(release_id)

    def rollback(self, steps: int = 1, *, why: str) -> str:
        """Serve what was served `steps` promotions ago, and pin it; returns its id."""
        before = self.state()
        if not 1 <= steps < len(before.stack):
            raise ReleaseError(
                f"cannot go back {steps}: {max(0, len(before.stack) - 1)} earlier releases are "
                "kept. `recsys releases` lists all that are, `recsys promote ID` serves one of them"
            )
        target = before.stack[-1 - steps]
        self.check(target)
        with self._changing() as state:
            if state.stack != before.stack:
                raise ReleaseError("what is served has just changed: look at `recsys releases`")
            action = f"{ROLLED_BACK} {steps}"
            state.log.append(_entry(_user(), action, target, state.live, why))
            for release_id in state.stack[-steps:]:
                if (known := state.find(release_id)) is not None:
                    known.withdrawn = why or "rolled back"
            state.stack = state.stack[:-steps]
            state.pinned, state.untold = why or "rolled back", True
        return target

    def told(self) -> None:
        """Note that whoever rolled back was told (see `State.cut`)."""
        with self._changing() as state:
            state.untold = False

    def unpin(self, *, why: str) -> None:
        """Let the next good release be promoted again."""
        with self._changing() as state:
            state.log.append(_entry(_user(), "unpinned", state.live, why=why))
            state.pinned = ""

    def freeze(self, *, why: str) -> None:
        """Nobody and nothing promotes until `unfreeze`. Rolling back stays possible."""
        with self._changing() as state:
            state.log.append(_entry(_user(), "frozen", state.live, why=why))
            state.frozen = why or "frozen"

    def unfreeze(self, *, why: str) -> None:
        """Lift `freeze`."""
        with self._changing() as state:
            state.log.append(_entry(_user(), "unfrozen", state.live, why=why))
            state.frozen = ""

    # -- retention ---------------------------------------------------------------------------

    def protected(self, state: State | None = None) -> set[str]:
        """Every version that a kept release names, and the releases and verdicts themselves."""
        state = state or self.state()
        kept: set[str] = set()
        for known in state.known:
            kept |= {known.release_id, *([known.verdict] if known.verdict else [])}
            for versions in self.manifest(known.release_id).tables.values():
                kept.update(versions)
        return kept

    def expired(self, keep: int, state: State | None = None) -> list[str]:
        """Releases beyond the newest `keep` that are neither served nor the one served before."""
        state = state or self.state()
        held = {*state.stack[-2:], *(k.release_id for k in state.known[-keep:])}
        return [k.release_id for k in state.known if k.release_id not in held]

    def without(self, gone: Collection[str]) -> State:
        """The state as it will be once the releases `gone` are forgotten."""
        state = self.state()
        _forget(state, gone)
        return state

    def forget(self, gone: Collection[str], keep: int) -> None:
        """Forget the releases that `expired(keep)` named. Their tables are garbage from then on.

        ReleaseError when somebody has changed what is served meanwhile.
        """
        with self._changing() as state:
            if set(gone) - set(self.expired(keep, state)):
                raise ReleaseError("what is served has just changed: try again")
            _forget(state, gone)
            state.log += [_entry(_user(), "expired", r) for r in gone]

    def replace(
        self,
        before: State,
        copies: Mapping[str, str],
        lost: Mapping[str, str],
        who: str,
        quiet: Callable[[str], str],
    ) -> str:
        """Let everything name the redacted `copies` (old id -> new), and drop the `lost` releases
        (id -> why), pinned and served ones too. Standing, verdicts and log stay, their texts made
        `quiet`. Returns what is served then. ReleaseError when the state is not `before` any more.
        """
        with self._changing() as state:
            if state != before:
                raise ReleaseError("what is served has just changed: run the same command again")

            def new(name: str) -> str:
                return copies.get(name, name)

            moved = [k.release_id for k in state.known if k.release_id in copies.keys() - lost]
            state.known = [
                replace(
                    k,
                    release_id=new(k.release_id),
                    verdict=new(k.verdict),
                    against=new(k.against),
                    reasons=[quiet(r) for r in k.reasons],
                    withdrawn=quiet(k.withdrawn),
                )
                for k in state.known
                if k.release_id not in lost
            ]
            state.stack = [new(r) for r in state.stack if r not in lost]
            state.log = [
                replace(e, release_id=new(e.release_id), before=new(e.before), why=quiet(e.why))
                for e in state.log
            ]
            state.pinned, state.frozen = quiet(state.pinned), quiet(state.frozen)
            if before.live in lost:
                state.pinned = ""
            state.log += [_entry(who, "redacted", new(r), r) for r in moved]
            state.log += [_entry(who, "deleted", r, why=why) for r, why in lost.items()]
            return state.live

    # -- inside ------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[State]:
        with self.lake.changing(self._path) as document:
            state = State.read(document)
            yield state
            document.clear()
            document.update(asdict(state))


def _forget(state: State, gone: Collection[str]) -> None:
    state.known = [k for k in state.known if k.release_id not in gone]
    state.stack = [r for r in state.stack if r not in gone]


def _entry(who: str, action: str, release_id: str, before: str = "", why: str = "") -> Entry:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry(at, who, action, release_id, before, why)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"
