from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking import features, training
from tests.ranking.shop import AS_OF, event, interactions, items, users

LOG = interactions(
    event("ann", "a1", 10),
    event("ann", "a2", 9, polarity=-1),
    event("ann", "a1", -1),
    event("ann", "a2", -2),
    event("ann", "b1", -3),
    event("ann", "b1", -1),
    event("ann", "b2", -4, taken=False, polarity=-1),
    event("ann", "b2", -28),
    event("bob", "a1", 1),
)


def window(
    pairs: list[tuple[str, str]], negative_share: float, seed: int = 0, log: pd.DataFrame = LOG
) -> pa.Table:
    catalogue = items("a1", "a2", "b1", "b2", "c1")
    candidates = pa.table(
        {
            "as_of": pa.array([AS_OF] * len(pairs), pa.timestamp("us", tz="UTC")),
            "user_id": [u for u, _ in pairs],
            "item_id": [i for _, i in pairs],
            "score_r": pa.array([1.0] * len(pairs), pa.float32()),
            "rank_r": pa.array([1] * len(pairs), pa.int32()),
        }
    )
    return training.training_frame(
        Warehouse(),
        candidates,
        labels(log),
        catalogue,
        features.build_feature_tables(
            Warehouse(), log, catalogue, users("ann", "bob"), AS_OF, horizon_days=28
        ),
        negative_share=negative_share,
        seed=seed,
    )


def labels(log: pd.DataFrame = LOG) -> pa.Table:
    return training.build_labels(Warehouse(), log, AS_OF, AS_OF + timedelta(days=28))


def test_labels_are_what_was_taken_in_the_horizon_and_whether_it_was_new():
    found = labels().to_pandas()
    assert found["item_id"].tolist() == ["a1", "a2", "b1"]  # b2: a return, and on the last moment
    assert found["is_new"].tolist() == [False, False, True]  # a2 was disliked, so it is known
    assert found["first_taken_at"].iloc[2] == AS_OF + timedelta(days=1)


def test_a_missed_positive_is_never_added():
    frame = window([("ann", "a1"), ("ann", "c1")], 1.0)
    assert frame["item_id"].to_pylist() == ["a1", "c1"]
    assert frame["label"].to_pylist() == [1.0, 0.0]


def test_a_user_without_a_positive_among_the_candidates_teaches_nothing():
    frame = window([("ann", "b1"), ("ann", "c1"), ("bob", "a1"), ("bob", "c1")], 1.0)
    assert set(frame["user_id"].to_pylist()) == {"ann"}


