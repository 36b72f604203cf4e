"""Enrichment from the catalogue's own words, without any model.

Belongs here: what a text, its category path and its list price say about an item. Does not belong
here: what people do with it (`relations.py`), what a language model says (`claude.py`).
"""

import json
import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.enrichment.vocabulary import APPEAL, USES, Vocabulary, words_of

LISTS = ("audience", "uses", "comparable_types", "keywords", "appeal", "complements")
"""The multi-valued fields, stored as JSON arrays."""

MOST = {"keywords": 6, "comparable_types": 3, "uses": 3, "appeal": 4}

_USE_WORDS: dict[str, str] = {
    "breakfast": "cereal oatmeal pancake waffle bagel breakfast egg eggs bacon muffin syrup",
    "lunch": "sandwich lunch lunchmeat deli soup salad bread",
    "dinner": "dinner meat beef pork chicken poultry seafood fish pasta rice sauce entree pizza",
    "snack": "snack snacks chips crackers cookies nuts popcorn pretzels candy bars",
    "drink": "drink drinks water juice juices beverage beverages soda coffee tea milk beer wine",
    "baking": "baking flour sugar yeast cake mix frosting pie",
    "cooking": "oil spice spices sauces seasoning vinegar broth tomato vegetables onions garlic",
    "dessert": "dessert desserts ice cream pudding pastry pie cakes",
    "party": "party paper plates cups balloons napkins",
    "gift": "gift gifts floral bouquet flowers card cards wrap",
    "cleaning": "cleaner cleaners cleaning dish bleach towels trash bags sponge",
    "laundry": "laundry detergent softener fabric",
    "personal care": "hair shampoo soap soaps deodorant shave cosmetics makeup skin lotion oral",
    "health": "vitamin vitamins cold cough allergy pain first aid diet medicine",
    "baby care": "baby infant diapers formula toddler wipes",
    "pet care": "pet dog cat puppy kitten litter bird",
    "school": "school pencil pens notebook crayons",
    "office": "office stationery paper tape ink envelopes",
    "garden": "garden plants seeds soil lawn fertilizer outdoor",
    "home repair": "hardware paint tools fasteners bulbs batteries electrical automotive",
    "decoration": "decor candle candles frames ornaments christmas halloween easter",
    "clothing": "apparel socks shoes hosiery clothing shirts",
    "travel": "travel luggage trial",
    "sport": "sport sports fitness camping fishing energy",
    "entertainment": "video dvd music toys toy games game film movie comedy drama action thriller",
    "reading": "magazine magazines book books newspaper newspapers paperback",
    "learning": "documentary educational puzzles crosswords",
}
_APPEAL_WORDS: dict[str, str] = {
    "premium": "premium gourmet select deluxe specialty imported artisan",
    "store brand": "private",
    "organic": "organic natural",
    "light": "light lite diet fat lowfat skim sugarfree reduced low",
    "seasonal": "seasonal christmas halloween easter valentine holiday summer winter",
    "for children": "kids kid children baby infant toddler juvenile toys",
    "convenient": "instant ready microwavable prepared convenience single serve entrees",
    "fresh": "fresh produce bakery deli cut",
    "frozen": "frozen frzn frz ice",
    "classic": "traditional classic original regular mainstream",
}
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
    size = _size_class(frame)
    price = _price_class(frame)
    rows = []
    for at, found in enumerate(words):
        told = _matches(found, appeal) | {size[at], price[at]} - {""}
        rows.append(
            {
                "audience": [],
                "uses": _in_order(_matches(found, uses), USES)[: MOST["uses"]],
                "comparable_types": near.get(frame["type"][at], []),
                "keywords": _key_terms(found, rarity, vocabulary.words),
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
    return {term for word in words for term in index.get(word, ())}


def _in_order(terms: set[str], order: tuple[str, ...]) -> list[str]:
    return [term for term in order if term in terms]


def _rarity(words: list[list[str]]) -> dict[str, float]:
    counted: dict[str, int] = {}
    for found in words:
        for word in set(found):
            counted[word] = counted.get(word, 0) + 1
    return {word: float(np.log(len(words) / n)) for word, n in counted.items()}


def _key_terms(words: list[str], rarity: dict[str, float], known: frozenset[str]) -> list[str]:
    terms = sorted({w for w in words if w in known}, key=lambda w: (-rarity[w], w))
    return terms[: MOST["keywords"]]


def _nearest_types(types: pd.Series, vectors: npt.NDArray[np.float32]) -> dict[str, list[str]]:
    """The types whose mean text is closest to a type's own mean text."""
    names, code = np.unique(types.to_numpy(dtype=object), return_inverse=True)
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, code, vectors.astype(np.float64))
    sums -= sums.mean(axis=0) * (np.bincount(code) / max(len(code), 1))[:, None]
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    alike = sums @ sums.T
    np.fill_diagonal(alike, -np.inf)
    alike[:, names == ""] = -np.inf
    order = np.argsort(-alike, axis=1, kind="stable")[:, : MOST["comparable_types"]]
    return {
        name: [str(names[j]) for j in order[i] if alike[i, j] > 0]
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
