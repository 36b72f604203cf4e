"""How new files arrive in a watched folder or object store."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from recsys_assets.core.settings.base import Part


class ArrivalSettings(Part):
    """Present (also as `{}`) = the paths of a `files` source are watched.

    A complete file is then copied into the home once and read from there for ever after, so what
    happens to the folder later (a name reused, a clean-up) changes nothing that was accepted.
    """

    settle_seconds: float = Field(default=60, ge=0, le=1_000_000)
    """A file is complete when nothing has touched it for so long. 0 = files are moved into place
    whole. With `marker`, the marker decides alone. Objects of a store appear whole anyway."""
    marker: str | None = Field(default=None, min_length=1)
    """Suffix of the empty file that says "this one is complete", for example .done"""
    ignore: list[str] = [".*", "_*", "*~", "*.part", "*.partial", "*.filepart", "*.tmp",
                         "*.crdownload", "*.swp"]  # fmt: skip
    """Names of uploads under way; such files, and files in folders of such names, do not exist."""
    max_megabytes: int = Field(default=5000, ge=1)
    """A larger file is refused and reported."""

    endpoint: str | None = None
    """Address of an S3-compatible store, for example http://minio:9000; null = AWS. Keys are not
    here: they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY alone."""
    region: str = "us-east-1"
    """Region of the buckets that paths `s3://bucket/...` name."""

    @field_validator("endpoint")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError("write an address like https://host:9000, without a path")
        if "@" in parts.netloc:
            raise ValueError("no keys here: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        return value

    @field_validator("marker")
    @classmethod
    def _a_suffix(cls, value: str | None) -> str | None:
        if value is not None and ("/" in value or not value.startswith(".")):
            raise ValueError(f"{value!r} is not a suffix; write one like .done")
        return value
