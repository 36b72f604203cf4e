"""The learned order of candidates: LightGBM on label windows, one model per target and task.

Belongs here: settings, training, scoring, and what a score is made of. Does not belong here:
features (`features.py`), labels and sampling (`training.py`), business rules, reasons in words.

A model is LightGBM's own text, never a pickle. Whoever stores it checks its sha256 before loading:
a torn model text kills the process. Same frame, same settings -> the same text, byte for byte.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.memory import trim
from recsys_assets.core.threads import side_by_side
from recsys_assets.core.warehouse import Relation, Warehouse
from recsys_assets.ranking.blend import blended, fit_weights, standardized
from recsys_assets.ranking.features import KEYS, join_features, query_codes
from recsys_assets.ranking.forest import Forest
from recsys_assets.ranking.training import ROWS_PER_QUERY

Task = Literal["all", "new", "again"]
"""all: what is taken within the horizon; new: that, of what was never taken; again: what was taken
before and is taken again within days (`training.SOON_DAYS`)."""

Objective = Literal["lambdarank", "rank_xendcg", "binary"]

LIST_LENGTH = 10


class NothingToLearnError(ValueError):
    """The label windows hold no positive or no negative for a task, or too few rows for a tree."""


@dataclass(frozen=True)
class RankerSettings:
    """What the trees are grown with. Defaults were chosen on the tune target.

    `objectives` names one model each; their scores are averaged after each is standardized within
    the user, since a margin of one objective means nothing to another. `seeds` models are grown per
    objective.

    `blend` is the share of a straight line through the retrievers (`blend.py`) in the ranker's
    score; 0 leaves it out. `ensemble` is the share that the other ranker of the same rows has in
    the final score (`scoring.ensembled`).
    """

    task: Task = "all"
    objectives: tuple[Objective, ...] = ("binary",)
    rounds: int = 150
    learning_rate: float = 0.1
    num_leaves: int = 31
    min_data_in_leaf: int = 200
    feature_fraction: float = 0.5
    bagging_fraction: float = 0.8
    lambda_l2: float = 5.0
    max_bin: int = 63
    truncation: int = 30
    blend: float = 0.0
    ensemble: float = 0.0
    seed: int = 0
    seeds: int = 1
    threads: int = 2

    @property
    def trees(self) -> int:
        """How many trees are grown."""
        return self.rounds * self.seeds * len(self.objectives)

    @staticmethod
    def for_task(task: Task) -> "RankerSettings":
        """The settings that won on the tune target for a task."""
        return RankerSettings(task=task, rounds=ROUNDS[task], ensemble=ENSEMBLE[task])


ROUNDS: dict[Task, int] = {"all": 150, "new": 75, "again": 100}
ENSEMBLE: dict[Task, float] = {"all": 0.3, "new": 0.5, "again": 0.5}


@dataclass(frozen=True)
class RankerModel:
    """A trained ranker and what there is to say about it.

    `texts` are LightGBM model strings, one per member; `weights` those of the retrievers' blend,
    empty without one; `features` their columns in order; `metrics`
    counts of what it learned from (and NDCG@10 on `valid` where given); `importance` the share of
    the total gain per feature, largest first; `learning_curve` rows {member, round, ndcg_10}.
    """

    task: Task
    texts: tuple[str, ...]
    features: tuple[str, ...]
    settings: dict[str, Any]
    metrics: dict[str, float]
    importance: dict[str, float]
    learning_curve: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "RankerModel":
        """Read back `to_json`. The caller has verified the bytes against their sha256."""
        raw = json.loads(text)
        raw["texts"] = tuple(raw["texts"])
        raw["features"] = tuple(raw["features"])
        return RankerModel(**raw)


def feature_spec(features: Sequence[str]) -> str:
    """What a ranker reads, as a short hash: the names of its features, in their order."""
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:16]


def spec_faults(model: RankerModel, stated: str, served: Sequence[str]) -> list[str]:
    """Why a model must not score candidates that come with the features `served`; empty if it may.
    `stated` is the hash that was stored beside it."""
    if feature_spec(model.features) != stated:
        return [f"its features are not those of its feature spec {stated}"]
    if stated == feature_spec(served):
        return []
    lacks = [n for n in served if n not in model.features]
    strange = [n for n in model.features if n not in served]
    if lacks or strange:
        return [
            f"feature spec {stated} lacks {len(lacks)} of the features served ({lacks[:3]}) and "
            f"has {len(strange)} others ({strange[:3]})"
        ]
    moved = next(n for n, m in zip(served, model.features, strict=True) if n != m)
    return [f"feature spec {stated} has the features in another order, from {moved} on"]


def all_spec_faults(rankers: pd.DataFrame, served: Sequence[str]) -> list[str]:
    """The `spec_faults` of every row of the table of that name, with its target and task."""
    return [
        f"ranker {row['target']}/{row['task']}: {fault}"
        for row in rankers.to_dict("records")
        for fault in spec_faults(RankerModel.from_json(row["model"]), row["feature_spec"], served)
    ]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What rankers of one task learn from, binned: any number of them can be grown on it.

    `data` is LightGBM's own data set, which trees are grown on side by side without touching it;
    `rows` the keys and the retrievers' scores of each row in its order, `query` the code of
    (cutoff, user).
    """

    task: Task
    max_bin: int
    features: tuple[str, ...]
    data: Any
    rows: pa.Table
    query: np.ndarray
    label: np.ndarray


