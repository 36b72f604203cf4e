"""A shop N times as large as a real one, with the real one's distributions.

Belongs here: multiplying users. Does not belong here: running or measuring anything (`scale.py`).

Copy 0 of a user is the user. Every further copy is a new user with the same trips at the same times
(some minutes later), of the same size, who takes other products: each product is exchanged for
one of the same finest category that sells about as often, always the same one for the same
copied user. So what is kept exactly: activity, basket sizes, time of day and week, repeats, shares
of categories, stores. What is kept but for noise: the popularity of products. What is not copied:
which products go together. A product that no other of its category resembles stays itself. Products
and what was promoted are the real ones.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from recsys_assets.core.config import load_shop, packaged_shop
from recsys_assets.ingestion.source import open_source

TASTES = 32
"""How many different exchanges of products the copies of one round are spread over."""
STEP = 1.6
"""Two products sell about as often when their numbers of events lie in one interval of a grid whose
bounds grow by this factor."""
LATER_SECONDS = 600
EVENT_COLUMNS = (
    "user_id", "item_id", "event_type", "event_time", "quantity", "value", "session_id",
    "store_id", "price", "discount",
)  # fmt: skip


def exchanges(counts: npt.NDArray[np.int64], category: npt.NDArray[np.int64], seed: int):
    """[TASTES, n_items]: for every taste a permutation of the items within their own category and
    interval of popularity. `counts`: events per item; `category`: code of the finest category."""
    level = np.floor(np.log1p(counts) / np.log(STEP)).astype(np.int64)
    block = category * (int(level.max(initial=0)) + 1) + level
    rng = np.random.default_rng(seed)
    home = np.argsort(block, kind="stable")
    found = np.empty((TASTES, len(counts)), dtype=np.int32)
    for taste in range(TASTES):
        found[taste, home] = np.lexsort((rng.random(len(counts)), block))
    return found


def copied(events: pd.DataFrame, items: pd.DataFrame, number: int, seed: int) -> pd.DataFrame:
    """The events of the `number`-th copy of every user, in the order of `events`.

    `events` has `user_id, item_id, event_time, session_id` and anything else, which stays. Items
    that are not in `items` (`item_id, category_1..3`) stay themselves.
    """
    if number == 0:
        return events
    catalogue = pd.Index(items["item_id"])
    path = items[["category_1", "category_2", "category_3"]].fillna("").agg("\x1f".join, axis=1)
    code = catalogue.get_indexer(pd.Index(events["item_id"]))
    known = code >= 0
    counts = np.bincount(code[known], minlength=len(catalogue))
    table = exchanges(counts, pd.factorize(path, sort=True)[0], seed * 1_000 + number)
    rng = np.random.default_rng([seed, number])
    user, users = pd.factorize(events["user_id"], sort=True)
    taste = rng.integers(TASTES, size=len(users))[user]
    item = events["item_id"].to_numpy(dtype=object).copy()
    item[known] = catalogue.to_numpy(dtype=object)[table[taste[known], code[known]]]
    session, sessions = pd.factorize(events["session_id"], sort=True, use_na_sentinel=False)
    later = pd.to_timedelta(rng.integers(1, LATER_SECONDS, size=len(sessions))[session], unit="s")
    return events.assign(
        user_id=events["user_id"].astype(str) + f"-{number}",
        session_id=(events["session_id"].astype(str) + f"-{number}").where(
            events["session_id"].notna()
        ),
        item_id=item,
        event_time=events["event_time"] + later.to_numpy(),
    )


def months(events: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(2017-01, its events in order of time), the way a shop delivers."""
    ordered = events.sort_values("event_time", kind="stable", ignore_index=True)
    yield from ordered.groupby(ordered["event_time"].dt.strftime("%Y-%m"), sort=True)


def write(folder: Path, factor: int, seed: int = 0, source: Path | None = None) -> Path:
    """Write the files of the shop and its YAML file; the path of the latter.

    `source`: the shop file to multiply; None = the packaged default.
    """
    file = source or packaged_shop()
    real, now = open_source(load_shop(file)), datetime.now(UTC)
    items, users = real.items(now)[0], real.users(now)[0]
    landed = pd.concat([real.land(f, now) for f in real.files() if f.role == "interactions"])
    events = landed.loc[landed["reject_reason"].isna(), list(EVENT_COLUMNS)]
    del landed
    (folder / "events").mkdir(parents=True, exist_ok=True)
    for number in range(factor):
        for month, rows in months(copied(events, items, number, seed)):
            rows.to_parquet(folder / "events" / f"{month}-{number:02}.parquet", index=False)
    items.drop(columns="attributes").to_parquet(folder / "items.parquet", index=False)
    traits = pd.json_normalize(users["attributes"].map(json.loads).tolist()).astype("str")
    everybody = [
        pd.concat([users[["user_id"]] + (f"-{n}" if n else ""), traits], axis=1)
        for n in range(factor)
    ]
    pd.concat(everybody, ignore_index=True).to_parquet(folder / "users.parquet", index=False)
    shop = yaml.safe_load(file.read_text(encoding="utf-8"))
    shop |= {
        "name": f"{shop['name']}_x{factor}",
        "source": {
            "kind": "files",
            "interactions": {"path": "events", "negative_quantity": "return"},
            "items": {"path": "items.parquet"},
        },
    }
    if len(users):
        shop["source"]["users"] = {"path": "users.parquet", "attributes": list(traits.columns)}
    promoted = real.promotions()[0]
    if len(promoted):
        promoted.to_parquet(folder / "promotions.parquet", index=False)
        shop["source"]["promotions"] = {"path": "promotions.parquet"}
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(shop), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--factor", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(write(given.folder, given.factor, given.seed))


if __name__ == "__main__":
    main()
