"""Which rows of interactions are not used, and the gates that keep the sum of rows."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.lake import Lake, Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ingestion.tables import LANDED_ROWS, RAW_INTERACTIONS
from recsys_assets.staging import assets
from tests.stored import stored

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
    return good.select(RAW_INTERACTIONS.names)


def refused(rows: pa.Table) -> pa.Table:
    return Warehouse().query(
        "staging/quarantine",
        {"landed_rows": rows, "raw_interactions": accepted(rows), "items": CATALOGUE},
    )


def used(rows: pa.Table, time_zone: str = "UTC") -> pa.Table:
    return Warehouse().query(
        "staging/interactions",
        {"raw_interactions": accepted(rows), "quarantine": refused(rows), "event_types": TYPES},
        {"time_zone": time_zone},
    )


def places(table: pa.Table) -> list[tuple[str, str]]:
    return [(r["file"], r["reject_reason"].split(":")[0]) for r in table.to_pylist()]


def test_an_event_has_the_meaning_of_its_type_its_own_weight_and_its_local_day() -> None:
    clock = {"event_time": datetime(2023, 10, 29, 22, 30, tzinfo=UTC)}  # summer time is over
    eve = {"event_id": "e0", "event_time": datetime(2023, 10, 28, 22, 30, tzinfo=UTC)}
    found = used(landed(clock, eve | {"row": 3, "weight": 0.25}), "Europe/Berlin")
    assert found["local_date"].to_pylist() == [date(2023, 10, 29)] * 2
    assert found["weight"].to_pylist() == [0.25, 1]
    assert found["polarity"].to_pylist() == [1, 1]
    assert found["counts_as_taken"].to_pylist() == [True, True]


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


DELIVERED = landed(
    {},
    {"row": 3, "event_id": "e2"},
    {"row": 4, "event_id": "e2"},
    {"row": 5, "event_id": "e3", "item_id": "gone"},
    {"row": 6, "event_id": "e3", "item_id": "gone"},
    {"row": 7, "event_id": None, "reject_field": "user_id", "reject_reason": "missing id"},
    {"row": 8, "event_id": None, "reject_field": "user_id", "reject_reason": "erased"},
)
"""Two events, one of them twice; three rows to refuse, two of them of one event; one erased."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def rules(failures: Iterable[Failure]) -> list[tuple[str, int]]:
    return [(f.rule, f.rows) for f in failures]


def test_an_event_that_is_lost_or_refused_is_missed_among_the_used(
    lake: Lake,
) -> None:
    raw, out, good = accepted(DELIVERED), refused(DELIVERED), used(DELIVERED)
    assert good["event_id"].to_pylist() == ["e1", "e2"]

    def failures(candidate: pa.Table, raw: pa.Table = raw) -> list[tuple[str, int]]:
        made = (stored(lake, "interactions", candidate), stored(lake, "landed_rows", DELIVERED))
        return rules(
            assets._rows_add_up(
                *made, stored(lake, "raw_interactions", raw), stored(lake, "quarantine", out)
            )
        )

    assert failures(good) == []
    assert failures(good.slice(1)) == [("accepted events are left out", 1)]
    with_refused = pa.concat_tables([good, good.slice(1).set_column(0, "event_id", [["e3"]])])
    assert failures(with_refused) == [("events are refused ones, or in no raw table", 1)]
    twice = pa.concat_tables([raw, raw.slice(0, 1)])
    assert failures(good, twice) == [
        ("1 more rows are raw than landed: materialize their days again", 0)
    ]


def test_a_refused_row_that_is_not_in_quarantine_is_missed(
    lake: Lake,
) -> None:
    source, out = stored(lake, "landed_rows", DELIVERED), refused(DELIVERED)
    gate = assets._quarantine_holds_every_reject
    assert rules(gate(stored(lake, "quarantine", out), source)) == []
    assert rules(gate(stored(lake, "quarantine", out.slice(0, 0)), source)) == [
        ("rows that were refused at parsing are left out", 1)
    ]
    others = out.filter(pa.compute.not_equal(out["row"], 7))
    assert others["row"].to_pylist() == [5, 6], "more rows than were refused at parsing"
    assert rules(gate(stored(lake, "quarantine", others), source)) == [
        ("rows that were refused at parsing are left out", 1)
    ]


def test_rows_of_days_that_were_not_made_yet_are_told(
    lake: Lake,
) -> None:
    made = stored(lake, "raw_interactions", accepted(DELIVERED).slice(3))
    assert assets._waiting(stored(lake, "landed_rows", DELIVERED), made) == 3


def test_a_log_in_which_nothing_counts_as_taken_is_refused_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    def log(**types: object) -> Snapshot:
        rows = used(landed({}, {"event_id": "e2", "row": 3})).to_pandas().assign(**types)
        return stored(Lake(tmp_path / str(types)), "interactions", rows)

    assert list(assets._something_was_taken(log())) == []
    for types in ({"counts_as_taken": False}, {"polarity": -1}):
        (failure,) = assets._something_was_taken(log(**types))
        assert "there are only: purchase" in str(failure)
        assert "event_types: {<name>: {counts_as_taken: true}}" in str(failure)
