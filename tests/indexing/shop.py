"""A small catalogue as index objects, and queries into it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.indexing.contract import Release, VectorIndex, Vectors
from recsys_assets.indexing.objects import (
    ALWAYS_FROM,
    ALWAYS_TO,
    EVERYWHERE,
    PROPERTIES,
    Objects,
)

MODEL = "test-encoder"
DIMENSION = 16
SHELF = [
    # id, text, path, brand, price, market, group, popularity
    ("pasta-1", "Gluten free pasta 500 g", "GROCERY>PASTA", "Barilla", 2.5, "", "g1", 4),
    ("pasta-2", "Gluten free pasta 1 kg", "GROCERY>PASTA", "Barilla", 4.5, "", "g1", 2),
    ("pasta-3", "Spaghetti", "GROCERY>PASTA", "De Cecco", 1.5, "", "g2", 6),
    ("sauce-1", "Tomato sauce for pasta", "GROCERY>SAUCE", "Barilla", 3.0, "", "g3", 5),
    ("bread-1", "Gluten free bread", "BAKERY>BREAD", "Schär", 3.5, "AT", "g4", 1),
    ("soap-1", "Hand soap", "DRUG>SOAP", "Dove", None, "DE", "g5", 0),
]


def make(ids: Sequence[str], vectors: np.ndarray, **columns: Sequence[Any]) -> Objects:
    """Objects sorted by id, with defaults for every property not given."""
    n = len(ids)
    given: dict[str, Sequence[Any]] = {
        "text": [f"thing {i}" for i in ids],
        "categories": [["things"]] * n,
        "brand": ["nobody"] * n,
        "price": [1.0] * n,
        "available_from": [ALWAYS_FROM] * n,
        "available_to": [ALWAYS_TO] * n,
        "active": [True] * n,
        "market": [EVERYWHERE] * n,
        "group_id": list(ids),
        "popularity": [0] * n,
        "warm": [False] * n,
        "first_seen": [ALWAYS_FROM] * n,
        **columns,
    }
    order = np.argsort(np.asarray(ids, dtype=object))
    table = pa.table(
        {name: pa.array([given[name][i] for i in order], kind) for name, kind in PROPERTIES.items()}
    )
    names = pa.array([ids[i] for i in order], pa.string())
    return Objects(names, np.ascontiguousarray(vectors[order], dtype=np.float32), table)


def directions(n: int, dimension: int = DIMENSION, seed: int = 0) -> np.ndarray:
    """n random unit vectors in a few clusters, as catalogues have them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(12, dimension))
    found = centres[random.integers(0, 12, n)] + 0.5 * random.normal(size=(n, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def shelf(**changes: Any) -> Objects:
    """The objects of SHELF; `changes` maps a property to {item id: value}."""
    ids = [row[0] for row in SHELF]
    columns: dict[str, list[Any]] = {
        "text": [row[1] for row in SHELF],
        "categories": [row[2].lower().split(">") for row in SHELF],
        "brand": [row[3].lower() for row in SHELF],
        "price": [row[4] for row in SHELF],
        "market": [row[5] or EVERYWHERE for row in SHELF],
        "group_id": [row[6] for row in SHELF],
        "popularity": [row[7] for row in SHELF],
        "warm": [row[7] > 0 for row in SHELF],
        "available_from": [ALWAYS_FROM] * len(SHELF),
        "available_to": [ALWAYS_TO] * len(SHELF),
        "active": [True] * len(SHELF),
        "first_seen": [1000 * n for n in range(len(SHELF))],
    }
    for name, values in changes.items():
        for item, value in values.items():
            columns[name][ids.index(item)] = value
    return make(ids, axes(len(ids)), **columns)


def axes(n: int) -> np.ndarray:
    """n vectors: the first axis shared, so that neighbours by number are neighbours in space."""
    angle = np.linspace(0, np.pi / 2, n)
    out = np.zeros((n, DIMENSION))
    out[:, 0], out[:, 1] = np.cos(angle), np.sin(angle)
    return out.astype(np.float32)


def crowd(n: int, changed: Sequence[int] = (), gone: Sequence[int] = (), seed: int = 0) -> Objects:
    """n objects `i00000`..; those `changed` get another vector and text, `gone` are left out."""
    most = max(1000, n)
    vectors = directions(most, seed=seed)[:n]
    vectors[list(changed)] = directions(most, seed=seed + 1)[list(changed)]
    texts = [f"thing number {i} of row {i % 7}" for i in range(n)]
    for i in changed:
        texts[i] = f"renewed {i}"
    here = [i for i in range(n) if i not in set(gone)]
    return make(
        [f"i{i:05d}" for i in here],
        vectors[here],
        text=[texts[i] for i in here],
        price=[float(i % 50) for i in here],
        categories=[["all", f"row {i % 7}"] for i in here],
    )


def release_of(objects: Objects, model: str = MODEL, **built_from: str) -> Release:
    return Release.of(model, objects, built_from or {"items": "v1"})


def publish(index: VectorIndex, objects: Objects) -> None:
    """Build the release of `objects` and serve it."""
    release = release_of(objects)
    index.build(release, objects)
    index.activate(release.id)


def query(*vectors: Sequence[float] | np.ndarray, model: str = MODEL) -> Vectors:
    return Vectors(model, np.asarray(vectors, dtype=np.float32))


def exact(objects: Objects, vector: np.ndarray, k: int) -> list[str]:
    """The true nearest items, ties (to five places) by id."""
    scores = np.round((objects.vectors @ vector).astype(float), 5)
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    return [objects.item_ids[int(i)].as_py() for i in order]
