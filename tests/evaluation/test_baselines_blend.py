"""Baselines and the blend, counted by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_assets.collaborative.popularity import popular_items, popular_lately
from recsys_assets.core.lake import Lake
from recsys_assets.core.metrics import per_user_metrics
from recsys_assets.evaluation.baselines_blend import (
    BlendWeights,
    blend_lists,
    personal_frequency_lists,
    popularity_lists,
    search_blend_weights,
    tuned_weights,
)
from recsys_assets.evaluation.list_assets import _tuned
from recsys_assets.evaluation.tables import BLEND_WEIGHTS
from tests.stored import stored

AS_OF = pd.Timestamp("2017-12-04", tz="UTC")


def log(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    """(user, item, days before the cutoff)"""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "days"])
    times = AS_OF - pd.to_timedelta(frame["days"], unit="D")
    return frame.assign(event_time=times, counts_as_taken=True)


def of(lists: pd.DataFrame, user: str) -> list[str]:
    rows = lists[lists["user_id"] == user]
    assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
    return rows["item_id"].tolist()


def test_popularity_counts_taken_events_of_the_days_before_the_cutoff() -> None:
    events = log([("u", "old", 8), ("v", "old", 9), ("u", "b", 7), ("u", "a", 1), ("v", "r", 1)])
    events.loc[events["item_id"] == "r", "counts_as_taken"] = False
    assert popular_items(events, as_of=AS_OF).to_dict() == {"old": 2, "a": 1, "b": 1}
    assert popular_items(events, as_of=AS_OF, days=7).index.tolist() == ["a", "b"]


def test_what_is_popular_lately_is_as_short_lived_as_the_horizon() -> None:
    """Three read yesterday's news, one of them the day before; five the story of last week."""
    rows = [(f"u{n}", "last week", 6.0) for n in range(5)] + [("u", "month", 29.0)]
    rows += [("a", "early", 0.5), ("b", "late", 0.4), ("c", "late", 1.5), ("d", "early", 0.2)]
    events = log(rows)
    month = popular_lately(events, as_of=AS_OF, horizon_days=28)
    assert month.to_dict() == {"last week": 5, "early": 2, "late": 2}
    day = popular_lately(events, as_of=AS_OF, horizon_days=1)
    assert day.index.tolist() == ["early", "late", "last week"]
    assert day.round(4).tolist() == [2.3333, 1.3333, 0.8333]


def test_a_popular_item_that_the_user_took_makes_room_for_the_next() -> None:
    counts = pd.Series({"a": 3, "b": 2, "c": 1})
    taken = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "gone"]})
    lists = popularity_lists(counts, ["u", "v"], k=2, exclude=taken)
    assert of(lists, "u") == ["b", "c"]
    assert of(lists, "v") == ["a", "b"]


def test_a_user_who_took_the_first_hundreds_still_gets_a_full_list() -> None:
    counts = pd.Series(range(3000, 0, -1), index=[f"i{n:04d}" for n in range(3000)])
    taken = pd.DataFrame({"user_id": "u", "item_id": counts.index[:1500]})
    assert of(popularity_lists(counts, ["u"], k=3, exclude=taken), "u") == [
        "i1500",
        "i1501",
        "i1502",
    ]


EVENTS = log(
    [
        *[("u", "often", d) for d in (300, 290, 280)],
        *[("u", "lately", d) for d in (3, 2)],
        ("u", "tie-b", 50),
        ("u", "tie-a", 50),
        *[(other, "tie-b", 1) for other in "xyz"],
        *[(other, "hit", 1) for other in "xyz"],
        ("x", "hit", 2),
    ]
)


def test_personal_frequency_breaks_ties_by_recent_popularity_and_fills_up_with_it() -> None:
    lists = personal_frequency_lists(EVENTS, ["u", "nobody"], as_of=AS_OF, k=5)
    assert of(lists, "u") == ["often", "lately", "tie-b", "tie-a", "hit"]
    assert lists.loc[lists["item_id"] == "often", "score"].item() == 3.0
    assert of(lists, "nobody") == ["hit", "tie-b", "lately"]


