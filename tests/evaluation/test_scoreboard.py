"""The scoreboard on four users and six items."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.lake import Lake, part_name
from recsys_assets.evaluation.assets import _is_measured
from recsys_assets.evaluation.scoreboard import (
    DIFFERENCE_COLUMNS,
    METRIC_COLUMNS,
    MeasuredTask,
    Scoreboard,
    Surroundings,
    history_slices,
    popularity_slices,
    scoreboard,
    user_metrics,
)
from tests.stored import stored

POPULARITY = pd.Series({"a": 50, "b": 30, "c": 15, "d": 5})
ITEMS = pd.DataFrame({"item_id": list("abcdef"), "category_2": list("xxyyzz")}).assign(
    group_id=lambda frame: "g-" + frame["item_id"]
)


def lists(model: str, items_by_user: dict[str, str], seed: int = 7) -> pd.DataFrame:
    rows = [
        (model, seed, user, item, rank)
        for user, items in items_by_user.items()
        for rank, item in enumerate(items, start=1)
    ]
    return pd.DataFrame(rows, columns=["model", "seed", "user_id", "item_id", "rank"])


def pairs(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [n[0] for n in names], "item_id": [n[1] for n in names]})


def board() -> Scoreboard:
    users = list("uvwx")
    found = [
        lists("popular", dict.fromkeys(users, "ab")),
        lists("ours", {"u": "ca", "v": "fb", "w": "ba", "x": "ab"}),
        lists("ours", {"u": "ca", "v": "ab", "w": "ba", "x": "ab"}, seed=8),
        lists("retriever: r", {"u": "c"}),
    ]
    task = MeasuredTask(pairs("uc", "vf", "wb", "xa", "xb"), pd.concat(found))
    slices = pd.Series(["none", "1-5", "1-5", "over 20"], index=users)
    around = Surroundings(POPULARITY, ITEMS, pairs("ua", "wa"), slices)
    rivals = {"baselines": ["popular"], "retrievers": ["retriever: r"]}
    return scoreboard("tune", {"all": task}, around, rivals=rivals, draws=200)


def value(frame: pd.DataFrame, **key: str) -> float:
    rows = frame
    for column, wanted in key.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return float(rows["value"].item())


def test_every_model_is_measured_on_the_same_users() -> None:
    metrics = board().metrics
    assert tuple(metrics.columns) == METRIC_COLUMNS
    assert value(metrics, model="ours", slice="all", metric="recall@10") == 0.875
    assert value(metrics, model="popular", slice="all", metric="recall@10") == 0.5
    everybody = metrics[(metrics["slice"] == "all") & (metrics["metric"] == "ndcg@10")]
    assert everybody["n_users"].unique().tolist() == [4]
    assert (everybody["low"] <= everybody["value"]).all()
    assert (everybody["value"] <= everybody["high"]).all()


def test_slices_keep_their_users_or_their_items() -> None:
    metrics = board().metrics
    few = {"model": "popular", "slice": "users:1-5", "metric": "hit@10"}
    assert value(metrics, **few) == 0.5
    assert value(metrics, model="ours", slice="items:cold", metric="recall@10") == 0.5
    assert value(metrics, model="popular", slice="items:cold", metric="recall@10") == 0.0
    cold = metrics[metrics["slice"] == "items:cold"]
    assert cold["n_users"].unique().tolist() == [1]
    assert "users:6-20" not in set(metrics["slice"])


def test_coverage_is_one_number_without_an_interval() -> None:
    metrics = board().metrics
    assert value(metrics, model="popular", slice="all", metric="coverage@10") == pytest.approx(
        1 / 3
    )
    assert metrics.loc[metrics["metric"] == "coverage@10", ["low", "high"]].isna().all().all()


def test_novelty_counts_what_the_user_never_took() -> None:
    got = value(board().metrics, model="popular", slice="all", metric="never_taken_items@10")
    assert got == pytest.approx((0.5 + 1 + 0.5 + 1) / 4)


def test_a_variant_of_something_taken_is_a_new_item_but_not_a_new_product() -> None:
    task = MeasuredTask(pairs("uc", "vd"), lists("ours", {"u": "ab", "v": "cd"}))
    items = ITEMS.assign(group_id=["g", "g", "h", "h", "i", "i"])
    slices = pd.Series(["1-5", "1-5"], index=list("uv"))
    around = Surroundings(POPULARITY, items, pairs("ua", "vc"), slices)
    metrics = scoreboard("evaluate", {"new": task}, around, draws=10).metrics
    assert value(metrics, slice="all", metric="never_taken_items@10") == 0.5
    assert value(metrics, slice="all", metric="never_taken_groups@10") == 0.0


def test_a_model_is_the_mean_of_its_seeds_and_shows_their_spread() -> None:
    rows = board().metrics
    rows = rows[(rows["model"] == "ours") & (rows["slice"] == "all")]
    recall = rows[rows["metric"] == "recall@10"].iloc[0]
    assert (recall["n_seeds"], recall["seed_low"], recall["seed_high"]) == (2, 0.75, 1.0)
    coverage = rows[rows["metric"] == "coverage@10"].iloc[0]
    assert coverage["value"] == pytest.approx((4 / 6 + 3 / 6) / 2)


def test_models_are_compared_with_the_best_baseline_and_the_best_retriever_by_user() -> None:
    differences = board().differences
    assert tuple(differences.columns) == DIFFERENCE_COLUMNS
    assert set(differences["model"]) == {"ours"}
    assert set(differences["baseline"]) == {"popular", "retriever: r"}
    everybody = {"slice": "all", "metric": "recall@10"}
    assert value(differences, baseline="popular", **everybody) == 0.375
    assert value(differences, baseline="retriever: r", **everybody) == 0.625
    assert not differences["slice"].str.startswith("items:").any()


def test_a_user_without_a_list_counts_as_zero_in_the_metrics_per_user() -> None:
    per_user = user_metrics(pairs("uc", "va"), lists("m", {"u": "ac"}), k=1)
    assert per_user["user_id"].tolist() == ["u", "v"]
    assert per_user[["recall", "ndcg", "hit"]].to_numpy().sum() == 0
    longer = user_metrics(pairs("uc", "va"), lists("m", {"u": "ac"}), k=2)
    assert longer["recall"].tolist() == [1.0, 0.0]


def test_the_same_input_gives_the_same_board() -> None:
    pd.testing.assert_frame_equal(board().metrics, board().metrics)
    pd.testing.assert_frame_equal(board().differences, board().differences)


def test_history_is_counted_in_baskets_that_hold_something_taken() -> None:
    baskets = {"five": 5, "six": 6, "many": 21}
    log = pd.DataFrame(
        [(user, f"{user}{n}") for user, size in baskets.items() for n in range(size) for _ in "ab"],
        columns=["user_id", "session_id"],
    ).assign(counts_as_taken=True)
    returned = pd.DataFrame({"user_id": ["none"], "session_id": ["r"], "counts_as_taken": [False]})
    slices = history_slices(pd.concat([log, returned]), ["none", "five", "six", "many"])
    assert slices.to_dict() == {"none": "none", "five": "1-5", "six": "6-20", "many": "over 20"}


def test_without_sessions_every_event_is_a_basket() -> None:
    log = pd.DataFrame({"user_id": ["six"] * 6, "session_id": None, "counts_as_taken": True})
    assert history_slices(log, ["six", "none"]).to_dict() == {"six": "6-20", "none": "none"}


def test_half_of_all_events_are_head_and_what_nobody_took_is_cold() -> None:
    slices = popularity_slices(POPULARITY, list("abcdef"))
    assert slices.to_dict() == {
        "a": "head",
        "b": "mid",
        "c": "tail",
        "d": "tail",
        "e": "cold",
        "f": "cold",
    }


def test_a_board_without_baselines_has_no_differences() -> None:
    task = MeasuredTask(pairs("ua"), lists("ours", {"u": "a"}))
    around = Surroundings(POPULARITY, ITEMS, pairs(), pd.Series({"u": "none"}))
    result = scoreboard("tune", {"all": task}, around, draws=10)
    assert result.differences.empty and tuple(result.differences.columns) == DIFFERENCE_COLUMNS
    assert np.isnan(value(result.metrics, model="ours", slice="all", metric="diversity@10"))


def test_only_a_perfect_list_for_everybody_is_a_leak_and_not_one_of_a_slice(tmp_path: Path) -> None:
    """Where one product is the whole head, everybody who took of the head took that product."""
    lake, as_of = Lake(tmp_path), pd.Timestamp("2024-02-05", tz="UTC")

    cutoffs = stored(lake, "cutoffs", pd.DataFrame({"as_of": [as_of], "target": "evaluate"}))
    labels = stored(lake, "labels", {part_name(as_of): pa.table({"user_id": ["u"]})})

    def faults(of_everybody: float, of_head: float) -> list[str]:
        rows = [
            (model, where, value)
            for model in ("ours", "popularity_all")
            for where, value in (("all", of_everybody), ("items:head", of_head))
        ]
        frame = pd.DataFrame(rows, columns=["model", "slice", "value"]).assign(
            target="evaluate", baseline="", task="all", metric="ndcg@10", n_users=120
        )
        board = stored(lake, "scoreboard", frame)
        return [f.rule for f in _is_measured(board, labels, cutoffs)]

    assert faults(of_everybody=0.6, of_head=0.99) == []
    assert faults(of_everybody=0.96, of_head=0.5) == [
        "an NDCG above .95 is a leak until proven otherwise"
    ]
