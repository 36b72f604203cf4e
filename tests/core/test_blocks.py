"""Reading some users of a stored table gives what filtering all of it gives."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_assets.core.blocks import rows_of, tables_of, user_blocks
from recsys_assets.core.lake import Lake
from tests.stored import stored

GROUP = 1 << 18
"""Rows of a row group of the lake."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def by_user(counts: dict[str, int]) -> pa.Table:
    users = np.repeat(np.array(list(counts), dtype=object), list(counts.values()))
    return pa.table({"user_id": pa.array(users, pa.string()), "x": np.arange(len(users))})


def test_users_come_in_order_as_many_as_fit(lake: Lake) -> None:
    table = stored(
        lake, "t", {"a": by_user({"u1": 3, "u2": 2, "u3": 9, "u4": 1}), "b": by_user({})}
    )
    assert list(user_blocks(table, "a", 5)) == [["u1", "u2"], ["u3"], ["u4"]]
    assert list(user_blocks(table, "a", 1)) == [["u1"], ["u2"], ["u3"], ["u4"]]
    assert list(user_blocks(table, "a", 15)) == [["u1", "u2", "u3", "u4"]]
    assert list(user_blocks(table, "b", 5)) == [[]]
    assert rows_of(table, "b", []).schema == rows_of(table, "a", []).schema


def test_a_user_may_lie_in_two_row_groups(lake: Lake) -> None:
    whole = by_user({"u1": GROUP - 2, "u2": 5, "u3": GROUP, "u4": 4})
    table = stored(lake, "t", {"a": whole})
    for users in (["u2"], ["u4", "u1"], ["u3", "nobody"], ["nobody"]):
        some = whole.filter(pc.is_in(whole["user_id"], value_set=pa.array(users)))
        assert rows_of(table, "a", users).equals(some)
    blocks = list(user_blocks(table, "a", GROUP))
    assert blocks == [["u1"], ["u2"], ["u3"], ["u4"]]
    assert pa.concat_tables([rows_of(table, "a", b) for b in blocks]).equals(whole)


def test_groups_without_any_of_the_users_are_not_read(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = stored(lake, "t", {"a": by_user({"u1": GROUP, "u2": GROUP, "u3": 2})})
    read = []
    import pyarrow.parquet as pq

    plain = pq.ParquetFile.read_row_group

    def noted(self: pq.ParquetFile, group: int) -> pa.Table:
        read.append(group)
        return plain(self, group)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert rows_of(table, "a", ["u2"]).num_rows == GROUP
    assert read == [1]


def test_what_is_not_by_user_comes_whole(lake: Lake) -> None:
    items = stored(lake, "i", {"a": pa.table({"item_id": ["i1", "i2"]})})
    users = stored(lake, "u", {"a": by_user({"u1": 2, "u2": 1})})
    found = tables_of({"i": items, "u": users}, "a", ["u2"])
    assert found["i"].num_rows == 2
    assert found["u"].to_pydict() == {"user_id": ["u2"], "x": [2]}
