from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking import features, ranker
from tests.ranking.shop import AS_OF, event, interactions, items, users

SMALL = ranker.RankerSettings(
    rounds=8, learning_rate=0.5, num_leaves=4, min_data_in_leaf=2, feature_fraction=1.0, threads=1
)


def frame(users: int = 30, rows: int = 10) -> pa.Table:
    """Each user takes the candidate that scores best; every third candidate was taken before."""
    rng = np.random.default_rng(0)
    score = rng.random((users, rows), dtype=np.float32)
    moment = datetime(2020, 3, 2, tzinfo=UTC)
    return pa.table(
        {
            "as_of": pa.array([moment] * users * rows, pa.timestamp("us", tz="UTC")),
            "user_id": [f"u{u:02d}" for u in range(users) for _ in range(rows)],
            "item_id": [f"i{i:02d}" for _ in range(users) for i in range(rows)],
            "label": (score == score.max(axis=1, keepdims=True)).ravel().astype("float32"),
            "ui_seen": np.tile((np.arange(rows) % 3 == 0).astype("float32"), users),
            "noise": rng.random(users * rows, dtype=np.float32),
            "score_r": score.ravel(),
        }
    )


@pytest.mark.parametrize("objective", ["binary", "lambdarank", "rank_xendcg"])
def test_the_ranker_finds_the_feature_that_decides(objective: ranker.Objective):
    data = frame()
    model = ranker.train(data, replace(SMALL, objectives=(objective,)), valid=data)
    assert next(iter(model.importance)) == "score_r"
    assert model.metrics["valid_ndcg_10"] > 0.9
    assert [p["round"] for p in model.learning_curve] == sorted(
        p["round"] for p in model.learning_curve
    )


def test_the_same_rows_grow_the_same_trees_to_the_byte_with_one_thread_or_two():
    data = frame()
    one = ranker.train(data, SMALL).to_json()
    assert one == ranker.train(data, SMALL).to_json()
    two = ranker.train(data, replace(SMALL, threads=2))
    trees = [t.split("parameters:")[0] for t in two.texts]
    assert trees == [t.split("parameters:")[0] for t in ranker.RankerModel.from_json(one).texts]


def test_rankers_of_several_seeds_share_their_rows_and_are_the_same_to_the_byte():
    data = frame()
    lesson = ranker.prepare(data, SMALL)
    for seed in (1, 2, 3):
        settings = replace(SMALL, seed=seed, bagging_fraction=0.5)
        shared = ranker.train(lesson, settings).to_json()
        assert shared == ranker.train(data, settings).to_json()


def test_rankers_grown_side_by_side_are_those_grown_alone():
    data = frame()
    variants: dict[ranker.Task, list[ranker.RankerSettings]] = {
        task: [replace(SMALL, task=task, seed=seed, bagging_fraction=0.5) for seed in (1, 2, 3)]
        for task in ("all", "new")
    }
    for task, models, missing in ranker.train_tasks(data, variants):
        assert not missing
        alone = [ranker.train(data, settings) for settings in variants[task]]
        # The rows are binned once, with the first seed.
        assert [m.texts for m in models[:1]] == [m.texts for m in alone[:1]]
        assert [m.settings for m in models] == [m.settings for m in alone]
        lesson = ranker.prepare(data, variants[task][0])
        assert models == [ranker.train(lesson, settings) for settings in variants[task]]


def test_a_task_without_rows_has_no_ranker_and_keeps_none_from_the_others():
    data = frame()
    only_new = data.set_column(
        data.column_names.index("ui_seen"), "ui_seen", pa.array([0.0] * data.num_rows, pa.float32())
    ).append_column("label_again", pa.array([0.0] * data.num_rows, pa.float32()))
    variants: dict[ranker.Task, list[ranker.RankerSettings]] = {
        task: [replace(SMALL, task=task)] for task in ("all", "again")
    }
    found = {task: (len(m), why) for task, m, why in ranker.train_tasks(only_new, variants)}
    assert found == {"all": (1, ""), "again": (0, "task again: no rows")}


def test_scores_do_not_depend_on_how_many_users_are_scored_together():
    people = [f"u{n:02d}" for n in range(20)]
    log = interactions(
        *(event(u, i, 3 * n + 1) for n, u in enumerate(people) for i in ("a1", "b1"))
    )
    catalogue = items("a1", "a2", "b1", "b2")
    tables = features.build_feature_tables(
        Warehouse(), log, catalogue, users(*people), AS_OF, horizon_days=28
    )
    pairs = [(u, i) for u in people for i in ("a1", "a2", "b1", "b2")]
    candidates = pa.table(
        {
            "as_of": pa.array([AS_OF] * len(pairs), pa.timestamp("us", tz="UTC")),
            "user_id": [u for u, _ in pairs],
            "item_id": [i for _, i in pairs],
            "score_r": np.arange(len(pairs), dtype=np.float32) % 7,
            "rank_r": pa.array([1] * len(pairs), pa.int32()),
        }
    )
    rows = features.join_features(Warehouse(), candidates, catalogue, tables)
    taken = np.array([i == "a2" or u < "u05" for u, i in pairs], dtype=np.float32)
    learn = rows.append_column("label", pa.array(taken))
    models = {
        "score_all": ranker.train(learn, SMALL),
        "score_new": ranker.train(learn, replace(SMALL, task="new")),
    }
    together, apart = (
        ranker.score_candidates(Warehouse(), models, candidates, catalogue, tables, chunk_rows=n)
        for n in (1_000, 1)
    )
    assert together.equals(apart)
    assert together["score_all"].to_pylist() == ranker.score(models["score_all"], rows).tolist()
    assert together["score_new"].null_count == int(sum(rows["ui_seen"].to_numpy()))


