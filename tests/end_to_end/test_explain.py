"""Explanations of what is served, through the command line and in bulk."""

from typing import Any

import pandas as pd
import pytest

from recsys_assets.core.config import load_shop
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking import evidence
from recsys_assets.ranking.grounding import check, name_keys
from tests.end_to_end.conftest import ShopRun
from tests.language_model.server import FakeAnthropic


@pytest.fixture(scope="session")
def lists(shop_run: ShopRun) -> pd.DataFrame:
    return shop_run.lake.served("recommendations").to_pandas()


def test_contributions_add_up_to_the_served_score_and_the_sentence_to_the_evidence(
    shop_run: ShopRun, lists: pd.DataFrame
) -> None:
    lake, shop = shop_run.lake, load_shop(shop_run.folder / "shop.yaml")
    items = lake.served("items").to_pandas()
    names = name_keys([*items["title"], *items["category_1"], *items["category_2"]])
    scored = lake.served("scored_candidates")
    seen = scored.to_pandas(["user_id", "item_id", "seen"], scored.parts[-1])
    ranked = lists[lists["policy"] == "ranker"].merge(seen, on=["user_id", "item_id"])
    alike = ["placement", "user_id", "seen"]
    bases: dict[tuple[object, ...], list[float]] = {}
    two = ranked.groupby(alike).filter(lambda rows: len(rows) > 1).groupby(alike).head(2)
    for row in two.groupby(["placement", "seen"]).head(4).to_dict("records"):
        pair = (row["user_id"], row["item_id"])
        found = evidence.collect(lake.served, shop, Warehouse(), *pair, row["placement"])
        assert found.note == ""
        assert check(found.sentence, found.texts, names) == []
        shap = evidence.recompute(lake.served, Warehouse(), *pair, row["as_of"], row["placement"])
        left = row["score"] - sum(c.amount for c in shap)
        bases.setdefault(tuple(row[name] for name in alike), []).append(left)
    assert {placement for placement, _, _ in bases} == {"for_you", "discover", "buy_again"}
    for base in bases.values():  # what is left is the same for all that is as new to a user
        assert base == pytest.approx([base[0]] * len(base), abs=1e-4)


def test_the_first_fact_is_the_reason_that_is_shown(shop_run: ShopRun, lists: pd.DataFrame) -> None:
    lake, shop = shop_run.lake, load_shop(shop_run.folder / "shop.yaml")
    said = lists[~lists["reason_code"].isin(["plain", "stated"])]
    for row in said.drop_duplicates("reason_code").to_dict("records"):
        found = evidence.collect(
            lake.served, shop, Warehouse(), row["user_id"], row["item_id"], row["placement"]
        )
        assert found.facts[0] == row["reason"]


def test_the_command_shows_sentence_evidence_and_contributions(
    shop_run: ShopRun, lists: pd.DataFrame
) -> None:
    row = lists[(lists["placement"] == "for_you") & (lists["policy"] == "ranker")].iloc[0]
    shown = shop_run.recsys("explain", row["user_id"], row["item_id"])
    assert shown.returncode == 0, shown.stderr
    assert row["reason"] in shown.stdout
    assert "What moved its score" in shown.stdout
    assert "score_ease" in shown.stdout


def test_an_item_on_no_list_is_refused_with_the_reason(
    shop_run: ShopRun, lists: pd.DataFrame
) -> None:
    user = lists["user_id"].iloc[0]
    wrong = shop_run.recsys("explain", user, "no-such-item")
    assert wrong.returncode == 1
    assert "is not on any list" in wrong.stderr and "Traceback" not in wrong.stderr


def test_for_somebody_nobody_knows_the_popular_list_is_explained(shop_run: ShopRun) -> None:
    first = shop_run.lake.served("popular_recommendations").to_pandas()["item_id"].iloc[0]
    shown = shop_run.recsys("explain", "nobody", first)
    assert shown.returncode == 0, shown.stderr
    assert "nobody knows this user" in shown.stdout


KEY = "sk-ant-canary-51ab"


def asked(shop_run: ShopRun, fake: FakeAnthropic, *arguments: str) -> str:
    """What the command prints when a language model is there to be asked."""
    shown = shop_run.recsys(*arguments, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=fake.url)
    assert shown.returncode == 0, shown.stderr
    assert KEY not in shown.stdout + shown.stderr
    return shown.stdout


def test_an_invented_sentence_gives_way_to_the_plain_one_and_no_user_is_sent(
    shop_run: ShopRun, lists: pd.DataFrame
) -> None:
    said = lists[(lists["placement"] == "for_you") & (lists["reason_code"] == "repeat")].iloc[0]

    def invent(sent: dict[str, Any], schema: dict[str, Any], body: dict[str, Any]) -> Any:
        return {"id": sent["id"], "sentence": "You bought it 999 times, with caviar."}

    with FakeAnthropic(invent) as fake:
        shown = asked(shop_run, fake, "explain", said["user_id"], said["item_id"])
        assert len(fake.posted()) == 1
        assert said["user_id"] not in str(fake.requests)
    assert "In our own words: not grounded" in shown and said["reason"] in shown


def test_discover_follows_the_models_order_only_if_it_is_one_of_what_was_sent(
    shop_run: ShopRun, lists: pd.DataFrame
) -> None:
    sent_titles: list[list[str]] = []

    def backwards(sent: dict[str, Any], schema: dict[str, Any], body: dict[str, Any]) -> Any:
        sent_titles.append(next(v for v in sent.values() if isinstance(v, list)))
        return {"id": sent["id"], "order": list(range(len(sent_titles[-1]), 0, -1))}

    def first_twice(sent: dict[str, Any], schema: dict[str, Any], body: dict[str, Any]) -> Any:
        return {"id": sent["id"], "order": [1, 1]}

    discover = lists[(lists["placement"] == "discover") & (lists["policy"] == "ranker")]
    one, other = sorted(discover["user_id"].unique())[3:5]
    with FakeAnthropic(backwards) as fake:
        shown = asked(shop_run, fake, "recommend", one, "--placement", "discover", "--rerank")
        assert one not in str(fake.requests)
    items = discover[discover["user_id"] == one].sort_values("rank")["item_id"].tolist()
    places = [shown.find(item) for item in items]
    assert min(places) >= 0 and places != sorted(places)
    if len(sent_titles[0]) == len(items):
        assert places == sorted(places, reverse=True)
    with FakeAnthropic(first_twice) as fake:
        shown = asked(shop_run, fake, "recommend", other, "--placement", "discover", "--rerank")
    assert "not an order of what was sent" in shown
