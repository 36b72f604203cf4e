"""`table_asset`: one decorator that turns a function over tables into a gated Dagster asset.

It is where the policy of the whole graph lives, once: every asset has a contract, a description,
an owner, a code version computed from its source, reuse of unchanged results, and exactly one
blocking check called `quality` that audits the candidate version and alone may approve it.

Belongs here: the bridge between Dagster and the lake. Does not belong here: what any table means.

A decorated function names its inputs by its parameters. A parameter called like an asset receives
that asset's approved `Snapshot`; `shop`, `warehouse`, `report`, `project`, `days`, `todo`, `named`
and `run_id` (for logs, never for content) are the other names it may ask for. An input annotated
`Snapshot | None` is optional: None as long as the asset was never approved, otherwise its last
approved state. A parameter annotated `Annotated[dict[str, Snapshot], names]` receives the assets
called so, by name. It returns a frame, or yields (part, frame) pairs, or, for a partitioned asset,
yields (partition, frame) pairs.

An asset may say what it is made of piece by piece (`units`). Then a piece whose own inputs are as
they were is kept, not computed again: a new day costs in proportion to the day.
"""

import hashlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version as library_version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa

from recsys_assets.core import metadata
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import (
    File,
    Lake,
    LakeError,
    NotApprovedError,
    Snapshot,
    Version,
    VersionKey,
    split_parts,
)
from recsys_assets.core.memory import Cost, measured, release_memory
from recsys_assets.core.quality import Failure, Verdict, audit
from recsys_assets.core.tables import Table
from recsys_assets.core.warehouse import Warehouse, sql_root, sql_text

_JUDGED_BEFORE = (
    "it was rejected before and judged again as it is: after a repair materialize it anew, not its "
    "check alone (in the UI, re-execute from asset failure)"
)
"""Why re-executing a run from its failed check, a step of its own, repairs nothing."""
_AUDITED_TOGETHER = 1_000_000
"""Rows of small parts that are audited in one go."""
OWNER = "team:recommendations"
CHECK = "quality"
CADENCE = "recsys/cadence"
"""Asset tag; `weekly` = only the weekly run, and one started by hand, makes it."""
_SPECIAL = (
    "shop", "warehouse", "report", "days", "todo", "candidate", "project", "named", "run_id",
)  # fmt: skip
LIBRARIES = (
    "duckdb", "faiss-cpu", "great-expectations", "implicit", "lightgbm", "numba", "numpy", "pandas",
    "pyarrow", "scipy", "sentence-transformers", "tokenizers", "torch", "transformers",
)  # fmt: skip


PATIENCE = 3_600.0
"""Seconds that a run which a schedule or a sensor started waits for the lake: a person may hold it
for a clean-up or an erasure."""

LOOKS: ContextVar[dict[Any, Any] | None] = ContextVar("LOOKS", default=None)
"""What was seen outside of the lake since `one_look` began, by whatever tells it apart."""


@contextmanager
def one_look() -> Iterator[None]:
    """Within it the source is listed and hashed once, and every question is about that listing."""
    token = LOOKS.set({})
    try:
        yield
    finally:
        LOOKS.reset(token)


class Project(dg.ConfigurableResource):
    """Where the lake is and which shop it serves; one instance per code location."""

    home: str
    shop_file: str
    memory_limit: str = "2GB"
    vector_store: str = "embedded"
    weaviate_url: str = ""
    weaviate_grpc_port: int = 50051

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Project"]:
        """Hold the lake for the length of a run, so that two runs never mix. What a schedule or a
        sensor started waits for its turn; a person is told at once who is at work."""
        run = context.run_id or "unknown"
        tags = context.dagster_run.tags if context.dagster_run else {}
        by_itself = {"dagster/schedule_name", "dagster/sensor_name"} & set(tags)
        with self.lake.exclusive(f"run {run}, process {os.getpid()}", PATIENCE if by_itself else 0):
            self.lake.sweep()
            yield self

    @property
    def lake(self) -> Lake:
        return Lake(Path(self.home) / "lake")

    @property
    def shop(self) -> Shop:
        return _shop(self.shop_file)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.memory_limit, temp_directory=Path(self.home) / "spill")


@cache
def _shop(path: str) -> Shop:
    from recsys_assets.core.config import load_shop

    return load_shop(Path(path))


