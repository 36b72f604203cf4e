"""Contracts of what is known about items from their text alone."""

from recsys_assets.core.tables import Column, Table

ITEM_TEXTS = Table(
    name="item_texts",
    columns=(
        Column("text_hash", "string", "sha256 of the text"),
        Column("text", "string", "The text"),
        Column("items", "int32", "How many catalogue items have it", minimum=1),
    ),
    key=("text_hash",),
)

TEXT_EMBEDDINGS = Table(
    name="text_embeddings",
    columns=(
        Column("text_hash", "string", "sha256 of the text"),
        Column("vector", "vector", "Sentence embedding", unit_norm=True),
    ),
    key=("text_hash",),
)
