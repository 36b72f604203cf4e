"""The straight line through the retrievers finds who is right, whatever the scales of scores."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.ranking.blend import blended, fit_weights, standardized


def window(users: int = 200, rows: int = 20) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """`right` scores what is taken higher, on a scale of each user's own; `noise` knows nothing."""
    rng = np.random.default_rng(1)
    query = np.repeat(np.arange(users), rows)
    truth = rng.normal(size=len(query))
    label = (np.tile(np.arange(rows), users) == 0).astype(np.float32)
    right = (truth + 2 * label) * (1 + query) + 100 * query
    frame = pa.table(
        {
            "score_against": pa.array(-right.astype(np.float32)),
            "score_noise": pa.array(rng.normal(size=len(query)).astype(np.float32)),
            "score_right": pa.array(right.astype(np.float32)),
            "share_right": pa.array(right.astype(np.float32)),
        }
    )
    return query, label, frame


def test_scores_are_standardized_within_each_user() -> None:
    query = np.array([0, 0, 0, 1, 1, 2, 2])
    found = standardized(query, [1.0, 3.0, np.nan, 10.0, 30.0, 5.0, 5.0])
    assert found.tolist() == pytest.approx([-1, 1, 0, -1, 1, 0, 0])


def test_the_right_retriever_gets_the_weight_and_no_weight_is_negative() -> None:
    query, label, frame = window()
    weights = fit_weights(query, label, frame)
    assert set(weights) == {"score_against", "score_noise", "score_right"}
    assert weights["score_right"] > 1 > 10 * weights["score_noise"]
    assert weights["score_against"] == 0.0
    assert fit_weights(query, label, frame) == weights


def test_the_weights_are_the_likeliest_under_the_prior() -> None:
    """One user, two items, one taken: the score difference is 2, so w maximizes
    -log(1 + exp(-2w)) - w² / 2, whose derivative is 2 / (1 + exp(2w)) - w."""
    frame = pa.table({"score_x": pa.array([1.0, 5.0], pa.float32())})
    weight = fit_weights(np.array([0, 0]), [0.0, 1.0], frame)["score_x"]
    assert 2 / (1 + np.exp(2 * weight)) == pytest.approx(weight, abs=1e-4)


def test_the_blend_is_the_weighted_sum() -> None:
    frame = pa.table({"score_a": [1.0, 3.0], "score_b": [4.0, 2.0]})
    assert blended({"score_a": 2.0, "score_b": 0.5}, np.array([0, 0]), frame).tolist() == [
        -1.5,
        1.5,
    ]
