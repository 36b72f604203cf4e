"""A small shop in a lake: what the enrichment assets read, approved, without a run before them."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from recsys_assets.content.tables import ITEM_TEXTS, TEXT_EMBEDDINGS
from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.tables import Table
from recsys_assets.enrichment.assets import item_enrichment
from recsys_assets.enrichment.tables import ITEM_ENRICHMENT
from recsys_assets.staging.tables import CUTOFFS, INTERACTIONS, ITEMS, USERS
from tests.stored import approved

AS_OF = pd.Timestamp("2024-01-08", tz="UTC")
SHELVES = {
    "MILK": "DAIRY", "CHEESE": "DAIRY", "BREAD": "BAKERY", "CAKES": "BAKERY",
    "SHAMPOO": "DRUG GM", "DOG FOODS": "PETS",
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "event_type": "purchase", "local_date": AS_OF.date(), "quantity": 1.0, "value": None,
    "currency": None, "weight": 1.0, "polarity": 1, "counts_as_taken": True, "store_id": None,
    "price": None, "discount": None, "context": None, "batch": "b",
}  # fmt: skip


@dataclass
class Shelf:
    """The catalogue as (title, type) pairs; the first `sold` items have an event."""

    products: list[tuple[str, str]]
    sold: int = 2
    extra: dict[str, str] = field(default_factory=dict)
    """item_id -> free text"""

    def items(self) -> pd.DataFrame:
        rows = []
        for n, (title, kind) in enumerate(self.products):
            item_id = f"i{n:04}"
            path = f"{SHELVES[kind]} > {kind}"
            text = f"{title} | {path} | {self.extra.get(item_id, '')}"
            rows.append(
                {
                    "item_id": item_id, "title": title, "category_1": SHELVES[kind],
                    "category_2": kind, "category_3": "", "brand": "b", "price": None, "text": text,
                    "group_id": text, "available_from": None, "available_to": None,
                    "status": "active", "market": "", "attributes": "{}",
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def events(self) -> pd.DataFrame:
        rows = [
            {
                "event_id": f"e{n}", "user_id": f"household-{n}", "item_id": f"i{n:04}",
                "event_time": AS_OF - pd.Timedelta(days=1), "session_id": f"s{n}", "row": n + 1,
            }
            for n in range(self.sold)
        ]  # fmt: skip
        return pd.DataFrame(rows).assign(**DEFAULTS)


def store(project: Project, table: Table, frame: pd.DataFrame) -> None:
    """Put `frame` into the lake as the approved version of `table`."""
    approved(project.lake, table.name, table.conform(frame))


def fill(project: Project, shelf: Shelf) -> None:
    items = shelf.items()
    texts = items.groupby("text").size().rename("items").reset_index()
    texts["text_hash"] = [sha256(t.encode()).hexdigest() for t in texts["text"]]
    vectors = []
    for text in texts["text"]:
        seed = int.from_bytes(sha256(text.split("|")[1].encode()).digest()[:4])
        vector = np.random.default_rng(seed).normal(size=8).astype(np.float32)
        vectors.append(vector / np.linalg.norm(vector))
    store(project, ITEMS, items)
    store(project, ITEM_TEXTS, texts)
    store(project, TEXT_EMBEDDINGS, texts[["text_hash"]].assign(vector=vectors))
    store(project, INTERACTIONS, shelf.events())
    store(project, USERS, pd.DataFrame({"user_id": ["household-0"], "attributes": ["{}"]}))
    cutoff = {"as_of": AS_OF, "horizon_end": AS_OF + pd.Timedelta(days=28), "complete": False}
    store(project, CUTOFFS, pd.DataFrame([cutoff | {"target": "live"}]))


def materialize(project: Project, gated: GatedAsset = item_enrichment) -> dict[str, Any]:
    """Run the asset and its gate the way Dagster does; returns the asset's metadata."""
    done = dg.materialize(
        [gated.asset, gated.check],
        resources={"project": project},
        instance=dg.DagsterInstance.ephemeral(),
    )
    assert done.success
    (event,) = done.asset_materializations_for_node(gated.table.name)
    return {name: value.value for name, value in event.metadata.items()}


def enriched(project: Project) -> pd.DataFrame:
    """The approved enrichment with the title of its text, by title."""
    lake = project.lake
    frame = lake.served(ITEM_ENRICHMENT.name).to_pandas()
    texts = lake.served(ITEM_TEXTS.name).to_pandas(["text_hash", "text"])
    frame = frame.merge(texts, on="text_hash")
    return frame.assign(title=frame["text"].str.split(" | ", regex=False).str[0]).set_index("title")


def content_id(project: Project) -> str:
    return project.lake.served(ITEM_ENRICHMENT.name).content_id
