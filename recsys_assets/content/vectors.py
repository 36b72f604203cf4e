"""From embeddings of texts to embeddings of items.

Belongs here: the join over texts. Does not belong here: the encoder (`embed.py`).
"""

from recsys_assets.core.lake import Snapshot
from recsys_assets.core.vectors import ItemVectors


def item_vectors(items: Snapshot, item_texts: Snapshot, text_embeddings: Snapshot) -> ItemVectors:
    """The vector of every catalogue item, in item_id order: the vector of its text."""
    texts = item_texts.to_pandas(["text_hash", "text"])
    frame = items.to_pandas(["item_id", "text"]).merge(texts, on="text", how="left")
    frame = frame.merge(text_embeddings.to_pandas(), on="text_hash", how="left")
    frame = frame.sort_values("item_id", ignore_index=True)
    return ItemVectors.from_frame(frame[["item_id", "vector"]])
