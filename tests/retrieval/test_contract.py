"""What every retriever promises, checked on a small shop for each kind there is."""

from typing import Literal

import numpy as np
import pandas as pd
import pytest

from recsys_assets.retrieval import registry
from recsys_assets.retrieval.content import Content
from recsys_assets.retrieval.contract import (
    EventLog,
    Fitted,
    hidden_items,
    recent_share,
    top_k,
)
from recsys_assets.retrieval.neighbours import NextItem
from recsys_assets.retrieval.popularity import SegmentPopularity
from recsys_assets.retrieval.registry import KINDS
from tests.retrieval.shop import AS_OF, N_ITEMS, events, log_of, shop_events, shop_items, vectors

PARAMS: dict[str, dict[str, object]] = {
    "als": {"factors": 6},
    "bpr": {"factors": 6, "iterations": 5},
    "content": {"vectors": vectors()},
    "segment_popularity": {
        "traits": pd.Series({f"u{n:02d}": f'{{"age": "{n % 2}"}}' for n in range(18)})
    },
    "similar_items": {"min_support": 1},
    "next_item": {"min_support": 1.0},
    "ease": {"side": {"category_3": 0.3, "store": 0.2}, "trend": 0.5, "popularity": 0.1},
}
EVERY = sorted(KINDS)


def fitted(kind: str, log: EventLog, seed: int = 0) -> Fitted:
    member = registry.Member(KINDS[kind](**PARAMS.get(kind, {})))
    return registry.fit(log, {kind: member}, seed)[kind]


def everybody(log: EventLog) -> np.ndarray:
    return np.r_[np.arange(log.n_users), -1].astype(np.int32)


@pytest.mark.parametrize("kind", EVERY)
def test_scores_are_finite_float32_of_catalogue_columns(kind: str) -> None:
    log = log_of(shop_events())
    scores = fitted(kind, log).scores(everybody(log))
    assert scores.dtype == np.float32
    assert scores.flags.c_contiguous
    assert scores.shape in {(log.n_users + 1, log.n_warm), (log.n_users + 1, N_ITEMS)}
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", EVERY)
def test_same_log_and_seed_give_the_same_bits(kind: str) -> None:
    first, second = log_of(shop_events()), log_of(shop_events())
    a = fitted(kind, first, 3).scores(everybody(first))
    b = fitted(kind, second, 3).scores(everybody(second))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", EVERY)
def test_the_future_changes_nothing(kind: str) -> None:
    both = shop_events()
    past = both[both["event_time"] < AS_OF]
    assert len(past) < len(both)
    whole, cut = log_of(both), log_of(past)
    a = fitted(kind, whole).scores(everybody(whole))
    b = fitted(kind, cut).scores(everybody(cut))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", EVERY)
def test_a_user_without_history_is_scored_like_every_other_such_user(kind: str) -> None:
    log = log_of(shop_events())
    scores = fitted(kind, log).scores(np.array([-1, 0, -1], dtype=np.int32))
    assert np.array_equal(scores[0], scores[2])


@pytest.mark.parametrize("kind", EVERY)
def test_asking_does_not_change_the_answer(kind: str) -> None:
    log = log_of(shop_events())
    model = fitted(kind, log)
    first = model.scores(everybody(log))
    kept = first.copy()
    first[:] = -np.inf  # callers may write into what they were given
    assert np.array_equal(model.scores(everybody(log)), kept)


IMPERSONAL = {"popularity", "store_popularity"}
OWN_ITEMS_ONLY = {"frequency", "repeat_interval"}
TASTELESS_HERE = {"content", "bpr"}  # random vectors; too few steps
COLD_ITEMS_ONLY = {"newcomers"}


@pytest.mark.parametrize(
    "kind",
    sorted(set(EVERY) - IMPERSONAL - OWN_ITEMS_ONLY - TASTELESS_HERE - COLD_ITEMS_ONLY),
)
def test_people_of_one_taste_get_that_taste(kind: str) -> None:
    log = log_of(shop_events())
    model = fitted(kind, log)
    scores = model.scores(np.arange(log.n_users, dtype=np.int32))[:, : log.n_warm]
    even_user = np.array([int(u[1:]) % 2 == 0 for u in log.users])
    even_item = log.columns[: log.n_warm] % 2 == 0
    own = scores[np.ix_(even_user, even_item)].mean() - scores[np.ix_(even_user, ~even_item)].mean()
    assert own > 0


