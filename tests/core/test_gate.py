"""Poisoned data does not get past a gate, whichever way a run is started or cut short."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import dagster as dg
import pandas as pd
import pytest

from recsys_assets.core import assets
from recsys_assets.core.assets import CHECK, GatedAsset, Project, Report, table_asset
from recsys_assets.core.lake import Lake, LakeError, NotApprovedError, Snapshot, VersionKey
from recsys_assets.core.quality import Failure
from recsys_assets.core.tables import Column, Table
from tests.conftest import MINIMAL_SHOP

COLUMNS = (
    Column("id", "string", "Id"),
    Column("x", "float64", "A number", minimum=0, maximum=100),
)
ANY = Column("any", "float64", "Any number, or none", nullable=True)
NUMBERS = Table("numbers", (*COLUMNS, ANY), key=("id",))
DOUBLED = Table("doubled", COLUMNS, key=("id",))
DAILY = Table("daily", COLUMNS, key=("id",))

SOURCE = Path("source.json")


def source(shop: object) -> dict[str, list[float]]:
    return json.loads(Path(shop.resolve(str(SOURCE))).read_text())


def fingerprint(shop: object) -> str:
    return json.dumps(source(shop))


def explode_on_13(candidate: Snapshot) -> Iterator[Failure]:
    frame = candidate.to_pandas()
    if (frame["x"] == 13).any():
        raise ZeroDivisionError("the rule itself is wrong")
    yield from ()


@table_asset(NUMBERS, group="test", inputs_hash=fingerprint, rules=[explode_on_13])
def numbers(shop: object, report: Report) -> pd.DataFrame:
    values = source(shop)["numbers"]
    free = source(shop).get("any", values)
    report.numbers["calls"] = 1
    return pd.DataFrame({"id": [str(i) for i in range(len(values))], "x": values, "any": free})


@table_asset(DOUBLED, group="test")
def doubled(numbers: Snapshot) -> pd.DataFrame:
    frame = numbers.to_pandas(["id", "x"])
    return frame.assign(x=frame["x"] * 2)


@table_asset(
    DAILY,
    group="test",
    inputs_hash=fingerprint,
    partitions=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04"),
)
def daily(shop: object, days: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    for day in days:
        values = source(shop)[day]
        yield day, pd.DataFrame({"id": [f"{day}/{i}" for i in range(len(values))], "x": values})


@table_asset(Table("total", COLUMNS, key=("id",)), group="test")
def total(daily: Snapshot) -> pd.DataFrame:
    return pd.DataFrame({"id": ["total"], "x": [daily.to_pandas()["x"].sum()]})


def digests(shop: object) -> dict[str, str]:
    return {name: str(values) for name, values in source(shop).items()}


@table_asset(
    Table("pieces", COLUMNS, key=("id",)),
    group="test",
    config=("currency",),
    inputs_hash=fingerprint,
    units=digests,
    rules=[explode_on_13],
)
def pieces(shop: object, todo: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    for piece in todo:
        values = source(shop)[piece]
        ids = [f"{piece}{i}" for i in range(len(values))]
        yield piece, pd.DataFrame({"id": ids, "x": values})


@table_asset(
    Table("notes", (COLUMNS[0],), key=("id",)),
    group="test",
    names=["numbers"],
    always=lambda shop: shop.currency == "EUR",
)
def notes(named: dict[str, Snapshot]) -> pd.DataFrame:
    return pd.DataFrame({"id": [named["numbers"].version_id]})


@table_asset(Table("possible", COLUMNS, key=("id",)), group="test")
def possible(numbers: Snapshot | None) -> pd.DataFrame:
    return pd.DataFrame({"id": ["1"], "x": [numbers.to_pandas()["x"].sum() if numbers else 0.0]})


Several = Annotated[dict[str, Snapshot], ("numbers", "doubled")]


def is_their_sum(candidate: Snapshot, both: Several) -> Iterator[Failure]:
    if candidate.to_pandas()["x"].sum() != sum(s.to_pandas()["x"].sum() for s in both.values()):
        yield Failure("is not their sum")


@table_asset(Table("summed", COLUMNS, key=("id",)), group="test", rules=[is_their_sum])
def summed(several: Several) -> pd.DataFrame:
    rows = {name: table.to_pandas()["x"].sum() for name, table in several.items()}
    return pd.DataFrame({"id": list(rows), "x": list(rows.values())})


class Graph:
    """The mini graph over one project, driven the way Dagster drives it."""

    def __init__(self, project: Project, *more: GatedAsset) -> None:
        self.project = project
        self.instance = dg.DagsterInstance.ephemeral()
        gated = [numbers, doubled, daily, total, *more]
        self.defs = dg.Definitions(
            assets=[g.asset for g in gated],
            asset_checks=[g.check for g in gated],
            jobs=[dg.define_asset_job("everything", selection=dg.AssetSelection.all())],
            resources={"project": project},
            executor=dg.in_process_executor,
        )

    @property
    def lake(self) -> Lake:
        return self.project.lake

    def write(self, **values: list[float]) -> None:
        path = Path(self.project.shop_file).parent / SOURCE
        path.write_text(json.dumps({k.replace("_", "-"): v for k, v in values.items()}))

    def run(self, *assets: str, checks: bool = True, days: str | None = None) -> bool:
        selection = dg.AssetSelection.assets(*assets)
        if not checks:
            selection = selection - dg.AssetSelection.all_asset_checks()
        job = dg.define_asset_job("some", selection=selection)
        resolved = dg.Definitions(
            assets=self.defs.assets,
            asset_checks=self.defs.asset_checks,
            jobs=[job],
            resources=self.defs.resources,
            executor=dg.in_process_executor,
        ).resolve_job_def("some")
        tags = {}
        if days:
            first, last = days.split("...")
            tags = {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            }
        return resolved.execute_in_process(
            instance=self.instance, raise_on_error=False, tags=tags
        ).success

    def values(self, asset: str) -> list[float]:
        return self.lake.served(asset).to_pandas()["x"].tolist()


@pytest.fixture
def graph(project: Project) -> Graph:
    graph = Graph(project)
    graph.write(numbers=[1.0, 2.0])
    return graph


POISON = {
    "too large": {"numbers": [1.0, 200.0]},
    "infinite": {"numbers": [1.0, float("inf")]},
    "infinite where no limit is declared": {"numbers": [1.0, 2.0], "any": [1.0, float("inf")]},
    "nan": {"numbers": [1.0, float("nan")]},
    "empty": {"numbers": []},
}


@pytest.mark.parametrize("values", POISON.values(), ids=POISON.keys())
def test_poison_does_not_pass_in_one_run_nor_later_and_a_repair_goes_through(
    graph: Graph, values: dict[str, list[float]]
) -> None:
    assert graph.run("numbers", "doubled")
    assert graph.values("doubled") == [2.0, 4.0]
    graph.write(**values)
    assert not graph.run("numbers", "doubled")
    assert not graph.run("doubled"), "a later run of the consumer alone must be refused"
    assert graph.values("doubled") == [2.0, 4.0]
    assert graph.values("numbers") == [1.0, 2.0]
    graph.write(numbers=[5.0])
    assert graph.run("numbers", "doubled")
    assert graph.values("doubled") == [10.0]


def test_one_parameter_may_ask_for_several_assets(graph: Graph) -> None:
    assert graph.run("numbers", "doubled")
    assert summed.producer.inputs == ["numbers", "doubled"]
    version = summed.producer.produce(graph.project, "").version
    assert set(version.key.inputs) == {"numbers", "doubled"}
    assert summed.producer.judge(graph.project, "").passed
    rows = graph.lake.read("summed").to_pandas()
    assert dict(zip(rows["id"], rows["x"], strict=True)) == {"numbers": 3.0, "doubled": 6.0}


def test_the_refusal_says_which_check_failed_on_what(graph: Graph) -> None:
    graph.write(numbers=[200.0])
    assert not graph.run("numbers")
    with pytest.raises(NotApprovedError, match=r"numbers was rejected .* x: has maximum 200"):
        graph.lake.read("numbers")


def test_a_check_alone_on_what_was_rejected_says_that_it_repairs_nothing(graph: Graph) -> None:
    graph.write(numbers=[200.0])
    assert not graph.run("numbers")
    graph.write(numbers=[2.0])
    alone = numbers.producer.judge(graph.project, "a check alone")
    assert not alone.passed and "materialize it anew" in alone.note
    graph.write(numbers=[300.0])
    numbers.producer.produce(graph.project, "another")
    assert numbers.producer.judge(graph.project, "another").note == "", "this one is new"


def test_a_crash_between_write_and_check_leaves_consumers_refused(graph: Graph) -> None:
    assert graph.run("numbers", "doubled")
    graph.write(numbers=[200.0])
    assert graph.run("numbers", checks=False)  # wrote, then died before its check
    assert not graph.run("doubled")
    assert graph.values("doubled") == [2.0, 4.0]


def test_a_rejected_version_followed_by_a_crash_is_still_refused(graph: Graph) -> None:
    graph.write(numbers=[200.0])
    assert not graph.run("numbers")
    graph.write(numbers=[300.0])
    assert graph.run("numbers", checks=False)
    assert not graph.run("doubled")


def test_rematerializing_without_the_check_does_not_inherit_an_old_approval(graph: Graph) -> None:
    assert graph.run("numbers", "doubled")
    graph.write(numbers=[7.0])
    assert graph.run("numbers", checks=False)
    assert not graph.run("doubled")
    assert graph.run("numbers")  # the same version, now with its check
    assert graph.run("doubled")
    assert graph.values("doubled") == [14.0]


def test_a_broken_rule_fails_the_run_and_is_recorded_as_broken(graph: Graph) -> None:
    graph.write(numbers=[13.0])
    assert not graph.run("numbers")
    entry = graph.lake.entries("numbers")[""]
    assert entry.verdict == "broken"
    assert "ZeroDivisionError: the rule itself is wrong" in entry.reasons[0]
    assert not graph.run("doubled")


def test_a_run_that_names_no_days_is_told_how_to(graph: Graph) -> None:
    resources = {"project": graph.project}
    with pytest.raises(LakeError, match="daily is made by partitions and this run names none"):
        dg.materialize([daily.asset], instance=graph.instance, resources=resources)


def test_one_bad_day_among_good_ones(graph: Graph) -> None:
    graph.write(**{"2024_01_01": [1.0], "2024_01_02": [2.0], "2024_01_03": [4.0]})
    assert graph.run("daily", "total", days="2024-01-01...2024-01-03")
    assert graph.values("total") == [7.0]
    graph.write(**{"2024_01_01": [1.0], "2024_01_02": [200.0], "2024_01_03": [5.0]})
    assert not graph.run("daily", "total", days="2024-01-01...2024-01-03")
    entries = graph.lake.entries("daily")
    assert {d: e.verdict for d, e in entries.items()} == {
        "2024-01-01": "approved",
        "2024-01-02": "rejected",
        "2024-01-03": "approved",
    }
    assert not graph.run("total")
    assert graph.values("total") == [7.0]
    graph.write(**{"2024_01_01": [1.0], "2024_01_02": [3.0], "2024_01_03": [5.0]})
    assert graph.run("daily", days="2024-01-02...2024-01-02")
    assert graph.run("total")
    assert graph.values("total") == [9.0]


def test_an_unchanged_input_is_reused_and_a_changed_one_is_not(graph: Graph) -> None:
    assert graph.run("numbers", "doubled")
    before = graph.lake.entries("doubled")[""].current
    assert graph.run("numbers", "doubled")
    assert graph.lake.entries("doubled")[""].current == before
    assert said_of(graph, "doubled") == (True, None)
    graph.write(numbers=[3.0])
    assert graph.run("numbers", "doubled")
    assert graph.values("doubled") == [6.0]
    assert said_of(graph, "numbers") == (False, "settings"), "files outside count as settings"
    assert said_of(graph, "doubled") == (False, "numbers")


def test_what_a_run_left_behind_before_its_gate_is_judged_and_not_made_again(graph: Graph) -> None:
    assert graph.run("numbers", checks=False), "a run that ended before its gate"
    left = graph.lake.entries("numbers")[""]
    assert (left.current, left.verdict) == (None, "pending")
    assert graph.run("numbers")
    assert graph.lake.entries("numbers")[""].current == left.candidate
    assert said_of(graph, "numbers") == (True, None)
    graph.write(numbers=[3.0])
    assert graph.run("numbers", checks=False)
    graph.write(numbers=[4.0])
    assert graph.run("numbers")
    assert graph.values("numbers") == [4.0], "what is left of other inputs is not"


@pytest.mark.parametrize("approved", [False, True])
@pytest.mark.parametrize("lost", ["file", "manifest", "report"])
def test_what_is_damaged_is_made_again_and_not_judged_for_ever(
    graph: Graph, lost: str, approved: bool
) -> None:
    assert graph.run("numbers", checks=approved)
    version = graph.lake.candidates("numbers")[0]
    path = {
        "file": graph.lake.object_path(version.files[0].sha256, "parquet"),
        "manifest": graph.lake.root / "manifests" / f"{version.id}.json",
        "report": graph.lake.object_path(version.report, "json"),
    }[lost]
    path.unlink()
    assert graph.run("numbers")
    assert path.is_file()
    assert graph.values("numbers") == [1.0, 2.0]


def test_a_candidate_that_its_gate_could_not_read_is_made_again(graph: Graph) -> None:
    assert graph.run("numbers", checks=False)
    version = graph.lake.candidates("numbers")[0]
    path = graph.lake.object_path(version.files[0].sha256, "parquet")
    path.write_bytes(path.read_bytes()[::-1])
    assert not graph.run("numbers"), "as long as it was: only its gate sees it"
    assert graph.lake.entries("numbers")[""].verdict == "broken"
    assert graph.run("numbers")
    assert graph.values("numbers") == [1.0, 2.0]


def made(asset: GatedAsset, project: Project) -> str:
    """Make a table and have it judged; why it was made again, 'reused' if it was not."""
    found = asset.producer.produce(project, "")
    assert asset.producer.judge(project, "").passed
    return "reused" if found.reused else found.because


def test_what_is_made_by_pieces_is_made_again_piece_by_piece_or_whole(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.write(a=[1.0], b=[2.0])
    assert made(pieces, graph.project) == ""
    assert made(pieces, graph.project) == "reused"
    graph.write(a=[1.0], b=[3.0])
    assert made(pieces, graph.project) == "settings, 1 of 2 pieces"
    assert graph.values("pieces") == [1.0, 3.0]
    other = Path(graph.project.shop_file).with_name("other.yaml")
    other.write_text(MINIMAL_SHOP + "currency: EUR\n")
    project = Project(home=graph.project.home, shop_file=str(other))
    assert made(pieces, project) == "settings, 2 of 2 pieces"
    monkeypatch.setattr(type(pieces.producer), "code_version", lambda self: "other")
    assert made(pieces, project) == "code, 2 of 2 pieces"
    assets._library_hash.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(assets, "library_version", lambda name: f"{name} 0.1")
        assert made(pieces, project) == "libraries, 2 of 2 pieces"
    assets._library_hash.cache_clear()


def test_a_bad_piece_does_not_pass_however_often_its_gate_is_asked(graph: Graph) -> None:
    graph.write(a=[1.0], b=[2.0])
    made(pieces, graph.project)
    graph.write(a=[1.0], b=[200.0])
    for _ in range(2):
        pieces.producer.produce(graph.project, "")
        for _ in range(2):
            assert "has maximum 200" in str(pieces.producer.judge(graph.project, "").reasons)
    assert graph.values("pieces") == [1.0, 2.0]


def test_rules_look_at_a_table_of_which_some_pieces_passed_before(graph: Graph) -> None:
    graph.write(a=[1.0], b=[2.0])
    made(pieces, graph.project)
    graph.write(a=[1.0], b=[13.0])
    with pytest.raises(ZeroDivisionError):
        made(pieces, graph.project)


def test_what_passed_once_passes_again_only_under_a_key_that_holds_the_rules(graph: Graph) -> None:
    """A contract that has become stricter: the same bytes, made by other code."""
    table = NUMBERS.conform(pd.DataFrame({"id": ["1"], "x": [200.0], "any": [0.0]}))
    key = VersionKey(code="lax", config="", libraries="", inputs={})
    lake = graph.lake
    before = lake.store("numbers", [("", table)], key)
    lake.propose([before])
    lake.approve([before])
    lake.propose([lake.store("numbers", [("", table)], replace(key, code="strict"))])
    assert not numbers.producer.judge(graph.project, "").passed


def test_what_names_versions_is_made_again_for_another_version_of_equal_content(
    graph: Graph,
) -> None:
    made(numbers, graph.project)
    made(notes, graph.project)
    assert made(notes, graph.project) == "reused"
    lake = graph.lake
    (first,) = lake.candidates("numbers")
    again = replace(first.key, code="other")
    second = lake.store("numbers", [("", lake.of_version(first).to_arrow())], again)
    assert second.content_id == first.content_id
    lake.propose([second])
    lake.approve([second])
    assert made(notes, graph.project) == "numbers"
    assert lake.served("notes").to_pandas()["id"].tolist() == [second.id]


def test_what_acts_on_more_than_its_inputs_is_called_though_nothing_changed(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(graph.project.shop_file).with_name("other.yaml")
    other.write_text(MINIMAL_SHOP + "currency: EUR\n")
    project = Project(home=graph.project.home, shop_file=str(other))
    made(numbers, project)
    calls: list[str] = []
    monkeypatch.setattr(type(graph.lake), "store", counted(graph.lake, calls))
    for shop in (graph.project, graph.project, project, project):
        made(notes, shop)
    assert calls == ["notes"] * 3, "once for one shop, each time for the other"


def counted(lake: Lake, calls: list[str]) -> object:
    store = type(lake).store

    def one(self: Lake, asset: str, *args: object, **more: object) -> object:
        calls.append(asset)
        return store(self, asset, *args, **more)  # type: ignore[arg-type]

    return one


def test_an_optional_input_is_nothing_or_its_last_approved_state(graph: Graph) -> None:
    def known() -> list[float]:
        found = possible.producer.produce(graph.project, "")
        return graph.lake.of_version(found.version).to_arrow()["x"].to_pylist()

    assert known() == [0]
    made(numbers, graph.project)
    assert known() == [3]
    graph.write(numbers=[200.0])
    numbers.producer.produce(graph.project, "")
    assert known() == [3], "a newer one that is not approved"


def test_a_partition_that_was_asked_for_and_not_made_is_an_error(graph: Graph) -> None:
    empty = replace(daily.producer, function=lambda shop, days: iter(()))
    graph.write(**{"2024_01_01": [1.0]})
    with pytest.raises(LakeError, match="asked for 1 partitions, got 0"):
        empty.produce_partitions(graph.project, ["2024-01-01"], "")


def test_the_code_version_covers_helpers_of_helpers_and_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> SimpleNamespace | None:
        path = tmp_path / f"{name}.py"
        return SimpleNamespace(origin=str(path)) if path.exists() else None

    for name, imported in {"one": "two", "two": "three", "three": "nothing"}.items():
        text = f"def late():\n    from recsys_assets.cv_{imported} import x\n"
        (tmp_path / f"recsys_assets.cv_{name}.py").write_text(text)
    (tmp_path / "query.sql").write_text("SELECT 1")
    monkeypatch.setattr(assets, "find_spec", found)
    monkeypatch.setattr(assets, "sql_root", lambda: tmp_path)

    def version() -> str:
        assets.source_hash.cache_clear()
        return assets.source_hash("recsys_assets.cv_one", (), ("query",))

    versions = [version()]
    for changed in ("recsys_assets.cv_three.py", "query.sql"):
        (tmp_path / changed).write_text("SELECT 2")
        versions.append(version())
    assert len(set(versions)) == 3
    assets.source_hash.cache_clear()


def said_of(graph: Graph, asset: str) -> tuple[object, object]:
    """Whether the newest version was reused, and what it was made again because of, if so."""
    records = graph.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    metadata = records[0].asset_materialization.metadata
    because = metadata.get("made again because of")
    return metadata["reused"].value, because.value if because else None


def test_the_gate_of_an_asset_is_its_one_blocking_check(graph: Graph) -> None:
    asset_graph = graph.defs.resolve_asset_graph()
    keys = asset_graph.asset_check_keys
    assert {k.name for k in keys} == {CHECK}
    assert all(asset_graph.get(k).blocking for k in keys)
