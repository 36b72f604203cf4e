"""docs/faults.md names tests that exist, and every fault loop is in it."""

from tests.faults.__main__ import ROOT, defined, rows


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    named = {name for _, names in rows() for name in names}
    assert named - set(defined()) == set()
    assert all(names for _, names in rows())
    assert len(rows()) >= 19


def test_every_fault_loop_is_in_the_table() -> None:
    named = {name for _, names in rows() for name in names}
    loops = {
        name
        for name, path in defined().items()
        if path.is_relative_to(ROOT / "tests" / "faults") and path.name != "test_the_table.py"
    }
    assert loops - named == set()
