"""One user with a million events neither blows up memory nor makes a query LightGBM refuses."""

import resource
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.core.config import load_shop
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ingestion.source import open_source
from recsys_assets.ranking.features import build_feature_tables
from recsys_assets.ranking.ranker import ROWS_PER_QUERY
from recsys_assets.retrieval import candidates, registry
from recsys_assets.retrieval.contract import EventLog

EVENTS, ITEMS = 1_000_000, 12_000
AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
SHOP = """\
name: heavy
repeats: true
partitions: {granularity: month, start: 2024-01-01}
source:
  kind: files
  interactions: {path: events.csv, event_type: purchase}
  items: {path: items.csv}
"""


def test_a_user_with_a_million_events_is_handled_in_bounded_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.integers(0, 59 * 86_400, EVENTS))
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s")
    item = "i" + pd.Series(rng.integers(0, ITEMS, EVENTS)).astype(str)
    user = np.where(np.arange(EVENTS) % 20_000 == 0, "somebody", "robot")
    events = pd.DataFrame({"user_id": user, "item_id": item, "event_time": times})
    events.to_csv(tmp_path / "events.csv", index=False, date_format="%Y-%m-%d %H:%M:%S")
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "category_1": "things"})
    items.to_csv(tmp_path / "items.csv", index=False)
    (tmp_path / "shop.yaml").write_text(SHOP, encoding="utf-8")

    shop = load_shop(tmp_path / "shop.yaml")
    source = open_source(shop)
    file = next(f for f in source.files() if f.role == "interactions")
    landed = source.land(file, AS_OF)
    assert len(landed) == EVENTS and landed["reject_reason"].isna().all()
    days, one = landed["event_time"].dt.date, np.float32(1)
    interactions = landed.assign(local_date=days, weight=one, polarity=1, counts_as_taken=True)
    catalogue = source.items(AS_OF)[0]
    catalogue = catalogue.fillna(dict.fromkeys(("category_2", "category_3", "brand"), ""))
    catalogue["group_id"] = catalogue["item_id"]

    log = EventLog.from_frames(interactions, catalogue, AS_OF)
    chosen = registry.members({"frequency": {"k_unseen": 0}, "popularity": {}, "ease": {}})
    proposed = candidates.generate(log, registry.fit(log, chosen), chosen, ["robot", "somebody"])
    sizes = proposed.group_by("user_id").aggregate([("item_id", "count")])["item_id_count"]
    assert max(sizes.to_pylist()) <= ROWS_PER_QUERY

    tables = build_feature_tables(
        Warehouse(),
        pa.Table.from_pandas(interactions),
        catalogue,
        pa.table({"user_id": ["robot", "somebody"], "attributes": ["{}", "{}"]}),
        AS_OF,
        horizon_days=28,
    )
    assert tables["user_features"].num_rows == 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    assert peak < 4, f"{peak:.1f} GB"