def test_decay_halves_an_event_per_half_life() -> None:
    lists = personal_frequency_lists(EVENTS, ["u"], as_of=AS_OF, half_life_days=50, k=3)
    assert of(lists, "u") == ["lately", "tie-b", "tie-a"]
    assert lists.loc[lists["item_id"] == "tie-a", "score"].item() == pytest.approx(0.5)


def test_events_at_or_after_the_cutoff_are_refused() -> None:
    for count in (popular_items, lambda *a, **k: personal_frequency_lists(*a, ["u"], **k)):
        with pytest.raises(ValueError, match="before"):
            count(log([("u", "a", 0)]), as_of=AS_OF)


SCORED = pd.DataFrame(
    [
        ("u", "a", 0.9, 100.0, np.nan),
        ("u", "b", 0.5, 300.0, 10.0),
        ("u", "c", 0.1, 200.0, 20.0),
        ("v", "a", 0.5, 7.0, 1.0),
    ],
    columns=["user_id", "item_id", "content", "collaborative", "popularity"],
)


def test_the_blend_adds_scores_scaled_per_user_and_a_missing_one_adds_nothing() -> None:
    lists = blend_lists(SCORED)
    assert of(lists, "u") == ["a", "b", "c"]
    assert lists["score"].to_numpy() == pytest.approx(
        [0.6, 0.6 * 0.5 + 0.3, 0.3 * 0.5 + 0.1, 0.0], abs=1e-6
    )
    assert of(blend_lists(SCORED, BlendWeights(0.0, 1.0, 0.0)), "u") == ["b", "c", "a"]
    assert of(blend_lists(SCORED, k=1), "u") == ["a"]


def test_the_search_finds_the_component_that_knows() -> None:
    relevant = pd.DataFrame({"user_id": ["u", "listless"], "item_id": ["c", "a"]})
    search = search_blend_weights(SCORED, relevant, k=1)
    assert len(search) == 66
    assert np.allclose(search[["content", "collaborative", "popularity"]].sum(axis=1), 1)
    assert search["ndcg"].iloc[0] == 0.5
    assert of(blend_lists(SCORED, BlendWeights()), "u")[0] != "c"
    assert of(blend_lists(SCORED, tuned_weights(search)), "u")[0] == "c"


def test_of_equally_good_weights_the_same_are_used_that_the_search_puts_first(
    tmp_path: Path,
) -> None:
    relevant = pd.DataFrame({"user_id": ["u"], "item_id": ["a"]})
    search = search_blend_weights(SCORED, relevant, k=1).assign(task="all")
    assert (search["ndcg"] == 1).sum() > 1 and search["content"].iloc[0] == 1
    table = BLEND_WEIGHTS.ordered(BLEND_WEIGHTS.conform(search))
    made = stored(Lake(tmp_path), "blend_weights", table)
    assert _tuned(made) == {"all": BlendWeights(1.0, 0.0, 0.0)}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_the_search_reports_the_ndcg_that_the_lists_then_have(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = pd.MultiIndex.from_product([list("uvw"), [f"i{n}" for n in range(9)]])
    frame = pd.DataFrame(pairs.tolist(), columns=["user_id", "item_id"]).sample(
        20, random_state=seed
    )
    for name in ("content", "collaborative", "popularity"):
        frame[name] = rng.integers(0, 3, len(frame)).astype(float)
    relevant = pd.DataFrame(
        {
            "user_id": rng.choice(list("uvwx"), 12),
            "item_id": [f"i{n}" for n in rng.integers(0, 9, 12)],
        }
    )
    search = search_blend_weights(frame, relevant, k=k, step=0.5)
    for row in search.itertuples():
        weights = BlendWeights(row.content, row.collaborative, row.popularity)
        measured = per_user_metrics(blend_lists(frame, weights, k=k), relevant, (k,))
        assert row.ndcg == pytest.approx(measured[f"ndcg@{k}"].mean())
