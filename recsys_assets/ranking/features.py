"""What the ranker knows about a candidate, as of a cutoff.

Belongs here: running the feature files of `sql/ranking/`, joining their tables to candidates, and
the features that are made of the retrievers' own columns. Does not belong here: labels and sampling
(`training.py`), the model (`ranker.py`), business rules.

Feature tables are *grain tables*: one per thing described (an item, a user, a pair, ...), computed
once per cutoff from `interactions_as_of`, whatever the candidates are. A missing value is null and
means "no such history"; no feature is ever infinite.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.lake import Snapshot
from recsys_assets.core.warehouse import Relation, Warehouse
from recsys_assets.ingestion.tables import RAW_PROMOTIONS

KEYS = ("as_of", "user_id", "item_id")

HISTORY_DAYS = 364
"""Look-back of every feature except `ui_seen`, the same at every cutoff."""

NO_PROMOTIONS = RAW_PROMOTIONS.empty()
"""Of a shop that does not say what it puts forward."""
FEATURE_TABLES: dict[str, tuple[str, ...]] = {
    "item_features": ("as_of", "item_id"),
    "user_features": ("as_of", "user_id"),
    "user_item_features": ("as_of", "user_id", "item_id"),
    "user_category_features": ("as_of", "user_id", "level", "value"),
    "store_item_features": ("as_of", "store_id", "item_id"),
}
"""Name of a grain table (and of its file in `sql/ranking/`) -> its key."""

Grains = Annotated[dict[str, Snapshot], tuple(FEATURE_TABLES)]
"""All of them by name, as an asset or a rule asks for them with one parameter."""

_HISTORIES = ("user_item_features", "user_category_features")
USERS_TOGETHER = 5_000
"""So many users' histories are made at once."""

