"""Golden releases: a small lake of every format the program ever wrote, kept as it was written.

`python -m tests.publishing.golden` writes the one of today's format, once: when the format changes
(`core.lake.FORMAT`), add its lake and leave the others as they are.

Belongs here: what a golden lake holds, and writing it. Does not belong here: what has to hold of it
(`test_golden.py`).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.collaborative.tables import BOUGHT_TOGETHER, SIMILAR_ITEMS
from recsys_assets.core.lake import FORMAT, Lake, VersionKey
from recsys_assets.core.tables import Table
from recsys_assets.publishing import manifest
from recsys_assets.publishing.releases import RELEASE, Known, Manifest, Releases
from recsys_assets.ranking import ranker
from recsys_assets.ranking.tables import POPULAR_RECOMMENDATIONS, RANKERS, RECOMMENDATIONS
from recsys_assets.staging.tables import ITEMS

FOLDER = Path(__file__).parents[1] / "data" / "releases"
EXPECTED = "expected.json"
"""Beside the lake: what was served when it was written, rows and scores."""
KEY = VersionKey(code="golden", config="", libraries="", inputs={})
AS_OF = pd.Timestamp("2024-05-06", tz="UTC")


def features() -> pa.Table:
    """Forty candidates of four users; no chance in it, so that every program has the same."""
    n = np.arange(40)
    return pa.table(
        {
            "as_of": pa.array([AS_OF.to_pydatetime()] * 40, pa.timestamp("us", tz="UTC")),
            "user_id": [f"u{u}" for u in n // 10],
            "item_id": [f"i{i}" for i in n % 10],
            "label": ((n * 7 % 10 > 6) | (n % 4 == 0)).astype("float32"),
            "label_again": (n * 7 % 10 > 8).astype("float32"),
            "ui_seen": (n % 3 == 0).astype("float32"),
            "ui_days": pa.array([None if i % 4 == 0 else i % 5 / 3 for i in n], pa.float32()),
            "score_frequency": (n * 7 % 10 / 10).astype("float32"),
        }
    )


def scores(models: pd.DataFrame) -> list[str]:
    """What the stored rankers make of `features`, to the last bit."""
    found = []
    for text in models["model"]:
        values = ranker.score(ranker.RankerModel.from_json(text), features())
        found += [float(v).hex() for v in values]
    return found


def rows_of(table: pa.Table) -> list[dict[str, str]]:
    """Every value as a text that says it exactly."""
    return [{k: repr(v) for k, v in row.items()} for row in table.to_pylist()]


def write(folder: Path) -> None:
    """Two releases, the second one served."""
    releases = Releases(Lake(folder / "lake"))
    for first in ("i1", "i2"):
        release_id = _release(releases.lake, first)
        releases.judged(
            Known(release_id, passed=True, against=releases.state().live), "golden"
        )  # fmt: skip
        assert releases.offer(release_id, "golden") == ""
    expected = {release_id: read(releases, release_id) for release_id in releases.state().stack}
    text = json.dumps(expected, indent=1, sort_keys=True)
    (folder / EXPECTED).write_text(text + "\n", encoding="utf-8")


def read(releases: Releases, release_id: str) -> dict[str, Any]:
    """Everything a release says."""
    found: Manifest = releases.manifest(release_id)
    tables = {name: releases.table(found, name) for name in found.tables}
    return {
        "facts": dict(found.facts),
        "metrics": {name: value.hex() for name, value in found.metrics.items()},
        "scores": scores(tables["rankers"].to_pandas()),
        "tables": {name: rows_of(s.to_arrow()) for name, s in tables.items() if name != "rankers"},
    }


def _release(lake: Lake, first: str) -> str:
    rows = []
    for table, frame in _tables(first):
        stored = lake.store(table.name, [("", table.conform(frame))], KEY)
        rows.append(manifest.row("table", table.name, "", stored.content_id, stored.id))
    facts = {"as_of": "2024-05-06T00:00Z", "evaluate_as_of": "2024-04-22T00:00Z", "recipe": "r"}
    rows += [manifest.row("fact", name, "", value) for name, value in facts.items()]
    rows.append(manifest.row("metric", "ndcg@10 all", "", repr(0.1 + 0.2)))
    rows.append(manifest.row("settings", "shop", "", "{}"))
    return lake.store(RELEASE, [("", pa.Table.from_pylist(rows))], KEY).id


def _tables(first: str) -> list[tuple[Table, pd.DataFrame]]:
    lines = {
        "placement": "for_you", "rank": [1, 2], "item_id": [first, "007"], "score": [0.5, 0.25],
        "retrievers": "frequency", "reason": ["You took it 3 times", "Käse für später"],
        "reason_code": "again", "reason_evidence": "{}", "build_id": "b", "policy": "ranker",
        "propensity": 1.0, "as_of": AS_OF,
    }  # fmt: skip
    popular = pd.DataFrame(lines)
    pairs = pd.DataFrame(
        {"item_id": [first], "rank": 1, "other_item_id": "007", "score": 0.125, "support": 3}
    )
    names = ("title", "category_1", "category_2", "category_3", "brand", "text", "group_id",
             "status", "market")  # fmt: skip
    items = pd.DataFrame({"item_id": ["007", "i1", "i2"], "price": [1.5, None, 1e-3]}).assign(
        **dict.fromkeys(names, "x"), available_from=AS_OF, available_to=pd.NaT, attributes="{}"
    )
    settings = ranker.RankerSettings(
        rounds=3, min_data_in_leaf=2, num_leaves=4, feature_fraction=1.0, threads=1
    )
    model = ranker.train(features(), settings)
    models = pd.DataFrame(
        {"target": ["live"], "task": "all", "seed": 0, "model": model.to_json(),
         "feature_spec": ranker.feature_spec(model.features), "rows": 40}
    )  # fmt: skip
    return [
        (RECOMMENDATIONS, popular.assign(user_id="u1")),
        (POPULAR_RECOMMENDATIONS, popular),
        (SIMILAR_ITEMS, pairs),
        (BOUGHT_TOGETHER, pairs),
        (ITEMS, items),
        (RANKERS, models),
    ]


if __name__ == "__main__":
    target = FOLDER / f"format-{FORMAT}"
    target.mkdir(parents=True)  # a golden release is written once
    write(target)
