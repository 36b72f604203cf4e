"""The arithmetic of the table of sizes, by hand."""

import pytest

from benchmarks.scale import exponent, growth_table, merged
from benchmarks.steps import Step


def test_what_was_made_earlier_keeps_its_numbers() -> None:
    before = {"a": Step(seconds=5.0), "b": Step(seconds=7.0), "c": Step(seconds=9.0)}
    now = {"a": Step(seconds=0.1, reused=True), "b": Step(seconds=8.0), "d": Step(reused=True)}
    found = merged(before, now)
    assert {name: step.seconds for name, step in found.items()} == {
        "a": 5.0, "b": 8.0, "c": 9.0, "d": 0.0
    }  # fmt: skip


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    assert exponent({1: 2.0, 10: 20.0}) == pytest.approx(1.0)
    assert exponent({1: 2.0, 3: 18.0}) == pytest.approx(2.0)
    assert exponent({1: 2.0}) is None


def test_together_counts_what_was_measured_at_every_size() -> None:
    one = {"a": Step(cpu_seconds=10.0), "b": Step(cpu_seconds=2.0)}
    ten = {"a": Step(cpu_seconds=60.0, gate_cpu_seconds=40.0)}
    line = next(t for t in growth_table({1: one, 10: ten}).splitlines() if "together" in t)
    assert line.split()[1:7] == ["0.0", "10.0", "0", "0.0", "100.0", "0"]
