"""The scoreboard: every model, task and slice, measured the same way on the same users.

Belongs here: which slices are measured, how models are compared, and the tidy frames that come
out. Does not belong here: the formulas (core.metrics), the lists (`held_out.py`) and pictures
(plots, report).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys_assets.core.metrics import (
    ACCURACY,
    beyond_accuracy,
    bootstrap,
    catalogue_coverage,
    contains_pairs,
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
    "n_seeds",
    "seed_low",
    "seed_high",
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
SLICE_METRICS = ("ndcg", "recall", "hit")
"""What is measured per slice and compared between models; on everybody it is all metrics."""
HISTORY_SLICES = ("none", "1-5", "6-20", "over 20")
ITEM_SLICES = ("head", "mid", "tail", "cold")
_HEAD_SHARE, _MID_SHARE = 0.5, 0.8


@dataclass(frozen=True)
class MeasuredTask:
    """What is to be found and who tries.

    `relevant` is `user_id, item_id`; `lists` is `model, seed, user_id, item_id, rank`, all made for
    this task (for `new`: without items taken before).
    """

    relevant: pd.DataFrame
    lists: pd.DataFrame


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

    A model with several seeds is the mean over its seeds, user by user; `seed_low` and `seed_high`
    are the smallest and the largest mean of one seed. `coverage` is a property of all lists
    together: its interval is null.
    """

    metrics: pd.DataFrame
    differences: pd.DataFrame


def history_slices(interactions: pd.DataFrame, users: Sequence[str] | pd.Index) -> pd.Series:
    """Slice of each user by the number of distinct sessions (baskets) with something taken; an
    event without a session is a basket of its own.

    `interactions` must already be cut at the cutoff. Index user_id, values of HISTORY_SLICES.
    """
    taken = interactions[interactions["counts_as_taken"].to_numpy(dtype=bool)]
    by_user = taken.groupby("user_id")["session_id"]
    baskets = by_user.nunique() + (by_user.size() - by_user.count())
    sizes = baskets.reindex(pd.Index(users)).fillna(0).to_numpy()
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


def user_metrics(relevant: pd.DataFrame, lists: pd.DataFrame, k: int = 10) -> pd.DataFrame:
    """Accuracy of every model's list for each user: model, seed, user_id and one column per metric.

    `lists` is `model, seed, user_id, item_id, rank`; every user of `relevant` (`user_id, item_id`)
    has a row per model, 0 where it has no list for them. Ids may be codes.
    """
    frames = []
    for (model, seed), rows in lists.groupby(["model", "seed"], sort=True, observed=True):
        found = per_user_metrics(rows, relevant, (k,))
        frames.append(found.assign(model=str(model), seed=int(str(seed))))
    columns = ["model", "seed", "user_id", *ACCURACY]
    if not frames:
        return pd.DataFrame(columns=columns)
    table = pd.concat(frames, ignore_index=True)
    return table.rename(columns={f"{metric}@{k}": metric for metric in ACCURACY})[columns]


