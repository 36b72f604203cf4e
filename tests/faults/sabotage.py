"""A shop in which the learned ranker honestly wins, served; and retrains of it, sound or sabotaged.

Every retrain goes the way of a run: each asset makes its table, its gate judges it, the release is
put together, judged and offered. Only the scoreboard, which no rule reads, is left empty.

Belongs here: the shop, the sabotages, the retrain. Does not belong here: what has to come of them
(`test_sabotaged_models.py`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dagster_project.definitions import gated_assets
from recsys_assets.core.lake import Lake, LakeError, Snapshot
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.evaluation.tables import SCOREBOARD
from recsys_assets.ingestion.tables import (
    LANDED_ROWS,
    ONBOARDING_ANSWERS,
    RAW_INTERACTIONS,
    RAW_USERS,
)
from recsys_assets.onboarding.tables import STATED_CANDIDATES, STATED_PREFERENCES
from recsys_assets.publishing import assets as publishing
from recsys_assets.publishing.releases import Releases
from recsys_assets.retrieval import assets as retrieval
from recsys_assets.retrieval.contract import EventLog
from recsys_assets.staging.tables import QUARANTINE
from tests.faults.invariants import unservable
from tests.redteam import shop as red
from tests.redteam.plants import (
    dropped,
    in_front_of_training,
    in_group,
    in_sql,
    in_training,
    peeking,
    put,
    reordered,
    shuffled,
)
from tests.redteam.shop import CHAIN, RedShop, as_interactions

USERS_N = 300
SHOP = red.SHOP
for _old, _new in (
    ("all: {rounds: 15, min_data_in_leaf: 10}", "all: {rounds: 50, min_data_in_leaf: 20}"),
    ("new: {rounds: 5, ", "new: {rounds: 20, "),
    ("again: {rounds: 5, ", "again: {rounds: 20, "),
    ("{min_users: 30, margin: {all: 0.05, new: 0.05}}", "{margin: {all: 0.03, new: 0.05}}"),
):
    assert _old in SHOP
    SHOP = SHOP.replace(_old, _new)
"""The margin is what so few people can show; everything else of the gate is as it is shipped."""

LISTS = (
    "blend_weights", "tune_lists", "policies", "stand_ins", "evaluation_lists", "recommendations",
)  # fmt: skip
EMPTY = (
    LANDED_ROWS, RAW_INTERACTIONS, RAW_USERS, ONBOARDING_ANSWERS, QUARANTINE, STATED_PREFERENCES,
    STATED_CANDIDATES, SCOREBOARD,
)  # fmt: skip
FINAL = ("release", "release_verdict", "served_release")
RUN = (*CHAIN, "item_neighbours", "bought_together", *LISTS, *FINAL)


def sales(seed: int = 7) -> pd.DataFrame:
    """Everybody has staples, each with a cycle of its own, and tries something else now and then.

    How often something was taken says which things are staples; when it was taken last and how long
    it lasts say which of them are due. A count cannot put the two together, a ranker can.
    """
    random = np.random.default_rng(seed)
    sold = red.ITEMS_N - red.UNSOLD
    popular = 1 / (1 + np.arange(sold)) ** 0.6
    cycle = random.uniform(8, 60, sold)
    rows = []
    for user in range(USERS_N):
        liked = random.choice(red.KINDS, 2, replace=False)
        weight = popular * np.where(np.isin(np.arange(sold) % red.KINDS, liked), 8.0, 1.0)
        weight /= weight.sum()
        staples = [int(i) for i in random.choice(sold, 9, replace=False, p=weight)]
        due = {i: random.uniform(0, cycle[i]) for i in staples}
        day = random.uniform(0, 6)
        while day < red.DAYS:
            basket = {i for i in due if due[i] <= day}
            if random.random() < 0.7:
                basket.add(int(random.choice(sold, p=weight)))
            for item in sorted(basket):
                rows.append((f"u{user:03d}", f"i{item:03d}", day, f"u{user:03d}-{day:.2f}"))
                if item in due:
                    due[item] = day + cycle[item] * random.uniform(0.6, 1.5)
            day += random.gamma(4, 1.0)
    last = f"i{red.ITEMS_N - 1:03d}"
    rows += [(f"u{n:03d}", last, red.DAYS + 0.3, f"last-{n}") for n in range(3)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "day", "session_id"])
    time = (red.START + pd.to_timedelta(frame["day"], unit="D")).dt.floor("s")
    frame["event_time"] = time.astype("datetime64[us, UTC]")
    price = 1.0 + frame["item_id"].str[1:].astype(int) % 9
    discount = np.where(random.random(len(frame)) < 0.2, 0.5, 0.0)
    return as_interactions(
        frame.drop(columns="day").assign(
            price=price, discount=discount, value=price - discount,
            store_id=[f"s{int(u[1:]) % 3}" for u in frame["user_id"]],
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a retrain: the table that was refused ('' = it is served), and why."""

    table: str
    reason: str = ""

    @property
    def served(self) -> bool:
        return not self.table


