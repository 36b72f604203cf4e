"""Candidates: the union of what the retrievers bring, every pair scored by all of them.

Belongs here: cutting lists, joining them, gathering scores, and measuring what each retriever adds.
Does not belong here: fitting (`registry.fit`), labels, features, rules about what may be shown.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys_assets.core.arrays import distinct, position_in_run
from recsys_assets.core.threads import one_thread
from recsys_assets.retrieval.contract import (
    BoolArray,
    EventLog,
    Fitted,
    FloatArray,
    IntArray,
    PairScores,
    Scores,
    top_k,
)
from recsys_assets.retrieval.registry import Member

USER_BATCH = 128
"""Users scored together. The last bit of a matrix product can depend on a row's place in its
batch, so the same users in the same batches are what makes the same bytes."""


def generate(
    log: EventLog,
    fitted: Mapping[str, Fitted],
    chosen: Mapping[str, Member],
    users: Sequence[str] | pd.Index,
    user_batch: int = USER_BATCH,
) -> pa.Table:
    """Candidates of `users` (ids; those without history included) at `log.as_of`.

    For each retriever a user's list is its `k_seen` best items that the user took before, its
    `k_unseen` best others with history and its `k_cold` best without, ordered together; the
    candidates are the union of the lists. Items whose dates do not hold at `log.as_of` get only the
    places that others leave. Columns: as_of, user_id, item_id, then for each
    retriever r by name score_<r> float32 (of every pair the retriever can score, null otherwise)
    and rank_<r> int32 (1 = first of its list, null if the pair is not in it). Sorted by user_id,
    item_id. Batches are padded to `user_batch`, so that the last one is computed like every other.
    """
    ids = pd.Index(sorted(set(users)), dtype=object)
    codes = log.user_codes(ids)
    names = sorted(fitted)
    parts: list[tuple[IntArray, IntArray, list[Scores], list[IntArray]]] = []
    with one_thread():
        for start in range(0, len(ids), user_batch):
            batch = codes[start : start + user_batch]
            padded = np.full(user_batch, -1, dtype=np.int32)
            padded[: len(batch)] = batch
            row, item, scores, ranks = _batch(log, fitted, chosen, names, padded, len(batch))
            parts.append((row + start, item, scores, ranks))
    return _table(log, ids, names, parts)


def whole_batches(users: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """The users of up to `n` random batches of those that `generate` makes of `users`."""
    ids = sorted(set(users))
    starts = np.arange(0, len(ids), USER_BATCH)
    drawn = sorted(rng.permutation(starts)[:n].tolist())
    return [user for start in drawn for user in ids[start : start + USER_BATCH]]


def _batch(
    log: EventLog,
    fitted: Mapping[str, Fitted],
    chosen: Mapping[str, Member],
    names: list[str],
    users: IntArray,
    n_real: int,
) -> tuple[IntArray, IntArray, list[Scores], list[IntArray]]:
    seen = log.taken_matrix[users]
    seen_row = np.repeat(np.arange(len(users)), np.diff(seen.indptr))
    seen_column = seen.indices
    n_items = len(log.items)
    dense: list[Scores] = []
    lists: list[tuple[IntArray, IntArray]] = []
    for name in names:
        model, member = fitted[name], chosen[name]
        scores = model.scores(users)[:n_real]
        row, column = _list(
            scores,
            model.floor,
            member,
            seen_row,
            seen_column,
            log,
        )
        value = scores[row, column]
        order = np.lexsort((log.columns[column], -value, row))
        row, column = row[order], column[order]
        lists.append((row * np.int64(n_items) + log.columns[column], position_in_run(row) + 1))
        dense.append(scores)
    keys = distinct(np.concatenate([key for key, _ in lists]))
    row, item = np.divmod(keys, n_items)
    column = log.column_of_item[item]
    gathered: list[Scores] = []
    ranks: list[IntArray] = []
    for name, scores, (key, rank) in zip(names, dense, lists, strict=True):
        value = np.full(len(keys), np.nan, dtype=np.float32)
        known = column < scores.shape[1]
        model = fitted[name]
        if isinstance(model, PairScores):
            value[known] = model.pairs(users[row[known]], column[known])
        else:
            value[known] = scores[row[known], column[known]]
        gathered.append(value)
        place = np.zeros(len(keys), dtype=np.int32)
        place[np.searchsorted(keys, key)] = rank
        ranks.append(place)
    return row, item, gathered, ranks


def _list(
    scores: Scores,
    floor: float,
    member: Member,
    seen_row: IntArray,
    seen_column: IntArray,
    log: EventLog,
) -> tuple[IntArray, IntArray]:
    """Rows and columns of one retriever's lists, unordered; `scores` is left as it was found."""
    codes, n_warm, offered = log.columns, log.n_warm, log.offered_column
    seen_value = scores[seen_row, seen_column]
    scores[seen_row, seen_column] = -np.inf
    parts = []
    for first, last, k in ((0, n_warm, member.k_unseen), (n_warm, scores.shape[1], member.k_cold)):
        part = scores[:, first:last]
        row, column = _best(part, k, codes[first:last], floor, offered[first:last])
        if floor == -np.inf:  # a user without history: equal scores everywhere say nothing
            blank = np.flatnonzero(np.bincount(seen_row, minlength=len(scores)) == 0)
            says = np.ones(len(scores), dtype=bool)
            says[blank] = part[blank].max(axis=1, initial=-np.inf) > part[blank].min(
                axis=1, initial=np.inf
            )
            row, column = row[says[row]], column[says[row]]
        parts.append((row, column + first))
    scores[seen_row, seen_column] = seen_value
    order = np.lexsort((codes[seen_column], -seen_value, ~offered[seen_column], seen_row))
    order = order[seen_value[order] > floor]
    order = order[position_in_run(seen_row[order]) < member.k_seen]
    parts.append((seen_row[order], seen_column[order]))
    rows, columns = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def _best(
    scores: Scores, k: int, codes: IntArray, floor: float, offered: BoolArray
) -> tuple[IntArray, IntArray]:
    """`top_k`, but what is not offered gets only the places that the rest leaves."""
    if offered.all():
        return top_k(scores, k, codes, floor)
    here, gone = np.flatnonzero(offered), np.flatnonzero(~offered)
    row, column = top_k(scores.take(here, axis=1), k, codes[here], floor)
    left = k - np.bincount(row, minlength=len(scores))
    more_row, more = top_k(scores.take(gone, axis=1), k, codes[gone], floor)
    fits = position_in_run(more_row) < left[more_row]
    columns = np.concatenate([here[column], gone[more[fits]]])
    return np.concatenate([row, more_row[fits]]), columns


