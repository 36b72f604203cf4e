"""Schedules keep to the shop's wall clock, on the days when that clock jumps too."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import time_machine
from dagster._utils.schedules import schedule_execution_time_iterator  # what the daemon walks

from dagster_project import schedules, sensors
from recsys_assets.core.assets import Project
from recsys_assets.core.config import ConfigError, load_shop
from recsys_assets.ingestion.assets import partitions
from recsys_assets.staging.cutoffs import end_of_data
from tests.conftest import MINIMAL_SHOP


def project(folder: Path, **keys: str) -> Project:
    text = MINIMAL_SHOP.replace(", end: 2024-01-11", "")
    (folder / "shop.yaml").write_text(text + "".join(f"{k}: {v}\n" for k, v in keys.items()))
    return Project(home=str(folder / "home"), shop_file=str(folder / "shop.yaml"))


def due(schedule: dg.ScheduleDefinition, start: datetime, days: int) -> Iterator[datetime]:
    """The moments at which the daemon would evaluate `schedule`, in the zone of `start`."""
    assert schedule.execution_timezone is not None
    for moment in schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone
    ):
        if moment.timestamp() >= (start + timedelta(days=days)).timestamp():
            return
        yield moment.astimezone(start.tzinfo)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("at", ["00:15", "01:30", "02:00", "02:30", "03:00", "04:30"])
def test_a_daily_schedule_is_due_once_on_every_local_day_of_a_year(
    tmp_path: Path, zone: str, at: str
) -> None:
    shop = project(
        tmp_path, time_zone=zone, automation=f'{{daily_at: "{at}", retention_at: "{at}"}}'
    )
    daily, _, cleaning = schedules.all_schedules(shop)
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    for schedule in (daily, cleaning):
        moments = list(due(schedule, start, 365))
        days = Counter(moment.date() for moment in moments)
        assert set(days.values()) == {1}
        assert len(days) == 365
        moved = [moment for moment in moments if f"{moment:%H:%M}" != at]
        assert len(moved) <= 1, "only where the clock skips that time"


def test_a_time_that_the_clock_skips_is_due_right_after_the_jump(tmp_path: Path) -> None:
    shop = project(tmp_path, time_zone="Europe/Berlin", automation='{daily_at: "02:30"}')
    daily, *_ = schedules.all_schedules(shop)
    (moment,) = due(daily, datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin")), 1)
    assert moment.astimezone(UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_the_weekly_schedule_is_due_once_a_week_on_its_day(tmp_path: Path) -> None:
    shop = project(tmp_path, time_zone="Europe/Berlin", automation="{weekly_on: saturday}")
    _, weekly, _ = schedules.all_schedules(shop)
    moments = list(due(weekly, datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), 364))
    assert {m.strftime("%A %H:%M") for m in moments} == {"Saturday 01:30"}
    assert len(moments) == 52


def request(schedule: dg.ScheduleDefinition, moment: datetime) -> dg.RunRequest:
    context = dg.build_schedule_context(
        instance=dg.DagsterInstance.ephemeral(), scheduled_execution_time=moment
    )
    (request,) = schedule.evaluate_tick(context).run_requests or []
    return request


def test_a_tick_that_is_evaluated_twice_asks_for_one_run(tmp_path: Path) -> None:
    daily, weekly, cleaning = schedules.all_schedules(project(tmp_path))
    due = datetime(2026, 3, 29, 4, 30, tzinfo=UTC)
    assert request(daily, due).run_key == request(daily, due).run_key
    assert request(daily, due).run_key != request(daily, due + timedelta(days=1)).run_key
    assert request(daily, due).run_key != request(weekly, due).run_key
    assert request(cleaning, due).run_key == request(cleaning, due).run_key


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2024, 2, 28, 23, 59, 59, tzinfo=UTC), date(2024, 2, 27)),
        (datetime(2024, 2, 29, 0, 0, 1, tzinfo=UTC), date(2024, 2, 28)),
        (datetime(2024, 3, 1, 0, 0, 1, tzinfo=UTC), date(2024, 2, 29)),
    ],
)
def test_the_range_ends_with_the_last_whole_utc_day_leap_days_included(
    tmp_path: Path, now: datetime, last: date
) -> None:
    shop = project(tmp_path, time_zone="Pacific/Auckland")
    with time_machine.travel(now, tick=False):
        tags = schedules.whole_range(shop)
    assert tags["dagster/asset_partition_range_start"] == "2024-01-01"
    assert tags["dagster/asset_partition_range_end"] == last.isoformat()


@pytest.mark.parametrize("complete", ["true", "false"])
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Tokyo", "Asia/Kathmandu"])
def test_what_a_daily_run_publishes_is_not_stale_before_the_next_one_is_through(
    tmp_path: Path, zone: str, complete: str
) -> None:
    shop = project(tmp_path, time_zone=zone, last_day_complete=complete)
    daily, *_ = schedules.all_schedules(shop)
    begin = datetime(2024, 2, 25, tzinfo=ZoneInfo(zone))
    for moment, following in pairwise(due(daily, begin, 21)):  # a leap day, and DST in between
        with time_machine.travel(moment):
            newest = date.fromisoformat(partitions(shop.shop).get_partition_keys()[-1])
        last_sale = datetime.combine(newest, time(20), UTC)
        as_of = end_of_data(datetime(2024, 1, 1, tzinfo=UTC), last_sale, complete == "true")
        through = following + timedelta(hours=2)
        assert through - as_of < sensors.stale_after(shop.shop), moment


def test_before_the_first_day_is_over_nothing_is_requested(tmp_path: Path) -> None:
    daily, *_ = schedules.all_schedules(project(tmp_path))
    with time_machine.travel(datetime(2024, 1, 1, 12, tzinfo=UTC), tick=False):
        context = dg.build_schedule_context(
            instance=dg.DagsterInstance.ephemeral(),
            scheduled_execution_time=datetime(2024, 1, 1, 4, 30, tzinfo=UTC),
        )
        tick = daily.evaluate_tick(context)
    assert not tick.run_requests
    assert "not over yet" in str(tick.skip_message)


@pytest.mark.parametrize(
    ("given", "message"),
    [('{daily_at: "24:00"}', "daily_at"), ("{time_zone: Mars}", "not an IANA time zone")],
)
def test_a_time_or_zone_that_does_not_exist_is_refused(
    tmp_path: Path, given: str, message: str
) -> None:
    wrong = project(tmp_path, automation=given)
    with pytest.raises(ConfigError, match=message):
        load_shop(Path(wrong.shop_file))
