"""The per-user splits of the literature, written directly: what the benchmark clock holds out."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.core.metrics import pair_hash


def leave_last_split(interactions: pd.DataFrame, *, seed: int) -> npt.NDArray[np.bool_]:
    """True for each user's last interaction (`user_id, item_id, event_time`).

    Users with a single interaction keep it for training. Interactions with equal times are ordered
    by a seeded hash of (user, item), never by the order of rows or ids: in MovieLens-100K three
    rows of four share a time with another row of their user.
    """
    position, size = _position_in_history(interactions, seed)
    return (position == size - 1) & (size > 1)


def time_share_split(
    interactions: pd.DataFrame, *, seed: int, share: float = 0.2
) -> npt.NDArray[np.bool_]:
    """True for the last `share` of each user's interactions, rounded down, ties as in
    `leave_last_split`."""
    position, size = _position_in_history(interactions, seed)
    return position >= size - np.floor(size * share + 1e-9).astype(int)


def _position_in_history(
    interactions: pd.DataFrame, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    users, _ = pd.factorize(interactions["user_id"], sort=True)
    ties = pair_hash(interactions["user_id"], interactions["item_id"], seed)
    order = np.lexsort((ties, interactions["event_time"].to_numpy(), users))
    sizes = np.bincount(users, minlength=users.max(initial=-1) + 1)
    position = np.empty(len(users), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    position[order] = np.arange(len(users)) - starts[users[order]]
    return position, sizes[users]
