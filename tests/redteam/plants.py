"""Sabotage of functions of the product: what they make goes through something on its way.

Belongs here: how a leak or a fault is planted. Does not belong here: which guard refuses it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core import warehouse
from recsys_assets.core.lake import Snapshot
from recsys_assets.ranking import assets as ranking
from recsys_assets.ranking import features, training
from recsys_assets.retrieval.contract import EventLog


def in_sql(patch: pytest.MonkeyPatch, folder: Path, file: str, old: str, new: str) -> None:
    """A copy of `sql/` in which one file reads otherwise."""
    root = folder / "sql"
    copytree(warehouse.sql_root(), root)
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new), encoding="utf-8")
    patch.setattr(warehouse, "sql_root", lambda: root)


def in_group(
    patch: pytest.MonkeyPatch, group: str, leak: Callable[[pa.Table, dict[str, Any]], pa.Table]
) -> None:
    """A feature group whose table goes through `leak` (table, arguments) before it is stored."""
    real = features.feature_table

    def planted(name: str, store: warehouse.Warehouse, **given: Any) -> pa.Table:
        table = real(name, store, **given)
        return leak(table, given) if name == group else table

    patch.setattr(features, "feature_table", planted)


def in_training(patch: pytest.MonkeyPatch, leak: Callable[[pa.Table], pa.Table]) -> None:
    """Training rows that go through `leak` before they are stored."""
    real = training.training_frame
    patch.setattr(training, "training_frame", lambda *a, **k: leak(real(*a, **k)))


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    """`table` with a column replaced, as float32."""
    column = pa.array(np.asarray(values, dtype=np.float32), from_pandas=True)
    return table.set_column(table.column_names.index(name), name, column)


def peeking(through: Callable[[Snapshot], Snapshot]) -> Callable[..., EventLog]:
    """The log of a cutoff with the next fortnight in it, read `through` a view of the events."""

    def log(interactions: Snapshot, items: Snapshot, as_of: pd.Timestamp) -> EventLog:
        later = as_of + pd.Timedelta(days=14)
        found = EventLog.from_frames(through(interactions).to_arrow(), items.to_arrow(), later)
        return replace(found, as_of=as_of)

    return log


def in_front_of_training(
    patch: pytest.MonkeyPatch, change: Callable[[pa.Table, int], pa.Table], seed: int
) -> None:
    """Rankers learn from rows that went through `change`; `seed` varies it."""
    real = ranking.ranker.prepare
    patch.setattr(
        ranking.ranker, "prepare", lambda frame, settings: real(change(frame, seed), settings)
    )


def shuffled(rows: pa.Table, seed: int) -> pa.Table:
    """Labels that belong to other rows."""
    order = pa.array(np.random.default_rng(seed).permutation(rows.num_rows))
    for name in ("label", "label_again"):
        rows = rows.set_column(rows.column_names.index(name), name, rows[name].take(order))
    return rows


def dropped(rows: pa.Table, seed: int) -> pa.Table:
    """Rows without one of their features."""
    names = [n for n in rows.column_names if n.startswith(("item_", "ui_", "score_"))]
    names = [n for n in names if n not in ("item_id", "ui_seen")]
    return rows.drop_columns([names[7 * seed % len(names)]])


def reordered(rows: pa.Table, seed: int) -> pa.Table:
    """Rows with their features in another order; keys and labels stay in front."""
    fixed, rest = rows.column_names[:5], rows.column_names[5:]
    return rows.select([*fixed, *np.random.default_rng(seed).permutation(rest).tolist()])
