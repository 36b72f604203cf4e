"""How long what nothing needs any more is kept.

The limits of releases and of the vector index stand where those are set up: `releases.keep`,
`index.keep`.
"""

from pydantic import Field

from recsys_assets.core.settings.base import Part


class Retention(Part):
    """Days after which something goes, unless something still needs it."""

    runs_days: int = Field(default=30, ge=7)
    """Finished runs with their events and logs. Those with the newest events of an asset, a
    partition or a check stay, however old."""
    answers_days: int = Field(default=180, ge=60)
    """Answers of the language model that nobody used for so long. One about an item of the
    catalogue, by the present wording and model, stays for ever."""
    replaced_days: int = Field(default=30, ge=1)
    """Delivered contents, counted from when a newer one of the same name replaced them."""
