"""Business rules on lists small enough to work out by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_assets.collaborative.tables import BOUGHT_TOGETHER
from recsys_assets.content.vectors import TEXT_VECTORS
from recsys_assets.core.assets import Project
from recsys_assets.core.settings.lists import Exploration, RuleSettings
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.ranking import lists
from recsys_assets.ranking.list_assets import popular_recommendations
from recsys_assets.ranking.lists import apply_rules, lists_to_depth
from recsys_assets.ranking.placements import repeated_after_all, unmatched
from recsys_assets.ranking.rules import Rules, check_lists
from recsys_assets.ranking.tables import RECOMMENDATIONS
from tests.enrichment.shop import Shelf, fill, store

AS_OF = pd.Timestamp("2017-12-04", tz="UTC")


def catalogue(**columns: list[object]) -> pd.DataFrame:
    """Ten items i0..i9, all plain; named columns replace the defaults from i0 on."""
    n = 10
    frame = pd.DataFrame(
        {
            "item_id": [f"i{k}" for k in range(n)],
            "category_1": "FOOD",
            "category_2": [f"C{k}" for k in range(n)],
            "category_3": "",
            "group_id": [f"g{k}" for k in range(n)],
            "status": "active",
            "market": "",
            "available_from": pd.Series(pd.NaT, index=range(n), dtype="datetime64[us, UTC]"),
            "available_to": pd.Series(pd.NaT, index=range(n), dtype="datetime64[us, UTC]"),
        }
    )
    for name, values in columns.items():
        for row, value in enumerate(values):
            frame.loc[row, name] = value
    return frame


def scored(scores: dict[str, dict[str, float]]) -> pd.DataFrame:
    rows = [(u, i, s) for u, items in scores.items() for i, s in items.items()]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "score"])


FALLING = scored({"u": {f"i{k}": 10.0 - k for k in range(10)}})


def shown(
    items: pd.DataFrame, rules: Rules, candidates: pd.DataFrame = FALLING, **given_: Any
) -> list[str]:
    lists = apply_rules(candidates, items, rules, as_of=AS_OF, **given_)
    checks = {name: given_[name] for name in ("taken",) if name in given_}
    assert check_lists(lists, items, rules, as_of=AS_OF, allowed_short=1.0, **checks) == []
    return lists["item_id"].tolist()


def test_lists_follow_the_score_and_ties_follow_the_item_id() -> None:
    candidates = scored({"u": {"i2": 1.0, "i1": 1.0, "i3": 2.0}})
    assert shown(catalogue(), Rules(length=3), candidates) == ["i3", "i1", "i2"]


def test_rules_that_name_nothing_of_the_catalogue_are_told() -> None:
    configured = RuleSettings(
        exclude_items=["i2", "i22"],
        exclude_categories=["food", "Fod"],
        sensitive_categories=["c3", "C33"],
    )
    assert unmatched(configured, catalogue()) == [
        "rules.exclude_categories: no category of the catalogue is called 'Fod'",
        "rules.sensitive_categories: no category of the catalogue is called 'C33'",
        "rules.exclude_items: no item of the catalogue has the id 'i22'",
    ]
    assert unmatched(RuleSettings(), catalogue()) == []


def test_a_shop_that_says_nothing_repeats_is_told_where_much_does(project: Project) -> None:
    known = pd.DataFrame(
        [
            ("u", "bread", "2024-01-01", True),
            ("u", "bread", "2024-01-01", True),  # twice on one day is one taking
            ("u", "bread", "2024-01-02", True),
            ("v", "bread", "2024-01-02", True),
            ("v", "milk", "2024-01-03", False),  # a look is none
            ("v", "milk", "2024-01-04", True),
        ],
        columns=["user_id", "item_id", "event_time", "counts_as_taken"],
    )
    known["event_time"] = pd.to_datetime(known["event_time"], utc=True)
    once = project.shop.model_copy(update={"repeats": False})
    assert repeated_after_all(known, once)[0].startswith("repeats: 25% of what people took")
    assert repeated_after_all(known.drop_duplicates("item_id"), once) == []
    assert repeated_after_all(known.iloc[:0], once) == []
    assert repeated_after_all(known, project.shop) == []


def test_excluded_items_and_categories_of_any_level_are_not_shown() -> None:
    items = catalogue(category_1=["ALCOHOL"], category_3=["", "beer"])
    rules = Rules(
        length=2, exclude_items=frozenset({"i2"}), exclude_categories=frozenset({"alcohol", "BEER"})
    )
    assert shown(items, rules) == ["i3", "i4"]


def test_what_is_not_available_at_the_cutoff_or_in_the_market_is_not_shown() -> None:
    day = pd.Timedelta(days=1)
    items = catalogue(
        status=["inactive"],
        available_from=[pd.NaT, AS_OF + day, AS_OF],
        available_to=[pd.NaT, pd.NaT, pd.NaT, AS_OF, AS_OF + day],
        market=["", "", "", "", "", "north", "south"],
    )
    assert shown(items, Rules(length=4, markets=frozenset({"south"}))) == ["i2", "i4", "i6", "i7"]


def test_one_variant_per_group_and_at_most_n_per_category() -> None:
    items = catalogue(group_id=["twin", "twin"], category_2=["C", "C", "C", "C", "C"])
    assert shown(items, Rules(length=4, max_per_category=2)) == ["i0", "i2", "i5", "i6"]
    assert shown(items, Rules(length=3, one_per_group=False)) == ["i0", "i1", "i2"]


def test_at_most_n_variants_where_one_per_group_is_off() -> None:
    items = catalogue(group_id=["flavour", "flavour", "flavour"])
    rules = Rules(length=3, one_per_group=False, max_per_group=2)
    assert shown(items, rules) == ["i0", "i1", "i3"]


def test_a_variant_steps_in_where_the_category_of_a_better_one_is_full() -> None:
    items = catalogue(group_id=["a", "twin", "twin"], category_2=["C", "C", "D"])
    assert shown(items, Rules(length=3, max_per_category=1)) == ["i0", "i2", "i3"]


def test_items_without_group_or_category_are_not_limited() -> None:
    items = catalogue(group_id=[""] * 10, category_1=[""] * 10, category_2=[""] * 10)
    assert shown(items, Rules(length=3, max_per_category=1)) == ["i0", "i1", "i2"]


def test_a_catalogue_of_one_level_is_limited_by_it() -> None:
    items = catalogue(category_1=["C"] * 8 + ["D", "E"], category_2=[""] * 10)
    assert shown(items, Rules(length=3, max_per_category=1)) == ["i0", "i8", "i9"]


def test_a_list_that_variants_would_starve_looks_beyond_the_pool() -> None:
    items = catalogue(category_2=["C"] * 8)
    assert shown(items, Rules(length=3, max_per_category=1, pool=3)) == ["i0", "i8", "i9"]


def test_discover_never_shows_what_the_user_took_even_from_the_fallback() -> None:
    taken = pd.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["i0", "i8", "i1"]})
    candidates = scored({"u": {"i0": 2.0, "i1": 1.0}})
    fallback = pd.DataFrame({"item_id": ["i8", "i9"], "score": [2.0, 1.0]})
    rules = Rules(length=2, exclude_taken=True)
    assert shown(catalogue(), rules, candidates, taken=taken, fallback=fallback) == ["i1", "i9"]


def test_unknown_users_get_the_fallback_in_its_order_and_it_never_outranks_candidates() -> None:
    candidates = scored({"known": {"i5": -100.0, "i6": -200.0}})
    fallback = pd.DataFrame({"item_id": ["i1", "i2", "i5"], "score": [5.0, 9.0, 1.0]})
    lists = apply_rules(
        candidates,
        catalogue(),
        Rules(length=3),
        as_of=AS_OF,
        fallback=fallback,
        users=pd.Index(["stranger", "known"]),
    )
    assert lists[["user_id", "item_id", "policy"]].to_numpy().tolist() == [
        ["known", "i5", "ranker"],
        ["known", "i6", "ranker"],
        ["known", "i2", "fallback"],
        ["stranger", "i2", "fallback"],
        ["stranger", "i1", "fallback"],
        ["stranger", "i5", "fallback"],
    ]


def test_short_lists_are_filled_some_users_at_a_time_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidates = scored({f"u{n}": {f"i{n % 4}": 2.0, "i8": 1.0} for n in range(1, 6)})
    fallback = pd.DataFrame({"item_id": [f"i{k}" for k in range(8)], "score": range(8, 0, -1)})
    taken = pd.DataFrame({"user_id": ["u0", "u2", "u6"], "item_id": ["i0", "i1", "i2"]})

    def made() -> pd.DataFrame:
        return apply_rules(
            candidates, catalogue(category_2=["C"] * 3), as_of=AS_OF, taken=taken,
            fallback=fallback, users=pd.Index([f"u{n}" for n in range(7)]),
            rules=Rules(length=5, exclude_taken=True, max_per_category=1, exploration_rate=0.5),
        )  # fmt: skip

    whole = made()
    monkeypatch.setattr(lists, "_REFILLED", 2)
    pd.testing.assert_frame_equal(made(), whole, check_exact=True)
    assert (whole.groupby("user_id").size() == 5).all()


def test_marginal_relevance_prefers_a_different_item_to_a_slightly_better_double() -> None:
    ids = np.array([f"i{k}" for k in range(3)], dtype=object)
    vectors = ItemVectors(ids, np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32))
    candidates = scored({"u": {"i0": 1.0, "i1": 0.9, "i2": 0.0}})
    items = catalogue()
    assert shown(items, Rules(length=3, mmr_lambda=0.9), candidates, vectors=vectors) == [
        "i0",
        "i1",
        "i2",
    ]
    # .5 * .9 - .5 * 1 = -.05 for the double, .5 * 0 - .5 * 0 = 0 for the other
    assert shown(items, Rules(length=3, mmr_lambda=0.5), candidates, vectors=vectors) == [
        "i0",
        "i2",
        "i1",
    ]


def test_marginal_relevance_compares_with_the_whole_list_and_not_with_the_last_row() -> None:
    ids = np.array([f"i{k}" for k in range(4)], dtype=object)
    axes = np.eye(3, dtype=np.float32)
    vectors = ItemVectors(ids, axes[[0, 1, 0, 2]])
    candidates = scored({"u": {"i0": 1.0, "i1": 0.95, "i2": 0.9, "i3": 0.0}})
    rules = Rules(length=3, mmr_lambda=0.5)
    assert shown(catalogue(), rules, candidates, vectors=vectors) == ["i0", "i1", "i3"]


def test_what_is_popular_is_varied_too_where_the_shop_wants_lists_that_vary(
    project: Project,
) -> None:
    kinds = ["MILK", "MILK", "BREAD"]  # texts of one kind are alike
    fill(project, Shelf([(f"thing {n}", kind) for n, kind in enumerate(kinds)], sold=2))
    store(project, BOUGHT_TOGETHER, BOUGHT_TOGETHER.empty().to_pandas())
    row = {"placement": "for_you", "user_id": "household-0", "rank": 1, "item_id": "i0000",
           "score": 1.0, "retrievers": "", "reason": "r", "reason_code": "plain",
           "reason_evidence": "{}", "build_id": "b", "policy": "ranker", "propensity": 1.0,
           "as_of": pd.Timestamp("2024-01-08", tz="UTC")}  # fmt: skip
    store(project, RECOMMENDATIONS, pd.DataFrame([row]))
    tables = ("interactions", "items", "cutoffs", "recommendations", "bought_together")
    text_vectors = {name: project.lake.served(name) for name in TEXT_VECTORS}
    drawn = Exploration(rate=1.0, position=1)  # of one list for many people no draw is made
    rules = RuleSettings(diversity_lambda=0.3, exploration=drawn)
    shop = project.shop.model_copy(update={"rules": rules})
    made = popular_recommendations.compute(*map(project.lake.served, tables), text_vectors, shop)
    shown = made[made["placement"] == "for_you"]["item_id"]
    assert shown.tolist() == ["i0000", "i0002", "i0001"]
    assert set(zip(made["policy"], made["propensity"], strict=True)) == {("fallback", 1.0)}


def test_a_fresh_item_is_lifted_by_its_remaining_freshness() -> None:
    items = catalogue(available_from=[pd.NaT, AS_OF - pd.Timedelta(days=5)])
    candidates = scored({"u": {"i0": 1.0, "i1": 0.8, "i2": 0.0}})
    lifted = Rules(length=2, freshness_days=10, freshness_weight=0.5)  # .8 + .5 * .5 > 1
    assert shown(items, lifted, candidates) == ["i1", "i0"]
    assert shown(items, replace(lifted, freshness_weight=0.3), candidates) == ["i0", "i1"]


def explored(rate: float) -> pd.DataFrame:
    users = [f"u{n:04d}" for n in range(2000)]
    candidates = pd.concat([FALLING.assign(user_id=user) for user in users])
    rules = Rules(length=3, exploration_rate=rate, seed=5)
    return apply_rules(candidates, catalogue(), rules, as_of=AS_OF)


def test_exploration_draws_evenly_for_its_share_of_users_and_logs_that_chance() -> None:
    lists = explored(0.2)
    slot = lists[lists["rank"] == 3]
    assert (slot["policy"] == "explore").mean() == pytest.approx(0.2, abs=0.03)
    assert (lists.loc[lists["rank"] < 3, "propensity"] == 1.0).all()
    own = slot["item_id"] == "i2"
    assert slot.loc[own, "propensity"].unique() == pytest.approx([0.8 + 0.2 / 8])
    assert slot.loc[~own, "propensity"].unique() == pytest.approx([0.2 / 8])
    # Inverse propensities estimate the number of eligible items, which is what makes them useful.
    assert (1 / slot["propensity"]).mean() == pytest.approx(8, rel=0.25)
    assert slot.loc[~own, "item_id"].nunique() == 7


def test_what_is_measured_deeper_begins_with_what_is_shown() -> None:
    """Of a pool of two, diversity can only take i0 and its double i1; of four, the third would be
    taken before the double. Behind what is shown follows what a longer list would hold."""
    ids = np.array([f"i{k}" for k in range(4)], dtype=object)
    axes = np.eye(3, dtype=np.float32)
    near = ItemVectors(ids, axes[[0, 0, 1, 2]])
    candidates = scored({u: {"i0": 1.0, "i1": 0.9, "i2": 0.8, "i3": 0.0} for u in ("u", "v")})
    rules = Rules(length=2, pool=2, mmr_lambda=0.5)
    deep = lists_to_depth(candidates, catalogue(), rules, 4, as_of=AS_OF, vectors=near)
    assert deep.groupby("user_id")["item_id"].agg(list).to_dict() == {
        "u": ["i0", "i1", "i2", "i3"], "v": ["i0", "i1", "i2", "i3"],
    }  # fmt: skip
    assert deep["rank"].tolist() == [1, 2, 3, 4] * 2
    at_once = apply_rules(
        candidates, catalogue(), replace(rules, length=4, pool=4), as_of=AS_OF, vectors=near
    )
    assert at_once["item_id"].tolist()[:2] == ["i0", "i2"]

    exploring = Rules(length=3, exploration_rate=1.0, seed=5)
    served = apply_rules(FALLING, catalogue(), exploring, as_of=AS_OF)["item_id"].tolist()
    deep = lists_to_depth(FALLING, catalogue(), exploring, 6, as_of=AS_OF)["item_id"].tolist()
    assert deep[:3] == served
    assert deep[3:] == [i for i in (f"i{k}" for k in range(8)) if i not in served][:3]

    plain = Rules(length=3, max_per_category=1)
    assert lists_to_depth(FALLING, catalogue(), plain, 6, as_of=AS_OF)["item_id"].tolist() == [
        f"i{k}" for k in range(6)
    ]
    assert len(lists_to_depth(FALLING, catalogue(), plain, 2, as_of=AS_OF)) == 2


def test_without_exploration_every_row_is_certain() -> None:
    lists = explored(0.0)
    assert set(lists["policy"]) == {"ranker"}
    assert (lists["propensity"] == 1.0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mmr_lambda": 1.5}, "mmr_lambda"),
        ({"length": 10, "exploration_position": 11}, "exploration_position"),
    ],
)
def test_a_rule_out_of_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**values)


@pytest.mark.parametrize(
    "candidates",
    [
        scored({"u": {"unknown": 1.0}}),
        scored({"u": {"i0": math.nan}}),
        pd.concat([FALLING, FALLING]),
    ],
    ids=["not in the catalogue", "NaN score", "pair twice"],
)
def test_candidates_that_cannot_be_ranked_are_refused(candidates: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"catalogue|finite|more than once"):
        apply_rules(candidates, catalogue(), Rules(), as_of=AS_OF)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=10, max_size=10),
    st.lists(st.integers(0, 5), min_size=10, max_size=10),
    st.lists(st.floats(-5, 5), min_size=30, max_size=30),
    st.sampled_from([1.0, 0.6, 0.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_whatever_the_scores_the_finished_lists_break_no_rule(
    categories: list[int],
    groups: list[int],
    scores: list[float],
    mmr_lambda: float,
    exploration_rate: float,
) -> None:
    items = catalogue(category_2=[f"C{c}" for c in categories], group_id=[f"g{g}" for g in groups])
    users = ["u", "v", "w"]
    pairs = [(user, f"i{k}") for user in users for k in range(10)]
    candidates = pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(score=scores)
    taken = candidates[["user_id", "item_id"]][::4]
    angles = np.arange(10.0)
    vectors = ItemVectors(
        items["item_id"].to_numpy(dtype=object),
        np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32),
    )
    rules = Rules(
        length=3,
        max_per_category=2,
        exclude_taken=True,
        exclude_items=frozenset({"i3"}),
        mmr_lambda=mmr_lambda,
        exploration_rate=exploration_rate,
        pool=4,
    )
    lists = apply_rules(candidates, items, rules, as_of=AS_OF, taken=taken, vectors=vectors)
    assert check_lists(lists, items, rules, as_of=AS_OF, taken=taken, allowed_short=1.0) == []
    shuffled = apply_rules(
        candidates.sample(frac=1, random_state=1),
        items.sample(frac=1, random_state=2),
        rules,
        as_of=AS_OF,
        taken=taken,
        vectors=vectors,
    )
    pd.testing.assert_frame_equal(lists, shuffled)


GOOD = pd.DataFrame({"user_id": ["u", "u"], "rank": [1, 2], "item_id": ["i0", "i1"]})


@pytest.mark.parametrize(
    ("rule", "lists", "items", "rules"),
    [
        ("has_list", GOOD.assign(user_id="other"), catalogue(), Rules(length=2)),
        ("enough_items", GOOD[:1], catalogue(), Rules(length=2)),
        ("not_longer", GOOD, catalogue(), Rules(length=1)),
        ("rank_contiguous", GOOD.assign(rank=[1, 3]), catalogue(), Rules(length=2)),
        ("no_repeats", GOOD.assign(item_id="i0"), catalogue(), Rules(length=2)),
        ("in_catalogue", GOOD.assign(item_id=["i0", "??"]), catalogue(), Rules(length=2)),
        (
            "not_excluded_item",
            GOOD,
            catalogue(),
            Rules(length=2, exclude_items=frozenset({"i1"})),
        ),
        (
            "not_excluded_category",
            GOOD,
            catalogue(category_2=["SPIRITS"]),
            Rules(length=2, exclude_categories=frozenset({"Spirits"})),
        ),
        ("available", GOOD, catalogue(status=["inactive"]), Rules(length=2)),
        ("not_taken_before", GOOD, catalogue(), Rules(length=2, exclude_taken=True)),
        ("max_per_group", GOOD, catalogue(group_id=["g", "g"]), Rules(length=2)),
        (
            "max_per_category",
            GOOD,
            catalogue(category_2=["C", "C"]),
            Rules(length=2, max_per_category=1),
        ),
        ("policy_known", GOOD.assign(policy="magic"), catalogue(), Rules(length=2)),
        ("propensity_in_range", GOOD.assign(propensity=[1.0, 0.0]), catalogue(), Rules(length=2)),
    ],
)
def test_the_check_names_the_broken_rule(
    rule: str, lists: pd.DataFrame, items: pd.DataFrame, rules: Rules
) -> None:
    taken = pd.DataFrame({"user_id": ["u"], "item_id": ["i1"]})
    found = check_lists(lists, items, rules, as_of=AS_OF, taken=taken, users=pd.Index(["u"]))
    assert rule in [violation.rule for violation in found]


def test_only_who_took_everything_on_offer_may_be_without_a_list() -> None:
    items, rules = catalogue(status=["inactive"]), Rules(length=1, exclude_taken=True)
    took = pd.DataFrame(
        [(user, f"i{k}") for user, n in (("all", 10), ("most", 9)) for k in range(n)],
        columns=["user_id", "item_id"],
    )
    lists = apply_rules(FALLING, items, rules, as_of=AS_OF, taken=took)
    found = check_lists(
        lists, items, rules, as_of=AS_OF, taken=took, users=pd.Index(["u", "all", "most"]),
        allowed_short=0.0,
    )  # fmt: skip
    assert [(v.rule, v.count) for v in found] == [("has_list", 1), ("enough_items", 1)]
    assert "of 2 users" in found[1].detail, "i9 was left for `most`"


def test_who_is_owed_no_list_may_have_a_short_one_but_none_that_is_too_long() -> None:
    rules = Rules(length=2)
    lists = apply_rules(FALLING, catalogue(), rules, as_of=AS_OF)
    more = {"items": catalogue(), "as_of": AS_OF, "users": pd.Index([])}
    assert check_lists(lists, rules=rules, **more) == []
    assert check_lists(lists[:1], rules=rules, **more) == []
    found = check_lists(lists, rules=Rules(length=1), **more)
    assert [(v.rule, v.count) for v in found] == [("not_longer", 1)]


def test_good_lists_pass_the_check() -> None:
    rules = Rules(length=2, max_per_category=1)
    assert check_lists(GOOD, catalogue(), rules, as_of=AS_OF, users=pd.Index(["u"])) == []
