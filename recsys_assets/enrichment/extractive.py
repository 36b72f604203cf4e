"""Enrichment from the catalogue's own words, without any model.

Belongs here: what a text, its category path and its list price say about an item. Does not belong
here: what people do with it (`relations.py`), what a language model says (`claude.py`).
"""

# ruff: noqa: SIM905 - a table of words reads best as words

import json
import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.content.categories import CATEGORY_COLUMNS
from recsys_assets.enrichment.vocabulary import APPEAL, USES, Vocabulary, words_of

LISTS = ("audience", "uses", "comparable_types", "keywords", "appeal", "complements")
"""The multi-valued fields, stored as JSON arrays."""

MOST = {"keywords": 6, "comparable_types": 3, "uses": 3, "appeal": 4}

_USE_WORDS: dict[str, str] = {
    "breakfast": "cereal cereals oatmeal pancake pancakes waffle waffles bagel bagels breakfast "
    "egg eggs bacon muffin muffins granola yogurt doughnuts donuts",
    "lunch": "sandwich sandwiches lunch lunchmeat deli_meats soup soups salad salads salad_mix "
    "garden_salad sushi bread breads buns cheese cheeses",
    "dinner": "dinner dinners meat meats beef pork chicken poultry turkey veal lamb seafood fish "
    "sausage hot_dogs pasta rice entree entrees pizza",
    "snack": "snack snacks chips crackers cookies nuts popcorn pretzels candy candy_bars "
    "candy_bags candy_box gum rice_cakes granola_bars trail_mix yogurt fruit fruits apples berries "
    "grapes melons pears citrus bananas",
    "drink": "drink drinks drnk drnks water juice juices beverage beverages soda coffee tea teas "
    "tea_bags milk beer beers ale ales wine liquor",
    "baking": "baking flour sugar sugars sweetners sweeteners yeast cake_mix cake_mixes frosting "
    "extracts baking_chocolate",
    "cooking": "oil spice spices sauce sauces seasoning seasonings vinegar broth tomato tomatoes "
    "vegetable vegetables onions garlic herbs condiments mustard ketchup mayonnaise peppers "
    "mushrooms potatoes carrots broccoli squash cookware bakeware corn beans",
    "dessert": "dessert desserts ice_cream pudding puddings gelatin pie pies cake cakes "
    "sweet_goods pastries sherbet toppings",
    "party": "party party_trays balloons napkins",
    "gift": "gift gifts gift_bags floral bouquet bouquets roses flowers greeting_cards "
    "cards_seasonal valentine",
    "cleaning": "cleaner cleaners cleaning bleach dish_detergent dish_detergents dishwashing "
    "trash_bags trash_bag trash trsh paper_towels sponges mops brooms disinfectants soap_pads",
    "laundry": "laundry fabric_softener fabric_softeners softener softeners detergent detergents "
    "ironing starch stain",
    "personal care": "hair hair_care shampoo shampoos soap soaps deodorant deodorants shave "
    "shaving cosmetics cosmetic makeup skin lotion lotions oral toothpaste toothbrushes "
    "bath_tissue bath_tissues hygiene facial fragrance fragrances personal_care skin_care "
    "foot_care",
    "health": "vitamin vitamins cold_and_flu flu allergy analgesic analgesics pain first_aid "
    "dietary medicine antacids laxatives sinus cough pharmacy ear_care eye_care health_care "
    "incontinence fitness",
    "baby care": "baby babies babyfood infant infants diaper diapers formula toddler toddlers",
    "pet care": "pet pets dog dogs cat cats puppy kitten litter bird_seed",
    "school": "school pencil pencils crayons notebooks",
    "office": "office stationery envelopes",
    "garden": "garden plants seeds lawn fertilizer potting_soil",
    "home repair": "hardware paint tools fasteners bulbs light_bulbs batteries electrical "
    "automotive motor_oil",
    "decoration": "decor candle candles frames ornaments christmas halloween easter furnishings",
    "clothing": "apparel socks shoe shoes hosiery clothing shirts",
    "travel": "luggage travel_size trial_size",
    "sport": "sport sports fitness camping fishing",
    "entertainment": "video dvd music toys toy games movie movies comedy drama action thriller "
    "horror romance musical fantasy animation adventure western mystery crime film_noir",
    "reading": "magazine magazines book books bookstore newspaper newspapers paperback",
    "learning": "documentary educational puzzles crosswords",
}
"""Words that say what an item is for; `a_b` are two words in a row, and then neither counts alone:
tea bags are no trash, rice cakes no dinner."""

