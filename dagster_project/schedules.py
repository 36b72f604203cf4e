"""Schedules: what runs because of the time. Cron lines are in the shop's zone, so a daily run stays
at its hour across daylight-saving changes, once a day.

Belongs here: when, and with which range of days. Does not belong here: what a job holds (`jobs`).
"""

import dagster as dg

from dagster_project import jobs, retention
from recsys_assets.core.assets import Project
from recsys_assets.core.config import Shop
from recsys_assets.ingestion.assets import partitions

_CRON_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


def zone(shop: Shop) -> str:
    """The zone in which a shop's schedules are written."""
    return shop.automation.time_zone or shop.time_zone


def daily_cron(at: str) -> str:
    hour, minute = at.split(":")
    return f"{int(minute)} {int(hour)} * * *"


def weekly_cron(shop: Shop) -> str:
    hour, minute = shop.automation.weekly_at.split(":")
    day = _CRON_DAYS.index(shop.automation.weekly_on)
    return f"{int(minute)} {int(hour)} * * {day}"


def whole_range(project: Project) -> dict[str, str]:
    """Run tags for every partition there is. A partition whose rows did not change costs a look."""
    keys = partitions(project.shop).get_partition_keys()
    return jobs.span_tags(keys[0], keys[-1]) if keys else {}


def _schedule(
    name: str, job: dg.JobDefinition, cron: str, project: Project, text: str
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=zone(project.shop),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=text,
    )
    def scheduled(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tags = whole_range(project)
        if not tags:
            return dg.SkipReason("the shop's first partition is not over yet")
        return dg.RunRequest(run_key=_key(name, context), tags=tags)

    return scheduled


def _nightly(shop: Shop) -> dg.ScheduleDefinition:
    """What cleans up."""

    @dg.schedule(
        name=retention.JOB,
        job_name=retention.JOB,
        cron_schedule=daily_cron(shop.automation.retention_at),
        execution_timezone=zone(shop),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Removes what is kept no longer; `recsys retention --dry-run` says what.",
    )
    def scheduled(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=_key(retention.JOB, context))

    return scheduled


def _key(name: str, context: dg.ScheduleEvaluationContext) -> str:
    """The moment that was due: a tick that is evaluated twice starts one run."""
    return f"{name} {context.scheduled_execution_time.isoformat()}"


def all_schedules(project: Project) -> list[dg.ScheduleDefinition]:
    """Every schedule of the code location."""
    shop = project.shop
    return [
        _schedule(
            "daily", jobs.daily_job(), daily_cron(shop.automation.daily_at), project,
            "Builds and publishes: everything whose inputs changed, except what only the weekly "
            "run makes.",
        ),
        _schedule(
            "weekly", jobs.weekly_job(), weekly_cron(shop), project,
            "Everything, with tuning and the evaluation at many cutoffs.",
        ),
        _nightly(shop),
    ]  # fmt: skip
