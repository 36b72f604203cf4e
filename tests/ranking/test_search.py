"""Searching: words and meaning, one person's taste, and nothing that may not be shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_assets.indexing.contract import WrongModelError
from recsys_assets.indexing.embedded import EmbeddedIndex
from recsys_assets.indexing.objects import Filter
from recsys_assets.ranking.search import (
    QueryError,
    Question,
    blend,
    find,
    read_query,
    spelled,
)
from tests.indexing import shop
from tests.indexing.shop import query, release_of

SHELF = shop.shelf()
RELEASE = release_of(SHELF).id
GROUPS = pd.Series(
    SHELF.properties["group_id"].to_pylist(), index=SHELF.item_ids.to_pylist(), dtype="str"
)
AXES = shop.axes(6)


@pytest.fixture
def index(tmp_path: Path) -> EmbeddedIndex:
    index = EmbeddedIndex(tmp_path)
    index.build(release_of(SHELF), SHELF)
    return index


def ids(frame: pd.DataFrame) -> list[str]:
    return frame["item_id"].tolist()


def test_words_and_meaning_are_fused_and_variants_are_shown_once(index: EmbeddedIndex) -> None:
    found = find(index, RELEASE, Question("gluten free pasta", query(AXES[0])), GROUPS, 3)
    assert ids(found)[0] == "pasta-1"
    assert "pasta-2" not in ids(found), "a variant of pasta-1"
    assert found["taste"].isna().all()


def test_what_may_not_be_shown_is_never_found_from_the_next_query_on(index: EmbeddedIndex) -> None:
    question = Question("gluten free pasta", query(AXES[0]))
    allowed = GROUPS.drop(["pasta-1", "bread-1"])
    found = find(index, RELEASE, question, allowed, 6)
    assert ids(found)[0] == "pasta-2"
    assert not {"pasta-1", "bread-1"} & set(ids(found))
    assert find(index, RELEASE, question, GROUPS.iloc[:0], 6).empty


def test_a_persons_taste_moves_what_they_like_up(index: EmbeddedIndex) -> None:
    asked = query(AXES[2])
    plain = find(index, RELEASE, Question(None, asked), GROUPS, 5)
    personal = find(index, RELEASE, Question(None, asked, taste=AXES[5:]), GROUPS, 5)
    assert ids(personal).index("soap-1") < ids(plain).index("soap-1")
    likes = dict(zip(ids(personal), personal["taste"], strict=True))
    assert np.isclose(likes["soap-1"], 1.0, atol=1e-5)
    assert np.allclose(plain["score"], [np.cos(np.pi / 10 * n) for n in (0, 1, 1, 2, 3)])


@pytest.mark.parametrize("taste", [None, shop.directions(1, seed=9)])
def test_a_shorter_list_is_the_beginning_of_a_longer_one(
    tmp_path: Path, taste: np.ndarray | None
) -> None:
    many = shop.crowd(300)
    index = EmbeddedIndex(tmp_path)
    index.build(release_of(many), many)
    groups = pd.Series("", index=many.item_ids.to_pylist(), dtype="str")
    question = Question("thing of row 3", query(many.vectors[0]), taste)
    shorter, longer = (find(index, release_of(many).id, question, groups, n) for n in (3, 100))
    pd.testing.assert_frame_equal(shorter, longer.head(3))
    assert longer["score"].max() > 1.0, "as docs/index.md says: a cosine plus up to 0.3"


def test_filters_reach_the_index(index: EmbeddedIndex) -> None:
    question = Question("pasta", query(AXES[0]), where=Filter(category="sauce"))
    assert ids(find(index, RELEASE, question, GROUPS, 5)) == ["sauce-1"]


def test_a_query_of_another_model_is_refused(index: EmbeddedIndex) -> None:
    with pytest.raises(WrongModelError):
        find(index, RELEASE, Question("pasta", query(AXES[0], model="other")), GROUPS, 5)


def test_a_blend_is_a_unit_vector_nearer_to_the_query() -> None:
    mixed = blend(AXES[:1], AXES[5:])
    assert np.isclose(np.linalg.norm(mixed), 1.0)
    assert mixed[0] @ AXES[0] > mixed[0] @ AXES[5] > 0


def test_as_many_products_are_shown_as_were_asked_for_however_many_variants(tmp_path: Path) -> None:
    many = shop.make(
        [f"i{n:03d}" for n in range(120)], np.repeat(shop.axes(4), 30, axis=0),
        group_id=[f"g{n // 30}" for n in range(120)],
    )  # fmt: skip
    index = EmbeddedIndex(tmp_path)
    index.build(release_of(many), many)
    groups = pd.Series(many.properties["group_id"].to_pylist(), index=many.item_ids.to_pylist())
    found = find(index, release_of(many).id, Question(None, query(AXES[0])), groups, 4)
    assert ids(found) == ["i000", "i030", "i060", "i090"]


CATALOGUE = pd.Series(["Toothpaste mint", "Spaghetti dry", "Yogurt", "Chicken broth", "Las Vegas"])


@pytest.mark.parametrize(
    ("asked", "searched"),
    [
        ("tootpaste mint", "toothpaste mint"),
        ("Spageti", "spaghetti"),
        ("YOGHURT!", "yogurt"),
        ("Mint toothpaste", "Mint toothpaste"),  # known words stay as they were written
        ("vegan", "vegan"),  # nearly "vegas", but a word of its own
        ("brot", "brot"),  # too short to be sure
        ("helicopter", "helicopter"),
    ],
)
def test_words_nobody_wrote_in_the_catalogue_are_read_as_the_nearest(
    asked: str, searched: str
) -> None:
    assert spelled(asked, CATALOGUE) == searched


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no word in ''"), ("🍕 ?!", "no word in"), ("x" * 1001, "at most 1,000 characters")],
)
def test_a_query_without_words_or_too_long_is_refused(text: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        read_query(text)
