"""A small shop of structure and chance, and the graph's own assets run over it step by step."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dagster_project.definitions import gated_assets
from recsys_assets.content.tables import ITEM_TEXTS, TEXT_EMBEDDINGS
from recsys_assets.core import plots
from recsys_assets.core.assets import GatedAsset, Project
from recsys_assets.core.quality import Verdict
from recsys_assets.core.tables import Table
from recsys_assets.ingestion.tables import RAW_ITEMS, RAW_PROMOTIONS
from recsys_assets.staging.tables import INTERACTIONS, USERS
from tests.stored import approved

START, DAYS = pd.Timestamp("2024-01-01", tz="UTC"), 140
USERS_N, ITEMS_N, UNSOLD = 60, 80, 12
KINDS = 8
"""Not as many products sell of every kind: what is counted per kind must differ."""
SHOP = """\
name: redteam
repeats: true
source:
  kind: files
  interactions:
    - path: interactions.csv
      columns: {user_id: user_id, item_id: item_id, event_time: event_time}
      event_type: purchase
  items:
    - path: items.csv
      columns: {item_id: item_id}
partitions: {granularity: day, start: 2024-01-01, end: 2024-06-20}
cutoffs: {horizon_days: 14, step_days: 14, windows: 1}
retrieval:
  als: {k_seen: 10, k_unseen: 10, params: {factors: 4, iterations: 2}}
  content: {k_seen: 5, k_unseen: 10, k_cold: 5}
  frequency: {k_seen: 20, k_unseen: 0}
  popularity_28d: {kind: popularity, k_seen: 10, k_unseen: 20, params: {window: 28}}
ranker:
  negative_share: 0.6
  evaluation_seeds: 1
  all: {rounds: 15, min_data_in_leaf: 10}
  new: {rounds: 5, min_data_in_leaf: 10}
  again: {rounds: 5, min_data_in_leaf: 10}
