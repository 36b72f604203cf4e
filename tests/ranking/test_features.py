from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.warehouse import Warehouse, sql_text
from recsys_assets.ranking import features
from tests.ranking.shop import AS_OF, event, interactions, items, users

LOG = interactions(
    event("ann", "a1", 40),
    event("ann", "a1", 30),
    event("ann", "a1", 10, price=3.0, discount=1.0),
    event("ann", "b1", 10),
    event("ann", "b1", 5, taken=False, polarity=-1),
    event("bob", "a1", 3, store="s2"),
    event("bob", "a2", 2, store="s2"),
    event("bob", "b1", -1, store="s2"),
)
ITEMS = items("a1", "a2", "b1", "b2")
USERS = users("ann", "bob", "eve")


def tables(log: pd.DataFrame = LOG, catalogue: pd.DataFrame = ITEMS) -> dict[str, pa.Table]:
    return features.build_feature_tables(Warehouse(), log, catalogue, USERS, AS_OF, horizon_days=28)


def candidates(*pairs: tuple[str, str], **scores: list[float | None]) -> pa.Table:
    columns = {
        "as_of": pa.array([AS_OF] * len(pairs), pa.timestamp("us", tz="UTC")),
        "user_id": pa.array([u for u, _ in pairs]),
        "item_id": pa.array([i for _, i in pairs]),
    }
    for name, values in scores.items():
        columns[f"score_{name}"] = pa.array(values, pa.float32())
        columns[f"rank_{name}"] = pa.array([1 if v else None for v in values], pa.int32())
    return pa.table(columns)


def row(table: pa.Table, **key: str) -> dict[str, object]:
    frame = table.to_pandas()
    for name, value in key.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def test_users_at_once_or_one_after_the_other_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch):
    together = tables()
    monkeypatch.setattr(features, "USERS_TOGETHER", 1)
    for name, table in tables().items():
        assert table.equals(together[name]), name
    assert len(together["user_item_features"].column("user_id").unique()) > 1


def test_what_happens_after_the_cutoff_changes_no_byte_of_any_feature():
    known = LOG[LOG["event_time"] < AS_OF]
    assert len(known) < len(LOG)
    cut = tables(known)
    for name, table in tables().items():
        assert table.equals(cut[name]), name


def test_an_event_one_microsecond_before_the_cutoff_counts_and_one_at_it_does_not():
    microsecond = timedelta(microseconds=1) / timedelta(days=1)
    at = tables(interactions(event("ann", "a1", 0)))["item_features"]
    before = tables(interactions(event("ann", "a1", microsecond)))["item_features"]
    assert row(at, item_id="a1")["item_days_7"] == 0
    assert row(before, item_id="a1")["item_days_7"] == 1


def promotions(
    *rows: tuple[str, str, float, float | None, float], known: float | None = None
) -> pa.Table:
    """(item, kind, began so many days before the cutoff, ended, reach); all of them known from so
    many days before the cutoff on, or from their start."""

    def moments(days: list[float | None]) -> pa.Array:
        at = [None if d is None else AS_OF - timedelta(days=d) for d in days]
        return pa.array(at, pa.timestamp("us", "UTC"))

    return pa.table(
        {
            "item_id": [r[0] for r in rows],
            "kind": [r[1] for r in rows],
            "starts_at": moments([r[2] for r in rows]),
            "ends_at": moments([r[3] for r in rows]),
            "reach": [r[4] for r in rows],
            "known_from": moments([r[2] if known is None else known for r in rows]),
        },
        schema=features.NO_PROMOTIONS.schema,
    )


def with_promotions(shown: pa.Table) -> pa.Table:
    made = features.build_feature_tables(
        Warehouse(), LOG, ITEMS, USERS, AS_OF, promotions=shown, horizon_days=28
    )
    return made["item_features"]


