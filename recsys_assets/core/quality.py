"""Judges one frame against its declared contract, with Great Expectations.

Belongs here: contract -> expectation suite -> verdict, and the rules Great Expectations lacks
(finite numbers, vectors, emptiness). Does not belong here: rules that need another table (`rules=`
of `table_asset`), moving pointers (`lake.py`).

Great Expectations passes on nothing: on an empty frame, on zero expectations, on NaN within
`between`. So a verdict counts what it evaluated, and an audit that evaluated nothing fails.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.tables import Column, ContractError, Table


class CheckBrokenError(RuntimeError):
    """A rule could not be evaluated. This says nothing about the data."""


@dataclass(frozen=True)
class Failure:
    """One violated rule: `rule` in words, `column` ('' for the table), how many rows break it."""

    rule: str
    column: str = ""
    rows: int = 0
    part: str = ""

    def __str__(self) -> str:
        where = f"{self.column}: " if self.column else ""
        rows = f" ({self.rows:,} rows)" if self.rows else ""
        part = f" in part {self.part}" if self.part else ""
        return f"{where}{self.rule}{rows}{part}"


@dataclass
class Verdict:
    """What an audit found. `passed` needs at least one evaluated rule."""

    rows: int = 0
    rules: int = 0
    failures: list[Failure] = field(default_factory=list)
    note: str = "every rule holds"

    @property
    def passed(self) -> bool:
        return self.rules > 0 and not self.failures

    @property
    def reasons(self) -> list[str]:
        """The failures in words; never a row's content."""
        if self.rules == 0:
            return ["no rule was evaluated"]
        return [str(f) for f in self.failures]

    def add(self, failures: Iterable[Failure], rules: int = 1) -> None:
        """Count `rules` evaluated rules and their failures."""
        self.rules += rules
        self.failures += failures


def audit(table: Table, parts: Iterable[tuple[str, pa.Table]], *, known_rows: int = 0) -> Verdict:
    """Judge a version part by part (memory holds one part) against the contract of `table`.

    `known_rows`: rows of further parts that passed before, under the same rules.
    """
    verdict = Verdict(rows=known_rows)
    seen_columns: list[str] | None = None
    for part, data in parts:
        verdict.rows += data.num_rows
        if seen_columns is not None and data.column_names != seen_columns:
            verdict.add([Failure("columns differ between parts", part=part)])
        seen_columns = data.column_names
        try:
            columns = table.resolve(data.column_names)
        except ContractError as error:
            verdict.add([Failure(str(error), part=part)])
            continue
        if data.num_rows:
            _audit_part(table, columns, part, data, verdict)
    verdict.add(
        []
        if verdict.rows >= table.min_rows
        else [Failure(f"has {verdict.rows} rows, at least {table.min_rows} expected")]
    )
    return verdict


def _audit_part(
    table: Table, columns: Sequence[Column], part: str, data: pa.Table, verdict: Verdict
) -> None:
    for column in columns:
        if column.type in ("float32", "float64"):
            verdict.add(_not_finite(column, data[column.name], part))
        elif column.type == "vector":
            failures, rules = _vector_failures(column, data[column.name], part)
            verdict.add(failures, rules)
    expectations = [e for c in columns if c.type != "vector" for e in _expectations(c, data)]
    if len(table.key) == 1:
        expectations.append(_unique(table.key[0]))
    else:
        verdict.add(_repeated_keys(table, data, part))
    if not expectations:
        return
    frame = _frame_for(expectations, data)
    result = _validate(table.name, frame, expectations)
    for outcome in result:
        if _raised(outcome):
            raise CheckBrokenError(
                f"{table.name}: {outcome.expectation_config.type} on "
                f"{outcome.expectation_config.kwargs.get('column', 'the table')} could not be "
                f"evaluated: {_raised(outcome)}"
            )
        verdict.add([] if outcome.success else [_failure(outcome, part)])


def _frame_for(expectations: list[Any], data: pa.Table) -> pd.DataFrame:
    """Only the columns that are looked at, texts as categories: half the time of the audit."""
    names = sorted({e.column for e in expectations} & set(data.column_names))
    arrays = [
        data[n].dictionary_encode() if pa.types.is_string(data[n].type) else data[n] for n in names
    ]
    return pa.table(arrays, names=names).to_pandas()


