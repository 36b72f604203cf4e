"""What must hold in a home at any moment, whatever was done to it: for faults and for the month.

Belongs here: looks that know no particular shop. Does not belong here: which events must be there.
"""

from pathlib import Path

from dagster_project import doctor
from recsys_assets.core.lake import Lake, LakeError
from recsys_assets.publishing.releases import Releases


def torn(lake: Lake) -> list[str]:
    """Pointers that do not name a complete version whose every sha256 matches (I2)."""
    return [f"{found} (I2)" for found in doctor.stored(lake, deep=True)]


def unservable(lake: Lake) -> list[str]:
    """What is wrong with the served release and the one before: each must be complete (I4)."""
    releases, found = Releases(lake), []
    for release_id in releases.state().stack[-2:]:
        try:
            releases.check(release_id, deep=True)
        except LakeError as error:
            found.append(f"release {release_id[:12]} cannot be served: {error} (I4)")
    return found


def strays(home: Path) -> list[str]:
    """Unfinished files that nobody is writing (I7)."""
    left = [*Lake(home / "lake").orphans(), *home.rglob("tmp-*"), *home.rglob("*.tmp")]
    return [f"strays are left: {left} (I7)"] if left else []
