"""docs/faults.md names tests that exist, and every fault loop is in it."""

import re

from tests.faults.__main__ import ROOT, defined, rows


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    named = {name for _, names in rows() for name in names}
    assert named - set(defined()) == set()
    assert all(names for _, names in rows())
    assert len(rows()) >= 19


def test_every_fault_loop_is_in_the_table() -> None:
    named = {name for _, names in rows() for name in names}
    marked = re.compile(r"@pytest\.mark\.faults\n(?:@.*\n)*def (test_\w+)")
    loops = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in marked.findall(path.read_text(encoding="utf-8"))
    }
    assert len(loops) >= 7
    assert loops - named == {"test_a_mutation_is_noticed"}, "which tests the tests of the table"