def _table(
    log: EventLog,
    ids: pd.Index,
    names: list[str],
    parts: list[tuple[IntArray, IntArray, list[Scores], list[IntArray]]],
) -> pa.Table:
    def joined(arrays: Sequence[FloatArray | IntArray]) -> np.ndarray:
        return np.concatenate(arrays) if arrays else np.empty(0)

    row = joined([part[0] for part in parts]).astype(np.int32)
    item = joined([part[1] for part in parts]).astype(np.int32)
    columns: dict[str, pa.Array] = {
        "as_of": pa.array(np.full(len(row), log.as_of.value // 1000, dtype=np.int64)).cast(
            pa.timestamp("us", "UTC")
        ),
        "user_id": pa.array(ids, pa.string()).take(pa.array(row)),
        "item_id": pa.array(log.items, pa.string()).take(pa.array(item)),
    }
    for name in names:  # what was joined is let go: of many users it is most of the memory
        score = joined([part[2].pop(0) for part in parts]).astype(np.float32, copy=False)
        rank = joined([part[3].pop(0) for part in parts]).astype(np.int32, copy=False)
        columns[f"score_{name}"] = pa.array(score, mask=~np.isfinite(score))
        columns[f"rank_{name}"] = pa.array(rank, mask=rank == 0)
    return pa.table(columns)


def retriever_recall(
    candidates: pa.Table | pd.DataFrame,
    labels: pd.DataFrame,
    depths: Sequence[int] = (100, 500),
    *,
    repeats: bool = True,
) -> pd.DataFrame:
    """What each retriever finds of what users took, alone and beyond the others.

    `labels`: user_id, item_id, taken, is_new (the rows with taken are the relevant pairs). One row
    per task ('all', 'new') and retriever, and one for the 'union': recall@d of its list for each
    depth (mean over users with a relevant pair; for 'new' the ranks are among unseen candidates
    only, an unseen pair being one that `labels` calls new or does not name; for 'all' too unless
    things `repeats`), `recall` (whole list), `unique` (share of the relevant pairs found by this
    retriever and by no other).
    Requires a column `seen` (bool, taken before the cutoff) in `candidates` for task 'new'. The
    union has an order, and so recall at a depth, where `candidates` has a column `score_<task>` of
    the ranker that orders it; ties go to the smaller item id.
    """
    frame = candidates.to_pandas() if isinstance(candidates, pa.Table) else candidates
    names = [column[5:] for column in frame.columns if column.startswith("rank_")]
    truth = labels.loc[labels["taken"], ["user_id", "item_id", "is_new"]]
    pairs = ["user_id", "item_id"]
    out = []
    for task in ("all", "new"):
        fresh = task == "new" or not repeats
        relevant = truth.loc[truth["is_new"], pairs] if fresh else truth[pairs]
        pool = frame[~frame["seen"]] if fresh else frame
        total = relevant.groupby("user_id").size()
        places = {name: pool[f"rank_{name}"] for name in names}
        if fresh:
            places = {n: r.groupby(pool["user_id"]).rank(method="first") for n, r in places.items()}
        if f"score_{task}" in pool:
            order = pool[[*pairs, f"score_{task}"]].sort_values(
                ["user_id", f"score_{task}", "item_id"], ascending=[True, False, True]
            )
            places["union"] = order.groupby("user_id").cumcount() + 1
        hits = pool[pairs].assign(**places).merge(relevant, on=pairs)
        in_list = hits[names].notna()

        def recall(found: pd.DataFrame, total: "pd.Series[int]" = total) -> float:
            per_user = found.groupby("user_id").size().reindex(total.index).fillna(0)
            return float((per_user / total).mean())

        for name in (*names, "union"):
            row: dict[str, object] = {"task": task, "retriever": name}
            if name in hits:
                row |= {f"recall_{d}": recall(hits[hits[name] <= d]) for d in depths}
            row["recall"] = recall(hits if name == "union" else hits[in_list[name]])
            if name != "union":
                alone = in_list[name] & (in_list.sum(axis=1) == 1)
                row["unique"] = float(alone.sum() / max(len(relevant), 1))
            out.append(row)
    return pd.DataFrame(out)


def union_margins(recall: pd.DataFrame) -> dict[str, float]:
    """Recall of the union less that of its best member, per depth: above zero where all of them
    together find more than any alone. `recall`: one task of `retriever_recall`."""
    rows = recall.set_index("retriever")
    depths = [c for c in rows.columns if c.startswith("recall_")]
    return {d: float(rows.loc["union", d] - rows[d].drop("union").max()) for d in depths}
