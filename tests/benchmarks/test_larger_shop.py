"""A multiplied shop is like the real one, and no copy of it."""

from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks.larger_shop import copied, months, write
from benchmarks.scale import exponent
from recsys_assets.core.config import load_shop
from recsys_assets.ingestion.source import open_source

N_ITEMS, N_USERS = 400, 60


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    number = np.arange(N_ITEMS)
    return pd.DataFrame(
        {
            "item_id": number.astype(str),
            "category_1": "food",
            "category_2": np.where(number % 2, "fresh", "dry"),
            "category_3": (number % 8).astype(str),
        }
    )


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 12_000
    basket = rng.integers(N_USERS * 20, size=n)
    start = rng.integers(300 * 86_400, size=N_USERS * 20)
    return pd.DataFrame(
        {
            "user_id": (basket // 20).astype(str),
            "item_id": np.minimum(rng.zipf(1.4, size=n), N_ITEMS).astype(int).astype(str),
            "event_time": pd.Timestamp("2024-01-01", tz="UTC")
            + pd.to_timedelta(start[basket], unit="s"),
            "session_id": basket.astype(str),
        }
    )


def test_a_copied_user_makes_the_same_trips_and_repeats_as_often(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    copy = copied(events, items, 1, seed=0)
    for frame in (events, copy):
        frame["user"] = frame["user_id"].str.split("-").str[0]
    sizes = [f.groupby("session_id").size().sort_values().tolist() for f in (events, copy)]
    assert sizes[0] == sizes[1]
    repeats = [f.value_counts(["user", "item_id"]).sort_values().tolist() for f in (events, copy)]
    assert repeats[0] == repeats[1]
    later = copy["event_time"] - events["event_time"]
    assert later.between(pd.Timedelta(0), pd.Timedelta(minutes=10)).all()
    assert later.groupby(copy["session_id"]).nunique().eq(1).all()  # a basket stays one basket


def test_a_copied_user_shops_in_the_same_categories(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    kind = items.set_index("item_id")["category_3"]
    copy = copied(events, items, 2, seed=0)
    assert (
        events["item_id"].map(kind).fillna("?").tolist()
        == copy["item_id"].map(kind).fillna("?").tolist()
    )


def test_products_sell_as_often_as_in_the_real_shop(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    real = events["item_id"].value_counts().reindex(items["item_id"]).fillna(0)
    copy = copied(events, items, 1, seed=0)["item_id"].value_counts()
    copy = copy.reindex(items["item_id"]).fillna(0)
    assert np.corrcoef(np.log1p(real), np.log1p(copy))[0, 1] > 0.9
    head = np.sort(real)[::-1].cumsum() / real.sum()
    copied_head = np.sort(copy)[::-1].cumsum() / copy.sum()
    assert abs(head - copied_head).max() < 0.03


def test_copies_take_other_products_than_the_original_and_than_each_other(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    first, second = (copied(events, items, n, seed=0)["item_id"] for n in (1, 2))
    rare = events.groupby("item_id")["item_id"].transform("size") < 30
    assert (first != events["item_id"])[rare].mean() > 0.4
    assert (first != second)[rare].mean() > 0.4


def test_a_month_is_delivered_in_order_of_time(events: pd.DataFrame) -> None:
    delivered = list(months(events))
    assert [name for name, _ in delivered] == [f"2024-{n:02}" for n in range(1, 11)]
    assert sum(len(rows) for _, rows in delivered) == len(events)
    assert all(rows["event_time"].is_monotonic_increasing for _, rows in delivered)


def test_the_larger_shop_is_read_by_the_ordinary_source(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    small = Path(__file__).parents[1] / "data" / "hofladen" / "shop.yaml"

    def accepted(file: Path) -> pd.DataFrame:
        source = open_source(load_shop(file))
        files = [f for f in source.files() if f.role == "interactions"]
        landed = pd.concat([source.land(f, now) for f in files])
        return landed[landed["reject_reason"].isna()]

    real, larger = accepted(small), accepted(write(tmp_path, 3, source=small))
    assert len(larger) == 3 * len(real)
    assert larger["user_id"].nunique() == 3 * real["user_id"].nunique()
    types = [f["event_type"].value_counts() for f in (real, larger)]
    assert (types[0] * 3).to_dict() == types[1].to_dict()


def test_the_larger_shop_promotes_what_the_real_one_does(tmp_path: Path) -> None:
    small = Path(__file__).parents[1] / "data" / "hofladen"
    copytree(small, tmp_path / "real")
    leaflet = "item_id,kind,starts_at,reach\na,feature,2024-03-01T00:00:00Z,0.5\n"
    (tmp_path / "real" / "leaflet.csv").write_text(leaflet, encoding="utf-8")
    shop = yaml.safe_load((small / "shop.yaml").read_text(encoding="utf-8"))
    shop["source"]["promotions"] = {"path": "leaflet.csv"}
    (tmp_path / "real" / "shop.yaml").write_text(yaml.safe_dump(shop), encoding="utf-8")
    larger = open_source(load_shop(write(tmp_path, 3, source=tmp_path / "real" / "shop.yaml")))
    assert larger.promotions()[0][["item_id", "reach"]].to_numpy().tolist() == [["a", 0.5]]


@pytest.mark.parametrize(("power", "expected"), [(1, 1.0), (2, 2.0)])
def test_the_exponent_of_a_power_is_the_power(power: int, expected: float) -> None:
    assert exponent({n: 5.0 * n**power for n in (1, 3, 10)}) == pytest.approx(expected)
