"""What the small shop serves can be traced, exported and taken back."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys_assets.core.warehouse import Warehouse
from recsys_assets.publishing.releases import Releases
from recsys_assets.publishing.serving import Served
from recsys_assets.publishing.trace import trace
from tests.end_to_end.conftest import ShopRun


@pytest.fixture(scope="module")
def served(shop_run: ShopRun) -> Served:
    return Served.open(shop_run.lake)


def test_the_first_run_ends_in_a_complete_release_that_is_served(
    served: Served, shop_run: ShopRun
) -> None:
    Releases(shop_run.lake).check(served.manifest.release_id, deep=True)
    assert {"rankers", "candidates", "raw_interactions", "scoreboard"} <= set(
        served.manifest.tables
    )
    assert served.manifest.metrics.keys() >= {"ndcg@10 all", "ndcg@10 new"}


def test_a_served_row_is_traced_to_features_models_and_raw_data(served: Served) -> None:
    lists = served.table("recommendations").to_pandas()
    for placement in ("for_you", "discover"):
        own = lists[(lists["placement"] == placement) & (lists["policy"] == "ranker")]
        row = own.iloc[0]
        found = trace(served, Warehouse(), row["user_id"], row["item_id"], placement)
        assert found.note == "", "the score must come out the same from the release's own tables"
        assert len(found.features) > 50
        assert found.scores["score_all"] is not None
        assert {"rankers", "item_features", "raw_interactions", "raw_items"} <= set(found.made_of)
        assert found.row["release_id"] == served.release_id


def test_the_trace_command_names_release_scores_features_and_versions(
    shop_run: ShopRun, served: Served
) -> None:
    lists = served.table("recommendations").to_pandas()
    row = lists[(lists["placement"] == "for_you") & (lists["policy"] == "ranker")].iloc[0]
    shown = shop_run.recsys("trace", row["user_id"], row["item_id"])
    assert shown.returncode == 0, shown.stderr
    for text in (served.manifest.release_id, "score_all", "raw_interactions", "lightgbm"):
        assert text in shown.stdout


def test_exported_lists_carry_the_release_that_serves_them(
    shop_run: ShopRun, served: Served, tmp_path: pytest.TempPathFactory
) -> None:
    target = f"{tmp_path}/lists.parquet"
    assert shop_run.recsys("export", "recommendations", target).returncode == 0
    assert set(pq.read_table(target)["release_id"].to_pylist()) == {served.release_id}


def test_drift_and_health_of_the_shop_are_measured(shop_run: ShopRun) -> None:
    drift = shop_run.lake.read("drift").to_pandas()
    assert set(drift["kind"]) == {"feature", "score"}
    assert {"score_all", "item_days_28"} <= set(drift["name"])
    assert "ui_days" not in set(drift["name"]), "a running count drifts by itself"
    health = shop_run.lake.read("data_health").to_pandas()
    assert set(health["measure"]) == {
        "volume", "concentration", "unseen", "unknown items", "nulls", "coverage", "fallback",
    }  # fmt: skip
    assert pd.notna(health["value"]).all()
