"""Which items count as cold."""

from pydantic import Field

from recsys_assets.core.settings.base import Part


class EnrichmentSettings(Part):
    """The section `enrichment` of the shop file."""

    max_events: int = Field(default=0, ge=0)
    """An item is cold at a cutoff when it has at most so many events before it. Only the texts of
    cold items are ever sent to the language model."""
