"""Contracts of what is learned from who took what: factors, neighbours, item-to-item lists."""

from recsys_assets.core.tables import Column, Table

_AS_OF = Column("as_of", "timestamp", "Only events before this moment were used")

ALS_FACTORS = Table(
    name="als_factors",
    columns=(
        _AS_OF,
        Column("kind", "string", "Whose vector it is", values=("user", "item")),
        Column("id", "string", "user_id or item_id"),
        Column("vector", "vector", "Factors; affinity is the dot product"),
    ),
    key=("as_of", "kind", "id"),
    part_by="as_of",
    user_ids=(("id", "kind", "user"),),
)

ITEM_NEIGHBOURS = Table(
    name="item_neighbours",
    columns=(
        _AS_OF,
        Column("item_id", "string", "The item"),
        Column("neighbour_id", "string", "An item taken by the same users"),
        Column("rank", "int32", "1 = closest", minimum=1),
        Column("score", "float32", "Shrunk cosine of BM25-weighted users"),
        Column("support", "float32", "Users who took both", minimum=0),
    ),
    key=("as_of", "item_id", "neighbour_id"),
    part_by="as_of",
    min_rows=0,  # in a young shop nobody has taken two things yet
)


def _item_list(name: str, other: str, support: str) -> Table:
    return Table(
        name=name,
        columns=(
            Column("item_id", "string", "The item being looked at"),
            Column("rank", "int32", "1 = first", minimum=1),
            Column("other_item_id", "string", other),
            Column(
                "score", "float32", "Comparable within one item; of similar items, one category"
            ),
            Column("support", "int32", support, minimum=0),
        ),
        key=("item_id", "rank"),
        min_rows=0,
    )


SIMILAR_ITEMS = _item_list(
    "similar_items",
    "What could be taken instead; of another category where its own is too small",
    "Users who took both products; 0: text and popularity alone speak for it",
)
BOUGHT_TOGETHER = _item_list(
    "bought_together",
    "What goes with it",
    "Baskets with both items; 0: only baskets with items of the same category speak for it",
)
