"""EASE: both forms against the textbook formula."""

import numpy as np
import pytest
from scipy import sparse

from recsys_assets.collaborative.linear import DualEase, PrimalEase, fit_ease, spd_inverse


def example(n_users: int = 7, n_items: int = 11) -> sparse.csr_matrix:
    rng = np.random.default_rng(2)
    x = (rng.random((n_users + 1, n_items)) < 0.4) * rng.random((n_users + 1, n_items))
    x[-1] = 0
    return sparse.csr_matrix(x.astype(np.float32))


def textbook(x: np.ndarray, regularization: float, side: np.ndarray | None = None) -> np.ndarray:
    whole = x if side is None else np.hstack([x, side])
    inverse = np.linalg.inv(whole.T @ whole + regularization * np.eye(whole.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return (whole @ weights)[:, : x.shape[1]]


def test_the_dual_form_is_exactly_ease() -> None:
    x = example()
    model = fit_ease(x, 0.7)
    assert isinstance(model, DualEase)
    got = model.scores(np.arange(8))
    assert got == pytest.approx(textbook(x.toarray().astype(np.float64), 0.7), abs=1e-4)


def test_the_primal_form_is_exactly_ease() -> None:
    x = example(20, 6)
    model = fit_ease(x, 0.7)
    assert isinstance(model, PrimalEase)
    got = model.scores(np.arange(21))
    assert got == pytest.approx(textbook(x.toarray().astype(np.float64), 0.7), abs=1e-4)


def test_side_columns_explain_but_are_not_explained() -> None:
    x = example()
    side = example(7, 3)
    got = fit_ease(x, 0.7, side).scores(np.arange(8))
    expected = textbook(x.toarray().astype(float), 0.7, side.toarray().astype(float))
    assert got == pytest.approx(expected, abs=1e-4)


def test_a_shop_with_too_many_items_keeps_the_most_taken() -> None:
    x = example(30, 9)
    model = fit_ease(x, 0.7, max_rows=0, max_items=4)
    assert isinstance(model, PrimalEase)
    support = np.bincount(x.indices, minlength=9)
    assert set(model.items) == set(np.lexsort((np.arange(9), -support))[:4])
    assert not model.scores(np.arange(3))[:, np.setdiff1d(np.arange(9), model.items)].any()


def test_a_user_without_history_scores_zero() -> None:
    assert not fit_ease(example(), 0.7).scores(np.array([-1])).any()


def test_the_inverse_is_the_inverse_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_assets.collaborative.linear._BLOCK", 4)
    x = np.random.default_rng(0).normal(size=(11, 20))
    matrix = x @ x.T + np.eye(11)
    assert spd_inverse(matrix.copy()) == pytest.approx(np.linalg.inv(matrix), abs=1e-9)
    with pytest.raises(ValueError, match="positive definite"):
        spd_inverse(-np.eye(3))
