"""The rows of a release's manifest.

Belongs here: turning tables, settings and numbers into rows of the table `release`. Does not belong
here: reading a manifest (`releases.py`), and what the rows are for.
"""

import hashlib
import json
from collections.abc import Mapping

import pandas as pd

from recsys_assets.core.config import Shop
from recsys_assets.core.lake import Snapshot

Row = dict[str, str]


def row(kind: str, name: str, part: str, value: str, hash_: str | None = None) -> Row:
    """One row; without `hash_` its hash is that of the value."""
    own = hashlib.sha256(value.encode()).hexdigest()
    return {"kind": kind, "name": name, "part": part, "hash": hash_ or own, "value": value}


def table_rows(named: Mapping[str, Snapshot]) -> list[Row]:
    """Every version of every table, and the code each table was made by."""
    rows = []
    for name, snapshot in sorted(named.items()):
        rows += [row("table", name, v.partition, v.content_id, v.id) for v in snapshot.versions]
        codes = sorted({v.key.code for v in snapshot.versions})
        rows.append(row("code", name, "", ", ".join(codes)))
    return rows


def settings_rows(shop: Shop) -> list[Row]:
    """The shop file as understood, but for how releases are judged. It holds no secret: those come
    from the environment."""
    content = shop.model_dump(mode="json", exclude={"releases", "retention"})
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return [row("settings", "shop", "", text)]


def headline(scoreboard: pd.DataFrame, k: int) -> dict[str, float]:
    """`ndcg@k all`, `ndcg@k new`: of our lists, on the evaluate target; empty if nothing was
    held out."""
    rows = scoreboard[
        (scoreboard["target"] == "evaluate")
        & (scoreboard["model"] == "ours")
        & (scoreboard["slice"] == "all")
        & (scoreboard["baseline"] == "")
        & (scoreboard["metric"] == f"ndcg@{k}")
    ]
    return {
        f"{metric} {task}": float(value)
        for metric, task, value in zip(rows["metric"], rows["task"], rows["value"], strict=True)
        if not pd.isna(value)
    }
