"""Fixtures shared by all tests: a tiny shop and a project in a temporary folder."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
# Threads that wait must not spin: two workers share the processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from recsys_assets.core.assets import Project

SLOWEST_FIRST = (
    "end_to_end/test_small_shop", "redteam", "faults", "end_to_end", "core/test_lake", "erasure",
    "publishing",
)  # fmt: skip
"""Files that take minutes: begun first, so that no worker is alone with one of them at the end.
While the first of them makes the small shop that others read, there is something else to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(root).as_posix()
        return next((n for n, s in enumerate(SLOWEST_FIRST) if path.startswith(s)), 99)

    items.sort(key=place)


MINIMAL_SHOP = """\
name: tiny
repeats: true
source:
  kind: files
  interactions:
    - path: interactions.csv
      columns: {user_id: user_id, item_id: item_id, event_time: event_time}
      event_type: purchase
  items:
    - path: items.csv
      columns: {item_id: item_id}
partitions: {granularity: day, start: 2024-01-01, end: 2024-01-11}
event_types:
  purchase: {weight: 1.0, polarity: 1, counts_as_taken: true}
"""


@pytest.fixture
def shop_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(MINIMAL_SHOP, encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path, shop_file: Path) -> Project:
    return Project(home=str(tmp_path / "home"), shop_file=str(shop_file))
