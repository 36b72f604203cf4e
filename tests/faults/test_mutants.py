"""Every test that docs/faults.md names fails when what it protects is taken away."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.__main__ import defined, rows
from tests.faults.mutants import SAMPLED, THEMSELVES, Mutant, mutants


def test_every_test_of_the_table_has_a_mutation() -> None:
    named = {name for _, names in rows() for name in names}
    caught = {name for mutant in mutants() for name in mutant.tests}
    assert named - caught - THEMSELVES - set(SAMPLED) == set()
    assert set(SAMPLED.values()) <= caught | THEMSELVES
    assert THEMSELVES | set(SAMPLED) <= named
    whys = [mutant.why for mutant in mutants()]
    assert len(set(whys)) == len(whys)


@pytest.mark.parametrize("mutant", mutants(), ids=lambda m: m.why)
def test_a_mutation_is_of_the_product_and_up_to_date(mutant: Mutant) -> None:
    assert not mutant.file.startswith("tests/")
    assert mutant.places == 1, f"{mutant.file} has this {mutant.places} times: {mutant.old}"
    assert mutant.old != mutant.new
    assert set(mutant.tests) <= set(defined())


@pytest.mark.faults
@pytest.mark.parametrize("mutant", mutants(), ids=lambda m: m.why)
def test_a_mutation_is_noticed(mutant: Mutant) -> None:
    with TemporaryDirectory() as folder:  # not tmp_path, which is kept: a copy of the whole tree
        assert mutant.survivors(defined(), Path(folder)) == []
