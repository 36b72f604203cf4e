"""What goes with a product type, and who buys it, in numbers worked out by hand."""

import json

import pandas as pd
import pytest

from recsys_assets.enrichment import relations

ITEMS = pd.DataFrame(
    {"item_id": ["m", "b", "d", "n"], "kind": ["MILK", "BREAD", "DOG FOODS", "MILK"]}
)


def events(baskets: dict[str, list[str]], copies: int = 30) -> pd.DataFrame:
    rows = [
        {"user_id": f"{name}{n}", "item_id": item, "session_id": f"{name}{n}"}
        for name, items in baskets.items()
        for n in range(copies)
        for item in items
    ]
    return pd.DataFrame(rows).assign(counts_as_taken=True)


BEFORE = events({"both": ["m", "b"], "dog": ["d"], "bread": ["b"]})
USERS = pd.DataFrame(
    [
        {"user_id": f"{name}{n}", "attributes": json.dumps({"pets": pets} if pets else {})}
        for name, pets in (("both", "no"), ("dog", "yes"), ("bread", "no"), ("unknown", ""))
        for n in range(30)
    ]
)


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return relations.type_relations(BEFORE, ITEMS, USERS, "kind")


def test_types_of_the_same_baskets_are_complements(found: pd.DataFrame) -> None:
    rows = found[found["relation"] == "complement"].set_index("type")
    assert rows["value"].to_dict() == {"MILK": "BREAD", "BREAD": "MILK"}
    # 30 of MILK's 30 baskets, 60 of all 90, 50 baskets' worth of doubt
    assert rows.loc["MILK", "lift"] == pytest.approx((30 + 50 * 60 / 90) / (30 + 50) / (60 / 90))
    assert rows.loc["MILK", "support"] == 30


def test_an_audience_is_a_trait_its_buyers_have_more_often(found: pd.DataFrame) -> None:
    rows = found[found["relation"] == "audience"].set_index("type")
    assert rows["value"].to_dict() == {
        "MILK": "pets=no",
        "BREAD": "pets=no",
        "DOG FOODS": "pets=yes",
    }
    assert rows.loc["DOG FOODS", "lift"] == pytest.approx((30 + 50 * 30 / 90) / (30 + 50) / (1 / 3))


def test_nothing_is_said_of_few_people() -> None:
    few = events({"both": ["m", "b"]}, copies=relations.MIN_USERS - 1)
    assert relations.type_relations(few, ITEMS, USERS, "kind").empty


def test_a_type_without_baskets_and_users_without_attributes_are_no_error() -> None:
    loose = BEFORE.assign(session_id=None)
    nobody = USERS.assign(attributes="{}")
    assert relations.type_relations(loose, ITEMS, nobody, "kind").empty


def test_the_measure_counts_what_came_in_the_basket_of_a_cold_item(found: pd.DataFrame) -> None:
    after = pd.DataFrame(
        {
            "user_id": "u", "item_id": ["n", "b", "n"], "session_id": ["s", "s", "alone"],
            "counts_as_taken": True,
        }
    )  # fmt: skip
    rates = relations.complement_hit_rates(
        found, BEFORE, after, ITEMS, "kind", pd.Index(["n"]), k=1
    )
    # BREAD is in one of the two later baskets: found once, half expected
    assert rates == {
        "complements": 1.0, "popular types": 1.0, "complements lift": 2.0,
        "popular types lift": 2.0, "pairs": 1.0,
    }  # fmt: skip


def test_the_audience_measure_is_one_when_buyers_are_like_everybody(found: pd.DataFrame) -> None:
    buyers = [f"both{n}" for n in range(20)] + [f"dog{n}" for n in range(10)]
    after = pd.DataFrame({"user_id": buyers, "item_id": "n", "counts_as_taken": True})
    measured = relations.audience_lift(found, after, ITEMS, USERS, "kind", pd.Index(["n"]))
    assert measured == {"audience lift": pytest.approx(1.0), "buyers": 30.0}
