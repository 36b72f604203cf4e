"""Runs one file of `sql/` on DuckDB.

Belongs here: finding a SQL file, binding its values, registering its inputs, and the one door to
events (`interactions_as_of`). Does not belong here: any SQL text that computes a table, and any
knowledge of a stage.

Conventions of a file `sql/<stage>/<table>.sql`: one SELECT, values as `$name` parameters, inputs by
table name, a final ORDER BY over the full key (without it DuckDB's output order, and so the bytes,
differ between runs).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa

Relation: TypeAlias = pd.DataFrame | pa.Table | list[Path]
"""What can stand behind a table name in SQL: a frame, an Arrow table, or Parquet files."""

_AS_OF_VIEWS = """
CREATE MACRO interactions_as_of(t) AS TABLE
    SELECT * FROM interactions WHERE event_time < t;
CREATE MACRO interactions_in_horizon(t, horizon_end) AS TABLE
    SELECT * FROM interactions WHERE event_time >= t AND event_time < horizon_end;
"""


@cache
def sql_root() -> Path:
    """The folder of SQL files: inside the installed wheel, or `sql/` of a checkout."""
    packaged = Path(__file__).parent.parent / "_sql"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / "sql"


def sql_text(name: str) -> str:
    """The text of `sql/<name>.sql`, for example `ranking/user_features`."""
    return (sql_root() / f"{name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Warehouse:
    """Settings of a DuckDB session; a session lives for one query and keeps nothing.

    `threads` is 1 because a sum of doubles depends on how rows fall to threads; callers run
    cutoffs side by side instead. `memory_limit` is DuckDB's own notation; beyond it DuckDB spills
    to `temp_directory`.
    """

    memory_limit: str = "2GB"
    threads: int = 1
    temp_directory: Path | None = None

    def query(
        self,
        name: str,
        tables: Mapping[str, Relation],
        params: Mapping[str, Any] | None = None,
    ) -> pa.Table:
        """Run `sql/<name>.sql` with `tables` registered by name and `params` bound.

        A relation called `interactions` is reachable through `interactions_as_of($as_of)` and, for
        labels only, `interactions_in_horizon($as_of, $horizon_end)`.
        """
        return self.run(sql_text(name), tables, params)

    def run(
        self,
        sql: str,
        tables: Mapping[str, Relation],
        params: Mapping[str, Any] | None = None,
    ) -> pa.Table:
        """Run one SELECT given as text. See `query`."""
        config: dict[str, Any] = {
            "memory_limit": self.memory_limit,
            "threads": self.threads,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if self.temp_directory is not None:
            config["temp_directory"] = str(self.temp_directory)
        with duckdb.connect(config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for table, relation in tables.items():
                if isinstance(relation, list):
                    paths = [str(p) for p in relation]
                    connection.read_parquet(paths).create_view(table)
                else:
                    connection.register(table, relation)
            if "interactions" in tables:
                connection.execute(_AS_OF_VIEWS)
            return connection.sql(sql, params=dict(params or {})).to_arrow_table()