_ITEM = {
    "item_days_7": "user-days with the item in the last 7 days",
    "item_days_28": "user-days with the item in the last 28 days",
    "item_days_84": "user-days with the item in the last 84 days",
    "item_users_7": "users who took the item in the last 7 days",
    "item_users_28": "users who took the item in the last 28 days",
    "item_users_84": "users who took the item in the last 84 days",
    "item_user_share_28": "share of the active users who took the item in the last 28 days",
    "item_trend_7_28": "takings a week in the last 7 days against the last 28",
    "item_trend_28_84": "takings a week in the last 28 days against the last 84",
    "item_new_users_7": "users who first took the item in the last 7 days",
    "item_new_users_28": "users who first took the item in the last 28 days",
    "item_new_users_84": "users who first took the item in the last 84 days",
    "item_new_share_28": "of the item's users in the last 28 days, the share who were new to it",
    "item_new_trend_28_84": "of its new users in the last 84 days, the share in the last 28",
    "item_repeat_share_84": "share of its users who took it on two days or more in 84 days",
    "item_back_share": "share of users new to it 28 to 112 days ago who took it again lately",
    "item_return_rate_28": "how often a taking is followed by another within 28 days",
    "item_gap_mean": "days between two takings of the item by one user, on average",
    "item_last_days": "days since anybody took the item",
    "item_stores_28": "stores in which the item was taken in the last 28 days",
    "item_quantity_mean": "units taken at a time, on average",
    "item_price": "the item's usual price",
    "item_price_vs_usual": "price in the last 14 days against the usual price",
    "item_price_vs_type": "usual price against the median of its type",
    "item_discount_share_84": "share of takings with a discount in the last 84 days",
    "item_discount_share_14": "share of takings with a discount in the last 14 days",
    "item_discount_depth_14": "discount as a share of the shelf price in the last 14 days",
    "promo_feature_days_7": "of the last 7 days, those in a leaflet, newsletter …, times its reach",
    "promo_feature_days_28": "of the last 28 days, those in a leaflet, newsletter …",
    "promo_feature_days_84": "of the last 84 days, those in a leaflet, newsletter …",
    "promo_feature_last_days": "days since the item was in a leaflet, newsletter …; 0: is now",
    "promo_feature_days_next_28": "of the next 28 days, those planned in a leaflet, newsletter …",
    "promo_display_days_7": "of the last 7 days, those on display, times its reach",
    "promo_display_days_28": "of the last 28 days, those on display",
    "promo_display_days_84": "of the last 84 days, those on display",
    "promo_display_last_days": "days since the item was on display; 0: is now",
    "promo_display_days_next_28": "of the next 28 days, those planned on display",
    "type_days_28": "user-days with the item's type in the last 28 days",
    "type_trend_7_28": "takings a week of the type in the last 7 days against the last 28",
    "type_trend_28_84": "takings a week of the type in the last 28 days against the last 84",
    "type_new_users_28": "first takings of items of the type in the last 28 days",
    "type_return_rate_28": "how often a taking of the type's items recurs within 28 days",
    "type_items_28": "items of the type that were taken in the last 28 days",
    "item_share_of_type_28": "the item's share of its type's takings in the last 28 days",
}
PROMOTIONS = tuple(name for name in _ITEM if name.startswith("promo_"))
"""What is known of promotions; null for all items while a shop promotes and plans nothing."""
_USER = {
    "user_trips_7": "trips in the last 7 days",
    "user_trips_28": "trips in the last 28 days",
    "user_trips_84": "trips in the last 84 days",
    "user_trend_28_84": "trips a week in the last 28 days against the last 84",
    "user_last_days": "days since the user's last trip",
    "user_takes_28": "item-days the user took in the last 28 days",
    "user_takes_84": "item-days the user took in the last 84 days",
    "user_items_per_trip": "items per trip in the last 84 days",
    "user_value_per_trip": "money per trip in the last 84 days",
    "user_trip_gap_mean": "days between two trips, on average over the last 84 days",
    "user_discount_share_84": "share of what a trip takes that has a discount, mean over the trips",
    "user_items_known": "different items the user took within the look-back",
    "user_new_share_28": "share of what the user took in the last 28 days that was new to them",
    "user_new_share_84": "share of what the user took in the last 84 days that was new to them",
    "user_price_median": "median price of what the user takes",
    "user_store_share": "share of takings in the user's usual store",
}
_USER_ITEM = {
    "ui_seen": "1 if the user ever took the item",
    "ui_days": "days on which the user took the item",
    "ui_days_14": "days on which the user took the item, last 14 days",
    "ui_days_28": "days on which the user took the item, last 28 days",
    "ui_days_84": "days on which the user took the item, last 84 days",
    "ui_in_last_5_trips": "of the user's last 5 trips, those with the item",
    "ui_in_last_15_trips": "of the user's last 15 trips, those with the item",
    "ui_decayed_21": "takings of the item, half-life 21 days",
    "ui_decayed_90": "takings of the item, half-life 90 days",
    "ui_decayed_trips": "takings of the item, half-life 10 trips",
    "ui_last_days": "days since the user last took the item",
    "ui_last_trips": "trips of the user since they last took the item",
    "ui_trip_rate": "share of the trips since the first taking that had the item",
    "ui_gap_median": "median days between two takings of the item by the user",
    "ui_gap_mean": "mean days between two takings of the item by the user",
    "ui_gap_std": "standard deviation of the days between two takings",
    "ui_gap_trips_mean": "mean trips of the user from one taking to the next",
    "ui_due_days": "days since the last taking over the usual gap: 1 is due now",
    "ui_due_trips": "trips since the last taking over the usual gap in trips",
    "ui_expected_takes": "repurchases to expect in the horizon at the user's own pace",
    "ui_quantity_mean": "units the user takes at a time",
    "ui_last_price": "shelf price at the user's last taking",
    "ui_discount_share": "share of the user's takings of the item with a discount",
    "ui_signal_28": "sum of signals on days without a taking (views, returns), last 28 days",
    "ui_signal": "sum of signals on days without a taking of the item (views, returns)",
}
_STORE = {
    "store_days_28": "user-days with the item in the user's usual store, last 28 days",
    "store_users_28": "users who took the item in the user's usual store, last 28 days",
    "store_users_84": "users who took the item in the user's usual store, last 84 days",
    "store_new_users_28": "users who first took the item there in the last 28 days",
    "store_last_days": "days since the item was last taken in the user's usual store",
}
_LEVELS = {
    "uc": "the category",
    "ut": "the type",
    "ub": "the brand",
    "ubt": "the brand within the type",
    "ug": "the group of variants",
}
_LEVEL = {
    "days_28": "days on which the user took from {0}, last 28 days",
    "days_84": "days on which the user took from {0}, last 84 days",
    "decayed_60": "days on which the user took from {0}, half-life 60 days",
    "decayed_items_60": "items the user took from {0}, half-life 60 days",
    "last_days": "days since the user took from {0}",
    "gap_mean": "days between two takings from {0}, on average",
    "due_days": "days since the last taking from {0} over the usual gap",
    "new_items_28": "items new to the user that they took from {0}, last 28 days",
    "new_items_84": "items new to the user that they took from {0}, last 84 days",
}
_CROSSED = {
    "ui_expected_by_trips": "takings to expect from the share of trips and the trips a month",
    "ui_share_of_type": "takings of the item, half-life 90 days, over items of its type, 60 days",
    "ui_share_of_user": "takings of the item, half-life 90 days, over all of the last 84 days",
    "ui_due_by_item_gap": "days since the last taking over the item's gap for everybody",
    "price_vs_user": "the item's price against what the user usually takes",
    "price_vs_user_in_type": "the item's price against what the user takes of the type",
    "brand_share_of_type": "the brand's share of what the user takes of the type",
    "price_vs_last_paid": "the item's latest price against the user's last one",
    "discount_match": "the user's share of discounted takings times the item's, lately",
}

