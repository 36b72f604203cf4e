"""Cold items: an enrichment that says something is found to help, one that says nothing is not."""

import json

import numpy as np
import pandas as pd
import pytest

from recsys_assets.evaluation import cold_items
from recsys_assets.evaluation import report as page
from recsys_assets.evaluation.cold_items import ColdSet, EnrichmentUses, UseVerdict
from recsys_assets.retrieval.contract import EventLog, hidden_items
from recsys_assets.retrieval.newcomers import Newcomers
from tests.retrieval.shop import events

AS_OF = pd.Timestamp("2020-03-01", tz="UTC")
N = 240
"""Items; the second half is cold. Every item is for one of two tastes, which its category does not
say and its keywords do."""


def items() -> pd.DataFrame:
    ids = [f"i{n:03}" for n in range(N)]
    return pd.DataFrame(
        {
            "item_id": ids, "category_1": "a", "category_2": "b", "category_3": "c", "brand": "m",
            "group_id": ids, "text": [f"text {n}" for n in range(N)],
            "available_from": pd.NaT, "available_to": pd.NaT,
        }
    )  # fmt: skip


def log() -> EventLog:
    rng = np.random.default_rng(1)
    rows = [
        (f"u{u:02}", f"i{2 * int(i) + u % 2:03}", round(age))
        for u in range(60)
        for i, age in zip(rng.integers(0, N // 4, 20), rng.uniform(1, 60, 20), strict=True)
    ]
    return EventLog.from_frames(events(rows, AS_OF), items(), AS_OF)


def later() -> pd.DataFrame:
    """Everybody then takes two cold items of their taste."""
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        [
            (f"u{u:02}", f"i{N // 2 + 2 * int(i) + u % 2:03}")
            for u in range(60)
            for i in rng.integers(0, N // 4, 2)
        ],
        columns=["user_id", "item_id"],
    )


def enrichment() -> pd.DataFrame:
    empty = json.dumps([])
    told = [json.dumps([f"taste{n % 2}"]) for n in range(N)]
    return pd.DataFrame(
        {
            "text": [f"text {n}" for n in range(N)], "type": "c", "audience": empty, "uses": empty,
            "comparable_types": empty, "keywords": told, "appeal": empty, "complements": empty,
        }
    )  # fmt: skip


RELATIONS = pd.DataFrame(
    [("c", "audience", "pets=yes", 2.0), ("c", "complement", "c", 2.0)],
    columns=["type", "relation", "value", "lift"],
)
USERS = pd.DataFrame({"user_id": ["u00", "u01"], "attributes": ['{"pets": "yes"}', "{}"]})


@pytest.fixture(scope="module")
def found() -> dict[str, pd.DataFrame]:
    past = log()
    given = EnrichmentUses.of(past, items(), enrichment(), RELATIONS, USERS)
    where = ColdSet.of(past, later())
    return cold_items.measure(
        where, Newcomers().fit(past), given.fit(past), cold_items.grid(), depths=(20,)
    )[0]


def test_a_use_helps_only_where_it_finds_more_beyond_noise(found: dict[str, pd.DataFrame]) -> None:
    decided = {v.use: v for v in cold_items.verdicts(found, draws=200, seed=0)}
    assert decided["keywords"].helps and decided["keywords"].gain > 0.05
    silent = [v for use, v in decided.items() if use != "keywords"]
    assert {v.gain for v in silent} == {0.0} and not any(v.helps for v in silent)
    assert {v.weight for v in silent} == {min(cold_items.WEIGHTS)}
    assert "keywords found more" in cold_items.conclusion(list(decided.values()))
    assert "it is off" in cold_items.conclusion(silent)


def test_the_audience_speaks_to_users_with_the_trait_alone() -> None:
    past = log()
    given = EnrichmentUses.of(past, items(), enrichment(), RELATIONS, USERS).fit(past)
    moved = given["audience"].scores(past.user_codes(["u00", "u01"]))
    assert moved[0] == pytest.approx(np.log(2.0)) and not moved[1].any()


def test_a_shop_that_knows_no_relations_is_measured_without_them() -> None:
    past = log()
    given = EnrichmentUses.of(past, items(), enrichment(), RELATIONS[:0], USERS).fit(past)
    users = past.user_codes(["u00"])
    assert not given["audience"].scores(users).any()
    assert not given["complements"].scores(users).any()


def test_hidden_items_are_measured_among_themselves() -> None:
    past, full = log(), items()
    warm = pd.Index(past.items[past.columns[: past.n_warm]])
    gone = hidden_items(warm, 0.2, seed=3)
    bought = pd.DataFrame({"user_id": "u00", "item_id": [*gone[:2], full["item_id"].iloc[-1]]})
    rows = [*zip(past.users[past.user], past.items[past.item], past.day.round(), strict=True)]
    less = EventLog.from_frames(events(rows, AS_OF), full, AS_OF, gone)
    where = ColdSet.of(less, bought, gone)
    assert set(where.relevant["item_id"]) == set(gone[:2])
    given = EnrichmentUses.of(less, full, enrichment(), RELATIONS, USERS)
    _, lists = cold_items.measure(where, Newcomers().fit(less), given.fit(less), {})
    assert set(lists[cold_items.TWINS]["item_id"]) == set(gone)


def test_a_cold_slot_takes_the_last_place_and_repeats_nothing() -> None:
    lists = pd.DataFrame(
        [("u", "a", 1), ("u", "x", 2), ("u", "c", 3), ("v", "a", 1)],
        columns=["user_id", "item_id", "rank"],
    )
    cold = pd.DataFrame([("u", "x", 1), ("u", "y", 2)], columns=["user_id", "item_id", "rank"])
    made = cold_items.with_a_cold_slot(lists, cold, k=3).sort_values(["user_id", "rank"])
    assert made["item_id"].tolist() == ["a", "x", "y", "a"]


def test_the_page_shows_each_difference_beside_its_value() -> None:
    per_user = {
        "base": pd.DataFrame({"recall@20": [0.0, 0.5]}, index=["u", "v"]),
        "more": pd.DataFrame({"recall@20": [0.5, 0.5]}, index=["u", "v"]),
    }
    rows = pd.concat(cold_items.summary(per_user, {"more": "base"}, draws=50, seed=0))
    html = page.comparison_table(rows)
    assert html.count("<tr>") == 3 and "0.5000" in html and "+0.2500" in html


def test_a_verdict_says_what_it_rests_on() -> None:
    said = UseVerdict("keywords", 0.3, 0.01, -0.001, 0.02).sentence
    assert said.startswith("no gain beyond noise: recall@20 +0.0100 (-0.0010 to +0.0200) on tune")
