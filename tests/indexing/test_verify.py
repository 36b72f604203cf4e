"""A release that is not what it says it is does not pass its verification."""

from pathlib import Path

import numpy as np
import pytest

from recsys_assets.indexing.contract import Hits, Vectors
from recsys_assets.indexing.embedded import EmbeddedIndex
from recsys_assets.indexing.objects import EVERYTHING, Filter
from recsys_assets.indexing.verify import Findings, Golden, matching_rows, recall, verify
from tests.indexing import shop
from tests.indexing.shop import query, release_of

OBJECTS = shop.crowd(300)
QUERIES = query(*shop.directions(20, seed=3))


@pytest.fixture
def index(tmp_path: Path) -> EmbeddedIndex:
    index = EmbeddedIndex(tmp_path)
    index.build(release_of(OBJECTS), OBJECTS)
    return index


def findings(
    index: EmbeddedIndex, objects: shop.Objects = OBJECTS, golden: tuple[Golden, ...] = ()
) -> Findings:
    filters = {"of row 3": Filter(category="row 3")}
    return verify(index, release_of(OBJECTS), objects, QUERIES, filters=filters, golden=golden)


def test_a_sound_release_passes_with_its_figures(index: EmbeddedIndex) -> None:
    near = query(OBJECTS.vectors[5])
    found = findings(index, golden=(Golden("thing number 5", near, frozenset({"i00005"})),))
    assert found.failures == []
    assert found.numbers == {
        "objects": 300, "recall@10": 1.0, "recall@10 of row 3": 1.0, "golden queries": 1,
    }  # fmt: skip


def test_a_missing_object_is_noticed(index: EmbeddedIndex) -> None:
    found = findings(index, shop.crowd(301))
    assert "the store holds 300 objects, not 301" in found.failures
    assert any("i00300" in failure for failure in found.failures)


def test_an_outdated_object_is_noticed(index: EmbeddedIndex) -> None:
    found = findings(index, shop.crowd(300, changed=[7]))
    assert "1 of 300 sampled objects are outdated" in found.failures
    assert "1 of 300 sampled vectors differ" in found.failures


def test_a_search_that_misses_the_nearest_is_noticed(
    index: EmbeddedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = index.nearest

    def lossy(release: str, queries: Vectors, k: int, where: Filter = EVERYTHING) -> list[Hits]:
        return [
            Hits(h.item_ids[1:], h.scores[1:]) if where.category else h
            for h in real(release, queries, k, where)
        ]

    monkeypatch.setattr(index, "nearest", lossy)
    assert findings(index).failures == ["recall@10 of row 3 is 0.900, must exceed 0.95"]


def test_a_golden_query_that_goes_astray_is_named(index: EmbeddedIndex) -> None:
    golden = Golden("helicopter", query(OBJECTS.vectors[0]), frozenset({"not there"}))
    failures = findings(index, golden=(golden,)).failures
    assert failures == ["golden query 'helicopter' does not find what it must"]


def test_as_near_as_the_tenth_is_as_good_as_the_tenth(tmp_path: Path) -> None:
    vectors = np.repeat(shop.directions(4), 30, axis=0)
    objects = shop.make([f"i{n:03d}" for n in range(120)], vectors)
    index = EmbeddedIndex(tmp_path)
    release = release_of(objects)
    index.build(release, objects)
    assert recall(index, release.id, objects, query(vectors[0]), 10) == 1.0


def test_a_filter_is_judged_value_by_value() -> None:
    shelf = shop.shelf()
    rows = matching_rows(shelf, Filter(category="pasta", max_price=3.0, market="AT"))
    assert [i for i, keep in zip(shelf.item_ids.to_pylist(), rows, strict=True) if keep] == [
        "pasta-1",
        "pasta-3",
    ]