def prepare(frame: pa.Table, settings: RankerSettings) -> Lesson:
    """The labelled rows of one or more windows (`training.training_frame`) as a task learns them.

    For task `new` only rows with `ui_seen` 0 are used, for task `again` only rows with `ui_seen` 1
    and a `label_again`. Raises NothingToLearnError without positives or without negatives.
    """
    import lightgbm as lgb  # 2 s

    kept, label = _of_task(frame, settings.task)
    scores = [name for name in frame.column_names if name.startswith("score_")]
    rows = frame.select([*KEYS, *scores]).take(pa.array(kept))
    query = _queries(rows)
    if not 0 < label.sum() < len(label):
        raise NothingToLearnError(f"task {settings.task}: no positives or no negatives")
    features = _features(frame)
    data = lgb.Dataset(
        to_matrix(frame, features, kept),
        label,
        group=np.bincount(query),
        feature_name=list(features),
        params=_params(settings.objectives[0], settings),
        free_raw_data=True,
    ).construct()
    return Lesson(settings.task, settings.max_bin, features, data, rows, query, label)


def train(
    frame: pa.Table | Lesson, settings: RankerSettings, *, valid: pa.Table | None = None
) -> RankerModel:
    """Grow the trees on labelled rows, or on what `prepare` made of them for the same task.

    `valid` (same columns, all candidates of another cutoff) only adds a learning curve; it never
    stops or changes the training. Raises NothingToLearnError as `prepare` does, and when no tree
    can split.
    """
    import lightgbm as lgb  # 2 s

    lesson = frame if isinstance(frame, Lesson) else prepare(frame, settings)
    if (lesson.task, lesson.max_bin) != (settings.task, settings.max_bin):
        raise ValueError(
            f"prepared for task {lesson.task} with max_bin {lesson.max_bin}, asked for "
            f"{settings.task} with {settings.max_bin}"
        )
    data, learn, query, label = lesson.data, lesson.rows, lesson.query, lesson.label
    features = lesson.features
    boosters = []
    for objective in settings.objectives:
        for number in range(settings.seeds):
            member = replace(settings, seed=settings.seed + number)
            boosters.append(lgb.train(_params(objective, member), data, settings.rounds))
    if not any(b.feature_importance("gain").any() for b in boosters):
        raise NothingToLearnError(
            f"task {settings.task}: {len(label)} rows are too few for a tree with "
            f"{settings.min_data_in_leaf} in every leaf"
        )
    gain = sum(
        b.feature_importance("gain") / max(b.feature_importance("gain").sum(), 1e-12)
        for b in boosters
    ) / len(boosters)
    order = np.lexsort((np.array(features), -gain))
    model = RankerModel(
        task=settings.task,
        texts=tuple(b.model_to_string() for b in boosters),
        features=features,
        settings={**asdict(settings), "objectives": list(settings.objectives)},
        metrics={
            "rows": float(len(label)),
            "positives": float(label.sum()),
            "queries": float(query[-1] + 1),
            "windows": float(len(pc.unique(learn["as_of"]))),
        },
        importance={features[j]: float(gain[j]) for j in order},
        weights=fit_weights(query, label, learn) if settings.blend else {},
    )
    if valid is None:
        return model
    try:
        kept, label = _of_task(valid, settings.task)
    except NothingToLearnError:
        return model
    held_out = valid.take(pa.array(kept))
    return _with_learning_curve(model, boosters, held_out, label) if len(kept) else model


