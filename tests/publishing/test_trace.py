"""Which of a user's lists a recommendation is traced on."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.lake import LakeError
from recsys_assets.publishing.trace import trace
from recsys_assets.ranking.evidence import NOT_RANKED

LISTS = pd.DataFrame(
    [("buy_again", "a", 1), ("discover", "b", 2), ("for_you", "a", 3), ("buy_again", "b", 4)],
    columns=["placement", "item_id", "rank"],
).assign(as_of=pd.Timestamp("2024-01-01", tz="UTC"))


@pytest.mark.parametrize(
    ("item", "placement", "shown"),
    [
        ("a", None, ("for_you", 3)),
        ("b", None, ("discover", 2)),
        ("a", "buy_again", ("buy_again", 1)),
    ],
)
def test_of_several_lists_the_one_people_see_first_is_meant(
    item: str, placement: str | None, shown: tuple[str, int]
) -> None:
    row = trace(served(), None, "u", item, placement).row  # type: ignore[arg-type]
    assert (row["placement"], row["rank"]) == shown


def test_an_item_on_no_list_is_refused() -> None:
    with pytest.raises(LakeError, match="item 'c' is not on any list that user 'u' is served"):
        trace(served(), None, "u", "c")  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["fallback", "stand_in", "explore", "onboarding"])
def test_what_no_ranker_put_where_it_stands_has_no_contributions(policy: str) -> None:
    release = served()  # it has no tables: nothing can be computed again
    release.lists = lambda user_id: (LISTS.assign(policy=policy), True)
    release.where = lambda *place: pa.table({"item_id": ["a"], "score_all": [0.5]})
    found = trace(release, None, "u", "a")  # type: ignore[arg-type]
    assert (found.scores, found.features) == ({"score_all": 0.5}, ())
    assert found.note == NOT_RANKED[policy]


def served() -> Any:
    manifest = SimpleNamespace(tables={}, release_id="r", libraries={})
    return SimpleNamespace(lists=lambda user_id: (LISTS, False), manifest=manifest)
