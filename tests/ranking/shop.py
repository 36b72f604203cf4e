"""A tiny shop for the feature tests: every number in it can be counted on fingers.

Belongs here: frames under the staged contracts. Does not belong here: assertions.
"""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa

AS_OF = datetime(2020, 3, 2, tzinfo=UTC)


def event(
    user: str,
    item: str,
    days_ago: float,
    *,
    price: float | None = 2.0,
    discount: float = 0.0,
    store: str | None = "s1",
    taken: bool = True,
    polarity: int = 1,
) -> dict[str, object]:
    """One event `days_ago` days before AS_OF, and half an hour, so that it lies within a day; or
    after it (negative)."""
    return {
        "user_id": user,
        "item_id": item,
        "event_time": AS_OF - timedelta(days=days_ago, minutes=30 if days_ago > 0 else 0),
        "quantity": 1.0,
        "value": None if price is None else price - discount,
        "weight": 1.0,
        "polarity": polarity,
        "counts_as_taken": taken,
        "store_id": store,
        "price": price,
        "discount": discount,
    }


def interactions(*events: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame(list(events))
    frame["event_time"] = frame["event_time"].astype("datetime64[us, UTC]")
    frame["weight"] = frame["weight"].astype("float32")
    frame["polarity"] = frame["polarity"].astype("int8")
    frame["store_id"] = frame["store_id"].astype("string")
    frame[["price", "value"]] = frame[["price", "value"]].astype("float64")
    order = frame.sort_values(
        ["event_time", "user_id", "item_id"], kind="stable", ignore_index=True
    )
    return order.assign(event_id=[f"e{n:03d}" for n in range(len(order))])


def items(*ids: str, price: float | None = None) -> pd.DataFrame:
    """Items of one type and brand; those that begin with the same letter are one group."""
    frame = pd.DataFrame(
        {
            "item_id": list(ids),
            "category_1": "food",
            "category_2": "dairy",
            "category_3": "milk",
            "brand": "acme",
            "group_id": [i[0] for i in ids],
            "price": price,
        }
    )
    return frame.astype({"price": "float64"})


def users(*ids: str) -> pa.Table:
    return pa.table({"user_id": list(ids), "attributes": ["{}"] * len(ids)})