evaluation: {bootstrap: 50}
releases: {gate: {min_users: 30, margin: {all: 0.05, new: 0.05}}}
placements: {for_you: {length: 10}, discover: {length: 10}, buy_again: {length: 10}}
"""


def raw_items() -> pd.DataFrame:
    """The product table: some of it never sells."""
    n = np.arange(ITEMS_N)
    return pd.DataFrame(
        {
            "item_id": [f"i{i:03d}" for i in n],
            "title": [f"thing {i}" for i in n],
            "category_1": [f"aisle {i % KINDS // 4}" for i in n],
            "category_2": [f"kind {i % KINDS}" for i in n],
            "category_3": None,
            "brand": [f"brand {i % 5}" for i in n],
            "price": None,
            "text": None,
            "group_id": None,
            "available_from": None,
            "available_to": None,
            "status": None,
            "market": None,
            "attributes": "{}",
        }
    )


def events(seed: int = 7, users: int = USERS_N) -> pd.DataFrame:
    """Baskets every few days: people like two kinds of things, and go back to what they had."""
    random = np.random.default_rng(seed)
    rows = []
    sold = ITEMS_N - UNSOLD
    popular = 1 / (1 + np.arange(sold)) ** 0.6
    for user in range(users):
        liked = random.choice(KINDS, 2, replace=False)
        weight = popular * np.where(np.isin(np.arange(sold) % KINDS, liked), 8.0, 1.0)
        known: list[int] = []
        day = random.uniform(0, 6)
        while day < DAYS:
            basket = set[int]()
            for _ in range(random.integers(2, 6)):
                if known and random.random() < 0.6:
                    basket.add(int(random.choice(known)))
                else:
                    basket.add(int(random.choice(sold, p=weight / weight.sum())))
            for item in sorted(basket):
                rows.append((f"u{user:03d}", f"i{item:03d}", day, f"u{user:03d}-{day:.2f}"))
            known += sorted(basket)
            day += random.gamma(4, 1.5)
    # The last day is not over: at the live cutoff nobody has heard of the last item.
    rows += [(f"u{n:03d}", f"i{ITEMS_N - 1:03d}", DAYS + 0.3, f"last-{n}") for n in range(3)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "day", "session_id"])
    time = (START + pd.to_timedelta(frame["day"], unit="D")).dt.floor("s")
    frame["event_time"] = time.astype("datetime64[us, UTC]")
    item = frame["item_id"].str[1:].astype(int)
    price = 1.0 + item % 9
    cheap = random.random(len(frame)) < 0.2
    return as_interactions(
        frame.drop(columns="day").assign(
            price=price, discount=np.where(cheap, 0.5, 0.0), value=price - np.where(cheap, 0.5, 0),
            store_id=[f"s{int(u[1:]) % 3}" for u in frame["user_id"]],
        )
    )  # fmt: skip


def as_interactions(frame: pd.DataFrame) -> pd.DataFrame:
    """Events in the shape of the staged table."""
    given = {
        "event_type": "purchase", "quantity": 1.0, "currency": None, "weight": 1.0, "polarity": 1,
        "counts_as_taken": True, "context": None, "batch": "b", "price": None, "discount": 0.0,
        "value": None, "store_id": None,
    }  # fmt: skip
    frame = frame.sort_values(["event_time", "user_id", "item_id"], ignore_index=True)
    frame = frame.assign(**{k: v for k, v in given.items() if k not in frame})
    return frame.assign(
        event_id=[f"e{n:06d}" for n in range(len(frame))],
        local_date=frame["event_time"].dt.date,
        row=np.arange(len(frame)) + 1,
    )


def promotions() -> pd.DataFrame:
    """Some products are in the leaflet or on display some week, also after the last event; half of
    it is planned a week ahead."""
    rng = np.random.default_rng(5)
    weeks = DAYS // 7 + 4
    chosen = np.argwhere(rng.random((ITEMS_N, weeks)) < 0.1)
    starts = START + pd.to_timedelta(7 * chosen[:, 1], unit="D")
    return pd.DataFrame(
        {
            "item_id": [f"i{i:03d}" for i in chosen[:, 0]],
            "kind": np.where(rng.random(len(chosen)) < 0.5, "feature", "display"),
            "starts_at": starts,
            "ends_at": starts + pd.Timedelta(days=7),
            "reach": 1.0,
            "known_from": starts - pd.to_timedelta(7 * rng.integers(2, size=len(chosen)), unit="D"),
        }
    )


@dataclass
class RedShop:
    """A project and the graph's assets by name."""

    project: Project
    assets: dict[str, GatedAsset]

    @classmethod
    def build(cls, home: Path, *, log: pd.DataFrame | None = None, shop: str = SHOP) -> "RedShop":
        """The source tables of the shop, approved; nothing is learned yet."""
        home.mkdir(parents=True, exist_ok=True)
        (home / "shop.yaml").write_text(shop, encoding="utf-8")
        project = Project(home=str(home), shop_file=str(home / "shop.yaml"))
        made = cls(project, {g.table.name: g for g in gated_assets(project)})
        made.store(RAW_ITEMS, raw_items())
        made.store(RAW_PROMOTIONS, promotions())
        log = events() if log is None else log
        made.store(INTERACTIONS, log)
        people = sorted({*log["user_id"], "nobody"})
        made.store(USERS, pd.DataFrame({"user_id": people, "attributes": "{}"}))
        assert made.run("items")[-1].passed
        made.embed()
        return made

    def copy(self, home: Path, *, without: Sequence[str] = ()) -> "RedShop":
        """The same shop elsewhere; `without` names tables that were never made there."""
        shutil.copytree(self.project.home, home, symlinks=True)
        project = Project(home=str(home), shop_file=str(home / "shop.yaml"))
        for name in without:
            (project.lake.root / "pointers" / f"{name}.json").unlink(missing_ok=True)
        return RedShop(project, self.assets)

    def store(self, table: Table, frame: pd.DataFrame, part: str = "") -> None:
        """Put `frame` into the lake as the approved version of `table`."""
        report = {"texts": {"model": "test"}, "numbers": {}}
        approved(self.project.lake, table.name, {part: table.conform(frame)}, report=report)

    def embed(self) -> None:
        """A vector per text: things of one kind are near each other."""
        items = self.project.lake.read("items").to_pandas()
        kinds = items["category_2"].str[-1].astype(int).to_numpy()
        random = np.random.default_rng(3)
        centres = random.normal(size=(KINDS, 8))
        vectors = centres[kinds] + 0.3 * random.normal(size=(len(items), 8))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        hashes = [sha256(t.encode()).hexdigest() for t in items["text"]]
        texts = pd.DataFrame({"text_hash": hashes, "text": items["text"], "items": 1})
        self.store(ITEM_TEXTS, texts)
        self.store(TEXT_EMBEDDINGS, pd.DataFrame({"text_hash": hashes, "vector": list(vectors)}))

    def run(self, *names: str) -> list[Verdict]:
        """Make each table and let its gate judge it, the way a run does; stops at a refusal."""
        verdicts = []
        with for_nobodys_eyes():
            for name in names:
                producer = self.assets[name].producer
                producer.produce(self.project, "run")
                verdicts.append(producer.judge(self.project, "run"))
                if not verdicts[-1].passed:
                    break
        return verdicts

    def refusal(self, *names: str) -> str:
        """Why the gate of the last of `names` refuses its table ('' = it does not). The tables
        before it must pass."""
        verdicts = self.run(*names)
        before = [n for n, v in zip(names, verdicts, strict=False) if not v.passed]
        assert before in ([], [names[-1]]), f"{before} failed: {verdicts[-1].reasons}"
        return "" if verdicts[-1].passed else "; ".join(verdicts[-1].reasons)


@contextmanager
def for_nobodys_eyes() -> Iterator[None]:
    """No pictures: no rule reads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_png", lambda figure: b"")
        yield


CALENDAR = ("cutoffs", "fits")
RETRIEVERS = ("als_factors", "candidates")
GRAINS = (
    "item_features", "user_features", "user_item_features", "user_category_features",
    "store_item_features",
)  # fmt: skip
FEATURES = ("user_item_days", *GRAINS)
TRAINED = ("training_rows", "rankers", "scored_candidates")
CHAIN = (*CALENDAR, *RETRIEVERS, "hidden_candidates", "labels", *FEATURES, *TRAINED)
