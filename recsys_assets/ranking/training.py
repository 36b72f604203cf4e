"""Labelled rows for the ranker: one label window at a time.

Belongs here: labels at a cutoff and the choice of candidate rows to learn from. Does not belong
here: features (`features.py`) and the model (`ranker.py`).

Rules: positives and negatives are only what the candidates contain, a missed positive is never
added; negatives are drawn by a hash of their ids, so the draw needs no random state; a query is one
user at one cutoff and has at most 10,000 rows (LightGBM's own limit).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.warehouse import Relation, Warehouse
from recsys_assets.ranking.features import (
    KEYS,
    join_tables,
    query_codes,
    retriever_features,
)

ROWS_PER_QUERY = 10_000

SOON_DAYS = 7
"""Task `again` asks, and is won by, what is taken again within so many days, however long the
horizon is: `buy_again` is about now."""


def build_labels(
    warehouse: Warehouse, interactions: Relation, as_of: datetime, horizon_end: datetime
) -> pa.Table:
    """What each user took in [as_of, horizon_end): as_of, user_id, item_id, taken, is_new,
    first_taken_at. Only taken pairs have a row; `is_new` means never taken before `as_of`."""
    return warehouse.query(
        "ranking/labels",
        {"interactions": interactions},
        {"as_of": as_of, "horizon_end": horizon_end},
    )


def training_frame(
    warehouse: Warehouse,
    candidates: pa.Table,
    labels: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
    *,
    negative_share: float,
    seed: int,
) -> pa.Table:
    """One window's rows to learn from: the keys, `label` and `label_again`, then the features.

    `label` (0 or 1, float32) is what was taken within the horizon, `label_again` what was taken
    within `SOON_DAYS`. A share `negative_share` (0 to 1) of the negatives is kept; `seed` chooses
    another draw. Users without a positive among their candidates are left out: they teach no order.
    Rows for task `new` are those with `ui_seen` 0; rows for task `again` those with `ui_seen` 1 and
    a `label_again`, which is null where a row is kept as a positive of the horizon but would not
    have been drawn as the negative that it is for `again`. Tables of several windows can be
    concatenated.
    """
    if not 0.0 <= negative_share <= 1.0:
        raise ValueError(f"negative_share is {negative_share}, not a share")
    rows = warehouse.query(
        "ranking/candidate_rows",
        {
            "candidates": candidates.select(["user_id", "item_id"]),
            "labels": labels.select(["user_id", "item_id", "taken", "first_taken_at"]),
            "user_item_features": feature_tables["user_item_features"].select(
                ["user_id", "item_id", "ui_seen"]
            ),
        },
        {
            "as_of": pc.max(candidates["as_of"]).as_py(),
            "seed": seed,
            "soon_days": SOON_DAYS,
        },
    )
    taken, draw = rows["taken"].to_numpy(), rows["draw"].to_numpy()
    soon = rows["taken_soon"].to_numpy()
    kept = kept_rows(
        query_codes(candidates["user_id"]),
        taken,
        draw,
        negative_share,
    )
    made = retriever_features(candidates, rows["seen"].to_numpy())
    joined = join_tables(warehouse, candidates.take(pa.array(kept)), items, feature_tables)
    return pa.table(
        {
            **{key: joined[key] for key in KEYS},
            "label": taken[kept].astype(np.float32),
            "label_again": pa.array(
                soon[kept].astype(np.float32), mask=~(soon | drawn(draw, negative_share))[kept]
            ),
            **{name: joined[name] for name in joined.column_names if name not in KEYS},
            **{name: values[kept] for name, values in made.items()},
        }
    )


def hide(
    warehouse: Warehouse,
    candidates: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
    *,
    user_item_days: pa.Table,
    promotions: Relation,
    hidden: Sequence[str],
    proposed: pa.Table,
) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Candidates and grain tables of a window in which nobody ever took an item of `hidden`.

    Candidates among the hidden items are replaced by `proposed` (`retrieval/hidden.py`), less what
    the user had taken, and stay sorted; a score that `proposed` lacks is null there. The features
    of the hidden items are what `user_item_days` say without them. What users did with the kinds of
    things they are stays as it is. Nothing is hidden where no retriever could propose it.
    """
    if not any(name.startswith("rank_") for name in proposed.column_names):
        return candidates, dict(feature_tables)
    ids = pa.array(hidden, pa.string())

    def among(table: pa.Table) -> pa.Array:
        return pc.is_in(table["item_id"], value_set=ids)

    def others(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(among(table)))

    pairs = feature_tables["user_item_features"]
    known = pairs.filter(pc.and_(among(pairs), pc.equal(pairs["ui_seen"], 1)))
    new = proposed.join(
        known.select(["user_id", "item_id"]), ["user_id", "item_id"], join_type="left anti"
    )
    both = pa.concat_tables([others(candidates), new], promote_options="default")
    both = both.select(candidates.column_names)
    without = warehouse.query(
        "ranking/item_features",
        {"user_item_days": others(user_item_days), "items": items, "promotions": promotions},
        {"as_of": pc.max(user_item_days["as_of"]).as_py()},
    )
    tables = {
        **feature_tables,
        "user_item_features": others(pairs),
        "store_item_features": others(feature_tables["store_item_features"]),
        "item_features": pa.concat_tables(
            [others(feature_tables["item_features"]), without.filter(among(without))]
        ),
    }
    return both.sort_by([("user_id", "ascending"), ("item_id", "ascending")]), tables


def kept_rows(
    query: np.ndarray,
    taken: np.ndarray,
    draw: np.ndarray,
    negative_share: float,
    rows_per_query: int = ROWS_PER_QUERY,
) -> np.ndarray:
    """Positions of the rows to learn from, ascending; all arguments are row-aligned.

    `query` are codes 0.. in row order, `draw` is uniform in [0, 1,000,000). Beyond
    `rows_per_query` a query keeps its positives first, then the negatives with the lowest draws.
    """
    has_positive = np.bincount(query, weights=taken, minlength=query.max(initial=-1) + 1) > 0
    chosen = np.flatnonzero((taken | drawn(draw, negative_share)) & has_positive[query])
    order = chosen[np.lexsort((chosen, draw[chosen], ~taken[chosen], query[chosen]))]
    q = query[order]
    starts = np.flatnonzero(np.diff(q, prepend=-1))
    place = np.arange(len(q)) - np.repeat(starts, np.diff(np.append(starts, len(q))))
    return np.sort(order[place < rows_per_query])


def drawn(draw: np.ndarray, share: float) -> np.ndarray:
    """Which rows a share of all is, by their draws in [0, 1,000,000)."""
    return draw < round(share * 1_000_000)
