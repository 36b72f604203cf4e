"""One version of one table, without some users: the same rows of everybody else, new files.

Belongs here: which rows and texts go, table by table. Does not belong here: which versions are kept
and what names them (`retained.py`).

What a redacted version was made from is what the old one was made from; its key gains the input
`ERASED`, which no run computes. So nothing takes it for what would be made now: the next run makes
the table again. Landed rows are the exception: what landing would make now is exactly the redacted
version, so its key stays and no file is read again.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.core.assets import unit_of
from recsys_assets.core.lake import CorruptFileError, File, Lake, Version
from recsys_assets.erasure.names import Names
from recsys_assets.ingestion.parsing import ERASED as REASON

ERASED = "erased"
LANDED, REJECTED, QUARANTINE = "landed_rows", "rejected_entities", "quarantine"
ORIGIN = ("batch", "file", "row")
_FREE = {"release": ("value",), "release_verdict": ("text",), "served_release": ("reason",)}
"""Tables that say what a release is and what became of it: only these columns hold free words (the
`value` of its settings, what the shop file says)."""
_EXAMPLES = re.compile(r'<h2 id="examples">.*?(?=<h2 |</body>)', re.DOTALL)

Place = tuple[str, str, int]
"""Batch, file and row: where a delivered row stood."""
UserIds = Mapping[str, tuple[tuple[str, str, str], ...]]
"""Table -> its columns of user ids that have another name (`core.tables.Table.user_ids`)."""
Mask = npt.NDArray[np.bool_]


@dataclass
class Redactor:
    """Rewrites versions. `mark` tells this erasure from others; `places` are the users' rows in
    delivered files, for tables that name rows and not users."""

    lake: Lake
    names: Names
    mark: str
    user_ids: UserIds
    places: set[Place] = field(default_factory=set)
    removed: dict[str, int] = field(default_factory=dict)
    """table -> rows removed from all of its versions"""

    def ids_of(self, version: Version) -> Iterator[str]:
        """Every distinct user id in a version."""
        for file in version.files:
            data = self._read(version, file, keys_only=True)
            for name, kind, value in self._columns(version.asset, data.column_names):
                column = data[name] if not kind else data.filter(pc.equal(data[kind], value))[name]
                yield from (i for i in pc.unique(column).to_pylist() if i is not None)

    def find_places(self, version: Version) -> None:
        """Remember where the users' rows stood, of a version of the landed rows."""
        for file in version.files:
            names = [*ORIGIN, "user_id"]
            data = self._read(version, file, names=names)
            mine = data.filter(self._mine(version.asset, data))
            self.places.update(zip(*(mine[n].to_pylist() for n in ORIGIN), strict=True))

    def touched(self, version: Version) -> int:
        """How many rows of a version would go, or change."""
        return sum(int(self._hit(version, self._read(version, f)).sum()) for f in version.files)

    def redacted(self, version: Version) -> Version:
        """The version without the users: itself when it holds nothing of them."""
        report = json.dumps(self.lake.report(version), sort_keys=True)
        quiet = self.names.replaced(report)
        changed: dict[str, pa.Table] = {}
        gone: list[pa.Table] = []
        for file in version.files:
            data = self._read(version, file)
            hit = self._hit(version, data)
            if not hit.any():
                continue
            self.removed[version.asset] = self.removed.get(version.asset, 0) + int(hit.sum())
            if version.asset == LANDED:
                gone.append(_bare(data.filter(pa.array(hit))))
                changed[file.part] = data.filter(pa.array(~hit))
            else:
                changed[file.part] = self._without(version.asset, data, hit)
        if not changed and quiet == report:
            return version
        if version.asset == LANDED:
            changed |= self._with_bare(version, changed, gone)
        return self.stored(version, changed, json.loads(quiet))

    def stored(
        self, version: Version, changed: Mapping[str, pa.Table], report: Mapping[str, object]
    ) -> Version:
        """A version with some of its parts replaced; its key says that it was redacted."""
        landed = version.asset == LANDED
        spoilt = set() if landed else {unit_of(part) for part in changed}
        kept = [f for f in version.files if f.part not in changed]
        # A piece is kept whole or made again: one part that changed spoils the others' keys.
        kept = [replace(f, key="") if unit_of(f.part) in spoilt else f for f in kept]
        keys = {f.part: f.key for f in version.files} if landed else {}
        key = version.key
        if not landed:
            before = key.inputs.get(ERASED, "")
            mark = (
                hashlib.sha256(f"{before}{self.mark}".encode()).hexdigest() if before else self.mark
            )
            key = replace(key, inputs={**key.inputs, ERASED: mark})
        return self.lake.store(
            version.asset,
            sorted(changed.items()),
            key,
            partition=version.partition,
            report=lambda: report,
            part_key=lambda part: keys.get(part, ""),
            kept=kept,
            kept_from=version,
        )

    # -- inside ------------------------------------------------------------------------------

    def _columns(self, asset: str, names: Collection[str]) -> list[tuple[str, str, str]]:
        found = [("user_id", "", "")] if "user_id" in names else []
        return found + [c for c in self.user_ids.get(asset, ()) if c[0] in names]

    def _mine(self, asset: str, data: pa.Table) -> pa.ChunkedArray:
        mine = pa.chunked_array([pa.array(np.zeros(data.num_rows, dtype=bool))])
        for name, kind, value in self._columns(asset, data.column_names):
            cells = self.names.cells(data[name], mine=True)
            if kind:
                cells = pc.and_(cells, pc.equal(data[kind], value))
            mine = pc.or_(mine, cells)
        return mine

    def _hit(self, version: Version, data: pa.Table) -> Mask:
        hit = self._mine(version.asset, data)
        if version.asset in (REJECTED, QUARANTINE) and self.places:
            rows = zip(*(data[n].to_pylist() for n in ORIGIN), strict=True)
            there = [place in self.places for place in rows]
            if version.asset == REJECTED:
                there = [
                    t and r != REASON
                    for t, r in zip(there, data["reject_reason"].to_pylist(), strict=True)
                ]
            hit = pc.or_(hit, pa.chunked_array([pa.array(there, pa.bool_())]))
        if version.asset == "examples":  # its users have no ids: any of them may be one of ours
            hit = pa.chunked_array([pa.array(np.ones(data.num_rows, dtype=bool))])
        if version.asset == "report_page":
            hit = pc.match_substring(data["html"], '<h2 id="examples">')
        for name in _texts(version.asset, data):
            if name not in {c for c, _, _ in self._columns(version.asset, data.column_names)}:
                hit = pc.or_(hit, self.names.cells(data[name], mine=False))
        return np.asarray(hit.to_numpy(), dtype=bool)

    def _without(self, asset: str, data: pa.Table, hit: Mask) -> pa.Table:
        """The table's rows of others; a row that only mentions a user keeps everything else."""
        if asset == REJECTED:
            bare = _bare(data.filter(pa.array(hit)))
            whole = pa.concat_tables([data.filter(pa.array(~hit)), bare])
            return whole.sort_by([(n, "ascending") for n in ("role", "file", "row")])
        theirs = np.asarray(self._mine(asset, data).to_numpy(), dtype=bool)
        if asset in (QUARANTINE, "examples"):
            theirs = hit
        data = data.filter(pa.array(~theirs))
        for name in _texts(asset, data):
            texts = data[name].to_pylist()
            new = [t if t is None else self.names.replaced(t) for t in texts] if (
                asset == "report_page" or pc.any(self.names.cells(data[name], mine=False)).as_py()
            ) else texts  # fmt: skip
            if asset == "report_page" and name == "html":
                new = [_EXAMPLES.sub("", t or "") for t in new]
            if new != texts:
                place = data.schema.get_field_index(name)
                data = data.set_column(
                    place, data.schema.field(name), pa.array(new, data[name].type)
                )
        return data

    def _with_bare(
        self, version: Version, changed: Mapping[str, pa.Table], gone: list[pa.Table]
    ) -> dict[str, pa.Table]:
        """The parts `file@`, with the places of what went from all parts of the file."""
        files = {f.part: f for f in version.files}
        found: dict[str, pa.Table] = {}
        for unit in sorted({unit_of(part) for part in changed}):
            part = f"{unit}@"
            old = changed[part] if part in changed else self._read(version, files[part])
            mine = [t.filter(pc.equal(t["file"], unit)) for t in gone]
            found[part] = pa.concat_tables([old, *mine]).sort_by("row")
        return found

    def _read(
        self,
        version: Version,
        file: File,
        *,
        names: Collection[str] | None = None,
        keys_only: bool = False,
    ) -> pa.Table:
        """Rows of a file, CorruptFileError when they are not what was written."""
        path = self.lake.verified_object(version.asset, file.sha256, "parquet")
        columns = [n for n, _ in version.schema]
        if keys_only:
            wanted = self._columns(version.asset, columns)
            names = {n for c in wanted for n in c[:2] if n}
        chosen = None if names is None else [n for n in columns if n in names]
        try:
            data = pq.ParquetFile(path, page_checksum_verification=True).read(columns=chosen)
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptFileError(f"{version.asset}: {path} cannot be read: {error}") from error
        # Parquet calls the values of a list "element", and everything that is stored "item".
        kinds = [pa.list_(f.type.value_type) if pa.types.is_list(f.type) else f.type
                 for f in data.schema]  # fmt: skip
        return data.cast(pa.schema(list(zip(data.column_names, kinds, strict=True))))


def _texts(asset: str, data: pa.Table) -> list[str]:
    """Columns in which a user may be mentioned."""
    found = [f.name for f in data.schema if pa.types.is_string(f.type)]
    return [name for name in found if name in _FREE.get(asset, found)]


def _bare(rows: pa.Table) -> pa.Table:
    """Rows of which only the place is left, as ingestion writes them."""
    said = {"reject_field": "user_id", "reject_reason": REASON}
    columns = [
        pa.array([said[f.name]] * rows.num_rows, f.type)
        if f.name in said
        else rows[f.name]
        if f.name in (*ORIGIN, "role")
        else pa.nulls(rows.num_rows, f.type)
        for f in rows.schema
    ]
    return pa.table(columns, schema=rows.schema)
