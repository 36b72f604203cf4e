"""Queries in, a first list out: wishes take turns, bans hold, nothing comes twice."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys_assets.content.vectors import TEXT_VECTORS
from recsys_assets.core.assets import Project
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import visits_as_of
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.onboarding import answers, questions
from recsys_assets.onboarding.diets import known_diets
from recsys_assets.onboarding.preferences import Preferences, bans, read_words
from recsys_assets.onboarding.shelf import (
    FEEDBACK,
    PER_KIND,
    WORDS_WEIGHT,
    Shelf,
    Words,
    shelf_of,
)
from recsys_assets.staging.tables import ITEMS as ITEMS_TABLE
from tests.enrichment import shop as catalogue

AS_OF = pd.Timestamp("2017-12-04", tz="UTC")
ROWS = [
    ("soup1", "Tomato Soup", "GROCERY", "SOUP", "g-soup"),
    ("soup2", "Tomato Soup Large", "GROCERY", "SOUP", "g-soup"),
    ("soup3", "Chicken Soup", "GROCERY", "SOUP", "g-chicken"),
    ("soup4", "Onion Soup", "GROCERY", "SOUP", "g-onion"),
    ("soup5", "Pea Soup", "GROCERY", "SOUP", "g-pea"),
    ("tea1", "Green Tea", "GROCERY", "TEA", "g-tea"),
    ("tea2", "Black Tea", "GROCERY", "TEA", "g-black"),
    ("beef", "Ground Beef", "MEAT", "BEEF", "g-beef"),
    ("gin", "Gin With Tea", "SPIRITS", "GIN", "g-gin"),
    ("old", "Old Tea", "GROCERY", "TEA", "g-old"),
]
ITEMS = pd.DataFrame(
    ROWS, columns=["item_id", "title", "category_1", "category_2", "group_id"]
).assign(category_3="", text=lambda d: d["title"], status="active")
ITEMS.loc[ITEMS["item_id"] == "old", "status"] = "inactive"
AXES = {"SOUP": 0, "TEA": 1, "BEEF": 2, "GIN": 1}
UNIT = np.eye(4, dtype=np.float32)


def shelf() -> Shelf:
    matrix = np.array([UNIT[AXES[c]] for c in ITEMS["category_2"]])
    vectors = ItemVectors(ITEMS["item_id"].to_numpy(dtype=object), matrix)
    recent = pd.Series({"beef": 50, "soup3": 10, "gin": 40})
    return Shelf.build(ITEMS, vectors, recent, frozenset({"SPIRITS"}))


def test_wishes_take_turns_and_a_product_comes_once() -> None:
    found = shelf().candidates(["soup", "tea"], [UNIT[0], UNIT[1]])
    wished = found[found["query"] >= 0]
    assert wished["query"].tolist()[:4] == [0, 1, 0, 1]
    assert found["place"].tolist() == list(range(1, len(found) + 1))
    assert not ({"soup1", "soup2"} <= set(found["item_id"]))


def test_a_variant_that_is_sold_out_does_not_stand_for_its_product(project: Project) -> None:
    stock = catalogue.Shelf([("whole", "MILK"), ("whole", "MILK"), ("rye", "BREAD")], sold=1)
    catalogue.fill(project, stock)
    items = stock.items()
    items.loc[0, "available_to"] = catalogue.AS_OF - pd.Timedelta(days=1)
    catalogue.store(project, ITEMS_TABLE, items)
    read = project.lake.served
    known = visits_as_of(read("interactions"), catalogue.AS_OF)
    text_vectors = {name: read(name) for name in TEXT_VECTORS}
    shelf = shelf_of(read("items"), text_vectors, known, catalogue.AS_OF, project.shop)
    found = shelf.candidates([], [])
    assert found["item_id"].tolist() == ["i0001", "i0002"]


PETS = pd.DataFrame(
    [
        ("hot", "Hot Dogs", "MEAT", "HOT DOGS"),
        ("chow", "Dog Chow", "PETS", "DOG FOOD"),
        ("bone", "Dog Bone", "PETS", "DOG TREATS"),
        ("toy", "Dog Toy", "PETS", "DOG TOYS"),
        ("lead", "Lead", "PETS", "LEADS"),
        ("ham", "Ham", "MEAT", "HAM"),
        *((f"tile{n}", f"Tile {n}", "FLOORS", f"FLOOR {n}") for n in range(9)),
    ],
    columns=["item_id", "title", "category_1", "category_2"],
).assign(category_3="", text=lambda d: d["title"], status="active", group_id="")
AXIS = {"MEAT": 0, "PETS": 1, "FLOORS": 2}


def pet_shop(items: pd.DataFrame = PETS, **hidden: str) -> Shelf:
    matrix = np.array([UNIT[AXIS[c]] for c in items["category_1"]])
    vectors = ItemVectors(items["item_id"].to_numpy(dtype=object), matrix)
    made = Shelf.build(items, vectors, pd.Series(dtype=float), frozenset(hidden.values()))
    return replace(
        made, centre=np.zeros(4, dtype=np.float32), unit=matrix[np.argsort(items["item_id"])]
    )


def test_what_most_products_mean_by_a_word_is_what_it_means() -> None:
    """Hot dogs and dog food both have the word, and meat is a little nearer to it."""
    asked = np.array([0.72, 0.69, 0.0, 0.0], dtype=np.float32)
    asked /= np.linalg.norm(asked)
    shop = pet_shop()
    fit = dict(zip(shop.words.ids, shop.fit("dogs", asked)[shop.words.text], strict=True))
    # Of the ten kinds that fit best two are meat, four are for pets, four are floors.
    moved = asked + FEEDBACK * np.array([0.2, 0.4, 0.4, 0.0])
    moved /= np.linalg.norm(moved)
    assert fit["hot"] == pytest.approx(moved[0] + WORDS_WEIGHT, abs=1e-5)
    assert fit["chow"] == pytest.approx(moved[1] + WORDS_WEIGHT, abs=1e-5)
    assert fit["chow"] > fit["hot"]


def test_the_sentence_tells_which_of_two_meanings_is_meant() -> None:
    known = {"formula": UNIT[0], "we have a baby and need formula": UNIT[1]}

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.array([known[text] for text in texts])

    alone, moved = answers.query_vectors(
        [("formula", ""), ("formula", "we have a baby and need formula")], encode
    )
    assert alone.tolist() == [1, 0, 0, 0]
    length = (1 + answers.CONTEXT**2) ** 0.5
    assert moved == pytest.approx([1 / length, answers.CONTEXT / length, 0, 0])
    assert answers.query_vectors([], encode) == []


def test_a_word_that_is_near_nothing_in_the_shop_takes_no_turn() -> None:
    nowhere, near = UNIT[3], UNIT[1]
    found = pet_shop().candidates(["tuesday", "puppy"], [nowhere, near])
    assert set(found["query"]) == {1, -1}
    wished = found[found["query"] == 1]
    assert set(wished["item_id"]) == {"chow", "bone", "toy", "lead"}


def test_nothing_stands_in_for_what_must_not_be_shown() -> None:
    items = PETS.assign(category_1=PETS["category_1"].where(PETS["item_id"] != "lead", "FLOORS"))
    asked = (UNIT[1] + 0.3 * UNIT[0]) / np.linalg.norm(UNIT[1] + 0.3 * UNIT[0])
    found = pet_shop(items, sensitive="PETS").candidates(["dog chow"], [asked.astype(np.float32)])
    assert set(found["query"]) == {-1}


def test_a_word_the_catalogue_lacks_is_found_inside_its_compounds() -> None:
    items = ITEMS.head(3).assign(title=["Vollkornbrot", "Brotaufstrich", "Obst"], text="")
    items = items.assign(category_1="", category_2="")
    words = Words.build(items)
    assert words.overlap("brot")[words.text].tolist() == [1, 1, 0]
    assert words.known(["brot", "obst", "ob"]) == ["brot", "obst"]


def test_a_wish_shows_each_kind_before_more_of_the_same() -> None:
    rows = pd.DataFrame(
        [(f"s{n}", f"Soup {n}", "GROCERY", "SOUP") for n in range(5)]
        + [(f"b{n}", f"Broth {n}", "GROCERY", "BROTH") for n in range(2)],
        columns=["item_id", "title", "category_1", "category_2"],
    ).assign(category_3="", text=lambda d: d["title"], status="active", group_id="")
    matrix = np.array([[1, 0, 0, 0]] * 5 + [[0.9, np.sqrt(1 - 0.81), 0, 0]] * 2, dtype=np.float32)
    shop = Shelf.build(
        rows, ItemVectors(rows["item_id"].to_numpy(dtype=object), matrix), pd.Series(dtype=float)
    )
    found = replace(shop, centre=np.zeros(4, np.float32), unit=matrix[[5, 6, 0, 1, 2, 3, 4]])
    listed = found.candidates(["soup"], [UNIT[0]])
    wished = listed[listed["query"] == 0]["item_id"].tolist()
    assert PER_KIND == 2
    assert wished == ["s0", "s1", "b0", "b1", "s2", "s3", "s4"]


def test_nothing_sensitive_inactive_or_ruled_out_is_shown() -> None:
    found = shelf().candidates(["tea", "soup"], [UNIT[1], UNIT[0]], bans("vegetarian"))
    assert not {"gin", "old", "beef", "soup3"} & set(found["item_id"])


def test_what_is_only_popular_comes_last_and_says_so() -> None:
    found = shelf().candidates(["tea"], [UNIT[1]])
    popular = found[found["query"] == -1]
    assert popular["item_id"].iloc[0] == "beef"
    assert popular["place"].min() > found[found["query"] == 0]["place"].max()


def test_rare_words_weigh_more_and_unknown_ones_nothing() -> None:
    words = Words.build(ITEMS)
    green, tea = words.overlap("green tea unheard"), words.overlap("tea")
    place = dict(zip(words.ids, words.text, strict=True))
    assert green[place["tea1"]] == pytest.approx(1.0)
    assert 0 < green[place["tea2"]] < 0.5
    assert tea[place["tea1"]] == tea[place["tea2"]] == pytest.approx(1.0)
    assert not words.overlap("unheard of").any()


def test_only_the_last_sitting_before_the_cutoff_counts() -> None:
    said = pd.DataFrame(
        [
            ("u", "likes_x", "SOUP", "2017-12-01 10:00"),
            ("u", "likes_x", "TEA", "2017-12-01 10:05"),
            ("u", "likes_x", "BEEF", "2017-11-01 10:00"),
            ("u", "words", "future", "2017-12-04 00:00"),
        ],
        columns=["user_id", "question_id", "answer", "answered_at"],
    )
    said["answered_at"] = pd.to_datetime(said["answered_at"], utc=True)
    assert answers.standing(said, AS_OF)["answer"].tolist() == ["SOUP", "TEA"]


def test_answers_mean_the_same_whatever_is_asked_today() -> None:
    def read(text: str) -> tuple[Preferences, str]:
        return Preferences((text.lower(),), frozenset({"nut"})), "key_terms"

    found = answers.profile(
        [("likes_gone", "SOUP"), ("avoid", "vegan"), ("q7", "Tea"), ("likes_x", "BEEF")], read
    )
    assert found.queries == (("SOUP", "answer", ""), ("tea", "key_terms", "")), "beef is ruled out"
    assert {"milk", "nut", "beef"} <= found.avoid


def test_wishes_stand_in_the_order_in_which_they_were_first_said() -> None:
    said = [("likes_a", "tea"), ("likes_b", "soup"), ("likes_c", "tea")]
    found = answers.profile(said, lambda text: (Preferences(()), "key_terms"))
    assert [query for query, _, _ in found.queries] == ["tea", "soup"]


def test_a_word_of_a_sensitive_category_is_never_a_term() -> None:
    words = Words.build(ITEMS)
    assert answers.catalogue_terms("green tea gin", words, frozenset({"gin"})) == "green tea"


def test_a_visit_without_a_session_is_a_moment() -> None:
    known = pd.DataFrame(
        {
            "user_id": ["u", "u", "u", "v", "u"],
            "session_id": ["s", "s", None, "t", "r"],
            "event_time": pd.to_datetime(["2017-01-01"] * 5, utc=True),
            "counts_as_taken": [True, True, True, True, False],
        }
    )
    assert answers.visits(known, pd.Series(["u", "w"])).to_dict() == {"u": 2, "w": 0}


def shop(**onboarding: object) -> Shop:
    return Shop.model_validate(
        {
            "name": "x", "repeats": True, "source": {"kind": "complete_journey"},
            "partitions": {"start": "2017-01-01"}, "onboarding": onboarding,
            "rules": {"sensitive_categories": ["SPIRITS"]},
        }
    )  # fmt: skip


def listed(names: list[str]) -> pd.DataFrame:
    """A catalogue of one product of each kind."""
    return pd.DataFrame(
        {
            "item_id": names, "title": names, "category_1": "TOP", "category_2": names,
            "category_3": "", "text": names, "status": "active", "group_id": names,
        }
    )  # fmt: skip


def test_questions_split_users_and_do_not_repeat_each_other() -> None:
    items = listed([f"C{n}" for n in range(10)])
    # C0 and C1 are always taken together by half of the users, C2 by the other half of each; C3 by
    # everybody, so it tells nobody apart.
    taken = [
        (f"u{u}", item, f"s{u}-{visit}")
        for u in range(20)
        for visit in range(2)
        for item in ["C3", *(["C0", "C1"] if u % 2 else []), *(["C2"] if u % 4 < 2 else [])]
    ]
    takings = pd.DataFrame(taken, columns=["user_id", "item_id", "session_id"])
    asked = questions.derive(items, takings, shop(options=2), Words.build(items))
    likes = asked[asked["kind"] == "likes"]
    assert likes["answer"].tolist() == ["C0", "C2"]
    assert likes["share"].tolist() == [0.5, 0.5]
    assert asked["kind"].tolist()[-1] == "words"
    assert asked["place"].is_monotonic_increasing


def test_where_nothing_repeats_one_visit_is_a_yes() -> None:
    items = listed([f"C{n}" for n in range(10)])
    rows = [(f"u{u}", f"C{u % 2}", f"s{u}") for u in range(20)]
    takings = pd.DataFrame(rows, columns=["user_id", "item_id", "session_id"])
    once = shop().model_copy(update={"repeats": False})
    for settings, shares in ((shop(), []), (once, [0.5, 0.5])):
        asked = questions.derive(items, takings, settings, Words.build(items))
        assert asked["share"].dropna().tolist() == shares


def test_every_question_has_an_id_of_its_own_in_any_script() -> None:
    tops = ["Food & Drink", "Food, Drink", "Овощи", "***"]
    kinds = [f"{top} {n}" for top in tops for n in range(3)]
    items = listed(kinds).assign(
        category_1=[top for top in tops for _ in range(3)], category_2=["Other", "b", "c"] * 4
    )
    nobody = pd.DataFrame({"user_id": [], "item_id": [], "session_id": []}).astype("str")
    asked = questions.derive(items, nobody, shop(questions=5), Words.build(items))
    assert not asked.duplicated(["question_id", "answer"]).any()
    places = asked.drop_duplicates("question_id").set_index("question_id")["place"]
    assert list(places) == list(range(1, len(places) + 1))
    likes = {q for q in places.index if q.startswith("likes")}
    assert likes == {"likes_food_drink", "likes_food_drink_2", "likes_овощи", "likes_general"}


def test_without_users_the_catalogue_alone_decides_and_nothing_sensitive_is_asked() -> None:
    nobody = pd.DataFrame({"user_id": [], "item_id": [], "session_id": []}).astype("str")
    asked = questions.derive(ITEMS, nobody, shop(), Words.build(ITEMS))
    assert asked["share"].isna().all()
    assert "SPIRITS" not in set(asked["answer"])
    assert {"words"} <= set(asked["kind"])
    assert "vegetarian" in set(asked[asked["kind"] == "avoid"]["answer"])


def test_a_shop_adds_diets_of_its_own() -> None:
    diets = known_diets(shop(avoid={"teefrei": ["tea"]}))
    assert read_words("Ich lebe teefrei", diets=diets).avoid == {"tea"}
    assert bans("teefrei", diets) == {"tea"}
    assert "beef" in bans("vegan", diets)
