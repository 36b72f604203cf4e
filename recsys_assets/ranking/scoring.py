"""Scores for all candidates of one cutoff, with a ranker or without one.

Belongs here: choosing between model and fusion, and naming who proposed a candidate. Does not
belong here: features and models themselves.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.warehouse import Relation, Warehouse
from recsys_assets.ranking.features import retriever_features, retrievers_of
from recsys_assets.ranking.ranker import RankerModel, score_candidates


def score_or_fuse(
    warehouse: Warehouse,
    models: Mapping[str, RankerModel],
    candidates: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
    seen: np.ndarray,
) -> dict[str, pa.Array]:
    """`score_all`, `score_new` and `score_again` of every candidate row, float32; `score_new` is
    null where seen, `score_again` where not.

    Further entries of `models` (other seeds) come along under their own names. Without a model,
    `all` and `new` are scored by the fused places of the retrievers (reciprocal ranks), and `again`
    as `all`.
    """
    scores: dict[str, pa.Array] = {}
    if models:
        scored = score_candidates(warehouse, models, candidates, items, feature_tables)
        scores = {name: scored[name] for name in models}
    if not {"score_all", "score_new"} <= set(scores):
        fused = retriever_features(candidates, seen)["places_fused"].astype(np.float32)
        scores.setdefault("score_all", pa.array(fused))
        hidden = np.where(seen, np.float32(np.nan), fused)
        scores.setdefault("score_new", pa.array(hidden, from_pandas=True))
    if "score_again" not in scores:
        anything = scores["score_all"].to_numpy(zero_copy_only=False)
        again = np.where(seen, anything, np.float32(np.nan))
        scores["score_again"] = pa.array(again, from_pandas=True)
    return dict(sorted(scores.items()))


def score_column(task: str, seed: int, served: int) -> str:
    """Where the ranker of a task and seed writes its scores; `served` is the seed that is shown."""
    return f"score_{task}" if seed == served else f"score_{task}_seed_{seed}"


def proposed_by(candidates: pa.Table) -> pa.Array:
    """The names of the retrievers that have each row in their list, joined by ', '."""
    names = retrievers_of(candidates.column_names)
    bits = np.zeros(candidates.num_rows, dtype=np.int64)
    for place, name in enumerate(names):
        listed = pc.is_valid(candidates[f"rank_{name}"]).to_numpy()
        bits |= listed.astype(np.int64) << place
    kinds, code = np.unique(bits, return_inverse=True)
    texts = [
        ", ".join(n for place, n in enumerate(names) if kind >> place & 1)
        for kind in kinds.tolist()
    ]
    return pa.array(texts, pa.string()).take(pa.array(code))
