"""Local clock time to UTC, for whole arrays.

Belongs here: arithmetic with the IANA zone rules. Does not belong here: parsing of texts, the
clock. pandas walks `zoneinfo` zones row by row and pyarrow asks the operating system for its zone
files; this is a lookup in a small table of a zone's changes of offset.

Hours that a clock change repeats or skips take the offset in force *before* the change (PEP 495's
`fold=0`): the first of two 02:30s in autumn, and a 02:30 that spring skips reads as 03:30. So every
local time has exactly one UTC time, on every machine, and order within the hour is kept.
"""

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

_SECOND = 1_000_000
_DAY = 86_400
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def local_to_utc(local: np.ndarray, zone: str) -> np.ndarray:
    """Wall-clock microseconds since 1970-01-01 00:00 local -> UTC microseconds (int64).

    Before 1900 and after 2100 the offset of that end of the zone's table is used.
    """
    if zone == "UTC" or len(local) == 0:
        return local
    changes, offsets = _offset_table(zone)
    walls = changes + np.maximum(offsets[:-1], offsets[1:])
    return local - offsets[np.searchsorted(walls, local, side="right")]


@lru_cache(maxsize=32)
def _offset_table(zone: str) -> tuple[np.ndarray, np.ndarray]:
    """(UTC moments of change, offsets before/between/after them), microseconds, 1900 to 2100.

    Probes the zone once a day and bisects a day whose offset changed, so two opposite changes
    within one day would be missed; none is known since 1900 outside historical oddities.
    """
    info = ZoneInfo(zone)

    def offset_at(second: int) -> int:
        moment = (_EPOCH + dt.timedelta(seconds=second)).astimezone(info)
        offset = moment.utcoffset()
        assert offset is not None
        return int(offset.total_seconds())

    first = -25_567 * _DAY
    last = 47_482 * _DAY
    changes: list[int] = []
    offsets = [offset_at(first)]
    for day in range(first, last, _DAY):
        after = offset_at(day + _DAY)
        if after != offsets[-1]:
            low, high = day, day + _DAY
            while high - low > 1:
                middle = (low + high) // 2
                if offset_at(middle) == offsets[-1]:
                    low = middle
                else:
                    high = middle
            changes.append(high)
            offsets.append(after)
    return (
        np.array(changes, dtype=np.int64) * _SECOND,
        np.array(offsets, dtype=np.int64) * _SECOND,
    )
