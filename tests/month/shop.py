"""The shop of the simulated month: some households of the default data, one file a day.

Every date is 939 weeks later than in the data, so that the month lies ahead of any clock it runs
under, weekdays stay, and the end of daylight saving (4 November 2035, New York) falls into it.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd

from tests.end_to_end.conftest import _data

WEEKS_AHEAD = 939
FIRST_DAY = date(2035, 10, 31)
DAYS = 28
HISTORY = timedelta(weeks=10)
HOUSEHOLDS, ITEMS = 100, 300
DEAR_FROM = 19
"""From this day of the month prices double and the largest department is not bought any more."""
SHOP = f"""\
name: corner_store
repeats: true
time_zone: America/New_York
timestamps_are: UTC
last_day_complete: true
partitions: {{granularity: day, start: {FIRST_DAY - HISTORY}}}
arrival: {{settle_seconds: 60}}
plausible: {{max_age_days: 14}}
automation: {{daily_at: "04:30", weekly_on: sunday, weekly_at: "01:30"}}
source:
  kind: files
  interactions:
    path: "inbox/*.csv"
    columns:
      {{user_id: who, item_id: what, event_time: at, quantity: how_many, value: paid,
       session_id: receipt, store_id: shop}}
    event_type: purchase
  items:
    path: products.csv
    columns:
      {{item_id: id, title: name, category_1: aisle, category_2: shelf, category_3: kind,
       brand: maker}}
cutoffs: {{horizon_days: 7, step_days: 7, windows: 2}}
retrieval: RETRIEVAL
ranker:
  all: {{rounds: ROUNDS, min_data_in_leaf: 20}}
  new: {{rounds: ROUNDS, min_data_in_leaf: 20}}
evaluation: {{bootstrap: 200}}
studies: {{cutoffs: 1, users: 20, trials: 1}}
placements: {{for_you: {{length: 10}}, discover: {{length: 10}}, buy_again: {{length: 10}}}}
releases:
  gate: {{min_users: 30, margin: {{all: 0.05, new: 0.05}}, must_beat: [popularity_7d],
         implausible_gain: 2.0, implausible_lead: 2.0, min_coverage: 0.3, min_overlap: 0.02,
         max_score_shift: 20.0}}
  health: {{psi: 2.0, volume: 0.6, concentration: 0.2, unseen: 0.05}}
