"""The vector index as an asset: built as a release of its store, verified by its gate."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pandas as pd

from recsys_assets.content.profiles import profiles
from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core.assets import GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import interactions_as_of, live_cutoff
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.proofs import cut_off
from recsys_assets.core.quality import Failure
from recsys_assets.indexing.catalogue import catalogue_objects
from recsys_assets.indexing.contract import Release, VectorIndex, Vectors
from recsys_assets.indexing.objects import Filter, object_id
from recsys_assets.indexing.stores import RELEASE, approved_release, open_index, release_of
from recsys_assets.indexing.tables import VECTOR_INDEX
from recsys_assets.indexing.verify import Findings, Golden, verify

GROUP = "indexing"
QUERIES = 100
"""Users' profiles, and as many items, that recall is measured with."""

KNOWN_ITEMS = 20
"""Items whose own text must find them (or a twin with the same text)."""

_EVENTS = ["user_id", "item_id", "event_time", "counts_as_taken", "polarity", "price"]


def _store(project: Project) -> str:
    """Which store the release is in. Another one, or the loss of the release, means building."""
    with closing(open_index(project)) as index:
        approved = approved_release(project.lake)
        there = approved is None or approved in {r.id for r in index.releases()}
    where = project.weaviate_url if project.vector_store == "weaviate" else ""
    return f"{project.vector_store} {where} {'' if there else f'lost {approved}'}"


class _Contents:
    """What the release must hold, and real queries with which to ask it."""

    def __init__(
        self,
        items: Snapshot,
        text_vectors: TextVectors,
        interactions: Snapshot,
        cutoffs: Snapshot,
        shop: Shop,
    ) -> None:
        as_of = live_cutoff(cutoffs)
        self.shop = shop
        self.catalogue = items.to_pandas().sort_values("item_id", ignore_index=True)
        vectors = item_vectors(items, text_vectors)
        known = interactions_as_of(interactions, as_of, _EVENTS).to_pandas()
        known["counts_as_taken"] &= known["polarity"] > 0  # a dislike makes nothing popular
        embeddings = text_vectors["text_embeddings"]
        self.model = str(embeddings.report()["texts"]["model"])
        self.objects = catalogue_objects(self.catalogue, vectors, known, as_of)
        inputs = (items, embeddings, interactions, cutoffs)
        built_from = {s.asset: s.content_id for s in inputs}
        self.release = Release.of(self.model, self.objects, built_from)
        random = np.random.default_rng(shop.seed)
        taken = known[known["counts_as_taken"]]
        people = np.sort(taken["user_id"].unique())
        some = random.choice(people, min(QUERIES, len(people)), replace=False)
        _, tastes = profiles(taken[taken["user_id"].isin(some)], vectors, as_of)
        rows = random.choice(len(vectors.matrix), min(QUERIES, len(vectors.matrix)), replace=False)
        self.queries = Vectors(self.model, np.concatenate([tastes, vectors.matrix[rows]]))

    def verified(self, index: VectorIndex) -> Findings:
        """What `verify` finds out about the release in `index`."""
        return verify(
            index,
            self.release,
            self.objects,
            self.queries,
            filters=self._filters(),
            golden=[*self._known_items(), *self._golden()],
            seed=self.shop.seed,
        )

    def _filters(self) -> dict[str, Filter]:
        """One filter that leaves much, one that leaves less, one that leaves little."""
        found: dict[str, Filter] = {}
        for name, level in (("in its largest department", 1), ("in its largest category", 3)):
            names = self.catalogue[f"category_{level}"]
            names = names[names != ""]
            if len(names):
                found[name] = Filter(category=str(names.mode()[0]))
        prices = self.objects.properties["price"].to_pandas().dropna()
        if len(prices):
            found["below the median price"] = Filter(max_price=float(prices.median()))
        return found

    def _known_items(self) -> list[Golden]:
        popular = np.lexsort(
            (np.arange(len(self.objects)), -self.objects.properties["popularity"].to_numpy())
        )
        by_text = self.catalogue.groupby("text")["item_id"].agg(frozenset)
        texts = self.catalogue["text"]
        rows = [n for n in popular[:KNOWN_ITEMS] if texts[n]]
        vectors = self.objects.vectors
        return [
            Golden(texts[n], Vectors(self.model, vectors[n : n + 1]), by_text[texts[n]])
            for n in rows
        ]

    def _golden(self) -> list[Golden]:
        """The shop's own golden queries; its encoder is loaded only if there are any."""
        wanted = self.shop.index.golden
        if not wanted:
            return []
        from recsys_assets.content import embed
        from recsys_assets.content.categories import in_categories

        encoded = embed.embed(embed.load_encoder(self.shop.encoder.model), list(wanted))
        return [
            Golden(
                text,
                Vectors(self.model, encoded[n : n + 1]),
                frozenset(
                    self.catalogue.loc[
                        in_categories(self.catalogue, frozenset([category])), "item_id"
                    ]
                ),
            )
            for n, (text, category) in enumerate(wanted.items())
        ]


