"""The present recipe, fitted on the data of an earlier release.

Two recipes can only be compared where both were fitted at the same cutoff on the same data. When
the cutoff has moved since the served release was measured, its lists lie at the old cutoff, and its
code may be gone; so the *new* recipe goes back: its steps run again over the served release's raw
tables, in a lake beside the lake that shares its files, and its lists meet the old ones there.

Belongs here: that side lake and running the steps. Does not belong here: comparing.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.lake import Lake, LakeError, Snapshot
from recsys_assets.publishing.releases import SHORT, Manifest


class RefitError(LakeError):
    """The recipe could not be fitted on the earlier data."""


def refit(
    project: Project, steps: Sequence[GatedAsset], earlier: Manifest, run_id: str
) -> Snapshot:
    """The last table of `steps` (in graph order), made by present code and settings from the data
    of `earlier`. Steps that would come out the same are reused from it.

    Whatever is not among `steps` is read as `earlier` names it. A step's own gate applies. The
    result lives in the lake's files without a pointer, so the next clean-up removes it.
    Raises RefitError naming the step that failed.
    """
    home = Path(project.home) / "refit" / earlier.release_id[:SHORT]
    # What an earlier refit left names tables that a clean-up may have taken since.
    shutil.rmtree(home, ignore_errors=True)
    side = _side_project(project, home, earlier)
    for step in steps:
        producer, name = step.producer, step.table.name
        try:
            producer.produce(side, run_id)
            verdict = producer.judge(side, run_id)
        except LakeError as error:
            raise RefitError(f"{name} cannot be made from the earlier data: {error}") from error
        if not verdict.passed:
            raise RefitError(f"{name} failed its check there: {'; '.join(verdict.reasons)}")
    found = side.lake.read(steps[-1].table.name)
    shutil.rmtree(home)
    return Snapshot(project.lake, found.asset, found.versions)


def _side_project(project: Project, home: Path, earlier: Manifest) -> Project:
    """A project whose lake holds exactly the tables of `earlier`, all approved, and shares the
    files and manifests of the real one (by links, so they are stored once)."""
    root = home / "lake"
    root.mkdir(parents=True)
    for shared in ("objects", "manifests"):
        (root / shared).symlink_to(project.lake.root / shared, target_is_directory=True)
    side = Project(
        home=str(home), shop_file=project.shop_file, memory_limit=project.memory_limit
    )  # fmt: skip
    lake: Lake = side.lake
    for ids in earlier.tables.values():
        versions = [lake.version(v) for v in ids]
        lake.propose(versions)
        lake.approve(versions)
    return side
