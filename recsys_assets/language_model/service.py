"""The one door to the Anthropic SDK: single attempts, each with its own deadline and size limit.

Belongs here: calling the SDK and telling its errors apart. Does not belong here: retries, money,
what is asked. Nothing else in the project imports `anthropic`, and it is imported on first use.

The SDK would wait for any Retry-After and retry three times by itself; both are switched off. The
texts of its errors are never passed on: they quote the service, which may quote anything.
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from threading import Thread
from typing import Any

MAX_BYTES = 4_000_000
"""Of one message; results of a batch may have a hundred times as many."""


class ServiceError(RuntimeError):
    """One attempt failed. `problem` is a key of `answer.PROBLEMS`.

    again: whether the same request may be tried again. after: what the service asked to wait.
    sent: whether the request may have been worked on, and so may cost money.
    """

    def __init__(
        self, problem: str, *, again: bool, after: float | None = None, sent: bool = False
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.again = again
        self.after = after
        self.sent = sent


@dataclass(frozen=True)
class BatchState:
    """A batch as the service describes it."""

    id: str
    ended: bool
    created_at: datetime
    requests: int


class Service:
    """Messages and Message Batches through the SDK.

    `monotonic` measures deadlines. `base_url` None: the SDK's own, or $ANTHROPIC_BASE_URL.
    """

    def __init__(
        self, key: str, monotonic: Callable[[], float], base_url: str | None = None
    ) -> None:
        self._monotonic = monotonic
        self._key, self._base_url = key, base_url
        self._sdk = self._connected()

    def message(self, body: Mapping[str, Any], seconds: float) -> object:
        """POST /v1/messages; the decoded body, whatever it is."""

        def call(timeout: float) -> Any:
            return self._sdk.messages.with_streaming_response.create(**body, timeout=timeout)

        return self._read(call, seconds)

    def submit(self, requests: list[dict[str, Any]], seconds: float) -> BatchState:
        """POST /v1/messages/batches."""

        def call(timeout: float) -> Any:
            return self._sdk.messages.batches.with_streaming_response.create(
                requests=requests,
                timeout=timeout,
            )

        return _batch(self._read(call, seconds))

    def batch(self, batch_id: str, seconds: float) -> BatchState:
        """GET /v1/messages/batches/ID."""

        def call(timeout: float) -> Any:
            return self._sdk.messages.batches.with_streaming_response.retrieve(
                batch_id, timeout=timeout
            )

        return _batch(self._read(call, seconds))

    def batches(self, seconds: float) -> list[BatchState]:
        """The newest hundred batches of the account."""

        def call(timeout: float) -> Any:
            return self._sdk.messages.batches.with_streaming_response.list(
                limit=100, timeout=timeout
            )

        page = self._read(call, seconds)
        rows = page.get("data") if isinstance(page, Mapping) else None
        if not isinstance(rows, list):
            raise ServiceError("unreadable", again=False)
        return [_batch(row) for row in rows]

    def results(self, batch_id: str, seconds: float) -> list[object]:
        """The decoded lines of a batch's results, in the service's order, which means nothing."""

        def call(timeout: float) -> Any:
            sdk = self._sdk.with_options(timeout=timeout)
            return sdk.messages.batches.with_streaming_response.results(batch_id)

        data = self._bytes(call, seconds, limit=100 * MAX_BYTES)
        return [_decode(line) for line in data.splitlines() if line.strip()]

    # -- inside ------------------------------------------------------------------------------

    def _read(self, call: Callable[[float], Any], seconds: float) -> Any:
        found = _decode(self._bytes(call, seconds, MAX_BYTES))
        if isinstance(found, Mapping) and found.get("type") == "error":
            error = found.get("error")
            kind = error.get("type") if isinstance(error, Mapping) else None
            raise ServiceError("unavailable", again=kind in _TRANSIENT, sent=True)
        return found

    def _connected(self) -> Any:
        import anthropic

        return anthropic.Anthropic(
            api_key=self._key, base_url=self._base_url, max_retries=0, open_telemetry=False
        )

    def _bytes(self, call: Callable[[float], Any], seconds: float, limit: int) -> bytes:
        """The body of a 200. A trickle does not outlast the deadline.

        The SDK's timeout begins anew with each byte of the head and of an error's text, so somebody
        else waits for those, and the connection is closed on them.
        """
        answer: Future[bytes] = Future()

        def wait() -> None:
            try:
                answer.set_result(self._received(call, seconds, limit))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                answer.set_exception(error)

        Thread(target=wait, daemon=True).start()
        try:
            return answer.result(seconds + _GRACE)
        except TimeoutError:
            self._sdk.close()
            self._sdk = self._connected()
            raise ServiceError("deadline", again=True, sent=True) from None

    def _received(self, call: Callable[[float], Any], seconds: float, limit: int) -> bytes:
        import anthropic
        import httpx2

        end = self._monotonic() + seconds
        try:
            with call(seconds) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit:
                        raise ServiceError("too large", again=False, sent=True)
                    if self._monotonic() > end:
                        raise ServiceError("deadline", again=False, sent=True)
                return bytes(data)
        except anthropic.APIStatusError as error:
            headers = error.response.headers
            raise _status_error(error.status_code, error.error_code, headers) from None
        except (anthropic.APITimeoutError, httpx2.TimeoutException):
            raise ServiceError("deadline", again=True, sent=True) from None
        except (anthropic.APIConnectionError, httpx2.RequestError):
            raise ServiceError("unavailable", again=True, sent=True) from None
        except anthropic.AnthropicError:
            raise ServiceError("unavailable", again=False, sent=True) from None


_GRACE = 0.5
"""Seconds that an attempt has beyond its deadline to say itself that it is over."""
_TRANSIENT = ("overloaded_error", "api_error", "timeout_error", "rate_limit_error")
_SPENT = (
    "enforced_spend_limit_reached", "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached", "linked_organization_billing_unavailable",
)  # fmt: skip


def _status_error(status: int, code: str | None, headers: Mapping[str, str]) -> ServiceError:
    told_not_to = status == 429 and headers.get("x-should-retry") == "false"
    if status == 402 or code in _SPENT or told_not_to:
        return ServiceError("spend limit", again=False)
    if status in (401, 403):
        return ServiceError("not allowed", again=False)
    if status in (408, 409, 429) or status >= 500:
        return ServiceError("unavailable", again=True, after=_seconds(headers.get("retry-after")))
    return ServiceError("rejected", again=False)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; dates and nonsense count as absent."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ServiceError("unreadable", again=False, sent=True) from None


def _batch(found: object) -> BatchState:
    try:
        counts = found["request_counts"]  # type: ignore[index]
        state = BatchState(
            id=str(found["id"]),  # type: ignore[index]
            ended=found["processing_status"] == "ended",  # type: ignore[index]
            created_at=datetime.fromisoformat(found["created_at"]),  # type: ignore[index]
            requests=sum(int(n) for n in counts.values()),
        )
        if not state.id or state.created_at.utcoffset() is None:
            raise ValueError("no id, or a time that may be anywhere")
        return state
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise ServiceError("unreadable", again=False, sent=True) from None


def key_from_environment() -> str | None:
    """The key, from ANTHROPIC_API_KEY alone; None when it is not set."""
    return os.environ.get("ANTHROPIC_API_KEY") or None
