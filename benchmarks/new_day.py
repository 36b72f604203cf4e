"""What one more day of events costs, asset by asset: `python -m benchmarks.new_day FOLDER`.

Builds a small shop (150 households of the default data) without its last day, runs it, delivers the
day as a new file, and runs again. Prints seconds of both runs; "kept" where nothing was computed.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end import conftest as small

LINE = re.compile(r"^\s+(\w+)\s+[\d,]* rows\s+(?:([\d.]+) s|unchanged)", re.MULTILINE)


def run(folder: Path) -> dict[str, float]:
    """Asset -> seconds of one `recsys run`; 0 for what was reused whole."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "dagster_project.cli", "run"],
        cwd=small.ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "RECSYS_HOME": str(folder / "home"), "COLUMNS": "200",
             "RECSYS_SHOP": str(folder / "shop.yaml")},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return {name: float(seconds or 0) for name, seconds in LINE.findall(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to build the shop and its state")
    folder = parser.parse_args().folder
    sales = small.sales.__wrapped__()
    products = small.products.__wrapped__(sales)
    last = sales["at"].str.slice(0, 10).max()
    small.write_shop(folder, sales[sales["at"] < last], products)
    first = run(folder)
    sales[sales["at"] >= last].to_csv(folder / "sales_new_day.csv", index=False)
    second = run(folder)
    print(f"{'asset':<28}{'first':>9}{'one more day':>14}{'share':>8}")
    for name, seconds in first.items():
        again = second.get(name, 0.0)
        share = f"{again / seconds:.0%}" if seconds and again else "kept" if not again else ""
        print(f"{name:<28}{seconds:>9.1f}{again:>14.1f}{share:>8}")
    total, more = sum(first.values()), sum(second.values())
    print(f"{'all':<28}{total:>9.1f}{more:>14.1f}{more / total:>8.0%}")


if __name__ == "__main__":
    main()
