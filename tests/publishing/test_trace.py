"""Which of a user's lists a recommendation is traced on."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from recsys_assets.core.lake import LakeError
from recsys_assets.publishing.trace import trace

LISTS = pd.DataFrame(
    [("buy_again", "a", 1), ("discover", "b", 2), ("for_you", "a", 3), ("buy_again", "b", 4)],
    columns=["placement", "item_id", "rank"],
).assign(as_of=pd.Timestamp("2024-01-01"))


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


def served() -> Any:
    manifest = SimpleNamespace(tables={}, release_id="r", libraries={})
    return SimpleNamespace(lists=lambda user_id: (LISTS, False), manifest=manifest)
