"""How fast should behaviour take over from stated preferences? The measurement behind `k`.

Takes households of the default shop with a long history, in five groups, and forgets all but the
last 0, 1, 2, 3 or 5 baskets of a group before the tune cutoff; each household answers the
onboarding questions from what was forgotten. The rest of the shop stays as it was. The whole
pipeline (retrievers, features, the tune target's rankers) then recommends from the few baskets, the
onboarding profile recommends from the answers, and both are blended with weight (n + k) / (n + 2 k)
on behaviour, and for comparison n / (n + k), for a grid of k.

    RECSYS_HOME=.recsys python -m benchmarks.onboarding_weight FOLDER

FOLDER keeps the scored candidates (some minutes), so that a second start measures other blends in
seconds.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project import resources
from recsys_assets.collaborative.popularity import popular_items
from recsys_assets.content import embed
from recsys_assets.content.vectors import TEXT_VECTORS, item_vectors
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of
from recsys_assets.core.lake import part_name
from recsys_assets.core.metrics import paired_bootstrap, per_user_metrics, seeded_uniform
from recsys_assets.onboarding import questions
from recsys_assets.onboarding.shelf import Shelf
from recsys_assets.ranking import features
from recsys_assets.ranking.scoring import candidate_history, score_or_fuse, served_models
from recsys_assets.ranking.stated import behaviour_weight, blend
from recsys_assets.retrieval import candidates, registry
from recsys_assets.retrieval.contract import EventLog

GRID = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
KNOWN = (0, 1, 2, 3, 5)
"""Baskets that are known, by group."""

PER_GROUP = 180
MIN_BASKETS = 25
SEED = 7


def groups(known: pd.DataFrame, relevant: set[str]) -> pd.Series:
    """user_id -> baskets that are known of them; a fixed draw of households with a long history
    and something to find."""
    baskets = known[known["counts_as_taken"]].groupby("user_id")["session_id"].nunique()
    ids = sorted(u for u in baskets[baskets >= MIN_BASKETS].index if u in relevant)
    draw = np.argsort(seeded_uniform(ids, SEED, "onboarding"))[: PER_GROUP * len(KNOWN)]
    return pd.Series(np.resize(KNOWN, len(draw)), index=[ids[i] for i in draw])


def remembered(known: pd.DataFrame, group: pd.Series) -> pd.Series:
    """Which events stay: all of other users, of the groups' those of their last baskets."""
    chosen = known["user_id"].isin(group.index)
    starts = known[chosen].groupby(["user_id", "session_id"])["event_time"].min().reset_index()
    starts = starts.sort_values(["user_id", "event_time", "session_id"])
    back = starts.groupby("user_id").cumcount(ascending=False)
    kept = starts[back < starts["user_id"].map(group)]
    pairs = pd.MultiIndex.from_frame(kept[["user_id", "session_id"]])
    return ~chosen | pd.MultiIndex.from_frame(known[["user_id", "session_id"]]).isin(pairs)