def train_tasks(
    frame: pa.Table,
    variants: Mapping[Task, Sequence[RankerSettings]],
    *,
    valid: pa.Table | None = None,
) -> Iterator[tuple[Task, list[RankerModel], str]]:
    """Each task with its rankers, one per entry of its `variants`, and why one is missing; the
    first of a task comes with a learning curve on `valid`.

    The variants of a task share its binned rows. Two rankers are grown side by side, those with the
    most trees first, each on one thread.
    """
    lessons: dict[Task, Lesson] = {}
    missing = dict.fromkeys(variants, "")
    for task, settings in variants.items():
        try:
            lessons[task] = prepare(frame, settings[0])
        except NothingToLearnError as error:
            missing[task] = str(error)
    del frame  # the lessons hold what is needed of it
    trim()
    jobs = [(task, nth) for task in lessons for nth in range(len(variants[task]))]
    jobs.sort(key=lambda job: -variants[job[0]][job[1]].trees)

    def grow(job: tuple[Task, int]) -> RankerModel | str:
        task, nth = job
        settings = replace(variants[task][nth], threads=1)
        try:
            return train(lessons[task], settings, valid=None if nth else valid)
        except NothingToLearnError as error:
            return str(error)

    grown = dict(zip(jobs, side_by_side(jobs, grow), strict=True))
    for task in variants:
        places = [(task, nth) for nth in range(len(variants[task]))]
        made = [grown[place] for place in places if place in grown]
        models = [model for model in made if isinstance(model, RankerModel)]
        why = [text for text in made if isinstance(text, str)]
        yield task, models, "".join(why[:1]) or missing[task]


def score(model: RankerModel, frame: pa.Table) -> np.ndarray:
    """One score per row, higher is better; comparable within a user only. float32.

    `frame` needs every feature of the model by name (`features.join_features`), and all candidates
    of each user in it. Raises ValueError when a feature is missing.
    """
    matrix = to_matrix(frame, model.features)
    return _score(model, _forests(model), frame, matrix, model.settings["threads"])


def _score(
    model: RankerModel, forests: Sequence[Forest], frame: pa.Table, matrix: np.ndarray, threads: int
) -> np.ndarray:
    """See `score`; `matrix` holds the model's features of the rows of `frame`."""
    query = _queries(frame)
    parts = [forest.margins(matrix, threads) for forest in forests]
    if len(parts) == 1 and not model.weights:
        return parts[0].astype(np.float32)
    trees = np.mean([standardized(query, p) for p in parts], axis=0)
    if not model.weights:
        return trees.astype(np.float32)
    share = float(model.settings["blend"])
    line = standardized(query, blended(model.weights, query, frame))
    return (share * line + (1.0 - share) * trees).astype(np.float32)


def score_candidates(
    warehouse: Warehouse,
    models: Mapping[str, RankerModel],
    candidates: pa.Table,
    items: Relation,
    feature_tables: Mapping[str, pa.Table],
    *,
    chunk_rows: int = 125_000,
) -> pa.Table:
    """Features and scores for all candidates of one cutoff, some users at a time, two side by side.

    Gives as_of, user_id, item_id, `seen` (taken before the cutoff) and one float32 column
    `<name>` per entry of `models`. A model of task `new` is null where `seen`, one of task `again`
    where not.
    """
    query = query_codes(candidates["user_id"])
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    chunk = starts // max(chunk_rows, 1)
    edges = [*starts[np.flatnonzero(np.diff(chunk, prepend=-1))].tolist(), len(query)]
    alike: dict[tuple[Task, tuple[str, ...]], list[str]] = {}
    for name, model in models.items():
        alike.setdefault((model.task, model.features), []).append(name)
    forests = {name: _forests(model) for name, model in models.items()}

    def scored(edge: tuple[int, int]) -> pa.Table:
        first, last = edge
        mine = candidates.slice(first, last - first)
        frame = join_features(warehouse, mine, items, _of_users(feature_tables, mine))
        seen = frame["ui_seen"].to_numpy() > 0
        scores = {}
        for (task, columns), names in alike.items():  # one copy of the rows for all their models
            wanted = in_task(seen, task)
            rows = frame if wanted.all() else frame.filter(pa.array(wanted))
            matrix = to_matrix(rows, columns)
            for name in names:
                values = np.full(len(seen), np.nan, dtype=np.float32)
                values[wanted] = _score(models[name], forests[name], rows, matrix, threads=1)
                scores[name] = pa.array(values, from_pandas=True)
        return pa.table(
            {**{k: frame[k] for k in KEYS}, "seen": seen, **{n: scores[n] for n in models}}
        )

    return pa.concat_tables(side_by_side(pairwise(edges), scored))