_NOTHING = ("baby_carrots", "corn_starch", "water_ice")
"""Two words in a row that say nothing of what either says alone."""

_ALONE = ("pet care", "baby care", "home repair", "cleaning", "laundry")
"""What is for one of these is for no meal, whatever it is made of: beef for dogs, motor oil."""
_MEALS = frozenset(
    ("breakfast", "lunch", "dinner", "snack", "drink", "baking", "cooking", "dessert", "garden")
)

_APPEAL_WORDS: dict[str, str] = {
    "premium": "premium gourmet deluxe specialty imported artisan",
    "store brand": "private",
    "organic": "organic organics",
    "light": "light lite diet lowfat low_fat fat_free skim sugarfree sugar_free reduced_fat "
    "low_calorie",
    "seasonal": "seasonal christmas halloween easter valentine holiday thanksgiving",
    "for children": "kids kid children childrens baby infant infants toddler juvenile toys",
    "convenient": "instant ready microwavable microwave prepared convenience single_serve entrees "
    "entree quick",
    "fresh": "fresh produce bakery deli_meats",
    "frozen": "frozen frzn frz ice_cream",
    "classic": "traditional classic original regular mainstream",
}
_ORDINARY = frozenset(
    "all and are assorted excl exc excluding from for incl including inc less more misc "
    "miscellaneous non not only other others over per product products than the under with without"
    " variety specialty".split()
)
"""Words that no item is told apart by."""

_COMMON = 0.05
"""A word that more than this share of the texts uses tells nothing apart either."""

