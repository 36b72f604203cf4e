"""`recsys doctor`: is everything as it should be? Exit code 1 if not, for cron and systemd."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dagster_project import resources
from dagster_project.console import Console

out = Console()


def doctor(
    deep: Annotated[bool, typer.Option(help="Hash every file, not only what is served.")] = False,
    daemon: Annotated[
        bool, typer.Option("--daemon/--without-daemon", help="Whether a daemon should be alive.")
    ] = True,
) -> None:
    """Look at the whole home, Dagster dead or alive; each finding says what to do."""
    from dagster_project.doctor import examine, open_storage

    project = resources.project()
    instance = open_storage(Path(project.home) / "dagster")
    findings = examine(project, instance, datetime.now(UTC), deep=deep, daemon=daemon)
    for finding in findings:
        style = "red" if finding.level == "error" else "yellow"
        out.print(str(finding), style=style, soft_wrap=True)
    errors = sum(f.level == "error" for f in findings)
    if errors:
        raise typer.Exit(1)
    out.print("healthy" if not findings else "healthy, but see the warnings")
