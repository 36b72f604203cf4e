"""How well items without history are found, and whether an enrichment of their texts helps.

Belongs here: the two sets of cold items, what is measured on them, the verdict on each use of the
enrichment. Does not belong here: making the enrichment (`enrichment/`), anything that is served.

A *use* is one field of the enrichment as a facet (see `retrieval/newcomers.py`) that is added, with
a bounded weight, to the score that does without: what became of other products of the same group,
brand and kind, and how much the user takes of them. Its weight is the best of `WEIGHTS` on the tune
target; it *helps* if it then finds more cold items there beyond noise, all comparisons considered.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from recsys_assets.core.arrays import position_in_run
from recsys_assets.core.metrics import bootstrap, paired_bootstrap, per_user_metrics
from recsys_assets.enrichment.relations import traits_of
from recsys_assets.retrieval.content import FittedContent
from recsys_assets.retrieval.contract import EventLog, IntArray, Scores, top_k
from recsys_assets.retrieval.newcomers import Facet, FittedFacet, FittedNewcomers, fit_facet

Words = npt.NDArray[np.object_]

USES = ("comparable_types", "complements", "keywords", "uses", "appeal", "audience")
"""Fields of the enrichment, each a use of its own."""
WEIGHTS = (0.1, 0.3, 1.0)
CAP = 2.3
"""A use moves the log of an expected count by `weight * CAP` at most: tenfold at weight 1."""

DEPTHS = (20, 100)
_BATCH = 128
"""Users scored at a time."""
DECIDES = "recall@20"
"""The metric that a weight is chosen and a verdict is made by: a quota of cold candidates."""

NO_HISTORY, HIDDEN, IN_LISTS = "no history", "hidden", "in lists"
AS_IT_IS = "as it is"
CONTENT, TWINS = "text similarity", "like products"
"""What does without an enrichment: the content retriever, and `Newcomers`."""
EVERYTHING = "like products + all uses"


def slot_name(model: str) -> str:
    """A list of `discover` whose last place is a cold item by `model`."""
    return f"last place: {model}"


def use_name(use: str) -> str:
    return f"{TWINS} + {use.replace('_', ' ')}"


@dataclass(frozen=True, eq=False)
class ColdSet:
    """Cold items at a cutoff, and who took them after it.

    `cold` are positions among the cold columns of `log` (from 0), `relevant` the pairs user_id,
    item_id of users with history and items of the set.
    """

    log: EventLog
    cold: IntArray
    relevant: pd.DataFrame

    @classmethod
    def of(
        cls, log: EventLog, taken_later: pd.DataFrame, only: pd.Index | None = None
    ) -> "ColdSet":
        """The items without history in `log` (of those, `only` these)."""
        ids = pd.Index(log.items[log.columns[log.n_warm :]])
        cold = np.arange(len(ids)) if only is None else np.flatnonzero(ids.isin(only))
        inside = taken_later["item_id"].isin(ids[cold]) & taken_later["user_id"].isin(log.users)
        pairs = taken_later.loc[inside, ["user_id", "item_id"]].drop_duplicates()
        return cls(log, cold, pairs)

    @property
    def people(self) -> list[str]:
        return sorted(self.relevant["user_id"].unique())


@dataclass(frozen=True, eq=False)
class EnrichmentUses:
    """What is known about catalogue items beyond their history, by item code: uses as facets.

    `user_traits` [users + 1, traits] and `type_traits` [items, traits] (mean log lift) are the
    audience: the one use that looks at users' attributes instead of their history.
    """

    facets: Mapping[str, Facet]
    user_traits: sparse.csr_matrix
    type_traits: sparse.csr_matrix

    @classmethod
    def of(
        cls,
        log: EventLog,
        items: pd.DataFrame,
        enrichment: pd.DataFrame,
        relations: pd.DataFrame,
        users: pd.DataFrame,
    ) -> "EnrichmentUses":
        """From `item_enrichment` with a column `text`, and the `type_relations` of the cutoff."""
        texts = items.set_index("item_id")["text"].reindex(log.items)
        row = pd.Index(enrichment["text"]).get_indexer(pd.Index(texts))
        kinds = enrichment["type"].to_numpy(dtype=object)
        types = np.unique(np.concatenate([kinds, relations["value"].to_numpy(dtype=object)]))
        goes_with = relations[relations["relation"] == "complement"].groupby("type")["value"]
        partners = goes_with.agg(list).to_dict()

        def terms(name: str) -> list[list[str]]:
            return [json.loads(cell) for cell in enrichment[name]]

        def by_item(rows: Sequence[Sequence[str]], over: Words | None = None) -> sparse.csr_matrix:
            return _incidence(rows, over)[row]

        own = terms("complements")
        learned = [said or partners.get(k, []) for said, k in zip(own, kinds, strict=True)]
        kind = by_item([[k] if k else [] for k in kinds], types)
        facets = {
            "comparable_types": Facet(kind, by_item(terms("comparable_types"), types), 1.0, CAP),
            "complements": Facet(kind, by_item(learned, types), 1.0, CAP),
        }
        for name in ("keywords", "uses", "appeal"):
            matrix = by_item(terms(name))
            facets[name] = Facet(matrix, matrix, 1.0, CAP)
        return cls(facets, *_audience(log, kinds[row], relations, users))

    def fit(self, log: EventLog) -> dict[str, FittedFacet]:
        """Every use, at weight 1."""
        cold = log.columns[log.n_warm :]
        fitted = {name: fit_facet(log, facet) for name, facet in self.facets.items()}
        nothing = np.zeros(len(cold), dtype=np.float32)
        fitted["audience"] = FittedFacet(self.user_traits, self.type_traits[cold], nothing)
        return fitted


def _audience(
    log: EventLog, kinds: Words, relations: pd.DataFrame, users: pd.DataFrame
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    known = relations[relations["relation"] == "audience"]
    names = np.unique(known["value"].to_numpy(dtype=object))
    traits = traits_of(users)
    traits = traits[traits["trait"].isin(names) & traits["user_id"].isin(log.users)]
    at = (
        log.user_codes(pd.Index(traits["user_id"])),
        pd.Index(names).get_indexer(pd.Index(traits["trait"])),
    )
    has = sparse.csr_matrix(
        (np.ones(len(traits), dtype=np.float32), at), shape=(log.n_users + 1, max(len(names), 1))
    )
    types = np.unique(known["type"].to_numpy(dtype=object))
    lift = np.clip(np.log(known["lift"].to_numpy(dtype=np.float64)), -CAP, CAP)
    lift /= known.groupby("type")["value"].transform("size").to_numpy()
    where = (
        pd.Index(types).get_indexer(known["type"]),
        pd.Index(names).get_indexer(known["value"]),
    )
    size = (max(len(types), 1), max(len(names), 1))
    of_type = sparse.csr_matrix((lift, where), shape=size)
    row = pd.Index(types).get_indexer(kinds)
    picked = sparse.csr_matrix(
        (np.ones(int((row >= 0).sum())), (np.flatnonzero(row >= 0), row[row >= 0])),
        shape=(len(kinds), size[0]),
    )
    return has, (picked @ of_type).tocsr().astype(np.float32)


def _incidence(terms: Sequence[Sequence[str]], values: "Words | None" = None) -> sparse.csr_matrix:
    """Rows x values, each row adding up to 1 or empty."""
    row = np.repeat(np.arange(len(terms)), [len(found) for found in terms])
    flat = np.asarray([term for found in terms for term in found], dtype=object)
    known = np.unique(flat) if values is None else values
    column = pd.Index(known).get_indexer(pd.Index(flat))
    row = row[column >= 0]
    column = column[column >= 0]
    counted = np.bincount(row, minlength=len(terms))
    return sparse.csr_matrix(
        (1.0 / counted[row], (row, column)), shape=(len(terms), max(len(known), 1))
    )


def measure(
    where: ColdSet,
    base: FittedNewcomers,
    uses: Mapping[str, FittedFacet],
    mixes: Mapping[str, Mapping[str, float]],
    content: FittedContent | None = None,
    depths: Sequence[int] = DEPTHS,
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Per model the metrics of each user (index user_id), and everybody's lists.

    Models: `TWINS`, `mixes` (name -> weight of each use added to it), and `CONTENT` if given.
    Lists hold items of the set alone.
    """
    people, log = where.people, where.log
    columns = log.columns[log.n_warm :][where.cold]
    levels = base.facets.of(where.cold)
    used = {use for mix in mixes.values() for use in mix}
    own = {use: uses[use].of(where.cold) for use in sorted(used)}
    found: dict[str, list[pd.DataFrame]] = {}

    def note(model: str, first: int, scores: Scores) -> None:
        row, column = top_k(scores, max(depths), columns, -np.inf)
        found.setdefault(model, []).append(
            pd.DataFrame(
                {
                    "user_id": np.asarray(people, dtype=object)[first + row],
                    "item_id": log.items[columns[column]],
                    "rank": position_in_run(row) + 1,
                }
            )
        )

    codes = log.user_codes(people)
    for first in range(0, len(codes), _BATCH):
        users = codes[first : first + _BATCH]
        scores = levels.scores(users) + base.expected[where.cold]
        parts = {use: facet.scores(users) for use, facet in own.items()}
        note(TWINS, first, scores)
        for model, mix in mixes.items():
            mixed = scores.copy()
            for use, weight in sorted(mix.items()):
                mixed += np.float32(weight) * parts[use]
            note(model, first, mixed)
        if content is not None:
            at = log.n_warm + where.cold
            text = content.vectors[:, content.text[at]]
            note(CONTENT, first, content.profiles[users] @ text + content.item_prior[at])
    lists = {model: pd.concat(frames, ignore_index=True) for model, frames in found.items()}
    return {m: _metrics(rows, where.relevant, depths) for m, rows in lists.items()}, lists


