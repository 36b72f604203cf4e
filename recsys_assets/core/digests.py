"""The sha256, in hex, by which files and documents are told apart.

Belongs here: of a file's bytes, of a JSON document. Does not belong here: what it is compared with,
and what it means that it differs.
"""

import hashlib
import json
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """Of a file's bytes, which are read in pieces. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(content: Any) -> str:
    """Of the JSON of `content` with its keys in order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
