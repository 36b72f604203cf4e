"""The gate lets equal and better recipes through and refuses what harms people."""

import numpy as np
import pandas as pd
import pytest

from recsys_assets.core.settings.releases import Gate, Task
from recsys_assets.publishing import gate
from recsys_assets.publishing.gate import Criterion, Measured

USERS = pd.Index([f"u{n:04d}" for n in range(1000)], name="user_id")
RULES = Gate(margin={"all": 0.01, "new": 0.005})
SLICES = pd.Series(np.repeat(["1-5", "6-20", "over 20", "none"], [300, 300, 300, 100]), USERS)


def metric(mean: float, seed: int, spread: float = 0.1) -> pd.Series:
    values = np.random.default_rng(seed).normal(mean, spread, len(USERS))
    return pd.Series(values, USERS)


BASE = metric(0.4, seed=1)


def beside(ours: pd.Series, *, changed: bool = False, rules: Gate = RULES) -> list[str]:
    found = gate.against_incumbent("all", ours, BASE, SLICES, rules, changed=changed)
    return gate.blocking(gate.corrected(found, rules))


def test_equal_lists_pass_as_an_unchanged_recipe() -> None:
    assert beside(BASE.copy()) == []


def test_a_retrain_with_noise_around_zero_passes() -> None:
    assert beside(BASE + metric(0, seed=2, spread=0.05)) == []


def test_a_changed_recipe_that_is_no_better_is_refused_unless_the_shop_allows_it() -> None:
    ours = BASE + metric(0, seed=2, spread=0.05)
    assert "must be shown to be better" in beside(ours, changed=True)[0]
    lenient = RULES.model_copy(update={"changed_recipe": "not_inferior"})
    assert beside(ours, changed=True, rules=lenient) == []


