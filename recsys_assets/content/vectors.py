"""From embeddings of texts to embeddings of items.

Belongs here: the join over texts. Does not belong here: the encoder (`embed.py`).
"""

from collections.abc import Mapping
from typing import Annotated

from recsys_assets.core.lake import Snapshot
from recsys_assets.core.vectors import ItemVectors

TEXT_VECTORS = ("item_texts", "text_embeddings")
TextVectors = Annotated[dict[str, Snapshot], TEXT_VECTORS]
"""Texts and their vectors by name, as an asset or a rule asks for both with one parameter."""


def item_vectors(items: Snapshot, text_vectors: Mapping[str, Snapshot]) -> ItemVectors:
    """The vector of every catalogue item, in item_id order: the vector of its text."""
    texts, embeddings = (text_vectors[name] for name in TEXT_VECTORS)
    frame = items.to_pandas(["item_id", "text"])
    frame = frame.merge(texts.to_pandas(["text_hash", "text"]), on="text", how="left")
    frame = frame.merge(embeddings.to_pandas(), on="text_hash", how="left")
    frame = frame.sort_values("item_id", ignore_index=True)
    return ItemVectors.from_frame(frame[["item_id", "vector"]])
