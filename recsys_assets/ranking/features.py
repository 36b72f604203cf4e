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

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.warehouse import Relation, Warehouse

KEYS = ("as_of", "user_id", "item_id")

HISTORY_DAYS = 364
"""Look-back of every feature except `ui_seen`, the same at every cutoff."""

FEATURE_TABLES: dict[str, tuple[str, ...]] = {
    "item_features": ("as_of", "item_id"),
    "user_features": ("as_of", "user_id"),
    "user_item_features": ("as_of", "user_id", "item_id"),
    "user_category_features": ("as_of", "user_id", "level", "value"),
    "store_item_features": ("as_of", "store_id", "item_id"),
}
"""Name of a grain table (and of its file in `sql/ranking/`) -> its key."""

FEATURES: dict[str, str] = {
    "item_days_7": "",
    "item_days_28": "",
    "item_days_84": "",
    "item_users_7": "",
    "item_users_28": "",
    "item_users_84": "",
    "item_user_share_28": "",
    "item_trend_7_28": "",
    "item_trend_28_84": "",
    "item_new_users_7": "",
    "item_new_users_28": "",
    "item_new_users_84": "",
    "item_new_share_28": "",
    "item_new_trend_28_84": "",
    "item_repeat_share_84": "",
    "item_back_share": "",
    "item_return_rate_28": "",
    "item_gap_mean": "",
    "item_last_days": "",
    "item_age_days": "",
    "item_stores_28": "",
    "item_quantity_mean": "",
    "item_price": "",
    "item_price_vs_usual": "",
    "item_price_vs_type": "",
    "item_discount_share_84": "",
    "item_discount_share_14": "",
    "item_discount_depth_14": "",
    "type_days_28": "",
    "type_trend_7_28": "",
    "type_trend_28_84": "",
    "type_new_users_28": "",
    "type_return_rate_28": "",
    "type_items_28": "",
    "item_share_of_type_28": "",
    "user_trips_7": "",
    "user_trips_28": "",
    "user_trips_84": "",
    "user_trend_28_84": "",
    "user_last_days": "",
    "user_first_days": "",
    "user_takes_28": "",
    "user_takes_84": "",
    "user_items_per_trip": "",
    "user_value_per_trip": "",
    "user_trip_gap_mean": "",
    "user_discount_share_84": "",
    "user_items_known": "",
    "user_new_share_28": "",
    "user_new_share_84": "",
    "user_price_median": "",
    "user_store_share": "",
    "ui_seen": "",
    "ui_days": "",
    "ui_days_14": "",
    "ui_days_28": "",
    "ui_days_84": "",
    "ui_in_last_5_trips": "",
    "ui_in_last_15_trips": "",
    "ui_decayed_21": "",
    "ui_decayed_90": "",
    "ui_decayed_trips": "",
    "ui_last_days": "",
    "ui_first_days": "",
    "ui_last_trips": "",
    "ui_trip_rate": "",
    "ui_gap_median": "",
    "ui_gap_mean": "",
    "ui_gap_std": "",
    "ui_gap_min": "",
    "ui_gap_trips_median": "",
    "ui_due_days": "",
    "ui_due_trips": "",
    "ui_expected_takes": "",
    "ui_quantity_mean": "",
    "ui_last_price": "",
    "ui_discount_share": "",
    "ui_signal_28": "",
    "ui_signal": "",
    "store_days_28": "",
    "store_users_28": "",
    "store_users_84": "",
    "store_new_users_28": "",
    "store_last_days": "",
    "cat2_days_28": "",
    "cat2_days_84": "",
    "cat2_decayed_60": "",
    "cat2_decayed_items_60": "",
    "cat2_last_days": "",
    "cat2_gap_mean": "",
    "cat2_due_days": "",
    "cat2_new_items_28": "",
    "cat2_new_items_84": "",
    "cat3_days_28": "",
    "cat3_days_84": "",
    "cat3_decayed_60": "",
    "cat3_decayed_items_60": "",
    "cat3_last_days": "",
    "cat3_gap_mean": "",
    "cat3_due_days": "",
    "cat3_new_items_28": "",
    "cat3_new_items_84": "",
    "brand_days_28": "",
    "brand_days_84": "",
    "brand_decayed_60": "",
    "brand_decayed_items_60": "",
    "brand_last_days": "",
    "brand_gap_mean": "",
    "brand_due_days": "",
    "brand_new_items_28": "",
    "brand_new_items_84": "",
    "brandtype_days_28": "",
    "brandtype_days_84": "",
    "brandtype_decayed_60": "",
    "brandtype_decayed_items_60": "",
    "brandtype_last_days": "",
    "brandtype_gap_mean": "",
    "brandtype_due_days": "",
    "brandtype_new_items_28": "",
    "brandtype_new_items_84": "",
    "group_days_28": "",
    "group_days_84": "",
    "group_decayed_60": "",
    "group_decayed_items_60": "",
    "group_last_days": "",
    "group_gap_mean": "",
    "group_due_days": "",
    "group_new_items_28": "",
    "group_new_items_84": "",
    "ui_expected_by_trips": "",
    "ui_share_of_type": "",
    "ui_share_of_user": "",
    "ui_due_by_item_gap": "",
    "price_vs_user": "",
    "price_vs_last_paid": "",
    "discount_match": "",
}

