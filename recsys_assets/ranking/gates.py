"""What the gates of the ranking stage ask of time: does a table know what came after its cutoff,
and does the ranker learn from what a server will have?

Belongs here: rules over stored tables, each a generator of failures. Does not belong here: how any
table is made.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.core.blocks import rows_of, tables_of, user_blocks
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoffs_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.proofs import CutLog, knows_nothing_later, proof_cutoffs
from recsys_assets.core.quality import Failure
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking import features, ranker, tables, training
from recsys_assets.retrieval.hidden import hidden_at
from recsys_assets.retrieval.learners import people_at

NOT_FEATURES = (*features.KEYS, "label", "label_again")
PROOF_USERS = 200
"""So many users' rows are made again."""
ENOUGH = 50
"""So many users and items have one value of a feature by more than chance."""
MATTERS = 0.01
"""Share of a ranker's total gain below which a feature decides nothing (200 features share it)."""
BLOCK_ROWS = 500_000
"""So many candidates are looked at at once where everybody is."""
TWICE = 0.01
"""Share of a horizon's events that may stand before its cutoff too."""
_SAME_BASKET = 0.9
"""A basket of which so much was delivered again, at another time, is one basket."""


def days_know_nothing_later(
    candidate: Snapshot, interactions: Snapshot, cutoffs: Snapshot, warehouse: Warehouse
) -> Iterator[Failure]:
    """Made again from a log that was cut, the days are the same (`core.proofs`)."""

    def make(log: CutLog, as_of: pd.Timestamp) -> pa.Table:
        return features.user_item_days(warehouse, log.to_arrow(), as_of)

    moments = proof_cutoffs(candidate, cutoffs, "evaluate")
    yield from knows_nothing_later(candidate, tables.USER_ITEM_DAYS, interactions, moments, make)


def grain_knows_nothing_later(name: str) -> Callable[..., Iterator[Failure]]:
    """The same for a feature group; the days it is made of have proved themselves."""

    def features_know_nothing_later(
        candidate: Snapshot,
        interactions: Snapshot,
        user_item_days: Snapshot,
        items: Snapshot,
        users: Snapshot,
        raw_promotions: Snapshot,
        cutoffs: Snapshot,
        shop: Shop,
        warehouse: Warehouse,
    ) -> Iterator[Failure]:
        def make(log: CutLog, as_of: pd.Timestamp) -> pa.Table:
            people = people_at(as_of, users, cutoffs, shop)
            return features.feature_table(
                name,
                warehouse,
                user_item_days=user_item_days.paths(part_name(as_of)),
                interactions=log.to_arrow(),
                items=items.paths(),
                users=features.rows_of_users(users.to_arrow(), people),
                promotions=features.known_promotions(raw_promotions.to_arrow(), as_of),
                as_of=as_of,
                horizon_days=shop.cutoffs.horizon_days,
            )

        moments, contract = proof_cutoffs(candidate, cutoffs, "evaluate"), tables.GRAIN_TABLES[name]
        yield from knows_nothing_later(candidate, contract, interactions, moments, make)

    return features_know_nothing_later


def no_event_on_both_sides(
    candidate: Snapshot, interactions: Snapshot, cutoffs: Snapshot
) -> Iterator[Failure]:
    """A basket that was delivered again under other times and ids must not lie on both sides of a
    cutoff: what is to be predicted would be known.

    Such a basket is known by its session id and its lines (item, quantity, value), at least a day
    apart. Without session ids a repeated purchase and a repeated delivery look the same.
    """
    repeated = _repeated_lines(interactions)
    if repeated.empty:
        return
    times = interactions.to_arrow(["event_time"])["event_time"]
    frame = cutoffs.to_pandas()
    for row in frame[frame["complete"]].to_dict("records"):
        as_of, end = row["as_of"], row["horizon_end"]
        inside = pc.and_(pc.greater_equal(times, as_of), pc.less(times, end))
        total = int(pc.sum(inside).as_py() or 0)
        late = (repeated["event_time"] >= as_of) & (repeated["event_time"] < end)
        twice = int((late & (repeated["first"] < as_of)).sum())
        if total and twice / total > TWICE:
            yield Failure(
                f"{twice / total:.0%} of the events in the horizon stand before the cutoff too, "
                "under the same basket and other times: duplicates across the split",
                rows=twice,
                part=part_name(as_of),
            )
            return


