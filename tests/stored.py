"""Tables put into a lake by hand, without the asset that makes them.

Belongs here: versions of tables that a test writes out. Does not belong here: their content.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from recsys_assets.core.lake import Lake, Snapshot, VersionKey

KEY = VersionKey(code="", config="", libraries="", inputs={})


def stored(
    lake: Lake,
    name: str,
    data: pd.DataFrame | pa.Table | Mapping[str, pa.Table],
    *,
    key: VersionKey = KEY,
    partition: str = "",
    report: Mapping[str, Any] | None = None,
) -> Snapshot:
    """A version of the table `name`, of one part or of several by name, that nobody has judged."""
    if isinstance(data, pd.DataFrame):
        data = pa.Table.from_pandas(data, preserve_index=False)
    parts = data if isinstance(data, Mapping) else {"": data}
    version = lake.store(name, parts.items(), key, partition=partition, report=lambda: report or {})
    return lake.of_version(version)


def approved(lake: Lake, name: str, data: pd.DataFrame | pa.Table, **more: Any) -> Snapshot:
    """The same as `stored`, proposed and approved."""
    made = stored(lake, name, data, **more)
    lake.propose(made.versions)
    lake.approve(made.versions)
    return made
