"""Contracts of the candidates."""

from recsys_assets.core.tables import Column, Table

CANDIDATES = Table(
    name="candidates",
    columns=(
        Column("as_of", "timestamp", "Only events before this moment were used"),
        Column("user_id", "string", "For whom"),
        Column("item_id", "string", "What"),
        Column("score_*", "float32", "The retriever's score; null if it cannot score it", True),
        Column("rank_*", "int32", "Place in the retriever's list; null if not in it", True, 1),
    ),
    key=("as_of", "user_id", "item_id"),
    part_by="as_of",
)

HIDDEN_CANDIDATES = Table(
    name="hidden_candidates",
    columns=CANDIDATES.columns,
    key=CANDIDATES.key,
    part_by="as_of",
    min_rows=0,
)
