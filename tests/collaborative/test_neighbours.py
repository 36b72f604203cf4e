"""Neighbours of users and items, by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from recsys_assets.collaborative import neighbours as n
from recsys_assets.collaborative.tables import ITEM_NEIGHBOURS
from recsys_assets.core.lake import part_name
from recsys_assets.core.quality import audit

AS_OF = pd.Timestamp("2020-03-01", tz="UTC")


def test_the_nearest_user_is_never_oneself_and_ties_go_to_the_first() -> None:
    x = sparse.csr_matrix(np.array([[1, 0.0], [1, 0], [1, 0], [0, 1], [0, 0]]))
    nearest = n.NearestRows.among(x, 1).of(np.arange(5))
    assert nearest[0].indices.tolist() == [1]
    assert nearest[1].indices.tolist() == [0]
    assert nearest[3].nnz == 0
    assert nearest[4].nnz == 0
    assert nearest[0, 1] == pytest.approx(1.0)


def test_no_pair_of_items_with_enough_users_is_a_table_without_rows_that_is_approved() -> None:
    none = sparse.csr_matrix((3, 3), dtype=np.float32)
    table = n.to_table(n.ItemNeighbours(none, none), AS_OF, pd.Index(list("abc")))
    assert table.num_rows == 0 and table.schema == ITEM_NEIGHBOURS.arrow_schema()
    assert audit(ITEM_NEIGHBOURS, [(part_name(AS_OF), ITEM_NEIGHBOURS.conform(table))]).passed
    assert n.links_of(table, pd.Index(list("abc"))).nnz == 0


def test_only_the_reference_can_be_a_neighbour() -> None:
    x = sparse.csr_matrix(np.array([[1, 0.0], [1, 0], [1, 1]]))
    nearest = n.NearestRows.among(x, 2, reference=np.array([2])).of(np.arange(3))
    assert nearest[0].indices.tolist() == [2]
    assert nearest[2].nnz == 0


def test_euclidean_similarity_falls_with_distance() -> None:
    x = sparse.csr_matrix(np.array([[3.0, 0.1], [0, 4], [3, 1]]))
    nearest = n.NearestRows.among(x, 2, "euclidean").of(np.arange(3)).toarray()
    assert nearest[0, 1] == pytest.approx(1 / (1 + np.hypot(3, 3.9)))
    assert nearest[0, 2] > nearest[0, 1]


def test_who_is_asked_about_together_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    x = sparse.random(60, 20, 0.2, format="csr", random_state=rng)
    near = n.NearestRows.among(x, 7, reference=np.arange(0, 60, 3))
    everybody = near.of(np.arange(60)).toarray()
    asked = np.array([59, 3, 3, 17])
    assert (near.of(asked).toarray() == everybody[asked]).all()


def test_item_neighbours_by_hand() -> None:
    x = sparse.csr_matrix(np.array([[1, 1, 0.0], [1, 1, 0], [1, 0, 1]]))
    found = n.item_neighbours(x, k=2, min_support=1, shrink=0.0)
    assert found.links[0, 1] == pytest.approx(2 / np.sqrt(3 * 2))
    assert found.links[0, 2] == pytest.approx(1 / np.sqrt(3))
    assert found.links[1, 2] == 0
    assert found.support[0, 1] == 2
    assert found.links.diagonal().sum() == 0
    strict = n.item_neighbours(x, k=2, min_support=2, shrink=0.0)
    assert strict.links.nnz == 2


def test_transitions_are_directed() -> None:
    user = np.array([0, 0, 0, 1, 1])
    step = np.array([0, 1, 2, 3, 4])
    item = np.array([0, 1, 2, 0, 1])
    found = n.transitions(
        user,
        step,
        item,
        np.ones(5),
        3,
        lags=(0.0, 1.0, 0.5),
        k=100,
        min_support=0.1,
        shrink=0.0,
        source_power=0.0,
        target_power=0.0,
    )
    assert found.toarray().tolist() == [[0, 2, 0.5], [0, 0, 1], [0, 0, 0]]


def test_the_neighbour_table_lists_the_strongest_first_and_reads_back() -> None:
    x = sparse.csr_matrix(np.array([[1, 1, 0.0], [1, 1, 0], [1, 0, 1]]))
    found = n.item_neighbours(x, k=2, min_support=1, shrink=0.0)
    ids = pd.Index(["a", "b", "c"])
    table = n.to_table(found, AS_OF, ids)
    assert table.column("item_id").to_pylist() == ["a", "a", "b", "c"]
    assert table.column("neighbour_id").to_pylist() == ["b", "c", "a", "a"]
    assert table.column("rank").to_pylist() == [1, 2, 1, 1]
    assert table.column("support").to_pylist() == [2, 1, 2, 1]
    assert np.allclose(n.links_of(table, ids).toarray(), found.links.toarray())
