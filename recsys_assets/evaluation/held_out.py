"""The lists that are measured: the ranker's, every baseline's and every retriever's, at one cutoff.

Belongs here: making lists comparable (same users, same depth, full catalogue). Does not belong
here: metrics (`core.metrics`), fitting (retrieval does), and the choice of what is published
(`policy.py`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.collaborative.popularity import popular_items
from recsys_assets.core.arrays import position_in_run
from recsys_assets.evaluation.baselines_blend import (
    BlendWeights,
    blend_lists,
    personal_frequency_lists,
    popularity_lists,
)
from recsys_assets.evaluation.glossary import RETRIEVER
from recsys_assets.ranking.features import query_codes
from recsys_assets.ranking.placements import PLACEMENT_OF_TASK
from recsys_assets.ranking.training import SOON_DAYS
from recsys_assets.retrieval import candidates as generator
from recsys_assets.retrieval.contract import EventLog, Fitted
from recsys_assets.retrieval.registry import Member

HALF_LIFE_DAYS = 90.0
BLEND_DEPTH = 200
"""How many of each part's best items compete in the blend."""

BASELINES = (
    "popularity_all",
    "popularity_7d",
    "personal_frequency",
    "personal_frequency_decayed",
)
RANKER = "ranker"
RANKER_ANY = "ranker for anything"
"""What was taken before in the order of `for_you`: what `buy_again` would be without its own."""

COLD = "cold"
"""Task within the items nobody had taken: their only way in is what is known about them."""
TASKS = (*PLACEMENT_OF_TASK, COLD)

Lists = Iterator[tuple[str, str, pd.DataFrame]]
"""(task, model, user_id, item_id, rank, score)"""


def relevant_pairs(
    labels: pd.DataFrame, as_of: pd.Timestamp, warm: pd.Index, *, repeats: bool
) -> dict[str, pd.DataFrame]:
    """What users took in the horizon of a cutoff, per task: user_id, item_id.

    `labels` is one cutoff of the table of that name, `warm` the items with an event before it.
    `again` is what they had taken before and took within `SOON_DAYS`. Unless things `repeats`, no
    list shows what was taken before, and who takes it again all the same found it alone.
    """
    pairs = ["user_id", "item_id"]
    if not repeats:
        labels = labels[labels["is_new"]]
    cold = ~labels["item_id"].isin(warm)
    soon = labels["first_taken_at"] < as_of + pd.Timedelta(days=SOON_DAYS)
    return {
        "all": labels[pairs],
        "new": labels.loc[labels["is_new"], pairs],
        "again": labels.loc[~labels["is_new"] & soon, pairs],
        COLD: labels.loc[cold, pairs],
    }


@dataclass(frozen=True, eq=False)
class Cutoff:
    """What the lists of one cutoff are made from, for `people` (user ids).

    `known` are the visits before the cutoff, `log` the same as codes; `scored` are the scored
    candidates of that cutoff, and `candidates` gives some columns of what `retrievers` said of the
    same pairs, row by row. `factors`, `neighbours` and `blend_parts` give what is fitted on `log`,
    when a list needs it; what is absent has no lists. Unless things `repeats`, the lists for `all`
    leave out what was taken before: they are those for `new`.
    """

    log: EventLog
    known: pd.DataFrame
    people: pd.Series
    retrievers: Sequence[str]
    candidates: Callable[[list[str]], pa.Table]
    scored: pa.Table
    factors: Callable[[], Fitted] | None = None
    neighbours: Callable[[], Fitted] | None = None
    blend_parts: Callable[[], Mapping[str, Fitted]] | None = None
    weights: Mapping[str, BlendWeights] = field(default_factory=dict)
    tasks: Collection[str] = TASKS
    repeats: bool = True

    @cached_property
    def seen(self) -> pd.MultiIndex:
        """The (user_id, item_id) pairs taken before the cutoff."""
        return seen_pairs(self.log)

    @cached_property
    def taken(self) -> pd.DataFrame:
        return self.seen.to_frame(index=False)


