"""The first list of somebody who says what they like, at once and without an account.

Belongs here: from words to a list under the shop's rules, on what is served. Does not belong here:
users whose answers come in as data (`stated_candidates` and `recommendations` serve them), reading
words, layout.
"""

from dataclasses import dataclass, replace

import pandas as pd

from recsys_assets.content import embed
from recsys_assets.content.vectors import TEXT_VECTORS
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import serving_cutoff, visits_as_of
from recsys_assets.core.lake import Lake
from recsys_assets.language_model.client import LanguageModel
from recsys_assets.onboarding import reading
from recsys_assets.onboarding.answers import catalogue_terms, query_vectors, unnamed_stems
from recsys_assets.onboarding.diets import known_diets
from recsys_assets.onboarding.preferences import refused
from recsys_assets.onboarding.shelf import shelf_of
from recsys_assets.ranking.lists import apply_rules
from recsys_assets.ranking.placements import DISCOVER, rules_of
from recsys_assets.ranking.reranking import rerank


@dataclass(frozen=True, eq=False)
class FirstList:
    """`rows`: rank, item_id, title, category, reason. `queries` and `avoid` are what was read, by
    `source`, `refused` the words that the bans were read from; `ruled_out` is how many items the
    bans leave out, `reorder_problem` why the model's order was not taken over ('' if it was, or not
    asked for)."""

    queries: tuple[str, ...]
    avoid: frozenset[str]
    refused: tuple[str, ...]
    source: str
    ruled_out: int
    reorder_problem: str
    rows: pd.DataFrame


def first_list(
    lake: Lake,
    shop: Shop,
    words: str,
    n: int,
    model: LanguageModel | None,
    *,
    reorder: bool = False,
) -> FirstList:
    """Read `words`, search for each wish, and deal out the results under the rules of `discover`.

    Wishes take turns; of a product at most one variant is shown. `model` reads the words where
    there is one, and puts the list in order if `reorder`. Raises LakeError when the tables it needs
    were never approved.
    """
    as_of = serving_cutoff(lake.served("cutoffs"), shop)
    items = lake.served("items")
    known = visits_as_of(lake.served("interactions"), as_of)
    text_vectors = {name: lake.served(name) for name in TEXT_VECTORS}
    shelf = shelf_of(items, text_vectors, known, as_of, shop)
    wishes, source = reading.read(words, shelf.words, model, known_diets(shop))
    encoder = embed.load_encoder(shop.encoder.model)
    vectors = query_vectors(
        [(q, wishes.contexts.get(q, "")) for q in wishes.queries],
        lambda texts: embed.embed(encoder, texts),
    )
    found = shelf.candidates(list(wishes.queries), list(vectors), wishes.avoid)
    catalogue = items.to_pandas()
    nobody = pd.DataFrame({"user_id": [], "item_id": []}).astype("str")
    lists = apply_rules(
        found.assign(user_id="", score=1.0 / found["place"])[["user_id", "item_id", "score"]],
        catalogue,
        replace(
            rules_of(shop, DISCOVER),
            length=n,
            pool=max(100, 2 * n),
            mmr_lambda=1.0,
            exploration_rate=0.0,
            exploration_position=None,
        ),
        as_of=as_of,
        taken=nobody,
        users=pd.Series([""]),
    )
    rows = lists.merge(found, on="item_id").merge(
        catalogue[["item_id", "title", "category_1", "category_2"]], on="item_id"
    )
    rows = rows.sort_values("rank", ignore_index=True)
    problem = ""
    if reorder and wishes.queries:
        purpose = "Results for these searches: " + "; ".join(wishes.queries)
        made = rerank(rows["title"].tolist(), purpose, model)
        rows = rows.iloc[list(made.order)].assign(rank=rows["rank"].to_numpy())
        problem = made.problem
    unnamed = unnamed_stems(shop)
    terms = [catalogue_terms(q, shelf.words, unnamed) or "your words" for q in wishes.queries]
    reasons = [
        f"Fits what you told us: {terms[q]}" if q >= 0 else "Popular lately" for q in rows["query"]
    ]
    category = rows["category_2"].where(rows["category_2"] != "", rows["category_1"])
    return FirstList(
        wishes.queries,
        wishes.avoid,
        refused(words, wishes.avoid, known_diets(shop)),
        source,
        int(shelf.words.ruled_out(wishes.avoid).sum()),
        problem,
        rows.assign(reason=reasons, category=category)[
            ["rank", "item_id", "title", "category", "reason"]
        ],
    )
