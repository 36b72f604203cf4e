"""Items that a label window treats as if nobody had ever taken them, and who proposes them then.

Belongs here: which items these are, and their candidates. Does not belong here: what a ranker makes
of them (`ranking/training.py`).

A ranker that has only ever seen items with history has no reason to trust one without. Truly new
items are few and of few kinds; a random share of the catalogue is of every kind.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.retrieval import candidates, registry
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import EventLog, hidden_items
from recsys_assets.retrieval.newcomers import Newcomers
from recsys_assets.retrieval.tables import CANDIDATES

SHARE = 0.05
"""Share of the catalogue that is hidden in every label window."""


def hidden_at(items: Sequence[str] | pd.Index, as_of: pd.Timestamp, seed: int) -> pd.Index:
    """The item ids that the window of `as_of` hides, sorted; others in every window."""
    return hidden_items(items, SHARE, [seed, as_of.value // 1_000_000_000])


def propose(
    known: pa.Table,
    items: pa.Table,
    as_of: pd.Timestamp,
    chosen: Mapping[str, registry.Member],
    users: Sequence[str],
    seed: int = 0,
) -> pa.Table:
    """The candidates of `users` among what is hidden, as `candidates.generate` gives them.

    `known` are the events before `as_of`, of which those of hidden items are not looked at. Only
    members with a quota for items without history (`k_cold`) can bring them; without such a member,
    or with so few items that none would be left to learn from, there are no rows and no columns but
    the keys. Others that score such items score these too.
    """
    if not any(member.k_cold for member in chosen.values()):
        return CANDIDATES.empty()
    able = {n: m for n, m in chosen.items() if isinstance(m.retriever, Content | Newcomers)}
    away = hidden_at(items["item_id"].to_pylist(), as_of, seed)
    if pc.all(pc.is_in(known["item_id"], value_set=pa.array(away, pa.string()))).as_py():
        return CANDIDATES.empty()  # nothing would be left
    log = EventLog.from_frames(known, items, as_of, away)
    found = candidates.generate(log, registry.fit(log, able, seed), able, users)
    return found.filter(pc.is_in(found["item_id"], value_set=pa.array(away, pa.string())))
