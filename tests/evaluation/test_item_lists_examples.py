"""Item-to-item lists against popularity, and the users whose lists a person looks at."""

import numpy as np
import pandas as pd

from recsys_assets.evaluation.examples import choose_examples, lay_out
from recsys_assets.evaluation.item_list_metrics import _summary, popular_in_category

ITEMS = pd.DataFrame(
    {
        "item_id": list("abcde"),
        "group_id": ["g1", "g1", "g2", "g3", "g4"],
        "category_1": "food",
        "category_2": ["milk", "milk", "milk", "milk", "bread"],
    }
)


def test_the_popular_of_a_category_hold_one_item_per_product_and_never_a_twin() -> None:
    lists = popular_in_category(pd.Series({"b": 9, "a": 5, "c": 7, "e": 3}), ITEMS, k=10)
    shown = lists.groupby("item_id")["other_item_id"].apply(list).to_dict()
    assert shown == {"a": ["c"], "b": ["c"], "c": ["b"], "d": ["b", "c"]}


def test_examples_are_wins_losses_and_ordinary_users_and_nobody_twice() -> None:
    gain = pd.Series({f"u{n:02}": n / 50 - 0.5 for n in range(51)})
    chosen = choose_examples(gain, per_kind=2, seed=1)
    assert chosen["kind"].tolist() == ["win"] * 2 + ["ordinary"] * 2 + ["loss"] * 2
    assert chosen["user_id"].is_unique
    by_kind = chosen.assign(gain=chosen["user_id"].map(gain)).groupby("kind")["gain"]
    assert by_kind.min()["win"] > 0.35 and by_kind.max()["loss"] < -0.35
    assert abs(by_kind.mean()["ordinary"]) < 0.1
    assert chosen.equals(choose_examples(gain.sample(frac=1, random_state=0), per_kind=2, seed=1))


def test_where_everybody_is_equal_nobody_wins_or_loses() -> None:
    chosen = choose_examples(pd.Series(0.0, index=[f"u{n}" for n in range(20)]))
    assert set(chosen["kind"]) == {"ordinary"}


def test_an_example_shows_names_and_what_was_then_taken_but_no_id() -> None:
    chosen = pd.DataFrame({"user_id": ["secret"], "kind": ["win"], "example": ["A"]})
    lists = pd.DataFrame(
        {"model": ["ours", "best"], "user_id": "secret", "item_id": ["a", "b"], "rank": 1}
    )
    laid = lay_out(
        chosen,
        lists,
        pd.DataFrame({"user_id": ["secret"], "item_id": ["a"]}),
        pd.DataFrame({"user_id": ["secret"], "item_id": ["c"], "times": [3]}),
        pd.Series({"a": "Apple", "b": "Bread", "c": "Coffee"}),
        {"ours": "ours", "best": "best"},
        k=10,
    )
    assert laid["title"].tolist() == ["Coffee", "Apple", "Bread"]
    assert laid["found"].tolist() == [False, True, False]
    assert set(laid["example"]) == {"A"} and not laid.isin(["secret"]).any().any()


def test_only_whom_the_operator_named_is_called_by_id() -> None:
    gain = pd.Series({f"u{n:02}": n / 50 - 0.5 for n in range(51)})
    nobody = choose_examples(gain, per_kind=0, named=["u07", "stranger"])
    assert nobody.to_dict("records") == [{"user_id": "u07", "kind": "named", "example": "u07"}]
    drawn = choose_examples(gain, per_kind=2, seed=1)
    assert drawn["example"].tolist() == list("ABCDEF")
    both = choose_examples(gain, per_kind=2, named=[drawn["user_id"].iloc[0]], seed=1)
    assert both["example"].tolist() == [drawn["user_id"].iloc[0], *"BCDEF"]
    assert not both["user_id"].duplicated().any()
    many = pd.Series(np.linspace(1, -1, 300), index=[f"u{n:03}" for n in range(300)])
    assert choose_examples(many, per_kind=9)["example"].tolist()[24:] == ["Y", "Z", "A2"]


def test_the_cases_of_one_user_are_one_draw() -> None:
    """Nine hits of one user and a miss of each of three others."""
    hit = pd.Series([True] * 9 + [False] * 3)
    cases = pd.DataFrame({"user_id": [*"aaaaaaaaabcd"], "hit": hit, "covered": True})
    none = cases.assign(hit=False)
    table = _summary("similar_items", {"ours": cases, "popularity": none}, draws=400, seed=0)
    ours = table.iloc[0]
    assert ours["value"] == ours["difference"] == 0.75
    assert ours["low"] == 0, "without that user nothing is found, which is 32% of the draws"
    assert ours["high"] > 0.95
    alone = cases.assign(user_id=[*"abcdefghijkl"])
    apart = _summary("similar_items", {"ours": alone, "popularity": none}, draws=400, seed=0)
    assert apart.iloc[0]["low"] > 0.4


def test_a_shop_without_a_case_has_no_hit_rate_and_no_error() -> None:
    nothing = pd.DataFrame(columns=["hit", "covered"])
    table = _summary("bought_together", {"ours": nothing, "popularity": nothing}, draws=9, seed=0)
    assert table["n_cases"].tolist() == [0, 0]
    assert table["value"].isna().all()
