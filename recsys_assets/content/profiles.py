"""What a user's past says about their taste, as one vector among the item vectors.

Belongs here: the recency-weighted mean. Does not belong here: whose past, and what is done with it.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.core.vectors import ItemVectors

HALF_LIFE = 60.0
"""Days after which what somebody took counts half."""


def profiles(
    taken: pd.DataFrame, vectors: ItemVectors, as_of: pd.Timestamp
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Users with a profile, sorted, and their unit vectors [n, d].

    `taken`: user_id, item_id, event_time, all before `as_of`. Per item the fading count
    (0.5 ** (age / 60 days), summed) is flattened by its square root, so that a weekly habit does
    not drown the rest. Users none of whose items has a vector have no profile.
    """
    row = vectors.rows(taken["item_id"])
    known = taken.assign(row=row)[row >= 0]
    age = (as_of - known["event_time"]).dt.total_seconds() / 86_400
    weight = np.exp2(-age / HALF_LIFE)
    per_item = known.assign(weight=weight).groupby(["user_id", "row"])["weight"].sum() ** 0.5
    users, user = np.unique(per_item.index.get_level_values(0), return_inverse=True)
    sums = np.zeros((len(users), vectors.dimension))
    item = per_item.index.get_level_values(1).to_numpy()
    np.add.at(sums, user, vectors.matrix[item] * per_item.to_numpy()[:, None])
    length = np.linalg.norm(sums, axis=1)
    good = length > 1e-9
    unit = sums[good] / length[good, None]
    return [str(u) for u in users[good]], unit.astype(np.float32)
