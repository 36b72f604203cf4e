"""A straight line through the retrievers: one weight each, learned from label windows.

Belongs here: retriever scores on one scale, and the weights of their sum. Does not belong here:
trees (`ranker.py`), and blends of the evaluation stage, which are not learned from windows.

With few users the trees spend what there is to learn on finding this line; it stands on its own
then, and the trees add what is not straight.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

DOUBT = 1.0
"""Strength of the pull of every weight towards zero (a normal prior of this precision)."""


def standardized(query: Ints, values: npt.ArrayLike) -> Floats:
    """Values less their query's mean, over its standard deviation.

    NaN and whatever does not vary within the query becomes 0. `query` are codes 0, 1, ...
    """
    centred, spread = centred_and_spread(query, values)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12)


def centred_and_spread(query: Ints, values: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Values less their query's mean (0 for NaN), and the query's standard deviation, per value."""
    given = np.asarray(values, dtype=np.float64)
    known = np.isfinite(given)
    size = np.maximum(np.bincount(query, known), 1)
    filled = np.where(known, given, 0.0)
    centred = np.where(known, filled - (np.bincount(query, filled) / size)[query], 0.0)
    return centred, np.sqrt(np.bincount(query, centred**2) / size)[query]


def fit_weights(query: Ints, label: npt.ArrayLike, frame: pa.Table) -> dict[str, float]:
    """The weight of every `score_<r>` column of `frame`, none of them negative.

    Maximizes the likelihood of each positive among the rows of its query (conditional logit, also
    ListNet's top-one loss) under a normal prior. Deterministic.
    """
    from scipy.optimize import minimize

    names = sorted(n for n in frame.column_names if n.startswith("score_"))
    scores = np.column_stack([standardized(query, frame[n].to_numpy()) for n in names])
    hit = np.asarray(label, dtype=np.float64)
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    hits = np.bincount(query, hit)
    found = hit @ scores

    def loss(weights: Floats) -> tuple[float, Floats]:
        total = scores @ weights
        top = np.maximum.reduceat(total, starts)
        raised = np.exp(total - top[query])
        mass = np.add.reduceat(raised, starts)
        share = raised / mass[query] * hits[query]
        value = hits @ (np.log(mass) + top) - found @ weights + DOUBT / 2 * weights @ weights
        return float(value), share @ scores - found + DOUBT * weights

    start = np.full(len(names), 0.1)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(names))
    return {name: float(w) for name, w in zip(names, best.x, strict=True)}


def blended(weights: Mapping[str, float], query: Ints, frame: pa.Table) -> Floats:
    """The weighted sum of the standardized scores, one per row."""
    total = np.zeros(frame.num_rows)
    for name, weight in weights.items():
        if weight:
            total += weight * standardized(query, frame[name].to_numpy())
    return total
