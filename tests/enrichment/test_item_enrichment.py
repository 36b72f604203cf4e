"""Cold items get an enrichment whatever the language model does, and it is never paid for twice."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recsys_assets.core.assets import Project
from recsys_assets.enrichment import claude
from recsys_assets.language_model import request
from tests.enrichment.shop import Shelf, content_id, enriched, fill, materialize
from tests.language_model.conftest import KEY, fake  # noqa: F401 (fixture)
from tests.language_model.server import FakeAnthropic

PRODUCTS = [
    ("Whole milk", "MILK"),
    ("Cheddar", "CHEESE"),
    ("Organic skim milk", "MILK"),
    ("Kids shampoo", "SHAMPOO"),
    ("Rye bread", "BREAD"),
    ("Puppy food", "DOG FOODS"),
]


def says(**fields: Any) -> Callable[..., dict[str, Any]]:
    """An honest service that gives `fields` for every item."""
    content: dict[str, Any] = {
        "audience": ["everyone"], "uses": ["drink"], "comparable_types": ["CHEESE"],
        "keywords": ["milk"], "appeal": ["classic"], "complements": ["BREAD"],
    }  # fmt: skip
    return lambda item, schema, body: {"id": item["id"], **content, **fields}


@pytest.fixture
def shop(project: Project) -> Project:
    fill(project, Shelf(PRODUCTS))
    return project


@pytest.fixture
def service(fake: FakeAnthropic, monkeypatch: pytest.MonkeyPatch) -> FakeAnthropic:  # noqa: F811
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
    fake.answer = says()
    return fake


def with_settings(project: Project, text: str) -> Project:
    """The same home under a shop file with one more section."""
    path = Path(project.shop_file)
    changed = path.with_name("changed.yaml")
    changed.write_text(path.read_text() + text)
    return Project(home=project.home, shop_file=str(changed))


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def test_without_a_key_every_text_is_read_by_rules(shop: Project) -> None:
    numbers = materialize(shop)
    frame = enriched(shop)
    assert set(frame["source"]) == {"extractive"}
    assert (numbers["texts of cold items"], numbers["filled by claude"]) == (4, 0)
    milk, dog = frame.loc["Organic skim milk"], frame.loc["Puppy food"]
    assert json.loads(milk["appeal"]) == ["organic", "light"]
    assert json.loads(milk["uses"]) == ["drink"]
    assert json.loads(frame.loc["Kids shampoo", "uses"]) == ["personal care"]
    assert json.loads(frame.loc["Kids shampoo", "appeal"]) == ["for children"]
    assert json.loads(dog["uses"]) == ["pet care"]
    assert json.loads(milk["audience"]) == json.loads(milk["complements"]) == []


def test_with_a_key_only_cold_items_are_asked_about(shop: Project, service: FakeAnthropic) -> None:
    numbers = materialize(shop)
    frame = enriched(shop)
    assert list(frame.index[frame["source"] == "extractive"].sort_values()) == [
        "Cheddar",
        "Whole milk",
    ]
    assert json.loads(frame.loc["Rye bread", "complements"]) == ["BREAD"]
    assert set(frame.loc[frame["source"] == "claude", "model"]) == {"claude-haiku-5-5"}
    assert numbers["filled by claude"] == numbers["language model calls"] == 4
    assert numbers["language model cached tokens"] == 4 * 900
    assert numbers["language model dollars"] > 0


def test_a_replay_asks_nothing_and_gives_the_same_bytes(
    shop: Project, service: FakeAnthropic
) -> None:
    materialize(shop)
    before = content_id(shop)
    numbers = materialize(shop)
    assert len(service.requests) == 4
    assert numbers["language model calls"] == 0
    assert content_id(shop) == before


def test_a_changed_text_is_asked_about_alone(shop: Project, service: FakeAnthropic) -> None:
    materialize(shop)
    fill(shop, Shelf([*PRODUCTS[:5], ("Kitten food", "DOG FOODS")]))
    numbers = materialize(shop)
    assert (numbers["language model calls"], numbers["filled by claude"]) == (1, 4)


def test_switched_off_again_it_is_as_if_it_had_never_been(
    shop: Project, service: FakeAnthropic
) -> None:
    off = with_settings(shop, "language_model: {enabled: false}\n")
    materialize(off)
    without = content_id(off)
    materialize(shop)
    assert content_id(shop) != without
    materialize(off)
    assert content_id(off) == without


def test_when_the_money_ends_the_rest_is_read_by_rules_and_counted(
    shop: Project, service: FakeAnthropic
) -> None:
    poor = with_settings(shop, "language_model: {dollars_per_run: 0.00055}\n")
    numbers = materialize(poor)
    answered = numbers["filled by claude"]
    assert 0 < answered < 4
    assert numbers["not used: over budget"] == 4 - answered
    assert numbers["filled by rules"] == 6 - answered
    assert numbers["language model dollars"] <= 0.00055


def test_when_the_service_is_down_the_asset_is_complete_and_says_so(
    shop: Project, service: FakeAnthropic
) -> None:
    hasty = with_settings(shop, "language_model: {attempts: 1}\n")
    service.faults = ["status 529"] * 20
    numbers = materialize(hasty)
    assert numbers["not used: unavailable"] == 4
    assert set(enriched(hasty)["source"]) == {"extractive"}
    service.faults = []
    assert materialize(hasty)["filled by claude"] == 4, "a failure is not kept"


REFUSED = {
    "unknown type": {"comparable_types": ["CAVIAR"]},
    "unknown type (another language)": {"complements": ["FROMAGE"]},
    "wrong shape (unknown use)": {"uses": ["world domination"]},
    "wrong shape (ten thousand tags)": {"keywords": ["milk"] * 10_000},
    "wrong shape (a boost)": {"boost": 100},
    "wrong id": {"id": "000000000000"},
}


@pytest.mark.parametrize(("problem", "fields"), REFUSED.items(), ids=REFUSED.keys())
def test_an_answer_outside_the_schema_or_the_vocabulary_is_refused_and_counted(
    shop: Project, service: FakeAnthropic, problem: str, fields: dict[str, Any]
) -> None:
    service.answer = says(**fields)
    numbers = materialize(shop)
    assert numbers["filled by claude"] == 0
    assert numbers[f"not used: {problem.split(' (')[0]}"] == 4
    assert set(enriched(shop)["source"]) == {"extractive"}


def test_a_keyword_the_catalogue_does_not_use_is_dropped_and_counted(
    shop: Project, service: FakeAnthropic
) -> None:
    service.answer = says(keywords=["milk", "buyme"])
    numbers = materialize(shop)
    assert numbers["not used: keyword outside the catalogue"] == 4
    assert json.loads(enriched(shop).loc["Puppy food", "keywords"]) == ["milk"]


def test_the_key_is_nowhere_in_the_home(shop: Project, service: FakeAnthropic) -> None:
    service.faults = ["status 400", "status 500"]
    metadata = materialize(shop)
    assert service.requests
    assert "canary" not in repr(metadata)
    files = [p for p in Path(shop.home).rglob("*") if p.is_file()]
    assert files and not any(b"canary" in p.read_bytes() for p in files)


def test_the_wording_of_the_question_changes_with_its_version() -> None:
    """Answers are kept per version: change VERSION together with the words, then this hash."""
    wording = claude.INSTRUCTIONS + request.RULES
    assert (claude.VERSION, sha256(wording.encode()).hexdigest()[:12]) == ("2", "b949d43d8a98")
