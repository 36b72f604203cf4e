"""The code location: all assets, their gates, and how they run. Nothing is computed here."""

from collections.abc import Sequence

import dagster as dg

from dagster_project import automation, jobs, resources, retention, schedules, sensors
from recsys_assets.collaborative import assets as collaborative
from recsys_assets.content import assets as content
from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.enrichment import assets as enrichment
from recsys_assets.evaluation import ab_test_assets as ab_test
from recsys_assets.evaluation import assets as evaluation
from recsys_assets.evaluation import cold_assets as cold_items
from recsys_assets.evaluation import list_assets as measured_lists
from recsys_assets.evaluation import page_assets as page
from recsys_assets.evaluation import study_assets as studies
from recsys_assets.indexing import assets as indexing
from recsys_assets.ingestion import assets as ingestion
from recsys_assets.onboarding import assets as onboarding
from recsys_assets.publishing import assets as publishing
from recsys_assets.ranking import assets as ranking
from recsys_assets.ranking import list_assets as shown_lists
from recsys_assets.ranking.recipe import check_models
from recsys_assets.retrieval import assets as retrieval
from recsys_assets.staging import assets as staging


def gated_assets(project: Project) -> list[GatedAsset]:
    """Every asset of the graph with its gate, in the order the data flows."""
    upstream = [
        *ingestion.assets(project.shop),
        *staging.ASSETS,
        *content.ASSETS,
        *collaborative.ASSETS,
        *enrichment.ASSETS,
        *indexing.ASSETS,
        *retrieval.ASSETS,
        *onboarding.ASSETS,
        *ranking.ASSETS,
        *shown_lists.ASSETS,
        *measured_lists.ASSETS,
        *evaluation.ASSETS,
        *cold_items.ASSETS,
        *ab_test.ASSETS,
        *page.ASSETS,
        *studies.ASSETS,
    ]
    return [*upstream, *publishing.assets(upstream)]


def gates(gated: Sequence[GatedAsset]) -> list[dg.AssetChecksDefinition]:
    """Every check: the gate of each asset, and the warnings."""
    return [*(g.check for g in gated), *ab_test.WARNINGS, *publishing.WARNINGS]


def check_keys(gated: Sequence[GatedAsset]) -> list[dg.AssetCheckKey]:
    """The names of all checks."""
    return [key for check in gates(gated) for key in check.check_keys]


def build(project: Project | None = None) -> dg.Definitions:
    """The graph over `project` (default: the one the environment names)."""
    project = project or resources.project()
    check_models(project.shop)
    gated = gated_assets(project)
    return dg.Definitions(
        assets=automation.conditioned(gated),
        asset_checks=gates(gated),
        jobs=[*jobs.all_jobs(automation.catalogue(gated)), retention.job(check_keys(gated))],
        schedules=schedules.all_schedules(project),
        sensors=sensors.all_sensors(project, gated),
        resources={"project": project},
        executor=dg.in_process_executor,
    )


defs = build()
