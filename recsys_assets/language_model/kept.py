"""The answers that were paid for, kept by the key of their request.

Belongs here: keeping, finding, and telling which ones nobody uses. Does not belong here: asking
(`bulk.py`), and which questions a catalogue still poses (the stage that asks).

A line of the journal is an answer, or only says that one was `used`: once in `MARK` at most, so
that an answer that serves every night costs a line a month.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from recsys_assets.core.journal import Journal, line
from recsys_assets.language_model.answer import Answer, no_answer
from recsys_assets.language_model.client import FOLDER
from recsys_assets.language_model.request import Request

MARK = timedelta(days=30)


@dataclass(frozen=True)
class Idle:
    """An answer that nobody used lately: which task asked for it ('' if it was not noted then), and
    what it takes."""

    task: str
    bytes: int


class Answers:
    """The answers kept below `home`, shared by every process that works on it."""

    def __init__(self, home: Path, now: Callable[[], datetime]) -> None:
        self._journal = Journal(home / FOLDER / "answers.jsonl")
        self._now = now

    def get(self, requests: Sequence[Request]) -> dict[str, Answer]:
        """The kept answers to `requests`, by key; notes that they were used."""
        kept = _folded(self._journal.records())
        found = {r.key: kept[r.key] for r in requests if r.key in kept}
        overdue = _text(self._now() - MARK)
        marks = [
            {"key": key, "used": _text(self._now())}
            for key, record in found.items()
            if record.get("used", "") < overdue
        ]
        if marks:
            with self._journal.locked():
                self._journal.append(marks)
        return {r.key: _stored(r, found[r.key]) for r in requests if r.key in found}

    def keep(self, requests: Mapping[str, Request], answers: Mapping[str, Answer]) -> None:
        """Make the answers that were paid for durable, before anything else happens to them."""
        with self._journal.locked() as records:
            known = _folded(records)
            fresh = [
                {
                    "key": key,
                    "problem": answer.problem,
                    "content": answer.content.model_dump(mode="json") if answer.content else None,
                    "task": requests[key].task.name,
                    "used": _text(self._now()),
                }
                for key, answer in answers.items()
                if answer.paid and key not in known
            ]
            if fresh:
                self._journal.append(fresh)

    def idle(self, before: datetime) -> dict[str, Idle]:
        """Key -> answers that were last used before that moment."""
        records = self._journal.records()
        sizes: dict[str, int] = {}
        for record in records:
            sizes[record["key"]] = sizes.get(record["key"], 0) + len(line(record))
        return {
            key: Idle(record.get("task", ""), sizes[key])
            for key, record in _folded(records).items()
            if record.get("used", "") < _text(before)
        }

    def drop(self, keys: Collection[str], before: datetime) -> None:
        """Forget those of the answers that still nobody used since `before`."""
        with self._journal.locked() as records:
            gone = set(keys) & set(self.idle(before))
            if gone:
                self._journal.rewrite([r for r in records if r["key"] not in gone])


def _folded(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key -> the answer, with when it was last used."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if "problem" in record or record["key"] in found:
            found[record["key"]] = {**found.get(record["key"], {}), **record}
    return found


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _stored(request: Request, record: Mapping[str, Any]) -> Answer:
    if record["problem"]:
        return no_answer(record["problem"])
    return Answer(request.task.answer.model_validate(record["content"]))