def all_lists(cutoff: Cutoff, k: int, only: Collection[tuple[str, str]] | None = None) -> Lists:
    """The lists of every model that is simpler than the ranker, `k` deep.

    `only` names the (task, model) that are wanted; sources without any of them are not computed.
    """
    sources = (
        (BASELINES, baseline_lists),
        (("als",), lambda c, n: fitted_lists(c, "als", c.factors, n)),
        (("item_neighbours",), lambda c, n: fitted_lists(c, "item_neighbours", c.neighbours, n)),
        (("blend_given", "blend_tuned"), blended_lists),
        (None, retriever_lists),
        (("due", RANKER_ANY), again_lists),
    )
    wanted = None if only is None else {model for _, model in only}
    for names, source in sources:
        if wanted is not None and not (
            wanted & set(names) if names else any(w.startswith(RETRIEVER) for w in wanted)
        ):
            continue
        for made_for, model, lists in source(cutoff, k):
            tasks: tuple[str, ...] = (made_for,)
            if not cutoff.repeats and made_for in ("all", "new"):
                tasks = ("all", "new") if made_for == "new" else ()
            for task in tasks:
                if task in cutoff.tasks and (only is None or (task, model) in only):
                    yield task, model, lists


def seeds_of(
    scored: pa.Table, served: int, tasks: Sequence[str]
) -> Iterator[tuple[int, list[str], pa.Table]]:
    """The scored candidates of one cutoff once per seed, each with its scores as the served ones.

    `served` is the seed behind `score_all` and the like. With each seed come the tasks that were
    ranked with it: tasks whose rankers are the mean of several seeds count theirs in longer steps,
    and scores of another seed must not be measured twice.
    """
    plain = [name for name in scored.column_names if "_seed_" not in name]
    found: dict[int, tuple[list[str], pa.Table]] = {served: (list(tasks), scored.select(plain))}
    for column in scored.column_names:
        task, _, seed = column.removeprefix("score_").partition("_seed_")
        if seed and task in tasks and scored[column].null_count < scored.num_rows:
            ranked, table = found.get(int(seed), ([], scored.select(plain)))
            at = plain.index(f"score_{task}")
            table = table.set_column(at, f"score_{task}", scored[column])
            found[int(seed)] = ([*ranked, task], table)
    for number, (ranked, table) in sorted(found.items()):
        yield number, ranked, table


