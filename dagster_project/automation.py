"""Declarative conditions: which assets are refreshed as soon as their inputs changed.

Belongs here: conditions, and the selection they are put on. Does not belong here: schedules,
sensors, jobs.

Two groups refresh themselves: the catalogue (everything made from nothing but the catalogue: items,
texts, embeddings, enrichment, the index) and the staging tables. They cost seconds to minutes, and
nothing among them is trained on events. What is trained waits for its schedule.
"""

from collections.abc import Sequence

import dagster as dg

from recsys_assets.core.assets import GatedAsset

CATALOGUE_ROOTS = frozenset({"raw_items"})
STAGING = "staging"


def refresh() -> dg.AutomationCondition:
    """When an input's *data* changed, no input is missing or being made, and every gate is green.

    `eager()` would fire for a run that made the same bytes again, and after a failed gate.
    """
    changed = dg.AutomationCondition.eager().replace(
        "newly_updated", dg.AutomationCondition.data_version_changed()
    )
    # A dependency that is requested with us is judged by its gate within the same run.
    green = dg.AutomationCondition.all_deps_match(
        dg.AutomationCondition.will_be_requested()
        | dg.AutomationCondition.all_checks_match(
            dg.AutomationCondition.check_passed(), blocking_only=True
        )
    )
    return (changed & green).with_label("an input changed and its gate is green")


def catalogue(gated: Sequence[GatedAsset]) -> list[str]:
    """Names of the assets that depend, all the way up, on nothing but the catalogue."""
    upstream = {g.table.name: {k.to_user_string() for k in g.asset.dependency_keys} for g in gated}
    found: list[str] = []
    for name, above in upstream.items():  # in the order the data flow
        if above and above <= CATALOGUE_ROOTS | set(found):
            found.append(name)
    return found


def conditioned(gated: Sequence[GatedAsset]) -> list[dg.AssetsDefinition]:
    """The assets, those of the two groups with their condition."""
    chosen = set(catalogue(gated)) | {g.table.name for g in gated if _group(g) == STAGING}

    def attributes(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.key.to_user_string() not in chosen:
            return spec
        return spec.replace_attributes(automation_condition=refresh())

    return [g.asset.map_asset_specs(attributes) for g in gated]


def _group(gated: GatedAsset) -> str:
    return gated.asset.group_names_by_key[gated.asset.key]


def sensor() -> dg.AutomationConditionSensorDefinition:
    """Evaluates the conditions."""
    return dg.AutomationConditionSensorDefinition(
        "refresh",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description="Refreshes catalogue and staging tables when an input changed and passed.",
    )
