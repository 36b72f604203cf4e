"""What of the catalogue may be shown at a moment.

Belongs here: availability, markets and what a shop never shows, which hold for every list. Does not
belong here: rules of one list, such as its length (`ranking/rules.py`).
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.content.categories import in_categories
from recsys_assets.core.config import Shop

Mask = npt.NDArray[np.bool_]


def within_dates(items: pd.DataFrame, at: pd.Timestamp) -> Mask:
    """Inside its dates at that moment, the last one excluded; an open date does not limit."""
    begun = items["available_from"].isna() | (items["available_from"] <= at)
    ended = items["available_to"].notna() & (items["available_to"] <= at)
    return np.asarray(begun & ~ended, dtype=bool)


def available(items: pd.DataFrame, at: pd.Timestamp) -> Mask:
    """Active, and inside its dates at that moment."""
    return (items["status"] == "active").to_numpy(dtype=bool) & within_dates(items, at)


def in_market(items: pd.DataFrame, markets: Collection[str]) -> Mask:
    """Of one of the markets or of none; without `markets` everything."""
    if not markets:
        return np.ones(len(items), dtype=bool)
    return items["market"].fillna("").isin(["", *sorted(markets)]).to_numpy()


def showable(
    items: pd.DataFrame,
    at: pd.Timestamp,
    *,
    markets: Collection[str],
    exclude_items: Collection[str],
    exclude_categories: Collection[str],
) -> Mask:
    """Which items may be shown at all: on offer at that moment, in the market, not excluded."""
    kept: Mask = (
        available(items, at)
        & in_market(items, markets)
        & ~items["item_id"].isin(list(exclude_items)).to_numpy()
        & ~in_categories(items, frozenset(exclude_categories))
    )
    return kept


def on_offer(items: pd.DataFrame, shop: Shop, at: pd.Timestamp) -> pd.DataFrame:
    """The catalogue in which nothing is active that the shop may not show at that moment."""
    rules = shop.rules
    shown = showable(
        items,
        at,
        markets=rules.markets,
        exclude_items=rules.exclude_items,
        exclude_categories=rules.exclude_categories,
    )
    return items.assign(status=items["status"].where(shown, "inactive"))
