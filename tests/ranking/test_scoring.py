"""What rankers that know the same candidate say together."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.ranking.ranker import RankerModel, RankerSettings, Task
from recsys_assets.ranking.recipe import Recipe
from recsys_assets.ranking.scoring import ensembled, factors

USER = np.array([0, 0, 0, 0, 2, 2])
SEEN = np.array([True, True, False, False, True, True])
NAN = np.nan


def model(task: Task, share: float, seed: int = 7) -> RankerModel:
    settings = {"ensemble": share, "seed": seed}
    return RankerModel(task, (), (), settings, {}, {})


def scores(**columns: Sequence[float]) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=np.float32) for name, values in columns.items()}


def test_a_share_of_the_other_ranker_goes_into_each_score() -> None:
    models = {
        "score_all": model("all", 0.25),
        "score_new": model("new", 0.5),
        "score_again": model("again", 0.0),
    }
    own = scores(
        score_all=[4, 2, 1, 3, 5, 5],
        score_new=[NAN, NAN, 8, 6, NAN, NAN],
        score_again=[1, 9, NAN, NAN, 2, 4],
    )
    found = ensembled(models, own, USER, SEEN)
    # new: standardized 1, -1 by its own ranker and -1, 1 by that of all: they cancel out
    assert found["score_new"][2:4].tolist() == [0.0, 0.0]
    assert found["score_again"][[0, 1, 4, 5]].tolist() == [1, 9, 2, 4]
    # all: mean 3 and spread 1 of what user 0 took; 1, -1 becomes .75 - .25, and its opposite
    assert found["score_all"][:2].tolist() == [3.5, 2.5]
    assert found["score_all"][2:4].tolist() == [1.5, 2.5]
    # user 2: all says nothing about the two, and has no spread that the other could be given
    assert found["score_all"][4:].tolist() == [5, 5]
    assert np.isnan(found["score_new"]).tolist() == SEEN.tolist()


def test_without_the_other_ranker_or_a_share_scores_stay_as_they_are() -> None:
    own = scores(score_all=[4, 2, 1, 3, 5, 6], score_new=[NAN, NAN, 8, 6, NAN, NAN])
    alone = {"score_all": model("all", 0.3)}
    assert ensembled(alone, {"score_all": own["score_all"]}, USER, SEEN)["score_all"].tolist() == (
        own["score_all"].tolist()
    )
    apart = {"score_all": model("all", 0.0), "score_new": model("new", 0.0)}
    found = ensembled(apart, own, USER, SEEN)
    assert all(np.array_equal(found[n], own[n], equal_nan=True) for n in own)


def test_of_several_seeds_the_first_goes_with_the_first_and_the_second_with_the_second() -> None:
    models = {
        "score_new_seed_9": model("new", 1.0, 9),
        "score_new": model("new", 1.0, 7),
        "score_all": model("all", 0.0, 7),
        "score_all_seed_8": model("all", 0.0, 8),
        "score_new_seed_11": model("new", 1.0, 11),
    }
    new = [NAN, NAN, 8, 6, NAN, NAN]
    own = scores(
        score_new_seed_9=new, score_new=new, score_new_seed_11=new,
        score_all=[0, 0, 5, 4, 0, 0], score_all_seed_8=[0, 0, 4, 5, 0, 0],
    )  # fmt: skip
    found = ensembled(models, own, USER, SEEN)
    assert found["score_new"][2:4].tolist() == [1, -1]
    assert found["score_new_seed_9"][2:4].tolist() == [-1, 1]
    assert found["score_new_seed_11"][2:4].tolist() == [8, 6]  # no third ranker of all


@given(st.lists(st.floats(-9, 9, width=32), min_size=6, max_size=6), st.floats(0, 1))
def test_a_user_has_the_same_scores_whoever_else_is_there(values: list[float], share: float):
    models = {"score_all": model("all", share), "score_again": model("again", share)}
    own = scores(score_all=values, score_again=np.where(SEEN, values[::-1], NAN).tolist())
    whole = ensembled(models, own, USER, SEEN)
    last = ensembled(models, {n: v[4:] for n, v in own.items()}, USER[4:], SEEN[4:])
    for name, values_of_last in last.items():
        assert values_of_last.tobytes() == whole[name][4:].tobytes()


@pytest.mark.parametrize("task", ["all", "new", "again"])
def test_factors_are_what_a_score_rises_by_with_the_rankers_own(task: Task) -> None:
    models = {f"score_{t}": model(t, 0.3) for t in ("all", "new", "again")}
    user, seen = np.zeros(6, dtype=int), np.array([True] * 3 + [False] * 3)
    own = scores(
        score_all=[4, 2, 1, 3, 5, 6], score_new=[NAN] * 3 + [8, 6, 1],
        score_again=[1, 9, 4] + [NAN] * 3,
    )  # fmt: skip
    found = ensembled(models, own, user, seen)[f"score_{task}"].astype(float)
    for rows in ([0, 1, 2], [3, 4, 5]):
        if np.isnan(found[rows]).any():
            continue
        parts = factors(models, own, task, seen, rows[0])
        assert parts[0][0].task == task and len(parts) == 2
        total = sum(f * own[f"score_{m.task}"][rows] for m, f in parts)
        assert found[rows] - total == pytest.approx([found[rows[0]] - total[0]] * 3, abs=1e-6)


def test_a_score_without_another_ranker_is_the_rankers_own() -> None:
    alone = model("all", 0.3)
    own = scores(score_all=[4, 2])
    assert factors({"score_all": alone}, own, "all", SEEN[:2], 0) == [(alone, 1.0)]


@pytest.mark.parametrize("name", ["ensemble", "blend"])
def test_a_share_is_between_0_and_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"ranker.new.{name} is 1.5, not a share of 0 to 1"):
        Recipe.read({"new": {name: 1.5}}, seed=7)
    settings = Recipe.read({"new": {name: 0.2}}, seed=7).settings["new"]
    assert settings == replace(RankerSettings.for_task("new"), seed=7, **{name: 0.2})
