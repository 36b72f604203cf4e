"""Every vector index behaves the same: one suite, every store.

The embedded index always runs, and so does the Weaviate code against an in-process server that
speaks its protocol. Against a real server it runs when WEAVIATE_URL is set (with WEAVIATE_GRPC_PORT
and WEAVIATE_API_KEY where needed): `make test-weaviate`.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_assets.indexing.contract import (
    Hits,
    UnknownReleaseError,
    VectorIndex,
    VectorIndexError,
    WrongModelError,
    fuse,
    search,
)
from recsys_assets.indexing.embedded import EmbeddedIndex
from recsys_assets.indexing.objects import Filter, FilterError
from recsys_assets.indexing.weaviate import WeaviateIndex
from tests.indexing import shop
from tests.indexing.fake_weaviate import FakeWeaviate
from tests.indexing.shop import query, release_of

URL = "WEAVIATE_URL"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeWeaviate]:
    with FakeWeaviate() as server:
        yield server


STORES = [
    "embedded",
    "fake",
    *([pytest.param("weaviate", marks=pytest.mark.weaviate)] if os.environ.get(URL) else []),
]


@pytest.mark.weaviate
def test_this_suite_also_runs_against_a_real_weaviate_server() -> None:
    if not os.environ.get(URL):
        pytest.skip(f"{URL} is not set: nothing was tested against a real Weaviate server")


@pytest.fixture(params=STORES)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorIndex]:
    name = f"contract_test_{uuid.uuid4().hex[:8]}"
    match request.param:
        case "embedded":
            index: VectorIndex = EmbeddedIndex(tmp_path / "index")
        case "fake":
            server: FakeWeaviate = request.getfixturevalue("server")
            index = WeaviateIndex(server.url, server.grpc_port, None, name)
        case _:
            port = int(os.environ.get("WEAVIATE_GRPC_PORT") or 50051)
            key = os.environ.get("WEAVIATE_API_KEY")
            index = WeaviateIndex(os.environ[URL], port, key, name)
    yield index
    if isinstance(index, WeaviateIndex):
        index.clear()
    index.close()


def built(index: VectorIndex, objects: shop.Objects) -> str:
    release = release_of(objects)
    index.build(release, objects)
    return release.id


FIRST_AXIS = shop.axes(6)[0]


def test_what_was_built_can_be_counted_and_read_back(index: VectorIndex) -> None:
    objects = shop.shelf()
    release = release_of(objects, items="v1", text_embeddings="v2")
    made = index.build(release, objects)
    assert (made.written, made.deleted, made.unchanged) == (6, 0, 0)
    assert index.releases() == [release]
    assert index.release(release.id) == release
    assert index.count(release.id) == 6
    stored = index.fetch(release.id, ["soap-1", "bread-1", "not there"])
    assert stored.item_ids == ["bread-1", "soap-1"]
    assert stored.hashes == [objects.hashes[0].as_py(), objects.hashes[5].as_py()]
    assert np.allclose(stored.vectors, objects.vectors[[0, 5]], atol=1e-6)


def test_building_the_same_release_again_does_nothing(index: VectorIndex) -> None:
    objects = shop.shelf()
    index.build(release_of(objects), objects)
    again = index.build(release_of(objects), objects)
    assert (again.written, again.deleted, again.unchanged) == (0, 0, 6)


def test_the_nearest_come_in_order_with_their_dot_products(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    hits = index.nearest(release, query(FIRST_AXIS), 3)[0]
    assert hits.item_ids == ["pasta-1", "pasta-2", "pasta-3"]
    assert np.allclose(hits.scores, np.cos(np.linspace(0, np.pi / 2, 6))[:3], atol=1e-5)


def test_several_queries_get_one_list_each(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    both = index.nearest(release, query(FIRST_AXIS, shop.axes(6)[5]), 1)
    assert [hits.item_ids for hits in both] == [["pasta-1"], ["soap-1"]]


def test_more_hits_than_objects_are_all_objects(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    assert len(index.nearest(release, query(FIRST_AXIS), 100)[0]) == 6


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"category": "pasta"}, "pasta-1 pasta-2 pasta-3"),
        ({"category": "Grocery"}, "pasta-1 pasta-2 pasta-3 sauce-1"),
        ({"category": "past"}, ""),
        ({"brand": "BARILLA"}, "pasta-1 pasta-2 sauce-1"),
        ({"brand": "schär"}, "bread-1"),
        ({"group": "g1"}, "pasta-1 pasta-2"),
        ({"max_price": 2.5}, "pasta-1 pasta-3"),
        ({"min_price": 3, "max_price": 4}, "bread-1 sauce-1"),
        ({"market": "AT"}, "bread-1 pasta-1 pasta-2 pasta-3 sauce-1"),
        ({"min_popularity": 5}, "pasta-3 sauce-1"),
        ({"warm": False}, "soap-1"),
        ({"fresh_since": 4000}, "bread-1 soap-1"),
        ({"category": "pasta", "max_price": 2.0}, "pasta-3"),
    ],
    ids=str,
)
def test_filters_hold_for_vectors(index: VectorIndex, where: dict[str, Any], expected: str) -> None:
    release = built(index, shop.shelf())
    hits = index.nearest(release, query(FIRST_AXIS), 6, Filter(**where))[0]
    assert sorted(hits.item_ids) == expected.split()


def test_filters_hold_for_words(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    assert index.matching(release, "gluten", 6, Filter(category="bread")).item_ids == ["bread-1"]
    assert index.matching(release, "gluten", 6, Filter(brand="dove")).item_ids == []


def test_availability_is_judged_at_the_asked_moment(index: VectorIndex) -> None:
    objects = shop.shelf(
        active={"pasta-1": False}, available_from={"pasta-2": 100}, available_to={"pasta-3": 100}
    )
    release = built(index, objects)

    def offered(at: int) -> set[str]:
        hits = index.nearest(
            release, query(FIRST_AXIS), 3, Filter(category="pasta", available_at=at)
        )
        return set(hits[0].item_ids)

    assert offered(99) == {"pasta-3"}
    assert offered(100) == {"pasta-2"}


def test_words_find_texts_and_rare_words_weigh_more(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    assert index.matching(release, "spaghetti", 6).item_ids == ["pasta-3"]
    assert index.matching(release, "GLUTEN-free: bread!", 6).item_ids[0] == "bread-1"
    assert set(index.matching(release, "gluten", 6).item_ids) == {"pasta-1", "pasta-2", "bread-1"}
    assert index.matching(release, "helicopter", 6).item_ids == []
    assert index.matching(release, "?!", 6).item_ids == []


def test_hybrid_prefers_what_both_searches_find(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    near_soap = query(shop.axes(6)[4])  # bread-1, then soap-1 and sauce-1
    hits = search(index, release, text="gluten free", vector=near_soap, k=3)
    assert hits.item_ids[0] == "bread-1"
    assert hits.scores == sorted(hits.scores, reverse=True)


def test_fusion_adds_the_share_of_the_best_match_of_words_to_the_cosine() -> None:
    fused = fuse({"a": 0.9, "b": 0.8, "c": 0.5}, Hits(["b", "c"], [8.0, 6.0]), 3)
    assert fused.item_ids == ["b", "a", "c"]
    assert np.allclose(fused.scores, [0.8 + 0.3, 0.9, 0.5 + 0.3 * 0.75])


def test_a_shorter_list_is_the_beginning_of_a_longer_one(index: VectorIndex) -> None:
    """More items match the words than a short list looks at, the best of them among the last."""
    count = 400
    angle = np.linspace(np.pi / 2, 0, count)
    vectors = np.zeros((count, shop.DIMENSION), dtype=np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angle), np.sin(angle)
    texts = ["pasta" if n < 399 else "glue" for n in range(count)]
    objects = shop.make([f"i{n:03d}" for n in range(count)], vectors, text=texts)
    release = built(index, objects)
    longer = search(index, release, text="pasta", vector=query(vectors[-1]), k=100)
    assert longer.item_ids[:3] == ["i398", "i397", "i396"], "all say the word, these mean it most"
    assert np.allclose(longer.scores[0], np.cos(angle[398]) + 0.3, atol=1e-5)
    shorter = search(index, release, text="pasta", vector=query(vectors[-1]), k=3)
    assert shorter.item_ids == longer.item_ids[:3]
    assert np.allclose(shorter.scores, longer.scores[:3])


def test_a_match_of_words_far_away_in_meaning_keeps_its_true_cosine(index: VectorIndex) -> None:
    objects = shop.crowd(400)
    release = built(index, objects)
    text = "thing number 7 of row 0"
    near = objects.vectors[0]
    hits = search(index, release, text=text, vector=query(near), k=5)
    far = search(index, release, text=text, vector=query(-near), k=5)
    for found, direction in ((hits, near), (far, -near)):
        stored = index.fetch(release, found.item_ids)
        cosines = dict(zip(stored.item_ids, stored.vectors @ direction, strict=True))
        for item, score in zip(found.item_ids, found.scores, strict=True):
            assert -1e-5 <= score - cosines[item] <= 0.3 + 1e-5


def test_an_item_taken_out_after_the_build_is_never_returned(index: VectorIndex) -> None:
    objects = shop.crowd(300)
    release = built(index, objects)
    near = objects.vectors[0]
    gone = set(exact := shop.exact(objects, near, 120))
    allowed = {i for i in objects.item_ids.to_pylist() if i not in gone}
    for text in (None, "thing row 3"):
        hits = search(index, release, text=text, vector=query(near), k=10, allowed=allowed)
        assert len(hits) == 10
        assert not set(hits.item_ids) & gone
    hits = search(index, release, text=None, vector=query(near), k=10, allowed=allowed)
    assert hits.item_ids == shop.exact(objects, near, 130)[len(exact) :]


def test_a_vector_of_another_model_or_size_is_refused(index: VectorIndex) -> None:
    release = built(index, shop.shelf())
    with pytest.raises(WrongModelError, match=r"the query is from other \(16\)"):
        index.nearest(release, query(FIRST_AXIS, model="other"), 3)
    with pytest.raises(WrongModelError, match=r"from test-encoder \(3\)"):
        index.nearest(release, query([1.0, 0.0, 0.0]), 3)


def test_the_alias_names_what_was_activated_and_rolling_back_is_moving_it(
    index: VectorIndex,
) -> None:
    assert index.active() is None
    old = built(index, shop.shelf())
    assert index.active() is None, "building serves nobody"
    index.activate(old)
    new = built(index, shop.shelf(price={"soap-1": 9.0}))
    assert index.active() == old
    index.activate(new)
    index.activate(new)
    assert index.active() == new
    index.activate(old)
    assert index.active() == old


def test_a_release_that_does_not_exist_cannot_be_asked_or_activated(index: VectorIndex) -> None:
    built(index, shop.shelf())
    for ask in (
        lambda: index.activate("0123456789ab"),
        lambda: index.count("0123456789ab"),
        lambda: index.nearest("0123456789ab", query(FIRST_AXIS), 1),
        lambda: index.drop("../active"),
    ):
        with pytest.raises(UnknownReleaseError, match="materialize vector_index"):
            ask()
    assert index.active() is None


def test_dropping_removes_a_release_but_never_the_active_one(index: VectorIndex) -> None:
    old, new = built(index, shop.shelf()), built(index, shop.crowd(20))
    index.activate(new)
    with pytest.raises(VectorIndexError, match="active"):
        index.drop(new)
    index.drop(old)
    assert [r.id for r in index.releases()] == [new]
    assert index.count(new) == 20


def test_changed_new_and_deleted_items_change_exactly_those_objects(index: VectorIndex) -> None:
    first = shop.crowd(400)
    index.activate(built(index, first))
    second = shop.crowd(400, changed=[5])
    index.build(release_of(second), second)  # a store may need this one to become incremental
    index.activate(release_of(second).id)
    third = shop.crowd(402, changed=[5, 7, 8], gone=[9])
    made = index.build(release_of(third), third)
    assert made.written <= 6 and made.deleted == 1, made
    assert made.unchanged >= 395
    release = release_of(third).id
    assert index.count(release) == 401
    assert index.fetch(release, ["i00009"]).item_ids == []
    assert index.matching(release, "renewed", 9).item_ids == ["i00005", "i00007", "i00008"]
    assert index.matching(release_of(second).id, "renewed", 9).item_ids == ["i00005"]


def test_a_synced_release_answers_exactly_like_one_built_from_nothing(index: VectorIndex) -> None:
    first = shop.crowd(300)
    index.activate(built(index, first))
    second = shop.crowd(300, changed=range(0, 20))
    index.activate(built(index, second))
    third = shop.crowd(310, changed=range(5, 30), gone=range(40, 45))
    synced = built(index, third)
    stored = index.fetch(synced, third.item_ids.to_pylist())
    assert stored.item_ids == third.item_ids.to_pylist()
    assert stored.hashes == third.hashes.to_pylist()
    assert np.allclose(stored.vectors, third.vectors, atol=1e-6)
    for at in (0, 17, 100):
        vector = third.vectors[at]
        assert index.nearest(synced, query(vector), 10)[0].item_ids == shop.exact(third, vector, 10)
        where = Filter(category="row 3")
        row = [i for i, c in enumerate(third.properties["categories"].to_pylist()) if "row 3" in c]
        expected = shop.exact(third.take(row), vector, 10)
        assert index.nearest(synced, query(vector), 10, where)[0].item_ids == expected


def test_old_releases_give_way_but_the_active_one_stays(index: VectorIndex) -> None:
    ids = []
    for n in range(4):
        ids.append(built(index, shop.crowd(30, changed=range(n))))
        if n == 0:
            index.activate(ids[0])
    left = [r.id for r in index.releases()]
    assert left == [ids[0], ids[3]]
    assert index.count(ids[0]) == index.count(ids[3]) == 30


def test_a_protected_release_stays_although_it_is_the_oldest(index: VectorIndex) -> None:
    oldest, older = (built(index, shop.crowd(30, changed=range(n))) for n in (0, 1))
    newest = shop.crowd(30, changed=range(2))
    index.build(release_of(newest), newest, protect={oldest})
    assert [r.id for r in index.releases()] == [oldest, release_of(newest).id]
    assert index.count(oldest) == 30
    with pytest.raises(UnknownReleaseError):
        index.count(older)


def test_another_models_release_starts_from_nothing_and_mixes_with_none(index: VectorIndex) -> None:
    objects = shop.shelf()
    old = release_of(objects)
    index.build(old, objects)
    new = release_of(objects, model="other")
    assert new.id != old.id
    assert index.build(new, objects).written == 6
    with pytest.raises(WrongModelError):
        index.nearest(new.id, query(FIRST_AXIS), 1)
    assert index.nearest(new.id, query(FIRST_AXIS, model="other"), 1)[0].item_ids == ["pasta-1"]


ODD = ["007", "NA", "null", "9007199254740993", "a\"b'c\\d", "emoji 🍝", "x, OR 1=1", "k" * 1024,
       "two\nlines", "100% *?[a-z]", "Ünï"]  # fmt: skip


def test_odd_ids_texts_and_values_come_back_as_they_went_in(index: VectorIndex) -> None:
    prices = [None, 0.0, 1e308, 1e-9, *[3.0] * (len(ODD) - 4)]
    objects = shop.make(
        ODD, shop.axes(len(ODD)), text=[f"naïve {i} Ünïcode" for i in ODD],
        price=prices, categories=[[]] * len(ODD),
    )  # fmt: skip
    release = built(index, objects)
    stored = index.fetch(release, ODD)
    assert stored.item_ids == sorted(ODD)
    assert stored.hashes == objects.hashes.to_pylist()
    assert set(index.matching(release, "ünïcode", 20).item_ids) == set(ODD)
    dear = index.nearest(release, query(FIRST_AXIS), 20, Filter(min_price=1e307))[0]
    assert dear.item_ids == ["null"]


def test_filter_values_are_compared_as_they_are(index: VectorIndex) -> None:
    """No wildcard, no query language, no splitting into words."""
    odd = [i.lower() for i in ODD]
    objects = shop.make(
        ODD, shop.axes(len(ODD)), brand=odd, group_id=ODD, market=ODD,
        categories=[["all", value] for value in odd],
    )  # fmt: skip
    release = built(index, objects)
    for item in ODD:
        where = Filter(brand=item, category=item, group=item, market=item)
        assert index.nearest(release, query(FIRST_AXIS), 20, where)[0].item_ids == [item]
    for nothing in ("*", "00", "emoji", "%"):
        assert not index.nearest(release, query(FIRST_AXIS), 20, Filter(brand=nothing))[0].item_ids


def test_long_texts_are_indexed_whole(index: VectorIndex) -> None:
    texts = [f"word{n % 997} " * 40_000 + f"last{n}" for n in range(24)]
    objects = shop.make([f"i{n:02d}" for n in range(24)], shop.directions(24), text=texts)
    release = built(index, objects)
    assert index.count(release) == 24
    assert index.matching(release, "last7", 3).item_ids == ["i07"]


def test_one_object_is_a_release_and_none_is_not(index: VectorIndex) -> None:
    one = shop.make(["only"], shop.axes(1))
    release = built(index, one)
    assert index.nearest(release, query(FIRST_AXIS), 10)[0].item_ids == ["only"]
    assert index.nearest(release, query(FIRST_AXIS), 10, Filter(brand="x"))[0].item_ids == []
    with pytest.raises(VectorIndexError, match="there is nothing to index"):
        release_of(one.take([]))


def test_equal_vectors_are_all_found_in_the_order_of_their_ids(index: VectorIndex) -> None:
    twins = [f"i{n:02d}" for n in range(40)]
    release = built(index, shop.make(twins, np.repeat(shop.axes(2), 20, axis=0)))
    assert index.nearest(release, query(FIRST_AXIS), 20)[0].item_ids == twins[:20]


@pytest.mark.parametrize("k", [0, -1, 10_001])
def test_a_search_says_how_many_items_it_can_return(index: VectorIndex, k: int) -> None:
    release = built(index, shop.shelf())
    for ask in (
        lambda: index.nearest(release, query(FIRST_AXIS), k),
        lambda: index.matching(release, "pasta", k),
        lambda: search(index, release, text="pasta", vector=query(FIRST_AXIS), k=k),
    ):
        with pytest.raises(VectorIndexError, match="a search returns 1 to 10,000 items"):
            ask()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"brand": ""}, "the brand to search in is empty"),
        ({"category": "  "}, "the category to search in is empty"),
        ({"max_price": float("nan")}, "a price limit is a number, not nan"),
        ({"min_price": 5, "max_price": 3}, "the least price, 5, is above the greatest, 3"),
    ],
    ids=str,
)
def test_a_filter_that_nothing_can_pass_is_refused(where: dict[str, Any], said: str) -> None:
    with pytest.raises(FilterError, match=said):
        Filter(**where)


@pytest.mark.parametrize("number", [np.nan, np.inf, 0.0])
def test_poisoned_vectors_are_refused_before_any_store_sees_them(number: float) -> None:
    vectors = shop.axes(3)
    vectors[1] = number
    with pytest.raises(ValueError, match=r"1 vectors are zero or not finite \(items b\)"):
        shop.make(["a", "b", "c"], vectors)


def test_a_price_that_is_no_number_is_refused_before_any_store_sees_it() -> None:
    with pytest.raises(ValueError, match=r"1 prices are not finite \(items b\): repair the cat"):
        shop.make(["a", "b"], shop.axes(2), price=[None, float("inf")])
