"""No question is paid for twice, whatever happens between asking and answering."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.request import ItemText
from tests.language_model.conftest import TASK, FakeTime
from tests.language_model.server import FakeAnthropic

Model = Callable[..., LanguageModel]
ROOT = Path(__file__).parents[2]


def items(n: int) -> list[ItemText]:
    return [ItemText(f"item {i}") for i in range(n)]


def echo(item: dict, schema: dict, body: dict) -> dict:
    return {"id": item["id"], "tags": [item["title"]], "kind": "echo"}


def titles(answers: list) -> list[str | None]:
    return [a.content.tags[0] if a.content else None for a in answers]


def run_and_kill(fake: FakeAnthropic, home: Path, n: int, batch_from: int) -> None:
    """Run the client in a process that the fake service kills at the scripted moment."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.language_model.killed"]
    process = subprocess.Popen([*program, str(home), fake.url, str(n), str(batch_from)], cwd=ROOT)
    fake.kill_pid = process.pid
    assert process.wait(60) == -9


@pytest.mark.parametrize("batch_from", [100, 1], ids=["direct", "batch"])
def test_a_second_run_asks_nothing(fake: FakeAnthropic, model: Model, batch_from: int) -> None:
    fake.answer = echo
    first = answer_all(model("r1", batch_from=batch_from), TASK, items(3))
    assert titles(first) == ["item 0", "item 1", "item 2"]
    before = len(fake.requests)
    again = model("r2", batch_from=batch_from)
    assert answer_all(again, TASK, items(3)) == first
    assert len(fake.requests) == before
    assert again.numbers()["language model calls"] == 0