def test_rows_prepared_for_one_task_are_refused_for_another():
    lesson = ranker.prepare(frame(), SMALL)
    with pytest.raises(ValueError, match="prepared for task all"):
        ranker.train(lesson, replace(SMALL, task="new"))


def test_a_stored_model_scores_as_the_trained_one():
    data = frame()
    model = ranker.train(data, replace(SMALL, objectives=("binary", "lambdarank"), seeds=2))
    assert len(model.texts) == 4
    stored = ranker.RankerModel.from_json(model.to_json())
    assert stored == model
    assert ranker.score(stored, data).tolist() == ranker.score(model, data).tolist()


def test_a_blend_alone_orders_by_the_retriever_and_is_stored_with_the_trees():
    data = frame()
    model = ranker.train(data, replace(SMALL, blend=1.0))
    assert ranker.RankerModel.from_json(model.to_json()) == model
    by_blend = ranker.score(model, data).reshape(30, 10).argsort(axis=1)
    assert (by_blend == data["score_r"].to_numpy().reshape(30, 10).argsort(axis=1)).all()


def test_features_go_by_name_and_a_missing_one_is_refused():
    data = frame()
    model = ranker.train(data, SMALL)
    shuffled = data.select(sorted(data.column_names, reverse=True))
    assert ranker.score(model, shuffled).tolist() == ranker.score(model, data).tolist()
    with pytest.raises(ValueError, match="score_r"):
        ranker.score(model, data.drop_columns(["score_r"]))


def test_trees_grown_on_other_features_than_declared_are_refused():
    model = ranker.train(frame(), SMALL)
    with pytest.raises(ValueError, match="other features"):
        ranker.score(replace(model, features=model.features[::-1]), frame())


def test_the_ranker_of_new_items_learns_from_unseen_rows_only():
    data = frame()
    model = ranker.train(data, replace(SMALL, task="new"))
    unseen = data["ui_seen"].to_numpy() == 0
    takers = data.filter(pa.array(unseen & (data["label"].to_numpy() > 0)))["user_id"]
    users_with = len(set(takers.to_pylist()))
    assert model.metrics["queries"] == users_with
    assert model.metrics["rows"] == users_with * unseen[:10].sum()


def test_the_ranker_of_repeats_learns_its_own_label_from_known_rows_only():
    data = frame()
    score = data["score_r"].to_numpy()
    known = data["ui_seen"].to_numpy() > 0
    again = pa.array((score < 0.3).astype("float32"), mask=score > 0.9)
    data = data.append_column("label_again", again)
    model = ranker.train(data, replace(SMALL, task="again"))
    assert model.metrics["positives"] == (known & (score < 0.3)).sum()
    assert "label_again" not in model.features
    found = ranker.score(model, data)
    assert found[known & (score < 0.3)].min() > found[known & (score > 0.3) & (score < 0.9)].max()


def test_without_a_positive_there_is_nothing_to_learn():
    data = frame()
    none = data.set_column(3, "label", pa.array(np.zeros(data.num_rows, dtype=np.float32)))
    with pytest.raises(ranker.NothingToLearnError):
        ranker.train(none, SMALL)


def test_too_few_rows_for_a_single_split_are_nothing_to_learn_from():
    with pytest.raises(ranker.NothingToLearnError, match="too few for a tree with 200 in every"):
        ranker.train(frame(), replace(SMALL, min_data_in_leaf=200))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"objectives": ("binary", "lambdarank"), "seeds": 2},
        {"blend": 1.0},
        {"blend": 0.4, "objectives": ("binary", "lambdarank")},
    ],
)
def test_contributions_add_up_to_the_score(more: dict[str, Any]):
    data = frame()
    model = ranker.train(data, replace(SMALL, **more))
    mine = data.filter(pc.equal(data["user_id"], data["user_id"][0]))
    scores = ranker.score(model, mine)
    total = []
    for place in range(mine.num_rows):
        parts = ranker.contributions([(model, 2.0)], mine, place, top=99).to_pandas()
        assert sorted(parts["feature"]) == sorted(model.features)
        assert parts["contribution"].abs().is_monotonic_decreasing
        total.append(float(parts["contribution"].sum()))
    assert np.ptp(scores) > 0.1
    assert np.allclose(np.subtract(total, total[0]), 2 * (scores - scores[0]), atol=1e-4)


def test_more_than_ten_thousand_rows_of_one_user_are_refused():
    data = frame(users=1, rows=10_001)
    with pytest.raises(ValueError, match="10001 rows"):
        ranker.train(data, SMALL)
