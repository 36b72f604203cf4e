"""Which model is published, decided on numbers made by hand."""

import numpy as np
import pandas as pd
import pytest

from recsys_assets.evaluation.policy import UNDECIDED, choose

N = 200


def per_user(**ndcg: np.ndarray) -> pd.DataFrame:
    names = [f"u{n:03}" for n in range(N)]
    frames = [
        pd.DataFrame({"user_id": names, "model": model.replace("_", " "), "ndcg": values})
        for model, values in ndcg.items()
    ]
    return pd.concat(frames, ignore_index=True)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.0, 0.2, N)


def test_a_ranker_that_beats_everything_is_published() -> None:
    found = choose(per_user(ranker=noise(0) + 0.3, popular=noise(1), frequency=noise(2) + 0.1))
    assert (found.model, found.simpler) == ("ranker", "frequency")
    assert found.low is not None and found.low > 0
    assert found.difference == pytest.approx(found.ranker_ndcg - found.simpler_ndcg)


def test_a_ranker_that_loses_beyond_noise_is_replaced_by_the_best_of_the_rest() -> None:
    found = choose(per_user(ranker=noise(0), popular=noise(1) + 0.1, frequency=noise(2) + 0.3))
    assert found.model == found.simpler == "frequency"
    assert found.high is not None and found.high < 0
    assert "beats the ranker beyond noise" in found.reason
    few = choose(per_user(ranker=noise(0), popular=noise(1) + 0.3), draws=10)
    assert few.p_value == 2 / 4001, "a decision takes 4,000 draws, however few a report asks for"


def test_a_tie_goes_to_the_ranker_because_the_best_of_many_looks_better_than_it_is() -> None:
    found = choose(per_user(ranker=noise(0) - 0.005, popular=noise(1)))
    assert found.low is not None and found.high is not None
    assert found.low < 0 < found.high
    assert found.model == "ranker" and "within noise" in found.reason


def test_the_best_of_twenty_equals_has_to_win_by_more_than_one_alone_would() -> None:
    """Five of 200 users gain something: (195/200)^200 = .6% of the draws hold none of them, less
    than the 2.5% beyond the end of one interval and more than the .125% of one of twenty."""
    own = noise(0)
    lucky = own + np.where(np.arange(N) < 5, 0.02, 0.0)
    alone = choose(per_user(ranker=own, lucky=lucky))
    assert alone.model == "lucky"
    rest = {f"equal_{n:02}": own for n in range(19)}
    found = choose(per_user(ranker=own, lucky=lucky, **rest))
    assert (found.model, found.simpler) == ("ranker", "lucky")
    assert found.high is not None and alone.high is not None and found.high >= 0 > alone.high


def test_a_few_people_who_agree_do_not_replace_the_ranker() -> None:
    rows = per_user(ranker=noise(0), popular=noise(0) + 0.1)
    few = rows[rows["user_id"] < "u003"]
    assert choose(few).model == "ranker" and "3 users are too few" in choose(few).reason
    assert choose(rows[rows["user_id"] < "u020"]).model == "popular"


def test_a_user_without_a_list_counts_as_zero() -> None:
    rows = per_user(ranker=noise(0) + 0.1, popular=noise(0) + 0.1)
    half = rows[(rows["model"] != "ranker") | (rows["user_id"] < "u100")]
    assert choose(half).model == "popular"


def test_without_a_comparison_the_ranker_stays_and_the_reason_says_so() -> None:
    assert choose(per_user(ranker=noise(0))) == UNDECIDED
    assert choose(per_user(popular=noise(0))) == UNDECIDED
    assert "too short" in UNDECIDED.reason
