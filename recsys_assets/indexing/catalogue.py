"""From the catalogue and what happened to it: the objects of an index release.

Belongs here: the value of every property. Does not belong here: their meaning (`objects.py`), any
store.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.content.categories import CATEGORY_COLUMNS
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.indexing.objects import (
    ALWAYS_FROM,
    ALWAYS_TO,
    EVERYWHERE,
    PROPERTIES,
    Objects,
    popularity_step,
)

POPULARITY_DAYS = 28


def catalogue_objects(
    items: pd.DataFrame, vectors: ItemVectors, known: pd.DataFrame, as_of: pd.Timestamp
) -> Objects:
    """One object per catalogue item.

    `items`: the staged catalogue. `known`: item_id, user_id, event_time, counts_as_taken and price
    of the events before `as_of`. An item without a list price has the shelf price of its last
    event that tells one; popularity counts the people who took it in the last 28 days.
    """
    items = items.sort_values("item_id", ignore_index=True)
    ids = pd.Index(items["item_id"])
    rows = vectors.rows(ids)
    if (rows < 0).any():
        raise ValueError(f"{int((rows < 0).sum())} catalogue items have no vector")
    first = known.groupby("item_id")["event_time"].min().reindex(ids)
    paid = known.dropna(subset=["price"]).sort_values(["event_time", "price"], kind="stable")
    shelf = paid.groupby("item_id")["price"].last().reindex(ids)
    late = known["event_time"] >= as_of - pd.Timedelta(days=POPULARITY_DAYS)
    people = (
        known.loc[late & known["counts_as_taken"], ["item_id", "user_id"]]
        .drop_duplicates()
        .groupby("item_id")
        .size()
        .reindex(ids, fill_value=0)
    )
    seen = items["available_from"].fillna(pd.Series(first.to_numpy()))
    columns: dict[str, object] = {
        "text": items["text"].fillna(""),
        "categories": _categories(items),
        "brand": items["brand"].fillna("").str.lower(),
        "price": items["price"].fillna(pd.Series(shelf.to_numpy())),
        "available_from": _seconds(items["available_from"], ALWAYS_FROM),
        "available_to": _seconds(items["available_to"], ALWAYS_TO),
        "active": items["status"] == "active",
        "market": items["market"].fillna("").replace("", EVERYWHERE),
        "group_id": items["group_id"].fillna(""),
        "popularity": popularity_step(people.to_numpy().astype(np.int64)),
        "warm": first.notna().to_numpy(),
        "first_seen": _seconds(seen, ALWAYS_FROM),
    }
    table = pa.table(
        {
            name: pa.array(columns[name], type=kind, from_pandas=True)
            for name, kind in PROPERTIES.items()
        }
    )
    return Objects(pa.array(ids, pa.string()), vectors.matrix[rows], table)


def _categories(items: pd.DataFrame) -> list[list[str]]:
    levels = [items[level].fillna("").str.lower().tolist() for level in CATEGORY_COLUMNS]
    return [[name for name in dict.fromkeys(path) if name] for path in zip(*levels, strict=True)]


def _seconds(moments: pd.Series, unknown: int) -> np.ndarray:
    """UTC seconds, `unknown` where there is no time."""
    micros = pd.to_datetime(moments, utc=True).astype("datetime64[us, UTC]").astype("int64")
    return np.where(moments.isna().to_numpy(), unknown, micros.to_numpy() // 1_000_000)
