"""What the Dagster UI shows about a table: columns, lineage, numbers and pictures.

Belongs here: translating contracts, SQL and reports into Dagster metadata. Does not belong here:
computing what is shown. Never a row of a table: previews would put people's data in the event log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from recsys_assets.core.tables import Column, Table


def column_schema(table: Table, names: list[str] | None = None) -> dg.TableSchema:
    """The declared columns (of a stored version with column `names`) with meaning and rules."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=c.name,
                type=c.type if c.length is None else f"{c.type}[{c.length}]",
                description=c.meaning,
                constraints=dg.TableColumnConstraints(
                    nullable=c.nullable, unique=table.key == (c.name,), other=_rules(c)
                ),
            )
            for c in (table.columns if names is None else table.resolve(names))
        ]
    )


def _rules(column: Column) -> list[str]:
    rules = []
    if column.minimum is not None:
        rules.append(f">= {column.minimum:g}")
    if column.maximum is not None:
        rules.append(f"<= {column.maximum:g}")
    if column.values is not None:
        rules.append("one of " + ", ".join(column.values))
    if column.unit_norm:
        rules.append("unit length")
    return rules


def lineage_entry(lineage: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, Any]:
    """Metadata of a column lineage as `sql_lineage` gives it; {} when there is none."""
    deps = {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(t), column_name=c) for t, c in sources]
        for column, sources in lineage.items()
        if sources
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}


def sql_lineage(
    sql: str, columns_of: Mapping[str, Sequence[str]]
) -> dict[str, list[tuple[str, str]]]:
    """Output column -> the (table, column) pairs it is made from, derived from the SQL itself.

    `columns_of` gives the columns of the tables that are assets; sources in other relations are
    left out. The as-of macros are read as the table behind them.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.lineage import lineage as trace
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    tree = sqlglot.parse_one(sql, dialect="duckdb")
    for table in tree.find_all(exp.Table):
        call = table.this
        if isinstance(call, exp.Anonymous) and str(call.this).startswith("interactions_"):
            table.set("this", exp.to_identifier("interactions"))
    schema = {table: dict.fromkeys(columns, "VARCHAR") for table, columns in columns_of.items()}
    tree = qualify(tree, schema=schema, dialect="duckdb", validate_qualify_columns=False)
    scope = build_scope(tree)
    found: dict[str, list[tuple[str, str]]] = {}
    nodes = trace(None, tree, schema, scope=scope, dialect="duckdb", copy=False, trim_selects=False)
    for column, node in nodes.items():
        sources = {
            (leaf.expression.name, leaf.name.split(".")[-1].strip('"'))
            for leaf in node.walk()
            if not leaf.downstream and isinstance(leaf.expression, exp.Table)
        }
        found[column] = sorted(s for s in sources if s[1] in columns_of.get(s[0], ()))
    return found


def report_entries(report: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a report: numbers as floats (plotted over runs), texts and pictures."""
    entries: dict[str, Any] = {}
    for name, number in report.get("numbers", {}).items():
        is_count = isinstance(number, int)
        entries[name] = dg.MetadataValue.int(number) if is_count else dg.MetadataValue.float(number)
    for name, text in report.get("texts", {}).items():
        entries[name] = dg.MetadataValue.md(text)
    for name, png in report.get("plots", {}).items():
        entries[name] = dg.MetadataValue.md(f"![{name}](data:image/png;base64,{png})")
    return entries
