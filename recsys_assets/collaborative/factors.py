"""Matrix factorization: users and items as vectors whose inner product is the taste.

Belongs here: fitting ALS and BPR reproducibly, and their table form. Does not belong here:
candidates, scores of lists, anything about a cutoff's labels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse

from recsys_assets.collaborative.tables import ALS_FACTORS
from recsys_assets.core.threads import one_thread

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Factors:
    """User and item vectors, float32 [n, d]; the taste of a pair is their inner product."""

    users: Floats
    items: Floats


def fit_als(
    matrix: sparse.csr_matrix,
    factors: int,
    regularization: float,
    alpha: float,
    iterations: int,
    seed: int,
) -> Factors:
    """Implicit-feedback ALS (Hu, Koren, Volinsky 2008) of a users x items matrix of strengths.

    Confidence is alpha * strength where there is an entry and 1 elsewhere, as the `implicit`
    package counts it. One thread, conjugate gradient, seeded: the same input gives the same bits.
    Rows and columns without entries get zero vectors.
    """
    from implicit.als import AlternatingLeastSquares

    matrix = matrix.astype(np.float32).tocsr()
    with one_thread():
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            iterations=iterations,
            random_state=seed,
            num_threads=1,
            dtype=np.float32,
        )
        model.fit(matrix, show_progress=False)
    return _cleared(Factors(np.asarray(model.user_factors), np.asarray(model.item_factors)), matrix)


def fit_bpr(
    matrix: sparse.csr_matrix,
    factors: int,
    learning_rate: float,
    regularization: float,
    iterations: int,
    seed: int,
) -> Factors:
    """Bayesian personalised ranking (Rendle et al. 2009); the last two dimensions hold item biases.

    One thread: with more, `implicit`'s BPR differs from run to run.
    """
    from implicit.bpr import BayesianPersonalizedRanking

    matrix = matrix.astype(np.float32).tocsr()
    with one_thread():
        model = BayesianPersonalizedRanking(
            factors=factors,
            learning_rate=learning_rate,
            regularization=regularization,
            iterations=iterations,
            random_state=seed,
            num_threads=1,
            verify_negative_samples=True,
        )
        model.fit(matrix, show_progress=False)
    return _cleared(Factors(np.asarray(model.user_factors), np.asarray(model.item_factors)), matrix)


def _cleared(found: Factors, matrix: sparse.csr_matrix) -> Factors:
    users = np.array(found.users, dtype=np.float32, order="C")
    items = np.array(found.items, dtype=np.float32, order="C")
    users[np.diff(matrix.indptr) == 0] = 0.0
    items[np.bincount(matrix.indices, minlength=matrix.shape[1]) == 0] = 0.0
    return Factors(users, items)


def to_table(
    factors: Factors, as_of: pd.Timestamp, user_ids: pd.Index, item_ids: pd.Index
) -> pa.Table:
    """The table form of `factors` whose rows belong to `user_ids` and `item_ids` (both sorted)."""
    if len(user_ids) != len(factors.users) or len(item_ids) != len(factors.items):
        raise ValueError("one id per vector is needed")
    vectors = np.concatenate([factors.items, factors.users])
    width = vectors.shape[1]
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * width)
    return pa.table(
        {
            "as_of": pa.array([as_of] * len(vectors), pa.timestamp("us", "UTC")),
            "kind": pa.array(["item"] * len(item_ids) + ["user"] * len(user_ids)),
            "id": pa.array([*item_ids, *user_ids], pa.string()),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel(), pa.float32())),
        },
        schema=ALS_FACTORS.arrow_schema(),
    )


def from_table(table: pa.Table, user_ids: pd.Index, item_ids: pd.Index) -> Factors:
    """Factors aligned to `user_ids` and `item_ids`; an id the table lacks gets a zero vector."""
    vectors = table.column("vector").combine_chunks()
    lengths = np.unique(np.diff(vectors.offsets.to_numpy()))
    if len(lengths) != 1:
        raise ValueError("vectors of different lengths in one factor table")
    flat = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, int(lengths[0]))
    kind = table.column("kind").to_pandas().to_numpy(dtype=object)
    ids = table.column("id").to_pandas().to_numpy(dtype=object)

    def aligned(name: str, wanted: pd.Index) -> Floats:
        mine = kind == name
        place = pd.Index(ids[mine]).get_indexer(wanted)
        out = np.zeros((len(wanted), flat.shape[1]), dtype=np.float32)
        out[place >= 0] = flat[mine][place[place >= 0]]
        return out

    return Factors(aligned("user", user_ids), aligned("item", item_ids))