def _repeated_lines(interactions: Snapshot) -> pd.DataFrame:
    """event_time and first (time of the same line's first delivery) of the lines of baskets that
    came again, a day or more later."""
    basket, line = ["user_id", "session_id"], ["item_id", "quantity", "value"]
    log = interactions.to_arrow([*basket, *line, "event_time", "counts_as_taken"])
    log = log.filter(pc.and_(log["counts_as_taken"], pc.is_valid(log["session_id"])))
    span = log.group_by(basket).aggregate([("event_time", "min"), ("event_time", "max")])
    lasted = pc.subtract(span["event_time_max"], span["event_time_min"])
    long = span.filter(pc.greater_equal(lasted, pa.scalar(pd.Timedelta(days=1).to_pytimedelta())))
    nothing = pd.DataFrame({"event_time": [], "first": []})
    if not long.num_rows:
        return nothing
    rows = log.join(long.select(basket), basket, join_type="inner").to_pandas()
    key = [*basket, *line]
    first = rows.groupby(key, dropna=False)["event_time"].transform("min")
    last = rows.groupby(key, dropna=False)["event_time"].transform("max")
    again = last - first >= pd.Timedelta(days=1)
    share = again.groupby([rows[b] for b in basket]).transform("mean")
    found = (share >= _SAME_BASKET) & again
    return pd.DataFrame({"event_time": rows["event_time"], "first": first})[found]


def every_taking_is_a_label(
    candidate: Snapshot, interactions: Snapshot, cutoffs: Snapshot
) -> Iterator[Failure]:
    """As many pairs as the log holds in each horizon, counted without SQL: labels of only what
    some model found would make every measured list look better."""
    log = interactions.to_arrow(["user_id", "item_id", "event_time", "counts_as_taken", "polarity"])
    log = log.filter(pc.and_(log["counts_as_taken"], pc.greater(log["polarity"], 0)))
    labelled = _rows_of_parts(candidate)
    frame = cutoffs.to_pandas()
    for row in frame[frame["complete"]].to_dict("records"):
        times, part = log["event_time"], part_name(row["as_of"])
        inside = pc.and_(pc.greater_equal(times, row["as_of"]), pc.less(times, row["horizon_end"]))
        pairs = log.filter(inside).group_by(["user_id", "item_id"]).aggregate([]).num_rows
        if labelled.get(part, 0) != pairs:
            yield Failure(
                f"holds {labelled.get(part, 0):,} pairs, users took {pairs:,} within the horizon",
                part=part,
            )


def _rows_of_parts(table: Snapshot) -> Counter[str]:
    found: Counter[str] = Counter()
    for version in table.versions:
        for file in version.files:
            found[file.part] += file.rows
    return found


def rankers_learn_from_their_windows(
    candidate: Snapshot, training_rows: Snapshot, fits: Snapshot
) -> Iterator[Failure]:
    """The ranker for anything, with which the others learn, has learned from all rows of its
    target's windows and no others: a later window knows what its target is measured by."""
    rows_of_part, plan = _rows_of_parts(training_rows), fits.to_pandas()
    for row in candidate.to_pandas(["target", "task", "seed", "rows"]).to_dict("records"):
        if row["task"] != "all":
            continue
        windows = plan.loc[plan["target"] == row["target"], "window_as_of"]
        own = sum(rows_of_part[part_name(as_of)] for as_of in windows)
        if row["rows"] != own:
            yield Failure(
                f"the ranker {row['target']}/all of seed {row['seed']} learned from "
                f"{row['rows']:,} rows, the windows that end before its target hold {own:,}",
                "rows",
            )


