"""A small shop for the tests of retrieval: two tastes, and items that nobody took.

Belongs here: frames under the staged contracts, and the log made of them. Does not belong here:
assertions.
"""

import numpy as np
import pandas as pd

from recsys_assets.retrieval.contract import EventLog

AS_OF = pd.Timestamp("2020-03-01", tz="UTC")
N_ITEMS = 40


def shop_items() -> pd.DataFrame:
    ids = [f"i{n:02d}" for n in range(N_ITEMS)]
    return pd.DataFrame(
        {
            "item_id": ids,
            "category_1": [f"a{n % 2}" for n in range(N_ITEMS)],
            "category_2": [f"b{n % 4}" for n in range(N_ITEMS)],
            "category_3": [f"c{n % 8}" for n in range(N_ITEMS)],
            "brand": [f"m{n % 3}" for n in range(N_ITEMS)],
            "group_id": [f"g{n // 2}" for n in range(N_ITEMS)],
            "available_from": pd.NaT,
            "available_to": pd.NaT,
        }
    )


def shop_events(n: int = 600) -> pd.DataFrame:
    """Two tastes: even users like even items. Items i36..i39 are never taken before AS_OF."""
    rng = np.random.default_rng(5)
    user = rng.integers(0, 20, n)
    item = (rng.integers(0, 18, n) * 2 + user % 2) % 36
    day = rng.uniform(-20, 100, n)  # a sixth of it lies after the cutoff
    item = np.where(day < 0, rng.integers(0, N_ITEMS, n), item)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{u:02d}" for u in user],
            "item_id": [f"i{i:02d}" for i in item],
            "event_time": (AS_OF - pd.to_timedelta(day, unit="D")).astype("datetime64[us, UTC]"),
            "quantity": 1.0,
            "weight": np.float32(1),
            "polarity": np.where(rng.random(n) < 0.03, -1, 1).astype(np.int8),
            "counts_as_taken": True,
            "session_id": [f"s{u}-{int(d)}" for u, d in zip(user, day, strict=True)],
            "store_id": [f"x{u % 3}" if u % 5 else None for u in user],
        }
    )
    frame["counts_as_taken"] = frame["polarity"] > 0
    return frame.sort_values("event_time", ignore_index=True)


def vectors() -> np.ndarray:
    rng = np.random.default_rng(9)
    made = rng.normal(size=(N_ITEMS, 8)).astype(np.float32)
    made[1::4] = made[0::4]  # some items share their text
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def events(
    rows: list[tuple[str, str, float]], as_of: pd.Timestamp = AS_OF, **columns: object
) -> pd.DataFrame:
    """(user, item, days before `as_of`): each one piece, taken and liked, outside of any visit and
    store, unless `columns` say otherwise."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "days"])
    plain: dict[str, object] = {
        "event_time": as_of - pd.to_timedelta(frame.pop("days"), unit="D"),
        "quantity": 1.0, "weight": np.float32(1), "polarity": np.int8(1), "counts_as_taken": True,
        "session_id": None, "store_id": None,
    }  # fmt: skip
    return frame.assign(**{**plain, **columns})


def log_of(events: pd.DataFrame, **more: object) -> EventLog:
    return EventLog.from_frames(events, shop_items(), AS_OF, **more)  # type: ignore[arg-type]
