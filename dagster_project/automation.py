"""Declarative conditions: which assets are refreshed as soon as their inputs changed.

Belongs here: conditions, and the selection they are put on. Does not belong here: schedules,
sensors, jobs.

Two groups refresh themselves: the catalogue (everything made from nothing but the catalogue, and
the index) and the staging tables. They cost seconds to minutes, and nothing among them is trained
on events. What is trained waits for its schedule.
"""

from collections.abc import Sequence

import dagster as dg

from recsys_assets.core.assets import GatedAsset

CATALOGUE_ROOTS = frozenset({"raw_items"})
CATALOGUE_GROUPS = frozenset({"content", "indexing"})
"""Groups that belong to the catalogue although they also look at events (how popular an item is);
new events alone do not refresh them, the daily run does."""
STAGING = "staging"


def refresh(ignored: Sequence[str] = ()) -> dg.AutomationCondition:
    """When an input's *data* changed, no input is missing or being made, and every gate is green.

    `eager()` would fire for a run that made the same bytes again, and after a failed gate. Changes
    of the inputs in `ignored` are no reason. Being made, with or without a change, ends the wait.
    """
    updated = dg.AutomationCondition.any_deps_updated()
    if ignored:
        updated = updated.ignore(dg.AssetSelection.assets(*ignored))
    changed = dg.AutomationCondition.eager().replace(
        "any_deps_updated",
        updated.replace("newly_updated", dg.AutomationCondition.data_version_changed()),
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
    """Names of the assets that depend, all the way up, on nothing but the catalogue, and of the
    catalogue's groups."""
    found: list[str] = []
    for g in gated:  # in the order the data flow
        above = _inputs(g)
        if (above and above <= CATALOGUE_ROOTS | set(found)) or _group(g) in CATALOGUE_GROUPS:
            found.append(g.table.name)
    return found


def conditioned(gated: Sequence[GatedAsset]) -> list[dg.AssetsDefinition]:
    """The assets, those of the two groups with their condition."""
    ours = set(catalogue(gated))
    result = []
    for g in gated:
        asset, name = g.asset, g.table.name
        if name in ours:
            asset = with_condition(asset, refresh(sorted(_inputs(g) - ours - CATALOGUE_ROOTS)))
        elif _group(g) == STAGING:
            asset = with_condition(asset, refresh())
        result.append(asset)
    return result


def with_condition(
    asset: dg.AssetsDefinition, condition: dg.AutomationCondition
) -> dg.AssetsDefinition:
    """`asset`, refreshed under `condition`."""
    return asset.map_asset_specs(lambda s: s.replace_attributes(automation_condition=condition))


def _inputs(gated: GatedAsset) -> set[str]:
    return {key.to_user_string() for key in gated.asset.dependency_keys}


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
