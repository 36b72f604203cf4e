"""Is a release what it says it is? What a gate asks of the store before the release may be served.

Belongs here: counting, comparing samples, recall against exact search, golden queries. Does not
belong here: any store, Dagster, encoders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from recsys_assets.indexing.contract import Release, VectorIndex, Vectors, search
from recsys_assets.indexing.objects import EVERYTHING, Condition, Filter, Objects

LEAST_RECALL = 0.95
"""Recall@10 against exact search that a release must exceed, with and without filters."""

SAMPLE = 500
_ROWS_AT_ONCE = 100_000
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Golden:
    """A query whose answer is known: one of the first `within` hits must be among `expected`."""

    text: str
    vector: Vectors
    expected: frozenset[str]
    within: int = 10


@dataclass
class Findings:
    """Numbers for people, and what is wrong (empty = the release may be served)."""

    numbers: dict[str, float | int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def verify(
    index: VectorIndex,
    release: Release,
    objects: Objects,
    queries: Vectors,
    *,
    filters: Mapping[str, Filter],
    golden: Sequence[Golden] = (),
    seed: int = 0,
) -> Findings:
    """Compare what the store holds and answers with what `objects` say it must.

    `queries` are real ones, [m, d]. `filters`: name -> a filter whose recall is measured too.
    """
    found = Findings()
    stated = index.release(release.id)
    if stated != release:
        found.failures.append(f"the store describes release {release.id} as {stated}")
    count = index.count(release.id)
    found.numbers["objects"] = count
    if count != len(objects):
        found.failures.append(f"the store holds {count:,} objects, not {len(objects):,}")
    found.failures += _samples_differ(index, release.id, objects, seed)
    for name, where in {"": EVERYTHING, **filters}.items():
        label = f"recall@10 {name}".strip()
        value = recall(index, release.id, objects, queries, 10, where)
        found.numbers[label] = round(value, 4)
        if value <= LEAST_RECALL:
            found.failures.append(f"{label} is {value:.3f}, must exceed {LEAST_RECALL}")
    missed = [g.text for g in golden if not _answers(index, release.id, g)]
    found.numbers["golden queries"] = len(golden)
    found.failures += [f"golden query {text!r} does not find what it must" for text in missed]
    return found


def recall(
    index: VectorIndex,
    release_id: str,
    objects: Objects,
    queries: Vectors,
    k: int,
    where: Filter = EVERYTHING,
) -> float:
    """Share of the true best `k` that a search finds, over all queries.

    An object as near as the k-th best is as good: many items share a text, hence a vector. 1.0
    where nothing matches the filter.
    """
    rows = np.flatnonzero(matching_rows(objects, where))
    best = min(k, len(rows))
    if best == 0:
        return 1.0
    bound = _kth_best(objects.vectors, rows, queries.matrix, best)
    hits = index.nearest(release_id, queries, best, where)
    good = [
        sum(score >= limit - _TOLERANCE for score in line.scores[:best])
        for line, limit in zip(hits, bound, strict=True)
    ]
    return float(np.mean(good) / best)


def matching_rows(objects: Objects, where: Filter) -> npt.NDArray[np.bool_]:
    """Which objects meet the filter, decided value by value: a second opinion on every store."""
    keep = np.ones(len(objects), dtype=bool)
    for condition in where.conditions:
        values = objects.properties[condition.property].to_pylist()
        keep &= np.fromiter((_meets(v, condition) for v in values), dtype=bool, count=len(values))
    return keep


def _meets(value: Any, condition: Condition) -> bool:
    wanted: Any = condition.value
    if value is None:
        return False
    match condition.operator:
        case "equals":
            return bool(value == wanted)
        case "at_most":
            return bool(value <= wanted)
        case "at_least":
            return bool(value >= wanted)
        case "above":
            return bool(value > wanted)
        case "contains":
            return wanted in value
        case "one_of":
            return value in wanted


def _kth_best(
    matrix: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], queries: npt.NDArray, k: int
) -> npt.NDArray[np.float32]:
    """Per query the k-th largest dot product among `rows`, by comparing with all of them."""
    best = np.empty((len(queries), 0), dtype=np.float32)
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        scores = queries @ matrix[rows[first : first + _ROWS_AT_ONCE]].T
        top = min(k, scores.shape[1])
        part = np.partition(scores, scores.shape[1] - top, axis=1)[:, -top:]
        best = np.concatenate([best, part], axis=1)
    return np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k]


def _samples_differ(index: VectorIndex, release_id: str, objects: Objects, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(objects), min(SAMPLE, len(objects)), replace=False))
    sample = objects.take(rows)
    stored = index.fetch(release_id, sample.item_ids.to_pylist())
    if stored.item_ids != sample.item_ids.to_pylist():
        missing = sorted(set(sample.item_ids.to_pylist()) - set(stored.item_ids))
        return [f"{len(missing)} of {len(sample)} sampled objects are missing, e.g. {missing[:3]}"]
    problems = []
    changed = pc.not_equal(sample.hashes, stored.hashes).to_numpy(zero_copy_only=False)
    if changed.any():
        problems.append(f"{int(changed.sum())} of {len(sample)} sampled objects are outdated")
    far = ~np.isclose(sample.vectors, stored.vectors, atol=1e-6).all(axis=1)
    if far.any():
        problems.append(f"{int(far.sum())} of {len(sample)} sampled vectors differ")
    return problems


def _answers(index: VectorIndex, release_id: str, golden: Golden) -> bool:
    hits = search(index, release_id, text=golden.text, vector=golden.vector, k=golden.within)
    return any(item in golden.expected for item in hits.item_ids)
