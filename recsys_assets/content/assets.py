"""Content assets: item texts and their embeddings."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.content import embed, tables
from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import NotApprovedError, Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.core.warehouse import Warehouse

GROUP = "content"


@table_asset(tables.ITEM_TEXTS, group=GROUP, kinds=["duckdb", "sql"], sql=["content/item_texts"])
def item_texts(items: Snapshot, warehouse: Warehouse) -> pa.Table:
    """The distinct texts of the catalogue: variants of a product usually share one."""
    return warehouse.query("content/item_texts", {"items": items.paths()})


def _known_vectors(project: Project, model: str) -> pd.DataFrame:
    """Vectors of the last approved version, if the same encoder made them."""
    try:
        served = project.lake.served(tables.TEXT_EMBEDDINGS.name)
    except NotApprovedError:
        return pd.DataFrame({"text_hash": pd.Series(dtype="str"), "vector": []})
    if served.report()["texts"].get("model") != model:
        return pd.DataFrame({"text_hash": pd.Series(dtype="str"), "vector": []})
    return served.to_pandas()


def _every_text_is_embedded(candidate: Snapshot, item_texts: Snapshot) -> Iterator[Failure]:
    have = set(candidate.to_pandas(["text_hash"])["text_hash"])
    missing = len(set(item_texts.to_pandas(["text_hash"])["text_hash"]) - have)
    if missing:
        yield Failure("texts without a vector", "text_hash", missing)


def _vectors_differ(candidate: Snapshot) -> Iterator[Failure]:
    vectors = candidate.to_arrow(["vector"])["vector"].combine_chunks()
    matrix = vectors.flatten().to_numpy().reshape(len(vectors), -1)
    if len(matrix) > 1 and np.allclose(matrix, matrix[0], atol=1e-4):
        yield Failure("all vectors are the same: the encoder is broken", "vector", len(matrix))


@table_asset(
    tables.TEXT_EMBEDDINGS,
    group=GROUP,
    kinds=["sentencetransformers", "python"],
    config=("encoder",),
    rules=[_every_text_is_embedded, _vectors_differ],
)
def text_embeddings(
    item_texts: Snapshot, shop: Shop, project: Project, report: Report
) -> pd.DataFrame:
    """A sentence embedding of every distinct text. A text is embedded once and then reused."""
    texts = item_texts.to_pandas(["text_hash", "text"])
    model = embed.model_id(shop.encoder.model)
    known = _known_vectors(project, model)
    fresh = texts[~texts["text_hash"].isin(known["text_hash"])]
    report.texts["model"] = model
    report.numbers |= {"texts": len(texts), "newly embedded": len(fresh)}
    kept = known[known["text_hash"].isin(texts["text_hash"])]
    if len(fresh):
        vectors = embed.embed(embed.load_encoder(shop.encoder.model), fresh["text"].tolist())
        made = pd.DataFrame({"text_hash": fresh["text_hash"], "vector": list(vectors)})
        kept = pd.concat([kept, made], ignore_index=True)
    return kept.sort_values("text_hash", ignore_index=True)


ASSETS: list[GatedAsset] = [item_texts, text_embeddings]