def _of_users(tables: Mapping[str, pa.Table], rows: pa.Table) -> dict[str, pa.Table]:
    """`tables` with only the rows of users between the first and the last of sorted `rows`: what is
    joined to some users need not be hashed for all."""
    first, last = rows["user_id"][0], rows["user_id"][-1]
    return {
        name: table.filter(
            pc.and_(
                pc.greater_equal(table["user_id"], first), pc.less_equal(table["user_id"], last)
            )
        )
        if "user_id" in table.column_names
        else table
        for name, table in tables.items()
    }


def contributions(
    models: Sequence[tuple[RankerModel, float]], frame: pa.Table, place: int, top: int = 5
) -> pa.Table:
    """What moved the score of one candidate most: feature, value, contribution, largest first.

    `frame` are all candidates of its user, `place` is its own. `models` read the same features;
    each counts with its factor. Contributions are LightGBM's exact tree SHAP values and the terms
    of the straight line, in units of `score`: over all features they are what the factors make of
    the scores, but for a constant. A null value means that the feature was missing."""
    features = np.array(models[0][0].features)
    seen = frame["ui_seen"].to_numpy() > 0
    moved = np.zeros(len(features))
    for model, factor in models:
        rows = np.flatnonzero(in_task(seen, model.task))
        moved += factor * _moved(
            model, frame.take(pa.array(rows)), int(np.searchsorted(rows, place))
        )
    best = np.argsort(-np.abs(moved), kind="stable")[:top]
    values = to_matrix(frame.slice(place, 1), models[0][0].features)[0, best]
    return pa.table(
        {
            "feature": pa.array(features[best], pa.string()),
            "value": pa.array(values, from_pandas=True),
            "contribution": pa.array(moved[best].astype(np.float32)),
        }
    )


def _moved(model: RankerModel, frame: pa.Table, place: int) -> np.ndarray:
    """By how much each feature moved `score` of the row at `place`; see `_score`, which this takes
    apart. `frame` holds the rows of one user that the model scores."""
    matrix, forests = to_matrix(frame, model.features), _forests(model)
    one = matrix[place : place + 1]
    trees = [f.booster.predict(one, pred_contrib=True, num_threads=1)[0, :-1] for f in forests]
    if len(trees) == 1 and not model.weights:
        return np.asarray(trees[0])
    spread = [float(f.margins(matrix, 1).astype(np.float64).std()) for f in forests]
    grown = [t / s if s > 1e-12 else 0 * t for t, s in zip(trees, spread, strict=True)]
    moved = np.mean(grown, axis=0)
    if model.weights:
        share, query = float(model.settings["blend"]), _queries(frame)
        moved *= 1.0 - share
        spread_of_line = blended(model.weights, query, frame).std()
        for name, weight in model.weights.items():
            term = weight * standardized(query, frame[name].to_numpy())[place]
            if spread_of_line > 1e-12:
                moved[model.features.index(name)] += share * term / spread_of_line
    return np.asarray(moved)


def to_matrix(
    frame: pa.Table, features: Sequence[str], rows: np.ndarray | None = None
) -> np.ndarray:
    """The features as one float32 matrix, rows x features, nulls as NaN. Columns go by name; of the
    rows those at the places `rows`, in that order, or all. It is stored feature by feature, as the
    frame is: filled row by row it takes three times as long."""
    missing = [name for name in features if name not in frame.column_names]
    if missing:
        raise ValueError(f"the frame lacks {len(missing)} features, first {missing[:3]}")
    n = frame.num_rows if rows is None else len(rows)
    columns = np.empty((len(features), n), dtype=np.float32)
    for j, name in enumerate(features):
        values = frame[name].to_numpy()
        columns[j] = values if rows is None else values[rows]
    return columns.T


