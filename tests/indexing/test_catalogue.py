"""What the objects of an index say about items, and when they count as changed."""

import numpy as np
import pandas as pd

from recsys_assets.core.vectors import ItemVectors
from recsys_assets.indexing.catalogue import catalogue_objects
from recsys_assets.indexing.objects import ALWAYS_FROM, ALWAYS_TO, object_id, popularity_step

AS_OF = pd.Timestamp("2024-03-01", tz="UTC")


def day(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def catalogue(**changes: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "item_id": ["b", "a"],
            "text": ["Bread", "Apple"],
            "category_1": ["Bakery", "Food"],
            "category_2": ["", "Fruit"],
            "category_3": ["", "Fruit"],
            "brand": ["Anker", ""],
            "price": [2.0, np.nan],
            "available_from": [day("2024-01-01"), pd.NaT],
            "available_to": [pd.NaT, day("2024-06-01")],
            "status": ["active", "inactive"],
            "market": ["AT", ""],
            "group_id": ["g1", "g2"],
        }
    )
    frame["available_from"] = pd.to_datetime(frame["available_from"], utc=True)
    frame["available_to"] = pd.to_datetime(frame["available_to"], utc=True)
    for column, values in changes.items():
        for item, value in values.items():
            frame.loc[frame["item_id"] == item, column] = value
    return frame


VECTORS = ItemVectors(np.array(["a", "b"], dtype=object), np.eye(2, 4, dtype=np.float32))

EVENTS = pd.DataFrame(
    {
        "item_id": ["a", "a", "a", "a"],
        "user_id": ["u1", "u1", "u2", "u3"],
        "event_time": [day("2023-12-01"), day("2024-02-20"), day("2024-02-25"), day("2024-02-26")],
        "counts_as_taken": [True, True, True, False],
        "price": [1.0, 1.5, np.nan, 1.2],
    }
)


def properties(items: pd.DataFrame, events: pd.DataFrame = EVENTS) -> list[dict[str, object]]:
    return catalogue_objects(items, VECTORS, events, AS_OF).properties.to_pylist()


def test_an_object_says_what_the_catalogue_and_the_events_say() -> None:
    apple, bread = properties(catalogue())
    assert apple == {
        "text": "Apple", "categories": ["food", "fruit"], "brand": "", "price": 1.2,
        "available_from": ALWAYS_FROM, "available_to": int(day("2024-06-01").timestamp()),
        "active": False, "market": "*", "group_id": "g2", "popularity": 1, "warm": True,
        "first_seen": int(day("2023-12-01").timestamp()),
    }  # fmt: skip
    assert bread["categories"] == ["bakery"]
    assert bread["price"] == 2.0
    assert bread["available_from"] == bread["first_seen"] == int(day("2024-01-01").timestamp())
    assert bread["available_to"] == ALWAYS_TO
    assert (bread["warm"], bread["popularity"], bread["market"]) == (False, 0, "AT")


def test_only_what_changed_changes_its_hash() -> None:
    before = catalogue_objects(catalogue(), VECTORS, EVENTS, AS_OF)
    after = catalogue_objects(catalogue(price={"b": 2.5}), VECTORS, EVENTS, AS_OF)
    assert before.hashes[0] == after.hashes[0]
    assert before.hashes[1] != after.hashes[1]
    assert before.digest != after.digest


def test_one_more_buyer_does_not_change_an_object_but_many_do() -> None:
    people = np.array([0, 1, 2, 3, 14, 15, 30, 31])
    assert popularity_step(people).tolist() == [0, 1, 1, 2, 3, 4, 4, 5]


def test_an_item_keeps_its_uuid_for_ever() -> None:
    assert object_id("1082185") == "9ff7eb08-2b8f-56f3-baca-fce75723887e"
    assert object_id("007") != object_id("7")