FEATURES: dict[str, str] = {
    **_ITEM,
    **_USER,
    **_USER_ITEM,
    **_STORE,
    **{f"{p}_{k}": text.format(name) for p, name in _LEVELS.items() for k, text in _LEVEL.items()},
    **_CROSSED,
}
"""Every feature of the grain tables, in column order -> its meaning in one line."""

AGREEMENT: dict[str, str] = {
    "places_fused": "sum over the retrievers of 1 / (20 + place)",
    "lists": "retrievers that have the candidate in their list",
    "place_best": "the best place any retriever gives it",
}
"""Features that sum up all retrievers."""

_RETRIEVER = {
    "score": "score of retriever {0}",
    "rank": "rank in the list of retriever {0}",
    "share": "score of retriever {0} over the user's largest",
    "place": "place by retriever {0} among the user's candidates that are as new to them",
}


def meaning(feature: str) -> str:
    """One line on a feature. Raises KeyError for a name that is none."""
    if feature in FEATURES:
        return FEATURES[feature]
    if feature in AGREEMENT:
        return AGREEMENT[feature]
    kind, _, retriever = feature.partition("_")
    return _RETRIEVER[kind].format(retriever)


def build_feature_tables(
    warehouse: Warehouse,
    interactions: Relation,
    items: Relation,
    users: pa.Table,
    as_of: datetime,
    *,
    promotions: Relation = NO_PROMOTIONS,
    horizon_days: int,
) -> dict[str, pa.Table]:
    """The grain tables of `FEATURE_TABLES` at one cutoff, each sorted by its key.

    `horizon_days` is the length of the period that is predicted, in days; it scales the expected
    number of repurchases. Events at or after `as_of` have no influence on any byte of the result.
    """
    days = user_item_days(warehouse, interactions, as_of)
    return {
        name: feature_table(
            name,
            warehouse,
            user_item_days=days,
            interactions=interactions,
            items=items,
            users=users,
            promotions=promotions,
            as_of=as_of,
            horizon_days=horizon_days,
        )
        for name in FEATURE_TABLES
    }