def test_content_scores_items_without_history() -> None:
    log = log_of(shop_events())
    assert log.n_warm == 36
    scores = Content(vectors()).fit(log).scores(everybody(log))
    assert scores.shape[1] == N_ITEMS
    cold = [log.items[code] for code in log.columns[log.n_warm :]]
    assert cold == ["i36", "i37", "i38", "i39"]


def test_hidden_items_look_as_if_nobody_ever_took_them() -> None:
    hidden = pd.Index(["i00", "i05"])
    log = log_of(shop_events(), hidden=hidden)
    assert {"i00", "i05"} <= set(log.items[log.columns[log.n_warm :]])
    assert len(log.items) == N_ITEMS


def test_hidden_items_are_a_seeded_share() -> None:
    items = [f"i{n}" for n in range(10_000)]
    first = hidden_items(items, 0.05, seed=1)
    assert list(first) == list(hidden_items(items[::-1], 0.05, seed=1))
    assert list(first) != list(hidden_items(items, 0.05, seed=2))
    assert 400 < len(first) < 600


def test_events_of_unknown_items_are_left_out_and_an_empty_log_is_refused() -> None:
    with pytest.raises(ValueError, match="no event"):
        log_of(shop_events().assign(item_id="never-listed"))


def test_a_catalogue_with_a_repeated_item_is_refused() -> None:
    twice = pd.concat([shop_items(), shop_items().head(1)])
    with pytest.raises(ValueError, match="twice"):
        EventLog.from_frames(shop_events(), twice, AS_OF)


def test_decay_halves_an_event_every_half_life() -> None:
    made = events(
        [("u", "i00", 10), ("u", "i00", 20), ("u", "i01", 5)],
        quantity=[2.0, 1.0, 1.0], polarity=np.int8([1, 1, -1]),
        counts_as_taken=[True, True, False], session_id=["s1", "s2", "s3"],
    )  # fmt: skip
    log = log_of(made)
    assert log.matrix(10.0).toarray().tolist() == [[0.75, 0.0], [0.0, 0.0]]
    assert log.matrix(10.0, "quantity").toarray()[0, 0] == pytest.approx(1.25)
    assert log.taken_matrix.toarray().tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_the_edges_of_a_log_by_hand() -> None:
    """An event at the cutoff lies after it; an item whose last day ends there is not on offer."""
    rows = [  # item, days before the cutoff, quantity, polarity
        ("i00", 28, np.nan, 1),
        ("i00", 29, -2.0, 1),
        ("i01", 1, 3.0, -1),
        ("i02", 0, 1.0, 1),
    ]
    made = events(
        [("u", item, days) for item, days, *_ in rows],
        quantity=[quantity for *_, quantity, _ in rows],
        polarity=np.int8([polarity for *_, polarity in rows]),
    )
    items = shop_items().head(3)
    items["available_to"] = [AS_OF, AS_OF + pd.Timedelta(seconds=1), pd.NaT]
    items["available_from"] = pd.Series([pd.NaT, pd.NaT, AS_OF], dtype="datetime64[us, UTC]")
    log = EventLog.from_frames(made, items, AS_OF)
    assert (len(log.user), log.n_warm) == (3, 2), "i02 is not known yet"
    assert log.offered.tolist() == [False, True, True]
    # The unknown quantity is one piece, the negative one none; i01 was taken and not liked.
    assert log.matrix(value="quantity").toarray()[0].tolist() == [1.0, 0.0]
    assert log.taken_matrix.toarray()[0].tolist() == [1.0, 1.0]
    assert recent_share(log).tolist() == [1.0, 0.0], "28 days ago is within 28 days"


