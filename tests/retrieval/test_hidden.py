"""Items whose history a label window hides: who brings them, and that their past has no say."""

import pandas as pd
import pyarrow as pa

from recsys_assets.retrieval import hidden, registry
from tests.retrieval.shop import AS_OF, shop_events, shop_items, vectors

CONFIG: dict[str, dict[str, object]] = {
    "content": {"k_seen": 2, "k_unseen": 2, "k_cold": 6},
    "frequency": {"k_seen": 5, "k_unseen": 0},
}
USERS = [f"u{n:02d}" for n in range(20)]
ITEMS = pa.Table.from_pandas(shop_items())
SEED = 3


def proposed(events: pd.DataFrame, config: dict[str, dict[str, object]] = CONFIG) -> pa.Table:
    known = pa.Table.from_pandas(events[events["event_time"] < AS_OF], preserve_index=False)
    members = registry.members(config, vectors())
    return hidden.propose(known, ITEMS, AS_OF, members, USERS, SEED)


def away() -> list[str]:
    return list(hidden.hidden_at(ITEMS["item_id"].to_pylist(), AS_OF, SEED))


def test_only_hidden_items_come_and_only_from_those_that_need_no_history() -> None:
    found = proposed(shop_events())
    assert found.num_rows
    assert set(found["item_id"].to_pylist()) <= set(away())
    assert {n for n in found.column_names if n.startswith("rank_")} == {"rank_content"}


def test_whoever_scores_items_without_history_scores_hidden_ones_too() -> None:
    """As at serving, where every retriever scores every candidate that it can."""
    config = {"content": {"k_unseen": 2}, "newcomers": {"k_cold": 6}, "ease": {}}
    found = proposed(shop_events(), config)
    assert found.num_rows
    assert found["score_content"].null_count == 0
    assert found["rank_content"].null_count == found.num_rows
    assert "score_ease" not in found.column_names


def test_what_was_done_with_a_hidden_item_changes_nothing() -> None:
    events = shop_events()
    assert events["item_id"].isin(away()).any()
    assert proposed(events).equals(proposed(events[~events["item_id"].isin(away())]))


def test_without_a_quota_for_items_without_history_there_is_nothing() -> None:
    found = proposed(shop_events(), {"frequency": CONFIG["frequency"]})
    assert found.num_rows == 0
    assert found.column_names == ["as_of", "user_id", "item_id"]


def test_nothing_is_hidden_where_nothing_else_would_be_left() -> None:
    events = shop_events()
    found = proposed(events[events["item_id"].isin(away())])
    assert (found.num_rows, found.column_names) == (0, ["as_of", "user_id", "item_id"])


def test_every_window_hides_others() -> None:
    items = [f"i{n:04d}" for n in range(2_000)]
    first = hidden.hidden_at(items, AS_OF, SEED)
    second = hidden.hidden_at(items, AS_OF + pd.Timedelta(days=14), SEED)
    assert 60 < len(first) < 140
    assert len(first.intersection(second)) < 20
