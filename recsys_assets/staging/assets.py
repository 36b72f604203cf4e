"""Staging assets: one clean table per entity, the quarantine, and the calendar of cutoffs.

Belongs here: thin assets and the rules that keep the sum of rows. Does not belong here: parsing
(ingestion), and anything learned from the data.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import LakeError, Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.staging import tables
from recsys_assets.staging.benchmark import END, on_benchmark_clock
from recsys_assets.staging.cutoffs import end_of_data, plan

GROUP = "staging"


def _the_catalogue_is_the_product_table(
    candidate: Snapshot, raw_items: Snapshot
) -> Iterator[Failure]:
    """Every product of the source and nothing else: which of them sold is not for it to say."""
    ours = candidate.to_arrow(["item_id"])["item_id"].combine_chunks()
    theirs = pc.unique(raw_items.to_arrow(["item_id"])["item_id"])
    for missing, known, text in (
        (theirs, ours, "products of the source are left out: a catalogue made of what sold knows "
         "which products will sell"),
        (ours, theirs, "items are not in the product table of the source"),
    ):  # fmt: skip
        rows = int(pc.sum(pc.invert(pc.is_in(missing, value_set=known))).as_py() or 0)
        if rows:
            yield Failure(text, "item_id", rows)


@table_asset(
    tables.ITEMS,
    group=GROUP,
    kinds=["duckdb", "sql"],
    sql=["staging/items"],
    rules=[_the_catalogue_is_the_product_table],
)
def items(raw_items: Snapshot, warehouse: Warehouse) -> pa.Table:
    """The complete catalogue with every gap filled by a stated rule.

    Items that never sold are here too: leaving them out would tell a model the future.
    """
    return warehouse.query("staging/items", {"raw_items": raw_items.paths()})


@table_asset(tables.USERS, group=GROUP, kinds=["duckdb", "sql"], sql=["staging/users"])
def users(
    raw_users: Snapshot,
    raw_interactions: Snapshot,
    onboarding_answers: Snapshot,
    warehouse: Warehouse,
) -> pa.Table:
    """Everyone who gets recommendations: listed by the source, seen in an event, or having
    answered the onboarding questions."""
    return warehouse.query(
        "staging/users",
        {
            "raw_users": raw_users.paths(),
            "raw_interactions": raw_interactions.paths(),
            "onboarding_answers": onboarding_answers.paths(),
        },
    )


def _quarantine_holds_every_reject(candidate: Snapshot, landed_rows: Snapshot) -> Iterator[Failure]:
    """Each by its place: rows that staging refuses itself do not stand in for them."""
    place = ["batch", "file", "row"]
    landed = landed_rows.to_arrow([*place, "reject_reason"])
    refused = landed.filter(pc.not_equal(landed["reject_reason"], "erased"))
    missing = refused.join(candidate.to_arrow(place), place, join_type="left anti").num_rows
    if missing:
        yield Failure("rows that were refused at parsing are left out", rows=missing)


@table_asset(
    tables.QUARANTINE,
    group=GROUP,
    kinds=["duckdb", "sql"],
    sql=["staging/quarantine"],
    rules=[_quarantine_holds_every_reject],
)
def quarantine(
    landed_rows: Snapshot,
    raw_interactions: Snapshot,
    items: Snapshot,
    warehouse: Warehouse,
    report: Report,
) -> pa.Table:
    """Every interactions row that is not used, with file, row, field and reason.

    Refused at parsing, on an item the catalogue does not list, or contradicting an earlier row of
    the same event id.
    """
    table = warehouse.query(
        "staging/quarantine",
        {
            "landed_rows": landed_rows.paths(),
            "raw_interactions": raw_interactions.paths(),
            "items": items.paths(),
        },
    )
    reasons = table["reject_reason"].to_pandas().str.split(":").str[0].value_counts()
    report.numbers |= {f"quarantined: {reason}": int(n) for reason, n in reasons.items()}
    report.numbers[tables.NOT_MADE_YET] = _waiting(landed_rows, raw_interactions)
    return table


def _rows_add_up(
    candidate: Snapshot, landed_rows: Snapshot, raw_interactions: Snapshot, quarantine: Snapshot
) -> Iterator[Failure]:
    """Every event of a raw row that is not in quarantine is here, and nothing else. That raw days
    hold all that landed is for their own gate; those that were not made yet may wait."""
    events = _events(raw_interactions, quarantine)
    ids = candidate.to_arrow(["event_id"])["event_id"].combine_chunks()
    for missing, known, text in (
        (events, ids, "accepted events are left out"),
        (ids, events, "events are refused ones, or in no raw table"),
    ):
        rows = int(pc.sum(pc.invert(pc.is_in(missing, value_set=known))).as_py() or 0)
        if rows:
            yield Failure(text, "event_id", rows)
    waiting = _waiting(landed_rows, raw_interactions)
    if waiting < 0:
        yield Failure(f"{-waiting:,} more rows are raw than landed: materialize their days again")


def _something_was_taken(candidate: Snapshot) -> Iterator[Failure]:
    """Takings that speak for an item are what everything is learned from and measured by."""
    log = candidate.to_arrow(["event_type", "polarity", "counts_as_taken"])
    taken = pc.and_(log["counts_as_taken"], pc.greater(log["polarity"], 0))
    if len(log) and not pc.any(taken).as_py():
        names = ", ".join(sorted(pc.unique(log["event_type"]).to_pylist()))
        yield Failure(
            f"no event counts as taken, so nothing can be learned; there are only: {names}. If one "
            "of them is what your lists are for (a click, a play), say so in the shop file: "
            "event_types: {<name>: {counts_as_taken: true}}",
            "event_type", len(log),
        )  # fmt: skip


def _waiting(landed_rows: Snapshot, raw_interactions: Snapshot) -> int:
    """How many acceptable rows are in no raw day or month: of one that is not over, or that is
    still to be materialized."""
    refused = landed_rows.to_arrow(["reject_reason"])["reject_reason"]
    return refused.null_count - raw_interactions.rows


def _events(raw_interactions: Snapshot, quarantine: Snapshot) -> pa.Array:
    """The event ids of the raw rows that are not in quarantine, each once."""
    place = ["batch", "file", "row"]
    raw = raw_interactions.to_arrow([*place, "event_id"])
    out = quarantine.to_arrow(place)
    maybe = np.flatnonzero(pc.is_in(raw["row"], value_set=pc.unique(out["row"])))
    some = raw.select(place).take(pa.array(maybe)).to_pandas()
    found = some.merge(out.to_pandas().assign(out=True), how="left", on=place)["out"].notna()
    keep = np.ones(len(raw), dtype=bool)
    keep[maybe[found.to_numpy()]] = False
    return pc.unique(raw["event_id"].filter(pa.array(keep)))


@table_asset(
    tables.INTERACTIONS,
    group=GROUP,
    kinds=["duckdb", "sql"],
    config=("event_types", "time_zone", "benchmark"),
    sql=["staging/interactions"],
    rules=[_rows_add_up, _something_was_taken],
)
def interactions(
    raw_interactions: Snapshot,
    quarantine: Snapshot,
    shop: Shop,
    warehouse: Warehouse,
    report: Report,
) -> pa.Table:
    """Every accepted event once, with what its type means and its local calendar day.

    Returns, dislikes and skips are kept as negative events. The gate compares the events with those
    of the raw rows that are not in quarantine. A benchmark's events carry the times of its own
    calendar.
    """
    event_types = pd.DataFrame(
        [
            {
                "event_type": name,
                "weight": t.weight,
                "polarity": t.polarity,
                "counts_as_taken": t.counts_as_taken,
            }
            for name, t in shop.event_types.items()
        ]
    )
    table = warehouse.query(
        "staging/interactions",
        {
            "raw_interactions": raw_interactions.paths(),
            "quarantine": quarantine.paths(),
            "event_types": event_types,
        },
        {"time_zone": shop.time_zone},
    )
    if shop.benchmark is not None:
        table = on_benchmark_clock(table, shop.benchmark, shop.time_zone)
    report.numbers |= {
        "users": len(pc.unique(table["user_id"])),
        "items": len(pc.unique(table["item_id"])),
        "negative events": int(pc.sum(pc.less(table["polarity"], 0)).as_py() or 0),
    }
    return table


def _plan(interactions: Snapshot, shop: Shop) -> tuple[pd.DataFrame, pd.DataFrame]:
    times = interactions.to_arrow(["event_time"])["event_time"]
    if len(times) == 0:
        raise LakeError("interactions is empty: there is nothing to learn from")
    span = pc.min_max(times).as_py()
    end = END if shop.benchmark else end_of_data(span["min"], span["max"], shop.last_day_complete)
    return plan(shop.cutoffs, span["min"], end)


@table_asset(
    tables.CUTOFFS,
    group=GROUP,
    kinds=["python"],
    config=("cutoffs", "last_day_complete", "benchmark"),
)
def cutoffs(interactions: Snapshot, shop: Shop) -> pd.DataFrame:
    """The moments at which everything learned is computed.

    `live` is the end of the last complete day of the data, never the wall clock.
    """
    return _plan(interactions, shop)[0]


def _windows_end_before_targets(candidate: Snapshot) -> Iterator[Failure]:
    frame = candidate.to_pandas()
    late = frame["window_horizon_end"] > frame["as_of"]
    if late.any():
        yield Failure("a label window ends after its target's cutoff", rows=int(late.sum()))


@table_asset(
    tables.FITS,
    group=GROUP,
    kinds=["python"],
    config=("cutoffs", "last_day_complete", "benchmark"),
    rules=[_windows_end_before_targets],
)
def fits(interactions: Snapshot, shop: Shop) -> pd.DataFrame:
    """Which label windows train which target; none ends after the target's own cutoff."""
    return _plan(interactions, shop)[1]


ASSETS: list[GatedAsset] = [items, users, quarantine, interactions, cutoffs, fits]
