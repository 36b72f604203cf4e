"""The lists that are measured: ours, every baseline and every retriever, at one cutoff.

Belongs here: making top lists comparable (same users, same length, full catalogue). Does not belong
here: metrics (`core.metrics`), and fitting (retrieval does).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.collaborative.popularity import popular_items
from recsys_assets.evaluation.baselines_blend import (
    BlendWeights,
    blend_lists,
    personal_frequency_lists,
    popularity_lists,
)
from recsys_assets.retrieval import candidates as generator
from recsys_assets.retrieval.contract import EventLog, Fitted
from recsys_assets.retrieval.registry import Member

HALF_LIFE_DAYS = 90.0
BLEND_DEPTH = 200
"""How many of each part's best items compete in the blend."""

BASELINES = (
    "popularity_all",
    "popularity_7d",
    "personal_frequency",
    "personal_frequency_decayed",
)


def top(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k best rows per user by `score`, ties by item_id: user_id, item_id, rank."""
    order = rows.sort_values(["user_id", "score", "item_id"], ascending=[True, False, True])
    order = order.assign(rank=order.groupby("user_id").cumcount() + 1)
    return order.loc[order["rank"] <= k, ["user_id", "item_id", "rank"]]


def baseline_lists(
    known: pd.DataFrame, users: pd.Series, taken: pd.DataFrame, as_of: pd.Timestamp, k: int
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(task, model, lists) of the counting baselines. `known` ends before `as_of`."""
    for name, days in (("popularity_all", None), ("popularity_7d", 7.0)):
        counts = popular_items(known, as_of=as_of, days=days)
        yield "all", name, popularity_lists(counts, users, k=k)
        yield "new", name, popularity_lists(counts, users, k=k, exclude=taken)
    for name, half_life in (
        ("personal_frequency", None), ("personal_frequency_decayed", HALF_LIFE_DAYS)
    ):  # fmt: skip
        lists = personal_frequency_lists(known, users, as_of=as_of, half_life_days=half_life, k=k)
        yield "all", name, lists


def retriever_lists(
    candidates: pa.Table, seen: np.ndarray, k: int
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(task, model, lists) of each retriever alone: the first k of its own list."""
    names = [c.removeprefix("rank_") for c in candidates.column_names if c.startswith("rank_")]
    for name in names:
        listed = pc.is_valid(candidates[f"rank_{name}"]).to_numpy()
        for task, wanted in (("all", listed), ("new", listed & ~seen)):
            rows = candidates.filter(pa.array(wanted)).select(
                ["user_id", "item_id", f"score_{name}"]
            )
            frame = rows.rename_columns(["user_id", "item_id", "score"]).to_pandas()
            if len(frame):
                yield task, f"retriever: {name}", top(frame, k)


def fitted_lists(
    log: EventLog, model: str, fitted: Fitted, users: pd.Series, k: int
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(task, model, lists) of any fitted retriever over the full catalogue."""
    member = Member(retriever=None, k_seen=k, k_unseen=k)  # type: ignore[arg-type]
    table = generator.generate(log, {"x": fitted}, {"x": member}, list(users))
    frame = table.select(["user_id", "item_id", "score_x"]).to_pandas()
    frame = frame.rename(columns={"score_x": "score"})
    yield "all", model, top(frame, k)
    seen = seen_pairs(log)
    fresh = ~pd.MultiIndex.from_frame(frame[["user_id", "item_id"]]).isin(seen)
    yield "new", model, top(frame[fresh], k)


def seen_pairs(log: EventLog) -> pd.MultiIndex:
    """The (user_id, item_id) pairs taken before the cutoff."""
    row, column = log.taken_matrix[: log.n_users].nonzero()
    return pd.MultiIndex.from_arrays(
        [log.users.to_numpy()[row], log.items.to_numpy()[log.columns[column]]],
        names=["user_id", "item_id"],
    )


def blend_components(log: EventLog, parts: Mapping[str, Fitted], users: pd.Series) -> pd.DataFrame:
    """user_id, item_id, the three part scores and `seen`, over the union of each part's best."""
    members = {
        name: Member(retriever=None, k_seen=BLEND_DEPTH, k_unseen=BLEND_DEPTH)  # type: ignore[arg-type]
        for name in parts
    }
    table = generator.generate(log, parts, members, list(users))
    frame = table.select(["user_id", "item_id", *(f"score_{p}" for p in parts)]).to_pandas()
    frame = frame.rename(columns={f"score_{p}": p for p in parts})
    seen = pd.MultiIndex.from_frame(frame[["user_id", "item_id"]]).isin(seen_pairs(log))
    return frame.assign(seen=seen)


def blended(
    components: pd.DataFrame, model: str, weights: Mapping[str, BlendWeights], k: int
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(task, model, lists) of the blend with one set of weights per task."""
    for task, weight in weights.items():
        rows = components[~components["seen"]] if task == "new" else components
        yield task, model, blend_lists(rows, weight, k=k)[["user_id", "item_id", "rank"]]
