"""Jobs: named selections of assets."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import dagster as dg

from recsys_assets.core.assets import CADENCE

MAIN = "recommend"
DAILY = "daily"
WEEKLY = "weekly"
EVALUATE_CUTOFFS = "evaluate_cutoffs"
TUNE = "tune"
CATALOGUE = "catalogue"
LAND = "land"
INGEST = "ingest"

BY_HAND = (WEEKLY, EVALUATE_CUTOFFS, TUNE)
"""Jobs that people start beside the main one."""

LANDING = (
    "landed_rows", "raw_items", "raw_users", "raw_exposures", "raw_promotions",
    "onboarding_answers", "rejected_entities",
)  # fmt: skip
"""What is made from source files directly."""
RAW = "raw_interactions"


def span_tags(first: str, last: str) -> dict[str, str]:
    """Tags of a run for the partitions from `first` to `last`."""
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


@cache
def main_job():  # dagster does not export the type
    """Everything that is served, and its scoreboard, with every gate."""
    return dg.define_asset_job(
        MAIN,
        selection=dg.AssetSelection.all() - dg.AssetSelection.tag(CADENCE, "weekly"),
        description="From raw interactions to published recommendations and their scoreboard.",
    )


@cache
def weekly_job():
    """Everything there is: the main job, the studies and tuning."""
    return dg.define_asset_job(
        WEEKLY,
        selection=dg.AssetSelection.all(),
        description="The main job, with tuning and the evaluation at many cutoffs.",
    )


@cache
def evaluate_cutoffs_job():
    """The studies that a run need not wait for, and the report that then shows them."""
    return dg.define_asset_job(
        EVALUATE_CUTOFFS,
        selection=dg.AssetSelection.assets(
            "scoreboard_cutoffs", "ablation", "calibration", "report_page"
        ),
        description="Spread over cutoffs, ablations, label windows and calibration.",
    )


@cache
def tune_job():
    """Search the rankers' settings on the tune target; changes nothing by itself."""
    return dg.define_asset_job(
        TUNE,
        selection=dg.AssetSelection.assets("tuned_settings"),
        description="Settings of the rankers, searched with a budget on the tune target.",
    )


@cache
def daily_job():
    """What is built and published every day."""
    return dg.define_asset_job(
        DAILY,
        selection=dg.AssetSelection.all() - dg.AssetSelection.tag(CADENCE, "weekly"),
        description="Everything that is not tagged weekly: builds what changed, and publishes.",
    )


def catalogue_job(names: Sequence[str]) -> Any:  # dagster does not export the type
    """The tables made from nothing but the catalogue."""
    return dg.define_asset_job(
        CATALOGUE,
        selection=dg.AssetSelection.assets("raw_items", *names),
        description="New items reach texts, embeddings and index; nothing is trained.",
    )


@cache
def land_job():
    """The tables that read source files. A file that landed before is not read again."""
    return dg.define_asset_job(
        LAND,
        selection=dg.AssetSelection.assets(*LANDING),
        description="New files become checked rows. Requested by the sensor `arrival`.",
    )


@cache
def ingest_job():
    """The days of `raw_interactions` named by the run's partition range."""
    return dg.define_asset_job(
        INGEST,
        selection=dg.AssetSelection.assets(RAW),
        description="Exactly the days that new rows touch. Requested by the sensor `arrival`.",
    )


def all_jobs(catalogue: Sequence[str]) -> list[Any]:
    """Every job of the code location; `catalogue` are the assets made from the catalogue alone."""
    return [
        main_job(),
        daily_job(),
        weekly_job(),
        evaluate_cutoffs_job(),
        tune_job(),
        catalogue_job(catalogue),
        land_job(),
        ingest_job(),
    ]
