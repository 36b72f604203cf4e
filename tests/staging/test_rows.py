"""Which rows of interactions are not used, and the gates that keep the sum of rows."""

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ingestion.tables import LANDED_ROWS, RAW_INTERACTIONS

EVENT = {
    "batch": "b", "file": "a.csv", "row": 2, "event_id": "e1", "user_id": "u", "item_id": "i",
    "event_type": "purchase", "event_time": datetime(2024, 1, 2, tzinfo=UTC), "quantity": 1.0,
}  # fmt: skip
CATALOGUE = pa.table({"item_id": ["i"]})
TYPES = pd.DataFrame(
    {"event_type": ["purchase"], "weight": [1.0], "polarity": [1], "counts_as_taken": [True]}
)


def landed(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist([EVENT | r for r in rows], schema=LANDED_ROWS.arrow_schema())


def accepted(rows: pa.Table) -> pa.Table:
    good = rows.filter(pa.compute.is_null(rows["reject_reason"]))
    return good.select([c.name for c in RAW_INTERACTIONS.columns])


def refused(rows: pa.Table) -> pa.Table:
    return Warehouse().query(
        "staging/quarantine",
        {"landed_rows": rows, "raw_interactions": accepted(rows), "items": CATALOGUE},
    )


def used(rows: pa.Table) -> pa.Table:
    return Warehouse().query(
        "staging/interactions",
        {"raw_interactions": accepted(rows), "quarantine": refused(rows), "event_types": TYPES},
        {"time_zone": "UTC"},
    )


def places(table: pa.Table) -> list[tuple[str, str]]:
    return [(r["file"], r["reject_reason"].split(":")[0]) for r in table.to_pylist()]


@pytest.mark.parametrize(
    "field", ["value", "weight", "session_id", "store_id", "price", "discount", "context"]
)
def test_the_same_id_in_another_file_conflicts_whatever_field_differs(field: str) -> None:
    other = "x" if field in ("session_id", "store_id", "context") else 9.0
    rows = landed({}, {"file": "b.csv"}, {"file": "c.csv", field: other})
    assert places(refused(rows)) == [("c.csv", "conflicting event")]
    assert used(rows)["row"].to_pylist() == [2]


def test_the_same_event_in_another_currency_is_the_same_event() -> None:
    assert places(refused(landed({}, {"file": "b.csv", "currency": "EUR"}))) == []


def test_a_row_of_an_unknown_item_does_not_speak_for_its_event_id() -> None:
    rows = landed({"item_id": "gone"}, {"file": "b.csv", "row": 7})
    assert places(refused(rows)) == [("a.csv", "unknown item")]
    assert used(rows)["row"].to_pylist() == [7]
