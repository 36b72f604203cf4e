"""The connection to a Weaviate server: bounded waits, and errors that say what to do.

Belongs here: connecting, refusing servers that cannot serve us, the time everything may take, and
what a failure means for the person who runs the server. Does not belong here: collections, objects,
queries (`weaviate.py`), where URL and key come from.
"""

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from recsys_assets.indexing.contract import UnavailableError, VectorIndexError

OLDEST = (1, 32)
"""First server version with collection aliases."""


@dataclass(frozen=True)
class Patience:
    """Most seconds to wait for a connection, one query, one batch of writes, and for a server that
    indexes in the background to catch up."""

    connect: float = 10.0
    query: float = 30.0
    write: float = 120.0
    settle: float = 900.0


class Server:
    """A connected Weaviate server; see `WeaviateIndex` for the arguments.

    `client` is weaviate-client's, `version` the server's major and minor, `where` its name in
    errors.
    """

    def __init__(self, url: str, grpc_port: int, api_key: str | None, patience: Patience) -> None:
        self.patience = patience
        self.where = f"the Weaviate server at {url} (gRPC port {grpc_port})"
        self._api_key = api_key
        self.client = self._connect(url, grpc_port)

    def close(self) -> None:
        """Give back the connections."""
        self.client.close()

    def ask(
        self,
        doing: str,
        call: Callable[[], Any],
        kind: Literal["connect", "query", "write"] = "query",
        but: Any = (),
    ) -> Any:
        """The result of `call`, or UnavailableError that says what to do; errors of the kind `but`
        pass. Waits no longer than our patience: the client retries a lost connection for a minute,
        whatever its timeouts say."""
        import grpc
        import httpx
        from weaviate.exceptions import WeaviateBaseError

        untouched = " What is served is untouched." if kind == "write" else ""
        try:
            return _within(getattr(self.patience, kind), call)
        except but:
            raise
        except TimeoutError:
            raise UnavailableError(
                f"{self.where} did not answer in time while {doing} "
                f"({getattr(self.patience, kind):.0f} s): check its load and its log, or restart "
                f"it, then run again.{untouched}"
            ) from None
        except (WeaviateBaseError, httpx.HTTPError, grpc.RpcError) as error:
            said = self.plain(str(error))
            raise UnavailableError(
                f"{self.where} failed while {doing}: {remedy(said)}.{untouched} It said: {said}"
            ) from None

    def plain(self, text: str) -> str:
        """One line of what the server said, without our key."""
        line = " ".join(text.split())[:400]
        return line.replace(self._api_key, "***") if self._api_key else line

    # -- connecting ----------------------------------------------------------------------------

    def _connect(self, url: str, grpc_port: int) -> Any:
        import weaviate
        from weaviate.classes.init import AdditionalConfig, Auth, Timeout

        # When a batch fails it logs every object in full; our error says what matters.
        logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)
        host, port, secure = _address(url)
        scheme = "https" if secure else "http"
        self._see_version(f"{scheme}://{host}:{port}/v1/meta")
        client = self.ask(
            "connecting",
            lambda: weaviate.connect_to_custom(
                http_host=host,
                http_port=port,
                http_secure=secure,
                grpc_host=host,
                grpc_port=grpc_port,
                grpc_secure=secure,
                auth_credentials=Auth.api_key(self._api_key) if self._api_key else None,
                additional_config=AdditionalConfig(
                    timeout=Timeout(
                        init=self.patience.connect,
                        query=self.patience.query,
                        insert=self.patience.write,
                    )
                ),
                skip_init_checks=True,  # they ask PyPI for the newest client
            ),
            kind="connect",
        )
        try:
            self._knock(f"{host}:{grpc_port}", secure)
        except VectorIndexError:
            client.close()
            raise
        return client

    def _see_version(self, address: str) -> None:
        """Refuse what is no Weaviate, or too old, before the client stumbles over it."""
        import httpx

        headers = {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        reply = self.ask(
            "asking for the server's version",
            lambda: httpx.get(
                address, headers=headers, timeout=self.patience.connect, trust_env=False
            ).raise_for_status(),
            kind="connect",
        )
        try:
            version = str(reply.json()["version"])
            major, minor = re.findall(r"\d+", version)[:2]
        except (ValueError, KeyError, TypeError):
            raise UnavailableError(
                f"{self.where} does not answer like a Weaviate server: check that WEAVIATE_URL is "
                f"the address of its REST API. It said: {self.plain(reply.text)}"
            ) from None
        self.version = int(major), int(minor)
        if self.version < OLDEST:
            raise VectorIndexError(
                f"{self.where} is version {version}, collection aliases need "
                f"{'.'.join(map(str, OLDEST))} or later: upgrade the server"
            )

    def _knock(self, address: str, secure: bool) -> None:
        """Raise UnavailableError unless somebody answers on the gRPC port."""
        import grpc

        channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials())
            if secure
            else grpc.insecure_channel(address)
        )
        try:
            grpc.channel_ready_future(channel).result(timeout=self.patience.connect)
        except grpc.FutureTimeoutError as error:
            raise UnavailableError(
                f"{self.where}: nothing answers on the gRPC port within "
                f"{self.patience.connect:.0f} s: check WEAVIATE_GRPC_PORT and that the port is open"
            ) from error
        finally:
            channel.close()


def _address(url: str) -> tuple[str, int, bool]:
    """Host, port and whether to use TLS."""
    try:
        parts = urlsplit(url)
        secure = {"http": False, "https": True}[parts.scheme]
        if not parts.hostname:
            raise ValueError
        return parts.hostname, parts.port or (443 if secure else 80), secure
    except (KeyError, ValueError):
        raise VectorIndexError(
            f"WEAVIATE_URL is {url!r}: write it like https://weaviate.example.com:8080"
        ) from None


def remedy(said: str) -> str:
    """What a person does about an error of this kind."""
    text = said.lower()
    kinds = (
        (("401", "unauthorized", "unauthenticated", "anonymous access", "invalid api key"),
         "it does not accept the key, set WEAVIATE_API_KEY to a valid one"),
        (("403", "forbidden", "permission"),
         "the key may not do this, give its role the permissions listed in docs/production.md"),
        (("no space left", "disk"),
         "its disk is full, free or enlarge it, set the shards to READY and run again"),
        (("read-only", "readonly", "read only"),
         "it is in read-only mode, usually since its disk was nearly full: free the disk, set the "
         "shards to READY and run again"),
        (("not enough memory", "memory pressure"),
         "it is short of memory, give it more or set index.quantization, and run again"),
        (("larger than max", "resource_exhausted"),
         "one object is longer than a message to it may be: raise its GRPC_MAX_MESSAGE_SIZE or "
         "shorten the item's text"),
        (("timed out", "timeout", "deadline"),
         "it is too slow, check its load and run again"),
        (("connect", "unavailable", "reset", "socket closed", "refused"),
         "it cannot be reached, check that it runs, and WEAVIATE_URL and WEAVIATE_GRPC_PORT, "
         "then run again"),
    )  # fmt: skip
    return next(
        (remedy for marks, remedy in kinds if any(_says(text, mark) for mark in marks)),
        "see its log, repair the cause and run again",
    )


def _says(text: str, mark: str) -> bool:
    """Whether `mark` is in the text; a number by itself, not within the name of a collection."""
    return bool(re.search(rf"\b{mark}\b", text)) if mark.isdigit() else mark in text


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of `call`, or TimeoutError after `seconds`; the call itself is then abandoned to a
    thread that dies with the process."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="weaviate call").start()
    return future.result(timeout=seconds)
