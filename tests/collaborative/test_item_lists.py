"""Item-to-item lists on baskets small enough to count by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from recsys_assets.collaborative import item_lists
from recsys_assets.collaborative.item_lists import (
    SimilarSettings,
    TogetherSettings,
    basket_hit_rate,
    bought_together,
    similar_items,
    substitute_hit_rate,
)
from recsys_assets.core.vectors import ItemVectors

NEXT_TO_NOTHING = 1e-9
RAW = TogetherSettings(
    item_prior=NEXT_TO_NOTHING,
    type_prior=NEXT_TO_NOTHING,
    damping=0.0,
    min_lift=0.0,
    min_support=1,
    min_pair_baskets=1,
)


def catalogue(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """(item, category_2, group)"""
    frame = pd.DataFrame(rows, columns=["item_id", "category_2", "group_id"])
    return frame.assign(category_1="ALL", category_3="", status="active")


ITEMS = catalogue(
    [
        ("bread", "BREAD", "g-bread"),
        ("butter", "BUTTER", "g-butter"),
        ("butter-twin", "BUTTER", "g-butter"),
        ("jam", "JAM", "g-jam"),
        ("milk", "MILK", "g-milk"),
        ("milk-twin", "MILK", "g-milk"),
        ("never", "BREAD", "g-never"),
    ]
)


def baskets(*contents: str) -> pd.DataFrame:
    rows = [(f"s{n}", item) for n, text in enumerate(contents) for item in text.split()]
    frame = pd.DataFrame(rows, columns=["session_id", "item_id"])
    return frame.assign(user_id=frame["session_id"], counts_as_taken=True)


LOG = baskets("bread butter milk", "bread butter", "bread jam", "milk milk-twin", "milk jam")


def of(lists: pd.DataFrame, item: str) -> list[tuple[str, int]]:
    rows = lists[lists["item_id"] == item]
    assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
    return list(zip(rows["other_item_id"], rows["support"], strict=True))


def test_items_of_the_same_baskets_are_listed_by_common_baskets() -> None:
    lists = bought_together(LOG, ITEMS, settings=RAW)
    assert of(lists, "bread") == [("butter", 2), ("jam", 1), ("milk", 1)]
    row = lists[(lists["item_id"] == "bread") & (lists["other_item_id"] == "butter")]
    assert row["score"].item() == pytest.approx(2 / 3)


def test_no_list_holds_a_twin_of_its_item_or_two_of_one_group() -> None:
    log = baskets("bread butter butter-twin", "bread milk milk-twin", "butter butter-twin")
    lists = bought_together(log, ITEMS, settings=RAW)
    group = ITEMS.set_index("item_id")["group_id"]
    pairs = pd.DataFrame(
        {"item": lists["item_id"], "one": lists["item_id"].map(group).to_numpy()}
    ).assign(other=lists["other_item_id"].map(group).to_numpy())
    assert (pairs["one"] != pairs["other"]).all()
    assert not pairs.duplicated(["item", "other"]).any()


def test_an_item_never_sold_gets_what_its_type_is_bought_with_and_no_support() -> None:
    lists = bought_together(LOG, ITEMS, settings=RAW)
    assert of(lists, "never")[0] == ("butter", 0)


def test_priors_pull_a_rare_item_towards_its_type() -> None:
    log = pd.concat([LOG, baskets("never").assign(session_id="other")])
    lists = bought_together(log, ITEMS, settings=replace(RAW, item_prior=3.0))
    row = lists[(lists["item_id"] == "bread") & (lists["other_item_id"] == "butter")]
    # 2 of 3 baskets with bread hold butter, and 2 of 4 with anything of type BREAD
    assert row["score"].item() == pytest.approx((2 + 3 * 2 / 4) / (3 + 3))


def test_a_member_of_the_type_counts_only_beside_another_member() -> None:
    items = catalogue([("a", "T", "ga"), ("b", "T", "gb"), ("c", "T", "gc")])
    alone = bought_together(baskets("a", "b", "a", "b"), items, settings=RAW)
    assert alone.empty
    beside = bought_together(baskets("a b", "a", "b"), items, settings=RAW)
    assert of(beside, "c") == [("a", 0), ("b", 0)]


def test_weak_evidence_is_floored_by_support_and_by_lift() -> None:
    floor = replace(RAW, min_support=2)
    assert of(bought_together(LOG, ITEMS, settings=floor), "bread") == [("butter", 2)]
    # milk is in 3 of 5 baskets but in only 1 of 3 with bread
    above_chance = replace(RAW, min_lift=1.0)
    listed = of(bought_together(LOG, ITEMS, settings=above_chance), "bread")
    assert listed == [("butter", 2)]


def test_returns_events_without_session_and_forbidden_items_are_left_out() -> None:
    log = LOG.assign(counts_as_taken=LOG["item_id"] != "butter")
    assert "butter" not in dict(of(bought_together(log, ITEMS, settings=RAW), "bread"))
    assert bought_together(LOG.assign(session_id=None), ITEMS, settings=RAW).empty
    active = ITEMS["item_id"].isin(["milk", "jam"])
    items = ITEMS.assign(status=np.where(active, "active", "inactive"))
    lists = bought_together(LOG, items, settings=RAW)
    assert set(lists["other_item_id"]) == {"milk", "jam"}


def random_shop(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, ItemVectors]:
    rng = np.random.default_rng(seed)
    items = catalogue([(f"i{n:02d}", f"T{n % 5}", f"g{n // 2}") for n in range(30)])
    rows = pd.DataFrame({"s": rng.integers(0, 60, 400), "i": rng.integers(0, 25, 400)})
    log = pd.DataFrame(
        {
            "session_id": "s" + rows["s"].astype(str),
            "user_id": "u" + (rows["s"] % 9).astype(str),
            "item_id": items["item_id"].to_numpy()[rows["i"]],
            "counts_as_taken": True,
        }
    )
    by_group = rng.normal(size=(15, 4)).astype(np.float32)
    matrix = by_group[np.arange(30) // 2]
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return log, items, ItemVectors(items["item_id"].to_numpy(dtype=object), matrix)


def test_lists_do_not_depend_on_blocks_or_on_the_order_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, items, vectors = random_shop(0)
    together, similar = bought_together(log, items), similar_items(log, items, vectors)
    assert len(together) and len(similar)
    monkeypatch.setattr(item_lists, "_ITEMS_PER_BLOCK", 4)
    monkeypatch.setattr(item_lists, "_CELLS_PER_BLOCK", 20)
    log, items = log.sample(frac=1, random_state=1), items.sample(frac=1, random_state=2)
    pd.testing.assert_frame_equal(together, bought_together(log, items))
    pd.testing.assert_frame_equal(similar, similar_items(log, items, vectors))


def vectors_of(items: pd.DataFrame, angles: dict[str, float]) -> ItemVectors:
    degrees = np.radians([angles[item] for item in items["item_id"]])
    matrix = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    return ItemVectors(items["item_id"].to_numpy(dtype=object), matrix)


SHELF = catalogue(
    [
        ("cola", "SODA", "cola"),
        ("cola-twin", "SODA", "cola"),
        ("diet", "SODA", "diet"),
        ("diet-twin", "SODA", "diet"),
        ("lime", "SODA", "lime"),
        ("lamp", "LIGHT", "lamp"),
    ]
)
ANGLES = {"cola": 0, "cola-twin": 0, "diet": 10, "diet-twin": 10, "lime": 80, "lamp": 5}
TEXT_ONLY = SimilarSettings(content_weight=1.0, popularity=0.0)


def test_substitutes_come_from_the_category_first_and_from_elsewhere_only_to_fill_up() -> None:
    lists = similar_items(baskets("cola"), SHELF, vectors_of(SHELF, ANGLES), settings=TEXT_ONLY)
    assert of(lists, "cola") == [("diet", 0), ("lime", 0), ("lamp", 0)]
    two = similar_items(baskets("cola"), SHELF, vectors_of(SHELF, ANGLES), settings=TEXT_ONLY, k=2)
    assert of(two, "cola") == [("diet", 0), ("lime", 0)]
    assert of(two, "lamp") == [("cola", 0), ("diet", 0)]


def test_a_group_is_shown_by_its_most_taken_member_and_its_members_share_a_list() -> None:
    log = baskets("diet-twin", "diet-twin", "diet")
    lists = similar_items(log, SHELF, vectors_of(SHELF, ANGLES), settings=TEXT_ONLY)
    assert of(lists, "cola")[0][0] == "diet-twin"
    assert of(lists, "cola") == of(lists, "cola-twin")
    assert set(lists["item_id"]) == set(SHELF["item_id"])


def test_users_who_took_both_make_items_alike() -> None:
    log = baskets("cola lime", "cola lime", "cola diet")
    users = similar_items(
        log,
        SHELF,
        vectors_of(SHELF, ANGLES),
        settings=SimilarSettings(content_weight=0.0, user_prior=NEXT_TO_NOTHING, popularity=0.0),
    )
    assert of(users, "cola")[:2] == [("lime", 2), ("diet", 1)]
    row = users[(users["item_id"] == "cola") & (users["other_item_id"] == "lime")]
    assert row["score"].item() == pytest.approx(2 / np.sqrt(3 * 2), abs=1e-5)


def test_of_what_is_alike_the_popular_comes_first() -> None:
    """Nobody took cola with anything; three took diet, one took lime."""
    log = baskets("cola", "diet", "diet", "diet", "lime")

    def scores(popularity: float) -> pd.Series:
        settings = replace(TEXT_ONLY, popularity=popularity)
        lists = similar_items(log, SHELF, vectors_of(SHELF, ANGLES), settings=settings)
        return lists[lists["item_id"] == "cola"].set_index("other_item_id")["score"]

    gained = scores(0.5) - scores(0.0)
    assert gained["diet"] == pytest.approx(0.5, abs=2e-5)
    assert gained["lime"] == pytest.approx(0.5 * np.log(2) / np.log(4), abs=2e-5)


def test_likeness_is_computed_on_one_thread_whose_last_digits_do_not_vary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[int] = set()
    real = item_lists._Groups.likeness

    def noted(*given: Any) -> Any:
        threads.update(pool["num_threads"] for pool in threadpool_info())
        return real(*given)

    monkeypatch.setattr(item_lists._Groups, "likeness", noted)
    with threadpool_limits(limits=2):
        similar_items(baskets("cola"), SHELF, vectors_of(SHELF, ANGLES))
    assert threads == {1}


def test_an_item_without_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="no vector"):
        similar_items(LOG, ITEMS, vectors_of(SHELF, ANGLES))


def test_basket_hits_look_for_the_rest_of_the_basket_and_count_uncovered_ones_as_misses() -> None:
    held_out = baskets("bread butter", "jam never", "milk")
    lists = bought_together(LOG, ITEMS, settings=RAW)
    result = basket_hit_rate(lists, held_out, pd.Series(dtype=int), k=10, seed=0).set_index(
        "session_id"
    )
    assert result.index.tolist() == ["s0", "s1"]
    assert result["hit"].tolist() == [True, False]
    popular = pd.Series({"bread": 9, "butter": 5})
    by_popularity = basket_hit_rate(None, held_out, popular, k=1, seed=0)
    assert by_popularity["hit"].tolist() == [True, False]


def test_a_substitute_is_a_hit_when_its_group_is_on_the_list_of_what_was_taken_last() -> None:
    lists = similar_items(
        baskets("cola"), SHELF, vectors_of(SHELF, ANGLES), settings=TEXT_ONLY, k=1
    )
    when = pd.Timestamp("2017-01-01", tz="UTC")
    before = baskets("cola").assign(user_id="u", event_time=when)
    after = baskets("diet-twin lime lamp cola-twin").assign(user_id="u", event_time=when)
    result = substitute_hit_rate(lists, before, after, SHELF, k=10)
    assert dict(zip(result["item_id"], result["hit"], strict=True)) == {
        "diet-twin": True,
        "lime": False,
    }
