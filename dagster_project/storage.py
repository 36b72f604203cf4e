"""Dagster's storage in SQLite, with the databases of events kept open.

Dagster opens and closes databases several times for every event. SQLite, alone with one each time,
copies its journal into it and waits for the disk, and SQLAlchemy compiles every statement anew: a
fifth of a run that finds nothing to do.

Belongs here: how connections are kept. Does not belong here: what is stored, which is Dagster's.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event

KEPT = 3
"""Databases held open by a process: that of all runs and those of the runs looked at last."""


class EventLog(SqliteEventLogStorage):
    """The events of runs, a database each, and of assets, one for all.

    A commit waits for the operating system, not for the disk (`synchronous = NORMAL`): what a
    machine did in the second before it lost power may be missing, nothing is torn.
    """

    def __init__(self, base_dir: str) -> None:
        self._open: OrderedDict[str, Engine] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        super().__init__(base_dir)

    def run_connection(self, run_id: str | None = None) -> Any:
        return self._kept(run_id)

    def index_connection(self) -> Any:
        return self._kept(INDEX_SHARD_NAME)

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(event)
        # Whoever follows the run waits for its database to change, which now changes rarely.
        os.utime(self.path_for_shard(event.run_id))

    def dispose(self) -> None:
        super().dispose()
        with self._one_at_a_time:
            while self._open:
                self._open.popitem()[1].dispose()

    @contextmanager
    def _kept(self, shard: Any) -> Iterator[Connection]:
        with self._one_at_a_time, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> Engine:
        if shard not in self._open:
            with super().run_connection(shard):
                pass  # Dagster makes what tables it lacks
            self._open[shard] = create_engine(
                self.conn_string_for_shard(shard),
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            event.listen(self._open[shard], "connect", _do_not_wait_for_the_disk)
        self._open.move_to_end(shard)
        if len(self._open) > KEPT:
            oldest = next(s for s in self._open if s != INDEX_SHARD_NAME)
            self._open.pop(oldest).dispose()
        return self._open[shard]


def _do_not_wait_for_the_disk(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


class Storage(DagsterSqliteStorage):
    """`storage: custom:` of `dagster.yaml`: Dagster's own, but for the event log."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = EventLog(str(Path(base_dir, "history", "runs")))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)
