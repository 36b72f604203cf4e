"""What somebody says becomes wishes to search for and words that rule items out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_assets.onboarding.preferences import (
    MAX_QUERIES,
    MAX_WORDS,
    avoided,
    bans,
    read_words,
    refused,
    stem,
    stems,
)
from recsys_assets.onboarding.reading import LONGEST, Reading, accepted


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("I cook vegetarian for a family of four, we love Thai food", ("vegetarian", "thai food")),
        ("Not only pizza but also sushi", ("pizza", "sushi")),
        ("no onions, garlic or nuts, we love soup", ("soup",)),
        ("No meat, thai food", ("thai food",)),
        ("I hate fish", ()),
        ("I am lactose intolerant and like Italian pasta dishes", ("italian pasta dishes",)),
        ("I have a nut allergy, and we love curry", ("curry",)),
        ("Nut allergies, lactose intolerance. Thai food", ("thai food",)),
        ("dairy-free desserts", ("desserts",)),
        ("coffee, coffee. Coffee!", ("coffee",)),
        ("I don't eat pork. We grill on weekends", ("grill",)),
        ("On Sundays we bake bread with three friends", ("bake bread",)),
        ("Wir kochen gern und essen keine Nüsse, aber viel Käse", ("käse",)),
        ("I can't get enough chocolate, no nuts", ("chocolate",)),
        ("We cannot live without cheese", ("cheese",)),
        ("Von Schokolade bekomme ich nicht genug", ("schokolade bekomme",)),
        ("", ()),
        ("😀 … !!", ()),
    ],
)
def test_wishes_are_what_stands_between_ordinary_words(text: str, queries: tuple[str, ...]) -> None:
    assert read_words(text).queries == queries


@pytest.mark.parametrize(
    ("text", "ruled_out", "allowed"),
    [
        ("I cook vegetarian", ["beef", "pork", "tuna", "bacon"], ["milk", "egg", "rice"]),
        ("vegan", ["beef", "milk", "egg", "honey"], ["rice"]),
        ("we don't eat pork or shellfish", ["pork", "ham", "shrimp"], ["beef", "tuna"]),
        ("no onions, garlic or nuts", ["onion", "garlic", "nut", "almond"], ["soup"]),
        ("no meat, thai food", ["beef"], ["thai", "food"]),
        ("gluten-free baking", ["bread", "pasta"], ["baking"]),
        ("non-dairy drinks", ["milk"], ["drink"]),
        ("without nuts but with chocolate", ["nut"], ["chocolate"]),
        ("Wir essen kein Fleisch, keine Eier oder Fisch", ["fleisch", "eier", "fisch"], []),
        ("zuckerfreie Kekse", ["zucker"], ["kekse"]),
        ("I can't get enough chocolate, no nuts", ["nut"], ["chocolate"]),
        ("I can't eat chocolate, nor live without cheese", ["chocolate"], []),
        ("Allergies: peanuts, shrimp and eggs", ["peanut", "shrimp", "egg"], []),
        ("allergic to nuts, sesame, vegetarian, thai food", ["nut", "sesame"], ["thai", "food"]),
        ("I avoid pork, beef and chicken", ["pork", "beef", "chicken"], []),
        ("We don't eat pork, lamb, beef. Cheese is fine", ["pork", "lamb", "beef"], ["cheese"]),
        ("I don't like shopping, fresh bread", [], ["fresh", "bread"]),
        ("I hate olives, capers, pizza is great", ["olive", "caper"], ["pizza"]),
        ("no onions, garlic, nuts", ["onion", "garlic", "nut"], []),
        ("anything but pork", ["pork", "ham"], []),
        ("nothing but pasta", [], ["pasta"]),
        ("bread free of gluten", ["gluten", "wheat"], []),
        ("I gave up alcohol and stopped eating beef", ["wine", "beef"], []),
    ],
)
def test_negations_and_diets_rule_out_what_they_stand_for(
    text: str, ruled_out: list[str], allowed: list[str]
) -> None:
    avoid = read_words(text).avoid
    assert set(ruled_out) <= avoid
    assert not set(allowed) & avoid


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("allergic to nuts, thai food", ("nuts", "thai")),  # food is an ordinary word
        ("vegetarian, we love Thai food", ("vegetarian",)),
        ("Nuts? No! I love meat-free and gluten-free soup", ("meat-free", "gluten-free")),
        ("we love soup", ()),
    ],
)
def test_the_words_that_bans_were_read_from_are_told(text: str, words: tuple[str, ...]) -> None:
    assert refused(text, read_words(text).avoid) == words


@pytest.mark.parametrize(
    ("item", "out"),
    [
        ("MEAT > BEEF > GROUND BEEF", True),
        ("NUTRITION > FROZEN > MEATLESS BURGERS", False),
        ("Frozen Meat (Vegetarian) 9.7 Oz", False),
        ("Meat-free sausage", True),  # "sausage" is not said to be free of anything
        ("Meat-free pie", False),
        ("MEAT > MEAT-FREE > PIE", False),
        ("Free range chicken", True),
        ("Apples", False),
    ],
)
def test_an_item_is_ruled_out_by_its_words_unless_they_are_lifted(item: str, out: bool) -> None:
    assert avoided(stems(item), bans("vegetarian")) == out


@pytest.mark.parametrize(
    ("item", "avoid", "out"),
    [
        ("Gluten Free Bread", "gluten", False),
        ("Glutenfreies Bread", "gluten", False),
        ("Gluten-free bread", "celiac", False),
        ("Bread", "gluten", True),
        ("Sugar free bread", "gluten", True),
        ("Sugar-free candy", "diabetic", False),
        ("Gluten-free bread", "bread", True),  # it is bread that is not wanted
        ("Lactose-free milk", "vegan", True),
    ],
)
def test_what_is_said_to_be_free_of_the_trouble_may_be_shown(
    item: str, avoid: str, out: bool
) -> None:
    assert avoided(stems(item), bans(avoid)) == out


def test_a_misspelled_word_of_the_catalogue_is_found() -> None:
    assert read_words("yoghurt", {"yogurt", "milk"}).queries == ("yogurt",)
    assert read_words("yoghurt").queries == ("yoghurt",)
    assert read_words("starts", {"tart"}).queries == ("starts",), "the first letter is right"
    assert read_words("healthy", {"health"}).queries == ("healthy",), "a form, no misspelling"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PIES: Sugar Free", ["pie", "sugar-free"]),
        ("sugar-free gum", ["sugar-free", "gum"]),
        ("Non-dairy milk", ["non-dairy", "milk"]),
        ("Zuckerfreie Kekse", ["zuckerfrei", "kekse"]),
        ("Sugar | Free delivery", ["sugar", "free", "delivery"]),
        ("Eggs free range", ["egg", "free", "range"]),
    ],
)
def test_what_something_is_free_of_is_not_among_its_words(text: str, words: list[str]) -> None:
    assert stems(text) == words


def test_who_avoids_a_thing_is_shown_what_says_to_be_free_of_it() -> None:
    said = "gluten-free, sugar free desserts"
    assert read_words(said, {"gluten-free", "dessert"}).queries == ("gluten-free", "desserts")
    assert {"wheat", "sugar"} <= read_words(said, {"gluten-free", "dessert"}).avoid


def test_what_a_model_reads_lifts_no_ban_and_gives_short_queries_only() -> None:
    """Its answer may leave out what the words alone rule out, or search for just that."""
    said = Reading(
        queries=["Tofu  Curry", "beef", "roast beef", "tofu curry", "!", "a " * 9, "x" * 61],
        avoid=["nuts", "spicy food", "y" * (LONGEST + 1)],
    )
    found = accepted(said, frozenset({"beef", "roast"}))
    assert found.queries == ("tofu curry",)
    assert found.avoid == {"beef", "roast"} | bans("nuts")


def test_a_wish_knows_the_sentence_it_was_taken_from() -> None:
    found = read_words("We have two dogs, no cats. My wife bakes cake and bread")
    assert found.contexts == {
        "dogs": "we have two dogs",
        "bakes cake": "my wife bakes cake and bread",
        "bread": "my wife bakes cake and bread",
    }


def test_a_thing_somebody_avoids_names_all_its_kinds() -> None:
    assert {"pork", "ham", "bacon"} <= bans("pork")
    assert bans("coriander") == {"coriander"}


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_within_bounds(text: str) -> None:
    found = read_words(text)
    assert len(found.queries) <= MAX_QUERIES
    assert all(len(q.split()) <= MAX_WORDS and q.strip() for q in found.queries)
    assert all(not set(stems(q)) <= found.avoid for q in found.queries)


@given(st.sampled_from(["beef", "tomatoes", "cherries", "glasses", "boxes", "class", "peas"]))
def test_stems_are_stable(word: str) -> None:
    assert stem(stem(word)) == stem(word)
    assert stem(word.upper()) == stem(word)
