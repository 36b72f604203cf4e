"""Many questions at once, none of them paid for twice.

Belongs here: `answer_all`, which takes what was answered before, asks a few questions directly and
many as one Message Batch. Does not belong here: the store of answers (`kept.py`), single calls
(`client.py`), what the answers mean.

Answers that were paid for are kept by the key of their request (payload, task, version, schema,
model), rejected ones too: the same question would cost the same again. Failures that cost nothing
are not kept.

The life of a batch is a journal. *intended* is on the disk before the batch is submitted,
*submitted* (with the service's id) before the id is used, *collected* after its answers are on the
disk. A process that dies in between leaves a batch the next run takes up: by its id, or, when it
died between submitting and noting the id, by looking for a batch of that size and age among the
account's newest; only when there is none is the same question asked again. Results come in any
order and are matched by `custom_id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from recsys_assets.core.journal import Journal
from recsys_assets.language_model.answer import Answer, no_answer, read_message, read_usage
from recsys_assets.language_model.client import FOLDER, LanguageModel
from recsys_assets.language_model.kept import Answers
from recsys_assets.language_model.prices import Usage
from recsys_assets.language_model.request import Payload, Request, Task
from recsys_assets.language_model.service import ServiceError

BATCH_LIMIT = 5_000
"""Requests of one batch; with a vocabulary in each they stay below the service's 256 MB."""

CLOCK_SKEW = timedelta(minutes=10)
"""How far the service's clock may be from ours when a lost batch is looked for."""


def answer_all(model: LanguageModel, task: Task, payloads: Sequence[Payload]) -> list[Answer]:
    """The answers to `payloads`, in their order, each question at most once ever.

    Most wanted first: when money or time run out, what comes later goes without an answer.
    """
    requests = [model.request(task, p) for p in payloads]
    store = Answers(model.home, model.clock.now)
    found = store.get(requests)
    unknown = {r.key: r for r in requests if r.key not in found}
    if unknown:
        batches = Batches(model, task, store)
        found |= batches.take_up(unknown)
        unknown = {k: r for k, r in unknown.items() if k not in found}
        if len(unknown) >= model.settings.batch_from:
            found |= batches.ask(list(unknown.values()))
        else:
            for key, request in unknown.items():
                found[key] = model.send(request)
                store.keep(unknown, {key: found[key]})
    return [found[r.key] for r in requests]


@dataclass(frozen=True)
class _Batch:
    """A batch that is not collected yet. `id` is the service's name for it, '' while unknown."""

    reservation: str
    keys: tuple[str, ...]
    at: datetime
    id: str = ""


