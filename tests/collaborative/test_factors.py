"""Factors: sound or named unsound, and the same after a trip through their table."""

import numpy as np
import pandas as pd
from scipy import sparse

from recsys_assets.collaborative import factors

AS_OF = pd.Timestamp("2020-03-01", tz="UTC")


def taste() -> sparse.csr_matrix:
    rows = [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    return sparse.csr_matrix(np.array(rows, dtype=np.float32))


def fitted() -> factors.Factors:
    return factors.fit_als(taste(), factors=2, regularization=0.1, alpha=5.0, iterations=12, seed=1)


def test_als_puts_a_users_items_first_and_the_empty_user_at_zero() -> None:
    found = fitted()
    scores = found.users @ found.items.T
    assert scores[0, :2].min() > scores[0, 2:].max()
    assert scores[2, 2:].min() > scores[2, :2].max()
    assert not found.users[3].any()


def test_als_with_one_seed_is_one_model() -> None:
    a = fitted()
    b = fitted()
    assert a.items.tobytes() == b.items.tobytes()


def test_the_table_keeps_vectors_and_aligns_them_to_other_ids() -> None:
    made = fitted()
    users, items = pd.Index(["a", "b", "c", "d"]), pd.Index(["1", "2", "3", "4"])
    table = factors.to_table(made, AS_OF, users, items)
    back = factors.from_table(table, users, items)
    assert np.array_equal(back.users, made.users)
    assert np.array_equal(back.items, made.items)
    other = factors.from_table(table, pd.Index(["z", "a"]), pd.Index(["4"]))
    assert not other.users[0].any()
    assert np.array_equal(other.users[1], made.users[0])
    assert np.array_equal(other.items[0], made.items[3])
