"""The users whom a label window is learned from.

Belongs here: which users these are, and so whom a cutoff needs rows of. Does not belong here: what
is proposed to them (`candidates.py`) and learned from it (`ranking/training.py`).

A ranker needs enough examples, not every user's: with a fixed number of users per window the work
of a window does not grow with the shop.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoffs_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.metrics import seeded_uniform
from recsys_assets.core.settings.calendar import Cutoffs


def learners(users: Iterable[str], as_of: pd.Timestamp, cutoffs: Cutoffs, seed: int) -> list[str]:
    """The ids that the window of `as_of` is learned from, sorted: `cutoffs.users_per_window`, or
    all where there are no more.

    Users stand in a circle, in an order drawn by hash, and every window takes the next so many. So
    the windows of a ranker have as few users in common as can be, and where windows overlap, fewer
    purchases are counted twice.
    """
    ids = sorted(set(users))
    n = cutoffs.users_per_window
    if len(ids) <= n:
        return ids
    circle = np.argsort(seeded_uniform(ids, seed, "learners"), kind="stable")
    nth = (as_of - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(days=cutoffs.step_days)
    places = (nth * n + np.arange(n)) % len(ids)
    return [ids[place] for place in np.sort(circle[places]).tolist()]


def people_at(as_of: pd.Timestamp, users: Snapshot, cutoffs: Snapshot, shop: Shop) -> list[str]:
    """Whom a cutoff needs rows of: everybody where a target stands, else its learners."""
    ids = users.to_arrow(["user_id"])["user_id"].to_pylist()
    if as_of in cutoffs_of(cutoffs, targets=True):
        return ids
    return learners(ids, as_of, shop.cutoffs, shop.seed)


def units_of_people(
    units: Mapping[str, str], users: Snapshot, cutoffs: Snapshot, shop: Shop
) -> dict[str, str]:
    """`units` (`core.cutoffs.cutoff_units`) of a table with rows of `people_at`: a cutoff becomes
    another piece when a target comes to stand at it, or leaves it."""
    marked = dict(units)
    if users.rows > shop.cutoffs.users_per_window:
        for as_of in cutoffs_of(cutoffs, targets=True):
            marked[part_name(as_of)] += "|everybody"
    return marked
