"""The books are never too low, whoever dies."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys_assets.core.journal import Journal, JournalError
from recsys_assets.core.settings.language_model import LanguageModelSettings, Price
from recsys_assets.language_model.bulk import answer_all
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.language_model.ledger import BudgetError, Caps, CostLedger
from recsys_assets.language_model.prices import Prices, Usage
from tests.language_model.conftest import TASK, ask
from tests.language_model.server import FakeAnthropic
from tests.language_model.test_bulk import items, run_and_kill

Model = Callable[..., LanguageModel]
MODEL = "claude-haiku-5-5"


def books(folder: Path, run: float = 1.0, month: float = 1.0, day: int = 1) -> CostLedger:
    now = datetime(2026, 11, day, tzinfo=UTC)
    return CostLedger(folder / "ledger.jsonl", Prices.load(), Caps(run, month), lambda: now)


def test_a_reservation_counts_in_full_until_it_is_settled_by_what_was_used(tmp_path: Path) -> None:
    ledger = books(tmp_path)
    reservation = ledger.reserve("r", "a", MODEL, 0.5)
    (row,) = ledger.spending()
    assert (row.dollars, row.open, row.calls) == (0.5, 1, 0)
    ledger.settle(reservation, Usage(100, 20, 5, 7), 0.25, calls=1)
    ledger.settle(reservation, Usage(100, 20, 5, 7), 0.25, calls=1)
    (row,) = books(tmp_path).spending()
    assert (row.dollars, row.open, row.calls) == (0.25, 0, 1)
    assert (row.input, row.output, row.cache_read, row.cache_write) == (100, 20, 5, 7)


def test_the_month_is_shared_by_all_runs_and_a_new_month_starts_at_nothing(tmp_path: Path) -> None:
    books(tmp_path, month=1.0).reserve("r1", "a", MODEL, 0.7)
    with pytest.raises(BudgetError, match=r"dollars_per_month is 1\.0000: 0\.7000"):
        books(tmp_path, month=1.0).reserve("r2", "b", MODEL, 0.4)
    december = CostLedger(
        tmp_path / "ledger.jsonl",
        Prices.load(),
        Caps(1, 1),
        lambda: datetime(2026, 12, 1, tzinfo=UTC),
    )
    december.reserve("r3", "a", MODEL, 0.4)


def test_a_cap_may_be_reached_and_not_be_passed(tmp_path: Path) -> None:
    ledger = books(tmp_path, run=0.75)
    ledger.reserve("r", "a", MODEL, 0.5)
    ledger.reserve("r", "a", MODEL, 0.25, requests=3)
    assert [s.open for s in ledger.spending()] == [1 + 3]
    with pytest.raises(BudgetError, match="dollars_per_run"):
        ledger.reserve("r", "a", MODEL, 1e-9)


def test_a_cap_of_nothing_sends_nothing(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="dollars_per_run"):
        books(tmp_path, run=0.0).reserve("r", "a", MODEL, 1e-9)


def test_the_price_of_haiku_by_hand() -> None:
    prices = Prices.load()
    usage = Usage(input=1_000, output=200, cache_read=4_000, cache_write=2_000)
    by_hand = (1_000 * 0.10 + 200 * 0.50 + 4_000 * 0.01 + 2_000 * 0.125) / 1e6
    assert prices.cost(MODEL, usage) == pytest.approx(by_hand)
    assert prices.cost(MODEL, usage, batch=True) == pytest.approx(by_hand / 2)
    assert prices.cost(MODEL, Usage(input=100_001)) == pytest.approx(100_001 * 0.5 / 1e6)
    assert prices.cost(MODEL, Usage(100_000, cache_read=1)) == pytest.approx(0.05 + 0.05e-6)


def test_a_shops_own_price_stands_in_for_the_tables() -> None:
    own = Price(input=7, output=7, cache_write=7, cache_read=7)
    assert Prices.load({MODEL: own}).cost(MODEL, Usage(input=10**6)) == 7


def test_the_bound_is_above_the_cost_of_any_answer_to_it() -> None:
    prices = Prices.load()
    prompt = "A description of some four characters a token. " * 50
    worst = Usage(cache_write=len(prompt) // 2, output=100)
    assert prices.upper_bound(MODEL, prompt, 100) >= prices.cost(MODEL, worst)
    assert prices.upper_bound(MODEL, "日" * 100, 0) >= prices.cost(MODEL, Usage(input=300))


def test_a_torn_last_line_is_dropped_and_a_torn_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    with journal.locked():
        journal.append([{"n": 1}])
    with path.open("ab") as stream:
        stream.write(b'{"n": 2')
    survivor = Journal(path)
    with survivor.locked() as records:
        assert records == [{"n": 1}]
        survivor.append([{"n": 3}])
    assert Journal(path).records() == [{"n": 1}, {"n": 3}]
    path.write_bytes(b'{"n": 1}\n{"n"\n{"n": 3}\n')
    with pytest.raises(JournalError, match="line 2"):
        Journal(path).records()


def test_two_processes_see_each_others_lines(tmp_path: Path) -> None:
    one, other = books(tmp_path), books(tmp_path)
    one.reserve("r", "a", MODEL, 0.6)
    with pytest.raises(BudgetError):
        other.reserve("r", "a", MODEL, 0.6)


def test_a_process_killed_while_asking_leaves_its_request_on_the_books(
    fake: FakeAnthropic, model: Model, tmp_path: Path
) -> None:
    fake.faults = ["kill"]
    run_and_kill(fake, tmp_path, n=2, batch_from=100)
    tagger = model("after")
    (killed,) = tagger.ledger.spending("killed")
    assert (killed.calls, killed.open) == (0, 1)
    assert killed.dollars > 0
    answer_all(tagger, TASK, items(2))
    (after,) = tagger.ledger.spending("after")
    assert (after.calls, after.open) == (2, 0)


def test_what_is_spent_beyond_a_cap_is_at_most_what_was_in_flight(
    fake: FakeAnthropic, model: Model
) -> None:
    """Answers that cost ten times their bound: one gets through, the next is refused."""
    settings = LanguageModelSettings()
    fake.usage = {"input_tokens": 0, "output_tokens": 10 * TASK.max_tokens}
    tagger = model(dollars_per_run=0.001)
    problems = [ask(tagger, item).problem for item in items(30)]
    cost = tagger.ledger.prices.cost(settings.model, Usage(output=10 * TASK.max_tokens))
    assert tagger.numbers()["language model dollars"] <= 0.001 + cost
    assert problems[-1] == "over budget"
