"""The scoreboard: every model, task and slice, measured the same way on the same users.

Belongs here: which slices are measured, how models are compared, and the tidy frames that come
out. Does not belong here: the formulas (core.metrics), the lists (rankers, baselines) and pictures
(plots, report).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys_assets.core.metrics import (
    beyond_accuracy,
    bootstrap,
    catalogue_coverage,
    paired_bootstrap,
    per_user_metrics,
)
from recsys_assets.core.vectors import ItemVectors

METRIC_COLUMNS = (
    "target",
    "task",
    "model",
    "slice",
    "metric",
    "value",
    "low",
    "high",
    "n_users",
)
DIFFERENCE_COLUMNS = (
    "target",
    "task",
    "model",
    "baseline",
    "slice",
    "metric",
    "value",
    "low",
    "high",
    "p_value",
    "n_users",
)
EVERYBODY = "all"
HISTORY_SLICES = ("none", "1-5", "6-20", "over 20")
ITEM_SLICES = ("head", "mid", "tail", "cold")
_HEAD_SHARE, _MID_SHARE = 0.5, 0.8


@dataclass(frozen=True)
class Task:
    """What is to be found and who tries.

    `relevant` is `user_id, item_id`; `lists` maps a model's name to `user_id, item_id, rank`, all
    made for this task (for `new`: without items taken before).
    """

    relevant: pd.DataFrame
    lists: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Surroundings:
    """What the metrics beyond accuracy and the slices need, as known at the cutoff.

    `popularity`: taken events per item (index item_id); `items`: the staged catalogue; `taken`: the
    pairs taken; `user_slices`: slice name per user_id (`history_slices`); `vectors`: for diversity,
    which falls back to categories.
    """

    popularity: pd.Series
    items: pd.DataFrame
    taken: pd.DataFrame
    user_slices: pd.Series
    vectors: ItemVectors | None = None


@dataclass(frozen=True)
class Scoreboard:
    """`metrics` has the columns METRIC_COLUMNS, `differences` has DIFFERENCE_COLUMNS.

    `coverage` is a property of all lists together: its interval is null.
    """

    metrics: pd.DataFrame
    differences: pd.DataFrame


def history_slices(interactions: pd.DataFrame, users: Sequence[str] | pd.Index) -> pd.Series:
    """Slice of each user by the number of distinct sessions (baskets) with something taken.

    `interactions` must already be cut at the cutoff. Index user_id, values of HISTORY_SLICES.
    """
    taken = interactions[interactions["counts_as_taken"].to_numpy(dtype=bool)]
    sessions = taken.groupby("user_id")["session_id"].nunique()
    sizes = sessions.reindex(pd.Index(users)).fillna(0).to_numpy()
    names = np.array(HISTORY_SLICES, dtype=object)[np.digitize(sizes, [1, 6, 21])]
    return pd.Series(names, index=pd.Index(users, name="user_id"), name="slice")


def popularity_slices(
    popularity: pd.Series, catalogue: Sequence[str] | pd.Index | pd.Series
) -> pd.Series:
    """Slice of each catalogue item by what it contributes to all taken events.

    Counted from the most popular down: head is the first half of the events, mid the next 30%, tail
    the rest, cold what nobody took. Ties by item_id. Index item_id, values of ITEM_SLICES.
    """
    counts = popularity.reindex(pd.Index(catalogue)).fillna(0).sort_index()
    counts = counts.sort_values(ascending=False, kind="stable")
    before = (counts.cumsum() - counts) / max(float(counts.sum()), 1.0)
    names = np.array(ITEM_SLICES[:3], dtype=object)[
        np.digitize(before.to_numpy(), [_HEAD_SHARE, _MID_SHARE])
    ]
    names[counts.to_numpy() <= 0] = ITEM_SLICES[3]
    return pd.Series(names, index=counts.index.rename("item_id"), name="slice").sort_index()


def scoreboard(
    target: str,
    tasks: Mapping[str, Task],
    surroundings: Surroundings,
    *,
    baselines: Sequence[str] = (),
    k: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> Scoreboard:
    """Measure every model of every task.

    Slices: `all`; `users:<slice>` keeps the users of a history slice; `items:<slice>` keeps the
    relevant items of a popularity slice (and the users who have one), with the lists unchanged.
    Metrics beyond accuracy are measured on `all`. Every model that is not one of `baselines` is
    compared, on `all` and the user slices, with the baseline that has the best NDCG of that task,
    and the differences are paired by user. All intervals of a slice share one set of draws.
    """
    metrics, differences = [], []
    item_slices = popularity_slices(surroundings.popularity, surroundings.items["item_id"])
    for task_name, task in tasks.items():
        key = {"target": target, "task": task_name}
        accuracy = {m: _accuracy(lists, task.relevant, k) for m, lists in task.lists.items()}
        beyond = {
            m: _beyond(lists, task.relevant, surroundings, k) for m, lists in task.lists.items()
        }
        by_slice = {EVERYBODY: {m: accuracy[m].join(beyond[m]) for m in accuracy}}
        for name in HISTORY_SLICES:
            chosen = surroundings.user_slices.index[surroundings.user_slices == name]
            by_slice[f"users:{name}"] = {
                m: frame[frame.index.isin(chosen)] for m, frame in accuracy.items()
            }
        for name in ITEM_SLICES:
            chosen = item_slices.index[item_slices == name]
            part = task.relevant[task.relevant["item_id"].isin(chosen)]
            by_slice[f"items:{name}"] = {
                m: _accuracy(lists, part, k) for m, lists in task.lists.items()
            }
        best = _best_baseline(accuracy, baselines, k)
        for slice_name, frames in by_slice.items():
            if not frames or not len(next(iter(frames.values()))):
                continue
            summary = bootstrap(pd.concat(frames, axis=1), draws=draws, seed=seed)
            metrics.append(_tidy(summary, {**key, "slice": slice_name}))
            if best is not None and not slice_name.startswith("items:"):
                differences.append(
                    _differences(frames, best, baselines, {**key, "slice": slice_name}, draws, seed)
                )
        metrics.append(_coverage(task, key, len(surroundings.items), k))
    return Scoreboard(_concat(metrics, METRIC_COLUMNS), _concat(differences, DIFFERENCE_COLUMNS))


def _accuracy(lists: pd.DataFrame, relevant: pd.DataFrame, k: int) -> pd.DataFrame:
    return per_user_metrics(lists, relevant, (k,)).set_index("user_id")


def _beyond(
    lists: pd.DataFrame, relevant: pd.DataFrame, around: Surroundings, k: int
) -> pd.DataFrame:
    by_item = around.items.set_index("item_id")
    frame = beyond_accuracy(
        lists[lists["user_id"].isin(relevant["user_id"])],
        popularity=around.popularity,
        n_catalogue=len(around.items),
        k=k,
        vectors=around.vectors,
        categories=by_item["category_2"],
        taken=around.taken,
        groups=by_item["group_id"],
    )
    return frame.set_index("user_id")


def _best_baseline(
    accuracy: Mapping[str, pd.DataFrame], baselines: Sequence[str], k: int
) -> str | None:
    measured = [name for name in baselines if name in accuracy]
    if not measured:
        return None
    return max(measured, key=lambda name: float(accuracy[name][f"ndcg@{k}"].mean()))


def _differences(
    frames: Mapping[str, pd.DataFrame],
    best: str,
    baselines: Sequence[str],
    key: Mapping[str, str],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    ours = {m: frame for m, frame in frames.items() if m not in baselines}
    if not ours:
        return pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))
    left = pd.concat(ours, axis=1)
    right = pd.concat(dict.fromkeys(ours, frames[best]), axis=1)
    summary = paired_bootstrap(left, right, draws=draws, seed=seed)
    return _tidy(summary, key).assign(baseline=best)


def _tidy(summary: pd.DataFrame, key: Mapping[str, str]) -> pd.DataFrame:
    return summary.rename_axis(index=["model", "metric"]).reset_index().assign(**key)


def _coverage(task: Task, key: Mapping[str, str], n_catalogue: int, k: int) -> pd.DataFrame:
    users = task.relevant["user_id"].unique()
    rows = []
    for model, lists in task.lists.items():
        lists = lists[lists["user_id"].isin(users)]
        value = catalogue_coverage(lists, n_catalogue, k)
        rows.append({"model": model, "value": value, "n_users": len(users)})
    return pd.DataFrame(rows).assign(
        **key, slice=EVERYBODY, metric=f"coverage@{k}", low=np.nan, high=np.nan
    )


def _concat(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """One frame, sorted by its key columns."""
    keys = list(columns[: columns.index("value")])
    filled = [frame[list(columns)] for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=list(columns))
    table = pd.concat(filled, ignore_index=True).astype({"n_users": np.int64})
    return table.sort_values(keys, kind="stable", ignore_index=True)