def scoreboard(
    target: str,
    tasks: Mapping[str, MeasuredTask],
    surroundings: Surroundings,
    *,
    rivals: Mapping[str, Sequence[str]] | None = None,
    k: int = 10,
    draws: int = 1000,
    seed: int = 0,
    beyond: bool = True,
) -> Scoreboard:
    """Measure every model of every task.

    Slices: `all`; `users:<slice>` keeps the users of a history slice; `items:<slice>` keeps the
    relevant items of a popularity slice (and the users who have one), with the lists unchanged.
    Metrics beyond accuracy are measured on `all`, where `beyond` says so. `rivals` are groups of
    models by name (baselines, retrievers): every model in none of them is compared, on `all` and
    the user slices, with the member of each group that has the best NDCG of that task; differences
    are paired by user. All intervals of a slice share one set of draws.
    """
    rivals = rivals or {}
    catalogue = pd.Index(surroundings.items["item_id"])
    around = _coded(surroundings, catalogue)
    item_slices = popularity_slices(around.popularity, around.items["item_id"])
    metrics, differences = [], []
    for task_name, task in tasks.items():
        if task.relevant.empty or task.lists.empty:
            continue
        key = {"target": target, "task": task_name}
        users = pd.Index(task.relevant["user_id"].unique())
        relevant = _with_codes(task.relevant, users, catalogue)
        lists = _with_codes(task.lists[task.lists["rank"] <= k], users, catalogue)
        lists = lists[lists["user_id"] >= 0]
        own_slices = surroundings.user_slices.reindex(users).to_numpy()
        accuracy = _by_seed(relevant, lists, k)
        means = _mean_over_seeds(accuracy)
        by_slice = {f"users:{s}": means[own_slices[means.index] == s] for s in HISTORY_SLICES}
        for name in ITEM_SLICES:
            part = relevant[item_slices.reindex(relevant["item_id"]).to_numpy() == name]
            if len(part):
                by_slice[f"items:{name}"] = _mean_over_seeds(_by_seed(part, lists, k))
        everything = [accuracy]
        if beyond:
            taken = _with_codes(around.taken, users, catalogue)
            taken = taken[(taken["user_id"] >= 0) & (taken["item_id"] >= 0)]
            everything.append(_beyond(lists, around, taken, len(users), k))
        whole = pd.concat(everything, axis=1)
        metrics.append(_whole(whole, lists, key, len(catalogue), k, draws, seed))
        best = [b for names in rivals.values() if (b := _best(means, names, k)) is not None]
        challengers = sorted(
            set(means.columns.get_level_values("model")) - {n for g in rivals.values() for n in g}
        )
        compared = [f"{metric}@{k}" for metric in SLICE_METRICS]
        for slice_name, frame in {EVERYBODY: means, **by_slice}.items():
            if frame.empty:
                continue
            frame = frame.loc[:, frame.columns.get_level_values("metric").isin(compared)]
            where = {**key, "slice": slice_name}
            if slice_name != EVERYBODY:
                summary = bootstrap(frame, draws=draws, seed=seed)
                metrics.append(_tidy(summary, where))
            if challengers and not slice_name.startswith("items:"):
                differences += [
                    _difference(frame, challengers, rival, where, draws, seed) for rival in best
                ]
    return Scoreboard(_concat(metrics, METRIC_COLUMNS), _concat(differences, DIFFERENCE_COLUMNS))


def _coded(around: Surroundings, catalogue: pd.Index) -> Surroundings:
    """The same with item ids as positions in the catalogue: strings are slow to compare."""
    codes = np.arange(len(catalogue))
    items = pd.DataFrame(
        {
            "item_id": codes,
            "category_2": pd.factorize(around.items["category_2"])[0],
            "group_id": pd.factorize(around.items["group_id"])[0],
        }
    )
    position = catalogue.get_indexer(pd.Index(around.popularity.index))
    known = position >= 0
    popularity = pd.Series(around.popularity.to_numpy()[known], index=position[known])
    vectors = around.vectors
    if vectors is not None:
        order = vectors.rows(catalogue)
        if (order < 0).any():
            raise ValueError("an item of the catalogue has no vector")
        vectors = ItemVectors(codes.astype(object), vectors.matrix[order])
    return Surroundings(popularity, items, around.taken, around.user_slices, vectors)


def _with_codes(frame: pd.DataFrame, users: pd.Index, catalogue: pd.Index) -> pd.DataFrame:
    """User and item ids as codes, items outside the catalogue -1."""
    return frame.assign(
        user_id=users.get_indexer(pd.Index(frame["user_id"])),
        item_id=catalogue.get_indexer(pd.Index(frame["item_id"])),
    )


def _by_seed(relevant: pd.DataFrame, lists: pd.DataFrame, k: int) -> pd.DataFrame:
    """Users x (model, seed, metric)."""
    frames = {}
    for (model, seed), rows in lists.groupby(["model", "seed"], sort=True, observed=True):
        found = per_user_metrics(rows, relevant, (k,))
        frames[model, seed] = found.set_index(found.pop("user_id").astype(np.int64))
    return pd.concat(frames, axis=1, names=["model", "seed", "metric"])