"""
GOOD_RETRIEVAL = """
  als: {k_seen: 30, k_unseen: 30, params: {factors: 8, iterations: 3}}
  content: {k_seen: 10, k_unseen: 20, k_cold: 10}
  frequency: {k_seen: 40, k_unseen: 0}
  popularity_7d: {kind: popularity, k_seen: 20, k_unseen: 40, params: {window: 7}}"""
BAD_RULES = """
rules: {exclude_categories: [GROCERY]}"""


def settings(*, good: bool = True) -> str:
    """The shop file; not `good`: what people buy most may not be shown to them."""
    text = SHOP.replace("RETRIEVAL", GOOD_RETRIEVAL).replace("ROUNDS", "20")
    return text if good else text + BAD_RULES


def day_of(day: int) -> date:
    """The date of a day of the month, from 1."""
    return FIRST_DAY + timedelta(days=day - 1)


def sales() -> pd.DataFrame:
    """Purchases of the history and the month, columns as in the files, oldest first."""
    rows = _data("transactions")
    people = sorted(rows["household_id"].unique())[:HOUSEHOLDS]
    rows = rows[rows["household_id"].isin(people) & rows["quantity"].between(1, 99)]
    rows = rows[rows["product_id"].isin(_data("products")["product_id"])]
    moved = rows["transaction_timestamp"] + pd.Timedelta(weeks=WEEKS_AHEAD)
    begin, end = FIRST_DAY - HISTORY, day_of(DAYS + 1)
    rows = rows.assign(at=moved)[moved.between(str(begin), str(end), inclusive="left")]
    rows = rows[rows["product_id"].isin(rows["product_id"].value_counts().head(ITEMS).index)]
    frame = pd.DataFrame(
        {
            "who": rows["household_id"].map("h{:05d}".format),
            "what": rows["product_id"].astype(str),
            "at": rows["at"].dt.strftime("%Y-%m-%d %H:%M:%S"),
            "how_many": rows["quantity"],
            "paid": rows["sales_value"],
            "receipt": rows["basket_id"].astype(str),
            "shop": rows["store_id"].astype(str),
        }
    )
    frame = frame.drop_duplicates(["who", "what", "at", "receipt"]).sort_values(list(frame.columns))
    dear = frame["at"] >= str(day_of(DEAR_FROM))
    aisle = _data("products").astype({"product_id": str}).set_index("product_id")["department"]
    gone = frame["what"].map(aisle) == "GROCERY"
    frame.loc[dear, "paid"] *= 2
    return frame[~(dear & gone)].reset_index(drop=True)


def products(sold: pd.DataFrame) -> pd.DataFrame:
    """The catalogue: what is sold, and 30 things that nobody took yet."""
    rows = _data("products")
    chosen = rows["product_id"].astype(str).isin(sold["what"])
    rows = pd.concat([rows[chosen], rows[~chosen].head(30)])
    return pd.DataFrame(
        {
            "id": rows["product_id"].astype(str),
            "name": rows["product_type"].fillna("THING") + " " + rows["package_size"].fillna(""),
            "aisle": rows["department"],
            "shelf": rows["product_category"],
            "kind": rows["product_type"],
            "maker": rows["manufacturer_id"].astype(str),
        }
    )


@dataclass
class Deliveries:
    """Files put into the watched folder, and what must be known once they were taken."""

    folder: Path
    sales: pd.DataFrame
    events: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """(user, item, time, receipt) of every event that must be there once"""
    rows: int = 0
    refused: int = 0
    contents: int = 0
    """different (name, content) pairs that must be in the ledger"""

    def start(self, now: datetime) -> None:
        """The folder, the catalogue, and all sales before the month in one file."""
        (self.folder / "inbox").mkdir(parents=True)
        (self.folder / "shop.yaml").write_text(settings(), encoding="utf-8")
        self._put(self.folder / "products.csv", products(self.sales).to_csv(index=False), now)
        self.contents += 1
        self.deliver("history.csv", self.sales[self.sales["at"] < str(FIRST_DAY)], now)

    def of_day(self, day: int) -> pd.DataFrame:
        """The sales of one UTC day of the month."""
        return self.sales[self.sales["at"].str.startswith(str(day_of(day)))]

    def deliver(
        self, name: str, rows: pd.DataFrame, now: datetime, *, late: int = 0, known: bool = False
    ) -> None:
        """Put a whole file. late: so many of its rows are too old to be taken; known: its bytes
        were delivered before under another name."""
        self._put(self.folder / "inbox" / name, rows.to_csv(index=False), now)
        self.contents += 1
        if known:
            return
        self.rows += len(rows)
        self.refused += late
        taken = rows.iloc[late:]
        keys = zip(taken["who"], taken["what"], taken["at"], taken["receipt"], strict=True)
        self.events.update(dict.fromkeys(keys, 1))

    def half(self, name: str, rows: pd.DataFrame, now: datetime) -> None:
        """The first half of an upload that goes on."""
        text = rows.to_csv(index=False)
        self._put(self.folder / "inbox" / name, text[: len(text) // 2], now)

    def renamed(self, name: str, rows: pd.DataFrame, now: datetime) -> None:
        """A file whose column `what` is called `article`."""
        text = rows.rename(columns={"what": "article"}).to_csv(index=False)
        self._put(self.folder / "inbox" / name, text, now)
        self.contents += 1

    def _put(self, path: Path, text: str, now: datetime) -> None:
        path.write_text(text, encoding="utf-8")
        os.utime(path, (now.timestamp(), now.timestamp()))


def midnight(day: int) -> datetime:
    """00:00 UTC of a day of the month."""
    return datetime.combine(day_of(day), datetime.min.time(), UTC)
