"""`python -m tests.month [FOLDER [DAY]]`: lives through the month and prints it, day by day.

Ends with 1 as soon as something that had to happen did not. FOLDER keeps the shop as it was at the
end of each day; called with it again, the month goes on after DAY (by default the last one kept).
"""

import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console

from dagster_project import jobs, retention
from recsys_assets.publishing.releases import SHORT, Releases
from tests.faults import invariants
from tests.month import shop
from tests.month.plant import Clock, NotSeenError, Plant, Ran

NEW_YORK = ZoneInfo("America/New_York")
COMES_AT = timedelta(hours=31)
"""How long after the beginning of its day a file comes: 07:00 UTC on the day after."""
PUBLISHES = frozenset({0, 4, 5, 12, 14, 15, 17, 18, 22, 23, shop.DAYS})
"""Mornings on which the schedule `daily` is switched on; files come every day."""
SUNDAY_AFTER = 3
"""After this day comes the schedules' Sunday, on which daylight saving ends."""
VOLUME = "volume of last week"
"""What an alert says when more or fewer things are bought than usual."""
HARM = re.compile(r"^all: the changed recipe is -[.\d]+ \(-[.\d]+ to -")
"""What the gate says of a recipe that is worse beyond noise."""
KEPT, STORY = "days", "story.json"
PARTS = ("home", "inbox", "shop.yaml", "products.csv")
"""What is put aside of the folder at the end of a day."""
out = Console(width=150, highlight=False, soft_wrap=True)


def demand(holds: bool, what: str) -> None:
    """Raise NotSeenError unless `holds`."""
    if not holds:
        raise NotSeenError(what)


