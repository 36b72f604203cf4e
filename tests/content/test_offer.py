"""What of the catalogue may be shown, as the shop file says it."""

from pathlib import Path

import pandas as pd

from recsys_assets.content.categories import product_codes
from recsys_assets.content.offer import on_offer, within_dates
from recsys_assets.core.config import load_shop


def test_item_lists_offer_what_the_lists_of_people_may_show(shop_file: Path) -> None:
    rules = "rules: {exclude_categories: [Gin], exclude_items: [hidden], markets: [de]}\n"
    shop_file.write_text(shop_file.read_text(encoding="utf-8") + rules, encoding="utf-8")
    at = pd.Timestamp("2024-01-10", tz="UTC")
    items = pd.DataFrame(
        {
            "item_id": ["shown", "gone", "later", "out", "hidden", "gin", "abroad"],
            "category_1": [*["Food"] * 5, "Gin", "Food"],
            "category_2": "",
            "category_3": "",
            "status": ["active", "active", "active", "inactive", *["active"] * 3],
            "market": ["", *["de"] * 5, "at"],
            "available_from": [pd.NaT, pd.NaT, at + pd.Timedelta(days=1), *[pd.NaT] * 4],
            "available_to": [pd.NaT, at, *[pd.NaT] * 5],
        }
    )
    shown = on_offer(items, load_shop(shop_file), at)
    assert shown.loc[shown["status"] == "active", "item_id"].tolist() == ["shown"]
    assert shown.drop(columns="status").equals(items.drop(columns="status"))


def test_the_first_moment_of_the_dates_is_inside_and_the_last_is_not() -> None:
    at = pd.Timestamp("2024-01-01", tz="UTC")
    before, after = at - pd.Timedelta(days=1), at + pd.Timedelta(days=1)
    dates = [(None, None), (at, None), (after, None), (None, at), (before, after), (before, at)]
    items = pd.DataFrame(dates, columns=["available_from", "available_to"])
    items = items.astype("datetime64[us, UTC]")
    assert within_dates(items, at).tolist() == [True, True, False, False, True, False]


def test_variants_share_a_product_and_an_item_without_a_group_is_one_of_its_own() -> None:
    items = pd.DataFrame({"item_id": list("abcde"), "group_id": ["", "milk", None, "milk", "c"]})
    assert product_codes(items).tolist() == [0, 1, 2, 1, 3]
