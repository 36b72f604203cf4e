"""What the tests of docs/faults.md are worth: each must fail when what it protects is taken away.

A mutant is one text of the product replaced by another in a copy of the whole tree. The tests it
names are run on the copy, and every one of them must fail (not: be unable to start). The mutants
themselves are listed in `tests/data/mutants/*.toml`, one table per mutant:

    [[mutant]]
    why = "what the product would do"
    file = "recsys_assets/core/lake.py"
    old = "..."       # found exactly once in the file
    new = "..."
    tests = ["test_that_must_fail"]
    tries = 1        # more where two processes have to meet by chance: one failure is enough
"""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "data" / "mutants"
COPIED = ("recsys_assets", "dagster_project", "sql", "tests", "docs", "benchmarks",
          "pyproject.toml", "workspace.yaml", "Makefile", "README.md")  # fmt: skip

THEMSELVES = {
    "test_a_reader_that_drops_a_row_or_takes_a_bad_one_would_be_noticed",
    "test_a_sabotage_whose_guard_is_taken_away_would_be_noticed",
    "test_a_program_that_reads_something_else_would_be_noticed",
    "test_files_that_are_not_hashed_when_they_are_read_would_be_noticed",
    "test_the_checker_sees_a_pointer_that_is_not_replaced_in_one_step",
    "test_the_checker_sees_every_kind_of_damage_it_is_there_for",
    "test_without_its_rule_a_plant_gets_through",
    "test_a_store_that_is_left_out_is_found_by_the_search",
}
"""Tests that take a guard away and look whether that is noticed: mutations already."""

SAMPLED = {
    "test_a_publish_cut_at_every_system_call_is_finished_by_the_next":
        "test_a_publish_cut_at_a_sample_of_its_system_calls_is_finished_by_the_next",
    "test_a_publish_killed_at_a_hundred_random_moments_is_finished_by_the_next":
        "test_a_publish_cut_at_a_sample_of_its_system_calls_is_finished_by_the_next",
    "test_a_publish_with_any_amount_of_memory_is_finished_by_the_next":
        "test_a_publish_cut_at_a_sample_of_its_system_calls_is_finished_by_the_next",
    "test_two_publishes_at_once_end_in_one_result_a_hundred_times":
        "test_two_publishes_at_once_end_in_one_result",
    "test_a_clock_that_jumps_anywhere_in_a_publish_changes_nothing":
        "test_a_clock_that_jumps_back_a_day_in_a_publish_changes_nothing",
    "test_a_hundred_thousand_malformed_inputs_are_accepted_or_refused_one_by_one":
        "test_a_sample_of_malformed_inputs_is_accepted_or_refused_row_by_row",
    "test_ten_thousand_altered_files_are_refused": "test_a_sample_of_altered_files_is_refused",
    "test_forget_killed_at_every_step_is_finished_by_the_next":
        "test_forget_killed_at_a_sample_of_its_steps_is_finished_by_the_next",
    "test_thirty_sabotaged_models_are_refused_each_by_its_guard":
        "test_a_sabotage_whose_guard_is_taken_away_would_be_noticed",
    "test_of_thirty_equal_retrains_at_most_two_are_refused":
        "test_of_three_equal_retrains_at_most_two_are_refused",
}  # fmt: skip
"""Long loop -> the test that does the same, with the same checker, at fewer places."""


@dataclass(frozen=True)
class Mutant:
    """One text of the product replaced by another, and the tests that must notice."""

    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    tries: int = 1

    @property
    def places(self) -> int:
        """How often the text is found: one, or the mutant is out of date."""
        return (ROOT / self.file).read_text(encoding="utf-8").count(self.old)

    def survivors(self, where: dict[str, Path], folder: Path) -> list[str]:
        """Copy the tree to `folder`, change it, run the tests there: those that did not fail.

        `where` is the file of every test. A test that failed before it began (an import, a
        fixture of another file) is a survivor too: it says nothing.
        """
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        changed = folder / self.file
        text = changed.read_text(encoding="utf-8")
        changed.write_text(text.replace(self.old, self.new), encoding="utf-8")
        left = list(self.tests)
        for _ in range(self.tries):
            left = self._survivors([f"{where[name].relative_to(ROOT)}::{name}" for name in left],
                                   folder)  # fmt: skip
            if not set(left) & set(self.tests):  # none is left, or pytest did not run
                break
        return left

    @staticmethod
    def _survivors(targets: list[str], folder: Path) -> list[str]:
        report = folder / "report.xml"
        report.unlink(missing_ok=True)
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "0", "-m", "", f"--junitxml={report}",
             "-p", "no:cacheprovider", *targets],
            cwd=folder, check=False, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        if not report.exists():
            return [f"pytest did not run: {run.stdout[-2000:]}{run.stderr[-2000:]}"]
        failed = {
            case.attrib["name"].partition("[")[0]
            for case in ElementTree.parse(report).getroot().iter("testcase")
            if any(child.tag == "failure" for child in case)
        }
        names = [target.partition("::")[2] for target in targets]
        return [name for name in names if name not in failed]


def mutants() -> list[Mutant]:
    """All mutants, by file."""
    return [
        Mutant(**{**entry, "tests": tuple(entry["tests"])})
        for path in sorted(FOLDER.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    ]
