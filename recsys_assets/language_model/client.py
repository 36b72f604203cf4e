"""Asking the language model: deadlines, retries, a circuit breaker and the caps around one call.

Belongs here: `LanguageModel` and how to get one (`connect`). Does not belong here: what is asked
(a `Task` of the stage that asks), questions of a task together (`bulk.py`), the SDK
(`service.py`).

    model = connect(home, settings, run_id, asset="explanations")
    if model is not None:
        (answer,) = answer_all(model, task, [Facts(...)])  # .content, or .problem says why not

A question that gets no answer is never an exception: the caller has a way without the model, and
says how often it went there.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.language_model.answer import Answer, no_answer, read_message
from recsys_assets.language_model.ledger import BudgetError, Caps, CostLedger
from recsys_assets.language_model.prices import Prices, Usage
from recsys_assets.language_model.request import Payload, Request, Task, build
from recsys_assets.language_model.service import Service, ServiceError, key_from_environment

Result = TypeVar("Result")

FOLDER = "language_model"
"""Folder below the project's home: ledger, answers, batches."""


@dataclass(frozen=True)
class Clock:
    """Time as the client sees it; tests pass their own."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Breaker:
    """Stops asking a service that does not answer.

    Open for `rest` seconds after `limit` failures in a row, or for as long as the service asked
    when that is longer; then one call may try, and one failure opens it again.
    """

    monotonic: Callable[[], float]
    limit: int = 4
    rest: float = 60.0
    _failures: int = 0
    _open_until: float = -1.0

    def allows(self) -> bool:
        return self.monotonic() >= self._open_until

    def worked(self) -> None:
        self._failures = 0

    def failed(self, rest: float | None = None) -> None:
        """Count a failure; `rest` is how long the service asked to be left alone."""
        self._failures += 1
        if self._failures >= self.limit or (rest or 0.0) > self.rest:
            self._open_until = self.monotonic() + max(self.rest, rest or 0.0)


class LanguageModel:
    """The model as one asset (or command) may use it in one run.

    `home` is the folder of its files. Everything it does is bounded: each call by
    `settings.call_seconds`, all of them by `settings.run_seconds` and the two dollar caps.
    """

    def __init__(
        self,
        service: Service,
        settings: LanguageModelSettings,
        home: Path,
        run: str,
        asset: str,
        *,
        clock: Clock | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = clock or Clock()
        self.service = service
        self.settings = settings
        self.home = home
        self.run = run
        self.asset = asset
        self.ledger = ledger(home, settings, self.clock)
        self.ledger.prices.of(settings.model)
        self.breaker = Breaker(self.clock.monotonic)
        self._random = random.Random(seed)
        self._end = self.clock.monotonic() + settings.run_seconds
        self._stopped = ""

    def request(self, task: Task, payload: Payload) -> Request:
        """The request for `payload`, not sent. See `request.build`."""
        return build(task, payload, self.settings.model, self.settings.effort)

    def send(self, request: Request) -> Answer:
        """The answer to a request built by `request`."""
        try:
            return self.retry(lambda seconds: self._attempt(request, seconds))
        except ServiceError as error:
            return no_answer(error.problem)

    def retry(
        self,
        call: Callable[[float], Result],
        may_repeat: Callable[[ServiceError], bool] = lambda error: error.again,
    ) -> Result:
        """`call(seconds left)`, repeated after failures that `may_repeat`, within all bounds.

        Raises the ServiceError of the last attempt, or of the bound that ended it.
        """
        end = self.clock.monotonic() + min(self.settings.call_seconds, self.seconds_left)
        for attempt in range(self.settings.attempts):
            left = end - self.clock.monotonic()
            if problem := self.stopped() or ("" if left > 0 else "deadline"):
                raise ServiceError(problem, again=False)
            try:
                result = call(left)
            except ServiceError as error:
                self._note(error)
                if not may_repeat(error) or attempt + 1 == self.settings.attempts:
                    raise
                pause = self._pause(attempt, error.after)
                if self.clock.monotonic() + pause >= end:
                    raise
                self.clock.sleep(pause)
            else:
                self.breaker.worked()
                return result
        raise ServiceError("unavailable", again=False)

    def stopped(self) -> str:
        """Why nothing more can be asked in this run, or ''."""
        if self._stopped:
            return self._stopped
        if self.clock.monotonic() >= self._end:
            return "deadline"
        return "" if self.breaker.allows() else "unavailable"

    def reserve(self, requests: list[Request], *, batch: bool = False) -> str | None:
        """Set aside what `requests` may cost at most; None when a cap forbids it."""
        prices = self.ledger.prices
        dollars = sum(
            prices.upper_bound(r.model, r.prompt, r.task.max_tokens, batch=batch) for r in requests
        )
        try:
            return self.ledger.reserve(
                self.run, self.asset, self.settings.model, dollars, len(requests)
            )
        except BudgetError:
            return None

    @property
    def seconds_left(self) -> float:
        return self._end - self.clock.monotonic()

    def numbers(self) -> dict[str, float | int]:
        """What this run of the asset spent, for its report."""
        return self.ledger.numbers(self.run, self.asset)

    def _attempt(self, request: Request, seconds: float) -> Answer:
        reservation = self.reserve([request])
        if reservation is None:
            return no_answer("over budget")
        try:
            message = self.service.message(request.body, seconds)
        except ServiceError as error:
            if not error.sent:  # an error status costs nothing; a lost answer may, and stays open
                self.ledger.settle(reservation, Usage(), 0.0, calls=1)
            raise
        answer, usage = read_message(request, message)
        if usage is None:
            raise ServiceError("unreadable", again=False, sent=True)
        dollars = self.ledger.prices.cost(request.model, usage)
        self.ledger.settle(reservation, usage, dollars, calls=1)
        return answer

    def _note(self, error: ServiceError) -> None:
        """What a failed attempt means for the next ones."""
        if error.problem in ("spend limit", "not allowed"):
            self._stopped = error.problem
        self.breaker.failed(rest=error.after)

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Seconds before the next attempt: 0.5, 1, 2 … with jitter, at least what was asked."""
        backoff = 0.5 * 2**attempt * (0.5 + self._random.random())
        return max(backoff, asked or 0.0)


def ledger(home: Path, settings: LanguageModelSettings, clock: Clock | None = None) -> CostLedger:
    """The books kept below `home`; reading them needs no key."""
    return CostLedger(
        home / FOLDER / "ledger.jsonl",
        Prices.load(settings.prices),
        Caps(settings.dollars_per_run, settings.dollars_per_month),
        (clock or Clock()).now,
    )


def available(settings: LanguageModelSettings) -> bool:
    """Whether the model may be used: switched on, and a key in the environment."""
    return settings.enabled and key_from_environment() is not None


def connect(
    home: Path, settings: LanguageModelSettings, run: str, asset: str, *, seed: int = 0
) -> LanguageModel | None:
    """The model for `asset` in `run`, or None without a key or when it is switched off.

    `home` is the project's home. ANTHROPIC_BASE_URL, when set, says where the service is.
    """
    key = key_from_environment()
    if key is None or not settings.enabled:
        return None
    clock = Clock()
    service = Service(key, clock.monotonic)
    return LanguageModel(service, settings, home, run, asset, clock=clock, seed=seed)
