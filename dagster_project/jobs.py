"""Jobs: named selections of assets."""

import dagster as dg

MAIN = "recommend"


def main_job():  # dagster does not export the type
    """Everything, from the source files to the report, with every gate."""
    return dg.define_asset_job(
        MAIN,
        selection=dg.AssetSelection.all(),
        description="From raw interactions to published recommendations and their scoreboard.",
    )
