"""From scores to lists: which candidates compete for which placement, and under which rules.

Belongs here: the meaning of `for_you`, `discover` and `buy_again`. Does not belong here: applying
rules (`lists.py`), wording (`reasons.py`), models.
"""

from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from recsys_assets.content.categories import CATEGORY_COLUMNS
from recsys_assets.core.config import Shop
from recsys_assets.core.settings.lists import PLACEMENTS, RuleSettings
from recsys_assets.ranking.rules import Rules

PlacementName = Literal["for_you", "discover", "buy_again"]
FOR_YOU: PlacementName = "for_you"
DISCOVER: PlacementName = "discover"
BUY_AGAIN: PlacementName = "buy_again"
PLACEMENT_OF_TASK: dict[str, PlacementName] = {"all": FOR_YOU, "new": DISCOVER, "again": BUY_AGAIN}
"""A ranker's task -> the placement that its order is for."""

VARIANTS = 3
"""At most so many variants of one product in `for_you` and `buy_again`: people do buy several
flavours of a thing (one per product costs .007 NDCG on the default data, three cost .001)."""

OFTEN_AGAIN = 0.1
"""From this share of takings on, that nothing repeats is worth a second look."""


def placements(shop: Shop) -> list[PlacementName]:
    """The shop's placements, in the order people see them."""
    order = [FOR_YOU, DISCOVER, BUY_AGAIN]
    named = list(shop.placements) or order
    return [p for p in named if p != BUY_AGAIN or shop.repeats]


def rules_of(shop: Shop, placement: PlacementName) -> Rules:
    """The business rules of one placement, from the shop file."""
    configured = shop.rules
    freshness, category = configured.freshness_boost, configured.max_per_category
    length = shop.placements[placement].length
    rules = Rules(
        length=length,
        pool=max(100, 2 * length),
        exclude_items=frozenset(configured.exclude_items),
        exclude_categories=frozenset(configured.exclude_categories),
        markets=frozenset(configured.markets),
        max_per_category=category.n if category else None,
        category_level=category.level if category else 2,
        mmr_lambda=configured.diversity_lambda,
        freshness_days=float(freshness.days) if freshness else 0.0,
        freshness_weight=freshness.weight if freshness else 0.0,
        exploration_rate=configured.exploration.rate,
        exploration_position=min(configured.exploration.position, length),
        exclude_taken=not shop.repeats,
        one_per_group=False,
        max_per_group=VARIANTS,
        seed=shop.seed,
    )
    if placement == DISCOVER:
        return replace(rules, exclude_taken=True, one_per_group=True)
    if placement == BUY_AGAIN:
        return replace(rules, exploration_rate=0.0, mmr_lambda=1.0)
    return rules


def unmatched(configured: RuleSettings, catalogue: pd.DataFrame) -> list[str]:
    """What the rules name and the catalogue does not have: a misspelt name does nothing at all."""
    names = {str(n) for column in CATEGORY_COLUMNS for n in catalogue[column].dropna().unique()}
    categories, ids = {n.casefold() for n in names}, set(catalogue["item_id"])
    return [
        *(
            f"rules.{key}: no category of the catalogue is called {name!r}"
            for key in ("exclude_categories", "sensitive_categories")
            for name in getattr(configured, key)
            if name.casefold() not in categories
        ),
        *(
            f"rules.exclude_items: no item of the catalogue has the id {item!r}"
            for item in configured.exclude_items
            if item not in ids
        ),
    ]


def repeated_after_all(known: pd.DataFrame, shop: Shop) -> list[str]:
    """A warning where a shop says that nothing repeats and its visits (`VISITS`) say otherwise."""
    if shop.repeats:
        return []
    taken = known[known["counts_as_taken"]]
    days = taken.assign(day=taken["event_time"].dt.floor("D"))
    days = days.drop_duplicates(["user_id", "item_id", "day"])
    again = float(days.duplicated(["user_id", "item_id"]).mean()) if len(days) else 0.0
    if again < OFTEN_AGAIN:
        return []
    return [
        f"repeats: {again:.0%} of what people took they had taken on an earlier day. With `false` "
        "nobody is shown a thing again; `true` shows it, and adds buy_again"
    ]


def listed(lists: pd.DataFrame, item_id: str, placement: str | None) -> dict[str, Any] | None:
    """The row of an item on a user's list for `placement`; without one, on the list people see
    first of those that have it. None where no list has it."""
    rows = lists[lists["item_id"] == item_id]
    if placement is not None:
        rows = rows[rows["placement"] == placement]
    if rows.empty:
        return None
    order = rows["placement"].map({name: n for n, name in enumerate(PLACEMENTS)})
    first = rows.iloc[int(order.to_numpy().argmin())]
    return {str(name): value for name, value in first.items()}


def competing(scored: pd.DataFrame, placement: str, shop: Shop) -> pd.DataFrame:
    """The rows of scored candidates that compete for `placement`: user_id, item_id, score."""
    if not shop.repeats:
        scored = scored[~scored["seen"]]
    match placement:
        case "discover":
            rows = scored[~scored["seen"]]
            score = rows["score_new"]
        case "buy_again":
            rows = scored[scored["seen"]]
            score = rows["score_again"]
        case _:
            rows, score = scored, scored["score_all"]
    return rows[["user_id", "item_id"]].assign(score=score)


def published(
    scored: pd.DataFrame, placement: str, shop: Shop, stand_ins: pd.DataFrame
) -> pd.DataFrame:
    """The rows that really compete for `placement`: user_id, item_id, score.

    `stand_ins` holds the rows of the simpler model of every placement where that one is published
    instead of the ranker (table of that name, one cutoff).
    """
    rows = stand_ins[stand_ins["placement"] == placement]
    if rows.empty:
        return competing(scored, placement, shop)
    return rows[["user_id", "item_id", "score"]]
