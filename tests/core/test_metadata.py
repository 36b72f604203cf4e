"""Column lineage comes from the SQL itself, and metadata never carries a row."""

from recsys_assets.core.metadata import column_schema, sql_lineage
from recsys_assets.core.tables import Column, Table

SQL = """
WITH recent AS (
    SELECT user_id, item_id, event_time FROM interactions_as_of($as_of)
    WHERE event_time > $since
)
SELECT r.user_id, i.brand AS favourite, count(*) AS n, max(r.event_time) AS last
FROM recent AS r JOIN items AS i ON i.item_id = r.item_id
GROUP BY ALL
ORDER BY r.user_id
"""
COLUMNS = {
    "interactions": ["user_id", "item_id", "event_time"],
    "items": ["item_id", "brand"],
}


def test_a_column_leads_to_the_columns_it_is_made_from() -> None:
    found = sql_lineage(SQL, COLUMNS)
    assert found["user_id"] == [("interactions", "user_id")]
    assert found["favourite"] == [("items", "brand")]
    assert found["last"] == [("interactions", "event_time")]
    assert found["n"] == []


def test_sources_that_are_no_assets_are_left_out() -> None:
    found = sql_lineage("SELECT x.a, y.b FROM x JOIN y ON x.a = y.a", {"x": ["a"]})
    assert found == {"a": [("x", "a")], "b": []}


def test_the_schema_shows_meaning_and_rules() -> None:
    table = Table("t", (Column("x", "float32", "Share", minimum=0, maximum=1),), key=("x",))
    column = column_schema(table).columns[0]
    assert column.description == "Share"
    assert column.constraints.other == [">= 0", "<= 1"]
    assert column.constraints.unique