@dataclass
class Report:
    """What an asset wants people to see: numbers (plotted over runs), texts and pictures."""

    numbers: dict[str, float | int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)
    """name -> base64 PNG"""
    lineage: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """output column -> (table, column) pairs it is made from"""
    files: dict[str, list[tuple[str, str, int | None]]] = field(default_factory=dict)
    """role -> (name, sha256, rows) of each source file it is made from, for its gate; rows are None
    where what the file held was kept"""

    def plot(self, name: str, png: bytes) -> None:
        import base64

        self.plots[name] = base64.b64encode(png).decode("ascii")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Rule = Callable[..., Iterable[Failure]]
"""A semantic rule of a stage: takes `candidate` and input snapshots by name, yields failures."""

Units = Callable[..., Mapping[str, str]]
"""Takes input snapshots, `shop` or `project` by name; gives, for each piece of a table, a digest of
all the data that piece depends on (code, settings and libraries are added). For a partitioned asset
a piece is a partition. Otherwise it is one part, or all parts called `piece@anything`."""


@dataclass(frozen=True)
class GatedAsset:
    """An asset and its gate. `compute` is the undecorated function, for tests and reuse;
    `producer` runs and audits it without Dagster, and knows what is stale."""

    table: Table
    asset: dg.AssetsDefinition
    check: dg.AssetChecksDefinition
    compute: Callable[..., Any]
    producer: "_Producer"


def table_asset(
    table: Table,
    *,
    group: str,
    kinds: Sequence[str] = (),
    config: Sequence[str] = (),
    rules: Sequence[Rule] = (),
    sql: Sequence[str] = (),
    inputs_hash: Callable[..., str] | None = None,
    partitions: dg.TimeWindowPartitionsDefinition | None = None,
    code: Sequence[str] = (),
    units: Units | None = None,
    pool: str | None = None,
    weekly: bool = False,
    names: Sequence[str] = (),
    after: Sequence[str] = (),
    always: bool | Callable[[Shop], bool] = False,
) -> Callable[[Callable[..., Any]], GatedAsset]:
    """Declare the asset that produces `table`.

    config: sections of the shop file that its content depends on.
    rules: semantic rules beyond the contract, run by the gate.
    sql: names of the files of `sql/` that make it; they give column lineage and the code version.
    inputs_hash: what it reads from outside the lake (source files), as a hash of `shop` or
        `project`.
    code: further modules its content depends on but that it does not import statically.
    units: the pieces it is made of; see `Units`. An asset without partitions must then ask for
        `todo`, the list of pieces to compute, and yield at least one part for each.
    pool: the scarce thing it uses (language_model, index, ranker); one run at a time uses it.
    weekly: only the weekly run makes it (tuning, evaluation at many cutoffs).
    names: assets whose exact versions it records, handed over as `named`; a new version of one,
        even of equal content, is a changed input.
    after: assets to run after, beyond its parameters.
    always: (for which shops) it acts on more than its inputs, so it is called even when nothing
        changed.
    """

    def declare(function: Callable[..., Any]) -> GatedAsset:
        producer = _Producer(
            table, function, tuple(config), tuple(rules), tuple(sql), inputs_hash, tuple(code),
            units, partitions, tuple(names), tuple(after), always,
        )  # fmt: skip
        asset = producer.asset(group, kinds, pool, weekly)
        check = producer.check(asset)
        return GatedAsset(table, asset, check, function, producer)

    return declare


@dataclass(frozen=True)
class Produced:
    """A candidate version, whether it was made before, and what changed since the current one was:
    names of inputs, `code`, `settings` (or files outside), `libraries`, and how many of its pieces
    had to be computed, where it has pieces. '' for a first version."""

    version: Version
    reused: bool
    because: str = ""