def test_days_of_promotion_are_counted_up_to_the_cutoff_by_kind_and_reach():
    table = with_promotions(
        promotions(
            ("a1", "feature", 10, 4, 1.0),  # 3 of the last 7 days, 6 of the last 28
            ("a1", "feature", 2, None, 0.5),  # goes on: 2 days of half the shop
            ("a1", "display", 30, 23, 1.0),  # none of the last 7, 5 of the last 28, 7 of 84
            ("b1", "display", 3, -4, 0.2),  # ends 4 days after the cutoff, which nobody knows
        )
    )
    a1, b1, b2 = (row(table, item_id=i) for i in ("a1", "b1", "b2"))
    assert [a1[f"promo_feature_days_{n}"] for n in (7, 28, 84)] == [4, 7, 7]
    assert [a1[f"promo_display_days_{n}"] for n in (7, 28, 84)] == [0, 5, 7]
    assert (a1["promo_feature_last_days"], a1["promo_display_last_days"]) == (0, 23)
    assert b1["promo_display_days_7"] == pytest.approx(0.6)
    assert b1["promo_display_last_days"] == 0
    assert np.isnan([b1["promo_feature_days_84"], b2["promo_display_days_84"]]).all()


def test_what_is_planned_is_not_known_unless_the_shop_says_so():
    known = promotions(("a1", "feature", 1, None, 1.0))
    plans = promotions(("a1", "feature", 0, -7, 1.0), ("b1", "display", -1, -8, 1.0))
    late = promotions(("a1", "feature", 7, -7, 1.0), known=0)
    assert with_promotions(pa.concat_tables([known, late])).equals(with_promotions(known))
    assert with_promotions(pa.concat_tables([known, plans])).equals(with_promotions(known))
    assert features.known_promotions(pa.concat_tables([known, plans]), AS_OF).equals(known)


def test_plans_that_are_known_are_counted_from_the_cutoff_on():
    running = promotions(("b1", "display", 3, -4, 1.0))
    planned = promotions(
        ("a1", "feature", 3, -4, 0.5),  # goes on for 4 days of half the shop
        ("a1", "feature", -7, -14, 1.0),
        ("a2", "display", 0, None, 1.0),
        ("b1", "feature", -26, -33, 1.0),  # 2 of its days lie within the next 28
        ("b2", "feature", 9, 2, 1.0),  # is over
        known=10,
    )
    table = with_promotions(pa.concat_tables([running, planned]))
    ahead = {
        i: [row(table, item_id=i)[f"promo_{k}_days_next_28"] for k in ("feature", "display")]
        for i in ("a1", "a2", "b1", "b2")
    }
    none = pytest.approx(np.nan, nan_ok=True)
    assert ahead == {"a1": [9, none], "a2": [none, 28], "b1": [2, none], "b2": [none, none]}
    a1, a2 = row(table, item_id="a1"), row(table, item_id="a2")
    assert (a1["promo_feature_days_7"], a1["promo_feature_last_days"]) == (1.5, 0)
    assert np.isnan(a2["promo_display_days_7"])


def test_an_item_is_due_when_the_usual_gap_has_passed():
    pair = row(tables()["user_item_features"], user_id="ann", item_id="a1")
    assert pair["ui_days"] == 3
    assert pair["ui_gap_median"] == 15  # 10 and 20 days
    assert pair["ui_last_days"] == 10
    assert pair["ui_due_days"] == pytest.approx(10 / 15)
    assert pair["ui_last_trips"] == 0
    assert pair["ui_trip_rate"] == 1.0
    assert pair["ui_last_price"] == 3.0


def test_a_return_is_a_signal_and_no_taking():
    pair = row(tables()["user_item_features"], user_id="ann", item_id="b1")
    assert pair["ui_signal_28"] == -1
    assert pair["ui_last_days"] == 10
    assert row(tables()["user_features"], user_id="ann")["user_last_days"] == 10


def test_a_disliked_item_is_known_to_the_user_although_nothing_was_liked():
    log = interactions(event("ann", "a1", 3, polarity=-1), event("bob", "a1", 3))
    pair = row(tables(log)["user_item_features"], user_id="ann", item_id="a1")
    assert pair["ui_seen"] == 1
    assert np.isnan(pair["ui_days"])


