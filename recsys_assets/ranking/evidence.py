"""Why one item stands on one list: everything that is known, in words that can be checked.

Belongs here: collecting the evidence of a served recommendation (its stored reason, what else is
true of the pair, who proposed it, what moved the ranker) and the plain sentence made of it. Does
not belong here: whether a sentence keeps to the evidence (`grounding.py`), asking a language model
(`phrasing.py`), printing.

SHAP contributions are not stored: they are recomputed, for the asked user only, from the versions
that made the served list, and used only if the recomputed score is the stored one to the last bit.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.content.categories import in_categories
from recsys_assets.content.offer import available
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import met_pairs, visits_as_of
from recsys_assets.core.lake import LakeError, Read, Snapshot, part_name
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking import ranker, reasons
from recsys_assets.ranking.features import (
    FEATURE_TABLES,
    feature_names,
    join_features,
    meaning,
    query_codes,
)
from recsys_assets.ranking.grounding import CATEGORY, ITEM
from recsys_assets.ranking.placements import listed
from recsys_assets.ranking.rules import EXPLORE, FALLBACK, ONBOARDING, STAND_IN
from recsys_assets.ranking.scoring import ensembled, factors, own_scores, served_models

RETRIEVERS = {
    "als": "the habits of people like you",
    "bpr": "the habits of people like you",
    "content": "its likeness to what you took lately",
    "ease": "how well it goes with other things you take",
    "frequency": "your own history with it",
    "next_basket": "what your baskets usually hold",
    "next_item": "what often follows the things you took last",
    "newcomers": "new things like those you take",
    "popularity": "how popular it is lately",
    "repeat_interval": "your own rhythm with it",
    "segment_popularity": "what people with the same details as you take",
    "similar_items": "what people take who take the same things as you",
    "store_popularity": "how popular it is in your usual store",
    "taxonomy": "your taste for things of its kind",
    "stated_preferences": "what you told us",
    "user_neighbours": "what people like you take",
}
"""What a retriever of a kind looks at, in words for the user."""

WITHOUT_HISTORY = {
    "content": "how it or things of its kind have been doing lately",
    "ease": RETRIEVERS["popularity"],
    "newcomers": "how new things of its kind have been doing lately",
}
"""What is left of that for a user without history, where something is."""

_THEMES = {
    "ui": "your own history with it",
    "price": "its price beside what you usually pay",
    "discount": "its price beside what you usually pay",
    "brand": "your history with its brand",
    "ub": "your history with its brand",
    "ubt": "your history with its brand",
    "uc": "your history with its category",
    "ut": "your history with its category",
    "ug": "your history with its variants",
    "item": "how it has been doing lately",
    "promo": "how it is promoted",
    "type": "how things of its kind have been doing lately",
    "store": "how it has been doing in your usual store",
    "user": "how you shop in general",
    "places": "how well all searches agree on it",
    "lists": "how well all searches agree on it",
    "place": "how well all searches agree on it",
}
"""Features by the first word of their name: what they look at, in words for the user."""

NOTHING_THERE = "where there is nothing to look at"
"""What all features add that look at something which is not there, such as the history with an item
that was never taken. It counts in the score, and is nothing that speaks for the item."""

NOT_RANKED = {
    FALLBACK: "the item fills up a list that has too few candidates",
    STAND_IN: "on this list something simpler beat the ranker and gives the order",
    EXPLORE: "the item was drawn by lot among those that may stand there, to learn from it",
    ONBOARDING: "on this list what was said counts beside behaviour: places in both are added up",
}
"""Policies of rows that do not stand where a ranker's score put them, and why."""
_TASKS: dict[str, ranker.Task] = {"discover": "new", "buy_again": "again"}
"""The ranker behind a placement; all others are ordered by the one for anything."""

_RETRIEVER_COLUMN = re.compile(r"(?:score|rank|share|place)_(?!best$)(.+)")


@dataclass(frozen=True)
class Contribution:
    """What one feature added to the ranker's score of the item (SHAP, in units of the margin)."""

    feature: str
    meaning: str
    value: float | None
    amount: float


@dataclass(frozen=True)
class Theme:
    """Contributions of features that look at the same thing, added up."""

    text: str
    amount: float


