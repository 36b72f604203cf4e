"""Contracts of what is worked out about items nobody has taken yet."""

from recsys_assets.core.tables import Column, Table

ITEM_ENRICHMENT = Table(
    name="item_enrichment",
    columns=(
        Column("text_hash", "string", "sha256 of the text"),
        Column("type", "string", "Product type: the category that types are taken from"),
        Column("source", "string", "Who filled the row", values=("extractive", "claude")),
        Column("model", "string", "Model that filled it; empty for extractive"),
        Column("audience", "string", "For whom: terms, as a JSON array"),
        Column("uses", "string", "What it is used for: terms, as a JSON array"),
        Column("comparable_types", "string", "Product types taken in its place, as a JSON array"),
        Column("keywords", "string", "Words that say what it is, as a JSON array"),
        Column("appeal", "string", "What speaks for it: terms, as a JSON array"),
        Column("complements", "string", "Product types that go with it, as a JSON array"),
    ),
    key=("text_hash",),
)

TYPE_RELATIONS = Table(
    name="type_relations",
    columns=(
        Column("as_of", "timestamp", "Only events before this moment were used"),
        Column("type", "string", "Product type"),
        Column("relation", "string", "What is related", values=("audience", "complement")),
        Column("rank", "int32", "1 = strongest", minimum=1),
        Column("value", "string", "Another type, or attribute=value of its buyers"),
        Column("lift", "float32", "How much more often than over all", minimum=0),
        Column("support", "int32", "Baskets or buyers behind it", minimum=1),
        Column("source", "string", "Where it comes from", values=("extractive",)),
    ),
    key=("as_of", "type", "relation", "rank"),
    part_by="as_of",
    min_rows=0,
)
