"""What one object of the index carries, how it is named, and when it counts as changed.

Belongs here: the properties people filter by, the filter itself, deterministic object ids and
content hashes. Does not belong here: any store, and where the values come from (`assets.py`).
"""

import hashlib
import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.lake import LakeError

FORMAT = "1"
"""Raise it when the meaning of a property changes: another format is another index."""

PROPERTIES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "categories": pa.list_(pa.string()),
    "brand": pa.string(),
    "price": pa.float64(),
    "available_from": pa.int64(),
    "available_to": pa.int64(),
    "active": pa.bool_(),
    "market": pa.string(),
    "group_id": pa.string(),
    "popularity": pa.int64(),
    "warm": pa.bool_(),
    "first_seen": pa.int64(),
}
"""`text` is what keyword search reads. `categories` (every level of the path) and `brand` are lower
case. Times are UTC seconds; `available_from`/`available_to` without a limit are `ALWAYS_FROM` and
`ALWAYS_TO`, `first_seen` of an item nobody took and without a start date is `ALWAYS_FROM`. `market`
is `EVERYWHERE` where the catalogue names none. `popularity` is a step (see `popularity_step`): an
object must not change because one more person took the item. `price` alone may be null."""

ALWAYS_FROM, ALWAYS_TO = -(2**40), 2**40
EVERYWHERE = "*"

_NAMESPACE = uuid.UUID("6f0c1f0e-52b8-5d5b-9d0d-6d9a4f0f6f21")


def object_id(item_id: str) -> str:
    """The UUID (version 5) of an item's object: the same in every release and store."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits, as Weaviate's tokenization `word` makes them."""
    found: list[str] = split_words(pa.array([text]))[0].as_py()
    return [word for word in found if word]


def split_words(texts: pa.Array) -> pa.ListArray:
    """`words` of many texts at once; a text without any has one empty word."""
    spaced = pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\pL\pN]+", " ")
    return pc.utf8_split_whitespace(pc.utf8_trim_whitespace(spaced))


