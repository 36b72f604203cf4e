"""The ordinary graph on a shop of a benchmark's own, in this process.

Belongs here: running it. Does not belong here: making shops, reading what came out.
"""

from pathlib import Path

import dagster as dg

from dagster_project import jobs
from dagster_project.definitions import build
from dagster_project.schedules import whole_range
from recsys_assets.core.assets import Project
from recsys_assets.core.lake import Lake


def run_until(home: Path, shop_file: Path, *assets: str) -> Lake:
    """Make `assets` (with gate: `NAME_quality`) and all they need in `home`; the lake they are in.

    Raises the exception of the step that failed. What is there and unchanged is not made again.
    """
    project = Project(home=str(home), shop_file=str(shop_file))
    job = build(project).resolve_job_def(jobs.MAIN)
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(
            instance=instance,
            op_selection=[f"*{name}" for name in assets],
            tags=whole_range(project),
        )
    return Lake(home / "lake")
