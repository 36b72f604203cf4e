"""`make faults`: run every test that docs/faults.md names, and every mutation of the product that
one of them must notice, and print the table as it came out."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table as Grid

from tests.faults.mutants import SAMPLED, mutants

NOTICED = "test_a_mutation_is_noticed"
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"


def rows() -> list[tuple[list[str], list[str]]]:
    """The table of docs/faults.md: (row, fault, injected how, what holds), names of tests."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].isdigit():
            found.append((cells[:4], re.findall(r"`(test_\w+)`", cells[4])))
    return found


def defined() -> dict[str, Path]:
    """Every test function and the file it is in."""
    return {
        name: path
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def main() -> int:
    where = defined()
    named = sorted({name for _, names in rows() for name in names})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        targets = [f"{where[name]}::{name}" for name in [*named, NOTICED]]
        subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "", "-rP", "--durations=10", "-n", "2",
             "--dist", "worksteal", f"--junitxml={report}", *targets, *sys.argv[1:]],
            cwd=ROOT, check=False,
        )  # fmt: skip
        tests: dict[str, list[bool]] = {}
        noticed: dict[str, bool] = {}
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name, _, parameter = case.attrib["name"].partition("[")
            good = not any(child.tag in ("failure", "error", "skipped") for child in case)
            if name == NOTICED:
                noticed[parameter.removesuffix("]")] = good
            else:
                tests.setdefault(name, []).append(good)
    grid = Grid(title="Faults")
    for heading in ("row", "fault", "injected how", "what holds", "seen", "mutations noticed"):
        grid.add_column(heading, overflow="fold")
    good = True
    for cells, names in rows():
        seen = [held for name in names for held in tests.get(name, [False])]
        carried = {SAMPLED.get(name, name) for name in names}
        caught = [noticed.get(m.why, False) for m in mutants() if carried & set(m.tests)]
        row_good = all(seen) and all(caught)
        good = good and row_good
        grid.add_row(*cells, f"{sum(seen)} of {len(seen)}", f"{sum(caught)} of {len(caught)}",
                     style="" if row_good else "red")  # fmt: skip
    Console(width=170).print(grid)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