AGREEMENT: dict[str, str] = {
    "places_fused": "",
    "lists": "",
    "place_best": "",
}


def build_feature_tables(
    warehouse: Warehouse,
    interactions: Relation,
    items: Relation,
    users: Relation,
    as_of: datetime,
    *,
    horizon_days: int = 28,
    history_days: int = HISTORY_DAYS,
) -> dict[str, pa.Table]:
    """The grain tables of `FEATURE_TABLES` at one cutoff, each sorted by its key.

    `horizon_days` is the length of the period that is predicted, in days; it scales the expected
    number of repurchases. Events at or after `as_of` have no influence on any byte of the result.
    """
    params: dict[str, object] = {"as_of": as_of}
    days = warehouse.query(
        "ranking/user_item_days",
        {"interactions": interactions},
        {**params, "history_days": history_days},
    )
    inputs: dict[str, Relation] = {"user_item_days": days, "items": items, "users": users}
    extra: dict[str, tuple[dict[str, Relation], dict[str, object]]] = {
        "user_item_features": ({"interactions": interactions}, {"horizon_days": horizon_days}),
    }
    tables = {}
    for name in FEATURE_TABLES:
        more_inputs, more_params = extra.get(name, ({}, {}))
        tables[name] = warehouse.query(
            f"ranking/{name}", {**inputs, **more_inputs}, {**params, **more_params}
        )
    return tables


def retrievers_of(columns: Sequence[str]) -> list[str]:
    """The retrievers a candidate table was made with, by name, from its `score_<r>` columns."""
    return sorted(c.removeprefix("score_") for c in columns if c.startswith("score_"))


def feature_names(candidate_columns: Sequence[str]) -> list[str]:
    """The feature columns `join_features` gives for such a candidate table, in their order."""
    made = [
        f"{kind}_{r}"
        for r in retrievers_of(candidate_columns)
        for kind in ("score", "rank", "share", "place")
    ]
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


def join_tables(
    warehouse: Warehouse,
    candidates: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
) -> pa.Table:
    """The keys of any sorted candidate rows of one cutoff, with the features of the grain tables."""
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
        if not pc.all(pc.equal(joined[key], candidates[key])).as_py():
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
    return column.cast(pa.float32()).to_numpy().astype(np.float32, copy=False)


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
    """1-based place of each score within its query, best first; ties share the best place."""
    order = np.lexsort((-score, query))
    q, s = query[order], score[order]
    position = np.arange(len(order))
    new_query = np.diff(q, prepend=-1) != 0
    first_of_query = np.maximum.accumulate(np.where(new_query, position, 0))
    new_score = new_query | (np.diff(s, prepend=np.float32(np.nan)) != 0)
    first_of_tie = np.maximum.accumulate(np.where(new_score, position, 0))
    place = np.empty(len(order), dtype=np.float32)
    place[order] = first_of_tie - first_of_query + 1
    place[np.isnan(score)] = np.nan
    return place
