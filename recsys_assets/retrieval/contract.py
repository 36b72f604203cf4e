"""The one contract of every retriever, and the view of the past they all learn from.

Belongs here: `EventLog` (who did what before a cutoff, as integer codes and sparse matrices), the
`Retriever` / `Fitted` protocols, and the exact top-k that every list is cut with. Does not belong
here: any model, any table, any reading of what happened at or after the cutoff.

Codes and columns
-----------------
*user code*: position in `EventLog.users`. **-1 is a user without history** and is valid everywhere:
matrices that are looked up by user carry one empty last row.
*item code*: position in `EventLog.items`, the whole catalogue.
*column*: position in `EventLog.columns`, the item codes that can be scored: first every item with
an event before the cutoff (`n_warm` of them, by item id), then the rest of the catalogue. Score
matrices of models that need history have `n_warm` columns, those of content models all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys_assets.content.categories import CATEGORY_COLUMNS
from recsys_assets.content.offer import within_dates
from recsys_assets.core.arrays import distinct, first_of_each, position_in_run

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float32]

Clock = Literal["days", "events"]
Signal = Literal["positive", "graded", "relative"]
Value = Literal["count", "quantity", "baskets", "binary"]
Level = Literal["category_1", "category_2", "category_3", "brand", "group_id"]
_LEVELS = (*CATEGORY_COLUMNS, "brand", "group_id")
_DATES = ("available_from", "available_to")
_DOUBT = 10.0
EVENT_COLUMNS = (
    "user_id",
    "item_id",
    "event_time",
    "quantity",
    "weight",
    "polarity",
    "counts_as_taken",
    "session_id",
    "store_id",
)
"""What a log is made of; the others need not be read."""


@dataclass(frozen=True, eq=False)
class EventLog:
    """Everything that happened before `as_of`, in time order, as codes.

    Arrays `user` .. `store` have one entry per event, ordered by (event_time, event order given).
    `day` is the age of the event in days before `as_of` (> 0). `session` counts baskets in the
    order in which they began, `store` is -1 where unknown. `levels[name]` has one code per
    catalogue item for each of category_1, category_2, category_3 (each the path down to its level),
    brand and group_id, and for kind_brand (category_3 x brand); an item with an empty value is
    alone in its code. `offered` says of every catalogue item whether `as_of` lies within its dates.
    Its status does not count: of what it was at an earlier cutoff nothing is known.
    """

    as_of: pd.Timestamp
    users: pd.Index
    items: pd.Index
    user: IntArray
    item: IntArray
    day: npt.NDArray[np.float64]
    quantity: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    polarity: npt.NDArray[np.int8]
    taken: BoolArray
    session: IntArray
    store: IntArray
    levels: Mapping[str, IntArray]
    offered: BoolArray

    @classmethod
    def from_frames(
        cls,
        interactions: pd.DataFrame | pa.Table,
        items: pd.DataFrame | pa.Table,
        as_of: datetime | pd.Timestamp,
        hidden: Sequence[str] | pd.Index | None = None,
    ) -> "EventLog":
        """The log of `interactions` before `as_of` over the catalogue `items`.

        Events at or after `as_of` are dropped here whatever the caller passes. Events of items
        outside the catalogue are dropped too. `hidden` names items whose events are dropped as
        well, which makes them look like items without history (see `hidden_items`).

        Raises ValueError if nothing is left, or if the catalogue repeats an item.
        """
        cutoff = pd.Timestamp(as_of)
        cutoff = cutoff.tz_localize("UTC") if cutoff.tzinfo is None else cutoff.tz_convert("UTC")
        events = _table(interactions, EVENT_COLUMNS)
        catalogue = _table(items, ("item_id", *_LEVELS, *_DATES))

        order = pc.sort_indices(catalogue, sort_keys=[("item_id", "ascending")])
        catalogue = catalogue.take(order)
        item_ids = catalogue.column("item_id").combine_chunks().cast(pa.large_string())
        if pc.count_distinct(item_ids).as_py() != len(item_ids):
            raise ValueError("the catalogue holds an item twice")

        moment = pa.timestamp("us", "UTC")
        dates = catalogue.select(_DATES).cast(pa.schema([(name, moment) for name in _DATES]))
        time = events.column("event_time").cast(moment)
        micros = time.cast(pa.int64()).to_numpy()
        item = _lookup(events.column("item_id"), item_ids)
        keep = (micros < cutoff.value // 1000) & (item >= 0)
        if hidden is not None and len(hidden):
            gone = np.zeros(len(item_ids) + 1, dtype=bool)
            gone[
                _lookup(pa.chunked_array([pa.array(list(hidden), pa.large_string())]), item_ids)
            ] = True
            keep &= ~gone[item]
        if not keep.any():
            raise ValueError(f"no event of a catalogue item before {cutoff.isoformat()}")
        rows = np.flatnonzero(keep)
        rows = rows[np.argsort(micros[rows], kind="stable")]

        def values(name: str) -> Any:
            return events.column(name).to_numpy()[rows]

        users, user = _codes(events.column("user_id"), rows)
        session = _own_sessions(user, _codes(events.column("session_id"), rows)[1])
        n_sessions = int(session.max(initial=-1)) + 1
        starts = np.full(n_sessions, len(rows))
        known = np.flatnonzero(session >= 0)
        np.minimum.at(starts, session[known], known)
        rank_of_session = np.full(n_sessions + 1, -1, dtype=np.int32)
        rank_of_session[np.argsort(starts, kind="stable")] = np.arange(n_sessions)
        _, store = _codes(events.column("store_id"), rows)
        return cls(
            as_of=cutoff,
            users=users,
            items=pd.Index(item_ids.to_pandas().to_numpy(dtype=object)),
            user=user,
            item=item[rows],
            day=(cutoff.value // 1000 - micros[rows]) / 86_400e6,
            quantity=np.nan_to_num(values("quantity").astype(np.float32), nan=1.0),
            weight=values("weight").astype(np.float32),
            polarity=values("polarity").astype(np.int8),
            taken=values("counts_as_taken").astype(bool),
            session=rank_of_session[session],
            store=store,
            levels=_levels(catalogue),
            offered=within_dates(dates.to_pandas(), cutoff),
        )

    @cached_property
    def offered_column(self) -> BoolArray:
        """`offered`, by column instead of item code."""
        return self.offered[self.columns]

    @property
    def n_users(self) -> int:
        """Users with an event before the cutoff."""
        return len(self.users)

    @cached_property
    def n_warm(self) -> int:
        """Items with an event before the cutoff: the first `n_warm` columns."""
        return int(self._has_history.sum())

    @cached_property
    def _has_history(self) -> BoolArray:
        return np.bincount(self.item, minlength=len(self.items)) > 0

    @cached_property
    def columns(self) -> IntArray:
        """Item code of every column: items with history first, each part by item id."""
        return np.argsort(~self._has_history, kind="stable").astype(np.int32)

    @property
    def warm_ids(self) -> pd.Index:
        """Ids of the first `n_warm` columns, ascending."""
        return self.items[self.columns[: self.n_warm]]

    @cached_property
    def column_of_item(self) -> IntArray:
        """Column of every item code."""
        out = np.empty(len(self.items), dtype=np.int32)
        out[self.columns] = np.arange(len(self.items), dtype=np.int32)
        return out

    @cached_property
    def column(self) -> IntArray:
        """Column of every event."""
        return self.column_of_item[self.item]

    @cached_property
    def level_of_column(self) -> Mapping[str, IntArray]:
        """`levels`, by column instead of item code."""
        return {name: codes[self.columns] for name, codes in self.levels.items()}

    @cached_property
    def positive(self) -> BoolArray:
        """Events that speak for the item, a look at it among them."""
        return self.polarity > 0

    @cached_property
    def liked(self) -> BoolArray:
        """Takings that speak for the item: a look or a full cart is none, nor is a bad grade."""
        return self.taken & self.positive

    def matrix(
        self,
        half_life: float | None = None,
        value: str = "count",
        clock: str = "days",
        signal: str = "positive",
    ) -> sparse.csr_matrix:
        """Users x warm columns (float32, one empty last row): summed weights of events.

        `half_life` fades an event by 0.5 ** (age / half_life); None keeps it whole. `clock` says
        what age is: "days" before the cutoff, or "events", how many steps (baskets, or single
        events without a session) the same user made afterwards.
        `signal`: "positive" events only, or "graded": all events, whose weights (ratings, say)
        then carry the grade; a low grade still tells what kind of thing the user turned to. Or
        "relative": all events, whose weights then say how much higher or lower the user graded the
        item than both usually are (`relative_weight`).
        `value`: "count" sums event weights, "quantity" multiplies them by the quantity, "baskets"
        counts an item once per basket (see `step`), by the event of most weight, "binary" is 1
        where any event is.
        """
        rows = np.flatnonzero(self.of_signal(signal))
        if value == "baskets":
            rows = rows[np.argsort(-self.weight[rows], kind="stable")]
            key = self.step[rows].astype(np.int64) * len(self.items) + self.column[rows]
            rows = rows[np.sort(first_of_each(key))]
        given = self.relative_weight if signal == "relative" else self.weight
        weight = given[rows].astype(np.float64)
        if value == "quantity":
            weight = weight * np.maximum(self.quantity[rows], 0.0)
        if half_life is not None:
            weight = weight * np.exp2(-self.age(clock)[rows] / half_life)
        out = sparse.csr_matrix(
            (weight, (self.user[rows], self.column[rows])), shape=(self.n_users + 1, self.n_warm)
        )
        out.sum_duplicates()
        if value == "binary":
            out.data = np.ones_like(out.data)
        out.data = out.data.astype(np.float32)
        return out

    def of_signal(self, signal: str) -> BoolArray:
        """Which events a model of this `signal` learns from; see `matrix`."""
        if signal not in ("positive", "graded", "relative"):
            raise ValueError(f"unknown signal {signal!r}: positive, graded or relative")
        return self.positive if signal == "positive" else self.weight > 0

    @cached_property
    def relative_weight(self) -> npt.NDArray[np.float64]:
        """Weight of every event less its mean, what its user and what its item usually add.

        What users and items add are means of the rest, shrunk as if by `_DOUBT` further events
        without any, and found in turns (Koren 2009, baseline estimates).
        """
        rest = self.weight.astype(np.float64) - self.weight.mean()
        users = np.bincount(self.user, minlength=self.n_users) + _DOUBT
        items = np.bincount(self.column, minlength=self.n_warm) + _DOUBT
        of_user = np.zeros(self.n_users)
        of_item = np.zeros(self.n_warm)
        for _ in range(5):
            left = rest - of_user[self.user]
            of_item = np.bincount(self.column, weights=left, minlength=self.n_warm) / items
            left = rest - of_item[self.column]
            of_user = np.bincount(self.user, weights=left, minlength=self.n_users) / users
        return rest - of_user[self.user] - of_item[self.column]

    def age(self, clock: str) -> npt.NDArray[np.float64]:
        """Age of every event by `clock`; see `matrix`."""
        if clock not in ("days", "events"):
            raise ValueError(f"unknown clock {clock!r}: days or events")
        return self.day if clock == "days" else self.steps_ago

    @cached_property
    def step(self) -> IntArray:
        """Number of the basket of every event, in order of time over all users (with gaps); an
        event without a session is a basket of its own."""
        loose = self.session < 0
        start = np.full(int(self.session.max(initial=-1)) + 1, len(self.user), dtype=np.int64)
        np.minimum.at(start, self.session[~loose], np.flatnonzero(~loose))
        return np.where(loose, np.arange(len(self.user)), np.r_[start, 0][self.session])

    @cached_property
    def steps_ago(self) -> npt.NDArray[np.float64]:
        """How many steps of the same user came after the step of every event."""
        return _steps_ago(self.user, self.step)

    @cached_property
    def events_ago(self) -> npt.NDArray[np.float64]:
        """How many events of the same user came after every event, baskets or not."""
        return _steps_ago(self.user, np.arange(len(self.user)))

    @cached_property
    def taken_matrix(self) -> sparse.csr_matrix:
        """Users x warm columns, 1 where the user took the item before, liked or not (one empty
        last row)."""
        rows = np.flatnonzero(self.taken)
        out = sparse.csr_matrix(
            (np.ones(len(rows), dtype=np.float32), (self.user[rows], self.column[rows])),
            shape=(self.n_users + 1, self.n_warm),
        )
        out.sum_duplicates()
        out.data[:] = 1.0
        return out

    def user_codes(self, user_ids: Sequence[str] | pd.Index) -> IntArray:
        """Codes of `user_ids`, -1 for a user without history."""
        return self.users.get_indexer(pd.Index(user_ids)).astype(np.int32)


def _own_sessions(user: IntArray, session: IntArray) -> IntArray:
    """Codes of sessions that no two users share (-1 stays): a shop may number the visits of every
    user from 1, and receipts of two tills may have one number."""
    known = session >= 0
    one_of = np.zeros(int(session.max(initial=-1)) + 1, dtype=user.dtype)
    one_of[session[known]] = user[known]
    if (one_of[session[known]] == user[known]).all():
        return session
    pair = session[known].astype(np.int64) * (int(user.max(initial=0)) + 1) + user[known]
    own = np.full(len(session), -1, dtype=session.dtype)
    own[known] = pd.factorize(pair)[0]
    return own


def _steps_ago(user: IntArray, step: IntArray) -> npt.NDArray[np.float64]:
    """For every event, how many different later steps the same user has."""
    order = np.lexsort((-step, user))
    user, step = user[order], step[order]
    begin = np.r_[True, user[1:] != user[:-1]]
    number = np.cumsum(begin | np.r_[True, step[1:] != step[:-1]])
    first = number[begin]
    out = np.empty(len(order), dtype=np.float64)
    out[order] = number - np.repeat(first, np.diff(np.r_[np.flatnonzero(begin), len(order)]))
    return out


@runtime_checkable
class Fitted(Protocol):
    """A retriever that has learned from one log."""

    @property
    def floor(self) -> float:
        """Scores at or below this say nothing: such an item never becomes a candidate. 0 for
        models that add up evidence, -inf for models whose every score has a meaning."""
        ...

    def scores(self, users: IntArray) -> Scores:
        """Scores of `users` (codes, -1 allowed): C-ordered [len(users), n_warm or all columns].

        Finite, larger is better, never ordered by anything at or after the cutoff. The row of a
        user depends on that user's code only, not on who else is in the batch, up to the shape of
        the batch (callers keep it fixed).
        """
        ...


@runtime_checkable
class PairScores(Protocol):
    """A fitted retriever whose score matrix is not complete, but that can score any pair."""

    def pairs(self, users: IntArray, columns: IntArray) -> Scores:
        """Scores of pairs of a user code and a column."""
        ...


class Retriever(Protocol):
    """Hyper-parameters of a retriever: a frozen dataclass whose fields are plain values."""

    def fit(self, log: EventLog, seed: int = 0) -> Fitted:
        """Learn from `log`. The same log and seed give the same scores to the bit."""
        ...


def level_counts(log: EventLog, name: str, half_life: float | None) -> sparse.csr_matrix:
    """Users x values of a catalogue level (or "store"): fading weights of positive events."""
    rows = np.flatnonzero(log.positive)
    if name == "store":
        codes = log.store[rows]
        rows, codes = rows[codes >= 0], codes[codes >= 0]
    else:
        codes = log.levels[name][log.item[rows]]
    weight = log.weight[rows].astype(np.float64)
    if half_life is not None:
        weight = weight * np.exp2(-log.day[rows] / half_life)
    out = sparse.csr_matrix(
        (weight, (log.user[rows], codes)),
        shape=(log.n_users + 1, int(codes.max(initial=0)) + 1),
    )
    out.sum_duplicates()
    out.data = out.data.astype(np.float32)
    return out


def recent_share(log: EventLog, window: float = 28.0) -> Scores:
    """Share of users who took each warm item in the last `window` days."""
    rows = np.flatnonzero(log.liked & (log.day <= window))
    key = log.user[rows].astype(np.int64) * log.n_warm + log.column[rows]
    column = distinct(key) % log.n_warm
    counts = np.bincount(column, minlength=log.n_warm)
    return (counts / max(log.n_users, 1)).astype(np.float32)


def top_k(scores: Scores, k: int, codes: IntArray, floor: float) -> tuple[IntArray, IntArray]:
    """The `k` best columns of each row above `floor`: (rows, columns), best first within a row.

    Exact, with ties broken by ascending `codes` (item codes, thus item id). Rows with fewer than
    `k` scores above `floor` give fewer. The k-th largest of block maxima bounds the k-th largest
    score from below, so only the few blocks that reach the bound are ever looked into.
    """
    n_rows, width = scores.shape
    if k <= 0 or width == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    block = max(1, min(64, width // (4 * k)))
    n_blocks = width // block
    head = scores[:, : n_blocks * block].reshape(n_rows, block, n_blocks)  # strided blocks
    maxima = head.max(axis=1)
    bound = np.full(n_rows, -np.inf, dtype=np.float32)
    if n_blocks > k:
        bound = np.partition(maxima, n_blocks - k, axis=1)[:, n_blocks - k]
    row_of_block, which = np.nonzero((maxima >= bound[:, None]) & (maxima > floor))
    entries = head[row_of_block, :, which]
    at, offset = np.nonzero((entries >= bound[row_of_block, None]) & (entries > floor))
    tail = scores[:, n_blocks * block :]
    tail_row, tail_column = np.nonzero((tail >= bound[:, None]) & (tail > floor))
    rows = np.concatenate([row_of_block[at], tail_row])
    columns = np.concatenate([offset * n_blocks + which[at], tail_column + n_blocks * block])
    order = np.lexsort((codes[columns], -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    position = position_in_run(rows)
    return rows[position < k], columns[position < k]


def hidden_items(
    items: Sequence[str] | pd.Index, share: float, seed: int | Sequence[int]
) -> pd.Index:
    """A seeded random `share` of the catalogue, sorted, to be treated as items without history."""
    ids = pd.Index(sorted(items))
    chosen = np.random.default_rng(seed).random(len(ids)) < share
    return ids[chosen]


def _table(frame: pd.DataFrame | pa.Table, names: tuple[str, ...]) -> pa.Table:
    if isinstance(frame, pd.DataFrame):
        return pa.Table.from_pandas(frame[list(names)], preserve_index=False)
    return frame.select(list(names))


def _lookup(values: pa.ChunkedArray, value_set: pa.Array) -> npt.NDArray[np.int32]:
    found = pc.index_in(values.cast(pa.large_string()), value_set=value_set)
    return found.fill_null(-1).to_numpy().astype(np.int32)


def _codes(values: pa.ChunkedArray, rows: IntArray) -> tuple[pd.Index, IntArray]:
    """Sorted distinct values of `rows` and the code of each row; null is -1."""
    taken = values.cast(pa.large_string()).combine_chunks().take(pa.array(rows))
    encoded = taken.dictionary_encode()
    words = np.asarray(encoded.dictionary.to_pandas(), dtype=object)
    order = np.argsort(words, kind="stable")
    place = np.full(len(words) + 1, -1, dtype=np.int32)
    place[order] = np.arange(len(words), dtype=np.int32)
    codes = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return pd.Index(words[order], dtype=object), place[codes]


def _levels(catalogue: pa.Table) -> Mapping[str, IntArray]:
    def text(name: str) -> "pd.Series[str]":
        return pd.Series(
            catalogue.column(name).fill_null("").to_pandas().to_numpy(dtype=object), dtype=object
        )

    columns = {name: text(name) for name in _LEVELS}
    path = columns["category_1"]
    out: dict[str, IntArray] = {}
    for name in _LEVELS:
        values = columns[name]
        if name in ("category_2", "category_3"):
            path = path + "\x1f" + values
        codes = pd.factorize(path if name.startswith("category") else values, sort=True)[0]
        empty = (values == "").to_numpy()
        codes = codes.astype(np.int32)
        codes[empty] = codes.max(initial=0) + 1 + np.arange(int(empty.sum()), dtype=np.int32)
        out[name] = codes
    kind, brand = out["category_3"].astype(np.int64), out["brand"]
    pair = kind * (int(brand.max(initial=0)) + 1) + brand
    out["kind_brand"] = np.unique(pair, return_inverse=True)[1].astype(np.int32)
    return out
