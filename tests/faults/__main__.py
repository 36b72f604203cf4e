"""`make faults`: run every test that docs/faults.md names, and print its table as it came out."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table as Grid

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
        targets = [f"{where[name]}::{name}" for name in named]
        subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "", "-rP", "--durations=10", "-n", "2",
             "--dist", "worksteal", f"--junitxml={report}", *targets, *sys.argv[1:]],
            cwd=ROOT, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(report).getroot().iter("testcase")
        outcome: dict[str, list[str]] = {}
        for case in cases:
            name = case.attrib["name"].partition("[")[0]
            bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            outcome.setdefault(name, []).append(bad[0] if bad else "passed")
    grid = Grid(title="Faults")
    for heading in ("row", "fault", "injected how", "what holds", "seen"):
        grid.add_column(heading, overflow="fold")
    good = True
    for cells, names in rows():
        found = [o for name in names for o in outcome.get(name, ["not run"])]
        passed = found.count("passed")
        good = good and passed == len(found)
        grid.add_row(
            *cells, f"{passed} of {len(found)}", style="" if passed == len(found) else "red"
        )
    Console(width=160).print(grid)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
