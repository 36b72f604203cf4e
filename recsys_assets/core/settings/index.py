"""The vector index: what the shop file may say about it."""

from typing import Literal

from pydantic import Field

from recsys_assets.core.settings.base import Part


class Index(Part):
    """Where searches happen is chosen by RECSYS_VECTOR_STORE; this is how the index is built."""

    keep: int = Field(default=2, ge=2)
    """Complete releases that stay in the store, the active one included: what can be rolled back to
    by moving the alias. In Weaviate each is a whole collection."""
    exact_up_to: int = Field(default=200_000, ge=0)
    """Up to so many objects (or so many that pass a filter) the embedded index compares all."""
    connections: int = Field(default=16, ge=4, le=128)
    """Links per object of the HNSW graph."""
    build_effort: int = Field(default=80, ge=16)
    """efConstruction of the HNSW graph."""
    search_effort: int = Field(default=128, ge=16)
    """ef of the HNSW graph: how many objects a search keeps in hand."""
    quantization: Literal["none", "rq", "sq", "bq"] = "none"
    """Compression of the vectors in Weaviate's graph; results are re-scored with whole vectors."""
    golden: dict[str, str] = {}
    """Query -> a category that one of its first ten results must be in, for every release."""