def _metrics(lists: pd.DataFrame, relevant: pd.DataFrame, depths: Sequence[int]) -> pd.DataFrame:
    found = per_user_metrics(lists, relevant, (10, *depths))
    return found.set_index("user_id")[["ndcg@10", *(f"recall@{k}" for k in depths)]]


def with_a_cold_slot(lists: pd.DataFrame, cold: pd.DataFrame, k: int) -> pd.DataFrame:
    """`lists` (user_id, item_id, rank) with the last of k places given to the user's best cold item
    that the list does not have yet; lists without one stay as they are."""
    head = lists[lists["rank"] <= k]
    offered = cold.merge(head[["user_id", "item_id"]], how="left", indicator=True)
    offered = offered[offered["_merge"] == "left_only"].sort_values(["user_id", "rank"])
    best = offered.drop_duplicates("user_id")[["user_id", "item_id"]].assign(rank=k)
    kept = head[~((head["rank"] == k) & head["user_id"].isin(best["user_id"]))]
    return pd.concat([kept[["user_id", "item_id", "rank"]], best], ignore_index=True)


def grid() -> dict[str, dict[str, float]]:
    """Every use at every weight, for the tune target: `use@weight` -> the mix."""
    return {f"{use}@{weight}": {use: weight} for use in USES for weight in WEIGHTS}