def _params(objective: Objective, settings: RankerSettings) -> dict[str, Any]:
    params: dict[str, Any] = {
        "objective": objective,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": settings.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": settings.lambda_l2,
        "max_bin": settings.max_bin,
        "seed": settings.seed,
        "num_threads": settings.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    if objective == "lambdarank":
        params["lambdarank_truncation_level"] = settings.truncation
    return params


def in_task(seen: np.ndarray, task: Task) -> np.ndarray:
    """Which candidates a task is about."""
    match task:
        case "new":
            return ~seen
        case "again":
            return seen
    return np.ones(len(seen), dtype=bool)


def _features(frame: pa.Table) -> tuple[str, ...]:
    return tuple(n for n in frame.column_names if n not in (*KEYS, "label", "label_again"))


def _of_task(frame: pa.Table, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The places of the rows that a task learns from, and their labels: all that it is about, but
    for the users that have no positive among them. Places, since a copy of the rows is large."""
    column = "label_again" if task == "again" else "label"
    about = in_task(frame["ui_seen"].to_numpy() > 0, task)
    kept = np.flatnonzero(about & frame[column].is_valid().to_numpy())
    if not len(kept):
        raise NothingToLearnError(f"task {task}: no rows")
    query = _queries(frame.select(KEYS).take(pa.array(kept)))
    label = frame[column].to_numpy()[kept]
    found = np.bincount(query, label)[query] > 0
    return kept[found], label[found]


def _queries(frame: pa.Table) -> np.ndarray:
    """Codes of (cutoff, user) in row order; rows of one query must lie together."""
    users = query_codes(frame["user_id"])
    cutoffs = query_codes(frame["as_of"])
    both = np.flatnonzero((np.diff(users, prepend=-1) != 0) | (np.diff(cutoffs, prepend=-1) != 0))
    sizes = np.diff(np.append(both, frame.num_rows))
    if sizes.max(initial=0) > ROWS_PER_QUERY:
        raise ValueError(f"a user has {sizes.max()} rows, more than {ROWS_PER_QUERY}")
    return np.repeat(np.arange(len(sizes)), sizes)


def _forests(model: RankerModel) -> list[Forest]:
    forests = [Forest.load(text) for text in model.texts]
    for forest in forests:
        if tuple(forest.booster.feature_name()) != model.features:
            raise ValueError("the model's trees were grown on other features than it declares")
    return forests


def _with_learning_curve(
    model: RankerModel,
    boosters: Sequence[Any],
    valid: pa.Table,
    label: np.ndarray,
) -> RankerModel:
    """NDCG@10 among the candidates of `valid`, per member, at about ten numbers of trees."""
    points = 10
    query = _queries(valid)
    matrix = to_matrix(valid, model.features)
    curve = []
    for member, booster in enumerate(boosters):
        trees = booster.num_trees()
        for rounds in sorted({max(1, round(trees * k / points)) for k in range(1, points + 1)}):
            values = booster.predict(
                matrix,
                raw_score=True,
                num_iteration=rounds,
                num_threads=model.settings["threads"],
            )
            curve.append(
                {
                    "member": float(member),
                    "round": float(rounds),
                    "ndcg_10": _ndcg(query, label, values),
                }
            )
    return replace(
        model,
        metrics={**model.metrics, "valid_ndcg_10": curve[-1]["ndcg_10"]},
        learning_curve=curve,
    )


def _ndcg(query: np.ndarray, label: np.ndarray, values: np.ndarray) -> float:
    """Mean NDCG@10 over queries with a positive; only positives among the rows count."""
    discount = 1 / np.log2(np.arange(2, LIST_LENGTH + 2))
    order = np.lexsort((-values, query))
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    sizes = np.diff(np.append(starts, len(query)))
    place = np.arange(len(query)) - np.repeat(starts, sizes)
    top = place < LIST_LENGTH
    gain = np.bincount(query[top], label[order][top] * discount[place[top]], len(starts))
    positives = np.bincount(query, label).astype(int)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(positives, LIST_LENGTH)]
    return float((gain[positives > 0] / ideal[positives > 0]).mean())
