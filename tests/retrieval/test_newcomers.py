"""Items without history are ordered by what became of their like and by who leans to them."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from recsys_assets.retrieval.contract import EventLog
from recsys_assets.retrieval.newcomers import Facet, Newcomers, fit_facet
from tests.retrieval.shop import AS_OF, events

SAME = ("brand",)
"""Everything is of one brand, so that nobody leans to it."""


def log_of(rows: list[tuple[str, str, float]], items: dict[str, tuple[str, str]]) -> EventLog:
    """`rows`: user, item, age in days; `items`: item -> (kind, group)."""
    catalogue = pd.DataFrame(
        [(i, "a", "b", kind, "m", group) for i, (kind, group) in items.items()],
        columns=["item_id", "category_1", "category_2", "category_3", "brand", "group_id"],
    ).assign(available_from=pd.NaT, available_to=pd.NaT)
    return EventLog.from_frames(events(rows), catalogue, AS_OF)


ITEMS = {
    "old tea": ("tea", "t"), "old nut": ("nut", "n"), "new tea": ("tea", "t"),
    "cold nut": ("nut", "n"), "cold tea": ("tea", "t"), "cold tea, other": ("tea", "o"),
}  # fmt: skip
EVENTS = [
    ("ann", "old tea", 50), ("ann", "old tea", 40), ("bob", "old nut", 50), ("bob", "old nut", 3),
    ("ann", "new tea", 5), ("cy", "new tea", 5),
]  # fmt: skip


def scores(model: Newcomers, log: EventLog, user: str) -> dict[str, float]:
    row = model.fit(log).scores(log.user_codes([user]))[0]
    return {str(log.items[c]): float(s) for c, s in zip(log.columns, row, strict=True)}


def test_a_twin_of_a_product_that_was_taken_up_lately_is_expected_to_be_taken() -> None:
    log = log_of(EVENTS, ITEMS)
    found = scores(Newcomers(levels=SAME, prior=1.0), log, "ann")
    # One newcomer (new tea) with two takers; four of six items waited (it and three cold ones), all
    # of category a: (2 + 1) / (4 + 1) overall; tea: (2 + rate) / (3 + 1); and so on down.
    overall = (2 + (2 + 1) / (4 + 1)) / (4 + 1)
    rate = (2 + overall) / (4 + 1)  # category_2 is b for all
    tea = (2 + rate) / (3 + 1)
    tea_of_m = (2 + tea) / (3 + 1)
    assert found["cold tea"] == pytest.approx(np.log((2 + tea_of_m) / (2 + 1)))
    assert found["cold tea, other"] == pytest.approx(np.log((0 + tea_of_m) / (1 + 1)))
    assert found["cold tea"] > found["cold tea, other"] > found["cold nut"]
    assert found["old tea"] == found["new tea"] == 0.0


def test_a_user_is_offered_the_kinds_they_take_more_of_than_others() -> None:
    log = log_of(EVENTS, ITEMS)
    model = Newcomers(levels=("category_3",))
    plain = scores(Newcomers(levels=SAME), log, "ann")
    ann, bob = scores(model, log, "ann"), scores(model, log, "bob")
    assert ann["cold tea"] > plain["cold tea"] and ann["cold nut"] < plain["cold nut"]
    assert bob["cold nut"] > ann["cold nut"]
    # bob takes only nuts: his share is 1, that of all three is a third
    crowd = 1 / 3
    lift = (1 + 0.02 * crowd + 1e-6) / (crowd + 0.02 * crowd + 1e-6)
    assert bob["cold nut"] - plain["cold nut"] == pytest.approx(0.4 * np.log(lift), abs=1e-5)


def test_a_capped_facet_moves_a_score_by_its_weight_times_the_cap_at_most() -> None:
    log = log_of(EVENTS, ITEMS)
    kind = sparse.csr_matrix((log.levels["category_3"][:, None] == np.arange(2)).astype(float))
    facet = fit_facet(log, Facet(kind, kind, weight=0.5, cap=0.1))
    moved = facet.scores(np.arange(log.n_users, dtype=np.int32))
    assert np.abs(moved).max() == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("cap", [None, 1.5, 0.2])
def test_a_cap_only_cuts_what_lies_beyond_it(cap: float | None) -> None:
    log = log_of([*EVENTS, *[(f"n{n}", "old nut", 5) for n in range(3)]], ITEMS)
    kind = sparse.csr_matrix((log.levels["category_3"][:, None] == np.arange(2)).astype(float))
    ann = fit_facet(log, Facet(kind, kind, weight=1.0, cap=cap)).scores(log.user_codes(["ann"]))[0]
    cold = {
        str(log.items[c]): float(s) for c, s in zip(log.columns[log.n_warm :], ann, strict=True)
    }
    # all of ann's is tea, that of two in six people; the doubt is a fiftieth of the crowd's share
    for item, own, crowd in (("cold tea", 1.0, 2 / 6), ("cold nut", 0.0, 4 / 6)):
        lift = np.log((own + 0.02 * crowd + 1e-6) / (crowd + 0.02 * crowd + 1e-6))
        lift = lift if cap is None else np.clip(lift, -cap, cap)
        assert cold[item] == pytest.approx(lift, abs=1e-5)


def test_somebody_without_history_gets_what_others_took_up() -> None:
    log = log_of(EVENTS, ITEMS)
    found = scores(Newcomers(), log, "nobody")
    assert found["cold tea"] > found["cold nut"]
