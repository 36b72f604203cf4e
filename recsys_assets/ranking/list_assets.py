"""Ranking assets that people see: the lists that are served, each row with its reason."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from recsys_assets.collaborative.popularity import popular_lately
from recsys_assets.content.vectors import TextVectors, item_vectors
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    at_cutoff,
    live_cutoff,
    met_pairs,
    serving_cutoff,
    taken_pairs,
    visits_as_of,
)
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.ranking import reasons, rules, stated, tables
from recsys_assets.ranking.lists import apply_rules
from recsys_assets.ranking.placements import (
    placements,
    published,
    repeated_after_all,
    rules_of,
    unmatched,
)

GROUP = "ranking"

FALLBACK = 1_000
"""How many popular items stand ready for lists that the candidates cannot fill."""

ROOMY = 50
"""From so many times a list's length on, a catalogue can fill every list under every rule."""


def _lists_keep_the_rules(
    candidate: Snapshot,
    items: Snapshot,
    users: Snapshot,
    interactions: Snapshot,
    stated_preferences: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
) -> Iterator[Failure]:
    as_of = live_cutoff(cutoffs)
    catalogue, lists = items.to_pandas(), candidate.to_pandas()
    everyone = users.to_pandas(["user_id"])["user_id"]
    # What somebody rules out may be everything: nobody who does is owed a list.
    owed = everyone[~everyone.isin(stated.bans(stated_preferences.to_pandas()))]
    taken = taken_pairs(interactions, as_of)
    for placement in placements(shop):
        complete = placement != "buy_again"
        own = rules_of(shop, placement)
        roomy = complete and len(catalogue) >= ROOMY * own.length
        for violation in rules.check_lists(
            lists[lists["placement"] == placement],
            catalogue,
            own,
            as_of=as_of,
            taken=taken,
            users=owed if complete else None,
            allowed_short=0.0 if roomy else 1.0,
        ):
            yield Failure(f"{placement}: {violation.rule}: {violation.detail}", "", violation.count)


def _build_id(shop: Shop, *inputs: Snapshot) -> str:
    text = shop.section_hash("rules", "placements", "ranker", "retrieval", "seed")
    return hashlib.sha256("".join([text, *(s.content_id for s in inputs)]).encode()).hexdigest()[
        :12
    ]


