"""New objects below a prefix of an S3-compatible store, for the ledger of arrivals.

An object appears whole, so nothing has to settle, but the store tells the time of a change in whole
seconds: an object changed just now could change again without a sign, and waits for `RACE`.
Every wait is bounded, and what goes wrong is one sentence with the remedy. Keys come from the
environment alone and are in no text.

Belongs here: listing and reading objects (`pyarrow.fs`). Does not belong here: what was ingested
already (`arrivals`), what an object means (`tabular`).
"""

import io
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from recsys_assets.core.settings.arrival import ArrivalSettings
from recsys_assets.ingestion.arrivals import Listed, Watched, is_temporary, too_large
from recsys_assets.ingestion.source import SourceError

RACE = timedelta(seconds=5)
CONNECT_SECONDS = 5
SILENT_SECONDS = 15
"""How long a request may stay without a byte; it is made twice at most."""
_SCHEME = "s3:"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_ROLES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
          "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")  # fmt: skip
_SIGN = 8
"""Bytes at the end of a piece by which it is seen that the piece was written to its end."""
_CODE = re.compile(r"AWS Error (?:UNKNOWN \(HTTP status (\d+)\)|([A-Z_]+))")


class UnreachableError(SourceError):
    """A store cannot be looked at now; the text says why and what to do. `place` is its address."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(why)
        self.place = place


def is_stored(watched: Watched) -> bool:
    """Whether what is watched is in a store: its folder is `s3:/bucket/prefix`, as pathlib writes
    that."""
    return watched.folder.parts[:1] == (_SCHEME,)


@dataclass
class StoreInbox:
    """Prefixes of buckets; see `arrivals.Inbox`. Names are whole addresses, `s3://bucket/key`."""

    watched: tuple[Watched, ...]
    settings: ArrivalSettings
    _refused: dict[str, str] = field(default_factory=dict)

    @property
    def settle(self) -> timedelta:
        """See `Inbox.settle`."""
        return RACE

    def listing(self) -> Iterator[Listed]:
        """See `Inbox.listing`. A prefix without objects is empty; a bucket has to be there."""
        self._refused = {}
        for watched in self.watched:
            found = self._objects(watched)
            for key, info in sorted(found.items()):
                path, name = Path(_SCHEME) / key, f"{_SCHEME}//{key}"
                if not watched.accepts(path) or is_temporary(path, watched, self.settings):
                    continue
                if self.settings.marker and key + self.settings.marker not in found:
                    continue
                if info.size > self.settings.max_megabytes * 1_000_000:
                    self._refused[name] = too_large(info.size, self.settings)
                    continue
                yield Listed(watched.role, name, _changed(info), info.size, _stamp(info))

    def refused(self) -> dict[str, str]:
        """See `Inbox.refused`."""
        return dict(self._refused)

    def open(self, listed: Listed) -> BinaryIO:
        """See `Inbox.open`."""
        key = listed.name.removeprefix(f"{_SCHEME}//")
        with self._explained(key):
            (info,) = self._store.get_file_info([key])
            if info.type.name != "File":
                raise FileNotFoundError(f"{listed.name} is gone")
            if _stamp(info) != listed.stamp:
                raise OSError(f"{listed.name} changed while it was looked at")
            stream = self._store.open_input_stream(key)
        return cast(BinaryIO, _Object(self, key, stream, listed.size))

    # -- inside ------------------------------------------------------------------------------

    @cached_property
    def _store(self) -> Any:
        from pyarrow import fs

        given = {name: os.environ.get(name) for name in _KEYS}
        role = any(os.environ.get(name) for name in _ROLES)
        if not all(given.values()) and not role:
            missing = " and ".join(name for name, value in given.items() if not value)
            raise UnreachableError(
                self._place, f"cannot be read without keys: set {missing} in the environment of "
                "the daemon, and of whoever calls recsys",
            )  # fmt: skip
        address = urlsplit(self.settings.endpoint or "")
        return fs.S3FileSystem(
            access_key=given[_KEYS[0]],
            secret_key=given[_KEYS[1]],
            session_token=os.environ.get("AWS_SESSION_TOKEN") if all(given.values()) else None,
            region=self.settings.region,
            scheme=address.scheme or "https",
            endpoint_override=address.netloc or None,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=SILENT_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        )

    @property
    def _place(self) -> str:
        return self.settings.endpoint or "the object store"

    def _objects(self, watched: Watched) -> dict[str, Any]:
        """Key, bucket first -> what the store says of the object."""
        from pyarrow import fs

        prefix = Path(*watched.folder.parts[1:]).as_posix()
        bucket = prefix.partition("/")[0]
        with self._explained(prefix):
            (found,) = self._store.get_file_info([bucket])
            if found.type == fs.FileType.NotFound:
                raise UnreachableError(
                    f"{_SCHEME}//{bucket}",
                    "is no bucket of this store: correct the path in the shop file, "
                    "arrival.endpoint or arrival.region, or create the bucket",
                )
            deep = watched.pattern is None
            selector = fs.FileSelector(prefix, allow_not_found=True, recursive=deep)
            listed = self._store.get_file_info(selector)
            if not listed:  # the client takes any XML, and no text at all, for an empty listing
                (found,) = self._store.get_file_info([f"{prefix}/{uuid.uuid4().hex}"])
                if found.type != fs.FileType.NotFound:
                    raise UnreachableError(f"{_SCHEME}//{bucket}", self._sentence(_NO_STORE))
        return {info.path: info for info in listed if info.type == fs.FileType.File}

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what the store's client raises into a sentence."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            code = _CODE.search(str(error))
            if code is None:
                raise
            bucket = f"{_SCHEME}//{key.partition('/')[0]}"
            raise UnreachableError(bucket, self._sentence(code[1] or code[2])) from None

    def _sentence(self, code: str) -> str:
        if code == "NETWORK_CONNECTION":
            return (
                f"cannot be reached at {self.settings.endpoint or 'AWS'}: start the store, or "
                "correct arrival.endpoint; it is tried again at the next look"
            )
        if code in _DENIED:
            return (
                f"refuses the keys ({code}): AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be "
                "allowed to list the bucket and to get its objects"
            )
        if code == _NO_STORE:
            return (
                f"answers at {self.settings.endpoint or 'AWS'} as no S3 store does: a web page, a "
                "console or a proxy may be there, so correct arrival.endpoint; it is tried again "
                "at the next look"
            )
        if code in _NEVER_RIGHT:
            return (
                f"refuses the request ({code}): keys that expire (AWS_SESSION_TOKEN) have to be "
                f"new, and arrival.region ({self.settings.region}) has to be the bucket's"
            )
        return f"answers with an error ({code}): it is tried again at the next look"


_DENIED = (
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT", "MISSING_AUTHENTICATION_TOKEN", "403", "401",
)  # fmt: skip
_NO_STORE = "UNKNOWN"
"""What the client says, without a status, of an answer that it cannot read."""
_NEVER_RIGHT = ("301", "400")
"""What a look at a bucket or an object gets, without a word, for keys that have expired and for a
bucket of another region."""


class _Object(io.RawIOBase):
    """The bytes of an object, its errors explained."""

    def __init__(self, inbox: StoreInbox, key: str, stream: Any, size: int) -> None:
        super().__init__()
        self._inbox, self._key, self._stream, self._left = inbox, key, stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """A reply that ends early is no error for the client, which then hands out memory that
        nobody has written: the last bytes of the piece say whether they were."""
        view = memoryview(buffer)[: self._left]
        end = view[-_SIGN:]
        unwritten = os.urandom(len(end))
        end[:] = unwritten
        with self._inbox._explained(self._key):
            read = int(self._stream.readinto(view))
        if len(end) == _SIGN and end == unwritten:
            bucket = f"{_SCHEME}//{self._key.partition('/')[0]}"
            why = f"sends less of {self._key} than it has: it is tried again at the next look"
            raise UnreachableError(bucket, why)
        self._left -= read
        return read

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _changed(info: Any) -> datetime:
    changed: datetime = info.mtime
    return changed


def _stamp(info: Any) -> str:
    return f"{info.size}-{info.mtime_ns}"