@dataclass(frozen=True)
class UseVerdict:
    """One use: the weight that found most on tune, and whether that is more than noise."""

    use: str
    weight: float
    gain: float
    low: float
    high: float

    @property
    def helps(self) -> bool:
        return self.low > 0

    @property
    def sentence(self) -> str:
        return (
            f"{'helps' if self.helps else 'no gain beyond noise'}: {DECIDES} {self.gain:+.4f} "
            f"({self.low:+.4f} to {self.high:+.4f}) on tune, at the best weight, {self.weight}"
        )


def conclusion(decided: Sequence[UseVerdict]) -> str:
    """What follows for the lists, in one sentence."""
    good = [v.use.replace("_", " ") for v in decided if v.helps]
    if not good:
        return (
            "No use of the enrichment finds more items without history than like products alone "
            "do, beyond noise: it is off, no list reads it."
        )
    return (
        f"On tune, {' and '.join(good)} found more items without history than like products alone "
        "did, beyond noise. No list reads the enrichment yet."
    )


def rivals(found: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Which model each is held against: uses against what does without, that against text
    similarity; lists against the list as it is, and with a use against the one without."""
    uses = {name: TWINS for name in found if name.startswith(f"{TWINS} + ")}
    slots = {slot_name(CONTENT): AS_IT_IS, slot_name(TWINS): AS_IT_IS}
    return {**uses, TWINS: CONTENT, **slots, slot_name(EVERYTHING): slot_name(TWINS)}


def verdicts(per_user: Mapping[str, pd.DataFrame], draws: int, seed: int) -> list[UseVerdict]:
    """The verdict on every use from the grid on tune: `DECIDES`, paired by user.

    Intervals hold for all comparisons together (Bonferroni over the grid), since the best of
    several weights is looked at.
    """
    level = 1.0 - 0.05 / len(grid())
    base, out = per_user[TWINS], []
    for use in USES:
        gains = {w: (per_user[f"{use}@{w}"] - base)[DECIDES].mean() for w in WEIGHTS}
        weight = max(WEIGHTS, key=lambda w: (gains[w], -w))
        row = paired_bootstrap(
            per_user[f"{use}@{weight}"][[DECIDES]], base[[DECIDES]],
            draws=max(draws, 2000), level=level, seed=seed,
        ).iloc[0]  # fmt: skip
        out.append(
            UseVerdict(use, weight, float(row["value"]), float(row["low"]), float(row["high"]))
        )
    return out


def chosen_mixes(decided: Iterable[UseVerdict]) -> dict[str, dict[str, float]]:
    """The uses at the weights chosen on tune, each alone and all together."""
    weights = {v.use: v.weight for v in decided}
    return {use_name(u): {u: w} for u, w in weights.items()} | {EVERYTHING: weights}


def summary(
    per_user: Mapping[str, pd.DataFrame],
    against: Mapping[str, str],
    draws: int,
    seed: int,
) -> Iterator[pd.DataFrame]:
    """Means with intervals per model; differences to the model it is held `against`."""
    if not per_user:
        return
    means = bootstrap(pd.concat(per_user, axis=1), draws=draws, seed=seed)
    yield means.rename_axis(["model", "metric"]).reset_index().assign(baseline="")
    pairs = {m: other for m, other in against.items() if m in per_user and other in per_user}
    if pairs:
        differences = paired_bootstrap(
            pd.concat({m: per_user[m] for m in pairs}, axis=1),
            pd.concat({m: per_user[other] for m, other in pairs.items()}, axis=1),
            draws=draws,
            seed=seed,
        )
        frame = differences.rename_axis(["model", "metric"]).reset_index()
        yield frame.assign(baseline=frame["model"].map(pairs))
