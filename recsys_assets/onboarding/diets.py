"""What words such as "vegetarian" rule out, in words that catalogues use.

Belongs here: the table of diets and the words that lift a ban ("meatless"). Does not belong here:
reading a text (`preferences.py`), items. English only: a shop in another language adds its own
words under `onboarding.avoid`, and the language model needs no table.
"""

# ruff: noqa: SIM905 - a table of words reads best as words

from collections.abc import Mapping

from recsys_assets.core.config import Shop

_MEAT = """
    meat beef pork chicken turkey veal lamb mutton ham bacon sausage salami pepperoni bologna wiener
    frank frankfurter hotdog bratwurst kielbasa chorizo prosciutto jerky steak sirloin brisket
    meatball meatloaf hamburger burger poultry fowl duck goose venison rabbit lunchmeat
    luncheon liver giblet gelatin lard chitterling oxtail rib wing spam
""".split()
_FISH = """
    seafood fish tuna salmon shrimp prawn crab lobster clam oyster mussel scallop squid calamari
    anchovy sardine herring cod haddock tilapia catfish trout halibut caviar sushi surimi
""".split()
_DAIRY = """
    milk dairy cheese butter cream yogurt yoghurt whey custard ghee buttermilk cheddar mozzarella
    parmesan sherbet margarine pudding
""".split()
_EGGS = ["egg", "mayonnaise", "mayo", "omelet", "quiche"]
_GLUTEN = """
    gluten wheat bread bun roll bagel pasta spaghetti macaroni noodle flour cracker cookie cake
    pastry barley rye beer ale pretzel pizza waffle pancake muffin doughnut donut croissant biscuit
    tortilla stuffing crouton breading crumb
""".split()
_NUTS = ["nut", "peanut", "almond", "cashew", "walnut", "pecan", "hazelnut", "pistachio", "praline"]
_ALCOHOL = """
    alcohol wine beer ale liquor spirit whiskey whisky vodka gin rum tequila brandy champagne
""".split()
_SUGAR = "sugar candy chocolate cookie cake syrup soda donut frosting honey".split()

DIETS: Mapping[str, tuple[str, ...]] = {
    "vegetarian": (*_MEAT, *_FISH),
    "veggie": (*_MEAT, *_FISH),
    "meatless": tuple(_MEAT),
    "vegan": (*_MEAT, *_FISH, *_DAIRY, *_EGGS, "honey"),
    "plant-based": (*_MEAT, *_FISH, *_DAIRY, *_EGGS),
    "pescatarian": tuple(_MEAT),
    "halal": ("pork", "ham", "bacon", "lard", "gelatin", "pepperoni", *_ALCOHOL),
    "kosher": ("pork", "ham", "bacon", "lard", "shrimp", "crab", "lobster", "clam", "oyster"),
    "celiac": tuple(_GLUTEN),
    "coeliac": tuple(_GLUTEN),
    "teetotal": tuple(_ALCOHOL),
    "diabetic": tuple(_SUGAR),
}
"""A word somebody says of themselves -> the words that rule an item out."""


def known_diets(shop: Shop) -> dict[str, tuple[str, ...]]:
    """The diets of this module and those of the shop file, which win."""
    return {**DIETS, **{name: tuple(words) for name, words in shop.onboarding.avoid.items()}}


GROUPS: Mapping[str, tuple[str, ...]] = {
    "meat": tuple(_MEAT),
    "fish": tuple(_FISH),
    "seafood": tuple(_FISH),
    "shellfish": ("shrimp", "prawn", "crab", "lobster", "clam", "oyster", "mussel", "scallop"),
    "dairy": tuple(_DAIRY),
    "lactose": tuple(_DAIRY),
    "egg": tuple(_EGGS),
    "gluten": tuple(_GLUTEN),
    "wheat": tuple(_GLUTEN),
    "nut": tuple(_NUTS),
    "peanut": ("peanut",),
    "alcohol": tuple(_ALCOHOL),
    "sugar": tuple(_SUGAR),
    "pork": ("pork", "ham", "bacon", "lard"),
}
"""A thing somebody says they avoid -> all the words that name it."""

CARRIERS: Mapping[str, tuple[str, ...]] = {"gluten": tuple(_GLUTEN), "sugar": tuple(_SUGAR)}
"""What is only ruled out since it usually contains a thing: "gluten-free bread" is bread that may
be shown to whom gluten is the trouble. Meat is not in a sausage in this sense."""

LIFTED = frozenset(
    """
    meatless vegetarian vegan veggie tofu soy imitation substitute substitutes plant-based
    """.split()
)
"""An item with such a word is not what its other words say ("meatless burger"). "-free" and
"non-" before a word have the same effect on that word."""
