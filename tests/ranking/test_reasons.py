"""A reason must be true of the interactions, and silent about what is sensitive."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys_assets.ranking.reasons import (
    MAX_LENGTH,
    Thresholds,
    Wording,
    gather_evidence,
    write_reasons,
)

AS_OF = datetime(2017, 12, 4, tzinfo=UTC)
ITEMS = pd.DataFrame(
    [
        ("milk", "Whole Milk 1 Gal", "DAIRY", "MILK", "g-milk"),
        ("milk-twin", "Whole Milk 1 Gal", "DAIRY", "MILK", "g-milk"),
        ("skimmed", "Skimmed Milk", "DAIRY", "MILK", "g-skimmed"),
        ("cereal", "Corn Flakes", "GROCERY", "CEREAL", "g-cereal"),
        ("gin", "Gin", "SPIRITS", "GIN", "g-gin"),
        ("tonic", "Tonic Water", "GROCERY", "SOFT DRINKS", "g-tonic"),
        ("lamp", "Lamp", "HOME", "LIGHT", "g-lamp"),
        ("torch", "Torch", "OUTDOOR", "LIGHT", "g-torch"),
        ("loose", "Loose", "", "", ""),
    ],
    columns=["item_id", "title", "category_1", "category_2", "group_id"],
).assign(category_3="")
CODES = {
    "repeat", "variant", "together", "category", "popular", "category_before", "new_category",
    "plain",
}  # fmt: skip
FEW = Thresholds(
    min_support=2, min_lift=1.0, min_deviations=0, min_neighbour=2, min_category=3, min_week_users=3
)


def bought(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    """(user, item, days before the cutoff); one basket per user and day."""
    return pd.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "session_id": [f"{user}@{days}" for user, _, days in rows],
            "event_time": [AS_OF - timedelta(days=days) for _, _, days in rows],
            "counts_as_taken": True,
        }
    )


def reason(
    user: str, item: str, interactions: pd.DataFrame, wording: Wording | None = None, **more: object
) -> tuple[str, str, dict[str, object]]:
    pairs = pd.DataFrame({"user_id": [user], "item_id": [item]})
    evidence = gather_evidence(
        pairs,
        interactions,
        ITEMS,
        as_of=AS_OF,
        thresholds=FEW,
        **more,  # type: ignore[arg-type]
    )
    row = write_reasons(evidence, wording, FEW).iloc[0]
    return row["reason"], row["reason_code"], json.loads(row["reason_evidence"])


def test_a_repeated_purchase_states_count_rhythm_and_last_time() -> None:
    log = bought([("u", "milk", d) for d in (29.5, 20.5, 11.5)] + [("v", "milk", 1)])
    text, code, stated = reason("u", "milk", log)
    assert text == "You bought this 3 times, about every 9 days; last time 11 days ago"
    assert code == "repeat"
    assert stated == {"n_taken": 3, "median_gap_days": 9.0, "days": 11.5}


@pytest.mark.parametrize(
    ("days", "text"),
    [
        ([40], "You bought this once, 40 days ago"),
        ([30, 1.2], "You bought this twice; last time 1 day ago"),
        ([2, 1, 0.5], "You bought this 3 times, about every day; last time less than a day ago"),
    ],
)
def test_rhythm_is_claimed_only_from_three_purchases_on(days: list[float], text: str) -> None:
    assert reason("u", "milk", bought([("u", "milk", d) for d in days]))[0] == text


def test_two_lines_of_one_basket_are_one_purchase_and_returns_are_none() -> None:
    log = bought([("u", "milk", 5), ("u", "milk", 5), ("u", "milk", 2)])
    log["counts_as_taken"] = [True, True, False]
    assert reason("u", "milk", log)[0] == "You bought this once, 5 days ago"


def test_a_twin_in_another_package_is_called_a_variant() -> None:
    log = bought([("u", "milk-twin", 8), ("u", "milk-twin", 4)])
    text, code, _ = reason("u", "milk", log)
    assert text == "You bought a variant of this twice; last time 4 days ago"
    assert code == "variant"


TOGETHER = pd.DataFrame(
    {
        "item_id": ["cereal", "cereal", "tonic"],
        "other_item_id": ["milk", "skimmed", "gin"],
        "support": [3, 1, 3],
    }
)
SHARED = bought(
    [(user, item, 30) for user in "abc" for item in ("cereal", "milk", "gin", "tonic")]
    + [("u", "milk", 9), ("u", "milk", 3), ("u", "skimmed", 9), ("u", "skimmed", 3)]
    + [("u", "gin", 9), ("u", "gin", 3)]
)


def test_a_neighbour_is_named_only_with_support_and_if_the_user_takes_it() -> None:
    text, code, stated = reason("u", "cereal", SHARED, together=TOGETHER)
    assert text == "Often bought together with Whole Milk 1 Gal, which you bought twice"
    assert code == "together"
    assert stated == {"neighbour_item_id": "milk", "neighbour_n_taken": 2, "support": 3}
    assert reason("stranger", "cereal", SHARED, together=TOGETHER)[1] != "together"


def test_a_list_of_what_is_bought_together_is_read_both_ways_round() -> None:
    lamps = [(f"other{n}", "lamp", 5.0) for n in range(5)]
    log = pd.concat([SHARED, bought([("w", "cereal", 9), ("w", "cereal", 3), *lamps])])
    assert reason("w", "milk", log, together=TOGETHER)[1] == "together"


@pytest.mark.parametrize(
    ("both", "one", "other", "said"),
    [
        (20, 80, 80, True),  # 10.3 of 1000 baskets by chance, 3.02 of its deviations above
        (19, 80, 80, False),  # 10.1, 2.8 above
        (5, 95, 100, True),  # one in twenty of the rarer item's baskets has both
        (5, 96, 100, False),
    ],
)
def test_often_together_is_neither_luck_nor_seldom(
    both: int, one: int, other: int, said: bool
) -> None:
    """`both` baskets with both items, `one` and `other` with each of them alone."""
    rows = [(f"b{n}", item, 5.0) for n in range(both) for item in ("cereal", "lamp")]
    rows += [(f"o{n}", "cereal", 5.0) for n in range(one)]
    rows += [(f"l{n}", "lamp", 5.0) for n in range(other)]
    rows += [("u", "lamp", d) for d in (9.0, 6.0, 3.0)]
    baskets = 1000 if both > 5 else 10_000
    rows += [(f"x{n}", "loose", 5.0) for n in range(baskets - 3 - both - one - other)]
    pairs = pd.DataFrame({"user_id": ["u"], "item_id": ["cereal"]})
    table = pd.DataFrame({"item_id": ["cereal"], "other_item_id": ["lamp"], "support": [both]})
    found = gather_evidence(pairs, bought(rows), ITEMS, as_of=AS_OF, together=table)
    assert (write_reasons(found)["reason_code"][0] == "together") is said


def test_a_sensitive_category_is_neither_named_nor_a_basis() -> None:
    hidden = frozenset({"spirits"})
    assert reason("u", "gin", SHARED, sensitive=hidden) == ("A suggestion for you", "plain", {})
    assert reason("u", "tonic", SHARED, together=TOGETHER)[2]["neighbour_item_id"] == "gin"
    text, code, _ = reason("u", "tonic", SHARED, together=TOGETHER, sensitive=hidden)
    assert code != "together" and "Gin" not in text


def test_a_sensitive_item_is_no_basis_for_its_category_or_its_variants() -> None:
    log = bought([("u", "milk-twin", d) for d in (9, 6, 3, 1)])
    shelf = ITEMS.assign(category_3=["", "TEST", *[""] * 7])
    pairs = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["milk", "skimmed"]})

    def codes(sensitive: frozenset[str]) -> list[str]:
        found = gather_evidence(pairs, log, shelf, as_of=AS_OF, sensitive=sensitive, thresholds=FEW)
        return write_reasons(found, None, FEW)["reason_code"].tolist()

    assert codes(frozenset()) == ["variant", "category"]
    assert codes(frozenset({"test"})) == ["plain", "plain"], "nor is the category called new"


def test_a_category_is_often_bought_only_from_the_threshold_on() -> None:
    twice = bought([("u", "skimmed", d) for d in (9, 3)])
    assert reason("u", "milk", twice)[0] == "From a category you bought before: MILK"
    text, code, stated = reason("u", "milk", pd.concat([twice, bought([("u", "skimmed", 1)])]))
    assert (text, code) == ("New to you, in a category you buy often: MILK", "category")
    assert stated == {"category": "MILK", "category_n_taken": 3, "category_share": 1.0}


def test_a_category_is_often_bought_only_if_it_is_on_many_of_the_visits_and_lately() -> None:
    def text(first: float, others: int) -> str:
        milk = [("u", "skimmed", first + d) for d in (6, 3, 0)]
        return reason("u", "milk", bought(milk + [("u", "lamp", 200 + d) for d in range(others)]))[
            0
        ]

    assert text(1, 27) == text(84, 0) == "New to you, in a category you buy often: MILK"
    assert text(1, 28) == text(84.5, 0) == "From a category you bought before: MILK"


def test_what_a_variant_of_was_bought_once_is_not_called_new() -> None:
    log = bought([("u", "milk-twin", 9), ("u", "skimmed", 6), ("u", "skimmed", 3)])
    assert reason("u", "milk", log)[0] == "From a category you buy often: MILK"


def test_popularity_counts_users_of_the_last_seven_days() -> None:
    log = bought([(user, "lamp", d) for user in "abc" for d in (1, 2)] + [("d", "lamp", 7.5)])
    text, code, stated = reason("stranger", "lamp", log)
    assert text == "Popular this week: 3 households bought it in the last 7 days"
    assert (code, stated) == ("popular", {"week_users": 3, "week_rank": 1})


def test_something_outside_the_users_habits_is_called_that() -> None:
    log = bought([("u", "milk", 3)])
    assert reason("u", "lamp", log)[0] == "Something different: a category new to you, LIGHT"
    assert reason("u", "loose", log)[1] == "plain"
    assert reason("stranger", "lamp", log)[1] == "plain"


def test_a_category_that_shares_its_name_with_a_known_one_is_not_called_new() -> None:
    """Two departments have a shelf of that name; who reads the sentence knows one of them."""
    log = bought([("u", "torch", 3)])
    assert reason("u", "lamp", log)[1] == "plain"
    assert reason("u", "milk", log)[1] == "new_category"


def test_what_the_user_rejected_or_looked_at_is_not_called_new() -> None:
    log = bought([("u", "skimmed", d) for d in (9, 6, 3)])
    met = pd.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["milk", "milk-twin", "lamp"]})
    assert reason("u", "milk", log, met=met)[0] == "From a category you buy often: MILK"
    assert reason("u", "lamp", log, met=met)[1] == "new_category", "somebody else's"
    met = met.assign(user_id="u")
    assert reason("u", "lamp", log, met=met) == ("A suggestion for you", "plain", {})


def test_the_shops_own_verb_is_used() -> None:
    log = bought([("u", "milk", d) for d in (9, 3)])
    watched = Wording(past="watched", present="watch", people="people")
    assert reason("u", "milk", log, watched)[0].startswith("You watched this twice")


def test_events_at_the_cutoff_are_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        reason("u", "milk", bought([("u", "milk", 0)]))


def test_events_without_a_session_are_purchases_of_their_own() -> None:
    log = bought([("u", "milk", 9), ("u", "milk", 3)]).assign(session_id=None)
    assert reason("u", "milk", log)[2]["n_taken"] == 2


def test_no_reason_is_too_long_and_rows_keep_their_order() -> None:
    items = ITEMS.assign(title=ITEMS["title"] + " x" * 300, category_2=ITEMS["category_2"] * 99)
    users = ["u", "a", "stranger"]
    pairs = pd.MultiIndex.from_product([users, items["item_id"]], names=["user_id", "item_id"])
    pairs = pairs.to_frame(index=False).sample(frac=1, random_state=0)
    words = Wording(
        past="subscribed to often", present="subscribe to often", people="registered viewers!!"
    )
    evidence = gather_evidence(pairs, SHARED, items, as_of=AS_OF, together=TOGETHER, thresholds=FEW)
    written = write_reasons(evidence, words, FEW)
    assert written["reason"].str.len().max() <= MAX_LENGTH
    assert set(written["reason_code"]) <= CODES and written["reason_code"].nunique() > 3
    assert np.array_equal(written[["user_id", "item_id"]], pairs)
    written["reason_evidence"].map(json.loads)