def test_a_rejected_answer_is_not_paid_for_again_and_a_failure_is_asked_again(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.answer = lambda item, schema, body: (
        "no json" if item["title"] == "item 0" else echo(item, schema, body)
    )
    fake.faults = ["status 400"]
    first = answer_all(model("r1", attempts=1), TASK, items(2)[::-1])
    assert [a.problem for a in first] == ["rejected", "not json"]
    second = answer_all(model("r2"), TASK, items(2)[::-1])
    assert [a.problem for a in second] == ["", "not json"]
    assert len(fake.posted()) == 3


FAILURES = {
    "status 429": False, "status 429 4233600": False, "status 500": False, "status 529": False,
    "status 400": False, "status 401": False, "spend": False, "error200": True, "cut": True,
    "reset": True, "html": True, "huge": True,
}  # fmt: skip
"""Fault -> whether the service may have worked, and been paid, before it failed."""


@pytest.mark.parametrize(("fault", "may_have_cost"), FAILURES.items(), ids=FAILURES.keys())
def test_a_failure_ends_in_time_is_on_the_books_and_is_never_kept(
    fake: FakeAnthropic, model: Model, time: FakeTime, fault: str, may_have_cost: bool
) -> None:
    fake.answer = echo
    fake.faults = [fault] * 10
    tagger = model("r1", attempts=2, call_seconds=30)
    (failed,) = answer_all(tagger, TASK, items(1))
    tried = len(fake.posted())
    assert failed.content is None and not failed.paid
    assert time.seconds <= 30
    (spent,) = tagger.ledger.spending("r1")
    bound = tagger.ledger.prices.upper_bound(
        "claude-haiku-5-5", tagger.request(TASK, items(1)[0]).prompt, TASK.max_tokens
    )
    assert spent.open == (tried if may_have_cost else 0)
    assert spent.dollars == pytest.approx(tried * bound if may_have_cost else 0.0)
    fake.faults = []
    assert titles(answer_all(model("r2"), TASK, items(1))) == ["item 0"]
    assert len(fake.posted()) == tried + 1


def test_results_are_matched_by_id_whatever_their_order_and_strangers_are_ignored(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.answer = echo
    fake.faults = ["batch ", "batch stranger"]
    tagger = model(batch_from=1)
    answers = answer_all(tagger, TASK, items(7))
    assert titles(answers) == [f"item {i}" for i in range(7)]
    assert len(fake.batches) == 1
    assert tagger.numbers()["language model calls"] == 7


def test_a_batch_costs_the_batch_price(model: Model) -> None:
    direct, batch = model("r1", batch_from=100), model("r2", batch_from=1)
    answer_all(direct, TASK, items(4))
    answer_all(batch, TASK, [ItemText(f"other {i}") for i in range(4)])
    name = "language model dollars"
    assert batch.numbers()[name] == pytest.approx(direct.numbers()[name] / 2)


def test_a_batch_that_is_not_done_in_time_is_collected_by_a_later_run(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.answer = echo
    fake.polls_until_ended = 10**6
    first = answer_all(model("r1", batch_from=1, run_seconds=60), TASK, items(3))
    assert {a.problem for a in first} == {"pending"}
    fake.polls_until_ended = 0
    second = answer_all(model("r2", batch_from=1), TASK, items(3))
    assert titles(second) == ["item 0", "item 1", "item 2"]
    assert len(fake.batches) == 1


@pytest.mark.parametrize(
    ("fault", "problems", "asked_again"),
    [
        ("batch expired", ["expired"] * 4, 4),
        ("batch half expired", ["expired", "", "expired", ""], 2),
        ("batch errored", ["rejected"] * 4, 4),
        ("batch bare", ["unreadable"] * 4, 4),
    ],
)
def test_only_what_a_batch_did_not_answer_is_asked_again(
    fake: FakeAnthropic, model: Model, fault: str, problems: list[str], asked_again: int
) -> None:
    fake.answer = echo
    fake.faults = ["batch ", fault]
    first = answer_all(model("r1", batch_from=1), TASK, items(4))
    assert [a.problem for a in first] == problems
    second = answer_all(model("r2", batch_from=1), TASK, items(4))
    assert titles(second) == [f"item {i}" for i in range(4)]
    again = list(fake.batches.values())[1]["requests"]
    assert len(again) == asked_again


@pytest.mark.parametrize("fault", ["batch cut", "batch gap"])
def test_incomplete_results_are_fetched_again_and_nothing_is_submitted_twice(
    fake: FakeAnthropic, model: Model, fault: str
) -> None:
    fake.answer = echo
    fake.faults = ["batch ", fault]
    answer_all(model("r1", batch_from=1, attempts=1), TASK, items(3))
    answers = answer_all(model("r2", batch_from=1), TASK, items(3))
    assert titles(answers) == ["item 0", "item 1", "item 2"]
    assert len(fake.batches) == 1


def test_a_refused_submission_frees_its_money_and_is_repeated(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.answer = echo
    fake.faults = ["batch status 529", "batch status 429"]
    tagger = model(batch_from=1)
    assert titles(answer_all(tagger, TASK, items(2))) == ["item 0", "item 1"]
    assert len(fake.batches) == 1
    fake.faults = ["batch status 400"]
    other = [ItemText("a"), ItemText("b")]
    assert {a.problem for a in answer_all(tagger, TASK, other)} == {"rejected"}
    assert not any(s.open for s in tagger.ledger.spending())


def test_a_submission_whose_reply_was_lost_is_found_again_not_repeated(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.answer = echo
    fake.faults = ["batch lost reply"]
    answers = answer_all(model(batch_from=1), TASK, items(3))
    assert titles(answers) == ["item 0", "item 1", "item 2"]
    assert len(fake.batches) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"created_at": "2026-11-01T00:00:00"},
        {"request_counts": {"processing": float("inf")}},
        {"id": ""},
    ],
    ids=["a time without zone", "infinitely many", "no id"],
)
def test_a_batch_that_is_described_oddly_ends_no_asset_and_is_submitted_once(
    fake: FakeAnthropic, model: Model, odd: dict
) -> None:
    fake.faults, honest = ["batch lost reply"], fake.describe
    fake.describe = lambda number: honest(number) | odd  # type: ignore[method-assign]
    found = answer_all(model("r1", attempts=1, batch_from=1), TASK, items(2))
    assert [a.problem for a in found] == ["unreadable"] * 2
    fake.describe = honest  # type: ignore[method-assign]
    fake.answer = echo
    assert titles(answer_all(model("r2", batch_from=1), TASK, items(2))) == ["item 0", "item 1"]
    assert len(fake.batches) == 1


def test_a_process_killed_between_submitting_and_noting_the_id_submits_once(
    fake: FakeAnthropic, model: Model, tmp_path: Path
) -> None:
    fake.answer = echo
    fake.faults = ["batch kill"]
    run_and_kill(fake, tmp_path, n=3, batch_from=1)
    assert len(fake.batches) == 1
    answers = answer_all(model("after", batch_from=1), TASK, items(3))
    assert titles(answers) == ["item 0", "item 1", "item 2"]
    assert len(fake.batches) == 1
    assert not any(s.open for s in model().ledger.spending())


def test_a_process_killed_before_its_submission_arrived_submits_afterwards(
    fake: FakeAnthropic, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer = echo
    first = model("r1", batch_from=1)

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(first.service, "submit", dies)
    with pytest.raises(KeyboardInterrupt):
        answer_all(first, TASK, items(2))
    second = model("r2", batch_from=1)
    assert titles(answer_all(second, TASK, items(2))) == ["item 0", "item 1"]
    assert len(fake.batches) == 1
    assert not any(s.open for s in second.ledger.spending())


def test_the_caps_decide_how_much_of_a_batch_goes(fake: FakeAnthropic, model: Model) -> None:
    fake.answer = echo
    fake.usage = {"input_tokens": 400, "output_tokens": 100}
    bound = model().ledger.prices.upper_bound(
        "claude-haiku-5-5", model().request(TASK, items(1)[0]).prompt, 100, batch=True
    )
    tagger = model(batch_from=1, dollars_per_run=20.5 * bound)
    problems = [a.problem for a in answer_all(tagger, TASK, items(64))]
    answered = problems.count("")
    assert 16 <= answered < 64 and set(problems[answered:]) == {"over budget"}
    assert tagger.numbers()["language model dollars"] <= 20.5 * bound


def test_ten_thousand_requests_hold_no_user_and_no_personal_datum(
    fake: FakeAnthropic, model: Model
) -> None:
    fake.answer = echo
    planted = ("household-", "jane.doe", "555-867-53", "+1 202 55")
    payloads = [
        ItemText(
            title=f"Item {n}",
            category="GROCERY > SAUCES",
            brand="Brand",
            text=f"Ask jane.doe{n}@example.com or 555-867-53{n:04} or +1 202 55{n:05}.",
        )
        for n in range(10_000)
    ]
    tagger = model(batch_from=1, dollars_per_run=1000, dollars_per_month=1000, call_seconds=300)
    answers = answer_all(tagger, TASK, payloads)
    assert sum(a.content is not None for a in answers) == 10_000
    sent = [r for b in fake.posted("/v1/messages/batches") for r in b["requests"]]
    assert len(sent) == len({r["custom_id"] for r in sent}) == 10_000
    text = json.dumps(sent)
    assert text.count("[e-mail]") == 10_000 and text.count("[number]") == 20_000
    assert not any(word in text for word in planted)