def user_item_days(
    warehouse: Warehouse,
    interactions: Relation,
    as_of: datetime,
) -> pa.Table:
    """What each user did with each item day by day, which every grain table is made from."""
    return warehouse.query(
        "ranking/user_item_days",
        {"interactions": interactions},
        {"as_of": as_of, "history_days": HISTORY_DAYS},
    )


def feature_table(
    name: str,
    warehouse: Warehouse,
    *,
    user_item_days: Relation,
    interactions: Relation,
    items: Relation,
    users: pa.Table,
    promotions: Relation,
    as_of: datetime,
    horizon_days: int,
) -> pa.Table:
    """One grain table of `FEATURE_TABLES` at one cutoff, sorted by its key.

    Histories, which do not look at each other, are made some users at a time: DuckDB cannot spill
    every aggregate to disk.
    """
    inputs: dict[str, Relation] = {"user_item_days": user_item_days, "items": items, "users": users}
    params: dict[str, object] = {"as_of": as_of}
    if name == "item_features":
        inputs["promotions"] = promotions
    if name == "user_item_features":
        inputs["interactions"] = interactions
        params["horizon_days"] = horizon_days
    if name not in _HISTORIES:
        return warehouse.query(f"ranking/{name}", inputs, params)
    people = users.select(["user_id"]).sort_by("user_id")
    blocks = [
        warehouse.query(
            f"ranking/{name}", inputs | {"users": people.slice(first, USERS_TOGETHER)}, params
        )
        for first in range(0, max(people.num_rows, 1), USERS_TOGETHER)
    ]
    return pa.concat_tables(blocks)


def known_promotions(promotions: pa.Table, as_of: datetime) -> pa.Table:
    """Those that were known before `as_of`, planned or begun."""
    return promotions.filter(pc.less(promotions["known_from"], as_of))


def retrievers_of(columns: Sequence[str]) -> list[str]:
    """The retrievers a candidate table was made with, by name, from its `score_<r>` columns."""
    return sorted(c.removeprefix("score_") for c in columns if c.startswith("score_"))


def feature_names(candidate_columns: Sequence[str]) -> list[str]:
    """The feature columns `join_features` gives for such a candidate table, in their order."""
    made = [f"{kind}_{r}" for r in retrievers_of(candidate_columns) for kind in _RETRIEVER]
    return [*FEATURES, *made, *AGREEMENT]


def join_features(
    warehouse: Warehouse,
    candidates: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
) -> pa.Table:
    """Candidates of one cutoff with every feature: the keys, then float32 columns.

    `candidates` must be sorted by user and item without repeats, and must hold *all* candidates of
    each user in it: the retrievers' places are counted among a user's own candidates. The columns
    are exactly `feature_names(candidates.column_names)`. Raises ValueError for an unsorted table.
    """
    joined = join_tables(warehouse, candidates, items, feature_tables)
    made = retriever_features(candidates, joined["ui_seen"].to_numpy() > 0)
    return pa.table({**{name: joined[name] for name in joined.column_names}, **made})


def rows_of_users(table: pa.Table, users: Sequence[str]) -> pa.Table:
    """The rows of these users, in their order."""
    return table.filter(pc.is_in(table["user_id"], value_set=pa.array(users, pa.string())))


def tables_of_users(tables: Mapping[str, pa.Table], users: Sequence[str]) -> dict[str, pa.Table]:
    """Feature tables without the rows of others: what is joined to some users need not be hashed
    for all."""
    return {
        name: rows_of_users(table, users) if "user_id" in table.column_names else table
        for name, table in tables.items()
    }


