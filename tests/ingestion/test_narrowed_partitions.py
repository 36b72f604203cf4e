"""A shop that changes which days or months it holds: nothing of the others is counted on."""

from pathlib import Path

import pytest
import time_machine

from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.ingestion import assets as ingestion
from recsys_assets.staging import assets as staging

DAYS = range(1, 8)


def shop(folder: Path, name: str, span: str) -> Project:
    (folder / "sales.csv").write_text(
        "user_id,item_id,event_time\n" + "".join(f"u{n},i1,2024-01-0{n}T10:00:00Z\n" for n in DAYS)
    )
    (folder / "items.csv").write_text("item_id,title\ni1,soup\n")
    (folder / name).write_text(
        f"name: s\nrepeats: true\npartitions: {{{span}}}\n"
        "source:\n  kind: files\n  interactions: {path: sales.csv, event_type: purchase}\n"
        "  items: {path: items.csv}\n"
    )
    return Project(home=str(folder / "home"), shop_file=str(folder / name))


def ingest(project: Project) -> list[int]:
    """Every table up to `interactions`, each through its gate; the days of what came out."""
    steps: list[GatedAsset] = [*ingestion.assets(project.shop), *staging.ASSETS]
    names = [s.table.name for s in steps]
    for step in steps[: names.index("interactions") + 1]:
        if step.table.name == "raw_interactions":
            keys = ingestion.partitions(project.shop).get_partition_keys()
            step.producer.produce_partitions(project, keys, "run")
        else:
            step.producer.produce(project, "run")
        verdict = step.producer.judge(project, "run")
        assert verdict.passed, (step.table.name, verdict.reasons)
        assert step.producer.stale(project) == [], "what the shop no longer has is not waited for"
    days = project.lake.read("interactions").to_pandas()["event_time"]
    return sorted(d.day for d in days)


@pytest.mark.parametrize(
    ("span", "left"),
    [
        ("granularity: day, start: 2024-01-04, end: 2024-01-08", [4, 5, 6, 7]),
        ("granularity: day, start: 2024-01-01, end: 2024-01-06", [1, 2, 3, 4, 5]),
        ("granularity: month, start: 2024-01-01, end: 2024-02-01", list(DAYS)),
    ],
    ids=["a later start", "an earlier end", "days become a month"],
)
def test_rows_of_partitions_that_the_shop_no_longer_has_are_not_counted(
    tmp_path: Path, span: str, left: list[int]
) -> None:
    first = "granularity: day, start: 2024-01-01, end: 2024-01-08"
    assert ingest(shop(tmp_path, "first.yaml", first)) == list(DAYS)
    assert ingest(shop(tmp_path, "then.yaml", span)) == left
    assert ingest(shop(tmp_path, "first.yaml", first)) == list(DAYS)


def test_days_that_were_over_stay_when_the_clock_is_set_back(tmp_path: Path) -> None:
    project = shop(tmp_path, "shop.yaml", "granularity: day, start: 2024-01-01")
    for moment in ("2024-01-09", "2024-01-04", "2024-01-09"):
        with time_machine.travel(f"{moment}T12:00:00Z"):
            assert ingest(project) == list(DAYS), moment
