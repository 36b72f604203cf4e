"""Telling somebody: one webhook call and one line for the log per trouble, not per look.

Belongs here: what an alert says, whether it was said lately, how it leaves the house. Does not
belong here: finding trouble (`sensors`, `doctor`), and the log of who looks.

What was told is kept in `$RECSYS_HOME/alerts.jsonl`; without it everything is told once more. The
webhook's address is a secret ($RECSYS_ALERT_WEBHOOK): it appears in no log, event or error text.
"""

import http.client
import json
import logging
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

WEBHOOK = "RECSYS_ALERT_WEBHOOK"
TIMEOUT_SECONDS = 5.0
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "DSN", "WEBHOOK", "_URL")
_SHORTEST_SECRET = 6
"""Characters; something shorter (a port, a switch) would cut up every text."""
_log = logging.getLogger("recsys.alerts")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would follow with a GET that has no body, and take a page to log in for success."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Bounded(http.client.HTTPConnection):
    """Cut after TIMEOUT_SECONDS in all. What urllib waits so long for is each piece of an answer:
    one that drips would hold a look for as long as it likes."""

    def connect(self) -> None:
        super().connect()
        timer = threading.Timer(TIMEOUT_SECONDS, _cut, [self.sock])
        timer.daemon = True
        timer.start()


class _BoundedTLS(_Bounded, http.client.HTTPSConnection): ...


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):  # it is closed already: the answer was whole in time
        connected.shutdown(socket.SHUT_RDWR)


class _BoundedHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Asks over connections that are cut."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Bounded, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_BoundedTLS, req)


_opener = urllib.request.build_opener(_NoRedirect, _BoundedHandler)


@dataclass(frozen=True)
class Alert:
    """One trouble. `kind` names its paragraph in docs/operations.md; `what` is the first error."""

    kind: str
    subject: str
    """what it is about, part of its identity: an asset, a job, 'served'"""
    what: str
    remedy: str
    run: str = ""
    happened: str = ""
    """when (ISO 8601), for what happens at a moment; empty for what lasts until it is repaired"""

    @property
    def key(self) -> str:
        """Equal for the same trouble, whichever run shows it."""
        return f"{self.kind}|{self.subject}|{self.what.splitlines()[0][:200] if self.what else ''}"

    def text(self) -> str:
        """The alert as one line."""
        run = f" (run {self.run})" if self.run else ""
        return f"{self.kind}: {self.subject}{run}: {' '.join(self.what.split())} | {self.remedy}"


class Alerts:
    """The alerts of one home, for the length of one look: a webhook that is silent is asked once in
    it, or a few failed runs take longer than a tick may."""

    def __init__(
        self, home: Path, again: timedelta, environment: Mapping[str, str] | None = None
    ) -> None:
        self.path = home / "alerts.jsonl"
        self.again = again
        self._environment = os.environ if environment is None else environment
        self._silent = False

    def tell(self, alert: Alert, now: datetime) -> str:
        """Tell `alert` unless that was done less than `again` ago, or since it `happened`. Returns
        what was told now, as one line without secrets for the caller's log; '' for nothing.

        With a webhook that does not answer, the alert is written down all the same, and every
        further look tries to send it, without a word until that succeeds.
        """
        alert = Alert(**{k: self._redacted(v) for k, v in asdict(alert).items()})
        if self._told(alert, now, delivered=True):
            return ""
        written = self._told(alert, now, delivered=False)
        delivered = self._send(alert, now, quiet=written)
        if written and not delivered:
            return ""
        line = {"at": now.isoformat(), "key": alert.key, "delivered": delivered, **asdict(alert)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return alert.text()

    def _told(self, alert: Alert, now: datetime, *, delivered: bool) -> bool:
        for line in self.lines():
            if line["key"] == alert.key and line["delivered"] is delivered:
                at = datetime.fromisoformat(line["at"])
                if timedelta(0) <= now - at < self.again:
                    return True
                if alert.happened and datetime.fromisoformat(alert.happened) - at < self.again:
                    return True
        return False

    def lines(self) -> list[dict]:
        """What was told, oldest first."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # torn by a crash: what it said is told again
        return found

    def _send(self, alert: Alert, now: datetime, *, quiet: bool) -> bool:
        """Whether the alert is where it should be. True without a webhook: the log is all there
        is. `quiet`: that it failed was said before."""
        address = self._environment.get(WEBHOOK)
        if not address:
            return True
        if self._silent:
            return False
        body = {"text": alert.text(), "at": now.isoformat(), **asdict(alert)}
        try:
            request = urllib.request.Request(
                address,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            with _opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                if 200 <= answer.status < 300:
                    return True
                why = f"answered {answer.status}"
        except urllib.error.HTTPError as error:
            why = f"answered {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            # The text of such an error may hold the address.
            why = f"failed ({type(error).__name__})"
            self._silent = True
        if not quiet:
            _log.error("the alert webhook %s: each look tries again", why)
        return False

    def _redacted(self, text: str) -> str:
        for name, value in self._environment.items():
            if len(value) >= _SHORTEST_SECRET and any(
                word in name.upper() for word in _SECRET_WORDS
            ):
                text = text.replace(value, f"[{name}]")
        return text
