"""The books of the language model: what was spent, by run, asset and model, and the hard caps.

Belongs here: reserving money before a request, settling it after the answer, adding up. Does not
belong here: prices (`prices.py`), sending (`client.py`).

A request is paid for in two lines. *Reserve* writes an upper bound of its cost, durably, before the
request is sent, and is refused when a cap would be passed. *Settle* replaces the bound by what the
service reported. A reservation whose process died stays counted at its bound: the books may be too
high, never too low, and what can be spent beyond a cap is at most what was in flight.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recsys_assets.core.journal import Journal
from recsys_assets.language_model.prices import Prices, Usage


class BudgetError(RuntimeError):
    """A cap would be passed; the message says which."""


@dataclass(frozen=True)
class Caps:
    """Dollars per run and per calendar month (UTC)."""

    run: float
    month: float


@dataclass(frozen=True)
class Spending:
    """What one run of one asset spent on one model. `open` are requests not settled yet, counted
    in `dollars` at their upper bound."""

    month: str
    run: str
    asset: str
    model: str
    calls: int
    open: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    dollars: float


class CostLedger:
    """The ledger in one file, shared by every process that works on the same home."""

    def __init__(self, path: Path, prices: Prices, caps: Caps, now: Callable[[], datetime]) -> None:
        self._journal = Journal(path)
        self._prices = prices
        self._caps = caps
        self._now = now

    @property
    def prices(self) -> Prices:
        return self._prices

    def reserve(self, run: str, asset: str, model: str, dollars: float, requests: int = 1) -> str:
        """Set `dollars` aside for `requests`; returns the reservation's id. BudgetError if not."""
        with self._journal.locked() as records:
            at = self._now()
            month = at.strftime("%Y-%m")
            spent = _spendings(records)
            this_run = sum(s.dollars for s in spent if s.run == run)
            this_month = sum(s.dollars for s in spent if s.month == month)
            for name, cap, used in (
                ("dollars_per_run", self._caps.run, this_run),
                ("dollars_per_month", self._caps.month, this_month),
            ):
                if used + dollars > cap:
                    raise BudgetError(
                        f"language_model.{name} is {cap:.4f}: {used:.4f} are spent or set aside, "
                        f"and the next request may cost {dollars:.4f}"
                    )
            reservation = uuid.uuid4().hex
            self._journal.append(
                [
                    {
                        "kind": "reserve",
                        "id": reservation,
                        "at": at.isoformat(timespec="seconds"),
                        "month": month,
                        "run": run,
                        "asset": asset,
                        "model": model,
                        "requests": requests,
                        "dollars": dollars,
                        "prices": self._prices.version,
                    }
                ]
            )
        return reservation

    def settle(self, reservation: str, usage: Usage, dollars: float, calls: int) -> None:
        """Replace a reservation by what it came to. Settling twice changes nothing."""
        with self._journal.locked() as records:
            if any(r["kind"] == "settle" and r["id"] == reservation for r in records):
                return
            self._journal.append(
                [
                    {
                        "kind": "settle",
                        "id": reservation,
                        "calls": calls,
                        "dollars": dollars,
                        **asdict(usage),
                    }
                ]
            )

    def spending(self, run: str | None = None) -> list[Spending]:
        """Spending by month, run, asset and model, in order of first use."""
        found = _spendings(self._journal.records())
        return [s for s in found if run is None or s.run == run]

    def numbers(self, run: str, asset: str) -> dict[str, float | int]:
        """What one asset spent in one run, as numbers for its report."""
        rows = [s for s in self.spending(run) if s.asset == asset]
        return {
            "language model calls": sum(s.calls for s in rows),
            "language model input tokens": sum(s.input for s in rows),
            "language model cached tokens": sum(s.cache_read for s in rows),
            "language model output tokens": sum(s.output for s in rows),
            "language model dollars": round(sum(s.dollars for s in rows), 6),
        }


def _spendings(records: list[dict[str, Any]]) -> list[Spending]:
    settled: Mapping[str, dict[str, Any]] = {
        r["id"]: r for r in reversed(records) if r["kind"] == "settle"
    }
    rows: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for record in records:
        if record["kind"] != "reserve":
            continue
        key = (record["month"], record["run"], record["asset"], record["model"])
        row = rows.setdefault(
            key,
            dict.fromkeys(("calls", "open", "input", "output", "cache_read", "cache_write"), 0)
            | {"dollars": 0.0},
        )
        end = settled.get(record["id"])
        row["dollars"] += (end or record)["dollars"]
        if end is None:
            row["open"] += record["requests"]
            continue
        for name in ("calls", "input", "output", "cache_read", "cache_write"):
            row[name] += end[name]
    return [Spending(*key, **row) for key, row in rows.items()]
