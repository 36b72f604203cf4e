"""One call to the language model: every way it can go wrong ends in one word and within bounds."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.language_model import client, request
from recsys_assets.language_model.answer import PROBLEMS
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.prices import PriceMissingError
from recsys_assets.language_model.service import Service
from tests.language_model.conftest import KEY, FakeTime, Tags, ask
from tests.language_model.server import FakeAnthropic

Model = Callable[..., LanguageModel]
MILK = request.ItemText("Whole milk", "DAIRY > MILK", "Farm")


def test_an_answer_is_an_instance_of_the_tasks_schema(fake: FakeAnthropic, model: Model) -> None:
    answer = ask(model(), MILK)
    assert answer.content == Tags(tags=[], kind="something")
    body = fake.posted()[0]
    assert body["model"] == "claude-haiku-5-5"
    assert body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["output_config"]["format"]["schema"]["required"] == ["id", "tags", "kind"]


CONTENT = {
    "not json": "Sure! Here are some tags: milk, dairy",
    "not json (two objects)": '{"id": "ID", "tags": [], "kind": "k"} {"id": "y"}',
    "not json (a list)": "[]",
    "wrong id": '{"id": "another", "tags": [], "kind": "k"}',
    "wrong shape (a field too many)": '{"id": "ID", "tags": [], "kind": "k", "price": 0}',
    "wrong shape (a number for a text)": '{"id": "ID", "tags": [], "kind": 5}',
    "wrong shape (nothing)": '{"id": "ID"}',
}


@pytest.mark.parametrize(("problem", "text"), CONTENT.items(), ids=CONTENT.keys())
def test_an_answer_that_is_not_what_was_asked_for_is_refused(
    fake: FakeAnthropic, model: Model, problem: str, text: str
) -> None:
    fake.answer = lambda item, schema, body: text.replace("ID", item["id"])
    answer = ask(model(), MILK)
    assert answer.content is None
    assert answer.problem == problem.split(" (")[0]
    assert answer.paid, "it was paid for, so it must not be asked again"
    assert len(fake.posted()) == 1


@pytest.mark.parametrize(
    ("reason", "problem"), [("max_tokens", "truncated"), ("refusal", "refused")]
)
def test_truncation_and_refusal_are_told_apart_and_their_tokens_counted(
    fake: FakeAnthropic, model: Model, reason: str, problem: str
) -> None:
    fake.stop_reason = reason
    tagger = model()
    assert ask(tagger, MILK).problem == problem
    assert tagger.numbers()["language model output tokens"] == 50


TRANSIENT = ["status 429", "status 500", "status 529", "error200", "cut", "reset", "packed"]


@pytest.mark.parametrize("fault", TRANSIENT)
def test_one_transient_fault_is_ridden_out(
    fake: FakeAnthropic, model: Model, time: FakeTime, fault: str
) -> None:
    fake.faults = [fault]
    assert ask(model(), MILK).content is not None
    assert len(fake.posted()) == 2
    assert 0 < time.seconds < 5, "a pause with jitter lies between the two"


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_lasts_ends_after_the_allowed_attempts(
    fake: FakeAnthropic, model: Model, fault: str
) -> None:
    fake.faults = [fault] * 10
    assert ask(model(attempts=3), MILK).problem == "unavailable"
    assert len(fake.posted()) == 3


LASTING = {
    "spend": "spend limit",
    "status 402": "spend limit",
    "status 401": "not allowed",
    "status 400": "rejected",
    "status 413": "rejected",
    "error200 invalid_request_error": "unavailable",
    "text200 something": "unavailable",
    "html": "unreadable",
    "huge": "too large",
}


@pytest.mark.parametrize(("fault", "problem"), LASTING.items())
def test_what_a_second_try_cannot_help_is_not_tried_again(
    fake: FakeAnthropic, model: Model, fault: str, problem: str
) -> None:
    fake.faults = [fault]
    assert ask(model(), MILK).problem == problem
    assert len(fake.posted()) == 1


@pytest.mark.parametrize("fault", ["spend", "status 401"])
def test_without_money_or_permission_nothing_more_is_asked(
    fake: FakeAnthropic, model: Model, time: FakeTime, fault: str
) -> None:
    fake.faults = [fault]
    tagger = model()
    first = ask(tagger, MILK).problem
    time.seconds += 500
    assert ask(tagger, request.ItemText("Butter")).problem == first
    assert len(fake.posted()) == 1


def test_a_retry_after_of_49_days_is_not_waited_for(
    fake: FakeAnthropic, model: Model, time: FakeTime
) -> None:
    fake.faults = ["status 429 4233600"]
    tagger = model()
    assert ask(tagger, MILK).problem == "unavailable"
    assert ask(tagger, MILK).problem == "unavailable"
    assert len(fake.posted()) == 1, "and the service is left alone as it asked"
    assert time.seconds == 0


def test_a_short_retry_after_is_respected(
    fake: FakeAnthropic, model: Model, time: FakeTime
) -> None:
    fake.faults = ["status 429 7"]
    assert ask(model(), MILK).content is not None
    assert time.seconds >= 7


@pytest.mark.parametrize("fault", ["hang 2", "trickle 0.05", "drip 0.05"])
def test_a_silent_or_dripping_service_does_not_outlast_the_deadline(
    fake: FakeAnthropic, tmp_path: Path, fault: str
) -> None:
    fake.faults = [fault] * 3
    clock = client.Clock()
    settings = LanguageModelSettings(call_seconds=0.3)
    tagger = LanguageModel(
        Service(KEY, clock.monotonic, fake.url), settings, tmp_path, "r", "tagging"
    )
    start = clock.monotonic()
    assert ask(tagger, MILK).problem == "deadline"
    assert clock.monotonic() - start < 2


def test_the_breaker_stops_asking_a_dead_service_and_lets_one_call_try_later(
    fake: FakeAnthropic, model: Model, time: FakeTime
) -> None:
    tagger = model(attempts=1)
    fake.faults = ["status 529"] * 5
    for _ in range(10):
        assert ask(tagger, MILK).problem == "unavailable"
    assert len(fake.posted()) == 4
    time.seconds += 61
    assert ask(tagger, MILK).problem == "unavailable"  # the fifth fault
    assert ask(tagger, MILK).problem == "unavailable"
    assert len(fake.posted()) == 5
    time.seconds += 61
    assert ask(tagger, MILK).content is not None
    assert ask(tagger, MILK).content is not None


def test_an_asset_stops_asking_when_its_time_is_up(
    fake: FakeAnthropic, model: Model, time: FakeTime
) -> None:
    tagger = model(run_seconds=100)
    time.seconds = 100
    assert ask(tagger, MILK).problem == "deadline"
    assert not fake.requests


@pytest.mark.parametrize("cap", ["dollars_per_run", "dollars_per_month"])
def test_nothing_is_sent_that_might_pass_a_cap(fake: FakeAnthropic, model: Model, cap: str) -> None:
    fake.usage = {"input_tokens": 300, "output_tokens": 100}
    one = 300 * 0.1e-6 + 100 * 0.5e-6
    tagger = model(**{cap: 5.5 * one})
    problems = [ask(tagger, MILK).problem for _ in range(10)]
    assert problems[0] == "" and problems[-1] == "over budget"
    spent = tagger.numbers()["language model dollars"]
    assert 0 < spent <= 5.5 * one
    assert len(fake.posted()) == problems.count("")


def test_a_service_that_bills_more_than_the_bound_ends_the_spending(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.usage = {"input_tokens": 50_000_000, "output_tokens": 0}
    tagger = model(dollars_per_run=1.0)
    assert ask(tagger, MILK).problem == ""
    assert ask(tagger, MILK).problem == "over budget"
    assert len(fake.posted()) == 1


def test_a_model_without_a_price_is_not_used(model: Model) -> None:
    with pytest.raises(PriceMissingError, match=r"language_model\.prices"):
        model(model="claude-unheard-of-9")


def test_without_a_key_or_switched_off_there_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    settings = LanguageModelSettings()
    assert client.connect(tmp_path, settings, "r", "a") is None
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert (
        client.connect(tmp_path, settings.model_copy(update={"enabled": False}), "r", "a") is None
    )
    assert client.connect(tmp_path, settings, "r", "a") is not None


def test_the_key_is_in_no_file_log_or_answer_even_when_the_service_quotes_it(
    fake: FakeAnthropic, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake.faults = ["status 500", "status 400", "spend", "status 401", "status 529"]
    answers = [ask(model(run=f"r{n}", attempts=2), MILK) for n in range(5)]
    assert all(KEY in headers["authorization"] for _, headers, _ in fake.requests)
    assert {a.problem for a in answers} <= {"", *PROBLEMS}
    files = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert files and not any("canary" in text for text in [*files, caplog.text, repr(answers)])


def test_the_service_gets_nothing_but_the_declared_fields(
    fake: FakeAnthropic, model: Model
) -> None:
    ask(model(), MILK)
    (body,) = fake.posted()
    sent = json.loads(body["messages"][0]["content"][0]["text"])
    assert set(sent) == {"id", "title", "category", "brand", "text"}
    assert set(body) == {"model", "max_tokens", "system", "messages", "output_config"}