def hidden_window(*proposed: tuple[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidates a1, b1 and b2 of ann with a2, as they are without the history of a1 and b1; ann
    only looked at b1."""
    log = interactions(
        event("ann", "a1", 9), event("ann", "a2", 5), event("bob", "b1", 3), event("bob", "a2", 2),
        event("ann", "b1", 1, taken=False),
    )  # fmt: skip
    warehouse, catalogue = Warehouse(), items("a1", "a2", "b1", "b2", price=3.0)
    tables = features.build_feature_tables(
        warehouse, log, catalogue, users("ann", "bob"), AS_OF, horizon_days=28
    )
    ids = ["a1", "a2", "b1", "b2"]
    candidates = pa.table(
        {
            "as_of": pa.array([AS_OF] * 4, pa.timestamp("us", tz="UTC")),
            "user_id": ["ann"] * 4,
            "item_id": ids,
            "score_r": pa.array([0.4, 0.3, 0.2, 0.1], pa.float32()),
            "rank_r": pa.array([1, 2, 3, 4], pa.int32()),
            "score_text": pa.array([1.0] * 4, pa.float32()),
            "rank_text": pa.array([1, 2, 3, 4], pa.int32()),
        }
    )
    cold = pa.table(
        {
            "as_of": pa.array([AS_OF] * len(proposed), pa.timestamp("us", tz="UTC")),
            "user_id": pa.array([u for u, _ in proposed], pa.string()),
            "item_id": pa.array([i for _, i in proposed], pa.string()),
            "score_text": pa.array([0.7] * len(proposed), pa.float32()),
            "rank_text": pa.array([9] * len(proposed), pa.int32()),
        }
    )
    shown, without = training.hide(
        warehouse,
        candidates,
        catalogue,
        tables,
        user_item_days=features.user_item_days(warehouse, log, AS_OF),
        promotions=features.NO_PROMOTIONS,
        hidden=["a1", "b1"],
        proposed=cold,
    )
    joined = features.join_features(warehouse, shown, catalogue, without)
    return shown.to_pandas(), joined.to_pandas().set_index("item_id")


def test_a_hidden_item_has_no_history_and_only_who_needs_none_scores_it():
    shown, found = hidden_window(("ann", "b1"))
    assert shown["item_id"].tolist() == ["a2", "b1", "b2"]  # a1 is hidden and not proposed
    assert found.loc["b1", ["item_users_28", "item_last_days"]].isna().tolist() == [False, True]
    assert found.loc["b1", "item_users_28"] == 0
    assert np.isnan(found.loc["b1", "store_days_28"]), "bob took it in ann's store"
    assert found.loc["a2", "store_days_28"] == 2
    assert found.loc["b1", "item_price"] == 3.0  # of the catalogue, not what bob paid
    assert np.isnan(found.loc["b1", "score_r"])
    assert found.loc["b1", "score_text"] == pytest.approx(0.7)
    assert found.loc["a2", "item_users_28"] == 2


def test_what_the_user_had_taken_does_not_become_new_by_hiding_it():
    assert hidden_window(("ann", "a1"), ("ann", "b1"))[0]["item_id"].tolist() == ["a2", "b1", "b2"]


def test_positives_stay_when_no_negative_is_drawn():
    frame = window([("ann", "a1"), ("ann", "b1"), ("ann", "c1")], 0.0)
    assert frame["label"].to_pylist() == [1.0, 1.0]


def test_what_is_taken_again_within_days_is_its_own_label():
    log = interactions(
        event("ann", "a1", 30), event("ann", "a2", 30), event("ann", "b1", 30),
        event("ann", "a1", -6.9), event("ann", "a2", -7),
    )  # fmt: skip
    frame = window([("ann", "a1"), ("ann", "a2"), ("ann", "b1")], 1.0, log=log)
    assert frame["label"].to_pylist() == [1.0, 1.0, 0.0]
    assert frame["label_again"].to_pylist() == [1.0, 0.0, 0.0]
    undrawn = window([("ann", "a1"), ("ann", "a2"), ("ann", "b1")], 0.0, log=log)
    assert undrawn["label_again"].to_pylist() == [1.0, None]  # a2 stays for the horizon only


def test_a_share_is_so_many_of_a_million_draws():
    draw = np.array([0, 249_999, 250_000])
    assert training.drawn(draw, 0.0).tolist() == [False, False, False]
    assert training.drawn(draw, 0.25).tolist() == [True, True, False]


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not a share"):
        window([("ann", "a1")], 1.5)


def test_a_long_query_keeps_its_positives_and_the_lowest_draws():
    kept = training.kept_rows(
        np.array([0, 0, 0, 0, 1]),
        np.array([False, True, False, False, True]),
        np.array([3, 9, 1, 2, 5]),
        1.0,
        rows_per_query=3,
    )
    assert kept.tolist() == [1, 2, 3, 4]


rows = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 999_999)), max_size=40)


@given(rows, st.floats(0, 1))
def test_a_row_is_drawn_whatever_other_users_do(data: list[tuple[int, bool, int]], share: float):
    data.sort(key=lambda r: r[0])
    query = np.array([q for q, _, _ in data], dtype=np.int64)
    taken = np.array([t for _, t, _ in data], dtype=bool)
    draw = np.array([d for _, _, d in data], dtype=np.int64)
    together = training.kept_rows(query, taken, draw, share)
    alone = [
        np.flatnonzero(query == q)[
            training.kept_rows(
                np.zeros((query == q).sum(), dtype=np.int64),
                taken[query == q],
                draw[query == q],
                share,
            )
        ]
        for q in np.unique(query)
    ]
    assert together.tolist() == [i for part in alone for i in part.tolist()]
    assert set(np.flatnonzero(taken)) <= set(together.tolist())
