"""An audit finds what a contract forbids, and never passes on nothing."""

import gc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core import quality
from recsys_assets.core.quality import CheckBrokenError, Verdict, audit
from recsys_assets.core.tables import Column, ContractError, Table

TABLE = Table(
    "things",
    (
        Column("id", "string", "Id"),
        Column("x", "float32", "A number", nullable=True, minimum=0, maximum=10),
        Column("kind", "string", "A word", values=("a", "b")),
        Column("extra_*", "float32", "Any number", nullable=True),
    ),
    key=("id",),
)
VECTORS = Table(
    "vectors",
    (Column("id", "string", "Id"), Column("v", "vector", "Vector", length=2, unit_norm=True)),
    key=("id",),
)
PAIRS = Table("pairs", (Column("a", "string", "A"), Column("b", "string", "B")), key=("a", "b"))


def things(**changes: list[object]) -> pd.DataFrame:
    columns = {"id": ["1", "2"], "x": [1.0, 2.0], "kind": ["a", "b"]}
    return pd.DataFrame(columns | changes)


def reasons(table: Table, data: pd.DataFrame | pa.Table) -> list[str]:
    return audit(table, [("", table.conform(data))]).reasons


def test_good_rows_pass() -> None:
    assert audit(TABLE, [("", TABLE.conform(things()))]).passed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x": [1.0, np.inf]}, "x: is NaN or infinite (1 rows)"),
        ({"x": [-1.0, 2.0]}, "x: has minimum -1, declared at least 0"),
        ({"x": [1.0, 11.0]}, "x: has maximum 11, declared at most 10"),
        ({"id": ["1", "1"]}, "id: is not unique (2 rows)"),
        ({"id": ["1", None]}, "id: is null (1 rows)"),
        ({"kind": ["a", "c"]}, "kind: holds values outside its declared set (1 rows)"),
        ({"extra_1": [1.0, np.inf]}, "extra_1: is NaN or infinite (1 rows)"),
    ],
)
def test_each_broken_rule_is_named_with_its_column_and_count(
    changes: dict[str, list[object]], reason: str
) -> None:
    assert reason in reasons(TABLE, things(**changes))


def test_an_empty_table_fails_unless_it_may_be_empty() -> None:
    empty = TABLE.conform(things().head(0))
    assert audit(TABLE, [("", empty)]).reasons == ["has 0 rows, at least 1 expected"]
    assert audit(TABLE, []).reasons == ["has 0 rows, at least 1 expected"]


def test_an_audit_that_evaluated_no_rule_fails() -> None:
    assert not Verdict(rows=5).passed
    assert Verdict(rows=5).reasons == ["no rule was evaluated"]


def test_a_nan_in_a_required_float_is_found() -> None:
    table = Table("t", (Column("x", "float32", "X"),), key=("x",))
    found = reasons(table, pd.DataFrame({"x": [1.0, np.nan]}))
    assert "x: is NaN or infinite (1 rows)" in found


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([[1.0, 0.0], [np.nan, 1.0]], "v: holds NaN, infinite or null values (1 rows)"),
        ([[1.0, 0.0], [0.0, 0.0]], "v: is not of unit length (1 rows)"),
        ([[1.0, 0.0], [1.0]], "v: length is not 2 (1 rows)"),
        ([[1.0, 0.0], None], "v: is null (1 rows)"),
    ],
)
def test_bad_vectors_are_found(vectors: list[list[float] | None], reason: str) -> None:
    assert reason in reasons(VECTORS, pd.DataFrame({"id": ["1", "2"], "v": vectors}))


def test_a_repeated_compound_key_is_found_and_a_repeated_half_is_fine() -> None:
    fine = pd.DataFrame({"a": ["1", "1"], "b": ["1", "2"]})
    assert audit(PAIRS, [("", PAIRS.conform(fine))]).passed
    twice = pd.DataFrame({"a": ["1", "1"], "b": ["2", "2"]})
    assert reasons(PAIRS, twice) == ["key ['a', 'b'] is not unique (1 rows)"]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "1", "2", None]))), st.booleans()
)
def test_repeated_keys_are_counted_in_any_order(
    keys: list[tuple[str, str | None]], ordered: bool
) -> None:
    if ordered:
        keys = sorted(keys, key=lambda key: (key[0], key[1] or ""))
    data = pa.table(
        {
            "a": pa.array([a for a, _ in keys], "string"),
            "b": pa.array([b for _, b in keys], "string"),
        }
    )
    found = sum(failure.rows for failure in quality._repeated_keys(PAIRS, data, ""))
    assert found == len(keys) - len(set(keys))


def test_failures_name_the_part_they_are_in() -> None:
    good, bad = TABLE.conform(things()), TABLE.conform(things(kind=["a", "z"]))
    found = audit(TABLE, [("monday", good), ("tuesday", bad)]).reasons
    assert found == ["kind: holds values outside its declared set (1 rows) in part tuesday"]


def test_an_expectation_that_raises_is_a_broken_check_not_bad_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import great_expectations.expectations as gxe

    missing = gxe.ExpectColumnValuesToNotBeNull(column="no_such_column")
    monkeypatch.setattr(quality, "_unique", lambda column: missing)
    with pytest.raises(CheckBrokenError, match="no_such_column"):
        audit(TABLE, [("", TABLE.conform(things()))])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (things().drop(columns="x"), r"missing \['x'\]"),
        (things().assign(y=1), r"undeclared \['y'\]"),
        (things(x=["one", "two"]), r"things\.x: cannot be read as float32"),
    ],
)
def test_a_frame_of_another_shape_is_refused_before_it_is_stored(
    frame: pd.DataFrame, message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        TABLE.conform(frame)


def test_unknown_numbers_are_null_in_a_nullable_column_whatever_they_come_in() -> None:
    for data in (
        things(x=[1.0, np.nan]),
        pa.Table.from_pandas(things()).set_column(1, "x", pa.array([1.0, float("nan")])),
    ):
        assert TABLE.conform(data)["x"].null_count == 1


def test_nothing_audited_stays_in_memory() -> None:
    rows = 1_237
    names = [str(n) for n in range(rows)]
    data = TABLE.conform(pd.DataFrame({"id": names, "x": 1.0, "kind": "a"}))
    assert audit(TABLE, [("", data)]).passed
    gc.collect()
    kept = [o for o in gc.get_objects() if isinstance(o, pd.DataFrame) and len(o) == rows]
    assert len(kept) == 0
