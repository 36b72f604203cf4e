"""The catalogue as somebody sees it who only knows what they like: queries in, a first list out.

Belongs here: the catalogue's own vocabulary, which items a ban rules out, and ranked candidates for
queries. Does not belong here: reading what was said (`preferences.py`), business rules (ranking).

A query scores an item by meaning (cosine of centred embeddings), by words (the share of the query's
known words, weighted by rarity, that the item has) and by how many took it lately. The lists of a
profile's queries are dealt out in turn, so that no wish crowds out another; within a query no
product comes twice, and `PER_KIND` of each kind that fits come before more of the same.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.collaborative.popularity import popular_lately
from recsys_assets.content.categories import (
    CATEGORY_COLUMNS,
    deepest_path,
    in_categories,
    product_codes,
)
from recsys_assets.content.offer import on_offer
from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core.config import Shop
from recsys_assets.core.lake import Snapshot
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.onboarding.preferences import avoided, stems

PER_KIND = 2
PER_QUERY = 60
"""Candidates per query."""

POPULAR = 100
"""Popular items behind the wishes, so that every list can be filled."""

STILL_FITS = 0.6
"""An item fits a query if it comes this close to the one that fits it best, however popular; also
to one that must not be shown: red grapes do not stand in for red wine."""

COMPOUND = 4
"""A word the catalogue lacks and that has so many letters may be a part of one it has."""

NEAR = 0.34
"""A query of words the catalogue lacks must come so close to the three nearest kinds of products by
meaning (mean cosine of centred embeddings); else it is not about anything in this shop."""

FEEDBACK = 0.5
"""Weight of the mean of the ten kinds of products that fit a query best, beside the query. The mean
of kinds that have little in common is short, and moves it little."""

WORDS_WEIGHT = 0.4
POPULARITY_WEIGHT = 0.3
"""Set by hand, with the tune target in view (docs/decisions/0010-behaviour-takes-over.md)."""

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Words:
    """The catalogue's own vocabulary: which item has which words, in item_id order.

    `text` is the code of an item's document; documents have `words` (stems), and `postings` are the
    documents of each stem.
    """

    ids: npt.NDArray[np.object_]
    text: Codes
    words: tuple[frozenset[str], ...]
    postings: dict[str, Codes]

    @classmethod
    def build(cls, items: pd.DataFrame) -> "Words":
        """From the staged catalogue: title, category path and text."""
        items = items.sort_values("item_id", ignore_index=True)
        columns = ["title", *CATEGORY_COLUMNS, "text"]
        parts = [items[name].fillna("").astype(str) for name in columns]
        document = parts[0]
        for part in parts[1:]:
            document = document + " | " + part
        text, documents = pd.factorize(document)
        words = tuple(frozenset(stems(d)) for d in documents)
        postings: dict[str, list[int]] = {}
        for code, found in enumerate(words):
            for word in found:
                postings.setdefault(word, []).append(code)
        return cls(
            items["item_id"].to_numpy(dtype=object),
            text.astype(np.int64),
            words,
            {w: np.array(codes, dtype=np.int64) for w, codes in postings.items()},
        )

    def places(self, item_ids: pd.Series) -> Codes:
        """Position of each item, -1 for one that the catalogue lacks."""
        return np.asarray(pd.Index(self.ids).get_indexer(pd.Index(item_ids)), dtype=np.int64)

    def ruled_out(self, avoid: Collection[str]) -> npt.NDArray[np.bool_]:
        """Per item: whether a ban on these stems rules it out."""
        hit = np.zeros(len(self.words), dtype=bool)
        touched = [self.postings[w] for w in sorted(avoid) if w in self.postings]
        for code in np.unique(np.concatenate(touched)) if touched else []:
            hit[code] = avoided(self.words[code], avoid)
        return hit[self.text]

    def matches(self, word: str) -> Codes:
        """The documents that have a stem; for one that no document has, those whose words are made
        of it ("vollkornbrot" of "brot") or that it is a form of ("healthy" of "health")."""
        if word in self.postings:
            return self.postings[word]
        found = [
            self.postings[other]
            for other in self.postings
            if (len(word) >= COMPOUND and (other.endswith(word) or other.startswith(word)))
            or (len(other) > COMPOUND and word.startswith(other) and len(word) <= len(other) + 2)
        ]
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)

    def known(self, words: Collection[str]) -> list[str]:
        """Those of the stems that the catalogue has, sorted."""
        return sorted(w for w in words if len(self.matches(w)))

    def overlap(self, query: str) -> Floats:
        """Per document: the share of the query's known words that it has, weighted by rarity."""
        found = np.zeros(len(self.words), dtype=np.float32)
        hits = {w: self.matches(w) for w in sorted(set(stems(query)))}
        rarity = {w: np.log(len(self.words) / len(d)) + 0.1 for w, d in hits.items() if len(d)}
        for word, weight in rarity.items():
            found[hits[word]] += np.float32(weight / sum(rarity.values()))
        return found


