"""What the benchmarks say of a model: figures by hand."""

from math import log2

import dagster as dg
import pandas as pd
import pytest
from dagster._core.test_utils import create_run_for_test

from benchmarks.peers import over_seeds, scores
from benchmarks.steps import newest_run
from benchmarks.untuned import verdicts


def pairs(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


def test_a_peer_is_scored_by_task_over_everybody_who_took_something() -> None:
    lists = pd.DataFrame(
        [("all", "u", "a", 1), ("all", "u", "b", 2), ("all", "w", "a", 11), ("new", "u", "c", 1)],
        columns=["task", "user_id", "item_id", "rank"],
    )
    relevant = {"all": pairs(("u", "b"), ("v", "a"), ("w", "a")), "new": pairs(("u", "c"))}
    found = scores(lists, relevant)
    # u: the only relevant item on place two; v has no list; w's hit is beyond the tenth place.
    assert found["ndcg all"] == pytest.approx(1 / log2(3) / 3)
    assert found["recall all"] == pytest.approx(1 / 3)
    assert (found["ndcg new"], found["recall new"]) == (1.0, 1.0)


def test_a_task_is_a_mean_over_its_own_seeds_whatever_those_of_another_are() -> None:
    def lists(*rows: tuple[str, int, str, str, int]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=["model", "seed", "user_id", "item_id", "rank"])

    every = {
        "all": lists(("ours", 7, "u", "a", 1), ("ours", 8, "u", "b", 1), ("other", 9, "u", "a", 1)),
        "new": lists(("ours", 7, "u", "c", 1), ("ours", 9, "u", "c", 1)),
    }
    found = over_seeds(every, "ours", {"all": pairs(("u", "a")), "new": pairs(("u", "c"))})
    assert (found["ndcg all"], found["ndcg new"]) == (0.5, 1.0)


def board(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    """model, baseline, value, low, high of task all."""
    frame = pd.DataFrame(rows, columns=["model", "baseline", "value", "low", "high"])
    return frame.assign(target="evaluate", slice="all", metric="ndcg@10", task="all", n_users=9)


def test_a_shop_loses_only_where_the_whole_interval_lies_below_zero() -> None:
    policies = pd.DataFrame({"task": ["all"], "model": ["ranker"]})
    for high, verdict in ((-0.01, "loses"), (0.0, ""), (0.01, "")):
        (row,) = verdicts(
            board(
                ("ours", "", 0.1, 0, 0),
                ("frequency", "", 0.2, 0, 0),
                ("ours", "frequency", -0.1, -0.2, high),
            ),
            policies,
            "shop",
        ).to_dict("records")
        assert (row["ours"], row["its"], row["against"]) == (0.1, 0.2, "frequency")
        assert (row["verdict"], row["published"], row["users"]) == (verdict, "ranker", 9)


def test_time_is_taken_from_the_newest_run_of_the_main_job_that_succeeded() -> None:
    good, bad = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
    with dg.DagsterInstance.ephemeral() as instance:
        assert newest_run(instance) == ""
        made = [
            create_run_for_test(instance, job_name=job, status=status).run_id
            for job, status in (("recommend", good), ("recommend", bad), ("land", good))
        ]
        assert newest_run(instance) == made[0]
