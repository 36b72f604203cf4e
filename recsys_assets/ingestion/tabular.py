"""A source made of tables in files: the machinery that all adapters share.

Belongs here: finding and hashing files, choosing the reader, renaming columns to the contract,
explaining a missing column. Does not belong here: any particular layout; an adapter describes its
tables as `TableSpec`s and, where a rename is not enough, passes a vectorized `prepare`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.core.config import Shop
from recsys_assets.core.erasures import Erased
from recsys_assets.ingestion import columnar, delimited
from recsys_assets.ingestion.arrivals import Watched, watch
from recsys_assets.ingestion.contract import (
    ATTRIBUTE,
    LANDED,
    REJECTS,
    AnswerRules,
    ExposureRules,
    InteractionRules,
    ItemRules,
    PromotionRules,
    UserRules,
    land_answers,
    land_exposures,
    land_interactions,
    land_items,
    land_promotions,
    land_users,
    with_erased,
)
from recsys_assets.ingestion.delimited import Dialect, nearest
from recsys_assets.ingestion.parsing import Problems, identifiers, joined, texts
from recsys_assets.ingestion.raw import RawRows
from recsys_assets.ingestion.source import (
    Role,
    SourceError,
    SourceFile,
    describe_file,
    name_of,
    named,
    sha256_of,
)

Columns = Mapping[str, pa.Array]
RowRules = InteractionRules | ItemRules | UserRules | ExposureRules | PromotionRules | AnswerRules
Rules = TypeVar("Rules", bound=RowRules)

REQUIRED: Mapping[Role, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "event_time"),
    "items": ("item_id",),
    "users": ("user_id",),
    "exposures": ("request_id", "user_id", "item_id", "placement", "position", "shown_at"),
    "promotions": ("item_id", "kind", "starts_at"),
    "onboarding_answers": ("user_id", "question_id", "answer", "answered_at"),
}
_PARQUET = (".parquet", ".pq")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z")
_TEXT_FILES = (".csv", ".tsv", ".txt", ".dat", ".data")


@dataclass(frozen=True)
class TableSpec:
    """Files of one layout, and how their columns become contract columns.

    `pattern` is a file, a folder or a glob; `root` is what file names are told relative to.
    `columns` maps a contract name to the file's column, or (texts) to several that are joined with
    " | "; a contract name in `same_name` is read from a column called the same, where there is one.
    `prepare` derives further contract columns from the file's columns (by their own names), of
    which `used` are those it needs.
    """

    role: Role
    root: Path
    pattern: Path
    rules: RowRules
    columns: Mapping[str, str | Sequence[str]]
    same_name: frozenset[str] = frozenset()
    dialect: Dialect = field(default_factory=Dialect)
    parquet: bool | None = None
    """Whether the files are Parquet; None = by their suffix."""
    used: tuple[str, ...] = ()
    attributes: tuple[str, ...] | None = ()
    """Further columns to keep as texts; None = all that are not mapped."""
    prepare: Callable[[Columns], Columns] | None = None

    def paths(self) -> list[Path]:
        """The files there are now, sorted, hidden ones left out. Raises `SourceError` if there is
        none."""
        # The shop's own folder is no pattern, whatever it is called.
        ours = self.pattern.is_relative_to(self.root)
        base = self.root if ours else Path(self.pattern.anchor)
        inside = self.pattern.relative_to(base).as_posix()
        if self.pattern.is_dir():
            found = [
                path
                for path in self.pattern.rglob("*")
                if path.suffix.lower() in self._suffixes
                and not any(part[0] in "._" for part in path.relative_to(self.pattern).parts)
            ]
        elif not self.pattern.exists() and any(sign in inside for sign in "*?["):
            found = [path for path in base.glob(inside) if path.name[0] != "."]
        else:
            found = [self.pattern]
        files = sorted(path for path in found if path.is_file())
        if not files:
            raise SourceError(
                f"{self.pattern}: no file for {self.role} found there; correct the path in the "
                "shop file (it is relative to that file) or deliver the file"
            )
        return files

    def packed(self) -> list[Path]:
        """Compressed files in the folder, if it is one: they are not read."""
        found = self.pattern.rglob("*") if self.pattern.is_dir() else ()
        return sorted(path for path in found if path.suffix.lower() in _PACKED)

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return {True: _PARQUET, False: _TEXT_FILES, None: _PARQUET + _TEXT_FILES}[self.parquet]

    def watched(self) -> Watched:
        """The table's path as a watched one. Raises `SourceError` if it cannot be one."""
        return watch(self.role, self.pattern, self._suffixes)

    def is_parquet(self, path: Path) -> bool:
        return path.suffix.lower() in _PARQUET if self.parquet is None else self.parquet

    def header(self, path: Path) -> list[str]:
        if self.is_parquet(path):
            return columnar.read_header(path)
        return delimited.read_header(path, self.dialect)

    def count_rows(self, path: Path) -> int:
        if self.is_parquet(path):
            return columnar.count_rows(path)
        return delimited.count_rows(path, self.dialect)

    def mapping(self, path: Path, header: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Contract name -> the columns of this file that make it.

        Raises `SourceError` if a named column is missing or a required name has no column.
        """
        mapped = {n: (c,) if isinstance(c, str) else tuple(c) for n, c in self.columns.items()}
        for name in self.same_name - set(mapped):
            if name in header:
                mapped[name] = (name,)
        expected = [(column, name) for name, several in mapped.items() for column in several]
        expected += [(column, "") for column in (*self.used, *(self.attributes or ()))]
        required = list(REQUIRED[self.role])
        if isinstance(self.rules, InteractionRules) and self.prepare is None:
            # What says of which type a row is: see `contract._event_types`.
            if self.rules.rating is not None:
                required.append("weight")
            elif self.rules.event_type is None:
                required.append("event_type")
        expected += [(name, name) for name in required if name not in mapped]
        missing = [(column, name) for column, name in expected if column not in header]
        if missing:
            raise SourceError(self._explain_missing(path, header, missing))
        return mapped

    def blocks(self, path: Path) -> Iterator[RawRows]:
        """The file's rows under contract names; attributes get the prefix `ATTRIBUTE`."""
        header = self.header(path)
        mapped = self.mapping(path, header)
        attributes = self.attribute_columns(header, mapped)
        wanted = self.read_columns(mapped) | set(attributes)
        nulls = self.rules.number_format.null_values if isinstance(self.rules, ItemRules) else ()
        if self.is_parquet(path):
            blocks = columnar.read_rows(path, wanted)
        else:
            blocks = delimited.read_rows(path, self.dialect, wanted)
        for block in blocks:
            columns = {ATTRIBUTE + name: block.columns[name] for name in attributes}
            for name, several in mapped.items():
                arrays = [block.columns[column] for column in several]
                if len(arrays) > 1:
                    arrays = [joined([texts(a, nulls) for a in arrays], " | ")]
                columns[name] = arrays[0]
            if self.prepare is not None:
                columns |= self.prepare(block.columns)
            yield RawRows(block.rows, columns, block.broken_rows, block.broken_reasons)

    def read_columns(self, mapped: Mapping[str, tuple[str, ...]]) -> set[str]:
        """The file's columns that are read, besides attributes."""
        named = {column for several in mapped.values() for column in several}
        return named | set(self.used)

    def attribute_columns(
        self, header: Sequence[str], mapped: Mapping[str, tuple[str, ...]]
    ) -> list[str]:
        """The file's columns that are kept as attributes."""
        if self.attributes is not None:
            return list(self.attributes)
        read = self.read_columns(mapped)
        return [column for column in header if column and column not in read]

    def _explain_missing(
        self, path: Path, header: Sequence[str], missing: Sequence[tuple[str, str]]
    ) -> str:
        lines = []
        for column, name in missing:
            purpose = f" (for {name})" if name and name != column else ""
            close = nearest(column, header) or nearest(name, header)
            hint = f"; did you mean {close!r}?" if close else ""
            lines.append(f"{path}: no column {column!r}{purpose}{hint}")
        advice = f"columns found: {', '.join(map(repr, header))}; map them under columns: of "
        advice += f"source.{self.role} in the shop file, as name_of_ours: name_in_the_file"
        if "event_type" in [column for column, _ in missing]:
            advice += ", or say event_type: purchase there if every row is one"
        other = [sign for sign in ";\t|," if sign in header[0]] if len(header) == 1 else []
        if other and not self.is_parquet(path):
            advice += f"; there is only one column: is the delimiter {other[0]!r}?"
        return "\n".join([*lines, advice])


class TabularSource:
    """A shop's data, file by file, read into the landing contract (see `contract`).

    `arrived`: the files there are, when a ledger says so; None = whatever lies at the paths now.
    `now`, where a method takes it, is timezone-aware and only bounds plausible times, of files
    whose arrival nobody noted; a source never asks the clock.
    """

    summed_up: frozenset[Role] = frozenset()
    """Roles whose tables are not made row by row of their files, so that rows do not add up."""

    def __init__(
        self, tables: Sequence[TableSpec], arrived: Sequence[SourceFile] | None = None
    ) -> None:
        self._tables = tuple(tables)
        self._arrived = arrived
        self._found: dict[SourceFile, TableSpec] = {}
        self.erased: Erased | None = None
        """Tells the ids of erased users, of whose rows nothing but their place is handed over."""

    def files(self) -> list[SourceFile]:
        """All files, hashed once per source object, sorted by role and name. Raises `SourceError`
        if one is missing."""
        if not self._found and self._arrived is not None:
            self._found = self._match(self._arrived)
        elif not self._found:
            names: dict[tuple[Role, str], Path] = {}
            found: dict[SourceFile, TableSpec] = {}
            for table in self._tables:
                for path in table.paths():
                    name = name_of(path, table.root)
                    other = names.setdefault((table.role, name), path)
                    if other != path:
                        raise SourceError(
                            f"{path}: is called {name!r} like {other}, and one of them would be "
                            "lost; rename one"
                        )
                    file = describe_file(path, name, table.role)
                    if file in found:
                        raise SourceError(f"{path}: two {table.role} tables name this file")
                    found[file] = table
            self._found = found
        return sorted(self._found)

    def check(self) -> list[str]:
        """Look at the headers of all files and return warnings (columns that are ignored).

        Raises `SourceError` for an empty or unreadable file and for a missing, renamed or
        duplicate column, showing what was expected and what was found.
        """
        packed = [
            f"{name_of(path, table.root)}: is compressed and not read; unpack it there"
            for table in self._tables
            for path in table.packed()
        ]
        found: dict[tuple[Role, Path, str], list[str]] = {}
        for file in self.files():
            table = self._found[file]
            with named(file):
                header = table.header(file.path)
                mapped = table.mapping(file.path, header)
            read = table.read_columns(mapped) | set(table.attribute_columns(header, mapped))
            ignored = [column for column in header if column and column not in read]
            if ignored:
                names = found.setdefault((file.role, table.pattern, ", ".join(ignored)), [])
                names.append(file.name)
        return packed + [
            f"{first}{f' and {len(others)} more' if others else ''}: ignored columns {ignored}"
            for (_, _, ignored), (first, *others) in found.items()
        ]

    def to_land(self) -> list[SourceFile]:
        """The interactions files, each content once for each table that reads it: under the name
        under which it came first, those of the first data before all others."""
        files = [f for f in self.files() if f.role == "interactions"]
        first: dict[tuple[int, str], SourceFile] = {}
        for file in sorted(files, key=_as_it_came):
            table = self._tables.index(self._found[file])
            first.setdefault((table, file.batch), file)
        return sorted(first.values())

    def count_rows(self, file: SourceFile) -> int:
        """Physical data rows, counted without the parser. Blank lines and headers are no rows."""
        with named(file):
            return self._table_of(file).count_rows(file.path)

    def land(self, file: SourceFile, now: datetime) -> pd.DataFrame:
        """One landed row per physical row of an interactions file, in the file's order. Raises
        `SourceError` if the file changed since it was listed."""
        table = self._table_of(file)
        if not isinstance(table.rules, InteractionRules):
            raise SourceError(f"{file.path}: holds {file.role}, not interactions")
        refuse_changed(file)
        gone = _Gone()
        with named(file):
            landed = land_interactions(self._kept(file, table, gone), file, table.rules, now)
        return with_erased(landed, gone, LANDED)

    def items(self, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(catalogue sorted by item_id, rejects); every physical row is in one of the two."""
        return land_items(self._rows("items", ItemRules))

    def users(self, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(users sorted by user_id, rejects); empty where the source has none. Here and below, as
        in `items`, every physical row is in one of the two, unless the role is `summed_up`."""
        gone = _Gone()
        users, rejects = land_users(self._rows("users", UserRules, gone))
        return users, with_erased(rejects, gone, REJECTS)

    def exposures(self, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(what was shown to whom, rejects); empty where the source has none."""
        gone = _Gone()
        shown, rejects = land_exposures(self._rows("exposures", ExposureRules, gone), now)
        return shown, with_erased(rejects, gone, REJECTS)

    def promotions(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(what the shop put forward, rejects); empty where the source has none."""
        return land_promotions(self._rows("promotions", PromotionRules))

    def onboarding_answers(self, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(what new users answered, rejects); empty where the source has none."""
        gone = _Gone()
        answers, rejects = land_answers(self._rows("onboarding_answers", AnswerRules, gone), now)
        return answers, with_erased(rejects, gone, REJECTS)

    @cached_property
    def _places(self) -> list[tuple[TableSpec, Watched]]:
        return [(table, table.watched()) for table in self._tables]

    def spec_of(self, role: Role, name: str) -> TableSpec | None:
        """The table that a watched file of this name belongs to. Raises `SourceError` if there are
        several: they may read it differently, and nobody could say which of them is meant."""
        found = [
            table
            for table, place in self._places
            if table.role == role and place.accepts(table.root / name)
        ]
        if len(found) > 1:
            both = " and ".join(str(t.pattern) for t in found[:2])
            raise SourceError(
                f"{name}: two {role} tables name this file ({both}); let one path leave it out"
            )
        return found[0] if found else None

    def _kept(self, file: SourceFile, table: TableSpec, gone: "_Gone") -> Iterator[RawRows]:
        """The file's rows less those of erased users, whose numbers go to `gone`."""
        blanked = np.asarray(file.blanked, dtype=np.int64)
        for block in table.blocks(file.path):
            if self.erased is None and not len(blanked):
                yield block
                continue
            out = erased_of(block, self.erased) | np.isin(block.rows, blanked)
            torn = np.isin(block.broken_rows, blanked)
            if not out.any() and not torn.any():
                yield block
                continue
            gone[file] += [*block.rows[out].tolist(), *block.broken_rows[torn].tolist()]
            keep = pa.array(~out)
            yield RawRows(
                block.rows[~out],
                {name: values.filter(keep) for name, values in block.columns.items()},
                block.broken_rows[~torn],
                [r for r, gone_ in zip(block.broken_reasons, torn, strict=True) if not gone_],
            )

    def _rows(
        self, role: Role, kind: type[Rules], gone: "_Gone | None" = None
    ) -> Iterator[tuple[SourceFile, RawRows, Rules]]:
        """The rows of all files of a role, each block with the rules (of that `kind`) for it; with
        `gone` less those of erased users, whose numbers go there."""
        for file in self.files():
            if file.role != role:
                continue
            refuse_changed(file)
            table = self._table_of(file)
            if not isinstance(table.rules, kind):
                raise SourceError(f"{file.path}: its rules are not those of {role}")
            with named(file):
                blocks = table.blocks(file.path) if gone is None else self._kept(file, table, gone)
                for block in blocks:
                    yield file, block, table.rules

    def _match(self, arrived: Sequence[SourceFile]) -> dict[SourceFile, TableSpec]:
        """Each arrived file with the table of its role that its name belongs to."""
        found: dict[SourceFile, TableSpec] = {}
        for file in arrived:
            table = self.spec_of(file.role, file.name)
            if table is None:
                raise SourceError(
                    f"{file.name} arrived as {file.role}, but no path of the shop file leads to it "
                    "any more; keep the old path there as one more table, so that nothing that was "
                    "accepted is lost"
                )
            found[file] = table
        for role in sorted({t.role for t in self._tables} - {f.role for f in found}):
            paths = ", ".join(str(t.pattern) for t in self._tables if t.role == role)
            raise SourceError(
                f"no file of {role} has arrived yet at {paths}: deliver one, or wait until the one "
                "there is complete (arrival.settle_seconds)"
            )
        return found

    def _table_of(self, file: SourceFile) -> TableSpec:
        self.files()
        if file not in self._found:
            raise SourceError(f"{file.path}: is not, or no longer, a file of this source")
        return self._found[file]


class _Gone(defaultdict[SourceFile, list[int]]):
    """File -> numbers of its rows that are erased users'."""

    def __init__(self) -> None:
        super().__init__(list)


def erased_of(block: RawRows, erased: Erased | None) -> np.ndarray:
    """Which of the block's readable rows are an erased user's."""
    ids = block.columns.get("user_id")
    if erased is None or ids is None:
        return np.zeros(len(block.rows), dtype=bool)
    return erased(identifiers(ids, "user_id", Problems(len(ids)), required=False))


def interaction_rules(shop: Shop, **fields: object) -> InteractionRules:
    """Rules with what every source takes from the shop; `fields` are the adapter's own.

    An event outside the shop's partitions would have no place in the raw table, so it is refused
    like one outside the plausible times, and not lost later.
    """
    plausible, span = shop.plausible, shop.partitions
    lasts = [plausible.latest, span.end and span.end - timedelta(days=1)]
    plausible = plausible.model_copy(
        update={
            "earliest": max(plausible.earliest, span.start),
            "latest": min((day for day in lasts if day is not None), default=None),
        }
    )
    return InteractionRules(
        event_types=shop.event_types,
        plausible=plausible,
        currency=shop.currency,
        **fields,  # type: ignore[arg-type]
    )


def _as_it_came(file: SourceFile) -> tuple[bool, str, str]:
    return (not file.history, file.arrived.isoformat() if file.arrived else "", file.name)


def refuse_changed(file: SourceFile) -> None:
    if sha256_of(file.path) not in (file.sha256, file.stored):
        advice = "run again" if file.arrived is None else "deliver it again"
        raise SourceError(f"{file.path}: changed after it was listed; {advice}")