@pytest.mark.parametrize(("width", "k"), [(7, 3), (500, 10), (1000, 1), (30, 50), (129, 32)])
def test_top_k_equals_a_full_sort_with_ties_by_code(width: int, k: int) -> None:
    rng = np.random.default_rng(width)
    scores = rng.integers(0, 9, (6, width)).astype(np.float32)
    codes = rng.permutation(width)
    rows, columns = top_k(scores, k, codes, floor=0.0)
    for row in range(6):
        full = np.lexsort((codes, -scores[row]))
        expected = full[scores[row][full] > 0][:k]
        assert columns[rows == row].tolist() == expected.tolist()


def test_a_trait_is_popular_among_those_who_share_it() -> None:
    log = graded(
        [(u, i, 1.0, u) for u, i in (("a", "i00"), ("b", "i01"), ("b", "i01"), ("c", "i00"))]
    )
    traits = pd.Series({"a": '{"age": "20", "plan": ""}', "b": '{"age": "60", "plan": "x"}'})
    plain = {"half_life": 1e9, "shrink": 2.0}
    model = SegmentPopularity(traits, **plain).fit(log)
    # Of the takings half are of i00: twice 1/2 is added to a trait's own takings.
    expected = [[(1 + 1) / 3, 1 / 3], [1 / 4, (2 + 1) / 4], [1 / 2, 1 / 2], [1 / 2, 1 / 2]]
    assert model.scores(everybody(log)) == pytest.approx(np.array(expected), abs=1e-6)
    aged = SegmentPopularity(traits, attributes=("plan",), **plain).fit(log)
    assert aged.scores(np.array([0, 1]))[0] == pytest.approx([1 / 2, 1 / 2]), "no plan, no segment"
    with pytest.raises(ValueError, match=r"no user has the attributes \['sex'\]; known: \['age', "):
        SegmentPopularity(traits, attributes=("sex", "age")).fit(log)


def test_steps_are_counted_per_user_and_loose_events_stand_alone() -> None:
    made = events(
        [("u", "i00", 50), ("u", "i01", 50), ("v", "i00", 40), ("u", "i02", 30), ("u", "i03", 20)],
        weight=np.float32([5, 4, 5, 1, 2]), polarity=np.int8([1, 1, 1, -1, 0]),
        session_id=["s", "s", None, None, None],
    )  # fmt: skip
    log = log_of(made)
    assert log.steps_ago.tolist() == [2, 2, 0, 1, 0]
    assert log.matrix(1.0, clock="events", signal="graded").toarray()[0].tolist() == [
        1.25,
        1.0,
        0.5,
        2.0,
    ]
    assert log.taken_matrix.toarray()[0].tolist() == [1, 1, 1, 1], "a disliked film is known too"


def test_what_a_basket_is_does_not_depend_on_how_a_shop_numbers_them() -> None:
    """Two users with two visits each, as receipts, as visits counted per user, and as nothing."""
    rows = [("u", "i00", 9), ("u", "i01", 9), ("u", "i00", 5), ("v", "i00", 8), ("v", "i00", 4)]
    logs = [
        log_of(events(rows, session_id=names))
        for names in (["a", "a", "b", "c", "d"], ["1", "1", "2", "1", "2"], [None] * 5)
    ]
    for log in logs:
        assert log.matrix(value="baskets").toarray()[:2, :2].tolist() == [[2, 1], [2, 0]]
    assert [log.steps_ago.tolist() for log in logs[:2]] == [[1, 1, 1, 0, 0]] * 2


@pytest.mark.parametrize("kind", EVERY)
def test_a_shop_without_baskets_stores_or_categories_is_served(kind: str) -> None:
    bare = shop_items().assign(category_1="", category_2="", category_3="", brand="", group_id="")
    loose = shop_events().assign(session_id=None, store_id=None)
    log = EventLog.from_frames(loose, bare, AS_OF)
    scores = fitted(kind, log).scores(everybody(log))
    assert np.isfinite(scores).all()
    assert scores[:-1].std() > 0


def graded(rows: list[tuple[str, str, float, str]]) -> EventLog:
    """The log of (user, item, weight, session), a day apart."""
    made = events(
        [(user, item, len(rows) - n) for n, (user, item, *_) in enumerate(rows)],
        weight=np.float32([row[2] for row in rows]), session_id=[row[3] for row in rows],
    )  # fmt: skip
    return log_of(made)


