"""The sha256, in hex, by which files and documents are told apart.

Belongs here: of a file's bytes, of a JSON document, and a document that carries its own. Does not
belong here: what else it is compared with, and what it means that it differs.
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


def signed_json(document: Any) -> str:
    """`document` as JSON, behind a line with the hash of it."""
    text = json.dumps(document, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def read_signed_json(data: bytes) -> Any:
    """The document in what `signed_json` wrote. Raises ValueError where the hash is another."""
    signature, _, text = data.partition(b"\n")
    if signature != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("its checksum differs")
    return json.loads(text)
