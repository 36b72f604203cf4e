"""A fake service, a client that talks to it through the real SDK, and clocks nobody waits for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from recsys_assets.core.settings.language_model import LanguageModelSettings
from recsys_assets.language_model.answer import Answer
from recsys_assets.language_model.client import Clock, LanguageModel
from recsys_assets.language_model.request import ItemText, Task
from recsys_assets.language_model.service import Service
from tests.language_model.server import FakeAnthropic

KEY = "sk-ant-canary-7f3a9c"


class Tags(BaseModel, extra="forbid", strict=True):
    tags: list[str]
    kind: str


TASK = Task("tagging", "1", "Name tags of the item.", ItemText, Tags, max_tokens=100)


def ask(model: LanguageModel, item: ItemText) -> Answer:
    """The answer to one question, sent now."""
    return model.send(model.request(TASK, item))


@dataclass
class FakeTime:
    """Seconds pass only when somebody sleeps."""

    seconds: float = 0.0
    start: datetime = datetime(2026, 11, 1, tzinfo=UTC)

    def clock(self) -> Clock:
        return Clock(self.now, lambda: self.seconds, self.sleep)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds


@pytest.fixture
def fake() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        yield server


@pytest.fixture
def time() -> FakeTime:
    return FakeTime(start=datetime.now(UTC))


@pytest.fixture
def model(fake: FakeAnthropic, tmp_path: Path, time: FakeTime) -> Callable[..., LanguageModel]:
    """Makes clients on one home: `model(run="r1", attempts=1, …)`, settings as keywords."""

    def make(run: str = "run", **settings: Any) -> LanguageModel:
        clock = time.clock()
        service = Service(KEY, clock.monotonic, fake.url)
        return LanguageModel(
            service, LanguageModelSettings(**settings), tmp_path, run, "tagging", clock=clock
        )

    return make
