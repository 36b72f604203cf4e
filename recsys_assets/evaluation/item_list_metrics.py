"""How good the item-to-item lists are, by what people then put into one basket or took instead.

Belongs here: the two protocols' baselines, means and intervals. Does not belong here: making the
lists, and whether one list hits (`collaborative/item_lists.py`).
"""

import pandas as pd

from recsys_assets.collaborative import item_lists
from recsys_assets.core.metrics import bootstrap_of_cases
from recsys_assets.core.vectors import ItemVectors


def item_list_metrics(
    before: pd.DataFrame,
    after: pd.DataFrame,
    items: pd.DataFrame,
    vectors: ItemVectors,
    popular: pd.Series,
    *,
    k: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Hit rates of lists made from `before` on what happened in `after`, beside popularity.

    `bought_together`: one item of a held-out basket is shown, and a hit is that another item of the
    basket is on its list; the baseline is the most popular items for everybody. `similar_items`:
    when a user takes a new product of a known category, a hit is that the list of the item they
    took last in that category has it; the baseline is the most popular products of the category.
    One row per list and model: list, model, value, low, high, n_cases, covered (share of cases with
    a list at all), and for `ours` the paired difference to the baseline with its interval and p.
    Intervals are over users, each with all their cases.
    """
    found = []
    together = item_lists.bought_together(before, items, k=k)
    cases = {
        "ours": item_lists.basket_hit_rate(together, after, popular, k=k, seed=seed),
        "popularity": item_lists.basket_hit_rate(None, after, popular, k=k, seed=seed),
    }
    basket_of = after.drop_duplicates("session_id").set_index("session_id")["user_id"]
    cases = {m: rows.assign(user_id=rows["session_id"].map(basket_of)) for m, rows in cases.items()}
    found.append(_summary("bought_together", cases, draws, seed))
    similar = item_lists.similar_items(before, items, vectors, k=k)
    by_category = popular_in_category(popular, items, k)
    cases = {
        name: item_lists.substitute_hit_rate(lists, before, after, items, k).assign(covered=True)
        for name, lists in (("ours", similar), ("popularity", by_category))
    }
    found.append(_summary("similar_items", cases, draws, seed))
    return pd.concat(found, ignore_index=True)


def popular_in_category(popular: pd.Series, items: pd.DataFrame, k: int) -> pd.DataFrame:
    """For each item the most popular other products of its category_2: item_id, rank,
    other_item_id; one item per product (`group_id`), never the item's own."""
    facts = items[["item_id", "group_id", "category_1", "category_2"]]
    sold = facts.assign(count=popular.reindex(facts["item_id"]).fillna(0).to_numpy())
    sold = sold[sold["count"] > 0].sort_values(["count", "item_id"], ascending=[False, True])
    shelf = ["category_1", "category_2"]
    best = sold.drop_duplicates([*shelf, "group_id"])
    best = best[best.groupby(shelf).cumcount() <= k]
    offers = facts.merge(
        best.rename(columns={"item_id": "other_item_id", "group_id": "other_group"}), on=shelf
    )
    offers = offers[offers["group_id"] != offers["other_group"]]
    offers = offers.sort_values(
        ["item_id", "count", "other_item_id"], ascending=[True, False, True]
    )
    rank = offers.groupby("item_id").cumcount() + 1
    return offers.assign(rank=rank)[["item_id", "rank", "other_item_id"]][(rank <= k).to_numpy()]


def _summary(name: str, cases: dict[str, pd.DataFrame], draws: int, seed: int) -> pd.DataFrame:
    found = []
    if len(cases["ours"]):
        values = pd.DataFrame({model: rows["hit"].astype(float) for model, rows in cases.items()})
        values["difference"] = values["ours"] - values["popularity"]
        summary = bootstrap_of_cases(values, cases["ours"]["user_id"], draws=draws, seed=seed)
    for model, rows in cases.items():
        line: dict[str, object] = {"list": name, "model": model, "n_cases": len(rows)}
        line |= dict.fromkeys(("value", "low", "high"), float("nan"))
        if len(rows):
            line |= {n: summary.loc[model, n] for n in ("value", "low", "high")}
            line["covered"] = float(rows["covered"].mean())
        if len(rows) and model == "ours":
            against = summary.loc["difference"]
            line |= {
                "difference": against["value"],
                "difference_low": against["low"],
                "difference_high": against["high"],
                "p_value": against["p_value"],
            }
        found.append(line)
    return pd.DataFrame(found)
