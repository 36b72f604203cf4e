"""The contract of the index as the lake knows it."""

from recsys_assets.core.tables import Column, Table

VECTOR_INDEX = Table(
    name="vector_index",
    columns=(
        Column("item_id", "string", "Id of the item"),
        Column("object_id", "string", "UUID of its object, the same in every release and store"),
        Column("content_hash", "string", "Hash over its vector and everything it can be found by"),
    ),
    key=("item_id",),
)
