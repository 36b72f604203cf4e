"""A user's taste as one vector."""

import numpy as np
import pandas as pd

from recsys_assets.content.profiles import profiles
from recsys_assets.core.vectors import ItemVectors

AS_OF = pd.Timestamp("2024-03-01", tz="UTC")
VECTORS = ItemVectors(np.array(["x", "y"], dtype=object), np.eye(2, dtype=np.float32))


def taken(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """Rows of user, item, age in days."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "age"])
    return frame.assign(event_time=AS_OF - pd.to_timedelta(frame["age"], unit="D"))


def test_what_was_taken_a_half_life_ago_weighs_the_root_of_a_half() -> None:
    users, matrix = profiles(taken(("u", "x", 1e-6), ("u", "y", 60.0)), VECTORS, AS_OF)
    assert users == ["u"]
    expected = np.array([1.0, np.sqrt(0.5)])
    assert np.allclose(matrix[0], expected / np.linalg.norm(expected), atol=1e-4)


def test_repeats_count_by_their_root() -> None:
    rows = [("u", "x", 60.0)] * 4 + [("u", "y", 60.0)]
    _, matrix = profiles(taken(*rows), VECTORS, AS_OF)
    assert np.isclose(matrix[0, 0] / matrix[0, 1], 2.0)


def test_somebody_whose_items_have_no_vector_has_no_profile() -> None:
    users, matrix = profiles(taken(("a", "gone", 1.0), ("b", "y", 1.0)), VECTORS, AS_OF)
    assert users == ["b"]
    assert matrix.tolist() == [[0.0, 1.0]]