def learns_from_what_is_served(
    candidate: Snapshot,
    candidates: Snapshot,
    hidden_candidates: Snapshot,
    user_item_days: Snapshot,
    items: Snapshot,
    raw_promotions: Snapshot,
    grains: features.Grains,
    shop: Shop,
    warehouse: Warehouse,
) -> Iterator[Failure]:
    """The features of some users' rows, made again the way they are made when there is no label:
    every value must be the same. A feature that looks at labels, or at the rows that were chosen by
    them, is another one there."""
    rows_of_part = _rows_of_parts(candidate)
    parts = [p for p in candidate.parts if p and rows_of_part[p]]
    if not parts:
        return
    part = parts[0]
    expected = features.feature_names(candidates.columns)
    own = [n for n in candidate.columns if n not in NOT_FEATURES]
    for name in sorted(set(own) - set(expected)):
        yield Failure("a server does not have this feature", name)
    if set(own) == set(expected) and own != expected:
        yield Failure("the features are in another order than a server has them")
    rows = candidate.to_arrow(part=part)
    some = pa.array(_spread(rows["user_id"], PROOF_USERS), pa.string())
    rows = rows.filter(pc.is_in(rows["user_id"], value_set=some))

    def of_some(table: Snapshot) -> pa.Table:
        proposed = table.to_arrow(part=part)
        return proposed.filter(pc.is_in(proposed["user_id"], value_set=some))

    as_of = rows["as_of"][0].as_py()
    shown, tables_at = training.hide(
        warehouse,
        of_some(candidates),
        items.paths(),
        {name: s.to_arrow(part=part) for name, s in grains.items()},
        user_item_days=user_item_days.to_arrow(part=part),
        promotions=raw_promotions.paths(),
        hidden=list(
            hidden_at(
                items.to_arrow(["item_id"])["item_id"].to_pylist(), pd.Timestamp(as_of), shop.seed
            )
        ),
        proposed=of_some(hidden_candidates),
    )
    served = features.join_features(warehouse, shown, items.paths(), tables_at)
    served = served.filter(pc.is_in(_pairs(served), value_set=_pairs(rows).combine_chunks()))
    if served.num_rows != rows.num_rows:
        missing = rows.num_rows - served.num_rows
        yield Failure("rows that no retriever proposed", rows=missing, part=part)
        return
    for name in own:
        if name not in expected:
            continue
        learned, shown = _floats(rows, name), _floats(served, name)
        differ = int((~((learned == shown) | (np.isnan(learned) & np.isnan(shown)))).sum())
        if differ:
            yield Failure(
                "is not what a server would have: it depends on the label or on the rows drawn",
                name, differ, part,
            )  # fmt: skip


def _pairs(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["user_id"], rows["item_id"], "\0")


def _floats(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].cast(pa.float32()).to_numpy()


