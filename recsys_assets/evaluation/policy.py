"""Which model is published: the ranker, unless something simpler is better beyond noise.

Belongs here: the decision, on the tune target only. Does not belong here: making lists
(`held_out.py`), and applying the decision (`ranking/placements.py` and the recommendations).
"""

from dataclasses import dataclass

import pandas as pd

from recsys_assets.core.metrics import paired_bootstrap
from recsys_assets.evaluation.held_out import RANKER


@dataclass(frozen=True)
class Policy:
    """What is published for one task, and the comparison that decided it.

    `simpler` is the best model other than the ranker; `difference` is ranker - simpler in mean
    NDCG, with its paired interval (`choose`). Numbers are None where nothing could be compared.
    """

    model: str
    reason: str
    simpler: str | None = None
    ranker_ndcg: float | None = None
    simpler_ndcg: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    n_users: int = 0


DRAWS = 4000
"""At least so many: with twenty simpler models five lie beyond either end of the interval."""
MIN_USERS = 20
"""A percentile bootstrap of fewer users is narrower than what it stands for."""
UNDECIDED = Policy(RANKER, "the data are too short to compare: nobody measured otherwise")
NOT_TRAINED = Policy(RANKER, "before the tune target there is too little to train a ranker on")


def choose(per_user: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> Policy:
    """The policy of one task from `user_id, model, ndcg` on the tune target.

    The ranker is published unless the best simpler model beats it by more than noise, which is a
    paired interval wholly below zero that holds for all simpler models together (95%, Bonferroni):
    the best of twenty models looks better than it is, and a tie goes to the ranker. Fewer than
    MIN_USERS decide nothing: resampled, three people who agree look certain. Users without a list
    of a model count 0. Ties among the simpler go to the name that comes first.
    """
    wide = per_user.pivot(index="user_id", columns="model", values="ndcg").fillna(0.0).sort_index()
    others = [model for model in sorted(wide.columns) if model != RANKER]
    if wide.empty or RANKER not in wide or not others:
        return UNDECIDED
    simpler = str(wide[others].mean().idxmax())
    level = 1.0 - 0.05 / len(others)
    summary = paired_bootstrap(
        wide[[RANKER]], wide[[simpler]].set_axis([RANKER], axis=1),
        draws=max(draws, DRAWS), level=level, seed=seed,
    )  # fmt: skip
    row = summary.to_dict("index")[RANKER]
    worse = row["high"] < 0 and len(wide) >= MIN_USERS
    if len(wide) < MIN_USERS:
        reason = f"{len(wide)} users are too few to tell the ranker and {simpler} apart"
    elif worse:
        reason = f"{simpler} beats the ranker beyond noise"
    elif row["low"] > 0:
        reason = f"the ranker beats {simpler}, the best of everything simpler, beyond noise"
    else:
        reason = f"the ranker and {simpler}, the best of everything simpler, differ within noise"
    return Policy(
        model=simpler if worse else RANKER,
        reason=reason,
        simpler=simpler,
        ranker_ndcg=float(wide[RANKER].mean()),
        simpler_ndcg=float(wide[simpler].mean()),
        difference=row["value"],
        low=row["low"],
        high=row["high"],
        p_value=row["p_value"],
        n_users=len(wide),
    )
