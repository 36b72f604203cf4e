"""Exports are safe to open, and the README's table is what the scoreboard says."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from dagster_project import show
from recsys_assets.core.lake import Lake, LakeError, VersionKey

KEY = VersionKey(code="", config="", libraries="", inputs={})


def stored(tmp_path: Path, asset: str, frame: pd.DataFrame) -> Lake:
    lake = Lake(tmp_path / "lake")
    version = lake.store(asset, [("", pa.Table.from_pandas(frame, preserve_index=False))], KEY)
    lake.propose([version])
    lake.approve([version])
    return lake


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx"])
def test_a_cell_that_a_spreadsheet_would_run_is_neutralised(tmp_path: Path, cell: str) -> None:
    lake = stored(tmp_path, "items", pd.DataFrame({"title": [cell, "milk"]}))
    show.export(lake, "items", tmp_path / "items.csv")
    assert pa_csv.read_csv(tmp_path / "items.csv")["title"].to_pylist() == [f"'{cell}", "milk"]


def test_parquet_exports_keep_texts_as_they_are(tmp_path: Path) -> None:
    lake = stored(tmp_path, "items", pd.DataFrame({"title": ["=1", "007"]}))
    show.export(lake, "items", tmp_path / "items.parquet")
    assert pd.read_parquet(tmp_path / "items.parquet")["title"].tolist() == ["=1", "007"]


def test_another_file_type_is_refused_with_the_remedy(tmp_path: Path) -> None:
    lake = stored(tmp_path, "items", pd.DataFrame({"title": ["x"]}))
    with pytest.raises(LakeError, match=r"\.parquet or \.csv"):
        show.export(lake, "items", tmp_path / "items.xlsx")


def test_the_markdown_table_replaces_only_what_is_between_the_marks(tmp_path: Path) -> None:
    rows = [("ours", "all", 0.4321), ("ours", "new", 0.06), ("popularity_7d", "all", 0.15)]
    board = pd.DataFrame(
        [
            {"target": "evaluate", "task": task, "model": model, "baseline": "", "slice": "all",
             "metric": "ndcg@10", "value": value}
            for model, task, value in rows
        ]
    )  # fmt: skip
    lake = stored(tmp_path, "scoreboard", board)
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- scoreboard:start -->\nold\n<!-- scoreboard:end -->\nz\n")
    show.write_into_markdown(lake, readme)
    text = readme.read_text()
    assert text.startswith("a\n") and text.endswith("z\n") and "old" not in text
    assert "| **ours** | 0.4321 |  | 0.0600 |  |" in text
    assert "| popularity_7d | 0.1500 |  |  |  |" in text