def test_what_must_be_shown_is_the_end_of_the_interval_and_not_the_mean() -> None:
    """Half of the users gain as much as the others lose: 1,000 of them, +-.0093 and +-.0155."""
    turns = pd.Series(np.tile([1.0, -1.0], len(USERS) // 2), USERS)
    slightly_better = BASE + 0.002 + 0.15 * turns
    assert beside(slightly_better) == [], "-.0073 is above the margin"
    assert "must be shown to be better" in beside(slightly_better, changed=True)[0]
    assert "less than 0.01 worse" in beside(BASE + 0.25 * turns)[0], "-.0155 is not"


def test_of_a_changed_recipe_only_the_lists_of_anything_must_be_better() -> None:
    ours = BASE + metric(0, seed=2, spread=0.02)
    found = gate.against_incumbent("new", ours, BASE, SLICES, RULES, changed=True)
    assert gate.blocking(gate.corrected(found, RULES)) == []


def test_a_changed_recipe_that_is_better_beyond_chance_passes() -> None:
    assert beside(BASE + metric(0.02, seed=2, spread=0.05), changed=True) == []


def test_shuffled_labels_are_refused_whether_the_recipe_changed_or_not() -> None:
    shuffled = metric(0.15, seed=3)
    for changed in (True, False):
        assert any("worse" in r or "better" in r for r in beside(shuffled, changed=changed))


def test_a_dropped_feature_that_costs_more_than_the_margin_is_refused() -> None:
    assert "less than 0.01 worse" in beside(BASE - 0.02 + metric(0, seed=4, spread=0.02))[0]


def test_one_broken_slice_is_refused_though_the_mean_is_fine() -> None:
    ours = BASE + 0.01
    ours[SLICES == "6-20"] -= 0.04
    assert abs((ours - BASE).mean()) < 0.01
    reasons = beside(ours)
    assert len(reasons) == 1 and "6-20 baskets" in reasons[0]


def test_a_slice_that_is_worse_by_less_than_the_margin_beyond_doubt_passes() -> None:
    ours = BASE.copy()
    ours[SLICES == "6-20"] -= 0.009
    assert beside(ours) == []


def test_a_slice_with_fewer_than_the_needed_users_is_reported_and_decides_nothing() -> None:
    ours = BASE.copy()
    ours[SLICES == "none"] -= 0.05
    found = gate.against_incumbent("all", ours, BASE, SLICES, RULES, changed=False)
    found = gate.corrected(found, RULES)
    small = next(c for c in found if c.subject == "all: none")
    assert small.outcome == "reported" and "100 users, 200 are needed" in small.text
    assert gate.blocking(found) == []


def slice_with(p_value: float, subject: str) -> Criterion:
    return Criterion(gate.SLICE, subject, "passed", "", value=p_value, users=500)


def test_slices_are_corrected_for_their_number_step_by_step() -> None:
    # Holm with three slices at .05: .010 <= .05/3, .024 <= .05/2, .06 > .05/1
    found = [slice_with(p, s) for p, s in ((0.024, "b"), (0.06, "c"), (0.010, "a"))]
    outcomes = {c.subject: c.outcome for c in gate.corrected(found, RULES)}
    assert outcomes == {"a": "failed", "b": "failed", "c": "passed"}
    # .020 > .05/3 stops everything, though .020 alone would be below .05
    found = [slice_with(p, s) for p, s in ((0.020, "a"), (0.021, "b"), (0.022, "c"))]
    assert gate.blocking(gate.corrected(found, RULES)) == []


def test_with_too_few_users_differences_are_reported_and_decide_nothing() -> None:
    few = USERS[:100]
    found = gate.against_incumbent(
        "all", BASE[few] - 0.2, BASE[few], SLICES[few], RULES, changed=False
    )
    assert gate.blocking(gate.corrected(found, RULES)) == []
    assert all("reported only" in c.text for c in found if c.outcome == "reported")


def test_a_gain_too_good_to_be_true_is_held_back() -> None:
    assert "found out why" in beside(BASE * 1.5)[0]


@pytest.mark.parametrize("first", [True, False])
def test_losing_to_something_simpler_blocks(first: bool) -> None:
    measured = Measured({"ours": BASE, "popularity_7d": BASE + 0.05}, SLICES)
    found = gate.against_simpler("all", measured, RULES, first=first)
    assert [c.subject for c in found] == ["all"]
    assert "against popularity_7d" in gate.blocking(found)[0]


def test_the_best_of_many_retrievers_blocks_a_later_release_and_is_reported_of_a_first() -> None:
    models = {"ours": BASE, "retriever: good": BASE + 0.001, "retriever: weak": BASE - 0.1}
    measured = Measured(models, SLICES)
    assert measured.best_retriever == "retriever: good"
    assert gate.blocking(gate.against_simpler("all", measured, RULES, first=True)) == []
    assert len(gate.blocking(gate.against_simpler("all", measured, RULES, first=False))) == 1
    assert gate.blocking(gate.against_simpler("new", measured, RULES, first=False)) == []


def test_what_is_published_instead_of_the_ranker_need_not_be_better_than_itself() -> None:
    measured = Measured({"ours": BASE, "retriever: good": BASE, "popularity_7d": BASE}, SLICES)
    found = gate.against_simpler("all", measured, RULES, first=False, stands_in=True)
    assert gate.blocking(found) == []
    assert len(gate.blocking(gate.against_simpler("all", measured, RULES, first=False))) > 0
    worse = Measured({"ours": BASE, "popularity_7d": BASE + 0.05}, SLICES)
    assert gate.blocking(gate.against_simpler("all", worse, RULES, first=False, stands_in=True))


def test_a_misspelt_model_in_must_beat_is_told_and_a_default_the_shop_lacks_is_not() -> None:
    measured: dict[Task, Measured] = {
        "all": Measured({"ours": BASE, "popularity_7d": BASE}, SLICES),
        "new": Measured({"ours": BASE}, SLICES),
    }
    assert gate.named_models_exist(measured, Gate(), ["ease"]) == []
    own = Gate(must_beat=["popularity_all", "popularity7d", "retriever: ease", "retriever: esae"])
    first, second = gate.blocking(gate.named_models_exist(measured, own, ["ease"]))
    assert "'popularity7d'" in first and "recsys scoreboard" in first
    assert "'retriever: esae'" in second


@pytest.mark.parametrize(
    ("n", "without", "fits"),
    [(50, 1, True), (50, 2, False), (101, 2, False), (300, 3, True), (300, 4, False)],
)
def test_one_user_of_a_small_shop_may_be_without_a_list(n: int, without: int, fits: bool) -> None:
    users = pd.Series([f"u{k}" for k in range(n)])
    lists = pd.DataFrame({"user_id": users[without:], "placement": "discover", "policy": "ranker"})
    found = gate.lists_are_fit(lists, users, ["discover"], Gate())
    assert [c.outcome for c in found] == ["passed" if fits else "failed"]
    strict = gate.lists_are_fit(lists, users, ["discover"], Gate(min_served=1.0))
    assert [c.outcome for c in strict] == ["failed"]


def test_a_shop_changes_one_margin_and_keeps_the_other() -> None:
    assert Gate(margin={"all": 0.02}).margin == {"all": 0.02, "new": 0.005}


def test_a_model_that_is_named_twice_is_asked_for_once() -> None:
    twice = Gate(must_beat=["popularity_7d", "best_retriever", "popularity_7d"])
    assert twice.must_beat == ["popularity_7d", "best_retriever"]


def test_baselines_that_a_shop_does_not_have_are_not_asked_for() -> None:
    assert gate.against_simpler("new", Measured({"ours": BASE}, SLICES), RULES, first=False) == []


def lists(items: dict[str, list[str]], policy: str = "ranker") -> pd.DataFrame:
    rows = [
        {"placement": "for_you", "user_id": u, "item_id": i, "rank": r, "policy": policy}
        for u, own in items.items()
        for r, i in enumerate(own, start=1)
    ]
    return pd.DataFrame(rows)


def test_users_without_a_list_and_golden_users_without_a_ranked_one_block() -> None:
    rules = RULES.model_copy(update={"golden_users": ["a", "b"]})
    shown = lists({"a": ["x"], "b": ["y"]})
    shown.loc[shown["user_id"] == "b", "policy"] = "fallback"
    found = gate.lists_are_fit(shown, pd.Series(["a", "b", "c", "d"]), ["for_you"], rules)
    assert [c.outcome for c in found] == ["failed", "failed"]
    assert "50.0% of users have a list" in found[0].text
    assert "1 of 2 golden users" in found[1].text


def test_coverage_and_churn_count_items_and_what_was_shown_before() -> None:
    before = lists({"a": ["1", "2", "3", "4"], "b": ["5", "6", "7", "8"]})
    after = lists({"a": ["1", "2", "9", "10"], "b": ["9", "10", "1", "2"]})
    coverage, churn = gate.lists_beside_served(after, before, RULES, "for_you", otherwise=False)
    assert coverage.value == 4 / 8
    assert churn.value == 2 / 8
    one = lists({"a": ["1"], "b": ["1"]})
    collapsed, _ = gate.lists_beside_served(one, before, RULES, "for_you", otherwise=False)
    assert collapsed.outcome == "failed"
    collapsed, _ = gate.lists_beside_served(one, before, RULES, "for_you", otherwise=True)
    assert collapsed.outcome == "reported" and "reported only" in collapsed.text


@pytest.mark.parametrize("otherwise", [False, True])
def test_lists_of_another_shops_users_are_held(otherwise: bool) -> None:
    before, after = lists({"a": ["1"], "b": ["2"]}), lists({"c": ["1"]})
    (found,) = gate.lists_beside_served(after, before, RULES, "for_you", otherwise=otherwise)
    assert (found.name, found.outcome) == ("same users", "failed")
    assert "of the 2 users who are shown a list none has one here" in found.text
    nothing_yet = gate.lists_beside_served(after, before[:0], RULES, "for_you", otherwise=otherwise)
    assert [c.name for c in nothing_yet] == ["coverage", "churn"]


def test_of_what_was_shown_before_as_much_of_a_list_is_looked_at_as_of_what_would_be() -> None:
    before = lists({"a": [str(n) for n in range(gate.HEAD + 2)]})
    coverage, churn = gate.lists_beside_served(
        lists({"a": ["10", "11"]}), before, RULES, "for_you", otherwise=False
    )
    assert coverage.value == 2 / gate.HEAD
    assert churn.value == 0, "the eleventh and the twelfth were not among the first ten"


def test_shifted_scores_block_the_same_recipe_and_are_reported_of_another() -> None:
    old, new = BASE.to_numpy(), BASE.to_numpy() + 1
    assert gate.scores_beside_served(old, old, RULES, changed=False).value == 0
    assert gate.scores_beside_served(new, old, RULES, changed=False).outcome == "failed"
    assert gate.scores_beside_served(new, old, RULES, changed=True).outcome == "reported"
    first = gate.scores_beside_served(new, old, RULES, changed=False, first_ranker=True)
    assert first.outcome == "reported" and "where fused places are served" in first.text
    unseen = gate.scores_beside_served(new, old, RULES, changed=False, stands_in=True)
    assert unseen.outcome == "reported" and "no list goes by them" in unseen.text


def test_equal_retrains_are_refused_at_most_rarely() -> None:
    refused = sum(bool(beside(BASE + metric(0, seed=100 + n, spread=0.08))) for n in range(30))
    assert refused <= 2


def test_there_is_no_lead_over_a_retriever_that_finds_nothing() -> None:
    assert Measured({"ours": BASE, "retriever: none": BASE * 0}, SLICES).lift is None
    assert Measured({"ours": BASE}, SLICES).lift is None
    half = Measured({"ours": BASE, "retriever: half": BASE / 2}, SLICES).lift
    assert half is not None and round(half, 9) == 2


def test_a_first_release_that_leads_what_is_simpler_by_too_much_is_held() -> None:
    models = {"ours": BASE * 2, "retriever: good": BASE * 1.9, "personal_frequency": BASE}
    measured = Measured(models, SLICES)
    plausible = gate.blocking(gate.lead_is_plausible(measured, RULES, repeats=False))
    assert plausible == [], "where nothing repeats, personal frequency is no yardstick"
    held = gate.blocking(gate.lead_is_plausible(measured, RULES, repeats=True))
    assert len(held) == 1 and "against personal_frequency" in held[0]
    models["retriever: good"] = BASE
    held = gate.blocking(gate.lead_is_plausible(Measured(models, SLICES), RULES, repeats=False))
    assert len(held) == 1 and "against retriever: good" in held[0]


@pytest.mark.parametrize(("habit", "held"), [(0.49, False), (0.51, True)])
def test_a_habit_that_says_little_is_no_yardstick(habit: float, held: bool) -> None:
    """Where repeats are rare, personal frequency is far below any retriever."""
    models = {"ours": BASE, "retriever: good": BASE, "personal_frequency": BASE * habit}
    found = gate.lead_is_plausible(Measured(models, SLICES), RULES, repeats=True)
    assert bool(gate.blocking(found)) == held
    del models["retriever: good"]
    assert gate.blocking(gate.lead_is_plausible(Measured(models, SLICES), RULES, repeats=True))


def test_a_single_feature_that_tells_the_label_is_held_and_named() -> None:
    assert gate.feature_is_plausible("score_ease", 0.81, 300, RULES).outcome == "passed"
    held = gate.feature_is_plausible("score_peek", 0.99, 300, RULES)
    assert held.outcome == "failed" and "score_peek" in held.text
    assert gate.feature_is_plausible("score_peek", 0.99, 30, RULES).outcome == "reported"
    many = Gate(min_users=400)
    assert gate.feature_is_plausible("score_peek", 0.99, 300, many).outcome == "failed"
    assert gate.feature_is_plausible("score_peek", 0.99, 299, many).outcome == "reported"


def test_a_catalogue_of_what_sold_is_held() -> None:
    assert gate.catalogue_is_plausible(26_000, 2_639, RULES).outcome == "passed"
    assert gate.catalogue_is_plausible(2_639, 2_639, RULES).outcome == "failed"
    assert gate.catalogue_is_plausible(3, 3, RULES).outcome == "reported"
