"""Sabotaged models are refused, each by the guard that is meant for it; equal retrains are served
(rows 17 and 30). The sample of `make test` is in `tests/redteam/test_leaks.py`.
"""

import re
from collections import Counter

import pytest

from recsys_assets.publishing import evidence, gate
from recsys_assets.publishing.gate import Criterion
from tests.faults.sabotage import Outcome, Retrained


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    made = Retrained(tmp_path_factory.mktemp("sabotage"))
    policies = made.shop.project.lake.read("policies").to_pandas().set_index("placement")
    assert policies.loc["for_you", "model"] == "ranker"
    assert policies.loc["for_you", "low"] > 0, "the ranker wins beyond noise"
    return made


def by_its_guard(shop: Retrained, kind: str, outcome: Outcome) -> bool:
    expected = shop.sabotages[kind]
    return outcome.table == expected.refused and bool(re.search(expected.says, outcome.reason))


@pytest.mark.faults
def test_thirty_sabotaged_models_are_refused_each_by_its_guard(shop: Retrained) -> None:
    refused, wrong = Counter[str](), []
    for kind, sabotage in shop.sabotages.items():
        for number in range(sabotage.times):
            outcome = shop.sabotaged(kind, number)
            if by_its_guard(shop, kind, outcome):
                refused[kind] += 1
            else:
                wrong.append(f"{kind} {number}: {outcome}")
    print(f"{refused.total()} of 30 refused by their guard: {dict(refused)}")  # noqa: T201
    assert wrong == []
    assert refused.total() == 30


def refused_equals(shop: Retrained, seeds: range) -> list[str]:
    """What was said of the retrains from these seeds that are not served."""
    refused = []
    for seed in seeds:
        outcome = shop.retrain(f"equal {seed}", seed=seed)
        if not outcome.served:
            refused.append(f"seed {seed}: {outcome}")
    print(f"{len(refused)} of {len(seeds)} equal retrains refused", *refused, sep="\n")  # noqa: T201
    return refused


@pytest.mark.faults
def test_of_thirty_equal_retrains_at_most_two_are_refused(shop: Retrained) -> None:
    assert len(refused_equals(shop, range(101, 131))) <= 2


@pytest.mark.faults
def test_of_three_equal_retrains_at_most_two_are_refused(shop: Retrained) -> None:
    """The sample on which mutations of the gate are tried: with a gate that asks too much of an
    unchanged recipe, all three are."""
    assert len(refused_equals(shop, range(101, 104))) <= 2


def nothing_worse(*given: object, **more: object) -> list[Criterion]:
    return []


def nothing_strong(*given: object, **more: object) -> None:
    return None


@pytest.mark.faults
def test_a_sabotage_whose_guard_is_taken_away_would_be_noticed(
    shop: Retrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The as-of proof has the same in `tests/redteam/test_leaks.py`."""
    assert by_its_guard(shop, "shuffled labels", shop.sabotaged("shuffled labels", 0))
    monkeypatch.setattr(gate, "against_incumbent", nothing_worse)
    assert not by_its_guard(shop, "shuffled labels", shop.sabotaged("shuffled labels", 0))
    monkeypatch.setattr(evidence.ReleaseEvidence, "strongest_feature", nothing_strong)
    held = "a feature past the proof"
    assert not by_its_guard(shop, held, shop.sabotaged(held, 0))
