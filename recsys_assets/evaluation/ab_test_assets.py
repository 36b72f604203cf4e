"""The asset of the A/B test that the shop file plans, and the warning beside it.

Belongs here: reading exposures and takings, what is shown in the UI. Does not belong here: the
statistics (`ab_test.py`).
"""

import dagster as dg
import pandas as pd
import pyarrow.compute as pc

from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of
from recsys_assets.core.lake import Snapshot
from recsys_assets.evaluation import ab_test as measure
from recsys_assets.evaluation import tables

GROUP = "evaluation"


@table_asset(tables.AB_TEST, group=GROUP, kinds=["python", "pandas"], config=("ab_test",))
def ab_test(
    raw_exposures: Snapshot, interactions: Snapshot, cutoffs: Snapshot, shop: Shop, report: Report
) -> pd.DataFrame:
    """What the users of each arm took, beside those of the control; empty without a plan.

    Arms come from the exposures, takings from the interactions. Users count once their days are
    over; differences are told once the planned end is past.
    """
    test, as_of = shop.ab_test, cutoff_of(cutoffs, "live")
    if test is None or as_of is None:
        return tables.AB_TEST.empty().to_pandas()
    logged = raw_exposures.to_arrow(["user_id", "item_id", "arm", "shown_at"])
    logged = logged.filter(pc.and_(logged["arm"].is_valid(), pc.less(logged["shown_at"], as_of)))
    shown = measure.during(logged.to_pandas(), test)
    users = measure.assigned(shown, test)
    complete = users[users["entered"] + pd.Timedelta(days=test.days) <= as_of]
    columns = ["user_id", "item_id", "event_time", "value", "counts_as_taken"]
    events = interactions_as_of(interactions, as_of, columns)
    begin = pd.Timestamp(test.starts, tz="UTC")
    since = pc.greater_equal(events["event_time"], begin)
    taken = events.filter(pc.and_(events["counts_as_taken"], since)).to_pandas()
    end = measure.planned_end(test)
    found = measure.outcomes(complete, taken, shown, test.days)
    table = measure.readout(users, found, test, over=as_of >= end)
    for line in table[table["value"].notna()].to_dict("records"):
        report.numbers[f"{line['metric']} {line['arm']}"] = float(line["value"])
    said = "over since" if as_of >= end else "going on until"
    days_over = f"the days of {len(complete):,} of {len(users):,} users are over"
    report.texts["state"] = f"{said} {end:%Y-%m-%d}; {days_over}"
    return table


@dg.asset_check(
    asset=ab_test.asset,
    name="sound",
    blocking=False,
    description="Warns when arms do not get the planned shares of users, or users change arms.",
)
def sound(project: Project) -> dg.AssetCheckResult:
    test = project.shop.ab_test
    table = project.lake.newest("ab_test").to_pandas()
    faults = measure.faults(table, test) if test is not None else []
    return dg.AssetCheckResult(
        passed=not faults,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(faults) or "users are split as planned",
    )


ASSETS: list[GatedAsset] = [ab_test]
WARNINGS: list[dg.AssetChecksDefinition] = [sound]