@dataclass(frozen=True)
class Evidence:
    """What is known about one recommendation.

    `facts` are sentences true of the pair; the first is the reason that is shown. `proposed` are
    the retrievers in words. `themes` add up all contributions, `contributions` holds the largest,
    both by falling size of their effect; where no ranker scored the item both are empty, and `note`
    says why.
    A `sensitive` item has no facts, and nothing about it may leave the house.
    """

    title: str
    category: str
    placement: str
    rank: int
    policy: str
    reason: str
    reason_code: str
    sensitive: bool
    facts: tuple[str, ...] = ()
    retrievers: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    themes: tuple[Theme, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    note: str = ""

    @property
    def in_favour(self) -> tuple[str, ...]:
        """What moved the item up, strongest first, in words."""
        return tuple(t.text for t in self.themes if t.amount > 0 and t.text != NOTHING_THERE)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything a sentence about this recommendation may rely on. Names no user."""
        if self.sensitive:
            return (self.reason,)
        item = f"{ITEM}{self.title}"
        category = (f"{CATEGORY}{self.category}",) if self.category else ()
        found = tuple(f"Found by {text}" for text in self.proposed)
        first = tuple(f"What speaks for it most: {text}" for text in self.in_favour[:1])
        others = tuple(f"What also speaks for it: {text}" for text in self.in_favour[1:])
        said = (item, *category, self.reason, *self.facts, *found, *first, *others)
        return tuple(dict.fromkeys(said))

    @property
    def sentence(self) -> str:
        """The plain sentence: the reason, and what the ranker weighed most where one did."""
        if self.sensitive or not self.in_favour:
            return f"{self.reason}."
        return f"{self.reason}. What speaks for it most: {self.in_favour[0]}."


def collect(
    read: Read,
    shop: Shop,
    warehouse: Warehouse,
    user_id: str,
    item_id: str,
    placement: str | None = None,
) -> Evidence:
    """The evidence of a served recommendation; of the first list with the item if none is named.

    read: finds a table by name; all are of one release. Raises LakeError when the item is on no
    list of the user, saying whether it was a candidate at all.
    """
    row = _listed(read, user_id, item_id, placement)
    catalogue = read("items").to_pandas()
    item = catalogue[catalogue["item_id"] == item_id]
    sensitive = bool(in_categories(item, frozenset(shop.rules.sensitive_categories))[0])
    known = item.iloc[0]
    names = tuple(r for r in str(row["retrievers"]).split(", ") if r)
    as_of = pd.Timestamp(row["as_of"])
    visits = visits_as_of(read("interactions"), as_of)
    new = not (visits["user_id"] == user_id).any()
    in_words = _words_for(read, shop, user_id, as_of, new)
    found = Evidence(
        title=str(known["title"]),
        category=next((str(known[f"category_{n}"]) for n in (2, 1) if known[f"category_{n}"]), ""),
        placement=str(row["placement"]),
        rank=int(row["rank"]),
        policy=str(row["policy"]),
        reason=str(row["reason"]),
        reason_code=str(row["reason_code"]),
        sensitive=sensitive,
        retrievers=names,
        proposed=tuple(dict.fromkeys(in_words(name) for name in names)),
    )
    if user_id not in set(read("users").to_arrow(["user_id"])["user_id"].to_pylist()):
        return replace(found, note="nobody knows this user: the item is what is popular")
    if not sensitive:
        facts = _facts(read, shop, catalogue, visits, user_id, item_id, as_of)
        found = replace(found, facts=facts)
    if found.policy in NOT_RANKED:
        return replace(found, note=NOT_RANKED[found.policy])
    if new:  # what the ranker makes of a missing history is nothing about this user
        return replace(
            found, note="this user has no history: what is known of items gives the order"
        )
    try:
        shap = recompute(read, warehouse, user_id, item_id, as_of, found.placement)
    except NoContributionsError as error:
        return replace(found, note=str(error))
    summed = themes(shap, in_words)
    return replace(found, themes=summed, contributions=tuple(shap[:10]))


class NoContributionsError(LakeError):
    """The ranker's contributions to a served score cannot be given; the text says why."""


def recompute(
    read: Read,
    warehouse: Warehouse,
    user_id: str,
    item_id: str,
    as_of: pd.Timestamp,
    placement: str,
) -> list[Contribution]:
    """Every feature's contribution to the score a served item was ranked by, largest first.

    Raises NoContributionsError when no ranker scored the item, when a newer version of an input
    has been approved since the list was made, when the ranker reads other features than are made
    now, or when the score does not come out the same.
    """
    _same_versions(read)
    part = part_name(as_of)
    task = _TASKS.get(placement, "all")
    stored = read("scored_candidates").where("user_id", user_id, part)
    place = pc.index(stored["item_id"].combine_chunks(), item_id).as_py()
    if place < 0:
        raise NoContributionsError("no retriever proposed the item, so no ranker scored it")
    if f"score_{task}" not in stored.column_names:
        raise NoContributionsError(f"an older version made the list, without a ranker for {task}")
    models = served_models(read("rankers").to_pandas(), "live")
    if f"score_{task}" not in models:
        raise NoContributionsError(
            "the data are too short for a ranker of its own: another order was taken over"
        )
    _same_features(models.values(), read("candidates").columns)
    frame = _features(read, warehouse, user_id, part)
    seen = frame["ui_seen"].to_numpy() > 0
    own = own_scores(models, frame, seen)
    again = ensembled(models, own, query_codes(frame["user_id"]), seen)[f"score_{task}"][place]
    if again != np.float32(stored[f"score_{task}"][place].as_py()):
        raise NoContributionsError(
            "the score does not come out as it was served: another version of a library or a model "
            "made it. Run the job again to explain what it serves"
        )
    served = factors(models, own, task, seen, place)
    table = ranker.contributions(served, frame, place, top=len(served[0][0].features))
    return [
        Contribution(r["feature"], meaning(r["feature"]), r["value"], r["contribution"])
        for r in table.to_pylist()
    ]


def themes(contributions: list[Contribution], in_words: Callable[[str], str]) -> tuple[Theme, ...]:
    """Contributions added up by what their features look at, largest effect first.

    `in_words` says what a retriever looks at; its columns count towards that. Where every feature
    of a kind is null or 0, there was nothing to look at (`NOTHING_THERE`); a place among those that
    a retriever scores 0 is nothing either.
    """
    texts, there = [], set()
    for c in contributions:
        column = _RETRIEVER_COLUMN.fullmatch(c.feature)
        text = in_words(column.group(1)) if column else _THEMES[c.feature.split("_")[0]]
        texts.append(text)
        if c.value and not (column and c.feature.startswith("place_")):
            there.add(text)
    sums: dict[str, float] = {}
    for text, c in zip(texts, contributions, strict=True):
        text = text if text in there else NOTHING_THERE
        sums[text] = sums.get(text, 0.0) + c.amount
    ordered = sorted(sums.items(), key=lambda pair: (-abs(pair[1]), pair[0]))
    return tuple(Theme(text, amount) for text, amount in ordered)


def _words_for(
    read: Read, shop: Shop, user_id: str, as_of: pd.Timestamp, new: bool
) -> Callable[[str], str]:
    """What each retriever looks at for this user, in words: a user without a store or without the
    details that count gets what is popular with everybody from the two that go by them."""
    user = read("users").where("user_id", user_id, columns=["attributes"])["attributes"].to_pylist()
    details = {name for text in user for name, value in json.loads(text).items() if value}
    columns = ["event_time", "store_id", "counts_as_taken", "polarity"]
    events = read("interactions").where("user_id", user_id, columns=columns).to_pandas()
    liked = events[events["counts_as_taken"] & (events["polarity"] > 0)]
    store = liked.loc[liked["event_time"] < as_of, "store_id"].notna().any()

    def in_words(retriever: str) -> str:
        settings = shop.retriever(retriever)
        counted = settings.params.get("attributes") or details
        instead = WITHOUT_HISTORY if new else {}
        if not store:
            instead = {**instead, "store_popularity": RETRIEVERS["popularity"]}
        if details.isdisjoint(counted):
            instead = {**instead, "segment_popularity": RETRIEVERS["popularity"]}
        return _in_words(shop, retriever, instead)

    return in_words


def _in_words(shop: Shop, retriever: str, instead: Mapping[str, str] | None = None) -> str:
    kind = shop.retriever(retriever).kind or retriever
    if instead and kind in instead:
        return instead[kind]
    known = [k for k in RETRIEVERS if kind == k or kind.startswith(f"{k}_")]
    return RETRIEVERS[max(known, key=len)] if known else f"the search {retriever} found it"


def _listed(read: Read, user_id: str, item_id: str, placement: str | None) -> dict[str, Any]:
    lists = read("recommendations").where("user_id", user_id).to_pandas()
    as_of = None if lists.empty else pd.Timestamp(lists["as_of"].iloc[0])
    if as_of is None:
        popular = read("popular_recommendations").to_pandas()
        as_of = pd.Timestamp(popular["as_of"].iloc[0])
        if not read("users").where("user_id", user_id).num_rows:
            lists = popular
    row = listed(lists, item_id, placement)
    if row is None:
        scored = read("scored_candidates")
        candidates = scored.where("user_id", user_id, scored.parts[-1])["item_id"]
        among = item_id in set(candidates.to_pylist())
        why = _not_on_offer(read("items"), item_id, as_of) or (
            "it was a candidate, but others scored higher or a rule left it out"
            if among
            else "no retriever proposed it"
        )
        where = placement or "any list"
        raise LakeError(f"item {item_id!r} is not on {where} of user {user_id!r}: {why}")
    return row


def _not_on_offer(items: Snapshot, item_id: str, as_of: pd.Timestamp) -> str:
    """Why an item was on nobody's list at that moment, '' if it might have been."""
    catalogue = items.to_pandas(["item_id", "status", "available_from", "available_to"])
    item = catalogue[catalogue["item_id"] == item_id]
    if item.empty:
        return "the catalogue these lists were made from does not have it"
    if available(item, as_of)[0]:
        return ""
    status, begins, ends = item.iloc[0][["status", "available_from", "available_to"]]
    if status != "active":
        return f"it is not on offer: its status is {status}"
    if begins > as_of:
        return f"it is not on offer before {begins:%F}"
    return f"it is not available since {ends:%F}"


def _facts(
    read: Read,
    shop: Shop,
    catalogue: pd.DataFrame,
    visits: pd.DataFrame,
    user_id: str,
    item_id: str,
    as_of: pd.Timestamp,
) -> tuple[str, ...]:
    evidence = reasons.gather_evidence(
        pd.DataFrame({"user_id": [user_id], "item_id": [item_id]}),
        visits,
        catalogue,
        as_of=as_of,
        met=met_pairs(read("interactions"), as_of),
        together=read("bought_together").to_pandas(),
        sensitive=frozenset(shop.rules.sensitive_categories),
    )
    return tuple(reasons.all_reasons(evidence, shop.wording)["reason"])


def _same_versions(read: Read) -> None:
    """Refuse unless every input is still the version the served lists were made from."""
    for made, inputs in (
        ("recommendations", ("scored_candidates",)),
        ("scored_candidates", ("candidates", "items", "rankers", *FEATURE_TABLES)),
    ):
        key = read(made).versions[0].key
        for name in inputs:
            if key.inputs.get(name) != read(name).content_id:
                raise NoContributionsError(
                    f"a newer {name} was approved after {made}: a run is under way or was cut "
                    "short. Finish it to explain what it serves"
                )


def _same_features(models: Iterable[ranker.RankerModel], candidate_columns: list[str]) -> None:
    """Refuse rankers that read other features than this version of the program knows."""
    known = tuple(feature_names(candidate_columns))
    if any(model.features != known for model in models):
        raise NoContributionsError(
            "its ranker reads other features than this version of the program makes: another "
            "version made the list. Run the job again to explain what it serves"
        )


def _features(read: Read, warehouse: Warehouse, user_id: str, part: str) -> pa.Table:
    """All features of the user's candidates, as the ranker saw them."""
    by_user = ("user_features", "user_item_features", "user_category_features")
    grains = {name: read(name).where("user_id", user_id, part) for name in by_user}
    for name in ("item_features", "store_item_features"):
        grains[name] = read(name).to_arrow(part=part)
    candidates = read("candidates").where("user_id", user_id, part)
    return join_features(warehouse, candidates, read("items").paths(), grains)
