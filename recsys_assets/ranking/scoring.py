"""Scores for all candidates of one cutoff, with rankers or without one.

Belongs here: which rankers' order is shown, what rankers that know the same candidate say together,
choosing between model and fusion, and naming who proposed a candidate. Does not belong here:
features and models themselves.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.warehouse import Relation, Warehouse
from recsys_assets.ranking.blend import centred_and_spread, standardized
from recsys_assets.ranking.features import query_codes, retriever_features, retrievers_of
from recsys_assets.ranking.ranker import RankerModel, Task, in_task, score, score_candidates


def candidate_history(
    warehouse: Warehouse, candidates: pa.Table, feature_tables: Mapping[str, pa.Table]
) -> pa.Table:
    """What the user did before with each candidate row: `seen`, `times` and `due`."""
    return warehouse.query(
        "ranking/candidate_history",
        {
            "candidates": candidates.select(["user_id", "item_id"]),
            "user_item_features": feature_tables["user_item_features"],
        },
    )


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
        own = {name: scored[name].to_numpy() for name in models}
        together = ensembled(models, own, query_codes(candidates["user_id"]), seen)
        scores = {name: pa.array(values, from_pandas=True) for name, values in together.items()}
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


def ensembled(
    models: Mapping[str, RankerModel],
    scores: Mapping[str, np.ndarray],
    user: np.ndarray,
    seen: np.ndarray,
) -> dict[str, np.ndarray]:
    """The score of each ranker with a share of the other one that knows the same rows, float32.

    What a user never took is known to the rankers of `all` and of `new`, what they took before to
    those of `all` and of `again`: two models that err differently, one with more rows to learn from
    and one with its own labels. Their scores are compared standardized among these rows of the
    user. A share `ensemble` (of `RankerSettings`) of the other goes into a score; those of `all`
    keep their mean there, so that what is new and what is not stay comparable, and as much of their
    spread as the two agree on (dividing by the rest changes no list to speak of).

    `scores` are the rankers' own, by name, NaN where a task has none; `user` codes that rise from
    row to row. Of several seeds per task the first goes with the first, and so on.
    """
    mixed = {name: values.astype(np.float64) for name, values in scores.items()}
    anything = _by_seed(models, "all")
    for task in ("new", "again"):
        rows = np.flatnonzero(in_task(seen, task))
        query = _dense(user[rows])
        for general, special in zip(anything, _by_seed(models, task), strict=False):
            broad, narrow = (standardized(query, scores[n][rows]) for n in (general, special))
            if share := models[special].settings.get("ensemble", 0.0):
                mixed[special][rows] = (1 - share) * narrow + share * broad
            if share := models[general].settings.get("ensemble", 0.0):
                _, spread = centred_and_spread(query, scores[general][rows])
                mixed[general][rows] += share * (narrow - broad) * spread
    return {name: values.astype(np.float32) for name, values in mixed.items()}


def own_scores(
    models: Mapping[str, RankerModel], frame: pa.Table, seen: np.ndarray
) -> dict[str, np.ndarray]:
    """Each ranker's own scores of all candidates of a few users, from their features; float32, NaN
    where a task has none."""
    own = {}
    for name, model in models.items():
        rows = np.flatnonzero(in_task(seen, model.task))
        own[name] = np.full(len(seen), np.nan, dtype=np.float32)
        own[name][rows] = score(model, frame.take(pa.array(rows)))
    return own


def factors(
    models: Mapping[str, RankerModel],
    own: Mapping[str, np.ndarray],
    task: Task,
    seen: np.ndarray,
    place: int,
) -> list[tuple[RankerModel, float]]:
    """What the rankers' own scores of a candidate are multiplied by in its `score_<task>`; the rest
    of it is the same for all candidates of the user that are as new to them. See `ensembled`.

    `models` has one ranker per task, `own` and `seen` are one user's, `place` the candidate's.
    """
    served = f"score_{task}"
    kin = f"score_{'again' if seen[place] else 'new'}" if task == "all" else "score_all"
    share = models[served].settings.get("ensemble", 0.0) if kin in models else 0.0
    if not share:
        return [(models[served], 1.0)]
    alike = seen == seen[place]
    one, other = (float(own[name][alike].astype(np.float64).std()) for name in (served, kin))
    scale = one if task == "all" else 1.0  # `all` keeps its spread, the others are standardized
    return [
        (models[name], scale * part / spread if spread > 1e-12 else 0.0)
        for name, part, spread in ((served, 1.0 - share, one), (kin, share, other))
    ]


def _by_seed(models: Mapping[str, RankerModel], task: Task) -> list[str]:
    own = [name for name, model in models.items() if model.task == task]
    return sorted(own, key=lambda name: models[name].settings["seed"])


def _dense(codes: np.ndarray) -> np.ndarray:
    """0, 1, ... for codes that rise from row to row, with gaps."""
    return np.cumsum(np.diff(codes, prepend=codes[:1]) != 0)


def score_column(task: str, seed: int, served: int) -> str:
    """Where the ranker of a task and seed writes its scores; `served` is the seed that is shown."""
    return f"score_{task}" if seed == served else f"score_{task}_seed_{seed}"


def served_models(rankers: pd.DataFrame, target: str) -> dict[str, RankerModel]:
    """`score_<task>` -> the ranker of a target whose order is shown: the first of several seeds."""
    own = rankers[rankers["target"] == target].drop_duplicates("task")
    return {
        f"score_{task}": RankerModel.from_json(text)
        for task, text in zip(own["task"], own["model"], strict=True)
    }


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