@dataclass(frozen=True, eq=False)
class Shelf:
    """Items that may be shown to somebody new, and what a query needs of them.

    Arrays per item, in item_id order: `group` and `kind` are codes (kind -1: no category),
    `popularity` 0..1, `shown` whether it may be recommended from a stated preference. `unit` are
    centred unit vectors of the documents of `words`, [n, d], and `kind_of_text` their kinds (one of
    its own for a document without a category).
    """

    words: Words
    group: Codes
    kind: Codes
    popularity: Floats
    shown: npt.NDArray[np.bool_]
    unit: Floats
    centre: Floats
    kind_of_text: Codes

    @classmethod
    def build(
        cls,
        items: pd.DataFrame,
        vectors: ItemVectors,
        recent: pd.Series,
        sensitive: frozenset[str] = frozenset(),
    ) -> "Shelf":
        """From the staged catalogue, its vectors, and takings lately (item_id -> number).

        Items that are not active, and those of `sensitive` categories, are never shown.
        """
        items = items.sort_values("item_id", ignore_index=True)
        words = Words.build(items)
        path = deepest_path(items, 3)
        rows = vectors.rows(items["item_id"])
        first = np.full(len(words.words), -1)
        first[words.text[::-1]] = rows[::-1]
        matrix = np.where((first >= 0)[:, None], vectors.matrix[first], np.float32(0))
        centre = np.average(matrix, axis=0, weights=np.bincount(words.text)).astype(np.float32)
        kind = np.where(path == "", -1, pd.factorize(path)[0]).astype(np.int64)
        place = np.full(len(words.words), -1)
        place[words.text[::-1]] = np.arange(len(items))[::-1]
        counts = np.log1p(recent.reindex(items["item_id"]).fillna(0.0).to_numpy(dtype=float))
        active = (items["status"] == "active").to_numpy()
        return cls(
            words=words,
            group=product_codes(items),
            kind=kind,
            popularity=(counts / max(counts.max(initial=0.0), 1e-9)).astype(np.float32),
            shown=active & ~in_categories(items, sensitive),
            unit=_unit(matrix - centre),
            centre=centre,
            kind_of_text=np.where(kind[place] < 0, -1 - place, kind[place]),
        )

    def candidates(
        self,
        queries: Sequence[str],
        vectors: Sequence[Floats],
        avoid: Collection[str] = frozenset(),
    ) -> pd.DataFrame:
        """Items for one profile, best first: item_id, place (1, 2, …), query (its position; -1 for
        what is only popular). `vectors` are the queries' embeddings, of unit length."""
        allowed = self.shown & ~self.words.ruled_out(avoid)
        lists = [self._list(q, v, allowed) for q, v in zip(queries, vectors, strict=True)]
        dealt = [
            (place, number, row)
            for number, rows in enumerate(lists)
            for place, row in enumerate(rows.tolist())
        ]
        popular = self._distinct(self.popularity, allowed, POPULAR).tolist()
        order = [(row, number) for _, number, row in sorted(dealt)]
        order += [(row, -1) for row in popular]
        frame = pd.DataFrame(order, columns=["row", "query"])
        groups = self.group[frame["row"].to_numpy(dtype=np.int64)]
        frame = frame[~pd.Series(groups).duplicated().to_numpy()].reset_index(drop=True)
        return pd.DataFrame(
            {
                "item_id": self.words.ids[frame["row"].to_numpy(dtype=np.int64)],
                "place": np.arange(1, len(frame) + 1, dtype=np.int32),
                "query": frame["query"].to_numpy(dtype=np.int32),
            }
        )

    def fit(self, query: str, vector: Floats) -> Floats:
        """How well each document fits one query, by meaning and by words; all 0 if the query is
        not about this catalogue.

        The query is answered twice: what fits best says what it means here (pseudo-relevance
        feedback after Rocchio, 1971, over kinds of products), and the second time it is searched
        for together with that. "Dogs" are pets, since most of what has the word is for pets.
        """
        by_words = np.float32(WORDS_WEIGHT) * self.words.overlap(query)
        asked = _unit((vector - self.centre)[None, :])[0]
        by_meaning = self.unit @ asked
        if not by_words.any() and by_meaning[self._best_kinds(by_meaning, 3)].mean() < NEAR:
            return np.zeros_like(by_words)
        meant = self.unit[self._best_kinds(by_meaning + by_words, 10)].mean(axis=0)
        moved = _unit((asked + np.float32(FEEDBACK) * meant)[None, :])[0]
        fit: Floats = self.unit @ moved + by_words
        return fit

    def _best_kinds(self, fit: Floats, n: int) -> Codes:
        """The best document of each of the `n` kinds that fit best."""
        best = np.argsort(-fit, kind="stable")
        return best[~pd.Series(self.kind_of_text[best]).duplicated().to_numpy()][:n]

    def _list(self, query: str, vector: Floats, allowed: npt.NDArray[np.bool_]) -> Codes:
        fit = self.fit(query, vector)[self.words.text]
        fits = allowed & (fit >= STILL_FITS * fit.max(initial=0.0)) & (fit > 0)
        score = fit + np.float32(POPULARITY_WEIGHT) * self.popularity
        return self._distinct(score, fits, PER_QUERY)

    def _distinct(self, score: Floats, allowed: npt.NDArray[np.bool_], n: int) -> Codes:
        """The best rows, one per product; first at most `PER_KIND` of a kind, then the others."""
        rows = np.flatnonzero(allowed)
        keep = min(len(rows), 60 * n)
        if keep < len(rows):  # far more than n distinct products are among so many
            rows = rows[np.argpartition(-score[rows], keep - 1)[:keep]]
        rows = rows[np.lexsort((rows, -score[rows]))]
        rows = rows[~pd.Series(self.group[rows]).duplicated().to_numpy()]
        kind = pd.Series(self.kind[rows])
        nth = kind.groupby(kind).cumcount().to_numpy()
        many = (nth >= PER_KIND) & (kind.to_numpy() >= 0)
        return np.concatenate([rows[~many], rows[many]])[:n]


def shelf_of(
    items: Snapshot,
    text_vectors: TextVectors,
    known: pd.DataFrame,
    as_of: pd.Timestamp,
    shop: Shop,
) -> Shelf:
    """The catalogue for onboarding, as `known` (events before `as_of`) leave it; what the shop may
    not show at `as_of` takes nobody's place, neither in a list nor as the variant of a product."""
    return Shelf.build(
        on_offer(items.to_pandas(), shop, as_of),
        item_vectors(items, text_vectors),
        popular_lately(known, as_of=as_of, horizon_days=shop.cutoffs.horizon_days),
        frozenset(shop.rules.sensitive_categories),
    )


def _unit(matrix: Floats) -> Floats:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.maximum(length, 1e-9)).astype(np.float32)
