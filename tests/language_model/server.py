"""A local server that speaks the Messages and Message Batches APIs, with scripted faults.

It records every request it gets. What it answers is `answer(item, schema, body)`: the honest
default fills the schema from nothing; `obey` does whatever a text in the request asks for. Faults
are taken from `faults`, one per call of POST /v1/messages (or of /batches for those that start with
"batch"), until the list is empty.
"""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {
    "input_tokens": 100, "output_tokens": 50,
    "cache_read_input_tokens": 900, "cache_creation_input_tokens": 0,
}  # fmt: skip


def fill(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """Some value of `schema`."""
    root = root or schema
    if "$ref" in schema:
        return fill(root["$defs"][schema["$ref"].split("/")[-1]], root)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: fill(s, root) for name, s in schema["properties"].items()}
        case "array":
            return []
        case "integer" | "number":
            return 1
        case "boolean":
            return False
        case _:
            return "something"


def honest(item: dict[str, Any], schema: dict[str, Any], body: dict[str, Any]) -> Any:
    return fill(schema) | {"id": item["id"]}


class FakeAnthropic:
    """The server; use it as a context manager. `url` is what base_url must be."""

    def __init__(self, answer: Callable[..., Any] = honest) -> None:
        self.answer = answer
        self.faults: list[str] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.stop_reason = "end_turn"
        self.usage: dict[str, Any] = dict(USAGE)
        self.polls_until_ended = 1
        self.kill_pid = 0
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Quiet(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeAnthropic":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def posted(self, path: str = "/v1/messages") -> list[dict[str, Any]]:
        """Bodies of the POSTs to `path`."""
        return [body for where, _, body in self.requests if where == f"POST {path}"]

    def message(self, body: dict[str, Any]) -> dict[str, Any]:
        item = json.loads(body["messages"][0]["content"][0]["text"])
        found = self.answer(item, body["output_config"]["format"]["schema"], body)
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
            "content": [
                {"type": "text", "text": found if isinstance(found, str) else json.dumps(found)}
            ],
            "stop_reason": self.stop_reason, "stop_sequence": None, "usage": self.usage,
        }  # fmt: skip

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        number = f"msgbatch_{len(self.batches) + 1:04d}"
        self.batches[number] = {
            "requests": body["requests"], "polls": 0, "created": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        return self.describe(number)

    def describe(self, number: str) -> dict[str, Any]:
        batch = self.batches[number]
        ended = batch["polls"] >= self.polls_until_ended
        total = len(batch["requests"])
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        counts["succeeded" if ended else "processing"] = total
        return {
            "id": number, "type": "message_batch", "created_at": batch["created"],
            "expires_at": batch["created"], "ended_at": batch["created"] if ended else None,
            "archived_at": None, "cancel_initiated_at": None, "request_counts": counts,
            "processing_status": "ended" if ended else "in_progress",
            "results_url": f"{self.url}/v1/messages/batches/{number}/results" if ended else None,
        }  # fmt: skip

    def results(self, number: str, fault: str) -> bytes:
        """The results, last request first: their order means nothing."""
        lines = []
        for index, request in enumerate(reversed(self.batches[number]["requests"])):
            result: dict[str, Any] = {
                "type": "succeeded", "message": self.message(request["params"]),
            }  # fmt: skip
            if fault == "batch expired" or (fault == "batch half expired" and index % 2):
                result = {"type": "expired"}
            if fault == "batch errored":
                result = {"type": "errored", "error": {"type": "error", "error": {"type": "x"}}}
            if fault == "batch bare":
                result = {"type": "succeeded"}
            lines.append({"custom_id": request["custom_id"], "result": result})
        if fault == "batch stranger":
            lines += [{**lines[0], "custom_id": "nobody"}, lines[0]]
        if fault == "batch gap":
            lines = lines[1:]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is part of the tests."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeAnthropic
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake = self.fake
        fake.requests.append((f"POST {self.path}", self._headers(), body))
        if self.path == "/v1/messages/batches":
            fault = self._fault("batch ")
            if fault.startswith("batch status "):
                self._error(int(fault.split()[-1]))
                return
            state = fake.submit(body)
            if fault == "batch lost reply":
                self._cut(b"")
            elif fault == "batch kill":
                os.kill(fake.kill_pid, signal.SIGKILL)
            else:
                self._json(200, state)
            return
        fault = self._fault("")
        if fault:
            self._faulty(fault, body)
        else:
            self._json(200, fake.message(body))

    def do_GET(self) -> None:
        fake = self.fake
        path = self.path.split("?")[0]
        fake.requests.append((f"GET {path}", self._headers(), {}))
        if path == "/v1/messages/batches":
            data = [fake.describe(b) for b in reversed(fake.batches)]
            self._json(200, {"data": data, "has_more": False, "first_id": None, "last_id": None})
            return
        found = re.fullmatch(r"/v1/messages/batches/(\w+)(/results)?", path)
        if found is None or found[1] not in fake.batches:
            self._error(404)
        elif not found[2]:
            fake.batches[found[1]]["polls"] += 1
            self._json(200, fake.describe(found[1]))
        else:
            fault = self._fault("batch ")
            if fault == "batch cut":
                self._cut(fake.results(found[1], "")[:-200])
            else:
                self._send(200, fake.results(found[1], fault), "application/binary")

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _fault(self, prefix: str) -> str:
        for fault in self.fake.faults:
            if fault.startswith("batch ") == bool(prefix):
                self.fake.faults.remove(fault)
                return fault
        return ""

    def _faulty(self, fault: str, body: dict[str, Any]) -> None:
        name, _, detail = fault.partition(" ")
        whole = json.dumps(self.fake.message(body)).encode()
        match name:
            case "status":
                status, _, after = detail.partition(" ")
                self._error(int(status), {"retry-after": after} if after else {})
            case "spend":
                details = {"error_code": "enforced_spend_limit_reached"}
                self._error(429, {"retry-after": "1"}, details)
            case "error200":
                error = {"type": detail or "overloaded_error", "message": "Overloaded"}
                self._json(200, {"type": "error", "error": error})
            case "cut":
                self._cut(whole[:40])
            case "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "hang":
                time.sleep(float(detail))
                self.close_connection = True
            case "text200":
                self._json(200, {"type": "error", "error": detail})
            case "packed":
                self._send(200, whole, "application/json", {"content-encoding": "gzip"})
            case "trickle" | "drip":
                self.send_response(200 if name == "trickle" else 500)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(whole)))
                self.end_headers()
                for byte in whole[:200]:
                    try:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                    except OSError:
                        break
                    time.sleep(float(detail))
                self.close_connection = True
            case "huge":
                self._send(200, b" " * 5_000_000 + whole, "application/json")
            case "html":
                self._send(200, b"<html>gateway</html>", "text/html")
            case "kill":
                os.kill(self.fake.kill_pid, signal.SIGKILL)
            case _:
                raise ValueError(fault)

    def _error(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        error = {
            "type": kinds.get(status, "api_error"),
            "message": f"The key {self.headers.get('authorization')} met an error.",
            "details": details,
        }
        self._json(status, {"type": "error", "error": error}, headers)

    def _json(
        self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, json.dumps(content).encode(), "application/json", headers)

    def _send(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in ({"content-type": kind} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def _cut(self, part: bytes) -> None:
        """Promise more than is sent, then hang up."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(part) + 1000))
        self.end_headers()
        self.wfile.write(part)
        self.close_connection = True