@table_asset(
    tables.RECOMMENDATIONS,
    group=GROUP,
    kinds=["python", "parquet"],
    config=(
        "rules",
        "placements",
        "ranker",
        "retrieval",
        "repeats",
        "wording",
        "seed",
        "onboarding",
        "cutoffs",
    ),
    rules=[_lists_keep_the_rules],
)
def recommendations(
    scored_candidates: Snapshot,
    stand_ins: Snapshot,
    stated_preferences: Snapshot,
    stated_candidates: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    cutoffs: Snapshot,
    bought_together: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """What to show, per placement and user, each row with a reason that is true of the data.

    `for_you`: anything they are likely to take next. `discover`: nothing they took before, one
    variant per product. `buy_again`: what they took before and are likely to take again within
    days. Users without history get what is popular. Where something simpler beat the ranker on the
    tune target, its order is shown (`stand_ins`).
    Users who said what they like and have done little yet get what both speak for, and nobody is
    shown anything new that they ruled out.
    """
    as_of = serving_cutoff(cutoffs, shop)
    scored = scored_candidates.to_pandas(part=part_name(as_of))
    catalogue = items.to_pandas()
    known = visits_as_of(interactions, as_of)
    everyone = users.to_pandas(["user_id"])["user_id"]
    taken = taken_pairs(interactions, as_of)
    fallback = fallback_items(known, catalogue, as_of, shop)
    vectors = item_vectors(items, text_vectors)
    given: dict[str, Any] = {"as_of": as_of, "taken": taken, "vectors": vectors}
    instead = at_cutoff(stand_ins, as_of)
    replaced = set(instead["placement"])
    said = stated.Stated.build(
        stated_preferences.to_pandas(), stated_candidates.to_pandas(), known, catalogue, shop
    )
    lists = []
    for placement in placements(shop):
        rows = published(scored, placement, shop, instead)
        open_to_words = placement != "buy_again"
        if open_to_words:
            rows = said.weighed(rows, taken)
        parts = []
        # Nothing popular fills up the lists of users with bans: it might be what they ruled out.
        for people, spare in ((said.without_bans(everyone), fallback), (said.with_bans, None)):
            if len(people) or not len(said.with_bans):
                owed: dict[str, Any] = {"fallback": spare, "users": people} if open_to_words else {}
                own = rows[rows["user_id"].isin(people)]
                parts.append(
                    apply_rules(own, catalogue, rules_of(shop, placement), **given, **owed)
                )
        made = pd.concat(parts, ignore_index=True)
        if placement in replaced:
            made["policy"] = made["policy"].replace(rules.RANKER, rules.STAND_IN)
        if open_to_words:
            made["policy"] = said.policy(made)
        lists.append(made.assign(placement=placement))
        report.numbers[f"{placement} users"] = int(made["user_id"].nunique())
        report.numbers[f"{placement} fallback share"] = float((made["policy"] == "fallback").mean())
    shown = pd.concat(lists, ignore_index=True)
    shown = shown.merge(
        scored[["user_id", "item_id", "retrievers"]], on=["user_id", "item_id"], how="left"
    )
    shown["retrievers"] = said.found_by(shown)
    met = met_pairs(interactions, as_of)
    why = explain(shown, known, met, catalogue, as_of, bought_together.to_pandas(), shop)
    why = said.say(shown, why)
    codes = why["reason_code"].value_counts(normalize=True)
    report.numbers |= {f"reason {code} share": float(s) for code, s in codes.items()}
    build = _build_id(
        shop, scored_candidates, stand_ins, stated_preferences, stated_candidates, items,
        bought_together,
    )  # fmt: skip
    report.texts["build"] = build
    if told := [*unmatched(shop.rules, catalogue), *repeated_after_all(known, shop)]:
        report.texts["warnings"] = "\n".join(f"- {warning}" for warning in told)
    shown = _told(shown, why, build, as_of)
    return shown.sort_values(["placement", "user_id", "rank"], ignore_index=True)


def _told(shown: pd.DataFrame, why: pd.DataFrame, build: str, as_of: pd.Timestamp) -> pd.DataFrame:
    """`shown` with the reasons `why`, row by row, and with what it was made from and when."""
    texts = {name: why[name].to_numpy() for name in ("reason", "reason_code", "reason_evidence")}
    return shown.assign(**texts, build_id=build, as_of=as_of)


def fallback_items(
    known: pd.DataFrame, catalogue: pd.DataFrame, as_of: pd.Timestamp, shop: Shop
) -> pd.DataFrame:
    """item_id, score: of what may be shown, the most taken items of late (`popular_lately`), then
    others, 1,000 at most."""
    counts = popular_lately(known, as_of=as_of, horizon_days=shop.cutoffs.horizon_days)
    on_offer = catalogue[rules.eligible(catalogue, rules_of(shop, "for_you"), as_of)]["item_id"]
    counts = counts[counts.index.isin(on_offer)]
    rest = on_offer[~on_offer.isin(counts.index)]
    ids = [*counts.index, *rest][:FALLBACK]
    return pd.DataFrame(
        {"item_id": ids, "score": counts.reindex(ids).fillna(0).to_numpy(dtype="float32")}
    )


def explain(
    shown: pd.DataFrame,
    known: pd.DataFrame,
    met: pd.DataFrame | None,
    catalogue: pd.DataFrame,
    as_of: pd.Timestamp,
    together: pd.DataFrame,
    shop: Shop,
) -> pd.DataFrame:
    """One reason per row of `shown`, in its order."""
    evidence = reasons.gather_evidence(
        shown[["user_id", "item_id"]],
        known,
        catalogue,
        as_of=as_of,
        met=met,
        together=together,
        sensitive=frozenset(shop.rules.sensitive_categories),
    )
    return reasons.write_reasons(evidence, shop.wording)


@table_asset(
    tables.POPULAR_RECOMMENDATIONS,
    group=GROUP,
    kinds=["python", "parquet"],
    config=("rules", "placements", "repeats", "wording", "seed", "cutoffs"),
)
def popular_recommendations(
    interactions: Snapshot,
    items: Snapshot,
    cutoffs: Snapshot,
    recommendations: Snapshot,
    bought_together: Snapshot,
    text_vectors: TextVectors,
    shop: Shop,
) -> pd.DataFrame:
    """What to show to somebody nobody knows: popular lately, under the same rules.

    Nothing is explored: it is one list for all of them, and one draw for many people is no
    experiment.
    """
    as_of = serving_cutoff(cutoffs, shop)
    known = visits_as_of(interactions, as_of)
    catalogue = items.to_pandas()
    fallback = fallback_items(known, catalogue, as_of, shop)
    vectors = item_vectors(items, text_vectors)
    nobody = pd.Series([""], name="user_id")
    nothing = pd.DataFrame({"user_id": [], "item_id": [], "score": []}).astype(
        {"user_id": "str", "item_id": "str", "score": "float32"}
    )
    lists = [
        apply_rules(
            nothing,
            catalogue,
            replace(rules_of(shop, p), exploration_rate=0.0),
            as_of=as_of,
            taken=nothing[["user_id", "item_id"]],
            vectors=vectors,
            fallback=fallback,
            users=nobody,
        ).assign(placement=p)
        for p in placements(shop)
        if p != "buy_again"
    ]
    shown = pd.concat(lists, ignore_index=True)
    why = explain(shown, known, None, catalogue, as_of, bought_together.to_pandas(), shop)
    build = recommendations.to_arrow(["build_id"])["build_id"][0].as_py()
    return _told(shown.assign(retrievers=""), why, build, as_of).drop(columns="user_id")


ASSETS: list[GatedAsset] = [recommendations, popular_recommendations]
