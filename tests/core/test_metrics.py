"""Ranking metrics against hand-computed answers, a naive twin, and their own laws."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_assets.core.metrics import (
    ACCURACY,
    beyond_accuracy,
    bootstrap,
    catalogue_coverage,
    paired_bootstrap,
    per_user_metrics,
    seeded_sample,
    seeded_uniform,
    within_user_auc,
)
from recsys_assets.core.vectors import ItemVectors

ITEMS = [f"i{n}" for n in range(12)]
USERS = [f"u{n}" for n in range(5)]


def lists_of(by_user: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(u, i, r) for u, items in by_user.items() for r, i in enumerate(items, start=1)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])


def pairs_of(by_user: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(u, i) for u, items in by_user.items() for i in items]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


def naive(listed: list[str], wanted: set[str], k: int) -> dict[str, float]:
    """The definitions, one user at a time, as a textbook writes them."""
    top = listed[:k]
    hit_ranks = [rank for rank, item in enumerate(top, start=1) if item in wanted]
    possible = min(k, len(wanted))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, possible + 1))
    precisions = [(nth + 1) / rank for nth, rank in enumerate(hit_ranks)]
    return {
        "ndcg": sum(1 / math.log2(rank + 1) for rank in hit_ranks) / ideal,
        "recall": len(hit_ranks) / len(wanted),
        "precision": len(hit_ranks) / k,
        "map": sum(precisions) / possible,
        "mrr": 1 / hit_ranks[0] if hit_ranks else 0.0,
        "hit": float(bool(hit_ranks)),
    }


some_lists = st.dictionaries(
    st.sampled_from(USERS), st.lists(st.sampled_from(ITEMS), unique=True, max_size=8), max_size=5
)
some_relevant = st.dictionaries(
    st.sampled_from(USERS),
    st.lists(st.sampled_from(ITEMS), unique=True, min_size=1, max_size=8),
    min_size=1,
)


def test_metrics_of_one_hand_computed_list() -> None:
    metrics = per_user_metrics(
        lists_of({"u": ["a", "x", "b", "y"]}), pairs_of({"u": ["a", "b", "c"]}), ks=(4,)
    ).iloc[0]
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert metrics["ndcg@4"] == pytest.approx((1 + 1 / 2) / ideal)
    assert metrics["recall@4"] == pytest.approx(2 / 3)
    assert metrics["precision@4"] == pytest.approx(2 / 4)
    assert metrics["map@4"] == pytest.approx((1 + 2 / 3) / 3)
    assert metrics["mrr@4"] == 1.0
    assert metrics["hit@4"] == 1.0


def test_a_user_without_a_list_scores_zero_and_one_without_relevant_items_is_not_counted() -> None:
    metrics = per_user_metrics(lists_of({"listed": ["a"]}), pairs_of({"forgotten": ["a"]}))
    assert metrics["user_id"].tolist() == ["forgotten"]
    assert metrics.drop(columns="user_id").to_numpy().sum() == 0


def test_a_purchase_repeated_in_the_window_is_one_relevant_pair() -> None:
    relevant = pairs_of({"u": ["a", "a", "b"]})
    assert per_user_metrics(lists_of({"u": ["a"]}), relevant)["recall@10"].item() == 0.5


@pytest.mark.parametrize(
    "rows",
    [
        [("u", "a", 1), ("u", "a", 2)],
        [("u", "a", 1), ("u", "b", 1)],
        [("u", "a", 0)],
    ],
    ids=["item twice", "rank twice", "rank zero"],
)
def test_a_malformed_list_is_refused(rows: list[tuple[str, str, int]]) -> None:
    lists = pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])
    with pytest.raises(ValueError, match="rank"):
        per_user_metrics(lists, pairs_of({"u": ["a"]}))


@settings(max_examples=60, deadline=None)
@given(some_lists, some_relevant, st.integers(1, 10))
def test_vectorised_metrics_agree_with_the_textbook(
    by_user: dict[str, list[str]], relevant: dict[str, list[str]], k: int
) -> None:
    metrics = per_user_metrics(lists_of(by_user), pairs_of(relevant), (k,)).set_index("user_id")
    assert sorted(metrics.index) == sorted(relevant)
    for user, wanted in relevant.items():
        expected = naive(by_user.get(user, []), set(wanted), k)
        got = metrics.loc[user]
        assert {m: got[f"{m}@{k}"] for m in ACCURACY} == pytest.approx(expected)
        assert all(0 <= got[f"{m}@{k}"] <= 1 + 1e-12 for m in ACCURACY)


@settings(max_examples=40, deadline=None)
@given(some_lists, some_relevant, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(
    by_user: dict[str, list[str]], relevant: dict[str, list[str]], random: object
) -> None:
    lists, wanted = lists_of(by_user), pairs_of(relevant)
    seed = random.randrange(1000)  # type: ignore[attr-defined]
    shuffled = per_user_metrics(
        lists.sample(frac=1, random_state=seed), wanted.sample(frac=1, random_state=seed)
    )
    pd.testing.assert_frame_equal(per_user_metrics(lists, wanted), shuffled)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ITEMS), unique=True, min_size=2, max_size=10), st.data())
def test_moving_a_hit_up_never_lowers_a_metric(listed: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(listed) - 1))
    wanted = {listed[at], *data.draw(st.lists(st.sampled_from(ITEMS), max_size=4))}
    wanted.discard(listed[at - 1])
    moved = listed.copy()
    moved[at - 1], moved[at] = listed[at], listed[at - 1]
    relevant = pairs_of({"u": sorted(wanted)})
    before = per_user_metrics(lists_of({"u": listed}), relevant).drop(columns="user_id")
    after = per_user_metrics(lists_of({"u": moved}), relevant).drop(columns="user_id")
    assert (after.to_numpy() >= before.to_numpy() - 1e-12).all()


def test_recall_grows_with_the_length_of_the_candidate_list() -> None:
    lists, relevant = lists_of({"u": ["x", "a", "b"]}), pairs_of({"u": ["a", "b"]})
    found = per_user_metrics(lists, relevant, (1, 2, 3))
    assert [found[f"recall@{k}"].item() for k in (1, 2, 3)] == [0.0, 0.5, 1.0]


def test_coverage_counts_items_of_the_first_k_only() -> None:
    lists = lists_of({"u": ["a", "b"], "v": ["a", "c"]})
    assert catalogue_coverage(lists, 10, k=1) == 0.1
    assert catalogue_coverage(lists, 10, k=2) == pytest.approx(0.3)


def beyond(lists: pd.DataFrame, **given_: object) -> pd.Series:
    popularity = pd.Series({"a": 6, "b": 2})
    inputs = {"popularity": popularity, "n_catalogue": 4, "k": 2} | given_
    return beyond_accuracy(lists, **inputs).set_index("user_id").loc["u"]  # type: ignore[arg-type]


def test_novelty_is_bits_of_surprise_smoothed_over_the_catalogue() -> None:
    got = beyond(lists_of({"u": ["a", "c"]}))
    assert got["novelty@2"] == pytest.approx((-math.log2(7 / 12) - math.log2(1 / 12)) / 2)


def test_popularity_percentile_is_one_for_the_bestseller_and_shared_by_unsold_items() -> None:
    assert beyond(lists_of({"u": ["a"]}))["popularity_percentile@2"] == 1.0
    assert beyond(lists_of({"u": ["b"]}))["popularity_percentile@2"] == pytest.approx(2 / 3)
    assert beyond(lists_of({"u": ["c", "d"]}))["popularity_percentile@2"] == pytest.approx(1 / 6)


def test_diversity_is_one_minus_mean_cosine_and_undefined_for_one_item() -> None:
    half = math.sqrt(0.5)
    vectors = ItemVectors(
        np.array(["a", "b", "c"], dtype=object),
        np.array([[1, 0], [0, 1], [half, half]], dtype=np.float32),
    )
    assert beyond(lists_of({"u": ["a", "b"]}), vectors=vectors)["diversity@2"] == pytest.approx(1)
    three = beyond(lists_of({"u": ["a", "b", "c"]}), vectors=vectors, k=3)["diversity@3"]
    assert three == pytest.approx(1 - 2 * half / 3, abs=1e-6)
    assert math.isnan(beyond(lists_of({"u": ["a"]}), vectors=vectors)["diversity@2"])


def test_diversity_without_vectors_is_the_share_of_pairs_from_different_categories() -> None:
    categories = pd.Series({"a": "milk", "b": "milk", "c": "bread"})
    got = beyond(lists_of({"u": ["a", "b", "c"]}), categories=categories, k=3)
    assert got["diversity@3"] == pytest.approx(2 / 3)


def test_bootstrap_interval_holds_the_mean_and_ignores_undefined_users() -> None:
    values = pd.DataFrame({"x": [0.0, 1.0] * 50, "y": [np.nan, 0.5] * 50, "none": [np.nan] * 100})
    summary = bootstrap(values, draws=400, seed=1)
    assert summary.loc["x", "value"] == 0.5
    assert 0.38 < summary.loc["x", "low"] < 0.45 and 0.55 < summary.loc["x", "high"] < 0.62
    assert summary.loc["y", ["value", "low", "high", "n_users"]].tolist() == [0.5, 0.5, 0.5, 50]
    assert np.isnan(summary.loc["none", "value"]) and summary.loc["none", "n_users"] == 0
    pd.testing.assert_frame_equal(summary, bootstrap(values, draws=400, seed=1))


def test_pairing_finds_a_small_steady_gain_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    base = pd.DataFrame({"ndcg": rng.random(300)})
    better = base + 0.01 + rng.normal(0, 0.01, size=(300, 1))
    apart, together = bootstrap(better), paired_bootstrap(better, base)
    assert apart.loc["ndcg", "low"] < base["ndcg"].mean()
    assert together.loc["ndcg", "low"] > 0
    assert together.loc["ndcg", "p_value"] == 2 / 1001, "no draw is on the other side of zero"
    assert paired_bootstrap(base, base).loc["ndcg", "p_value"] == 1.0


def test_a_paired_comparison_of_different_users_is_refused() -> None:
    one = pd.DataFrame({"x": [1.0]})
    for other in (one.set_axis(["u"]), one.rename(columns={"x": "y"})):
        with pytest.raises(ValueError, match="same users"):
            paired_bootstrap(other, one)


def test_a_users_draw_does_not_depend_on_who_else_is_drawn() -> None:
    many = dict(zip(USERS, seeded_uniform(USERS, 7), strict=True))
    assert seeded_uniform(["u3"], 7)[0] == many["u3"]
    assert seeded_uniform(["u3"], 8)[0] != many["u3"]
    spread = seeded_uniform([str(n) for n in range(4000)], 0)
    assert abs(spread.mean() - 0.5) < 0.02 and spread.min() >= 0 and spread.max() < 1


@pytest.mark.parametrize("bad", [[[2.0, 0.0]], [[np.nan, 0.0]]], ids=["long", "nan"])
def test_vectors_that_are_not_of_length_one_are_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="length 1"):
        ItemVectors(np.array(["a"], dtype=object), np.array(bad, dtype=np.float32))


def test_the_auc_within_users_counts_pairs_of_one_user_only_and_ties_half() -> None:
    user = np.array([0, 0, 0, 1, 1, 2])
    label = np.array([1, 0, 0, 1, 0, 1])
    value = np.array([5.0, 5.0, np.nan, 1.0, 0.0, 9.0])
    # user 0: one tie (half) and one pair right; user 1: one pair right; user 2 has no negative
    assert within_user_auc(user, value, label) == pytest.approx((0.5 + 1 + 1) / 3)
    assert within_user_auc(user, value - 9, label) == pytest.approx(2.5 / 3), "below any number"
    assert within_user_auc(user, -np.nan_to_num(value), label) == pytest.approx(2.5 / 3)
    assert within_user_auc(user[:0], value[:0], label[:0]) == 0.5


def test_a_seeded_sample_does_not_depend_on_order_or_company() -> None:
    ids = [f"u{n}" for n in range(50)]
    chosen = seeded_sample(ids, 10, 1, "a study")
    assert chosen == seeded_sample(ids[::-1] + ids, 10, 1, "a study") and len(chosen) == 10
    assert chosen != seeded_sample(ids, 10, 1, "another")
    fewer = seeded_sample([i for i in ids if i != chosen[0]], 10, 1, "a study")
    assert set(chosen[1:]) <= set(fewer)
    assert seeded_sample(ids[:3], 10, 1, "a study") == ["u0", "u1", "u2"]
