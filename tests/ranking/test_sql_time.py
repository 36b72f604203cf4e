"""No SQL file may reach events by another way than the two as-of doors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from recsys_assets.core.warehouse import sql_root

EVENTS = "interactions"
DOORS = {"interactions_as_of", "interactions_in_horizon"}
LABELS = "ranking/labels.sql"


def faults(sql: str, name: str) -> list[str]:
    """What is wrong with how a file of `sql/` reads events. Empty when nothing is."""
    found = []
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    for table in tree.find_all(exp.Table):
        if table.name.lower() == EVENTS:
            found.append(f"reads {EVENTS} directly")
    for call in tree.find_all(exp.Func):
        door = call.name.lower() if isinstance(call, exp.Anonymous) else call.sql_name().lower()
        if door not in DOORS:
            if door.startswith("read_"):
                found.append(f"reads a file by {door}")
            continue
        if door == "interactions_in_horizon" and name != LABELS:
            found.append("looks into the horizon")
        first = call.expressions[0]
        if not (isinstance(first, exp.Placeholder) and first.name == "as_of"):
            found.append(f"{door} is not called with $as_of")
    return found


def stages_after_staging() -> Iterator[Path]:
    for path in sorted(sql_root().rglob("*.sql")):
        if path.parent.name not in ("ingestion", "staging"):
            yield path


@pytest.mark.parametrize(
    "path", list(stages_after_staging()), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_events_are_read_through_the_as_of_doors_only(path: Path):
    name = path.relative_to(sql_root()).as_posix()
    assert faults(path.read_text(encoding="utf-8"), name) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM interactions",
        "WITH x AS (SELECT * FROM Interactions i) SELECT * FROM x",
        "SELECT (SELECT count(*) FROM interactions) AS n FROM items",
        "SELECT * FROM items JOIN interactions USING (item_id)",
        "SELECT * FROM interactions_as_of(now())",
        "SELECT * FROM interactions_as_of($horizon_end)",
        "SELECT * FROM interactions_in_horizon($as_of, $horizon_end)",
        "SELECT * FROM read_parquet('interactions.parquet')",
    ],
)
def test_every_other_way_to_events_is_found(sql: str):
    assert faults(sql, "ranking/planted.sql")


def test_the_doors_themselves_pass():
    assert faults("SELECT * FROM interactions_as_of($as_of)", "ranking/planted.sql") == []
    horizon = "SELECT * FROM interactions_in_horizon($as_of, $horizon_end)"
    assert faults(horizon, LABELS) == []