def top(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k best rows per user by `score`, ties by item_id: user_id, item_id, rank, score."""
    user = pd.factorize(rows["user_id"], sort=True)[0]
    item = pd.factorize(rows["item_id"], sort=True)[0]
    order = np.lexsort((item, -rows["score"].to_numpy(dtype=np.float32), user))
    place = position_in_run(user[order])
    order, place = order[place < k], place[place < k]
    best = rows[["user_id", "item_id", "score"]].iloc[order]
    return best.assign(rank=(place + 1).astype(np.int32)).reset_index(drop=True)


def baseline_lists(cutoff: Cutoff, k: int) -> Lists:
    """The counting baselines."""
    known, people, as_of = cutoff.known, cutoff.people, cutoff.log.as_of
    for name, days in (("popularity_all", None), ("popularity_7d", 7.0)):
        counts = popular_items(known, as_of=as_of, days=days)
        yield "all", name, popularity_lists(counts, people, k=k)
        yield "new", name, popularity_lists(counts, people, k=k, exclude=cutoff.taken)
    for name, half_life in (
        ("personal_frequency", None), ("personal_frequency_decayed", HALF_LIFE_DAYS)
    ):  # fmt: skip
        lists = personal_frequency_lists(known, people, as_of=as_of, half_life_days=half_life, k=k)
        yield "all", name, lists
        yield "again", name, lists[lists["score"] > 0]  # the rest was filled in from popularity


def retriever_lists(cutoff: Cutoff, k: int) -> Lists:
    """Each retriever alone: its own list, for `new` and `again` the part of it that is so."""
    pairs = cutoff.candidates(["user_id", "item_id"])
    mine = pc.is_in(pairs["user_id"], value_set=pa.array(cutoff.people, pa.string()))
    wanted = mine.to_numpy(zero_copy_only=False)
    seen = cutoff.scored["seen"].to_numpy(zero_copy_only=False)
    warm = pa.array(cutoff.log.warm_ids, pa.string())
    cold = ~pc.is_in(pairs["item_id"], value_set=warm).to_numpy(zero_copy_only=False)
    user = query_codes(pairs["user_id"])
    for name in cutoff.retrievers:
        said = cutoff.candidates([f"rank_{name}", f"score_{name}"])
        listed = pc.is_valid(said[f"rank_{name}"]).to_numpy(zero_copy_only=False) & wanted
        score = said[f"score_{name}"].to_numpy()
        chosen_for = {
            "all": listed,
            "new": listed & ~seen,
            "again": listed & seen,
            COLD: listed & cold,
        }
        for task, chosen in chosen_for.items():
            rows = np.flatnonzero(chosen)  # candidates are sorted by user and item
            order = rows[np.lexsort((rows, -score[rows], user[rows]))]
            place = position_in_run(user[order])
            order, place = order[place < k], place[place < k]
            if len(order):
                lists = pairs.take(pa.array(order)).to_pandas()
                yield (
                    task,
                    RETRIEVER + name,
                    lists.assign(rank=(place + 1).astype(np.int32), score=score[order]),
                )


def again_lists(cutoff: Cutoff, k: int) -> Lists:
    """What a user took before: the longest overdue first, and in the order of ranker `all`."""
    scored = cutoff.scored
    mine = pc.is_in(scored["user_id"], value_set=pa.array(cutoff.people, pa.string()))
    for model, column in (("due", "due"), (RANKER_ANY, "score_all")):
        rows = scored.filter(pc.and_(pc.and_(mine, scored["seen"]), pc.is_valid(scored[column])))
        if rows.num_rows:
            frame = rows.select(["user_id", "item_id", column]).to_pandas()
            yield "again", model, top(frame.rename(columns={column: "score"}), k)


def fitted_lists(cutoff: Cutoff, model: str, fitted: Callable[[], Fitted] | None, k: int) -> Lists:
    """Any fitted retriever over the full catalogue."""
    if fitted is None:
        return
    member = Member(retriever=None, k_seen=k, k_unseen=k)  # type: ignore[arg-type]
    table = generator.generate(cutoff.log, {"x": fitted()}, {"x": member}, list(cutoff.people))
    frame = table.select(["user_id", "item_id", "score_x"]).to_pandas()
    frame = frame.rename(columns={"score_x": "score"})
    yield "all", model, top(frame, k)
    fresh = ~pd.MultiIndex.from_frame(frame[["user_id", "item_id"]]).isin(cutoff.seen)
    yield "new", model, top(frame[fresh], k)


def seen_pairs(log: EventLog) -> pd.MultiIndex:
    """The (user_id, item_id) pairs taken before the cutoff."""
    row, column = log.taken_matrix[: log.n_users].nonzero()
    return pd.MultiIndex.from_arrays(
        [log.users.to_numpy()[row], log.items.to_numpy()[log.columns[column]]],
        names=["user_id", "item_id"],
    )


def blend_components(log: EventLog, parts: Mapping[str, Fitted], users: pd.Series) -> pd.DataFrame:
    """user_id, item_id, the three part scores and `seen`, over the union of each part's best."""
    members = {
        name: Member(retriever=None, k_seen=BLEND_DEPTH, k_unseen=BLEND_DEPTH)  # type: ignore[arg-type]
        for name in parts
    }
    table = generator.generate(log, parts, members, list(users))
    frame = table.select(["user_id", "item_id", *(f"score_{p}" for p in parts)]).to_pandas()
    frame = frame.rename(columns={f"score_{p}": p for p in parts})
    seen = pd.MultiIndex.from_frame(frame[["user_id", "item_id"]]).isin(seen_pairs(log))
    return frame.assign(seen=seen)


def blended_lists(cutoff: Cutoff, k: int) -> Lists:
    """The three-part blend, with its given weights and with those that won on the tune target."""
    if cutoff.blend_parts is None:
        return
    components = blend_components(cutoff.log, cutoff.blend_parts(), cutoff.people)
    for task in ("all", "new"):
        rows = components[~components["seen"]] if task == "new" else components
        yield task, "blend_given", blend_lists(rows, BlendWeights(), k=k)
        if task in cutoff.weights:
            yield task, "blend_tuned", blend_lists(rows, cutoff.weights[task], k=k)
