"""Words and behaviour side by side: what counts how much, and what is never shown."""

import json

import pandas as pd
import pytest

from recsys_assets.core.config import Shop
from recsys_assets.ranking.stated import Stated, bans, behaviour_weight, blend

ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "beef", "tea"],
        "title": ["Apples", "Bread", "Ground Beef", "Tea"],
        "category_1": "", "category_2": "", "category_3": "", "text": "",
    }
)  # fmt: skip
ROWS = pd.DataFrame(
    {
        "user_id": ["u", "u", "v", "v"],
        "item_id": ["a", "beef", "a", "beef"],
        "score": [0.9, 0.8, 0.7, 0.6],
    }
)
SHOP = Shop.model_validate(
    {"name": "x", "repeats": True, "source": {"kind": "complete_journey"},
     "partitions": {"start": "2017-01-01"}}
)  # fmt: skip
NOTHING = pd.DataFrame({"user_id": [], "item_id": []}).astype("str")


def stated(avoid: list[str], visits: int = 0) -> Stated:
    preferences = pd.DataFrame({"user_id": ["u"], "avoid": [json.dumps(avoid)]})
    candidates = pd.DataFrame(
        {
            "user_id": ["u", "u"],
            "item_id": ["tea", "a"],
            "place": [1, 2],
            "wished": [True, False],
            "terms": ["tea", ""],
        }
    )
    known = pd.DataFrame(
        {
            "user_id": ["u"] * visits,
            "session_id": [str(n) for n in range(visits)],
            "event_time": pd.Series(
                [pd.Timestamp("2017-01-01", tz="UTC")] * visits, dtype="object"
            ),
            "counts_as_taken": [True] * visits,
        }
    )
    return Stated.build(preferences, candidates, known, ITEMS, SHOP)


def test_bans_are_by_user_and_only_of_those_who_named_any() -> None:
    said = pd.DataFrame({"user_id": ["u", "u", "v"], "avoid": ['["meat"]', '["meat"]', "[]"]})
    assert bans(said) == {"u": frozenset({"meat"})}


def test_behaviour_starts_at_half_and_takes_over() -> None:
    found = behaviour_weight(pd.Series([0, 1, 3, 100]), 1.0)
    assert found.tolist() == pytest.approx([1 / 2, 2 / 3, 4 / 5, 101 / 102])


def test_a_blend_adds_reciprocal_places() -> None:
    said = pd.DataFrame({"user_id": ["u"], "item_id": ["tea"], "place": [1], "wished": [True]})
    made = blend(ROWS, said, pd.Series({"u": 0.75})).set_index(["user_id", "item_id"])["score"]
    assert made["u", "a"] == pytest.approx(0.75 / 21)
    assert made["u", "beef"] == pytest.approx(0.75 / 22)
    assert made["u", "tea"] == pytest.approx(0.25 / 21)
    assert made["v", "a"] == pytest.approx(0.7), "nobody else's rows change"


def test_what_a_user_rules_out_is_gone_unless_they_take_it_themselves() -> None:
    said = stated(["beef"])
    left = said.weighed(ROWS, NOTHING)
    pairs = set(zip(left["user_id"], left["item_id"], strict=True))
    assert ("u", "beef") not in pairs and ("v", "beef") in pairs
    own = said.weighed(ROWS, pd.DataFrame({"user_id": ["u"], "item_id": ["beef"]}))
    assert ("u", "beef") in set(zip(own["user_id"], own["item_id"], strict=True))


def test_without_anything_stated_nothing_changes() -> None:
    empty = pd.DataFrame({"user_id": [], "avoid": []}).astype("str")
    none = pd.DataFrame(
        {"user_id": pd.Series(dtype="str"), "item_id": pd.Series(dtype="str"),
         "place": pd.Series(dtype="int32"), "wished": pd.Series(dtype="bool"),
         "terms": pd.Series(dtype="str")}
    )  # fmt: skip
    known = pd.DataFrame(
        {"user_id": ["v"], "session_id": ["s"], "counts_as_taken": [True],
         "event_time": [pd.Timestamp("2017-01-01", tz="UTC")]}
    )  # fmt: skip
    said = Stated.build(empty, none, known, ITEMS, SHOP)
    assert said.weighed(ROWS, NOTHING) is ROWS
    assert said.without_bans(pd.Series(["u"])).tolist() == ["u"]


def test_words_are_the_reason_only_where_behaviour_has_none() -> None:
    shown = pd.DataFrame(
        {
            "user_id": "u", "item_id": ["tea", "a", "tea"], "policy": ["ranker", "ranker", "x"],
            "retrievers": [None, "als", None],
        }
    )  # fmt: skip
    said = stated([])
    shown["policy"] = said.policy(shown)
    assert shown["policy"].tolist() == ["onboarding", "onboarding", "x"]
    assert said.found_by(shown).tolist() == ["stated_preferences", "als", ""]
    for code, spoken in (("popular", True), ("repeat", False)):
        why = pd.DataFrame({"reason": "…", "reason_code": [code] * 3, "reason_evidence": "{}"})
        made = said.say(shown, why)
        assert (made["reason"][0] == "Fits what you told us: tea") == spoken
        assert made["reason"][1] == "…", "no term speaks for it"
