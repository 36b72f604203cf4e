"""Drift and data health: numbers that tell when the world has moved away from what was learned.

Belongs here: formulas over columns and frames. Does not belong here: thresholds (settings), what is
done about a warning.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import chdtri

BINS = 10
FLOOR = 1e-4
"""Share that an empty bin counts as, so that the logarithm stays finite."""

_WINDOW = re.compile(r"_(7|14|28|84)$|_(7|28)_(28|84)$|_decayed(_items)?_\d+$|_last_5_|_last_15_")
_CURRENT = re.compile(r"(_price_vs_usual|^price_vs_last_paid|_last_days|_due_days|_due_trips)$")


def windowed(feature: str) -> bool:
    """Whether a feature looks back over a window or is relative to now.

    Counts over the whole history grow with every week that passes: they drift by construction and
    say nothing, so they are left out.
    """
    return bool(_WINDOW.search(feature) or _CURRENT.search(feature))


def reach_days(feature: str) -> int:
    """How long the log has to be for a windowed feature to stay what it is when the log grows.

    A window fills up until the log is as long, and who is new in it is known after another one;
    within two half-lives three quarters of a decayed count are in. 0 if it depends on no length.
    """
    window = _WINDOW.search(feature)
    if window is None or window[0].startswith("_last_"):  # so many trips
        return 0
    return 2 * max(int(days) for days in re.findall(r"\d+", window[0]))


def bins_for(old: int, new: int, limit: float) -> int:
    """How many bins, `BINS` at most, so that the index of two samples of so many independent values
    of one distribution stays below `limit` in 19 of 20 cases; 0 where not even two do.

    Without a shift the index is about chi2(bins) * (1 / old + 1 / new), the bin of nulls included.
    """
    noise = (1 / max(old, 1) + 1 / max(new, 1)) * chdtri(np.arange(2, BINS + 1), 0.05)
    calm = int((noise <= limit).sum())
    return calm + 1 if calm else 0


def psi(expected: npt.ArrayLike, actual: npt.ArrayLike, bins: int = BINS) -> float:
    """Population stability index: sum over bins of (a - e) * ln(a / e), e and a being shares.

    Bins are quantiles of `expected` (NaN is a bin of its own). Below 0.1 is calm, above 0.25 is a
    shift (a rule of thumb from credit scoring). 0 when either side is empty.
    """
    old, new = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
    if len(old) == 0 or len(new) == 0:
        return 0.0
    edges = _inner_edges(old, bins)
    e, a = (np.maximum(_shares(side, edges), FLOOR) for side in (old, new))
    return float(np.sum((a - e) * np.log(a / e)))


def _inner_edges(values: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.float64]:
    """Inner bin edges, ascending without repeats; a value on an edge belongs to the bin below."""
    ordered = np.sort(values[~np.isnan(values)])
    n = len(ordered)
    if n == 0:
        return np.empty(0)
    at = np.ceil(float(n) * np.arange(1, bins) / bins).astype(int) - 1
    return np.unique(ordered[at])


def _shares(
    values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    known = ~np.isnan(values)
    codes = np.where(known, np.searchsorted(edges, values, side="left"), len(edges) + 1)
    counts = np.bincount(codes, minlength=len(edges) + 2)
    return counts / counts.sum()


def concentration(counts: npt.ArrayLike) -> float:
    """Gini coefficient of events over items: 0 = all items alike, 1 = one item has everything."""
    ordered = np.sort(np.asarray(counts, dtype=float))
    if len(ordered) == 0 or ordered.sum() == 0:
        return 0.0
    places = np.arange(1, len(ordered) + 1)
    n = len(ordered)
    return float(2 * (places * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)


def weekly_volume(times: pd.Series, as_of: pd.Timestamp, weeks: int = 9) -> list[int]:
    """Events of each of the last `weeks` full weeks before `as_of`, newest first; the first moment
    of a week belongs to it, so that days without a time of day count in full."""
    age = np.ceil((as_of - times).dt.total_seconds() / (7 * 86_400)) - 1
    counts = age[(age >= 0) & (age < weeks)].astype(int).value_counts()
    return [int(counts.get(week, 0)) for week in range(weeks)]


def unseen_share(values: pd.Series, known: Sequence[str] | pd.Index) -> float:
    """Share of rows whose value was never there before; empty texts are not counted as values."""
    stated = values[values != ""]
    return float((~stated.isin(known)).mean()) if len(stated) else 0.0
