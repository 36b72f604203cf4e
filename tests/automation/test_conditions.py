"""Downstream is refreshed when an input's data changed and its gate is green, and not otherwise."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd
import pytest

from dagster_project import automation
from dagster_project.definitions import gated_assets
from recsys_assets.core.assets import Project, table_asset
from recsys_assets.core.config import packaged_shop
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.tables import Table
from tests.core.test_gate import COLUMNS, Graph, doubled, numbers


@table_asset(Table("quadrupled", COLUMNS, key=("id",)), group="test")
def quadrupled(doubled: Snapshot) -> pd.DataFrame:
    frame = doubled.to_pandas()
    return frame.assign(x=frame["x"] * 2)


@table_asset(
    Table("by_day", COLUMNS, key=("id",)),
    group="test",
    partitions=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04"),
)
def by_day(numbers: Snapshot, days: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    for day in days:
        yield day, pd.DataFrame({"id": [day], "x": [1.0]})


@table_asset(Table("days_together", COLUMNS, key=("id",)), group="test")
def days_together(by_day: Snapshot) -> pd.DataFrame:
    return by_day.to_pandas()


class Automatic:
    """Gated assets, some refreshed by their condition; ticks by hand."""

    def __init__(self, project: Project) -> None:
        self.graph = Graph(project, quadrupled, by_day, days_together)
        self.project = project
        self.condition(automation.refresh())

    def condition(self, condition: dg.AutomationCondition) -> None:
        """Put `condition` on both consumers."""
        conditioned = [
            automation.with_condition(gated.asset, condition)
            for gated in (doubled, quadrupled, days_together)
        ]
        gated = (numbers, doubled, quadrupled, by_day, days_together)
        self.defs = dg.Definitions(
            assets=[numbers.asset, by_day.asset, *conditioned],
            asset_checks=[g.check for g in gated],
            resources={"project": self.project},
        )
        self.cursor: dg.AssetDaemonCursor | None = None

    def requested(self) -> list[str]:
        result = dg.evaluate_automation_conditions(
            self.defs, instance=self.graph.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        keys = (dg.AssetKey(name) for name in ("doubled", "quadrupled", "days_together"))
        return [k.to_user_string() for k in keys if result.get_num_requested(k)]

    def make(self, *values: float, run: tuple[str, ...] = ("numbers",)) -> bool:
        self.graph.write(numbers=list(values))
        return self.graph.run(*run)


@pytest.fixture
def automatic(project: Project, monkeypatch: pytest.MonkeyPatch) -> Automatic:
    monkeypatch.setattr("recsys_assets.core.assets.release_memory", lambda: None)
    automatic = Automatic(project)
    assert automatic.make(1.0, run=("numbers", "doubled", "quadrupled"))
    automatic.requested()
    return automatic


def test_changed_data_refresh_the_consumer_once(automatic: Automatic) -> None:
    assert automatic.make(2.0)
    assert automatic.requested() == ["doubled", "quadrupled"], "all the way down in one tick"
    assert automatic.graph.run("doubled", "quadrupled")
    assert not automatic.requested()


def test_the_same_bytes_made_again_refresh_nothing(automatic: Automatic) -> None:
    assert automatic.make(1.0)
    assert not automatic.requested()


def test_after_a_failed_gate_nothing_is_requested_until_it_is_green(automatic: Automatic) -> None:
    assert not automatic.make(200.0)
    assert not automatic.requested()
    assert automatic.make(3.0)
    assert automatic.requested()


def test_a_run_that_makes_both_is_not_followed_by_another(automatic: Automatic) -> None:
    assert automatic.make(4.0, run=("numbers", "doubled", "quadrupled"))
    assert not automatic.requested()


def test_a_daily_run_over_every_day_is_not_followed_by_a_refresh_of_what_it_found_unchanged(
    automatic: Automatic,
) -> None:
    """Dagster gives every partition of one run the same data version: days that stayed as they
    were look changed."""
    days, together = "2024-01-01...2024-01-03", ("by_day", "days_together")
    assert automatic.graph.run(*together, days=days)
    automatic.requested()
    assert automatic.make(2.0, run=("numbers", "doubled", "quadrupled"))
    assert automatic.graph.run("by_day", days="2024-01-01...2024-01-01")
    assert automatic.requested() == ["days_together"], "a day that came in alone is a reason"
    assert automatic.graph.run("days_together")
    assert automatic.requested() == []
    assert automatic.graph.run(*together, days=days)
    assert automatic.requested() == []


def test_the_catalogue_flows_to_embeddings_and_to_nothing_that_is_trained(
    project: Project,
) -> None:
    shop = Project(home=project.home, shop_file=str(packaged_shop()))
    gated = gated_assets(shop)
    names = automation.catalogue(gated)
    assert {"items", "item_texts", "text_embeddings", "vector_index"} <= set(names)
    trained = {"als_factors", "item_neighbours", "rankers", "candidates", "training_rows"}
    assert not trained & set(names)
    above = {g.table.name: {k.to_user_string() for k in g.asset.dependency_keys} for g in gated}
    for name in names:
        assert not trained & above[name]


def test_an_input_that_is_ignored_is_no_reason(automatic: Automatic) -> None:
    automatic.condition(automation.refresh(["numbers"]))
    automatic.requested()
    assert automatic.make(9.0)
    assert automatic.requested() == []