def test_relative_weights_forget_generous_users_and_popular_grades() -> None:
    same = graded([(u, i, w, u) for u, w in (("a", 5.0), ("b", 1.0)) for i in ("i00", "i01")])
    assert np.abs(same.relative_weight).max() < np.abs(same.weight - same.weight.mean()).max()
    odd = graded([("a", f"i{n:02d}", 5.0, "s") for n in range(30)] + [("a", "i30", 1.0, "s")])
    assert odd.relative_weight[-1] < -2 < -0.5 < odd.relative_weight[:-1].min()
    assert (odd.matrix(signal="relative").toarray()[0] < 0).sum() == 1


def test_order_is_read_basket_by_basket_or_event_by_event() -> None:
    log = graded(
        [(u, i, 1.0, f"{u}{s}") for u in "abc" for i, s in (("i00", 1), ("i01", 1), ("i02", 2))]
    )
    assert log.steps_ago.tolist() == [1, 1, 0] * 3
    assert log.events_ago.tolist() == [2, 1, 0] * 3

    def follows(steps: Literal["baskets", "events"]) -> list[str]:
        model = NextItem(lags=(0.0, 1.0), min_support=1.0, steps=steps)
        return sorted(f"{a}>{b}" for a, b in zip(*model.fit(log).links.nonzero(), strict=True))

    assert follows("events") == ["0>1", "1>2"]
    assert follows("baskets") == ["0>2", "1>2"]


def visits_and_purchases() -> EventLog:
    """u looks at i00 in four baskets before buying it, and buys i01 without a look; ten others
    only ever look at i02."""
    looks = [("u", "i00", day + 0.1, f"b{day}", False) for day in (1, 8, 15, 22)]
    buys = [("u", item, day, f"b{day}", True) for day in (1, 8, 15, 22) for item in ("i00", "i01")]
    others = [(f"v{n}", "i02", 2.0, f"v{n}", False) for n in range(10)]
    rows = [*looks, *buys, *others]
    bought = [row[4] for row in rows]
    made = events(
        [row[:3] for row in rows],
        weight=np.where(bought, 1.0, 0.1).astype(np.float32), counts_as_taken=bought,
        session_id=[row[3] for row in rows], store_id="x",
    )  # fmt: skip
    return log_of(made)


def test_a_basket_counts_by_its_strongest_event() -> None:
    log = visits_and_purchases()
    row, columns = log.user_codes(["u"])[0], log.column_of_item[:2]
    assert log.matrix(None, "baskets").toarray()[row, columns].tolist() == [4.0, 4.0]


@pytest.mark.parametrize("kind", ["popularity", "store_popularity", "repeat_interval"])
def test_what_was_only_looked_at_was_not_taken(kind: str) -> None:
    log = visits_and_purchases()
    users = log.user_codes(["u", "v0"])
    bought, other, looked_at = fitted(kind, log).scores(users)[:, log.column_of_item[:3]].T
    assert bought[0] > 0 and bought[0] == other[0]
    assert looked_at.tolist() == [0.0, 0.0]


def test_midnight_and_noon_of_one_day_are_one_day_for_the_rhythm() -> None:
    def score(*days_ago: float) -> float:
        log = shop_events(len(days_ago)).assign(
            event_time=[AS_OF - pd.Timedelta(days=d) for d in days_ago],
            user_id="u", item_id="i00", polarity=np.int8(1), counts_as_taken=True,
        )  # fmt: skip
        return float(fitted("repeat_interval", log_of(log)).scores(np.array([0])).max())

    assert score(10.0, 9.5) < score(10.5, 10.0)  # one day, and two that are as far apart


@pytest.mark.parametrize("kind", EVERY)
def test_a_log_in_which_nobody_liked_anything_is_no_error(kind: str) -> None:
    log = log_of(shop_events().assign(polarity=np.int8(-1), counts_as_taken=True))
    assert np.isfinite(fitted(kind, log).scores(everybody(log))).all()