def join_tables(
    warehouse: Warehouse,
    candidates: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
) -> pa.Table:
    """The keys of sorted candidate rows of one cutoff, with the features of the grain tables.

    Raises ValueError for unsorted candidates, and for features as of another cutoff: a later one
    knows what these candidates are asked about.
    """
    asked = pc.unique(candidates["as_of"])
    for name, table in feature_tables.items() if len(asked) else ():
        if pc.any(pc.invert(pc.is_in(pc.unique(table["as_of"]), value_set=asked))).as_py():
            raise ValueError(f"{name} is as of another cutoff than the candidates")
    joined = warehouse.query(
        "ranking/ranking_features",
        {
            "candidates": candidates.select(["user_id", "item_id"]),
            "items": items,
            **feature_tables,
        },
        {"as_of": pc.max(candidates["as_of"]).as_py()},
    )
    for key in ("user_id", "item_id"):
        if pc.all(pc.equal(joined[key], candidates[key])).as_py() is False:
            raise ValueError(f"candidates are not sorted by user_id, item_id (at {key})")
    return joined.select([*KEYS, *FEATURES])


def retriever_features(candidates: pa.Table, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Each retriever's score and list rank, and both relative to the user's other candidates.

    `share_<r>` is the score over the user's largest absolute score; `place_<r>` counts from 1 the
    score's place among the user's candidates that are as new to them (`seen` or not), ties sharing
    the best place. A pair a retriever did not score is null throughout.
    """
    user = query_codes(candidates["user_id"])
    rows = len(user)
    made: dict[str, np.ndarray] = {}
    fused = np.zeros(rows, dtype=np.float32)
    listed = np.zeros(rows, dtype=np.float32)
    best = np.full(rows, np.inf, dtype=np.float32)
    for r in retrievers_of(candidates.column_names):
        score = _floats(candidates[f"score_{r}"])
        rank = _floats(candidates[f"rank_{r}"])
        place = _places(user * 2 + seen, score)
        made[f"score_{r}"] = score
        made[f"rank_{r}"] = rank
        made[f"share_{r}"] = _share_of_user_best(user, score)
        made[f"place_{r}"] = place
        fused += np.where(np.isnan(place), 0.0, 1.0 / (20.0 + np.nan_to_num(place))).astype("f4")
        listed += ~np.isnan(rank)
        best = np.fmin(best, place)
    made["places_fused"] = fused
    made["lists"] = listed
    made["place_best"] = np.where(np.isinf(best), np.float32(np.nan), best)
    return made


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """float32, NaN for null and for anything that is no finite number."""
    values = column.cast(pa.float32()).to_numpy()
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def query_codes(column: pa.ChunkedArray) -> np.ndarray:
    """Codes that rise by one where a sorted column changes its value."""
    values = column.combine_chunks()
    changes = np.ones(len(values), dtype=bool)
    if len(values) > 1:
        changes[1:] = pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return np.cumsum(changes, dtype=np.int64) - 1


def _share_of_user_best(user: np.ndarray, score: np.ndarray) -> np.ndarray:
    if len(user) == 0:
        return score
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    top = np.maximum.reduceat(np.nan_to_num(np.abs(score)), starts)[user]
    return np.divide(score, top, out=np.full_like(score, np.nan), where=top > 0)


def _places(query: np.ndarray, score: np.ndarray) -> np.ndarray:
    """1-based place of each float32 score within its query, best first; ties share the best place.

    Query and score are packed into one integer, since one integer sort is five times faster than
    a sort by two keys: the bits of a float rise with it once those of negatives are turned round.
    """
    if len(score) == 0:
        return score
    descending = np.where(np.isnan(score), np.float32(np.inf), -score) + np.float32(0)
    bits = descending.view(np.int32)
    bits = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    key = (query.astype(np.int64) << 32) + bits
    order = np.argsort(key)
    ranked = key[order]
    position = np.arange(len(order))
    new_query = np.diff(query[order], prepend=-1) != 0
    new_score = np.diff(ranked, prepend=ranked[0] - 1) != 0
    first_of_query = np.maximum.accumulate(np.where(new_query, position, 0))
    first_of_tie = np.maximum.accumulate(np.where(new_score, position, 0))
    place = np.empty(len(order), dtype=np.float32)
    place[order] = first_of_tie - first_of_query + 1
    place[np.isnan(score)] = np.nan
    return place
