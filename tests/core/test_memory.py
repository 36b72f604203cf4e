"""What a step cost: its own peak, not the highest one before it."""

import sys
import time
import weakref

import numpy as np
import pyarrow as pa
import pytest

from dagster_project.runs import ALLOCATOR
from recsys_assets.core.memory import measured, release_memory

MEGABYTES = 200


def _allocate() -> None:
    np.ones(MEGABYTES * 2**20, dtype=np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak")
def test_the_peak_of_a_step_is_its_own_and_not_that_of_a_larger_step_before():
    with measured() as before:
        pass
    with measured() as large:
        _allocate()
    release_memory()
    with measured() as small:
        pass
    assert large.peak_megabytes > before.peak_megabytes + 0.9 * MEGABYTES
    assert small.peak_megabytes < before.peak_megabytes + 0.5 * MEGABYTES


def test_waiting_costs_seconds_but_no_seconds_of_a_processor():
    with measured() as cost:
        time.sleep(0.2)
    assert cost.seconds >= 0.2
    assert cost.cpu_seconds < 0.15


def test_a_step_that_fails_is_measured_up_to_its_failure():
    with pytest.raises(ValueError), measured() as cost:
        time.sleep(0.01)
        raise ValueError
    assert cost.seconds >= 0.01


def test_what_is_garbage_is_found_before_and_after_more_was_imported() -> None:
    class Node:
        other: "Node"

    for _ in range(2):
        node = Node()
        node.other, gone = node, weakref.ref(node)
        del node
        release_memory()
        assert gone() is None


def test_arrow_knows_the_allocator_that_runs_ask_for() -> None:
    """A build without it would go on with another, which holds more."""
    assert ALLOCATOR["ARROW_DEFAULT_MEMORY_POOL"] in pa.supported_memory_backends()
