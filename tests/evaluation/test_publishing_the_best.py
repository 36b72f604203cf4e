"""A shop where the ranker loses: what is published, from the lists on tune to the rules."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.core.config import load_shop
from recsys_assets.evaluation import held_out
from recsys_assets.evaluation.policy import choose
from recsys_assets.evaluation.scoreboard import user_metrics
from recsys_assets.ranking.features import retrievers_of
from recsys_assets.ranking.placements import competing, published
from recsys_assets.retrieval.contract import EventLog
from tests.retrieval.shop import events

AS_OF = pd.Timestamp("2024-03-04", tz="UTC")
USERS = [f"u{n:02}" for n in range(40)]
ITEMS = [f"i{n}" for n in range(12)]


def log() -> EventLog:
    """Everybody took i0 and i1 each week, and the other items once, long ago."""
    rows = [(u, i, d) for u in USERS for i in ("i0", "i1") for d in (3, 10, 17)]
    rows += [(u, i, 60) for u in USERS for i in ITEMS[2:]]
    visits = events(rows, AS_OF, session_id=[f"{user}{days}" for user, _, days in rows])
    levels = ("category_1", "category_2", "category_3", "brand", "group_id")
    items = pd.DataFrame({"item_id": ITEMS}).assign(**dict.fromkeys(levels, ""))
    items = items.assign(available_from=pd.NaT, available_to=pd.NaT)
    return EventLog.from_frames(visits, items, AS_OF)


def cutoff() -> held_out.Cutoff:
    """The ranker prefers what is about to be wrong; `frequency` knows what people take."""
    pairs = pd.MultiIndex.from_product([USERS, ITEMS]).to_frame(index=False)
    user, item = pairs[0].tolist(), pairs[1].tolist()
    number = np.array([int(i[1:]) for i in item])
    habit = np.where(number < 2, 3.0, 0.1).astype("f4")
    candidates = pa.table(
        {"user_id": user, "item_id": item, "score_frequency": habit,
         "rank_frequency": pa.array(number + 1, pa.int32())}
    )  # fmt: skip
    scored = pa.table(
        {"user_id": user, "item_id": item, "seen": np.ones(len(user), dtype=bool),
         "score_all": number.astype("f4"), "score_new": pa.nulls(len(user), pa.float32()),
         "score_again": number.astype("f4"), "due": pa.nulls(len(user), pa.float32())}
    )  # fmt: skip
    known = pd.DataFrame(
        {"user_id": USERS, "item_id": "i5", "event_time": AS_OF - pd.Timedelta(days=2),
         "counts_as_taken": True}
    )  # fmt: skip
    return held_out.Cutoff(
        log=log(), known=known, people=pd.Series(USERS), scored=scored, tasks=["all"],
        retrievers=retrievers_of(candidates.column_names), candidates=candidates.select,
    )  # fmt: skip


def test_where_the_ranker_loses_the_best_of_the_rest_is_what_competes_for_the_placement(
    shop_file: Path,
) -> None:
    here, shop = cutoff(), load_shop(shop_file)
    took = pd.DataFrame([(u, i) for u in USERS for i in ("i0", "i1")]).set_axis(
        ["user_id", "item_id"], axis=1
    )
    scored = here.scored.to_pandas()
    lists = [("ranker", held_out.top(competing(scored, "for_you", shop), 3))]
    lists += [(model, rows) for _, model, rows in held_out.all_lists(here, 3)]
    stacked = pd.concat([rows.assign(model=model, seed=7) for model, rows in lists])
    decision = choose(user_metrics(took, stacked, 3), draws=100)
    assert decision.model == "retriever: frequency"

    (chosen,) = held_out.all_lists(here, 50, {("all", decision.model)})
    stand_ins = chosen[2].assign(placement="for_you")
    shown = held_out.top(published(scored, "for_you", shop, stand_ins), 2)
    assert set(shown["item_id"]) == {"i0", "i1"}
    unchanged = held_out.top(published(scored, "discover", shop, stand_ins), 2)
    assert unchanged.empty, "another placement keeps the ranker"


def test_where_nothing_repeats_no_list_holds_what_was_taken(shop_file: Path) -> None:
    """Everybody took everything but the last user, to whom all of it is new."""
    here = replace(cutoff(), people=pd.Series([*USERS, "zz"]), repeats=False)
    found = {model: rows for task, model, rows in held_out.all_lists(here, 3) if task == "all"}
    assert set(found) == {"popularity_all", "popularity_7d"}, "nobody has a habit"
    for rows in found.values():
        assert rows[["user_id", "item_id"]].to_numpy().tolist() == [["zz", "i5"]]
    once = load_shop(shop_file).model_copy(update={"repeats": False})
    assert competing(here.scored.to_pandas(), "for_you", once).empty
