"""Which users the report shows with names of products: nobody, unless the operator says so.

Belongs here: that choice. Does not belong here: what is measured (`evaluation`).
"""

from pydantic import Field

from recsys_assets.core.settings.base import Part


class Examples(Part):
    per_kind: int = Field(default=0, ge=0)
    """How many users of each kind (win, ordinary, loss) are drawn; shown under a letter."""
    users: tuple[str, ...] = ()
    """Ids of users to look at; shown under their id."""
