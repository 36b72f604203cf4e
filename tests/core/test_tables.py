"""The order of a table's key."""

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys_assets.core.tables import Column, Table

PAIRS = Table(
    name="pairs",
    columns=(Column("a", "string", ""), Column("b", "int32", ""), Column("c", "int32", "")),
    key=("a", "b"),
)

ROWS = st.lists(st.tuples(st.sampled_from("xyzé"), st.integers(0, 3)), max_size=8)


def table(rows: list[tuple[str, int]]) -> pa.Table:
    names = {"a": [a for a, _ in rows], "b": [b for _, b in rows], "c": list(range(len(rows)))}
    return pa.table(names, schema=PAIRS.arrow_schema())


@given(ROWS)
def test_a_table_is_in_order_when_every_key_is_above_the_one_before(
    rows: list[tuple[str, int]],
) -> None:
    rising = all(a < b for a, b in pairwise(rows))
    assert PAIRS.in_order(table(rows)) == rising
    chunks = pa.concat_tables([table(rows[:3]), table(rows[3:])])
    assert PAIRS.in_order(chunks) == rising


@given(ROWS)
def test_ordering_sorts_and_leaves_what_is_sorted(rows: list[tuple[str, int]]) -> None:
    given_rows = table(rows)
    sorted_rows = PAIRS.ordered(given_rows)
    keys = list(zip(sorted_rows["a"].to_pylist(), sorted_rows["b"].to_pylist(), strict=True))
    assert keys == sorted(rows)
    assert sorted(sorted_rows["c"].to_pylist()) == list(range(len(rows)))
    if PAIRS.in_order(given_rows):
        assert sorted_rows is given_rows


def test_an_empty_table_has_the_columns_that_are_declared_by_name() -> None:
    scored = Table("scored", (*PAIRS.columns, Column("score_*", "float32", "")), key=("a",))
    assert scored.empty().schema == PAIRS.arrow_schema() and not scored.empty().num_rows
    assert scored.conform(scored.empty().to_pandas()).schema == PAIRS.arrow_schema()