def popularity_step(people: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """floor(log2(1 + people)): 0 for nobody, 1 for one or two, 4 for 15 to 30."""
    return np.floor(np.log2(1.0 + people)).astype(np.int64)


@dataclass(frozen=True)
class Condition:
    """One property compared with one value; conditions of a filter all have to hold."""

    property: str
    operator: Literal["equals", "at_most", "at_least", "above", "contains", "one_of"]
    value: str | int | float | bool | tuple[str, ...]


class FilterError(LakeError):
    """A filter that nothing could ever pass, or that says nothing."""


@dataclass(frozen=True)
class Filter:
    """What a result must be. Texts ignore case, except ids and markets.

    `category`: at any level of the path. `market`: offered there or everywhere. `available_at`:
    active and within its dates at that UTC second. `fresh_since`: first seen at that UTC second or
    later. An item without a price passes no price limit. Raises FilterError for empty texts (no
    store finds what is empty), prices that are no number, and limits the wrong way round.
    """

    category: str | None = None
    brand: str | None = None
    group: str | None = None
    market: str | None = None
    min_price: float | None = None
    max_price: float | None = None
    min_popularity: int | None = None
    warm: bool | None = None
    available_at: int | None = None
    fresh_since: int | None = None

    def __post_init__(self) -> None:
        for name in ("category", "brand", "group", "market"):
            text = getattr(self, name)
            if text is not None and not text.strip():
                raise FilterError(f"the {name} to search in is empty: name one or leave it out")
        limits = [p for p in (self.min_price, self.max_price) if p is not None]
        if not all(math.isfinite(p) for p in limits):
            raise FilterError(f"a price limit is a number, not {' and '.join(map(str, limits))}")
        if len(limits) == 2 and limits[0] > limits[1]:
            raise FilterError(
                f"the least price, {limits[0]:g}, is above the greatest, {limits[1]:g}"
            )

    @property
    def conditions(self) -> list[Condition]:
        """The filter as conditions that every store knows how to ask."""
        found: list[Condition] = []
        if self.category is not None:
            found.append(Condition("categories", "contains", self.category.lower()))
        if self.brand is not None:
            found.append(Condition("brand", "equals", self.brand.lower()))
        if self.group is not None:
            found.append(Condition("group_id", "equals", self.group))
        if self.market is not None:
            found.append(Condition("market", "one_of", (EVERYWHERE, self.market)))
        if self.min_price is not None:
            found.append(Condition("price", "at_least", float(self.min_price)))
        if self.max_price is not None:
            found.append(Condition("price", "at_most", float(self.max_price)))
        if self.min_popularity is not None:
            found.append(Condition("popularity", "at_least", self.min_popularity))
        if self.warm is not None:
            found.append(Condition("warm", "equals", self.warm))
        if self.available_at is not None:
            found += [
                Condition("active", "equals", True),
                Condition("available_from", "at_most", self.available_at),
                Condition("available_to", "above", self.available_at),
            ]
        if self.fresh_since is not None:
            found.append(Condition("first_seen", "at_least", self.fresh_since))
        return found


EVERYTHING = Filter()


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one release, sorted by item id.

    `item_ids`: n distinct strings; `vectors`: float32 [n, d], finite and not all zero;
    `properties`: n rows of exactly `PROPERTIES`, prices finite or null. Raises ValueError naming
    the first offending ids.
    """

    item_ids: pa.Array
    vectors: npt.NDArray[np.float32]
    properties: pa.Table

    def __post_init__(self) -> None:
        n = len(self.item_ids)
        if self.vectors.ndim != 2 or len(self.vectors) != n or self.properties.num_rows != n:
            raise ValueError(
                f"{n} item ids, vectors of shape {self.vectors.shape} and "
                f"{self.properties.num_rows} rows of properties do not belong together"
            )
        if self.properties.schema.names != list(PROPERTIES):
            raise ValueError(f"properties are {list(PROPERTIES)}, not {self.properties.schema}")
        if n and not pc.all(pc.less(self.item_ids[:-1], self.item_ids[1:])).as_py() and n > 1:
            raise ValueError("item ids must be sorted and distinct")
        squares = np.einsum("ij,ij->i", self.vectors, self.vectors)
        self._refuse(
            ~(np.isfinite(squares) & (squares > 0)),
            "vectors are zero or not finite",
            "repair text_embeddings",
        )
        infinite = pc.invert(pc.is_finite(self.properties["price"]))
        self._refuse(
            pc.fill_null(infinite, False).to_numpy(),
            "prices are not finite",
            "repair the catalogue",
        )

    def _refuse(self, bad: npt.NDArray[np.bool_], what: str, remedy: str) -> None:
        if bad.any():
            ids = self.item_ids.take(pa.array(np.flatnonzero(bad)[:5])).to_pylist()
            raise ValueError(f"{int(bad.sum())} {what} (items {', '.join(ids)}): {remedy}")

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def hashes(self) -> pa.Array:
        """Per object 32 hex digits over its vector and properties: equal means unchanged."""
        columns = [_as_text(self.properties[name].combine_chunks()) for name in PROPERTIES]
        lines = pc.binary_join_element_wise(*columns, "\x1f").to_pylist()
        vectors = np.ascontiguousarray(self.vectors)
        return pa.array(
            hashlib.blake2b(line.encode() + row.tobytes(), digest_size=16).hexdigest()
            for line, row in zip(lines, vectors, strict=True)
        )

    @cached_property
    def digest(self) -> str:
        """sha256 over all ids and content hashes."""
        pairs = pc.binary_join_element_wise(self.item_ids, self.hashes, "\x1f").to_pylist()
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()

    def take(self, rows: Iterable[int] | npt.NDArray[np.int64]) -> "Objects":
        """The objects at `rows`, which must ascend."""
        at = np.asarray(rows, dtype=np.int64)
        part = Objects(
            self.item_ids.take(pa.array(at)), self.vectors[at], self.properties.take(pa.array(at))
        )
        part.__dict__["hashes"] = self.hashes.take(pa.array(at))
        return part


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        column = pc.binary_join(column, "\x1e")
    return pc.fill_null(column.cast(pa.string()), "\x00")