class Batches:
    """The batches of one task in one home, resumable at any point."""

    def __init__(self, model: LanguageModel, task: Task, store: Answers) -> None:
        self._model = model
        self._service = model.service
        self._store = store
        self._journal = Journal(model.home / FOLDER / f"batches_{task.name}.jsonl")

    def take_up(self, wanted: Mapping[str, Request]) -> dict[str, Answer]:
        """Answers to `wanted` from batches of earlier runs; those still under way are `pending`."""
        found: dict[str, Answer] = {}
        for batch in self._open():
            try:
                located = batch if batch.id else self._locate(batch)
            except ServiceError:
                found |= {k: no_answer("pending") for k in batch.keys if k in wanted}
                continue
            if located is None:
                self._forget(batch)
            else:
                found |= self._collect(located, wanted)
        return found

    def ask(self, requests: list[Request]) -> dict[str, Answer]:
        """Submit `requests`, wait as long as the run may, collect. The caps decide how many go."""
        found: dict[str, Answer] = {}
        while requests:
            some, reservation = self._affordable(requests[:BATCH_LIMIT])
            if reservation is None:
                return found | {r.key: no_answer("over budget") for r in requests}
            try:
                batch = self._submit(some, reservation)
            except ServiceError as error:
                return found | {r.key: no_answer(error.problem) for r in requests}
            requests = requests[len(some) :]
            found |= self._collect(batch, {r.key: r for r in some})
        return found

    # -- inside ------------------------------------------------------------------------------

    def _affordable(self, requests: list[Request]) -> tuple[list[Request], str | None]:
        """As many of `requests` as the caps allow, by halving, and their reservation."""
        size = len(requests)
        while size:
            reservation = self._model.reserve(requests[:size], batch=True)
            if reservation is not None:
                return requests[:size], reservation
            size //= 2
        return [], None

    def _submit(self, requests: list[Request], reservation: str) -> _Batch:
        at = self._model.clock.now()
        batch = _Batch(reservation, tuple(r.key for r in requests), at)
        self._note("intended", batch, keys=list(batch.keys), at=at.isoformat())
        body = [{"custom_id": r.key, "params": dict(r.body)} for r in requests]
        try:
            state = self._model.retry(
                lambda seconds: self._service.submit(body, seconds),
                may_repeat=lambda error: error.again and not error.sent,
            )
        except ServiceError as error:
            if not error.sent:
                self._forget(batch)
                raise
            located = self._locate(batch)
            if located is None:  # it may still arrive: the next run looks again
                raise ServiceError("pending", again=False) from None
            return located
        return self._submitted(batch, state.id)

    def _locate(self, batch: _Batch) -> _Batch | None:
        """The batch whose id was lost, found among the account's newest; None: there is none."""
        known = {r["id"] for r in self._journal.records() if r["kind"] == "submitted"}
        listed = self._model.retry(self._service.batches)
        for state in sorted(listed, key=lambda b: (b.created_at, b.id)):
            same_age = abs(state.created_at - batch.at) <= CLOCK_SKEW
            if same_age and state.requests == len(batch.keys) and state.id not in known:
                return self._submitted(batch, state.id)
        return None

    def _collect(self, batch: _Batch, wanted: Mapping[str, Request]) -> dict[str, Answer]:
        """Answers of `batch` to those of `wanted` that it asked; `pending` if it has not ended."""
        mine = {k: wanted[k] for k in batch.keys if k in wanted}
        try:
            if not self._wait(batch):
                return {k: no_answer("pending") for k in mine}
            lines = self._model.retry(lambda seconds: self._service.results(batch.id, seconds))
            answers, usage, dollars = self._read(batch, lines, mine)
        except ServiceError as error:
            if error.problem != "rejected":
                return {k: no_answer("pending") for k in mine}
            self._note("collected", batch)  # the service no longer knows it: its money is gone
            return {k: no_answer("expired") for k in mine}
        self._store.keep(mine, answers)
        self._model.ledger.settle(batch.reservation, usage, dollars, calls=len(batch.keys))
        self._note("collected", batch)
        return answers

    def _wait(self, batch: _Batch) -> bool:
        """Whether the batch has ended, waiting for it as long as the run may."""
        pause = 2.0
        while True:
            state = self._model.retry(lambda seconds: self._service.batch(batch.id, seconds))
            if state.ended:
                return True
            if self._model.seconds_left <= pause:
                return False
            self._model.clock.sleep(pause)
            pause = min(60.0, pause * 1.5)

    def _read(
        self, batch: _Batch, lines: list[object], wanted: Mapping[str, Request]
    ) -> tuple[dict[str, Answer], Usage, float]:
        """Answers to `wanted`, and what the whole batch used. Every request must have its line."""
        by_key: dict[str, Mapping[str, Any]] = {}
        for line in lines:
            if isinstance(line, Mapping) and isinstance(line.get("result"), Mapping):
                by_key.setdefault(str(line.get("custom_id")), line["result"])
        if not by_key.keys() >= set(batch.keys):
            raise ServiceError("unreadable", again=True, sent=True)
        answers: dict[str, Answer] = {}
        usage, dollars = Usage(), 0.0
        prices, model = self._model.ledger.prices, self._model.settings.model
        for key in batch.keys:
            result = by_key[key]
            if result.get("type") != "succeeded":
                problem = "rejected" if result.get("type") == "errored" else "expired"
                answer = no_answer(problem)
            else:
                used = read_usage(result.get("message")) or Usage()
                usage, dollars = usage + used, dollars + prices.cost(model, used, batch=True)
                if key not in wanted:
                    continue
                answer = read_message(wanted[key], result.get("message"))[0]
            if key in wanted:
                answers[key] = answer
        return answers, usage, dollars

    def _submitted(self, batch: _Batch, batch_id: str) -> _Batch:
        self._note("submitted", batch, id=batch_id)
        return replace(batch, id=batch_id)

    def _forget(self, batch: _Batch) -> None:
        """The batch never reached the service: its money is free again."""
        self._note("collected", batch)
        self._model.ledger.settle(batch.reservation, Usage(), 0.0, calls=0)

    def _note(self, kind: str, batch: _Batch, **more: Any) -> None:
        with self._journal.locked():
            self._journal.append([{"kind": kind, "reservation": batch.reservation, **more}])

    def _open(self) -> list[_Batch]:
        found: dict[str, _Batch] = {}
        for record in self._journal.records():
            name = record["reservation"]
            match record["kind"]:
                case "intended":
                    at = datetime.fromisoformat(record["at"])
                    found[name] = _Batch(name, tuple(record["keys"]), at)
                case "submitted":
                    found[name] = replace(found[name], id=record["id"])
                case "collected":
                    found.pop(name, None)
        return list(found.values())
