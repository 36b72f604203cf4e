"""What every section of the shop file is made from, and how a model's own settings are checked."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json


class Part(BaseModel):
    """A section: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def check_settings(
    model: type[Any],
    given: Any,
    key: str,
    besides: Collection[str] = (),
    more: Collection[str] = (),
) -> None:
    """Raise ValueError unless `given`, found at `key`, sets fields of a dataclass to their types.

    Fields `besides` are not for a shop file to set; keys `more` are checked elsewhere.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{key}: expected settings by name, found {given!r}")
    known: dict[str, Any] = {
        field.name: field.type for field in fields(model) if field.name not in besides
    }
    for name, value in given.items():
        if name in more:
            continue
        if name not in known:
            names = sorted({*known, *more})
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"{key}.{name}: unknown key; {hint}known keys here: {', '.join(names)}"
            )
        try:
            TypeAdapter(known[name]).validate_json(to_json(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(step) for step in (name, *first["loc"]))
            raise ValueError(f"{key}.{at}: {first['msg']} (found {first['input']!r})") from error
