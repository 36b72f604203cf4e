"""What every section of the shop file is made from."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A section: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