def _expectations(column: Column, data: pa.Table) -> list[Any]:
    import great_expectations.expectations as gxe  # 5 s to import: only a gate pays for it

    expectations: list[Any] = []
    name = column.name
    known = data[name].null_count < data.num_rows
    if not column.nullable:
        expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=name))
    if column.minimum is not None and known:
        expectations.append(gxe.ExpectColumnMinToBeBetween(column=name, min_value=column.minimum))
    if column.maximum is not None and known:
        expectations.append(gxe.ExpectColumnMaxToBeBetween(column=name, max_value=column.maximum))
    if column.values is not None:
        expectations.append(
            gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(column.values))
        )
    return expectations


def _unique(column: str) -> Any:
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToBeUnique(column=column)


def _repeated_keys(table: Table, data: pa.Table, part: str) -> list[Failure]:
    """Compound keys by Arrow's hash aggregation: some ten times faster than the expectation, and
    another ten times are saved where the rows are in the order of their key, as most tables are."""
    if table.in_order(data):
        return []
    groups = data.select(list(table.key)).group_by(list(table.key))
    extra = data.num_rows - groups.aggregate([]).num_rows
    return [Failure(f"key {list(table.key)} is not unique", "", extra, part)] if extra else []


def _validate(name: str, frame: pd.DataFrame, expectations: list[Any]) -> list[Any]:
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas(name)
        .add_dataframe_asset(name)
        .add_batch_definition_whole_dataframe(name)
        .get_batch({"dataframe": frame})
    )
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    outcome = batch.validate(suite, result_format="BASIC")
    context.data_sources.delete(name)  # else the library keeps the frame until it is asked again
    results = list(outcome.results)
    if len(results) != len(expectations):
        raise CheckBrokenError(
            f"{name}: {len(expectations)} expectations were given, {len(results)} evaluated"
        )
    return results


def _raised(outcome: Any) -> str:
    """The message of an expectation that raised, or ''. GX nests it by metric id."""
    info = outcome.exception_info or {}
    nested = [info, *(v for v in info.values() if isinstance(v, dict))]
    for entry in nested:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message", "unknown error"))
    return ""


def _failure(outcome: Any, part: str) -> Failure:
    config = outcome.expectation_config
    kwargs = config.kwargs
    rows = int(outcome.result.get("unexpected_count", 0) or 0)
    observed = outcome.result.get("observed_value")
    match config.type:
        case "expect_column_values_to_not_be_null":
            rule = "is null"
        case "expect_column_values_to_be_unique":
            rule = "is not unique"
        case "expect_column_values_to_be_in_set":
            rule = "holds values outside its declared set"
        case "expect_column_min_to_be_between":
            rule = f"has minimum {observed:g}, declared at least {kwargs['min_value']:g}"
        case "expect_column_max_to_be_between":
            rule = f"has maximum {observed:g}, declared at most {kwargs['max_value']:g}"
        case other:
            rule = other
    return Failure(rule, kwargs.get("column", ""), rows, part)


def _not_finite(column: Column, stored: pa.ChunkedArray, part: str) -> list[Failure]:
    finite = pc.sum(pc.is_finite(stored)).as_py() or 0
    bad = len(stored) - stored.null_count - finite
    return [Failure("is NaN or infinite", column.name, bad, part)] if bad else []


def _vector_failures(
    column: Column, stored: pa.ChunkedArray, part: str
) -> tuple[list[Failure], int]:
    failures: list[Failure] = []
    if stored.null_count and not column.nullable:
        failures.append(Failure("is null", column.name, stored.null_count, part))
    array = stored.drop_null().combine_chunks()
    lengths = np.asarray(array.value_lengths())
    if column.length is not None and (lengths != column.length).any():
        wrong = int((lengths != column.length).sum())
        failures.append(Failure(f"length is not {column.length}", column.name, wrong, part))
    if len(set(lengths.tolist())) > 1:
        failures.append(Failure("vectors differ in length", column.name, len(array), part))
        return failures, 4
    flat = array.flatten().to_numpy(zero_copy_only=False)
    if not len(flat):
        return failures, 4
    matrix = flat.reshape(len(array), -1)
    bad = int((~np.isfinite(matrix)).any(axis=1).sum())
    if bad or array.flatten().null_count:
        failures.append(Failure("holds NaN, infinite or null values", column.name, bad, part))
    elif column.unit_norm:
        off = np.abs(np.linalg.norm(matrix, axis=1) - 1.0) > 1e-3
        if off.any():
            failures.append(Failure("is not of unit length", column.name, int(off.sum()), part))
    return failures, 4
