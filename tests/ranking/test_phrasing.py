"""The language model may word an explanation and order a list; it may not invent or lose anything.

All of it against a local server through the real SDK.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.service import Service
from recsys_assets.onboarding import reading
from recsys_assets.onboarding.preferences import bans
from recsys_assets.onboarding.shelf import Words
from recsys_assets.ranking.evidence import Evidence, Theme
from recsys_assets.ranking.phrasing import phrase
from recsys_assets.ranking.reranking import is_permutation, rerank, rerank_rows
from tests.language_model.conftest import FakeTime
from tests.language_model.server import FakeAnthropic
from tests.onboarding.test_shelf import ITEMS

EVIDENCE = Evidence(
    title="Onions 48 Ct",
    category="ONIONS",
    placement="discover",
    rank=1,
    policy="ranker",
    reason="Often bought together with Snack Crackers 8 Oz, which you bought 5 times",
    reason_code="together",
    sensitive=False,
    themes=(Theme("how well it goes with other things you take", 0.8),),
)


@pytest.fixture
def fake() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        yield server


@pytest.fixture
def model(fake: FakeAnthropic, tmp_path: Path) -> Callable[..., LanguageModel]:
    def make(**settings: Any) -> LanguageModel:
        clock = FakeTime(start=datetime.now(UTC)).clock()
        service = Service("sk-ant-test", clock.monotonic, fake.url)
        chosen = LanguageModelSettings(**settings)
        return LanguageModel(service, chosen, tmp_path, "run", "explanations", clock=clock)

    return make


def says(**content: object) -> Callable[..., dict[str, object]]:
    return lambda item, schema, body: {"id": item["id"], **content}


def test_a_grounded_sentence_is_used_and_paid_for_once(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    fake.answer = says(sentence="It goes well with Snack Crackers, which you bought 5 times.")
    for _ in range(2):
        found = phrase(EVIDENCE, model())
        assert (found.source, found.problem) == ("claude", "")
        assert found.text.startswith("It goes well with Snack Crackers")
    assert len(fake.posted()) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "It goes well with Snack Crackers, which you bought 6 times.",
        "It goes well with red wine.",
        "You bought this 5 times.",
        "",
        "x" * 2000,
    ],
)
def test_an_ungrounded_sentence_gives_way_to_the_plain_one(
    fake: FakeAnthropic, model: Callable[..., LanguageModel], sentence: str
) -> None:
    fake.answer = says(sentence=sentence)
    found = phrase(EVIDENCE, model())
    assert (found.text, found.source) == (EVIDENCE.sentence, "plain")
    assert found.problem.startswith("not grounded")


def test_a_service_that_fails_or_a_cap_that_is_reached_changes_only_the_wording(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    fake.faults = ["status 500"] * 9
    assert phrase(EVIDENCE, model()).text == EVIDENCE.sentence
    capped = phrase(EVIDENCE, model(dollars_per_run=0.0))
    assert (capped.text, capped.problem) == (EVIDENCE.sentence, "over budget")
    assert phrase(EVIDENCE, None).text == EVIDENCE.sentence


def test_of_a_sensitive_item_and_of_somebodys_own_words_nothing_is_sent(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    for hidden in (replace(EVIDENCE, sensitive=True), replace(EVIDENCE, reason_code="stated")):
        assert phrase(hidden, model()).source == "plain"
    assert fake.posted() == []


def test_only_the_item_and_the_facts_leave_the_house(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    phrase(EVIDENCE, model())
    sent = json.loads(fake.posted()[0]["messages"][0]["content"][0]["text"])
    assert set(sent) == {"id", "item", "facts"}
    assert sent["facts"] == list(EVIDENCE.texts)


def test_an_order_of_what_was_sent_is_taken_over_and_the_tail_stays(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    fake.answer = says(order=[3, 1, 2])
    found = rerank(["a", "b", "c", "d"], "a picnic", model(), head=3)
    assert (found.order, found.problem) == ((2, 0, 1, 3), "")


@pytest.mark.parametrize("order", [[1, 2], [1, 2, 2], [0, 1, 2], [1, 2, 4], [1, 2, 3, 3], []])
def test_anything_but_a_permutation_leaves_the_order_as_it_was(
    fake: FakeAnthropic, model: Callable[..., LanguageModel], order: list[int]
) -> None:
    fake.answer = says(order=order)
    found = rerank(["a", "b", "c"], "a picnic", model())
    assert (found.order, found.problem) == ((0, 1, 2), "not an order of what was sent")


@given(st.lists(st.integers(-2, 8), max_size=8), st.integers(0, 8))
def test_a_permutation_holds_each_position_once(order: list[int], n: int) -> None:
    assert is_permutation(order, n) == (len(order) == n and set(order) == set(range(1, n + 1)))


def test_a_sensitive_row_is_not_sent_and_keeps_its_place(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    fake.answer = says(order=[3, 1, 2])
    rows = pd.DataFrame({"item_id": ["a", "secret", "c", "d"]})
    private = np.array([False, True, False, False])
    found, problem = rerank_rows(rows, ["A", "SECRET", "C", "D"], private, "a list", model())
    assert (found["item_id"].tolist(), problem) == (["d", "secret", "a", "c"], "")
    assert "SECRET" not in json.dumps(fake.posted())
    fake.answer = says(order=[1, 1, 2])
    found, problem = rerank_rows(rows, ["A", "SECRET", "C", "E"], private, "a list", model())
    assert found.equals(rows) and problem == "not an order of what was sent"


def test_without_a_model_nothing_is_reordered() -> None:
    assert rerank(["a", "b"], "a picnic", None).order == (0, 1)


def test_a_wish_is_read_by_the_model_and_never_loses_a_ban(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    fake.answer = says(
        queries=["Rice Noodles", "coconut milk", "beef", "x" * 99, "one two three four five six "
                 "seven eight nine"],
        avoid=["prawn", "two words"],
    )  # fmt: skip
    found, source = reading.read("vegetarian thai, ring me on 0171 2345678", words(), model())
    assert source == "claude"
    assert found.queries == ("rice noodles", "coconut milk"), "beef is ruled out by the words"
    assert bans("vegetarian") <= found.avoid and "prawn" in found.avoid
    assert "2345678" not in json.dumps(fake.posted())


def test_a_wish_nobody_can_read_is_read_by_its_words(
    fake: FakeAnthropic, model: Callable[..., LanguageModel]
) -> None:
    fake.answer = says(queries=[], avoid=[])
    assert reading.read("green tea", words(), model())[1] == "key_terms"
    fake.faults = ["status 500"] * 9
    found, source = reading.read("black tea", words(), model())
    assert (found.queries, source) == (("black tea",), "key_terms")


def words() -> Words:
    return Words.build(ITEMS)
