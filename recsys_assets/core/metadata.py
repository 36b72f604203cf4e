"""What the Dagster UI shows about a table: columns, lineage, numbers and pictures.

Belongs here: translating contracts, SQL and reports into Dagster metadata. Does not belong here:
computing what is shown. Never a row of a table: previews would put people's data in the event log.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import dagster as dg

from recsys_assets.core.tables import Column, Table
from recsys_assets.core.warehouse import sql_text


def column_schema(table: Table) -> dg.TableSchema:
    """The declared columns with their meaning and rules."""
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
            for c in table.columns
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


def lineage(table: Table, sql: Sequence[str], columns: Mapping[str, str]) -> dict[str, Any]:
    """Column lineage of a table made by SQL, derived from the SQL itself; {} for other tables."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for name in sql:
        for column, sources in sql_lineage(sql_text(name)).items():
            if column in columns:
                deps.setdefault(column, [])
                deps[column] += [
                    dg.TableColumnDep(asset_key=dg.AssetKey(t), column_name=c) for t, c in sources
                ]
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}


@cache
def sql_lineage(sql: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Output column -> the (table, column) pairs it is made from.

    The as-of macros are read as the table behind them.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.optimizer.scope import build_scope
    from sqlglot.lineage import lineage as trace

    tree = sqlglot.parse_one(sql, dialect="duckdb")
    for call in list(tree.find_all(exp.Table)):
        inner = call.this
        if isinstance(inner, exp.Anonymous) and str(inner.this).startswith("interactions_"):
            alias = call.args.get("alias")
            call.replace(exp.Table(this=exp.to_identifier("interactions"), alias=alias))
    if build_scope(tree) is None:
        return {}
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for projection in tree.selects:
        column = projection.alias_or_name
        if column == "*":
            continue
        try:
            node = trace(column, tree, dialect="duckdb")
        except sqlglot.errors.SqlglotError:
            continue
        sources = {
            (leaf.expression.name, leaf.name.split(".")[-1].strip('"'))
            for leaf in node.walk()
            if not leaf.downstream and isinstance(leaf.expression, exp.Table)
        }
        found[column] = tuple(sorted(sources))
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