def _spread(ids: pa.ChunkedArray, n: int) -> Sequence[str]:
    """At most `n` of the ids, evenly over them."""
    known = pc.unique(ids)
    step = max(1, len(known) // n)
    return known[::step][:n].to_pylist()


def no_feature_only_tells_windows_apart(candidate: Snapshot) -> Iterator[Failure]:
    """A feature with one value per window (the month, say) says nothing about a candidate, and its
    value at serving is one that no window had."""
    ranges = _ranges(candidate)
    if len(ranges) < 2:
        return
    for name in (n for n in candidate.columns if n not in NOT_FEATURES):
        own = [r[name] for r in ranges.values()]
        if all(r is not None and r[0] == r[1] for r in own) and len(set(own)) > 1:
            yield Failure("is constant within every window and differs between them", name)


def _ranges(snapshot: Snapshot) -> dict[str, Mapping[str, tuple[float, float] | None]]:
    """Part -> column -> smallest and largest value, None where all is null. From the statistics
    that Parquet keeps, so nothing is read."""
    found: dict[str, Mapping[str, tuple[float, float] | None]] = {}
    for part in snapshot.parts:
        own: dict[str, tuple[float, float] | None] = {}
        for path in snapshot.paths(part):
            data = pq.ParquetFile(path).metadata
            for group in range(data.num_row_groups):
                for at in range(data.num_columns):
                    column = data.row_group(group).column(at)
                    name, known = column.path_in_schema, column.statistics
                    has = known is not None and known.has_min_max
                    before = own.get(name)
                    now = (known.min, known.max) if has else None
                    if before and now:
                        now = (min(before[0], now[0]), max(before[1], now[1]))
                    own[name] = now or before
        if own:
            found[part] = own
    return found


def features_vary_when_served(
    candidate: Snapshot,
    training_rows: Snapshot,
    rankers: Snapshot,
    candidates: Snapshot,
    items: Snapshot,
    cutoffs: Snapshot,
    grains: features.Grains,
    shop: Shop,
    warehouse: Warehouse,
) -> Iterator[Failure]:
    """What differs between candidates in every window must differ at a target too: a context that
    is known of the past and has one value (or none) when lists are made teaches what cannot be
    asked.

    One value among a few users or items is chance and proves nothing, and a shop may promote and
    plan nothing for a while. What no ranker leans on (MATTERS) changes no list: in a catalogue of
    six kinds a day comes on which a count is the same for all of them. In a benchmark nothing is
    served, and a calendar of one event per user and slot makes some counts equal by itself.
    """
    if shop.benchmark is not None:
        return
    learned = _ranges(training_rows)
    leaned_on: dict[str, float] = {}
    for text in rankers.to_arrow(["model"])["model"].to_pylist():
        for name, share in ranker.RankerModel.from_json(text).importance.items():
            leaned_on[name] = max(share, leaned_on.get(name, 0.0))
    varied = [
        name
        for name in training_rows.columns
        if name not in (*NOT_FEATURES, *features.PROMOTIONS)
        and leaned_on.get(name, 0.0) >= MATTERS
        and learned
        and all((r := own[name]) is not None and r[0] < r[1] for own in learned.values())
    ]
    if not varied:
        return
    flat = set(varied)
    moments = {part_name(m) for m in cutoffs_of(cutoffs, targets=True)} - set(learned)
    for part in sorted(moments):

        def served(people: Sequence[str], part: str = part) -> pa.Table:
            rows, own = rows_of(candidates, part, people), tables_of(grains, part, people)
            return features.join_features(warehouse, rows, items.paths(), own)

        few = served(_spread(candidates.to_arrow(["user_id"], part)["user_id"], PROOF_USERS))
        if min(len(pc.unique(few[key])) for key in ("user_id", "item_id")) < ENOUGH:
            return
        # what varies among a few users varies; what does not may only be rare
        everybody = map(served, user_blocks(candidates, part, BLOCK_ROWS))
        flat = one_valued(flat, chain([few], everybody))
        if not flat:
            return
    for name in sorted(flat) if moments else ():
        yield Failure(
            "differs in every label window and has one value, or none, for all candidates "
            "that are served: constant at serving", name,
        )  # fmt: skip


def one_valued(names: Collection[str], tables: Iterable[pa.Table]) -> set[str]:
    """Which of the columns have one value, or none, in all rows of all tables; as many tables are
    looked at as it takes to see that all vary."""
    values = {name: np.empty(0, np.float32) for name in names}
    for table in tables:
        for name in values.keys() & set(table.column_names):
            found = np.append(values[name], _floats(table, name))
            values[name] = np.unique(found)[:2]  # all that is null counts as one value
        values = {name: found for name, found in values.items() if len(found) == 1}
        if not values:
            break
    return set(values)
