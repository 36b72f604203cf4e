"""What is known at a cutoff does not depend on what came after it, byte for byte."""

from pathlib import Path

import pandas as pd

from recsys_assets.core.lake import Lake, part_name
from tests.end_to_end.conftest import ShopRun, write_shop

AS_OF_TABLES = (
    "als_factors", "candidates", "user_item_days", "item_features", "user_features",
    "user_item_features", "user_category_features", "store_item_features",
)  # fmt: skip
OF_PEOPLE = {"candidates", "user_features", "user_item_features", "user_category_features"}


def targets_of(lake: Lake) -> set[str]:
    """The names of the parts at which a target stands."""
    cutoffs = lake.read("cutoffs").to_pandas()
    return {part_name(m) for m in cutoffs.loc[cutoffs["target"].notna(), "as_of"]}


def test_cutting_the_log_at_a_cutoff_changes_no_byte_known_before_it(
    shop_run: ShopRun, sales: pd.DataFrame, products: pd.DataFrame, tmp_path: Path
) -> None:
    cut = sales[sales["at"] < "2017-12-04"]
    write_shop(tmp_path, cut, products)
    people = shop_run.folder / "people.csv"
    (tmp_path / "people.csv").write_bytes(people.read_bytes())
    other = ShopRun(tmp_path, tmp_path / "home")
    done = other.recsys("run", "--select", ",".join(f"*{t}_quality" for t in AS_OF_TABLES))
    assert done.returncode == 0, done.stdout + done.stderr
    compared = 0
    aims, ended = (targets_of(run.lake) for run in (shop_run, other))
    for table in AS_OF_TABLES:
        full = {f.part: f.sha256 for v in shop_run.lake.read(table).versions for f in v.files}
        past = {f.part: f.sha256 for v in other.lake.read(table).versions for f in v.files}
        shared = sorted(full.keys() & past.keys())
        if table in OF_PEOPLE:  # a target is made for everybody, a window for those who teach
            shared = [p for p in shared if (p in aims) == (p in ended)]
        assert "2017-12-04T00:00Z" in shared, table
        assert {p: full[p] for p in shared} == {p: past[p] for p in shared}, table
        compared += len(shared)
    assert compared >= 2 * len(AS_OF_TABLES)