@dataclass(frozen=True)
class _Producer:
    table: Table
    function: Callable[..., Any]
    config: tuple[str, ...]
    rules: tuple[Rule, ...]
    sql: tuple[str, ...]
    inputs_hash: Callable[..., str] | None
    code: tuple[str, ...]
    units: Units | None
    partitions: dg.TimeWindowPartitionsDefinition | None
    names: tuple[str, ...]
    after: tuple[str, ...]
    always: bool | Callable[[Shop], bool]

    @property
    def inputs(self) -> list[str]:
        parameters = inspect.signature(self.function).parameters.values()
        return [name for p in parameters if p.name not in _SPECIAL for name in _assets_of(p)]

    def code_version(self) -> str:
        return source_hash(self.function.__module__, self.code, self.sql)

    def asset(
        self,
        group: str,
        kinds: Sequence[str],
        pool: str | None,
        weekly: bool,
    ) -> dg.AssetsDefinition:
        table, partitions = self.table, self.partitions

        @dg.asset(
            name=table.name,
            description=inspect.getdoc(self.function),
            group_name=group,
            owners=[OWNER],
            kinds=set(kinds) or {"parquet"},
            deps=[dg.AssetKey(i) for i in dict.fromkeys([*self.inputs, *self.after])],
            code_version=self.code_version(),
            partitions_def=partitions,
            pool=pool,
            tags={CADENCE: "weekly"} if weekly else None,
            backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
            metadata={
                "dagster/column_schema": metadata.column_schema(table),
                "dagster/table_name": table.name,
                "key": ", ".join(table.key),
            },
        )
        def body(context: dg.AssetExecutionContext, project: Project) -> Any:
            if partitions is None:
                with measured() as cost:
                    made = self.produce(project, context.run.run_id)
                return dg.MaterializeResult(
                    data_version=dg.DataVersion(made.version.content_id),
                    metadata=self._metadata(project, made, cost),
                )
            if not (context.has_partition_key or context.has_partition_key_range):
                raise LakeError(
                    f"{table.name} is made by partitions and this run names none: select some, or "
                    "give the run the tags dagster/asset_partition_range_start and "
                    "dagster/asset_partition_range_end (`recsys run` names all)"
                )
            with measured() as cost:
                versions = self.produce_partitions(
                    project, list(context.partition_keys), context.run.run_id
                )
            rows = sum(v.rows for v in versions)
            context.log.info(f"{len(versions)} partitions, {rows:,} rows")
            return dg.MaterializeResult(
                metadata={
                    "dagster/partition_row_count": rows // max(1, len(versions)),
                    "rows": rows,
                    "partitions": len(versions),
                    **cost.as_metadata(),
                }
            )

        return body

    def check(self, asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
        table = self.table
        rules = [rule.__name__.strip("_").replace("_", " ") for rule in self.rules]

        @dg.asset_check(
            asset=asset,
            name=CHECK,
            blocking=True,
            description=(
                f"Audits the newest version of {table.name} against its contract: "
                f"{'; '.join([f'{len(table.columns)} columns', *rules])}. Only a version that "
                "passes becomes visible to anything that reads it."
            ),
        )
        def quality(context: dg.AssetCheckExecutionContext, project: Project) -> Any:
            with measured() as cost:
                verdict = self.judge(project, context.run.run_id)
            return dg.AssetCheckResult(
                passed=verdict.passed,
                description="; ".join([*verdict.reasons[:20], *filter(None, [verdict.note])]),
                metadata={
                    "rows audited": verdict.rows,
                    "rules evaluated": verdict.rules,
                    "failures": len(verdict.failures),
                    **cost.as_metadata(),
                },
            )

        return quality

    # -- producing -------------------------------------------------------------------------------

    def key(
        self,
        project: Project,
        snapshots: Mapping[str, Snapshot],
        named: Mapping[str, Snapshot] = MappingProxyType({}),
    ) -> VersionKey:
        """What a version made of these inputs, under the present code and settings, is made of."""
        outside = _inject(self.inputs_hash, project, snapshots) if self.inputs_hash else ""
        return VersionKey(
            code=self.code_version(),
            config=hashlib.sha256((self._settings(project) + outside).encode()).hexdigest(),
            libraries=_library_hash(),
            inputs={
                **{name: s.version_id for name, s in sorted(named.items())},
                **{name: s.content_id for name, s in sorted(snapshots.items())},
            },
        )

    def _settings(self, project: Project) -> str:
        return project.shop.section_hash(*self.config) if self.config else ""

    def _unit_keys(self, project: Project, snapshots: Mapping[str, Snapshot]) -> dict[str, str]:
        """Piece -> hash of everything it depends on, code included."""
        assert self.units is not None
        common = [self.code_version(), self._settings(project), _library_hash()]
        return {
            unit: hashlib.sha256("\0".join([*common, digest]).encode()).hexdigest()[:32]
            for unit, digest in _inject(self.units, project, snapshots).items()
        }

    def _partition_keys(
        self, project: Project, snapshots: Mapping[str, Snapshot], partitions: Sequence[str]
    ) -> dict[str, VersionKey]:
        if self.units is None:
            return dict.fromkeys(partitions, self.key(project, snapshots))
        digests = _inject(self.units, project, snapshots)
        whole = self.key(project, {})
        return {p: replace(whole, inputs={"": digests.get(p, "")}) for p in partitions}

    def stale(self, project: Project) -> list[str]:
        """The partitions ('' for an asset without) whose approved version is not what would be made
        now. Computes nothing; raises NotApprovedError if an input cannot be read."""
        lake, entries = project.lake, project.lake.entries(self.table.name)
        snapshots = self._read(project, self.inputs)
        if self.partitions is not None:
            units = _inject(self.units, project, snapshots) if self.units else {}
            known = sorted({*entries, *units})
            wanted = self._partition_keys(project, snapshots, known)
        else:
            wanted = {"": self.key(project, snapshots, self._read(project, self.names))}
        found = []
        for partition, key in wanted.items():
            entry = entries.get(partition)
            approved = entry is not None and entry.verdict == "approved"
            version = lake.intact(entry.candidate) if entry and approved else None
            if version is None or version.key != key:
                found.append(partition)
        return found

    @one_look()
    def produce(self, project: Project, run_id: str) -> Produced:
        """Compute and store the next candidate, or reuse a version of the same key that is whole:
        the current one, or a candidate that nobody has judged. The key and the content are of one
        listing of the source."""
        lake, name = project.lake, self.table.name
        snapshots = self._read(project, self.inputs)
        named = self._read(project, self.names)
        key = self.key(project, snapshots, named)
        entry = lake.entries(name).get("")
        before = entry.current if entry else None
        last = lake.intact(before) if before else None
        # A run that ended before its gate left a candidate that can still be judged. One whose gate
        # ended in an error may be the cause of that, and is made again.
        waits = entry is not None and entry.verdict == "pending"
        left = lake.intact(entry.candidate) if entry and waits else None
        always = self.always(project.shop) if callable(self.always) else self.always
        for version in (last, left):
            if version is not None and version.key == key and not always:
                lake.propose([version], run_id)
                return Produced(version, reused=True)
        because = _changes(last.key, key) if last else []
        report = Report()
        columns_of = {i: s.columns for i, s in snapshots.items()}
        for file in self.sql:
            report.lineage |= metadata.sql_lineage(sql_text(file), columns_of)
        special: dict[str, Any] = {"report": report, "named": named, "run_id": run_id}
        storing: dict[str, Any] = {"report": report.as_dict}
        if self.units is not None:
            unit_keys = self._unit_keys(project, snapshots)
            kept = [
                f
                for f in (last.files if last else ())
                if f.key and f.key == unit_keys.get(unit_of(f.part))
            ]
            done = {unit_of(f.part) for f in kept}
            special["todo"] = [u for u in unit_keys if u not in done]
            if last:
                because.append(f"{len(special['todo'])} of {len(unit_keys)} pieces")
            storing |= {"kept": kept, "kept_from": last}
            storing["part_key"] = lambda part: unit_keys[unit_of(part)]
        result = self._call(project, snapshots, **special)
        version = lake.store(name, self._parts(result), key, **storing)
        lake.propose([version], run_id)
        del result, snapshots
        release_memory()
        return Produced(version, version.id == before, ", ".join(because))

    def produce_partitions(
        self, project: Project, partitions: list[str], run_id: str
    ) -> list[Version]:
        """Compute and store candidates of `partitions`; every asked partition gets a version.

        A partition that the shop file no longer has (its start was moved, days became months) is
        no part of the table from then on.
        """
        lake, name = project.lake, self.table.name
        snapshots = self._read(project, self.inputs)
        keys = self._partition_keys(project, snapshots, partitions)
        entries = lake.entries(name)
        current = {
            p: lake.intact(e.current)
            for p in partitions
            if (e := entries.get(p)) is not None and e.current is not None
        }
        kept = {p: v for p, v in current.items() if v is not None and v.key == keys[p]}
        versions = list(kept.values())
        missing = [p for p in partitions if p not in kept]
        if missing:
            for partition, frame in self._call(project, snapshots, days=missing):
                parts = [("", self.table.conform(frame))]
                versions.append(lake.store(name, parts, keys[partition], partition=partition))
        if len(versions) != len(partitions):
            raise LakeError(f"{name}: asked for {len(partitions)} partitions, got {len(versions)}")
        assert self.partitions is not None
        gone = set(entries) - set(self.partitions.get_partition_keys())
        if gone:
            # What was over once and is no more was there by a clock that has been set back since.
            over = datetime.fromisoformat(max(gone)).replace(tzinfo=UTC) + timedelta(days=31)
            if gone <= set(self.partitions.get_partition_keys(current_time=over)):
                gone = set()
        lake.propose(versions, run_id, without=gone)
        return versions

    def judge(self, project: Project, run_id: str) -> Verdict:
        """Audit every candidate that is not approved, and approve or reject exactly those."""
        lake, name = project.lake, self.table.name
        entries = lake.entries(name)
        if not entries:
            raise LakeError(f"{name}: there is nothing to audit, it was never materialized")
        waiting = [p for p, e in sorted(entries.items()) if e.verdict != "approved"]
        total = Verdict()
        if not waiting:
            versions = [lake.version(e.candidate) for e in entries.values()]
            total.rows, total.rules = sum(v.rows for v in versions), 1
            total.note = "nothing new to audit: this version passed before, under the same rules"
            return total
        good: list[Version] = []
        # All partitions at once first: 365 good days cost little more than one.
        batches = [[lake.version(entries[p].candidate) for p in waiting]]
        while batches:
            batch = batches.pop()
            try:
                verdict = self._audit(project, batch)
            except Exception as error:
                for version in batch:
                    reason = f"{type(error).__name__}: {error}"
                    lake.reject(version, [reason], run_id, broken=True)
                raise
            if not verdict.passed and len(batch) > 1:
                batches += [[v] for v in reversed(batch)]
                continue
            if verdict.passed:
                good += batch
            else:
                lake.reject(batch[0], verdict.reasons, run_id)
                where = f"[{batch[0].partition}] " if batch[0].partition else ""
                verdict.failures = [replace(f, rule=where + f.rule) for f in verdict.failures]
            total.rows += verdict.rows
            total.add(verdict.failures, verdict.rules)
        if good:
            lake.approve(good, run_id)
        if total.failures:
            before = any(entries[p].verdict == "rejected" for p in waiting)
            total.note = _JUDGED_BEFORE if before else ""
        release_memory()
        return total

    def _audit(self, project: Project, versions: list[Version]) -> Verdict:
        snapshot = project.lake.of_version(*versions)
        known = 0
        if versions[0].partition:
            parts = iter([("", snapshot.to_arrow())])
        else:
            passed = approved_files(project.lake, self.table.name)
            known = sum(f.rows for f in versions[0].files if f in passed)
            new = [f for f in versions[0].files if f not in passed]
            parts = ((f.part, snapshot.to_arrow(part=f.part)) for f in new)
            if self.units is not None:
                parts = _together(new, snapshot)
        verdict = audit(self.table, parts, known_rows=known)
        if not verdict.failures:
            for rule in self.rules:
                verdict.add(list(_inject(rule, project, {"candidate": snapshot})))
        return verdict

    def _read(self, project: Project, assets: Sequence[str]) -> dict[str, Snapshot]:
        lake = project.lake
        tolerated = project.shop.partitions.tolerated
        optional = {i for i in self.inputs if self._is_optional(i)}
        absent = {i for i in optional if not any(e.current for e in lake.entries(i).values())}
        try:
            return {
                i: lake.served(i) if i in optional else lake.read(i, tolerated_partitions=tolerated)
                for i in assets
                if i not in absent
            }
        except NotApprovedError as error:
            raise NotApprovedError(f"{self.table.name} cannot be made: {error}") from error

    def _is_optional(self, name: str) -> bool:
        parameter = inspect.signature(self.function).parameters.get(name)
        return parameter is not None and parameter.annotation == Snapshot | None

    def _call(self, project: Project, snapshots: Mapping[str, Snapshot], **special: Any) -> Any:
        absent = {i: None for i in self.inputs if self._is_optional(i)}
        return _inject(self.function, project, {**absent, **snapshots, **special})

    def _parts(self, result: Any) -> Iterator[tuple[str, pa.Table]]:
        table = self.table
        if isinstance(result, (pd.DataFrame, pa.Table)):
            yield from split_parts(table.conform(result), table.part_by)
            return
        for part, frame in result:
            yield part, table.conform(frame)

    def _metadata(self, project: Project, made: Produced, cost: Cost) -> dict[str, Any]:
        version = made.version
        report = project.lake.report(version)
        return {
            "dagster/row_count": version.rows,
            "version": version.id[:12],
            "reused": made.reused,
            **({"made again because of": made.because} if made.because else {}),
            **metadata.report_entries(report),
            **cost.as_metadata(),
            "megabytes": round(sum(f.bytes for f in version.files) / 1e6, 3),
            "dagster/column_schema": metadata.column_schema(
                self.table, [name for name, _ in version.schema]
            ),
            **metadata.lineage_entry(report.get("lineage", {})),
        }


def _together(files: Sequence[File], snapshot: Snapshot) -> Iterator[tuple[str, pa.Table]]:
    """Small parts side by side, as one: a suite costs more than its rows."""
    batch: list[File] = []
    for place, file in enumerate(files, start=1):
        batch.append(file)
        if sum(f.rows for f in batch) >= _AUDITED_TOGETHER or place == len(files):
            name = batch[0].part if len(batch) == 1 else f"{batch[0].part} … {batch[-1].part}"
            yield name, pa.concat_tables([snapshot.to_arrow(part=f.part) for f in batch])
            batch = []


def _changes(before: VersionKey, now: VersionKey) -> list[str]:
    """What differs between two keys, inputs by name."""
    parts = {
        "code": before.code != now.code,
        "settings": before.config != now.config,
        "libraries": before.libraries != now.libraries,
    }
    inputs = sorted({*before.inputs, *now.inputs})
    return [
        *(name for name, differs in parts.items() if differs),
        *(name for name in inputs if before.inputs.get(name) != now.inputs.get(name)),
    ]


def unit_of(part: str) -> str:
    """The piece that a part belongs to (see `Units`)."""
    return part.rsplit("@", 1)[0]


def approved_files(lake: Lake, asset: str) -> frozenset[File]:
    """Files of the approved version that were made, and passed, under a key of their own."""
    entry = lake.entries(asset).get("")
    if entry is None or entry.current is None:
        return frozenset()
    before = lake.intact(entry.current)
    return frozenset(f for f in before.files if f.key) if before else frozenset()


def proved_before(candidate: Snapshot, part: str) -> bool:
    """Whether a part is, byte for byte, one that passed under the same code, settings and inputs:
    then there is nothing to prove again."""
    passed = approved_files(candidate.lake, candidate.asset)
    files = [f for v in candidate.versions for f in v.files if f.part == part]
    return bool(files) and all(f in passed for f in files)


def _inject(function: Callable[..., Any], project: Project, given: Mapping[str, Any]) -> Any:
    """Call `function` with what its parameters ask for by name."""

    def asset(name: str) -> Any:
        if name in given:
            return given[name]
        tolerated = project.shop.partitions.tolerated
        return project.lake.read(name, tolerated_partitions=tolerated)

    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in given:
            arguments[name] = given[name]
        elif name == "shop":
            arguments[name] = project.shop
        elif name == "warehouse":
            arguments[name] = project.warehouse
        elif name == "project":
            arguments[name] = project
        elif (names := _assets_of(parameter)) != (name,):
            arguments[name] = {n: asset(n) for n in names}
        else:
            arguments[name] = asset(name)
    return function(**arguments)


def _assets_of(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The assets that a parameter asks for: those that its annotation names, else the one that is
    called like it."""
    metadata = getattr(parameter.annotation, "__metadata__", None)
    return metadata[0] if metadata else (parameter.name,)


@cache
def _library_hash() -> str:
    text = ",".join(f"{name}={library_version(name)}" for name in LIBRARIES)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def source_hash(module: str, more: tuple[str, ...] = (), sql: tuple[str, ...] = ()) -> str:
    """Hash of the source of `module`, of everything in this package it imports, and of SQL files.

    The imports are read from the source, transitively, so that a change in a helper changes the
    code version of every asset that uses it, and of no other.
    """
    todo, done = [module, *more], dict[str, bytes]()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).read_bytes()
        done[name] = source
        todo += imported_modules(source.decode())
    digest = hashlib.sha256()
    for name, source in sorted(done.items()):
        digest.update(name.encode() + b"\0" + source)
    for name in sorted(sql):
        digest.update(name.encode() + b"\0" + (sql_root() / f"{name}.sql").read_bytes())
    return digest.hexdigest()[:16]


_IMPORT = re.compile(
    r"^[ \t]*from[ \t]+(recsys_assets[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|.+)", re.MULTILINE
)


@cache
def imported_modules(source: str) -> frozenset[str]:
    """Modules of this package that a source imports, at its top or within a function.

    Read from the lines that start so, not from a syntax tree: every process that loads the graph
    does this for each file, and trees took a quarter of its start.
    """
    names: set[str] = set()
    for package, what in _IMPORT.findall(source):
        parts = re.sub(r"#.*", "", what).strip("()\n ").split(",")
        names |= {package, *(f"{package}.{part.split()[0]}" for part in parts if part.strip())}
    return frozenset(n for n in names if is_module(n))


@cache
def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
