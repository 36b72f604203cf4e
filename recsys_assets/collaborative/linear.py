"""Closed-form linear item models: the best linear map from what a user took to what a user takes.

Belongs here: EASE in its two exact forms and the choice between them. Does not belong here: which
strengths go in, lists, cutoffs.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") regresses X on itself with
a zero diagonal: B = I - P diag(P)^-1 with P = (X'X + lambda I)^-1.
*Dual form* (Woodbury): with M = (X X' + lambda I)^-1, one row and column per user,
X P = M X and diag(P)_j = (1 - x_j' M x_j) / lambda, hence X B = X - (M X) diag(P)^-1. Exact for any
number of items, memory n_users^2.
*Primal form*: B itself, memory n_items^2, on the most taken items only when there are too many.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from recsys_assets.core.arrays import transposed
from recsys_assets.core.matrix_product import dense_product
from recsys_assets.core.threads import one_thread

Floats = npt.NDArray[np.float32]
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class DualEase:
    """Scores of a fitted user are x_u - (M_u X) / diag(P). `x` has one empty last row."""

    x: sparse.csr_matrix
    x_by_item: sparse.csr_matrix
    inverse: Floats
    diagonal: Floats
    """diag(P) per item."""

    def scores(self, users: npt.NDArray[np.integer]) -> Floats:
        """Scores [len(users), n_items]; -1 gives zeros."""
        weights = np.ascontiguousarray(self.inverse[:, users])
        out = transposed(self.x_by_item @ weights)
        out /= -self.diagonal
        own = self.x[users]
        out[np.repeat(np.arange(len(users)), np.diff(own.indptr)), own.indices] += own.data
        return out


@dataclass(frozen=True, eq=False)
class PrimalEase:
    """Scores are x_u B. Columns outside the fitted items score zero."""

    x: sparse.csr_matrix
    items: npt.NDArray[np.integer]
    weights: Floats
    n_items: int

    def scores(self, users: npt.NDArray[np.integer]) -> Floats:
        """Scores [len(users), n_items]; -1 gives zeros."""
        out = np.zeros((len(users), self.n_items), dtype=np.float32)
        out[:, self.items] = self.x[users] @ self.weights
        return out


def fit_ease(
    x: sparse.csr_matrix,
    regularization: float,
    side: sparse.csr_matrix | None = None,
    max_rows: int = 8_000,
    max_items: int = 8_000,
) -> DualEase | PrimalEase:
    """EASE on a users x items matrix `x` whose last row is empty.

    `side` (users x anything) holds further columns that explain but are not explained, such as the
    categories, brands and stores of a user (collective EASE, Jeunen et al. 2020). The primal form
    leaves it out.

    Takes the dual form if there are at most `max_rows` users and no more than items, else the
    primal form on the `max_items` items most users took (ties by column), which knows no `side`.
    """
    n_users, n_items = x.shape[0] - 1, x.shape[1]
    if n_users <= max_rows and n_users <= max(n_items, 1):
        return _fit_dual(x, regularization, side)
    return _fit_primal(x, regularization, max_items)


def _fit_dual(
    x: sparse.csr_matrix, regularization: float, side: sparse.csr_matrix | None
) -> DualEase:
    n_users = x.shape[0] - 1
    body = x[:n_users].tocsr()
    x_by_item = body.T.tocsr().astype(np.float32)
    more = None if side is None else side[:n_users].astype(np.float64).tocsr()
    gram = _gram(body, regularization, more)
    inverse = np.zeros((n_users, n_users + 1), dtype=np.float32)
    inverse[:, :n_users] = spd_inverse(gram)
    diagonal = np.empty(x.shape[1], dtype=np.float32)
    step = 4096
    for start in range(0, x.shape[1], step):
        part = x_by_item[start : start + step]
        solved = part @ inverse[:, :n_users]
        owner = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        leverage = np.bincount(
            owner, weights=part.data * solved[owner, part.indices], minlength=part.shape[0]
        )
        diagonal[start : start + step] = np.maximum(1.0 - leverage, 1e-6) / regularization
    return DualEase(x.astype(np.float32), x_by_item, inverse, diagonal)


def _fit_primal(x: sparse.csr_matrix, regularization: float, max_items: int) -> PrimalEase:
    support = np.bincount(x.indices, minlength=x.shape[1])
    order = np.lexsort((np.arange(x.shape[1]), -support))
    items = np.sort(order[: min(max_items, int((support > 0).sum()))])
    part = x[:, items].tocsr()
    inverse = spd_inverse(_gram(part.T.tocsr(), regularization))
    inverse /= -np.diag(inverse)
    inverse[np.diag_indices(len(items))] = 0.0
    return PrimalEase(part.astype(np.float32), items, inverse.astype(np.float32), x.shape[1])


def spd_inverse(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Inverse of a symmetric positive definite matrix by Cholesky, on one thread.

    Works in the memory of `matrix`, which is lost. Raises ValueError if it is not positive
    definite.
    """
    with one_thread():
        factor, broken = linalg.lapack.dpotrf(matrix.T, lower=True, overwrite_a=True)
        if broken:
            raise ValueError("the matrix is not positive definite")
        inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    for start in range(0, len(inverse), _BLOCK):
        stop = start + _BLOCK
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
        corner = inverse[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
    return inverse


def _gram(
    rows: sparse.csr_matrix, regularization: float, side: sparse.csr_matrix | None = None
) -> npt.NDArray[np.float64]:
    """rows rows' (+ side side') + regularization I, dense, made block by block."""
    out = np.empty((rows.shape[0], rows.shape[0]))
    rows = rows.astype(np.float64).tocsr()
    by_column = rows.T.tocsr()
    side_by_column = None if side is None else side.T.tocsr()
    for start in range(0, rows.shape[0], _BLOCK):
        out[start : start + _BLOCK] = dense_product(rows[start : start + _BLOCK], by_column)
        if side is not None:
            out[start : start + _BLOCK] += dense_product(
                side[start : start + _BLOCK], side_by_column
            )
    out[np.diag_indices(len(out))] += regularization
    return out
