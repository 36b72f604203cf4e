"""Which items of the catalogue belong together: by their categories, and as variants of a product.

Belongs here: finding items by the names of their category path, telling products apart. Does not
belong here: what that means for anybody (rules and reasons decide it).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

CATEGORY_COLUMNS = ("category_1", "category_2", "category_3")


def in_categories(items: pd.DataFrame, categories: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Whether each item lies in one of `categories`, at any level of its path, ignoring case."""
    wanted = {category.casefold() for category in categories}
    found = np.zeros(len(items), dtype=bool)
    if wanted:
        for column in CATEGORY_COLUMNS:
            names = items[column].fillna("").astype(str)
            distinct = names.unique()
            found |= names.isin([n for n in distinct if n.casefold() in wanted]).to_numpy()
    return found


def joined_path(items: pd.DataFrame, level: int) -> pd.Series:
    """The names of the first `level` levels as one string, empty ones in their place."""
    path, *below = (items[column].fillna("").astype(str) for column in CATEGORY_COLUMNS[:level])
    for names in below:
        path = path + "\x1f" + names
    return path


def category_path(items: pd.DataFrame, level: int) -> pd.Series:
    """The path down to `level` as one string, '' for an item without a category at that level."""
    there = items[CATEGORY_COLUMNS[level - 1]].fillna("").astype(str) != ""
    return joined_path(items, level).where(there, "")


def deepest_path(items: pd.DataFrame, level: int) -> pd.Series:
    """The path down to `level`, or as far as an item's categories go; '' for one without any."""
    path = category_path(items, level)
    for above in range(level - 1, 0, -1):
        path = path.where(path != "", category_path(items, above))
    return path


def product_codes(items: pd.DataFrame) -> npt.NDArray[np.int64]:
    """A number per item, from 0 in order of appearance: the variants of one product (`group_id`)
    share it, an item without a group has its own."""
    group = items["group_id"].fillna("").astype(str)
    alone = "\x1f" + items["item_id"].astype(str)
    return pd.factorize(group.where(group != "", alone))[0].astype(np.int64)
