"""The declared contract of one table: its columns, their meaning, and the rules they obey.

Belongs here: `Column`, `Table`, and turning a frame into exactly the declared Arrow schema.
Does not belong here: validating values (`quality.py`), storing them (`lake.py`), or the contracts
themselves (each stage's `tables.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

ColumnType = Literal[
    "string", "bool", "int8", "int16", "int32", "int64", "float32", "float64", "timestamp", "date",
    "vector",
]  # fmt: skip

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "vector": pa.list_(pa.float32()),
}


class ContractError(ValueError):
    """A frame does not have the shape its table declares; the message names table and column."""


@dataclass(frozen=True)
class Column:
    """One declared column.

    `name` may be a pattern such as `score_*`: every column that matches obeys the same rules.
    `minimum`, `maximum` are inclusive. `length` and `unit_norm` speak of vectors only.
    Floats are never NaN or infinite; a nullable column says "unknown" with null.
    """

    name: str
    type: ColumnType
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    length: int | None = None
    unit_norm: bool = False

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name


@dataclass(frozen=True)
class Table:
    """The contract of one table.

    `key` is unique and its columns never null. `min_rows=0` declares that emptiness is a valid
    state (optional inputs); every other table fails its gate when it is empty.
    `part_by` names the key column by which files are split (`as_of`, for tables of all cutoffs).
    `meanings` describes columns that only a pattern declares.
    `user_ids` names columns that hold ids of users beside any called `user_id`; with a second
    column and its value, only in rows that have it.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    min_rows: int = 1
    part_by: str | None = None
    meanings: Mapping[str, str] = field(default_factory=dict, hash=False)
    user_ids: tuple[tuple[str, str, str], ...] = ()
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {c.name: c for c in self.columns})
        missing = [k for k in self.key if k not in self._by_name]
        if missing:
            raise ContractError(f"{self.name}: key columns {missing} are not declared")

    @property
    def names(self) -> list[str]:
        """The columns that are declared by their name, in order."""
        return [c.name for c in self.columns if not c.is_pattern]

    def column(self, name: str) -> Column | None:
        """The declaration that governs column `name`, or None when none does."""
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        return next((c for c in self.columns if c.is_pattern and fnmatchcase(name, c.name)), None)

    def resolve(self, names: list[str]) -> list[Column]:
        """The declared columns with patterns replaced by the matching `names`, in table order.

        Raises ContractError when a declared column is absent or an undeclared one is present.
        """
        absent = [n for n in self.names if n not in names]
        unknown = [n for n in names if self.column(n) is None]
        if absent or unknown:
            raise ContractError(
                f"{self.name}: columns do not match the contract: missing {absent}, "
                f"undeclared {unknown}; found {sorted(names)}"
            )
        resolved: list[Column] = []
        for declared in self.columns:
            if not declared.is_pattern:
                resolved.append(declared)
                continue
            matching = [n for n in names if self.column(n) is declared]
            resolved += [
                replace(declared, name=n, meaning=self.meanings.get(n, declared.meaning))
                for n in matching
            ]
        return resolved

    def arrow_schema(self, names: list[str] | None = None) -> pa.Schema:
        """The Arrow schema, `names` being needed only where the contract has patterns."""
        columns = self.resolve(names) if names is not None else self.columns
        return pa.schema([pa.field(c.name, _ARROW[c.type]) for c in columns])

    def empty(self) -> pa.Table:
        """No rows, under the columns that are declared by their name."""
        return self.arrow_schema(self.names).empty_table()

    def in_order(self, data: pa.Table) -> bool:
        """Whether every key is greater than that of the row before, so that none is repeated."""
        rising = pa.scalar(False)
        level = pa.scalar(True)
        for name in self.key:
            values = data[name].combine_chunks()
            before, after = values[:-1], values[1:]
            rising = pc.or_(rising, pc.and_(level, pc.greater(after, before)))
            level = pc.and_(level, pc.equal(after, before))
        return data.num_rows < 2 or bool(pc.all(rising, skip_nulls=False).as_py())

    def ordered(self, data: pa.Table) -> pa.Table:
        """`data` in the order of its key; what is in order already, as most is, is not sorted."""
        if self.in_order(data):
            return data
        return data.sort_by([(name, "ascending") for name in self.key])

    def conform(self, data: pd.DataFrame | pa.Table) -> pa.Table:
        """`data` in the declared column order and types, or ContractError naming the column.

        NaN in a float column becomes null only when the column is nullable; otherwise it stays, for
        the gate to find. Nothing else is repaired.
        """
        if isinstance(data, pd.DataFrame):
            names = [str(c) for c in data.columns]
        else:
            names = data.column_names
        arrays: list[pa.ChunkedArray | pa.Array] = []
        columns = self.resolve(names)
        for column in columns:
            arrays.append(self._cast(data[column.name], column))
        schema = pa.schema([pa.field(c.name, _ARROW[c.type]) for c in columns])
        return pa.Table.from_arrays(arrays, schema=schema)

    def _cast(self, values: "pd.Series | pa.ChunkedArray", column: Column) -> pa.ChunkedArray:
        target = _ARROW[column.type]
        try:
            if isinstance(values, pd.Series):
                from_pandas = column.nullable or column.type not in ("float32", "float64")
                return pa.chunked_array(
                    [pa.Array.from_pandas(values, type=target)]
                    if from_pandas
                    else [pa.array(values.to_numpy(), type=target, from_pandas=False)]
                )
            found = values if values.type == target else values.cast(target)
            if column.nullable and pa.types.is_floating(target):
                found = pc.if_else(pc.is_nan(found), pa.scalar(None, target), found)
            return found
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise ContractError(
                f"{self.name}.{column.name}: cannot be read as {column.type}: {error}"
            ) from error