_ALIKE = 0.4
"""Cosine of their centred mean texts from which one type may stand in for another; by eye."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(FL OZ|OZ|LB|CT|ML|KG|GAL|QT|PT|PK|L|G)\b", re.I)


def extract(
    items: pd.DataFrame,
    texts: pd.DataFrame,
    vocabulary: Vocabulary,
    vectors: npt.NDArray[np.float32],
) -> pd.DataFrame:
    """One row per text: `text_hash`, `type`, and the lists of `LISTS` as lists of terms.

    `items`: the catalogue (text, the categories, price). `texts`: text_hash and text, sorted by
    hash; `vectors` [texts, d] are their unit embeddings. Every term is one of `vocabulary` or of
    the fixed sets; audience and complements stay empty, a text says nothing about either.
    """
    frame = texts[["text_hash", "text"]].merge(_by_text(items, vocabulary.level), on="text")
    frame = frame.sort_values("text_hash", ignore_index=True)
    words = [
        words_of(f"{title} {text}") for title, text in zip(frame.title, frame.text, strict=True)
    ]
    near = _nearest_types(frame["type"], vectors)
    uses, appeal = _index(_USE_WORDS), _index(_APPEAL_WORDS)
    rarity = _rarity(words)
    telling = _telling(rarity, vocabulary.words) - _fragments(items)
    size = _size_class(frame)
    price = _price_class(frame)
    rows = []
    for at, found in enumerate(words):
        told = _matches(found, appeal) | {size[at], price[at]} - {""}
        served = _matches(found, uses)
        if served.intersection(_ALONE):
            served -= _MEALS
        rows.append(
            {
                "audience": [],
                "uses": _in_order(served, USES)[: MOST["uses"]],
                "comparable_types": near.get(frame["type"][at], []),
                "keywords": _key_terms(found, rarity, telling),
                "appeal": _in_order(told, APPEAL)[: MOST["appeal"]],
                "complements": [],
            }
        )
    lists = pd.DataFrame(rows, columns=list(LISTS), index=frame.index)
    return pd.concat([frame[["text_hash", "type"]], lists], axis=1)


def as_json(terms: list[str]) -> str:
    """A list of terms as it is stored."""
    return json.dumps(terms, ensure_ascii=False)


def _by_text(items: pd.DataFrame, level: str) -> pd.DataFrame:
    """One row per text: its title, type and median list price. Items of a text share a path."""
    grouped = items.sort_values("item_id").groupby("text", sort=True)
    frame = grouped.agg(title=("title", "first"), type=(level, "first"), price=("price", "median"))
    return frame.reset_index()


def _index(lexicon: dict[str, str]) -> dict[str, set[str]]:
    """word -> terms."""
    out: dict[str, set[str]] = {}
    for term, words in lexicon.items():
        for word in words.split():
            out.setdefault(word, set()).add(term)
    return out


def _matches(words: list[str], index: dict[str, set[str]]) -> set[str]:
    """The terms of the words, a pair of words before its parts."""
    terms: set[str] = set()
    at = 0
    while at < len(words):
        pair = "_".join(words[at : at + 2])
        if pair in index or pair in _NOTHING:
            terms |= index.get(pair, set())
            at += 2
        else:
            terms |= index.get(words[at], set())
            at += 1
    return terms


def _in_order(terms: set[str], order: tuple[str, ...]) -> list[str]:
    return [term for term in order if term in terms]


def _rarity(words: list[list[str]]) -> dict[str, float]:
    counted: dict[str, int] = {}
    for found in words:
        for word in set(found):
            counted[word] = counted.get(word, 0) + 1
    return {word: float(np.log(len(words) / n)) for word, n in counted.items()}


def _telling(rarity: dict[str, float], known: frozenset[str]) -> frozenset[str]:
    """Words that tell items apart. In a handful of texts every word may be common."""
    least = -np.log(_COMMON) if len(rarity) > 200 else 0.0
    return frozenset(w for w in known - _ORDINARY if rarity.get(w, 0.0) > least)


def _fragments(items: pd.DataFrame) -> frozenset[str]:
    """Last words of category names that the source cut at a fixed length ("NON-CHOCOL").

    A name is cut when it is one of several that are as long as the longest of its level.
    """
    cut: set[str] = set()
    whole: set[str] = set()
    for level in CATEGORY_COLUMNS:
        names = pd.Series(items[level].unique())
        length = names.str.len()
        longest = length.max()
        is_cut = (length == longest) & (longest >= 20) & (int((length == longest).sum()) >= 3)
        for name, ends in zip(names, is_cut, strict=True):
            found = words_of(name)
            whole.update(found[: -1 if ends else None])
            cut.update(found[-1:] if ends else ())
    return frozenset(cut - whole)


def _key_terms(words: list[str], rarity: dict[str, float], telling: frozenset[str]) -> list[str]:
    """The rarest telling words, of a word and its longer form ("juice", "juices") the longer."""
    found = {w for w in words if w in telling}
    found -= {w for w in found for other in found if other != w and other.startswith(w)}
    return sorted(found, key=lambda w: (-rarity[w], w))[: MOST["keywords"]]


def _nearest_types(types: pd.Series, vectors: npt.NDArray[np.float32]) -> dict[str, list[str]]:
    """The types whose mean text is closest to a type's own mean text, as far as it is close."""
    names, code = np.unique(types.to_numpy(dtype=object), return_inverse=True)
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, code, vectors.astype(np.float64))
    sums -= sums.sum(axis=0) / max(len(code), 1) * np.bincount(code)[:, None]
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    alike = sums @ sums.T
    np.fill_diagonal(alike, -np.inf)
    alike[:, names == ""] = -np.inf
    order = np.argsort(-alike, axis=1, kind="stable")[:, : MOST["comparable_types"]]
    return {
        name: [str(names[j]) for j in order[i] if alike[i, j] >= _ALIKE]
        for i, name in enumerate(names)
        if name
    }


def _size_class(frame: pd.DataFrame) -> list[str]:
    """'large pack' or 'small pack' where a size is far from the usual one of type and unit."""
    found = frame["text"].str.extract(_SIZE)
    amount, unit = found[0].astype("float64"), found[1].str.upper()
    usual = amount.groupby([frame["type"], unit]).transform("median")
    ratio = amount / usual
    return np.select([ratio >= 2, ratio <= 0.5], ["large pack", "small pack"], "").tolist()


def _price_class(frame: pd.DataFrame) -> list[str]:
    """'low price' or 'premium' where the list price is in the outer quarters of its type."""
    place = frame["price"].astype("float64").groupby(frame["type"]).rank(pct=True)
    many = frame["price"].groupby(frame["type"]).transform("nunique") >= 4
    low, high = (place <= 0.25) & many, (place >= 0.75) & many
    return np.select([low, high], ["low price", "premium"], "").tolist()
