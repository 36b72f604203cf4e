"""The peers themselves: other people's libraries, used as their documentation does.

Belongs here: nothing but calls of `implicit` and RecTools; it runs in the environment of
requirements-peers.txt, one process per model, and imports nothing of ours. Does not belong here:
choosing settings, metrics (`peers.py` does both).

Usage (by `peers.py`): python peer_models.py FOLDER TARGET MODEL SETTINGS DEPTH
reads  FOLDER/TARGET-events.parquet  user_id, item_id, event_time, as_of: what was taken before
       FOLDER/TARGET-users.parquet   user_id: for whom lists are wanted
writes FOLDER/lists.parquet          task, user_id, item_id, rank
       FOLDER/cost.json              seconds, cpu_seconds, peak_megabytes
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import ClassVar

import lightgbm
import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import TFIDFRecommender
from rectools import Columns
from rectools.dataset import Dataset
from rectools.model_selection import TimeRangeSplitter
from rectools.models import ImplicitALSWrapperModel, ImplicitItemKNNWrapperModel, PopularModel
from rectools.models.ranking import (
    CandidateGenerator,
    CandidateRankingModel,
    PerUserNegativeSampler,
    Reranker,
)
from scipy import sparse

THREADS = 2
SEED = 0
HALF_LIFE_DAYS = 90.0
WINDOW = "28D"
TASKS = {"all": False, "new": True}
"""Task -> whether what a user took before is left out."""


class Trees:
    """LightGBM as RecTools' reranker wants it, without scikit-learn."""

    params: ClassVar[dict[str, object]] = {
        "objective": "binary",
        "learning_rate": 0.05,
        "min_data_in_leaf": 100,
        "num_threads": THREADS,
        "seed": SEED,
        "verbosity": -1,
    }

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Trees":
        self.booster = lightgbm.train(self.params, lightgbm.Dataset(X, y), 150)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.booster.predict(X)


def als(settings: dict) -> AlternatingLeastSquares:
    """ALS with the given factors, regularization and alpha, not yet fitted."""
    return AlternatingLeastSquares(
        **settings, iterations=15, num_threads=THREADS, random_state=SEED
    )


def implicit_als(events: pd.DataFrame, users: pd.Series, settings: dict, depth: int):
    """ALS alone, on log(1 + fading counts)."""
    age = (events["as_of"] - events["event_time"]) / pd.Timedelta(days=1)
    row, people = pd.factorize(events["user_id"], sort=True)
    column, items = pd.factorize(events["item_id"], sort=True)
    matrix = sparse.csr_matrix(
        (np.exp2(-age / HALF_LIFE_DAYS).astype(np.float32), (row, column)),
        shape=(len(people), len(items)),
    )
    matrix.sum_duplicates()
    matrix.data = np.log1p(matrix.data)
    model = als(settings)
    model.fit(matrix, show_progress=False)
    known = pd.Index(people).get_indexer(users)
    known = known[known >= 0]
    for task, without_seen in TASKS.items():
        found, _ = model.recommend(
            known, matrix[known], N=depth, filter_already_liked_items=without_seen
        )
        yield (
            task,
            pd.DataFrame(
                {
                    "user_id": np.repeat(np.asarray(people)[known], depth),
                    "item_id": np.asarray(items)[found.ravel()],
                    "rank": np.tile(np.arange(1, depth + 1), len(known)),
                }
            ),
        )


def rectools_two_stage(events: pd.DataFrame, users: pd.Series, settings: dict, depth: int):
    """ALS, TF-IDF neighbours and popularity bring candidates, LightGBM orders them."""
    day = events["event_time"].dt.tz_localize(None).dt.floor("D")
    rows = pd.DataFrame(
        {
            Columns.User: events["user_id"],
            Columns.Item: events["item_id"],
            Columns.Datetime: day,
            Columns.Weight: 1.0,
        }
    ).drop_duplicates([Columns.User, Columns.Item, Columns.Datetime])
    dataset = Dataset.construct(rows)
    wanted = users[users.isin(rows[Columns.User])].to_numpy()
    for task, without_seen in TASKS.items():
        sources = (
            (ImplicitALSWrapperModel(als(settings)), 200),
            (ImplicitItemKNNWrapperModel(TFIDFRecommender(K=100, num_threads=THREADS)), 200),
            (PopularModel(popularity="n_users", period=pd.Timedelta(days=28)), 100),
        )
        model = CandidateRankingModel(
            candidate_generators=[
                CandidateGenerator(source, n, True, True, 0.0, n + 1) for source, n in sources
            ],
            splitter=TimeRangeSplitter(
                WINDOW, n_splits=1, filter_already_seen=without_seen, filter_cold_items=True
            ),
            sampler=PerUserNegativeSampler(n_negatives=100, random_state=SEED),
            reranker=Reranker(Trees()),
        )
        model.fit(dataset)
        found = model.recommend(wanted, dataset, k=depth, filter_viewed=without_seen)
        yield (
            task,
            found.rename(
                columns={Columns.User: "user_id", Columns.Item: "item_id", Columns.Rank: "rank"}
            )[["user_id", "item_id", "rank"]],
        )


MODELS = {"implicit ALS": implicit_als, "RecTools two-stage": rectools_two_stage}


def main() -> None:
    folder, target, name, settings, depth = sys.argv[1:]
    events = pd.read_parquet(Path(folder) / f"{target}-events.parquet")
    users = pd.read_parquet(Path(folder) / f"{target}-users.parquet")["user_id"]
    started = time.monotonic()
    lists = [
        rows.assign(task=task)
        for task, rows in MODELS[name](events, users, json.loads(settings), int(depth))
    ]
    cost = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time(),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    pd.concat(lists, ignore_index=True).to_parquet(Path(folder) / "lists.parquet")
    (Path(folder) / "cost.json").write_text(json.dumps(cost), encoding="utf-8")


if __name__ == "__main__":
    main()