def behaviour(folder: Path, known: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Scored candidates of the groups when only their last baskets are known."""
    file = folder / "behaviour.parquet"
    if file.exists():
        return pd.read_parquet(file)
    project = resources.project()
    lake, shop, warehouse = project.lake, project.shop, project.warehouse
    as_of = cutoff_of(lake.served("cutoffs"), "tune")
    assert as_of is not None
    kept = pa.Table.from_pandas(known[remembered(known, group)], preserve_index=False)
    items = lake.served("items")
    text_vectors = {name: lake.served(name) for name in TEXT_VECTORS}
    chosen = registry.members_of(shop, items, lake.served("users"), text_vectors)
    log = EventLog.from_frames(kept, items.to_arrow(), as_of)
    fitted = registry.fit(log, chosen, shop.seed)
    print("fitted", flush=True)
    proposed = candidates.generate(log, fitted, chosen, sorted(group.index))
    del log, fitted, chosen
    print("generated", flush=True)
    tables = features.build_feature_tables(
        warehouse, kept, items.paths(), lake.served("users").to_arrow(), as_of,
        promotions=lake.read("raw_promotions").paths(), horizon_days=shop.cutoffs.horizon_days,
    )  # fmt: skip
    print("features", flush=True)
    rankers = served_models(lake.served("rankers").to_pandas(), "tune")
    history = candidate_history(warehouse, proposed, tables)
    seen = history["seen"].to_numpy()
    scores = score_or_fuse(warehouse, rankers, proposed, items.paths(), tables, seen)
    pairs = {name: proposed[name] for name in ("user_id", "item_id")}
    pq.write_table(pa.table({**pairs, "seen": history["seen"], **scores}), file)
    return pd.read_parquet(file)


def stated(known: pd.DataFrame, group: pd.Series, as_of: pd.Timestamp) -> pd.DataFrame:
    """The onboarding profile's candidates: each household answers from its forgotten baskets."""
    project = resources.project()
    lake, shop = project.lake, project.shop
    vectors = item_vectors(lake.served("items"), {name: lake.served(name) for name in TEXT_VECTORS})
    items = lake.served("items").to_pandas()
    forgotten = known[~remembered(known, group) & known["counts_as_taken"]]
    others = known[~known["user_id"].isin(group.index) & known["counts_as_taken"]]
    shelf = Shelf.build(
        items,
        vectors,
        popular_items(others, as_of=as_of, days=28),
        frozenset(shop.rules.sensitive_categories),
    )
    asked = questions.derive(items, others, shop, shelf.words)
    print(asked[["question_id", "answer", "share"]].to_string(), flush=True)
    options = asked[asked["kind"] == questions.LIKES]
    level = questions.option_level(items)
    yes = questions.yes_table(forgotten, items, level)
    yes.columns = [path.split(questions.SEPARATOR)[-1] for path in yes.columns]
    yes = yes.T.groupby(level=0).any().T
    encoder = embed.load_encoder(shop.encoder.model)
    answers = list(options["answer"])
    vectors_of = dict(zip(answers, embed.embed(encoder, answers), strict=True))
    lists = []
    for user in group.index:
        own = [a for a in answers if user in yes.index and bool(yes.loc[user].get(a, False))]
        queries = [vectors_of[a] for a in own]
        lists.append(shelf.candidates(own, queries).assign(user_id=user, answers=len(own)))
    found = pd.concat(lists, ignore_index=True)
    return found.assign(wished=found["query"] >= 0)


def blended(
    scored: pd.DataFrame, wishes: pd.DataFrame, weight: pd.Series, task: str
) -> pd.DataFrame:
    """Lists of ten from both kinds of candidates; `weight` of behaviour by user."""
    rows = scored if task == "all" else scored[~scored["seen"]]
    rows = rows[["user_id", "item_id"]].assign(score=rows[f"score_{task}"])
    both = blend(rows, wishes, weight)
    if task == "new":
        taken = pd.MultiIndex.from_frame(scored.loc[scored["seen"], ["user_id", "item_id"]])
        both = both[~pd.MultiIndex.from_frame(both[["user_id", "item_id"]]).isin(taken)]
    both = both.sort_values(["user_id", "score", "item_id"], ascending=[True, False, True])
    top = both.groupby("user_id").head(10)
    return top.assign(rank=top.groupby("user_id").cumcount() + 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the scored candidates are kept")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    lake = resources.project().lake
    as_of = cutoff_of(lake.served("cutoffs"), "tune")
    assert as_of is not None
    known = interactions_as_of(lake.served("interactions"), as_of).to_pandas()
    labels = lake.served("labels").to_pandas(part=part_name(as_of))
    group = groups(known, set(labels["user_id"]))
    print(f"{len(group)} households, cutoff {as_of:%F}", flush=True)
    scored = behaviour(folder, known, group)
    wishes = stated(known, group, as_of)
    print(f"yes answers per household: {wishes.groupby('user_id')['answers'].first().mean():.1f}")
    labels = labels[labels["user_id"].isin(group.index)]
    remains = known[remembered(known, group) & known["counts_as_taken"]]
    taken = pd.MultiIndex.from_frame(remains[["user_id", "item_id"]].drop_duplicates())
    new = labels[~pd.MultiIndex.from_frame(labels[["user_id", "item_id"]]).isin(taken)]
    for task, relevant in (("all", labels), ("new", new)):
        known_baskets = pd.Series(KNOWN, index=list(KNOWN), dtype=float)
        curves = {"behaviour": known_baskets * 0 + 1, "words": known_baskets * 0}
        for k in GRID:
            curves[f"n/(n+{k})"] = known_baskets / (known_baskets + k)
        for k in GRID:
            curves[f"k={k}"] = behaviour_weight(known_baskets, k)
        table = {}
        for name, weight in curves.items():
            lists = blended(scored, wishes, group.map(weight), task)
            table[name] = per_user_metrics(lists, relevant).set_index("user_id")["ndcg@10"]
        frame = pd.DataFrame(table)
        by_group = frame.groupby(group.reindex(frame.index)).mean()
        by_group.loc["all"] = frame.mean()
        print(f"NDCG@10, task {task}; a row per number of baskets known")
        print(by_group.T.round(4).to_string())
        for name in curves:
            gap = frame[[name]].set_axis(["x"], axis=1)
            base = frame[["behaviour"]].set_axis(["x"], axis=1)
            without = (group.reindex(frame.index) == 0).to_numpy()
            for chosen, where in ((~without, "n > 0"), (without, "n = 0")):
                found = paired_bootstrap(gap[chosen], base[chosen], seed=SEED).iloc[0]
                print(
                    f"  {name} less behaviour, {where}: {found['value']:+.4f} "
                    f"[{found['low']:+.4f}, {found['high']:+.4f}]"
                )


if __name__ == "__main__":
    main()