def _release_is_verified(
    candidate: Snapshot,
    items: Snapshot,
    text_vectors: TextVectors,
    interactions: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    project: Project,
) -> Iterator[Failure]:
    known = cut_off(interactions, live_cutoff(cutoffs))
    contents = _Contents(items, text_vectors, known, cutoffs, shop)
    listed = candidate.to_arrow(["item_id", "content_hash"])
    if listed["content_hash"].to_pylist() != contents.objects.hashes.to_pylist():
        yield Failure(
            "differs from what the catalogue and the events before the cutoff say: it is outdated, "
            "or it saw the future",
            "content_hash",
        )
        return
    if release_of(candidate) != contents.release.id:
        yield Failure(f"is release {release_of(candidate)}, not {contents.release.id}", "release")
        return
    with closing(open_index(project)) as index:
        for problem in contents.verified(index).failures:
            yield Failure(problem, "")


@table_asset(
    VECTOR_INDEX,
    group=GROUP,
    kinds=["vectordb", "python"],
    pool="index",
    config=("index", "encoder", "seed"),
    rules=[_release_is_verified],
    inputs_hash=_store,
    code=("recsys_assets.indexing.embedded", "recsys_assets.indexing.weaviate"),
)
def vector_index(
    items: Snapshot,
    text_vectors: TextVectors,
    interactions: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    project: Project,
    report: Report,
) -> pd.DataFrame:
    """Every catalogue item as an object that can be found by vector, by words and by property.

    Built as a release beside the one that is served: only objects that differ from an earlier
    release are written. The gate asks the store itself (count, samples, recall, golden queries)
    before the release may be served; the alias moves when it is published.
    """
    contents = _Contents(items, text_vectors, interactions, cutoffs, shop)
    release, objects = contents.release, contents.objects
    with closing(open_index(project)) as index:
        approved = approved_release(project.lake)
        made = index.build(release, objects, protect={approved} if approved else set())
        found = contents.verified(index)
    report.texts |= {RELEASE: release.id, "model": release.model, "store": project.vector_store}
    report.texts["verification"] = "\n".join(f"- {f}" for f in found.failures) or "passed"
    report.numbers |= found.numbers
    report.numbers |= {
        "dimension": release.dimension,
        "objects written": made.written,
        "objects deleted": made.deleted,
        "objects unchanged": made.unchanged,
        "megabytes written": round(made.bytes / 1e6, 3),
        "megabytes of vectors": round(objects.vectors.nbytes / 1e6, 3),
    }
    ids = objects.item_ids.to_pylist()
    return pd.DataFrame(
        {
            "item_id": ids,
            "object_id": [object_id(i) for i in ids],
            "content_hash": objects.hashes.to_pylist(),
        }
    )


ASSETS: list[GatedAsset] = [vector_index]