class Retrained:
    """The shop with its first release served, and what becomes of retrains of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        shop = RedShop.build(home / "base", log=sales(), shop=SHOP)
        for table in EMPTY:
            shop.store(table, table.empty().to_pandas())
        known = {*shop.project.lake.assets(), *RUN}
        upstream = [g for g in gated_assets(shop.project) if g.table.name in known - {*FINAL}]
        shop.assets |= {g.table.name: g for g in publishing.assets(upstream)}
        self.shop, self.sabotages = shop, sabotages(shop.project.lake)
        first = self._run(shop)
        assert first.served, first
        self.served = Releases(shop.project.lake).state().live

    def sabotaged(self, kind: str, number: int) -> Outcome:
        """What becomes of the `number`-th sabotage of a kind."""
        sabotage, folder = self.sabotages[kind], self.home / "plant"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            sabotage.plant(patch, folder, number)
            outcome = self.retrain(f"{kind} {number}", sabotage.anew)
        shutil.rmtree(folder)
        return outcome

    def retrain(self, name: str, anew: Sequence[str] = (), seed: int | None = None) -> Outcome:
        """Run the graph again in a copy of the home, with the tables `anew` made anew.

        `seed`: the shop's and the evaluation's seed, others than those of what is served.
        """
        shop = self.shop.copy(self.home / name, without=anew)
        if seed is not None:
            file = Path(shop.project.shop_file)
            text = file.read_text(encoding="utf-8")
            text = text.replace("{bootstrap: 50}", f"{{bootstrap: 50, seed: {seed}}}")
            file.write_text(f"{text}seed: {seed}\n", encoding="utf-8")
        outcome = self._run(shop)
        served = Releases(shop.project.lake).state().live
        assert outcome.served == (served != self.served)
        assert unservable(shop.project.lake) == []
        shutil.rmtree(shop.project.home)
        return outcome

    def _run(self, shop: RedShop) -> Outcome:
        for name in RUN:
            try:
                verdict = shop.run(name)[-1]
            except LakeError as error:
                return Outcome(name, str(error))
            if not verdict.passed:
                return Outcome(name, "; ".join(verdict.reasons))
        line = shop.project.lake.read("served_release").to_pandas().iloc[0]
        return Outcome("release_verdict" if line["reason"] else "", line["reason"])


# -- sabotages -------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch, Path, int], None]
"""Changes a function of the product: patch, a folder to write to, a number to vary it by."""


def learned_from(change: Callable[[pa.Table, int], pa.Table]) -> Plant:
    """Rankers learn from rows that went through `change`."""

    def plant(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
        in_front_of_training(patch, change, seed)

    return plant


def label_as_feature(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
    """The label itself, blurred, under the name of a feature."""
    noise = np.random.default_rng(seed)

    def blurred(rows: pa.Table) -> pa.Table:
        label = rows["label"].to_numpy()
        return put(rows, "item_price", label + noise.normal(0, 0.2, len(label)))

    in_training(patch, blurred)


def mean_label(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
    """Items known by how often they are a positive among these very rows."""

    def encoded(rows: pa.Table) -> pa.Table:
        frame = rows.select(["item_id", "label"]).to_pandas()
        return put(rows, "item_gap_mean", frame.groupby("item_id")["label"].transform("mean"))

    in_training(patch, encoded)


def whole_table_count(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
    """Users of an item counted over the whole log, whatever the cutoff."""
    name = ("item_users_7", "item_users_28", "item_users_84")[seed % 3]

    def counted(table: pa.Table, given: dict[str, Any]) -> pa.Table:
        text = "SELECT item_id, count(DISTINCT user_id) AS n FROM log GROUP BY item_id"
        counts = Warehouse().run(text, {"log": given["interactions"]}).to_pandas()
        n = counts.set_index("item_id")["n"]
        return put(table, name, n.reindex(table["item_id"].to_pylist()).fillna(0))

    in_group(patch, "item_features", counted)


def sql_without_its_cutoff(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
    """A feature file that reads the log instead of the log as of the cutoff."""
    file, old, new = "ranking/user_item_features.sql", "interactions_as_of($as_of)", "interactions"
    in_sql(patch, folder, file, f"FROM {old}", f"FROM {new}")


def retrievers_that_peek(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
    """Retrievers fitted on the log they are given, but a fortnight too far."""
    patch.setattr(retrieval, "event_log", peeking(lambda given: given))


def retrievers_past_the_proof(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
    """Retrievers that read later events by themselves, whatever log they are handed: making them
    again from a cut log changes nothing."""
    real, ahead = retrieval.event_log, pd.Timedelta(days=14)

    def log(interactions: Snapshot, items: Snapshot, as_of: pd.Timestamp) -> EventLog:
        later = _ahead(interactions.lake, as_of, ahead)
        if later.num_rows < 100:  # nothing lies ahead of the live cutoff
            return real(interactions, items, as_of)
        moved = pc.subtract(later["event_time"], pa.scalar(ahead.to_pytimedelta()))
        later = later.set_column(later.column_names.index("event_time"), "event_time", moved)
        return EventLog.from_frames(later, items.to_arrow(), as_of)

    patch.setattr(retrieval, "event_log", log)


def feature_past_the_proof(lake: Lake) -> Plant:
    """A feature that adds what will be taken to what was, from a file that it reads by itself."""

    def plant(patch: pytest.MonkeyPatch, folder: Path, seed: int) -> None:
        def knowing(table: pa.Table, given: dict[str, Any]) -> pa.Table:
            later = _ahead(lake, given["as_of"], pd.Timedelta(days=14))
            taken = later.select(["user_id", "item_id"]).to_pandas().drop_duplicates()
            pairs = table.select(["user_id", "item_id"]).to_pandas()
            will = pairs.merge(taken, how="left", indicator=True)["_merge"] == "both"
            return put(table, "ui_decayed_21", table["ui_decayed_21"].to_numpy() + 9 * will)

        in_group(patch, "user_item_features", knowing)

    return plant


def _ahead(lake: Lake, as_of: pd.Timestamp, ahead: pd.Timedelta) -> pa.Table:
    log = lake.read("interactions").to_arrow()
    time = log["event_time"]
    return log.filter(pc.and_(pc.greater_equal(time, as_of), pc.less(time, as_of + ahead)))


@dataclass(frozen=True)
class Sabotage:
    """`times` sabotages of one kind: which tables are made anew under it, which of them has to be
    refused, and what the refusal must say (a regular expression)."""

    times: int
    plant: Plant
    anew: tuple[str, ...]
    refused: str
    says: str


def sabotages(lake: Lake) -> dict[str, Sabotage]:
    """The thirty. `lake`: where the features find their future."""
    rankers, rows, verdict = ("rankers",), ("training_rows",), "release_verdict"
    future, served = "saw the future", "is not what a server would have"
    held = "until somebody has found out why"
    return {
        "shuffled labels": Sabotage(
            10, learned_from(shuffled), rankers, verdict,
            "the unchanged recipe is -.* it must be shown to be less than 0.03 worse",
        ),
        "a dropped feature": Sabotage(
            5, learned_from(dropped), rankers, "rankers", "feature spec .* lacks 1 of",
        ),
        "reordered features": Sabotage(
            5, learned_from(reordered), rankers, "rankers", "feature spec .* another order",
        ),
        "the label as a feature": Sabotage(
            2, label_as_feature, rows, "training_rows", f"item_price: {served}"
        ),
        "items by their labels": Sabotage(
            1, mean_label, rows, "training_rows", f"item_gap_mean: {served}"
        ),
        "a count over the whole table": Sabotage(
            2, whole_table_count, ("item_features",), "item_features", f"item_users_.*{future}"
        ),
        "SQL without its cutoff": Sabotage(
            1, sql_without_its_cutoff, ("user_item_features",), "user_item_features", future
        ),
        "factors that peek": Sabotage(
            1, retrievers_that_peek, ("als_factors",), "als_factors", future
        ),
        "retrievers that peek": Sabotage(
            1, retrievers_that_peek, ("candidates",), "candidates", future
        ),
        "retrievers past the proof": Sabotage(
            1, retrievers_past_the_proof, ("candidates",), verdict, held
        ),
        "a feature past the proof": Sabotage(
            1, feature_past_the_proof(lake), ("user_item_features",), verdict, held
        ),
    }  # fmt: skip
