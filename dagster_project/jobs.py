"""Jobs: named selections of assets."""

from functools import cache

import dagster as dg

MAIN = "recommend"
LAND = "land"
INGEST = "ingest"

LANDING = ("landed_rows", "raw_items", "raw_users", "raw_exposures", "rejected_entities")
"""What is made from source files directly."""
RAW = "raw_interactions"


@cache
def main_job():  # dagster does not export the type
    """Everything, from the source files to the report, with every gate."""
    return dg.define_asset_job(
        MAIN,
        selection=dg.AssetSelection.all(),
        description="From raw interactions to published recommendations and their scoreboard.",
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


def all_jobs():
    """Every job of the code location."""
    return [main_job(), land_job(), ingest_job()]