class Month:
    """The shop, what was delivered to it, and the story so far."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock(folder / "clock", shop.midnight(1) + timedelta(hours=6))
        self.plant = Plant(folder, self.clock)
        self.deliveries = shop.Deliveries(folder, shop.sales())
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        self.rolled_back = ""
        self.began = time.monotonic()

    # -- one day -------------------------------------------------------------------------------

    def begin(self) -> None:
        """The first data come, and the first release is made."""
        self.deliveries.start(self.clock.now)
        self.plant.start()
        self.clock.forward(timedelta(minutes=2))
        self.take("the history")
        self.publish(0)
        demand(bool(self.plant.served), "the first release is served")
        self.tell(0, ["ten weeks of sales arrive"])
        self.keep(0)

    def live(self, day: int) -> None:
        """One day: its file comes in two pieces, is taken, and the daily run is due."""
        happened = self.morning(day)
        self.take(f"the file of {shop.day_of(day)}")
        self.noon(day)
        if day in PUBLISHES:
            self.publish(day)
            self.evening(day)
        if day == SUNDAY_AFTER:
            self.sunday(day)
        self.tell(day, happened)
        self.keep(day)

    def upload(self, day: int) -> None:
        rows, name = self.deliveries.of_day(day), f"sales_{shop.day_of(day)}.csv"
        self.plant.leap(shop.midnight(day) + COMES_AT)
        self.deliveries.half(name, rows, self.clock.now)
        if day == 1:  # a look at half a file
            self.clock.forward(timedelta(seconds=25))
            time.sleep(8)
            demand(
                len(self.plant.arrivals()) < self.deliveries.contents + 1,
                "half a file that still grows is not taken",
            )
        self.clock.forward(timedelta(seconds=20))
        self.deliveries.deliver(name, rows, self.clock.now)
        self.clock.forward(timedelta(seconds=62))

    def take(self, what: str) -> None:
        """Wait until every delivered file is landed and its days are made."""
        contents = self.deliveries.contents
        self.plant.wait(lambda: self.plant.taken(contents), f"{what} is taken", ticking=True)

    def publish(self, day: int) -> Ran:
        """The daily run of the morning after `day`."""
        local = datetime.combine(shop.day_of(day + 1), datetime.min.time(), NEW_YORK)
        due = local.replace(hour=4, minute=30).astimezone(UTC)
        ran = self.plant.scheduled(jobs.DAILY, due)
        demand(ran.succeeded, f"the daily run of {local:%F} succeeds (run {ran.run_id})")
        return ran

    def sunday(self, day: int) -> None:
        """The night to the Sunday after `day`, in which the hour of the weekly run comes twice:
        old things are cleared away, everything is evaluated and tuned, and that once."""
        local = datetime.combine(shop.day_of(day + 2), datetime.min.time(), NEW_YORK)
        demand(local.weekday() == 6, "it is a Sunday")
        first, again = (local.replace(hour=1, minute=30, fold=f).astimezone(UTC) for f in (0, 1))
        demand(again - first == timedelta(hours=1), "half past one comes twice")
        clean = self.plant.scheduled(retention.JOB, local.replace(minute=45).astimezone(UTC))
        demand(clean.succeeded, f"the nightly clearing succeeds (run {clean.run_id})")
        ran = self.plant.scheduled(jobs.WEEKLY, first, once_until=again + timedelta(minutes=2))
        demand(ran.succeeded, f"the weekly run succeeds (run {ran.run_id})")
        for table in ("scoreboard_cutoffs", "ablation", "tuned_settings"):
            rows = self.plant.lake.read(table).rows
            demand(rows > 0, f"the weekly run makes {table}")
            self.notes.append(f"{table}: {rows} rows")

    def morning(self, day: int) -> list[str]:
        """What arrives; what is told about it."""
        match day:
            case 5:
                old = self.deliveries.sales
                too_old = old[old["at"] < str(shop.day_of(5) - timedelta(days=20))].tail(5)
                late = self.deliveries.of_day(2).sample(20, random_state=7)
                late = late.assign(receipt="late" + late["receipt"])
                self.upload(day)
                too_old = too_old.assign(receipt="old" + too_old["receipt"])
                rows = pd.concat([too_old, late])
                self.deliveries.deliver("late.csv", rows, self.clock.now, late=5)
                self.clock.forward(timedelta(seconds=62))
                return [f"a late file: 20 sales of {shop.day_of(2)}, 5 too old"]
            case 8:
                return self.bad_file(day)
            case 10:
                self.upload(day)
                rows = self.deliveries.of_day(9)
                self.deliveries.deliver("resent.csv", rows, self.clock.now, known=True)
                self.clock.forward(timedelta(seconds=62))
                return ["the file of the day before comes again under another name"]
            case 12:
                return self.killed(day)
            case 14:
                (self.plant.folder / "shop.yaml").write_text(shop.settings(good=False))
                self.upload(day)
                return ["somebody bans the largest aisle from every list"]
            case 15:
                (self.plant.folder / "shop.yaml").write_text(shop.settings())
                self.upload(day)
                return ["the settings are put back"]
            case 17:
                before = self.plant.served
                done = self.plant.recsys("rollback", "--why", "complaints")
                demand(done.returncode == 0, f"the rollback works: {done.stderr}")
                demand(self.plant.served != before, "an earlier release is served at once")
                self.rolled_back = self.plant.served
                self.upload(day)
                return ["recsys rollback: complaints"]
            case 18:
                done = self.plant.recsys("unpin", "--why", "repaired")
                demand(done.returncode == 0, f"unpin works: {done.stderr}")
                self.upload(day)
                return ["recsys unpin"]
            case 22:
                done = self.plant.recsys("freeze", "--why", "the sale")
                demand(done.returncode == 0, f"freeze works: {done.stderr}")
                self.upload(day)
                return ["recsys freeze: the sale"]
            case 23:
                done = self.plant.recsys("unfreeze", "--why", "over")
                demand(done.returncode == 0, f"unfreeze works: {done.stderr}")
                self.upload(day)
                return ["recsys unfreeze"]
            case shop.DEAR_FROM:
                self.upload(day)
                return ["prices double, and nobody buys GROCERY any more"]
        self.upload(day)
        return []

    def bad_file(self, day: int) -> list[str]:
        rows, name = self.deliveries.of_day(day), f"sales_{shop.day_of(day)}.csv"
        self.plant.leap(shop.midnight(day) + COMES_AT)
        self.deliveries.renamed(name, rows, self.clock.now)
        self.clock.forward(timedelta(seconds=62))
        self.plant.wait(self.told("a-run-failed", name), "an alert", ticking=True)
        self.plant.wait(lambda: not self.plant.unfinished(), "the end of the failed run")
        runs = self.plant.new_runs()
        demand(any(not r.succeeded for r in runs), "the landing of the bad file fails")
        self.notes.append(f"landing refused ({sum(not r.succeeded for r in runs)} runs), told")
        self.deliveries.deliver(name, rows, self.clock.now)
        self.clock.forward(timedelta(seconds=62))
        return ["a file with a renamed column; later the same morning, corrected"]

    def killed(self, day: int) -> list[str]:
        """The machine loses all processes while a run works, and the tree is started again."""
        self.upload(day)
        self.plant.wait(lambda: bool(self.plant.lake.holder()), "a run works", ticking=True)
        (run,) = (r.run_id for r in self.plant.unfinished() if r.run_id in self.plant.lake.holder())
        self.plant.kill()
        self.plant.wait(lambda: not self.plant.lake.holder(), "the lake, free after the kill")
        began = time.monotonic()
        self.plant.start()

        def reaped() -> bool:
            found = self.plant.instance.get_run_by_id(run)
            return found is not None and found.is_failure

        self.plant.wait(reaped, "the killed run is marked as failed", ticking=True)
        self.notes.append(
            f"run {run[:8]} was marked as failed {time.monotonic() - began:.0f} s after the restart"
        )
        return ["kill -9 of daemon, webserver, code server and a run under way; started again"]

    def told(self, kind: str, text: str) -> Callable[[], bool]:
        return lambda: any(
            a["kind"] == kind and text in a["what"] for a in self.plant.webhook.alerts
        )

    def noon(self, day: int) -> None:
        """What was taken is what had to be."""
        if day == 10:
            landed = self.plant.lake.read("landed_rows").rows
            demand(landed == self.deliveries.rows, "the same bytes are landed once")
        self.live_before = self.plant.served

    def evening(self, day: int) -> None:
        """What the daily run of the next morning had to do about it."""
        state, served = Releases(self.plant.lake).state(), self.plant.served
        newest = state.known[-1]
        match day:
            case 14:
                demand(not newest.passed, "the gate blocks the bad recipe")
                worse = [r for r in newest.reasons if HARM.search(r)]
                demand(bool(worse), f"because it is worse beyond noise: {newest.reasons}")
                demand(served == self.live_before, "people keep the release they have")
                self.notes.append("blocked: " + "; ".join(newest.reasons)[:160])
            case 17:
                demand(served == self.rolled_back, "the schedule does not undo the rollback")
                demand(bool(state.pinned), "the rollback is pinned")
            case 22:
                demand(served == self.live_before, "nothing is promoted while frozen")
            case 15 | 18 | 23:
                demand(served == newest.release_id, "a good release is served again")
            case shop.DAYS:
                told = self.told("the-data-drift", VOLUME)
                self.plant.wait(told, "an alert that fewer things are bought", ticking=True)
                alerts = [a for a in self.plant.webhook.alerts if VOLUME in a["what"]]
                early = [a for a in alerts if a["at"] < str(shop.day_of(shop.DEAR_FROM))]
                demand(not early, f"that is not told before it happens: {early[:1]}")
            case _:
                demand(served != self.live_before, "the new day's release is served")

    # -- going on later ------------------------------------------------------------------------

    def keep(self, day: int) -> None:
        """Put aside everything as it is at the end of `day`."""
        place = self.plant.folder / KEPT / f"{day:02d}"
        place.mkdir(parents=True)
        with self.plant.held():
            for part in PARTS:
                _copy(self.plant.folder / part, place / part)
        story = {
            "now": self.clock.now.isoformat(),
            "events": list(self.deliveries.events),
            "rows": self.deliveries.rows,
            "refused": self.deliveries.refused,
            "contents": self.deliveries.contents,
            "alerts": self.plant.webhook.alerts,
            "counts": self.counts,
            "rolled_back": self.rolled_back,
            "seconds": time.monotonic() - self.began,
        }
        (place / STORY).write_text(json.dumps(story), encoding="utf-8")

    def go_on(self, day: int) -> None:
        """Everything as `keep` left it at the end of `day`, days later than that forgotten."""
        kept = self.plant.folder / KEPT
        for later in kept.glob("*"):
            if int(later.name) > day:
                shutil.rmtree(later)
        for part in PARTS:
            path = self.plant.folder / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            _copy(kept / f"{day:02d}" / part, path)
        story = json.loads((kept / f"{day:02d}" / STORY).read_text(encoding="utf-8"))
        self.clock.move_to(datetime.fromisoformat(story["now"]))
        self.deliveries.events = Counter(map(tuple, story["events"]))
        self.deliveries.rows, self.deliveries.refused = story["rows"], story["refused"]
        self.deliveries.contents = story["contents"]
        self.plant.webhook.alerts.extend(story["alerts"])
        self.counts, self.rolled_back = Counter(story["counts"]), story["rolled_back"]
        self.began -= story["seconds"]
        self.plant.new_runs(), self.plant.new_alerts()
        self.plant.start()

    # -- what must hold, and the line ----------------------------------------------------------

    def tell(self, day: int, happened: list[str]) -> None:
        """Check what must always hold, and print the day."""
        broken = self.broken()
        demand(not broken, "; ".join(broken))
        runs = self.plant.new_runs()
        did = Counter(f"{r.job}{'' if r.succeeded else ' failed'}" for r in runs)
        alerts = self.plant.new_alerts()
        self.counts.update(
            {"runs": len(runs), "failed": sum(not r.succeeded for r in runs), "alerts": len(alerts)}
        )
        date = f"{shop.day_of(day):%a %d %b}" if day else "before    "
        ran = ", ".join(f"{n} {job}" if n > 1 else job for job, n in did.items())
        minutes = (time.monotonic() - self.began) / 60
        out.print(f"{date}  serves {self.plant.served[:SHORT]}  runs: {ran}  ({minutes:.1f} min)")
        for text in happened:
            out.print(f"            + {text}", markup=False)
        for text in self.notes:
            out.print(f"            = {text}", markup=False)
        for alert in alerts:
            what = " ".join(alert["what"].split())[:100]
            out.print(f"            ! {alert['kind']}: {alert['subject']}: {what}", markup=False)
        self.notes.clear()

    def broken(self) -> list[str]:
        """The invariants of `tests/faults`, on this shop."""
        lake, wanted = self.plant.lake, self.deliveries
        found = invariants.torn(lake) + invariants.unservable(lake)
        found += invariants.strays(self.plant.home)
        columns = ["user_id", "item_id", "event_time", "session_id"]
        raw = lake.read("raw_interactions").to_pandas(columns)
        times = raw["event_time"].dt.strftime("%Y-%m-%d %H:%M:%S")
        keys = zip(raw["user_id"], raw["item_id"], times, raw["session_id"], strict=True)
        have: Counter[tuple[str, ...]] = Counter(keys)
        if have != wanted.events:
            lost, more = wanted.events - have, have - wanted.events
            found.append(f"{len(lost)} events are lost, {len(more)} too many (I1)")
        landed = lake.read("landed_rows").to_pandas(["reject_reason"])["reject_reason"]
        if (len(landed), int(landed.notna().sum())) != (wanted.rows, wanted.refused):
            found.append(
                f"{len(landed)} rows landed, {landed.notna().sum()} of them refused; delivered "
                f"were {wanted.rows}, {wanted.refused} of them to be refused (I1)"
            )
        if len(self.plant.arrivals()) != wanted.contents:
            found.append("the ledger has not every content once (I1)")
        return found


def _copy(source: Path, target: Path) -> None:
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)


def main(folder: Path, after: int | None = None) -> int:
    """Live through the days after `after`, or through all of them; 0 if all went as it must."""
    month = Month(folder)
    try:
        if after is None:
            month.begin()
        else:
            month.go_on(after)
        for day in range((after or 0) + 1, shop.DAYS + 1):
            month.live(day)
        doctor = month.plant.recsys("doctor", "--deep")
        demand(doctor.returncode == 0, f"recsys doctor is content: {doctor.stdout}")
        log = Releases(month.plant.lake).state().log
        done = Counter(entry.action for entry in log)
        out.print(
            f"{shop.DAYS} days in {(time.monotonic() - month.began) / 60:.0f} minutes: "
            f"{month.counts['runs']} runs, {month.counts['failed']} failed, "
            f"{month.counts['alerts']} alerts; {dict(done)}",
            markup=False,
        )
    except NotSeenError as error:
        out.print(f"NOT SEEN: {error}", markup=False)
        return 1
    finally:
        month.plant.stop()
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place = Path(sys.argv[1])
        place.mkdir(parents=True, exist_ok=True)
        kept = sorted(int(day.name) for day in (place / KEPT).glob("*"))
        after = int(sys.argv[2]) if len(sys.argv) > 2 else max(kept, default=None)
        raise SystemExit(main(place, after))
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(main(Path(folder)))
