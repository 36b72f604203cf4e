"""What the embedded vector index costs and finds, at the sizes given (default: 92,000 1,000,000).

Run as `nice python -m benchmarks.index [--folder DIR] [N ...]` with RECSYS_HOME naming a built
lake: its item vectors are the material. Up to the size of the catalogue they are taken as they are,
beyond that every vector is a catalogue vector plus Gaussian noise (cosine to the original about
.9): clustered like real embeddings, which uniform random vectors are not. Queries are noisy
catalogue vectors too.

Prints, per size: seconds, objects and bytes of a full build and of a build after 1% of the objects
changed; recall@10 against exact search, p50 and p99 latency of single queries, with filters that
leave 50%, 10% and 2% of the objects; latency of keyword search; peak memory.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_assets.content.vectors import TEXT_VECTORS, item_vectors
from recsys_assets.core.lake import Lake
from recsys_assets.core.settings.index import Index as Settings
from recsys_assets.indexing.contract import Release, Vectors
from recsys_assets.indexing.embedded import EmbeddedIndex
from recsys_assets.indexing.objects import ALWAYS_FROM, ALWAYS_TO, EVERYWHERE, Filter, Objects
from recsys_assets.indexing.verify import recall

MODEL = "benchmark"
QUERIES = 200


def material() -> tuple[np.ndarray, list[str]]:
    """Vector and text of every catalogue item of the lake."""
    lake = Lake(Path(os.environ["RECSYS_HOME"]) / "lake")
    items = lake.served("items")
    found = item_vectors(items, {name: lake.served(name) for name in TEXT_VECTORS})
    texts = items.to_pandas(["item_id", "text"]).sort_values("item_id")["text"].tolist()
    return found.matrix, texts


def noisy(vectors: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """`vectors` moved, in place, to unit vectors with a cosine of about .9 to what they were."""
    spread = np.float32(0.48 / np.sqrt(vectors.shape[1]))
    for first in range(0, len(vectors), 50_000):
        block = vectors[first : first + 50_000]
        block += spread * random.standard_normal(block.shape, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def objects(vectors: np.ndarray, texts: list[str], random: np.random.Generator) -> Objects:
    """`n` objects; `price` is uniform in 0..100, so that a price limit leaves a known share."""
    n = len(vectors)
    columns = {
        "text": pa.array([texts[i % len(texts)] for i in range(n)]),
        "categories": pa.array([["all", f"aisle {i % 97}"] for i in range(n)]),
        "brand": pa.array([f"brand {i % 997}" for i in range(n)]),
        "price": pa.array(random.uniform(0, 100, n)),
        "available_from": pa.array(np.full(n, ALWAYS_FROM)),
        "available_to": pa.array(np.full(n, ALWAYS_TO)),
        "active": pa.array(np.ones(n, dtype=bool)),
        "market": pa.array([EVERYWHERE] * n),
        "group_id": pa.array([f"g{i}" for i in range(n)]),
        "popularity": pa.array(np.zeros(n, dtype=np.int64)),
        "warm": pa.array(np.ones(n, dtype=bool)),
        "first_seen": pa.array(np.full(n, ALWAYS_FROM)),
    }
    ids = pa.array([f"i{i:08d}" for i in range(n)])
    return Objects(ids, vectors, pa.table(columns))


def built(index: EmbeddedIndex, what: Objects, label: str) -> tuple[str, float]:
    started = time.perf_counter()
    release = Release.of(MODEL, what, {"benchmark": "1"})
    hashed = time.perf_counter() - started
    started = time.perf_counter()
    made = index.build(release, what)
    took = time.perf_counter() - started
    print(
        f"  {label:<18}{took:9.2f} s   {made.written:>9,} objects written, "
        f"{made.bytes / 1e6:,.1f} MB   (+ {hashed:.2f} s to hash all objects)",
        flush=True,
    )
    return release.id, took


def latency(ask, rounds: int) -> str:  # type: ignore[no-untyped-def]
    times = []
    for n in range(rounds):
        started = time.perf_counter()
        ask(n)
        times.append(1000 * (time.perf_counter() - started))
    return f"p50 {np.percentile(times, 50):7.2f} ms  p99 {np.percentile(times, 99):7.2f} ms"


def run(size: int, vectors: np.ndarray, texts: list[str], folder: Path) -> None:
    print(f"\n{size:,} objects x {vectors.shape[1]} numbers", flush=True)
    random = np.random.default_rng(7)
    pick = random.permutation(len(vectors))
    chosen = np.sort(pick[:size]) if size <= len(vectors) else np.resize(pick, size)
    own = vectors[chosen]
    if size > len(vectors):
        noisy(own, random)
    what = objects(own, [texts[i] for i in chosen[: len(vectors)]], random)
    index = EmbeddedIndex(folder, Settings())
    release, full = built(index, what, "full build")
    queries = Vectors(MODEL, noisy(vectors[random.integers(0, len(vectors), QUERIES)], random))
    started = time.perf_counter()
    index.nearest(release, Vectors(MODEL, queries.matrix[:1]), 10)
    print(f"  {'open':<18}{time.perf_counter() - started:9.2f} s   every file hashed first")
    for name, where in (
        ("no filter", Filter()),
        ("50% match", Filter(max_price=50.0)),
        ("10% match", Filter(max_price=10.0)),
        ("2% match", Filter(max_price=2.0)),
    ):
        found = recall(index, release, what, queries, 10, where)
        times = latency(
            lambda n, where=where: index.nearest(
                release, Vectors(MODEL, queries.matrix[n : n + 1]), 10, where
            ),
            QUERIES,
        )
        print(f"  {name:<18}recall@10 {found:.4f}   {times}", flush=True)
    words = latency(lambda n: index.matching(release, texts[n * 7], 10), QUERIES)
    print(f"  {'keywords':<18}                   {words}", flush=True)
    changed = random.choice(size, size // 100, replace=False)
    own[changed] = noisy(own[changed], random)
    index.close()
    again = Objects(what.item_ids, own, what.properties)
    _, part = built(index, again, "1% changed")
    print(f"  1% changed costs {100 * part / full:.1f}% of the full build's time")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  {'peak memory':<18}{memory:9.2f} GB  (the vectors of the benchmark included)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[92_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where to build (default: a temporary folder)")
    arguments = parser.parse_args()
    vectors, texts = material()
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    for size in arguments.sizes:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            run(size, vectors, texts, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