def _mean_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Users x (model, metric)."""
    return frame.T.groupby(level=["model", "metric"], sort=False).mean().T


def _beyond(
    lists: pd.DataFrame, around: Surroundings, taken: pd.DataFrame, n_users: int, k: int
) -> pd.DataFrame:
    """Users x (model, seed, metric) of what is beyond accuracy, all lists in one pass.

    `never_taken_items` is the share of a list the user never took, `never_taken_groups` the share
    of whose group (variants of one product) the user never took any member.
    """
    variant, index = pd.MultiIndex.from_frame(lists[["model", "seed"]]).factorize(sort=True)
    reader = variant * np.int64(n_users) + lists["user_id"].to_numpy()
    frame = beyond_accuracy(
        lists.assign(user_id=reader),
        popularity=around.popularity,
        n_catalogue=len(around.items),
        k=k,
        vectors=around.vectors,
        categories=around.items.set_index("item_id")["category_2"],
    ).set_index("user_id")
    group = around.items["group_id"].to_numpy()
    for name, of in (("items", np.arange(len(group))), ("groups", group)):
        pairs = taken.assign(item_id=of[taken["item_id"].to_numpy()])
        known = contains_pairs(pairs, lists["user_id"], pd.Index(of[lists["item_id"].to_numpy()]))
        frame[f"never_taken_{name}@{k}"] = pd.Series(~known).groupby(reader).mean()
    found = {}
    for number, key in enumerate(index):
        own = frame[frame.index // n_users == number]
        found[key] = own.set_axis(own.index % n_users).reindex(np.arange(n_users))
    return pd.concat(found, axis=1, names=["model", "seed", "metric"])


def _whole(
    values: pd.DataFrame,
    lists: pd.DataFrame,
    key: Mapping[str, str],
    n_catalogue: int,
    k: int,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Every metric on everybody: mean over seeds with its interval, and the spread of the seeds."""
    where = {**key, "slice": EVERYBODY}
    table = _tidy(bootstrap(_mean_over_seeds(values), draws=draws, seed=seed), where)
    per_seed = values.mean()
    covered = {
        (model, number, f"coverage@{k}"): catalogue_coverage(rows, n_catalogue, k)
        for (model, number), rows in lists.groupby(["model", "seed"], sort=True, observed=True)
    }
    coverage = pd.Series(covered)
    coverage.index.names = per_seed.index.names
    seeds = pd.concat([per_seed, coverage]).groupby(level=["model", "metric"])
    spread = seeds.agg(n_seeds="size", seed_low="min", seed_high="max").reset_index()
    means = seeds.mean().rename("value").reset_index()
    means = means[means["metric"] == f"coverage@{k}"].assign(n_users=len(values), **where)
    both = pd.concat([table, means.assign(low=np.nan, high=np.nan)], ignore_index=True)
    return both.merge(spread, on=["model", "metric"], how="left")


def _best(means: pd.DataFrame, names: Sequence[str], k: int) -> str | None:
    """The one of `names` with the best NDCG; ties go to the name that comes first."""
    measured = sorted(set(names) & set(means.columns.get_level_values("model")))
    if not measured:
        return None
    return max(measured, key=lambda name: float(means[name, f"ndcg@{k}"].mean()))


def _difference(
    frame: pd.DataFrame,
    challengers: Sequence[str],
    rival: str,
    key: Mapping[str, str],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    left = pd.concat({m: frame[m] for m in challengers}, axis=1, names=["model", "metric"])
    right = pd.concat(dict.fromkeys(challengers, frame[rival]), axis=1, names=["model", "metric"])
    return _tidy(paired_bootstrap(left, right, draws=draws, seed=seed), key).assign(baseline=rival)


def _tidy(summary: pd.DataFrame, key: Mapping[str, str]) -> pd.DataFrame:
    return summary.rename_axis(index=["model", "metric"]).reset_index().assign(**key)


def _concat(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """One frame, sorted by its key columns."""
    keys = list(columns[: columns.index("value")])
    filled = [frame.reindex(columns=list(columns)) for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=list(columns))
    table = pd.concat(filled, ignore_index=True).astype({"n_users": np.int64})
    return table.sort_values(keys, kind="stable", ignore_index=True)