def test_users_new_to_an_item_are_counted_apart():
    item = row(tables()["item_features"], item_id="a1")
    assert item["item_users_28"] == 2
    assert item["item_new_users_28"] == 1  # bob; ann's first was 40 days ago
    assert row(tables()["item_features"], item_id="b2")["item_users_28"] == 0


def test_a_variant_of_a_known_item_is_known_by_its_group():
    frame = features.join_features(
        Warehouse(), candidates(("ann", "a2"), ("ann", "b2"), ("eve", "a2")), ITEMS, tables()
    ).to_pandas()
    assert frame["ug_last_days"].tolist()[:2] == [10, 10]
    assert frame["ug_new_items_84"].tolist()[:2] == [1, 1]
    assert frame.loc[2, ["ug_last_days", "ut_days_84", "ui_days"]].isna().all()
    assert frame["ui_seen"].tolist() == [0, 0, 0]


def test_the_usual_store_tells_what_is_on_its_shelf():
    frame = features.join_features(
        Warehouse(), candidates(("ann", "a2"), ("bob", "a2")), ITEMS, tables()
    ).to_pandas()
    assert np.isnan(frame["store_days_28"][0])  # s1 never sold it
    assert frame["store_days_28"][1] == 1


def test_a_shop_without_prices_stores_and_categories_still_has_features():
    log = interactions(
        event("ann", "a1", 4, price=None, store=None), event("bob", "a2", 2, price=None, store="")
    )
    bare = ITEMS.assign(category_1="", category_2="", category_3="", brand="", group_id="")
    made = tables(log, bare)
    assert made["store_item_features"].num_rows == 0
    assert made["user_category_features"].num_rows == 0
    frame = features.join_features(
        Warehouse(), candidates(("ann", "a1"), ("ann", "a2")), bare, made
    ).to_pandas()
    assert frame["ui_last_days"].tolist()[0] == 4
    assert frame["item_price"].isna().all()
    values = frame[list(features.FEATURES)].to_numpy()
    assert not np.isinf(values).any()


def test_free_items_and_huge_prices_give_no_infinity():
    log = interactions(
        event("ann", "a1", 4, price=0.0), event("ann", "a1", 1, price=1e300), event("bob", "a2", 2)
    )
    frame = features.join_features(
        Warehouse(), candidates(("ann", "a1"), ("ann", "a2")), ITEMS, tables(log)
    )
    for name in features.FEATURES:
        assert not pc.any(pc.is_inf(frame[name])).as_py(), name


def test_a_shop_with_one_category_level_uses_it_as_the_type():
    flat = ITEMS.assign(category_2="", category_3="")
    levels = tables(LOG, flat)["user_category_features"].to_pandas()
    assert set(levels["level"]) == {"type", "brand", "brand_in_type", "group"}
    assert levels.loc[levels["level"] == "type", "value"].unique().tolist() == ["food"]


def test_the_joined_columns_are_the_declared_features_in_order():
    declared = [*features.KEYS, *features.FEATURES]
    query = sqlglot.parse_one(sql_text("ranking/ranking_features"), dialect="duckdb")
    assert [c.alias_or_name for c in query.selects] == declared
    asked = candidates(("ann", "a1"), ("ann", "b2"), ease=[0.5, None])
    frame = features.join_features(Warehouse(), asked, ITEMS, tables())
    names = features.feature_names(asked.column_names)
    assert frame.column_names == [*features.KEYS, *names]
    assert all(features.meaning(name) for name in names)
    assert {str(frame.schema.field(n).type) for n in names} == {"float"}


def test_places_are_counted_among_candidates_that_are_as_new_to_the_user():
    asked = candidates(
        ("ann", "a1"), ("ann", "a2"), ("ann", "b1"), ("ann", "b2"), ("bob", "a1"),
        r=[4.0, 3.0, 2.0, None, 1.0],
    )  # fmt: skip
    made = features.retriever_features(asked, np.array([True, False, True, False, False]))
    assert made["place_r"][:3].tolist() == [1, 1, 2]
    assert np.isnan(made["place_r"][3])
    assert made["share_r"][[0, 2, 4]].tolist() == [1.0, 0.5, 1.0]
    assert made["lists"].tolist() == [1, 1, 1, 0, 1]


