"""The union of the lists: what is in it, in which order, and that company does not matter."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.config import load_shop
from recsys_assets.retrieval import candidates, registry
from recsys_assets.retrieval.contract import EventLog
from tests.retrieval.shop import AS_OF, log_of, shop_events, shop_items, vectors

CONFIG: dict[str, dict[str, object]] = {
    "als": {"k_seen": 3, "k_unseen": 4, "params": {"factors": 6}},
    "content": {"k_seen": 0, "k_unseen": 2, "k_cold": 2},
    "ease": {"k_seen": 3, "k_unseen": 4},
    "frequency": {"k_seen": 5, "k_unseen": 0},
    "week": {"kind": "popularity", "k_seen": 0, "k_unseen": 5, "params": {"window": 7}},
    "next_item": {"enabled": False},
}


def made(users: list[str], **more: object) -> pd.DataFrame:
    log = log_of(shop_events())
    chosen = registry.members(CONFIG, vectors())
    fitted = registry.fit(log, chosen)
    table = candidates.generate(log, fitted, chosen, users, **more)  # type: ignore[arg-type]
    return table.to_pandas()


USERS = [f"u{n:02d}" for n in range(20)]


def test_a_switched_off_retriever_leaves_no_trace() -> None:
    assert "score_next_item" not in made(USERS[:2]).columns


def test_rows_are_sorted_unique_and_all_before_the_cutoff() -> None:
    frame = made(USERS[::-1] + USERS[:3])
    keys = frame[["user_id", "item_id"]]
    assert not keys.duplicated().any()
    assert keys.equals(keys.sort_values(["user_id", "item_id"], ignore_index=True))
    assert (frame["as_of"] == AS_OF).all()


def test_ranks_count_up_along_falling_scores_within_the_depths() -> None:
    frame = made(USERS)
    taken = shop_events().query("event_time < @AS_OF and counts_as_taken")
    seen = set(zip(taken["user_id"], taken["item_id"], strict=True))
    frame["seen"] = [key in seen for key in zip(frame["user_id"], frame["item_id"], strict=True)]
    for _, mine in frame.groupby("user_id"):
        listed = mine[mine["rank_ease"].notna()].sort_values("rank_ease")
        assert listed["rank_ease"].tolist() == list(range(1, len(listed) + 1))
        assert (listed["score_ease"].diff().dropna() <= 0).all()
        assert listed["seen"].sum() == 3
        speaks = ~mine["seen"] & (mine["score_ease"] > 0)
        assert (~listed["seen"]).sum() == min(4, speaks.sum())


def test_every_retriever_scores_every_candidate_it_can() -> None:
    frame = made(USERS)
    assert frame["score_content"].notna().all()
    cold = frame["item_id"] >= "i36"
    assert frame.loc[cold, "score_ease"].isna().all()
    assert frame.loc[~cold, "score_ease"].notna().all()


def test_the_cold_quota_brings_items_nobody_took() -> None:
    frame = made(USERS)
    assert (frame[frame["item_id"] >= "i36"].groupby("user_id").size() == 2).all()


def test_what_is_not_on_offer_gets_only_the_places_that_the_rest_leaves() -> None:
    sold = [f"i{n:02d}" for n in range(36) if n % 9]  # of 36 with history four stay: 0, 9, 18, 27
    dates = {**dict.fromkeys(sold, AS_OF), "i37": AS_OF, "i09": AS_OF + pd.Timedelta(1, "us")}
    to = pd.to_datetime(shop_items()["item_id"].map(dates), utc=True)
    come = shop_items()["item_id"].map({"i38": AS_OF + pd.Timedelta(1, "us"), "i36": AS_OF})
    items = shop_items().assign(available_from=pd.to_datetime(come, utc=True), available_to=to)
    log = EventLog.from_frames(shop_events(), items, AS_OF)
    chosen = registry.members(
        {
            "content": {"k_seen": 0, "k_unseen": 0, "k_cold": 2},
            "frequency": {"k_seen": 1, "k_unseen": 0},
            "week": {"kind": "popularity", "k_seen": 0, "k_unseen": 6, "params": {"window": 90}},
        },
        vectors(),
    )
    found = candidates.generate(log, registry.fit(log, chosen), chosen, ["stranger", *USERS])
    frame = found.to_pandas()
    cold = frame[frame["rank_content"].notna()]
    assert cold.groupby("user_id")["item_id"].agg(set).map(sorted).tolist() == (
        [["i36", "i39"]] * len(USERS)
    )
    mine = frame[(frame["user_id"] == "stranger") & frame["rank_week"].notna()]
    stay = {"i00", "i09", "i18", "i27"}
    assert len(mine) == 6 and stay < set(mine["item_id"])
    again = frame[frame["rank_frequency"].notna()].set_index("user_id")["item_id"]
    past = shop_events().query("event_time < @AS_OF and counts_as_taken and item_id in @stay")
    mixed = past["user_id"].unique()
    assert len(mixed) > 5 and again[mixed].isin(stay).all() and not again.isin(stay).all()


def test_a_user_nobody_knows_gets_what_is_popular() -> None:
    frame = made(["stranger", "u03"])
    stranger = frame[frame["user_id"] == "stranger"]
    assert stranger["rank_week"].notna().sum() == 5
    assert stranger["rank_als"].isna().all()
    assert stranger["rank_frequency"].isna().all()


def test_a_user_nobody_knows_gets_items_nobody_took_where_those_differ() -> None:
    log = log_of(shop_events())
    chosen = registry.members({"newcomers": {"k_cold": 3}, "ease": {}})
    found = candidates.generate(log, registry.fit(log, chosen), chosen, ["stranger"]).to_pandas()
    assert set(found["rank_newcomers"]) == {1, 2, 3}
    assert (found["item_id"] >= "i36").all()


def test_ease_brings_nothing_that_goes_with_nothing_a_user_took() -> None:
    # One user links i00 with i01; i02 and i03 go with nothing, so to u02 and u03 it says nothing.
    taken = {"u00": ["i00"], "u01": ["i00", "i01"], "u02": ["i02"], "u03": ["i03"]}
    pairs = [(user, item) for user, items in taken.items() for item in items]
    events = shop_events().head(len(pairs)).assign(event_time=AS_OF - pd.Timedelta("1D"))
    events[["user_id", "item_id"]] = pairs
    events["counts_as_taken"] = True
    log = log_of(events)
    chosen = registry.members({"ease": {"k_seen": 2, "k_unseen": 2}, "frequency": {}})
    found = candidates.generate(log, registry.fit(log, chosen), chosen, list(taken)).to_pandas()
    listed = found[found["rank_ease"].notna()].groupby("user_id")["item_id"].agg(list)
    assert listed.to_dict() == {"u00": ["i00", "i01"], "u01": ["i00", "i01"]}


def test_company_and_batches_do_not_change_a_users_rows() -> None:
    whole = made(USERS, user_batch=8)
    some = ["u02", "u11", "u17"]
    alone = made(some, user_batch=8)
    expected = whole[whole["user_id"].isin(some)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, check_exact=True)


def test_a_misspelt_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        registry.members({"esae": {}})
    with pytest.raises(ValueError, match="ease"):
        registry.members({"ease": {"params": {"lamda": 1}}})
    with pytest.raises(ValueError, match="the name is taken"):
        registry.members({"best": {"kind": "ease"}})
    with pytest.raises(ValueError, match="unknown keys"):
        registry.members({"ease": {"depth": 1}})


def test_a_retriever_is_left_out_where_what_it_works_on_is_not_given() -> None:
    config: dict[str, dict[str, object]] = {"content": {}, "segment_popularity": {}, "ease": {}}
    assert list(registry.members(config)) == ["ease"]
    traits = pa.table({"user_id": ["u"], "attributes": ["{}"]})
    assert list(registry.members(config, vectors(), traits)) == sorted(config)


def test_what_only_knows_items_without_history_brings_no_others_unless_asked(
    tmp_path: Path,
) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(
        "name: s\nrepeats: true\npartitions: {start: 2024-01-01}\n"
        "source: {kind: files, interactions: {path: a.csv, event_type: purchase},"
        " items: {path: b.csv}}\n"
        "retrieval:\n  newcomers: {k_cold: 5}\n  more: {kind: newcomers, k_unseen: 3}\n"
        "  ease: {k_seen: 7}\n"
    )
    found = registry.members(registry.configured(load_shop(file)))
    assert {n: (m.k_seen, m.k_unseen, m.k_cold) for n, m in found.items()} == {
        "newcomers": (0, 0, 5),
        "more": (0, 3, 0),
        "ease": (7, 100, 0),
    }


def test_recall_and_unique_contribution_by_hand() -> None:
    found = pd.DataFrame(
        {
            "user_id": ["a", "a", "a", "b"],
            "item_id": ["1", "2", "3", "1"],
            "rank_x": [1, 2, None, None],
            "rank_y": [None, 1, None, 1],
            "seen": [True, False, False, False],
        }
    )
    labels = pd.DataFrame(
        {
            "user_id": ["a", "a", "a", "b"],
            "item_id": ["1", "2", "9", "1"],
            "taken": True,
            "is_new": [False, True, True, True],
        }
    )
    out = candidates.retriever_recall(found, labels, depths=(1,)).set_index(["task", "retriever"])
    assert out.loc[("all", "x"), "recall"] == pytest.approx((2 / 3 + 0) / 2)
    assert out.loc[("all", "x"), "recall_1"] == pytest.approx((1 / 3 + 0) / 2)
    assert out.loc[("all", "union"), "recall"] == pytest.approx((2 / 3 + 1) / 2)
    assert out.loc[("all", "y"), "unique"] == pytest.approx(1 / 4)
    assert out.loc[("new", "x"), "recall_1"] == pytest.approx((1 / 2 + 0) / 2)
    once = candidates.retriever_recall(found, labels, depths=(1,), repeats=False)
    once = once.set_index(["task", "retriever"])
    pd.testing.assert_frame_equal(once.loc["all"], out.loc["new"])


def test_the_union_is_as_deep_as_the_rankers_order_says() -> None:
    found = pd.DataFrame(
        {
            "user_id": ["a", "a", "a"],
            "item_id": ["1", "2", "3"],
            "rank_x": [1, 2, None],
            "seen": [True, False, False],
            "score_all": [0.1, 0.2, 0.3],
            "score_new": [None, 0.5, 0.5],
        }
    )
    labels = pd.DataFrame(
        {"user_id": "a", "item_id": ["1", "2"], "taken": True, "is_new": [False, True]}
    )
    out = candidates.retriever_recall(found, labels, depths=(1, 2)).set_index(["task", "retriever"])
    assert out.loc[("all", "union"), ["recall_1", "recall_2", "recall"]].tolist() == [0, 0.5, 1]
    assert out.loc[("new", "union"), "recall_1"] == 1  # the tie goes to item 2
    assert out.loc[("all", "x"), ["recall_1", "recall_2"]].tolist() == [0.5, 1]
    margins = candidates.union_margins(out.loc["all"].reset_index())
    assert margins == {"recall_1": -0.5, "recall_2": -0.5}


def test_a_sample_of_users_keeps_the_batches_that_they_were_scored_in() -> None:
    users = [f"u{n:03d}" for n in range(3 * candidates.USER_BATCH + 5)]
    drawn = candidates.whole_batches(users[::-1], 2, np.random.default_rng(7))
    assert drawn == sorted(set(drawn))
    for start in range(0, len(drawn), candidates.USER_BATCH):
        batch = drawn[start : start + candidates.USER_BATCH]
        at = users.index(batch[0])
        assert at % candidates.USER_BATCH == 0
        assert batch == users[at : at + candidates.USER_BATCH]
    assert candidates.whole_batches(users, 9, np.random.default_rng(7)) == users
