"""What nothing names any more in a lake.

Belongs here: finding it and removing exactly that. Does not belong here: what releases name
(`publishing/releases.py`), other stores.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from recsys_assets.core.lake import Lake


@dataclass(frozen=True)
class Garbage:
    """Manifests of versions that nothing names, and files that no other version holds."""

    manifests: tuple[Path, ...]
    objects: tuple[Path, ...]
    bytes: int

    def remove(self) -> int:
        """Remove them; returns the bytes freed. A kill leaves less garbage, nothing else."""
        for path in (*self.manifests, *self.objects):
            path.unlink()
        return self.bytes


def garbage(lake: Lake, protected: Collection[str]) -> Garbage:
    """The versions that neither a pointer nor `protected` names, and their files.

    protected: the versions that kept releases name. To be called, and removed, while holding
    `lake.exclusive`: what a run is writing is not named yet.
    """
    named: set[str] = set(protected)
    for asset in lake.assets():
        for entry in lake.entries(asset).values():
            named |= {entry.candidate, *([entry.current] if entry.current else [])}
    versions = [lake.version(v) for v in sorted(named)]
    kept = {f.sha256 for v in versions for f in v.files} | {v.report for v in versions}
    manifests = [p for p in (lake.root / "manifests").glob("*.json") if p.stem not in named]
    objects = [p for p in (lake.root / "objects").glob("*/*") if p.stem not in kept]
    size = sum(p.stat().st_size for p in (*manifests, *objects))
    return Garbage(tuple(sorted(manifests)), tuple(sorted(objects)), size)