def test_what_the_retrievers_say_together_by_hand() -> None:
    """s scores a1 and b1 too, but has only a2 in its list; r knows nothing of b1."""
    asked = candidates(
        ("ann", "a1"), ("ann", "a2"), ("ann", "b1"), r=[-4.0, 2.0, None], s=[0.5, 1.0, 0.25]
    )
    asked = asked.set_column(
        asked.column_names.index("rank_s"), "rank_s", pa.array([None, 1, None], pa.int32())
    )
    made = features.retriever_features(asked, np.zeros(3, dtype=bool))
    assert made["share_r"][:2].tolist() == [-1.0, 0.5], "over the largest absolute score"
    assert made["lists"].tolist() == [1, 2, 0]
    assert made["place_best"].tolist() == [2, 1, 3]
    assert made["places_fused"] == pytest.approx([2 / 22, 2 / 21, 1 / 23])


def test_equal_scores_share_a_place():
    asked = candidates(("ann", "a1"), ("ann", "a2"), ("ann", "b1"), r=[1.0, 1.0, 0.5])
    made = features.retriever_features(asked, np.zeros(3, dtype=bool))
    assert made["place_r"].tolist() == [1, 1, 3]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([-1.5, -1e-30, -0.0, 0.0, 1e-30, 2.0, np.nan]),
        ),
        max_size=20,
    )
)
def test_a_place_is_one_more_than_the_number_of_better_scores(pairs: list[tuple[int, float]]):
    user = [u for u, _ in sorted(pairs, key=lambda p: p[0])]
    score = [s for _, s in sorted(pairs, key=lambda p: p[0])]
    asked = candidates(*((f"u{u}", "a1") for u in user), r=score)
    made = features.retriever_features(asked, np.zeros(len(user), dtype=bool))["place_r"]
    for n, (u, s) in enumerate(zip(user, score, strict=True)):
        better = sum(v == u and t > s for v, t in zip(user, score, strict=True))
        assert np.isnan(made[n]) if np.isnan(s) else made[n] == better + 1


def test_candidates_out_of_order_are_refused():
    with pytest.raises(ValueError, match="not sorted"):
        features.join_features(
            Warehouse(), candidates(("bob", "a1"), ("ann", "a1")), ITEMS, tables()
        )


def test_features_of_a_later_cutoff_are_refused() -> None:
    """They hold what the candidates are asked about."""
    late, made = pa.scalar(AS_OF + timedelta(days=28), pa.timestamp("us", tz="UTC")), tables()
    for name, table in made.items():
        moved = table.set_column(0, "as_of", pa.repeat(late, table.num_rows))
        with pytest.raises(ValueError, match=f"{name} is as of another cutoff"):
            features.join_features(
                Warehouse(), candidates(("ann", "a1")), ITEMS, {**made, name: moved}
            )


def test_days_without_a_time_count_in_full() -> None:
    """An event at every midnight: the last seven of them are the last seven days."""
    log = LOG.iloc[:0]
    for day in range(1, 61):
        one = interactions(event("ann", "a1", day))
        one["event_time"] = AS_OF - timedelta(days=day)
        log = pd.concat([log, one]) if len(log) else one
    made = tables(log.reset_index(drop=True))
    ann = row(made["user_features"], user_id="ann")
    assert (ann["user_trips_7"], ann["user_trips_28"], ann["user_last_days"]) == (7, 28, 0)
    assert row(made["item_features"], item_id="a1")["item_days_7"] == 7


def test_items_without_a_category_are_no_type() -> None:
    bare = ITEMS.assign(category_1="", category_2="", category_3="")
    found = tables(catalogue=bare)["item_features"].to_pandas()
    assert found.filter(like="type").isna().all(axis=None)


def test_no_candidates_are_sorted() -> None:
    none = candidates(("ann", "a1")).slice(0, 0)
    assert features.join_features(Warehouse(), none, ITEMS, tables()).num_rows == 0
