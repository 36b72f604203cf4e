"""A recipe goes back to earlier data without touching what is there now."""

import json
from pathlib import Path

import pandas as pd
import pytest

from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.garbage import garbage
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.tables import Column, Table
from recsys_assets.publishing import manifest
from recsys_assets.publishing.refit import RefitError, refit
from recsys_assets.publishing.releases import Manifest

COLUMNS = (Column("id", "string", "Id"), Column("x", "float64", "A number", maximum=100))


def rows(value: float) -> pd.DataFrame:
    return pd.DataFrame({"id": ["a"], "x": [value]})


@table_asset(
    Table("source", COLUMNS, key=("id",)),
    group="test",
    inputs_hash=lambda project: Path(project.home, "source.json").read_text(),
)
def source(project: Project) -> pd.DataFrame:
    return rows(json.loads(Path(project.home, "source.json").read_text()))


@table_asset(Table("doubled", COLUMNS, key=("id",)), group="test")
def doubled(source: Snapshot, report: Report) -> pd.DataFrame:
    return rows(2 * source.to_pandas()["x"].iloc[0])


@table_asset(Table("seeded", COLUMNS, key=("id",)), group="test", config=("seed",))
def seeded(doubled: Snapshot, shop: Shop) -> pd.DataFrame:
    return rows(doubled.to_pandas()["x"].iloc[0] + shop.seed)


CHAIN: list[GatedAsset] = [source, doubled, seeded]


def make(project: Project, value: float) -> Manifest:
    """The chain from source to end, with its manifest."""
    home = Path(project.home)
    home.mkdir(exist_ok=True)
    (home / "source.json").write_text(json.dumps(value))
    for gated in CHAIN:
        gated.producer.produce(project, "run")
        assert gated.producer.judge(project, "run").passed
    named = {g.table.name: project.lake.read(g.table.name) for g in CHAIN}
    return Manifest.read("earlier-release", pd.DataFrame(manifest.table_rows(named)))


def with_seed(project: Project, seed: int) -> Project:
    """The same project under a shop file with another seed."""
    path = Path(project.shop_file).with_name(f"shop_{seed}.yaml")
    path.write_text(Path(project.shop_file).read_text() + f"seed: {seed}\n")
    return Project(home=project.home, shop_file=str(path))


def test_present_settings_meet_earlier_data_and_present_tables_stay(project: Project) -> None:
    earlier = make(project, 10)
    make(project, 20)
    changed = with_seed(project, 1000)
    before = {a: project.lake.entries(a) for a in project.lake.assets()}
    with pytest.raises(RefitError, match="seeded failed its check there"):
        refit(changed, [doubled, seeded], earlier, "run")
    changed = with_seed(project, 5)
    found = refit(changed, [doubled, seeded], earlier, "run")
    assert found.to_pandas()["x"].tolist() == [2 * 10 + 5]
    assert before == {a: project.lake.entries(a) for a in project.lake.assets()}


def test_steps_that_come_out_the_same_are_reused_and_nothing_is_left_behind(
    project: Project,
) -> None:
    earlier = make(project, 10)
    make(project, 20)
    files = set((project.lake.root / "objects").glob("*/*"))
    same = refit(project, [doubled, seeded], earlier, "run")
    assert same.versions[0].id == earlier.tables["seeded"][0]
    assert set((project.lake.root / "objects").glob("*/*")) == files
    assert not list((Path(project.home) / "refit").iterdir())


def test_a_refit_that_was_cut_short_starts_over_and_arrives(project: Project) -> None:
    earlier = make(project, 10)
    with pytest.raises(RefitError):
        refit(with_seed(project, 1000), [doubled, seeded], earlier, "run")
    protected = {v for ids in earlier.tables.values() for v in ids}
    garbage(project.lake, protected).remove()  # the night between: what no pointer names is gone
    found = refit(with_seed(project, 6), [doubled, seeded], earlier, "run")
    assert found.to_pandas()["x"].tolist() == [26]
