"""Users who only said what they like, through the whole job."""

import json

import pandas as pd
import pytest

from recsys_assets.onboarding.preferences import avoided, bans, stems
from tests.end_to_end.conftest import ShopRun


@pytest.fixture(scope="session")
def lists(shop_run: ShopRun) -> pd.DataFrame:
    return shop_run.lake.served("recommendations").to_pandas()


def test_bad_answers_are_rejected_with_their_reason(shop_run: ShopRun) -> None:
    assert shop_run.lake.served("onboarding_answers").rows == 5
    rejected = shop_run.lake.served("rejected_entities").to_pandas()
    rows = rejected[rejected["role"] == "onboarding_answers"].sort_values("row")
    assert rows["row"].tolist() == [7, 8, 9]
    found = rows["reject_field"] + ": " + rows["reject_reason"].str.split(":").str[0]
    assert found.tolist() == [
        "answer: missing value", "answered_at: not a timestamp", "user_id: missing id",
    ]  # fmt: skip


def test_answers_become_profiles_and_later_ones_wait(shop_run: ShopRun) -> None:
    said = shop_run.lake.served("stated_preferences").to_pandas()
    assert set(said["user_id"]) == {"new1", "new2"}
    assert said[said["user_id"] == "new1"]["query"].tolist() == ["vegetarian", "yogurt", "bread"]
    assert said[said["user_id"] == "new2"]["query"].tolist() == ["SOUP"], "a later sitting counts"
    assert "ham" in json.loads(said[said["user_id"] == "new2"]["avoid"].iloc[0])


def test_who_only_answered_gets_full_lists_with_reasons_that_fit(
    shop_run: ShopRun, lists: pd.DataFrame
) -> None:
    items = shop_run.lake.served("items").to_pandas().set_index("item_id")
    for user, word in (("new1", "vegetarian"), ("new2", "pork")):
        own = lists[lists["user_id"] == user]
        assert own.groupby("placement").size().to_dict() == {"discover": 10, "for_you": 10}
        assert set(own["policy"]) == {"onboarding"}
        text = items.loc[own["item_id"], "text"]
        assert not any(avoided(stems(t), bans(word)) for t in text)
        assert (own["reason_code"] == "stated").any()
        said = own[own["reason_code"] == "stated"]
        assert said["reason"].str.startswith("Fits what you told us: ").all()
        assert said["retrievers"].str.contains("stated_preferences").all()


def test_whose_answer_lies_after_the_cutoff_gets_what_is_popular(lists: pd.DataFrame) -> None:
    own = lists[lists["user_id"] == "late"]
    assert set(own["placement"]) == {"discover", "for_you"}
    assert not (own["reason_code"] == "stated").any()


def test_three_to_five_questions_are_asked(shop_run: ShopRun) -> None:
    asked = shop_run.lake.served("onboarding_questions").to_pandas()
    assert 3 <= asked["question_id"].nunique() <= 5
    assert asked["answer"].str.upper().ne("COLD AND FLU").all()
    shown = shop_run.recsys("onboard")
    assert shown.returncode == 0, shown.stderr
    assert "Which of these do you buy often?" in shown.stdout
    assert "own words" in shown.stdout


def test_words_give_a_first_list_at_once(shop_run: ShopRun) -> None:
    shown = shop_run.recsys("onboard", "vegetarian, we love soup", "-n", "5")
    assert shown.returncode == 0, shown.stderr
    assert "Fits what you told us: soup" in shown.stdout
    assert "read by key_terms" in shown.stdout
    assert "do not rely on them for an allergy" in " ".join(shown.stdout.split())


def test_an_item_that_words_brought_is_explained(shop_run: ShopRun, lists: pd.DataFrame) -> None:
    row = lists[(lists["user_id"] == "new1") & (lists["reason_code"] == "stated")].iloc[0]
    shown = shop_run.recsys("explain", "new1", row["item_id"])
    assert shown.returncode == 0, shown.stderr
    assert row["reason"] in shown.stdout
    assert "what you told us" in shown.stdout
