"""Lists that are measured: ties, tasks and seeds."""

import pandas as pd
import pyarrow as pa

from recsys_assets.evaluation.held_out import Cutoff, baseline_lists, relevant_pairs, seeds_of, top
from recsys_assets.retrieval.contract import EventLog
from tests.retrieval.shop import events

AS_OF = pd.Timestamp("2024-01-01", tz="UTC")


def test_equal_scores_are_ordered_by_item_and_every_list_is_cut() -> None:
    rows = pd.DataFrame(
        {"user_id": list("vuuu"), "item_id": list("xcba"), "score": [1.0, 0.5, 0.5, 0.9]}
    )
    lists = top(rows, 2)
    assert lists["user_id"].tolist() == ["u", "u", "v"]
    assert lists["item_id"].tolist() == ["a", "b", "x"]
    assert lists["rank"].tolist() == [1, 2, 1]


def test_again_is_what_was_taken_before_and_is_taken_within_seven_days() -> None:
    days = pd.to_timedelta([6.9, 7.0, 1.0], unit="D")
    labels = pd.DataFrame(
        {
            "user_id": "u",
            "item_id": list("abc"),
            "is_new": [False, False, True],
            "first_taken_at": AS_OF + days,
        }
    )
    warm = pd.Index(["a", "b"])
    found = relevant_pairs(labels, AS_OF, warm, repeats=True)
    assert {task: rows["item_id"].tolist() for task, rows in found.items()} == {
        "all": ["a", "b", "c"],
        "new": ["c"],
        "again": ["a"],
        "cold": ["c"],
    }
    once = relevant_pairs(labels, AS_OF, warm, repeats=False)
    assert {task: rows["item_id"].tolist() for task, rows in once.items()} == {
        "all": ["c"],
        "new": ["c"],
        "again": [],
        "cold": ["c"],
    }


def test_what_fills_up_a_list_of_habits_is_nothing_taken_before() -> None:
    known = events([("u", "a", 3), ("v", "b", 2)], AS_OF, session_id=["1", "2"])
    catalogue = pd.DataFrame({"item_id": ["a", "b"]}).assign(
        category_1="", category_2="", category_3="", brand="", group_id="",
        available_from=pd.Series(pd.NaT, range(2), dtype="datetime64[us, UTC]"),
        available_to=pd.Series(pd.NaT, range(2), dtype="datetime64[us, UTC]"),
    )  # fmt: skip
    log = EventLog.from_frames(known, catalogue, AS_OF)
    cutoff = Cutoff(log, known, pd.Series(["u"]), [], lambda columns: pa.table({}), pa.table({}))
    lists = {(task, model): rows for task, model, rows in baseline_lists(cutoff, 2)}
    for model in ("personal_frequency", "personal_frequency_decayed"):
        assert lists["all", model]["item_id"].tolist() == ["a", "b"], "b is popular"
        assert lists["again", model]["item_id"].tolist() == ["a"]


def test_each_seed_is_read_as_if_it_were_the_served_one() -> None:
    scored = pa.table(
        {
            "user_id": ["u"],
            "score_all": [0.1],
            "score_all_seed_8": [0.2],
            "score_new": pa.array([None], pa.float64()),
            "score_new_seed_8": pa.array([None], pa.float64()),
        }
    )
    found = {seed: (ranked, t) for seed, ranked, t in seeds_of(scored, 7, ["all", "new"])}
    assert {seed: t["score_all"].to_pylist() for seed, (_, t) in found.items()} == {
        7: [0.1],
        8: [0.2],
    }
    assert all(t.column_names == ["user_id", "score_all", "score_new"] for _, t in found.values())


def test_a_seed_counts_only_for_the_tasks_that_were_ranked_with_it() -> None:
    """`new` is the mean of two rankers, so its second seed is the third of `all`."""
    scored = pa.table(
        {
            "score_all": [0.1],
            "score_all_seed_8": [0.2],
            "score_all_seed_9": [0.3],
            "score_new": [0.4],
            "score_new_seed_9": [0.5],
            "score_new_seed_11": [0.6],
        }
    )
    found = [(seed, ranked) for seed, ranked, _ in seeds_of(scored, 7, ["all", "new"])]
    assert found == [(7, ["all", "new"]), (8, ["all"]), (9, ["all", "new"]), (11, ["new"])]
