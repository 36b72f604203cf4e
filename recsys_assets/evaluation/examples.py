"""A handful of users to look at: where we won, where we lost, and an ordinary one.

Belongs here: choosing users by a seeded rule and laying their lists out with product names. Does
not belong here: whether anybody may be looked at (the shop file says so). Who was drawn is called
A, B, C; only whom the operator named is shown by id.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recsys_assets.core.metrics import seeded_uniform

KINDS = ("win", "ordinary", "loss", "named")
_SHARE = 0.1
"""Wins are drawn from the best tenth of the differences, losses from the worst."""


def choose_examples(
    difference: pd.Series,
    *,
    per_kind: int = 2,
    named: Sequence[str] = (),
    seed: int = 0,
    salt: str = "",
) -> pd.DataFrame:
    """Users (`user_id, kind, example`) by what they gained: `difference` is ours - theirs per
    user_id.

    From the best tenth, the middle tenth and the worst tenth `per_kind` users each, by a seeded
    hash of their id, so that nobody picks a flattering one. A win needs a difference above zero, a
    loss one below. `example` is a letter for them; `named` users come first, under their id.
    """
    order = difference.sort_index().sort_values(ascending=False, kind="stable")
    n = len(order)
    size = max(per_kind, int(np.ceil(n * _SHARE)))
    middle = max(0, n // 2 - size // 2)
    pools = {
        "win": order.iloc[:size][order.iloc[:size] > 0],
        "ordinary": order.iloc[middle : middle + size],
        "loss": order.iloc[max(0, n - size) :][order.iloc[max(0, n - size) :] < 0],
    }
    found: list[tuple[str, str]] = []
    for kind, pool in pools.items():
        taken = {user for user, _ in found}
        ids = [str(user) for user in pool.index if user not in taken]
        draw = seeded_uniform(ids, seed, f"{salt} {kind}")
        found += [(ids[at], kind) for at in np.argsort(draw, kind="stable")[:per_kind]]
    drawn = pd.DataFrame(found, columns=["user_id", "kind"])
    drawn["example"] = [_letter(n) for n in range(len(drawn))]
    ids = [user for user in dict.fromkeys(named) if user in difference.index]
    asked = pd.DataFrame({"user_id": ids, "kind": "named", "example": ids})
    return pd.concat([asked, drawn[~drawn["user_id"].isin(ids)]], ignore_index=True)


def _letter(n: int) -> str:
    """A to Z, then A2 to Z2 and so on."""
    return chr(ord("A") + n % 26) + (str(n // 26 + 1) if n >= 26 else "")


def lay_out(
    chosen: pd.DataFrame,
    lists: pd.DataFrame,
    relevant: pd.DataFrame,
    history: pd.DataFrame,
    titles: pd.Series,
    names: dict[str, str],
    k: int,
) -> pd.DataFrame:
    """Each example's lists side by side: example, kind, column, place, title, found.

    `lists` is `model, user_id, item_id, rank`; `names` maps a model to its column's heading;
    `history` is `user_id, item_id, times`, what was taken before, most often first; `titles` maps
    item_id to a product's name. `found` says that the item was then taken.
    """
    label = dict(zip(chosen["user_id"], chosen["example"], strict=True))
    kind = dict(zip(chosen["user_id"], chosen["kind"], strict=True))
    past = history[history["user_id"].isin(label)].assign(
        column="took before, most often", place=lambda f: f.groupby("user_id").cumcount() + 1
    )
    shown = lists[lists["user_id"].isin(label) & lists["model"].isin(names)]
    shown = shown.assign(column=shown["model"].map(names), place=shown["rank"])
    columns = ["user_id", "column", "place", "item_id"]
    rows = pd.concat([past[columns], shown[columns]], ignore_index=True)
    rows = rows[rows["place"] <= k]
    pairs = pd.MultiIndex.from_frame(relevant[["user_id", "item_id"]])
    order = {c: n for n, c in enumerate(["took before, most often", *names.values()])}
    return (
        pd.DataFrame(
            {
                "example": rows["user_id"].map(label),
                "kind": rows["user_id"].map(kind),
                "column": rows["column"],
                "place": rows["place"].astype(np.int32),
                "title": titles.reindex(rows["item_id"]).fillna("").to_numpy(),
                "found": pd.MultiIndex.from_frame(rows[["user_id", "item_id"]]).isin(pairs),
                "at": rows["column"].map(order),
            }
        )
        .sort_values(["example", "at", "place"], ignore_index=True)
        .drop(columns="at")
    )
