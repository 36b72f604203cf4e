"""Evidence is said in words that a user understands, and adds up to the ranker's score."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.config import load_shop, packaged_shop
from recsys_assets.core.lake import Lake, Snapshot, VersionKey, part_name
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking.evidence import (
    NOTHING_THERE,
    RETRIEVERS,
    WITHOUT_HISTORY,
    Contribution,
    Evidence,
    NoContributionsError,
    Theme,
    _not_on_offer,
    _words_for,
    collect,
    recompute,
    themes,
)
from recsys_assets.ranking.features import AGREEMENT, FEATURE_TABLES, FEATURES
from recsys_assets.ranking.grounding import check
from recsys_assets.ranking.ranker import RankerModel
from recsys_assets.retrieval.registry import KINDS
from tests.stored import KEY, stored


def test_every_kind_of_retriever_has_words() -> None:
    assert set(KINDS) <= set(RETRIEVERS)


def test_contributions_add_up_by_what_their_features_look_at() -> None:
    made = [
        Contribution("ui_days", "", 3.0, 0.5),
        Contribution("ui_last_days", "", 9.0, -0.2),
        Contribution("score_ease_new", "", 0.1, 0.4),
        Contribution("place_best", "", 1.0, -0.1),
        Contribution("rank_ease_new", "", None, 0.3),
    ]
    found = themes(made, lambda retriever: f"words for {retriever}")
    assert [t.text for t in found] == [
        "words for ease_new",
        "your own history with it",
        "how well all searches agree on it",
    ]
    assert [t.amount for t in found] == pytest.approx([0.7, 0.3, -0.1])


def test_every_feature_has_a_theme() -> None:
    made = [Contribution(name, "", 1.0, 1.0) for name in (*FEATURES, *AGREEMENT)]
    assert sum(t.amount for t in themes(made, str)) == len(made)


def test_a_history_that_is_not_there_speaks_for_nothing() -> None:
    made = [
        Contribution("ui_seen", "", 0.0, 0.5),
        Contribution("ui_last_days", "", None, 0.2),
        Contribution("score_als", "", None, 0.1),
        Contribution("score_frequency", "", 0.0, 0.1),
        Contribution("place_frequency", "", 7.0, 0.1),
        Contribution("uc_days_28", "", 0.0, 0.1),
        Contribution("uc_days_84", "", 2.0, 0.1),
    ]
    summed = themes(made, lambda retriever: f"words for {retriever}")
    assert {t.text: round(t.amount, 6) for t in summed} == {
        NOTHING_THERE: 1.0,
        "your history with its category": 0.2,
    }
    found = evidence(themes=summed)
    assert found.in_favour == ("your history with its category",)
    assert not any("nothing to look at" in text for text in found.texts)


def evidence(**more: object) -> Evidence:
    fields: dict[str, object] = {
        "title": "Whole Milk 1 Gal",
        "category": "MILK",
        "placement": "for_you",
        "rank": 1,
        "policy": "ranker",
        "reason": "You bought this 3 times, about every 9 days; last time 11 days ago",
        "reason_code": "repeat",
        "sensitive": False,
        **more,
    }
    return Evidence(**fields)  # type: ignore[arg-type]


def test_the_plain_sentence_keeps_to_its_own_evidence() -> None:
    words = {*RETRIEVERS.values(), *WITHOUT_HISTORY.values()}
    for text in words | {*(t.text for t in themes(_all(), str))}:
        found = evidence(themes=(Theme(text, 0.5), Theme("how you shop in general", -0.9)))
        assert found.sentence.endswith(f"What speaks for it most: {text}.")
        assert check(found.sentence, found.texts) == []


def _all() -> list[Contribution]:
    return [Contribution(name, "", 1.0, 1.0) for name in FEATURES]


def test_of_a_sensitive_item_nothing_is_said() -> None:
    found = evidence(
        title="Gin", category="SPIRITS", reason="A suggestion for you", sensitive=True,
        themes=(Theme("your history with its category", 1.0),),
    )  # fmt: skip
    assert found.sentence == "A suggestion for you."
    assert found.texts == ("A suggestion for you",)


def test_the_default_shop_explains_each_of_its_retrievers() -> None:
    shop = load_shop(packaged_shop())
    from recsys_assets.ranking.evidence import _in_words

    for name, retriever in shop.retrieval.items():
        if retriever.enabled:
            assert not _in_words(shop, name).startswith("the search")


def test_a_list_of_a_version_with_other_features_is_not_explained(tmp_path: Path) -> None:
    moment = pd.DatetimeIndex(["2024-02-01"], tz="UTC").as_unit("us")[0]
    model = RankerModel("all", ("tree",), tuple(FEATURES)[1:], {}, {}, {})
    lake = Lake(tmp_path)

    def put(name: str, inputs: tuple[str, ...] = (), **columns: list[object]) -> None:
        key = replace(KEY, inputs={i: tables[i].content_id for i in inputs})
        tables[name] = stored(lake, name, {part_name(moment): pa.table(columns)}, key=key)

    tables: dict[str, Snapshot] = {}
    pair: dict[str, list[object]] = {"as_of": [moment], "user_id": ["u"], "item_id": ["i"]}
    put("candidates", **pair)
    put("items", item_id=["i"], category_1=["a"], category_2=[""], category_3=[""],
        brand=[""], group_id=[""])  # fmt: skip
    put("rankers", target=["live"], task=["all"], model=[model.to_json()])
    for name in FEATURE_TABLES:
        put(name, **pair)
    inputs = ("candidates", "items", "rankers", *FEATURE_TABLES)
    put("scored_candidates", inputs, **pair, score_all=[1.0])
    put("recommendations", ("scored_candidates",), **pair)
    with pytest.raises(NoContributionsError, match="reads other features than this version"):
        recompute(tables.__getitem__, Warehouse(), "u", "i", moment, "for_you")


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("sold", ""),
        ("old", "it is not on offer: its status is inactive"),
        ("new", "it is not on offer before 2024-03-01"),
        ("ended", "it is not available since 2024-01-15"),
        ("typo", "the catalogue these lists were made from does not have it"),
    ],
)
def test_an_item_that_is_not_on_offer_is_told_so(tmp_path: Path, item: str, why: str) -> None:
    moment = pd.DatetimeIndex(["2024-02-01"], tz="UTC").as_unit("us")[0]
    items = pa.table(
        {
            "item_id": ["sold", "old", "new", "ended"],
            "status": ["active", "inactive", "active", "active"],
            "available_from": [None, None, pd.Timestamp("2024-03-01", tz="UTC"), None],
            "available_to": [None, None, None, pd.Timestamp("2024-01-15", tz="UTC")],
        }
    )
    assert _not_on_offer(stored(Lake(tmp_path), "items", items), item, moment) == why


def test_of_somebody_who_took_nothing_no_likeness_to_what_they_took_is_told(tmp_path: Path) -> None:
    moment = pd.DatetimeIndex(["2024-02-01"], tz="UTC").as_unit("us")[0]
    lake = Lake(tmp_path)
    texts = [f"category_{n}" for n in (1, 2, 3)]
    listed: dict[str, list[object]] = {
        "placement": ["for_you", "for_you"], "user_id": ["old", "new"], "item_id": ["i", "i"],
        "rank": [1, 1], "policy": ["ranker", "ranker"], "reason": ["", ""],
        "reason_code": ["plain", "plain"],
        "retrievers": [
            "popularity_7d, store_popularity", "content, ease_new, als, segment_popularity",
        ],
        "as_of": [moment] * 2,
    }  # fmt: skip
    bought: dict[str, list[object]] = {
        "user_id": ["old"], "item_id": ["i"], "event_time": [moment - pd.Timedelta(days=3)],
        "session_id": ["s"], "counts_as_taken": [True], "polarity": [1], "store_id": ["x"],
    }  # fmt: skip
    traits = ['{"plan": null}', '{"plan": "free"}']
    together = {name: pa.array([], pa.string()) for name in ("item_id", "other_item_id")}
    made: dict[str, dict[str, object]] = {
        "recommendations": {**listed},
        "items": {"item_id": ["i"], "title": ["Milk"], "group_id": [""],
                  **{c: ["dairy"] for c in texts}},
        "users": {"user_id": ["old", "new"], "attributes": traits},
        "interactions": {**bought},
        "bought_together": {**together, "support": pa.array([], pa.int64())},
    }  # fmt: skip
    tables = {name: stored(lake, name, pa.table(columns)) for name, columns in made.items()}
    shop = load_shop(packaged_shop())
    found = collect(tables.__getitem__, shop, Warehouse(), "new", "i")
    likeness, habits = WITHOUT_HISTORY["content"], RETRIEVERS["als"]
    popular, details = RETRIEVERS["popularity"], RETRIEVERS["segment_popularity"]
    assert found.proposed == (likeness, popular, habits, details)
    assert found.note.startswith("this user has no history")
    with pytest.raises(KeyError, match="scored_candidates"):  # a ranker's score would be looked for
        collect(tables.__getitem__, shop, Warehouse(), "old", "i")


def test_of_a_store_and_of_details_is_told_only_where_the_user_has_them(tmp_path: Path) -> None:
    moment = pd.DatetimeIndex(["2024-02-01"], tz="UTC").as_unit("us")[0]
    lake = Lake(tmp_path)
    key = VersionKey(code="", config="", libraries="", inputs={})
    day = pd.Timedelta(days=1)
    tables = {
        "users": {"user_id": ["a", "b", "c"], "attributes": ["{}", '{"age": "30"}', "{}"]},
        "interactions": {
            "user_id": ["a", "b", "b"], "event_time": [moment - day, moment - day, moment + day],
            "store_id": ["s", None, "s"], "counts_as_taken": [True] * 3, "polarity": [1] * 3,
        },
    }  # fmt: skip
    stored = {
        name: lake.of_version(lake.store(name, [("", pa.table(columns))], key))
        for name, columns in tables.items()
    }
    shop = load_shop(packaged_shop())

    def said(user: str, retriever: str) -> str:
        return _words_for(stored.__getitem__, shop, user, moment, new=False)(retriever)

    assert said("a", "store_popularity") == RETRIEVERS["store_popularity"]
    assert said("b", "segment_popularity") == RETRIEVERS["segment_popularity"]
    everybody = RETRIEVERS["popularity"]
    assert said("b", "store_popularity") == everybody  # the store is of after the cutoff
    assert said("a", "segment_popularity") == everybody
    assert said("c", "store_popularity") == said("c", "segment_popularity") == everybody
