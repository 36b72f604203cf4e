"""The gates of the raw tables: judged by what a version was made from, and no row is lost."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.lake import Lake, Snapshot
from recsys_assets.core.quality import Failure
from recsys_assets.ingestion import assets
from recsys_assets.ingestion.source import SourceError
from recsys_assets.ingestion.tables import LANDED_ROWS, RAW_INTERACTIONS
from tests.stored import stored

HEADER = "user_id,item_id,event_time\n"
ENTITIES = (
    assets.raw_items, assets.raw_users, assets.raw_exposures, assets.raw_promotions,
    assets.onboarding_answers,
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two events of two days and two items, of a shop with daily partitions."""
    monkeypatch.setattr("recsys_assets.core.assets.release_memory", lambda: None)  # costs 0.1 s
    (tmp_path / "a.csv").write_text(HEADER + "u,x,2024-01-02\nv,y,2024-01-03\n")
    (tmp_path / "items.csv").write_text("item_id\nx\ny\n")
    (tmp_path / "shop.yaml").write_text(
        "name: s\nrepeats: true\npartitions: {granularity: day, start: 2024-01-01}\nsource:\n"
        "  kind: files\n  interactions: {path: '?.csv', event_type: purchase}\n"
        "  items: {path: items.csv}\n"
    )
    return Project(home=str(tmp_path / "home"), shop_file=str(tmp_path / "shop.yaml"))


def make(project: Project, asset: GatedAsset) -> list[str]:
    """Make and judge; the reasons for a refusal."""
    asset.producer.produce(project, "run")
    return asset.producer.judge(project, "run").reasons


def test_a_file_that_comes_between_the_landing_and_its_gate_is_for_the_next_run(
    project: Project, tmp_path: Path
) -> None:
    assets.landed_rows.producer.produce(project, "run")
    (tmp_path / "b.csv").write_text(HEADER + "w,x,2024-01-04\n")
    assert assets.landed_rows.producer.judge(project, "run").reasons == []
    assert make(project, assets.landed_rows) == []
    assert project.lake.read("landed_rows").rows == 3


def test_a_catalogue_that_comes_between_its_table_and_the_rejects_is_for_the_next_run(
    project: Project, tmp_path: Path
) -> None:
    assert [make(project, asset) for asset in ENTITIES] == [[]] * 5
    (tmp_path / "items.csv").write_text("item_id\nx\ny\nz\n")
    assert make(project, assets.rejected_entities) == []


def test_an_entity_row_that_is_neither_accepted_nor_refused_is_missed(project: Project) -> None:
    for asset in ENTITIES:
        make(project, asset)
    lake = project.lake
    items = lake.read("raw_items")
    version = lake.store(
        "raw_items", [("", items.to_arrow().slice(1))], replace(items.versions[0].key, code="bad"),
        report=items.report,
    )  # fmt: skip
    lake.propose([version])
    lake.approve([version])
    (reason,) = make(project, assets.rejected_entities)
    assert reason.startswith("files of items have 2 rows; accepted 1 + rejected 0 = 1")


@pytest.mark.parametrize("asset", [assets.raw_promotions, assets.rejected_entities])
def test_tables_made_of_promotions_know_the_sql_that_makes_them(asset: GatedAsset) -> None:
    with_sql = asset.producer.code_version()
    assert with_sql != replace(asset.producer, sql=()).code_version()
    assert asset.producer.sql == ("ingestion/complete_journey_promotions",)


def test_the_key_and_the_content_of_a_version_are_of_one_listing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = assets.landed_rows.producer
    keys = type(producer)._unit_keys

    def replaced_meanwhile(self: object, *given: object) -> dict[str, str]:
        found = keys(self, *given)  # type: ignore[arg-type]
        (tmp_path / "a.csv").write_text(HEADER + "evil,x,2024-01-02\n")
        return found

    monkeypatch.setattr(type(producer), "_unit_keys", replaced_meanwhile)
    with pytest.raises(SourceError, match="changed after it was listed"):
        producer.produce(project, "run")


def landed(lake: Lake, rows: int, days: dict[str, int]) -> Snapshot:
    """A version of `landed_rows` made from a file of `rows` rows, of which so many landed a day."""
    event = {"batch": "b", "file": "a.csv"}
    parts = {"a.csv@": 0, **{f"a.csv@{day}": n for day, n in days.items()}}
    tables = {
        part: pa.Table.from_pylist([event] * n, schema=LANDED_ROWS.arrow_schema())
        for part, n in parts.items()
    }
    report = {"files": {"interactions": [("a.csv", "sha", rows), ("kept.csv", "sha", None)]}}
    return stored(lake, "landed_rows", tables, report=report)


def test_a_row_that_did_not_land_is_missed(tmp_path: Path) -> None:
    failures = assets._every_row_landed(landed(Lake(tmp_path), 3, {"2024-01-02": 2}))
    assert [f.rule for f in failures] == [
        "a.csv has 3 rows, 2 landed",
        "nothing landed of kept.csv",
    ]


def of_day(lake: Lake, day: str, *times: str) -> Snapshot:
    moments = pa.array(times).cast(pa.timestamp("us", "UTC"))
    names = {f.name: pa.nulls(len(times), f.type) for f in RAW_INTERACTIONS.arrow_schema()}
    table = pa.table(names | {"event_time": moments})
    return stored(lake, "raw_interactions", table, partition=day)


def test_a_day_that_lacks_a_row_or_holds_one_of_another_day_is_refused(project: Project) -> None:
    lake = project.lake
    source = landed(lake, 2, {"2024-01-02": 2})

    def failures(*times: str) -> Iterator[Failure]:
        made = of_day(lake, "2024-01-02", *times)
        return assets.raw_interactions(project.shop).producer.rules[0](made, source, project.shop)

    good = "2024-01-02T10:00:00Z"
    assert list(failures(good, good)) == []
    (lost,) = failures(good)
    assert lost.rule == "partition 2024-01-02 has 1 rows, the source has 2 acceptable ones"
    (stray,) = failures(good, "2024-01-03T10:00:00Z")
    assert (stray.rule, stray.rows) == ("rows outside partition 2024-01-02", 1)
