"""From scored candidates to the lists people see, for many users at once.

Belongs here: the greedy choice under the rules. Does not belong here: what the rules are and
whether finished lists keep them (`rules.py`), scores (rankers and blends), reasons, and any table
of its own.

Order of work, per user: drop what must not be shown (excluded, unavailable, other market, already
taken) -> freshness boost -> greedy choice, position by position, of the best remaining candidate
under "one per group", "at most n per category" and, if on, maximal marginal relevance -> fill short
lists from the fallback -> exploration slot. Ties: higher score first, then smaller item_id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys_assets.content.categories import deepest_path, product_codes
from recsys_assets.core.arrays import distinct, in_sorted, position_in_run
from recsys_assets.core.metrics import seeded_uniform
from recsys_assets.core.vectors import ItemVectors
from recsys_assets.ranking.rules import EXPLORE, FALLBACK, POLICIES, RANKER, Rules, eligible

_CELLS_PER_BLOCK = 12_000_000
_BEHIND = 1e6
_REFILLED = 1_000
"""Users whose short lists are filled up at a time: each may take any row of the fallback."""

_Codes = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


def apply_rules(
    candidates: pd.DataFrame,
    items: pd.DataFrame,
    rules: Rules,
    *,
    as_of: datetime | pd.Timestamp,
    taken: pd.DataFrame | None = None,
    vectors: ItemVectors | None = None,
    fallback: pd.DataFrame | None = None,
    users: pd.Series | pd.Index | None = None,
) -> pd.DataFrame:
    """Turn scored candidates into ranked lists.

    `candidates` is `user_id, item_id, score` with finite scores, a pair at most once; `items` is
    the staged catalogue; `taken` the pairs taken before `as_of` (needed by `exclude_taken`);
    `vectors` is needed when `mmr_lambda` is below 1 (an item without a vector is like no other);
    `fallback` is `item_id, score`, what to show to everybody when candidates run out, best first by
    score; `users` are all who must get a list (default: those with candidates).

    Returns `user_id, rank, item_id, score, policy, propensity`, sorted by user and rank. `score` is
    the score as given, so with boosts or diversity it need not fall with rank. `propensity` is the
    chance that this item stood at this rank: 1 except in the exploration slot, where with rate e
    and m eligible items it is e / m, plus 1 - e for the item that the ranking itself puts there.
    A user with too few eligible items gets a shorter list. Raises ValueError for unknown items, NaN
    scores, repeated pairs and missing inputs.
    """
    if rules.exclude_taken and taken is None:
        raise ValueError("exclude_taken needs the pairs already taken")
    if rules.mmr_lambda < 1.0 and vectors is None:
        raise ValueError("mmr_lambda below 1 needs item vectors")
    catalogue = _Catalogue.build(items, rules, pd.Timestamp(as_of), vectors)
    user_index = _all_users(candidates, users)
    user_codes = user_index.get_indexer(pd.Index(candidates["user_id"])).astype(np.int64)
    item_codes = catalogue.codes(candidates["item_id"])
    scores = _finite(candidates["score"])
    pair_keys = user_codes * len(catalogue.ids) + item_codes
    if len(distinct(pair_keys)) != len(pair_keys):
        raise ValueError("a candidate pair occurs more than once")
    taken_keys = _pair_keys(taken if rules.exclude_taken else None, user_index, catalogue)

    keep = catalogue.eligible[item_codes] & ~in_sorted(pair_keys, taken_keys)
    rows = _Rows.ranked(user_codes[keep], item_codes[keep], scores[keep], catalogue.boost)
    everyone = np.arange(len(user_index))
    draws = _Draws.build(user_index, rules, pd.Timestamp(as_of))
    chosen = _choose(rows, everyone, rules, catalogue, draws, rules.pool)

    short = everyone[np.bincount(chosen.user, minlength=len(everyone)) < rules.length]
    parts = [chosen.take(~np.isin(chosen.user, short))]
    for first in range(0, len(short), _REFILLED):
        some = short[first : first + _REFILLED]
        all_rows = rows.take(np.arange(*np.searchsorted(rows.user, [some[0], some[-1] + 1])))
        all_rows = all_rows.take(np.isin(all_rows.user, some))
        if fallback is not None:
            more = _fallback_rows(fallback, some, all_rows, catalogue, taken_keys)
            both = _Rows.joined([all_rows, more])
            all_rows = both.take(np.argsort(both.user, kind="stable"))
        parts.append(_choose(all_rows, some, rules, catalogue, draws, None))
    chosen = _Chosen.joined(parts)
    chosen = chosen.take(np.lexsort((chosen.rank, chosen.user)))
    return pd.DataFrame(
        {
            "user_id": user_index.to_numpy(dtype=object)[chosen.user],
            "rank": chosen.rank.astype(np.int32),
            "item_id": catalogue.ids[chosen.item],
            "score": chosen.score.astype(np.float32),
            "policy": np.array(POLICIES, dtype=object)[chosen.policy],
            "propensity": chosen.propensity.astype(np.float32),
        }
    )


def lists_to_depth(
    candidates: pd.DataFrame, items: pd.DataFrame, rules: Rules, depth: int, **inputs: Any
) -> pd.DataFrame:
    """`apply_rules`, and behind each list what the same rules would let follow, up to `depth` rows.

    For measuring: the first `rules.length` rows are those that people would see, whose choice may
    depend on where the list ends (exploration) and on how many candidates compete (diversity).
    What follows is not explored. Limits per category hold in the list and in what follows, not over
    both together.
    """
    length = max(depth, rules.length)
    pool = max(rules.pool, 2 * length)
    longer = replace(rules, length=length, pool=pool, exploration_rate=0.0)
    deep = apply_rules(candidates, items, longer, **inputs)
    if rules.mmr_lambda == 1.0 and rules.exploration_rate == 0.0:
        # position by position the best that is left: a longer list begins the same
        return deep[deep["rank"] <= depth].reset_index(drop=True)
    served = apply_rules(candidates, items, rules, **inputs)
    both = pd.concat([served, deep], ignore_index=True)
    both = both[~both.duplicated(["user_id", "item_id"])]
    both = both.sort_values("user_id", kind="stable", ignore_index=True)
    rank = both.groupby("user_id").cumcount().to_numpy(dtype=np.int32) + 1
    return both.assign(rank=rank)[rank <= depth].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """What the rules need of every catalogue item, as arrays in item_id order."""

    ids: npt.NDArray[np.object_]
    eligible: _Mask
    group: _Codes
    category: _Codes  # -1 where the category limit does not apply
    boost: _Floats
    vector_row: _Codes
    matrix: npt.NDArray[np.float32] | None

    @classmethod
    def build(
        cls,
        items: pd.DataFrame,
        rules: Rules,
        as_of: pd.Timestamp,
        vectors: ItemVectors | None,
    ) -> "_Catalogue":
        items = items.sort_values("item_id", kind="stable")
        ids = items["item_id"].to_numpy(dtype=object)
        if items["item_id"].duplicated().any():
            raise ValueError("the catalogue repeats an item")
        path = deepest_path(items, rules.category_level)
        category = np.where((path == "").to_numpy(), -1, pd.factorize(path)[0])
        boost = np.zeros(len(items))
        if rules.freshness_days > 0 and rules.freshness_weight:
            age = (as_of - items["available_from"]).dt.total_seconds().to_numpy() / 86_400
            fresh = np.clip(1.0 - age / rules.freshness_days, 0.0, 1.0)
            boost = rules.freshness_weight * np.nan_to_num(np.where(age >= 0, fresh, 0.0))
        use = vectors if rules.mmr_lambda < 1.0 else None
        rows = use.rows(ids) if use is not None else np.full(len(ids), -1)
        matrix = use.matrix if use is not None else None
        return cls(
            ids, eligible(items, rules, as_of), product_codes(items), category, boost, rows, matrix
        )

    def codes(self, item_ids: pd.Series) -> _Codes:
        codes = pd.Index(self.ids).get_indexer(pd.Index(item_ids)).astype(np.int64)
        if (codes < 0).any():
            raise ValueError(f"{int((codes < 0).sum())} candidate items are not in the catalogue")
        return codes


@dataclass(frozen=True, eq=False)
class _Columns:
    """Arrays of one length, a value of each per row."""

    def take(self, rows: npt.NDArray) -> Self:
        return type(self)(*[getattr(self, field.name)[rows] for field in fields(self)])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part behind the other."""
        return cls(*[np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)])


@dataclass(frozen=True, eq=False)
class _Rows(_Columns):
    """Candidates, sorted by user and falling relevance, which is what is maximised."""

    user: _Codes
    item: _Codes
    score: _Floats
    relevance: _Floats
    policy: _Codes

    @classmethod
    def ranked(cls, user: _Codes, item: _Codes, score: _Floats, boost: _Floats) -> "_Rows":
        """Scores are scaled to 0..1 per user; the `boost` of each catalogue item is added."""
        n = int(user.max(initial=-1)) + 1
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(low, user, score)
        np.maximum.at(high, user, score)
        span = (high - low)[user]
        scaled = np.where(span > 0, (score - low[user]) / np.where(span > 0, span, 1), 1)
        policy = np.full(len(user), POLICIES.index(RANKER))
        rows = cls(user, item, score, scaled + boost[item], policy)
        return rows.take(np.lexsort((item, -score, -rows.relevance, user)))


@dataclass(frozen=True, eq=False)
class _Chosen(_Columns):
    user: _Codes
    rank: _Codes
    item: _Codes
    score: _Floats
    policy: _Codes
    propensity: _Floats


@dataclass(frozen=True, eq=False)
class _Draws:
    """Per user: two seeded numbers in [0, 1), whether to explore and what to draw."""

    explore: _Floats
    which: _Floats

    @classmethod
    def build(cls, users: pd.Index, rules: Rules, as_of: pd.Timestamp) -> "_Draws":
        if rules.exploration_rate == 0:
            return cls(np.ones(len(users)), np.zeros(len(users)))
        moment = as_of.isoformat()
        return cls(
            seeded_uniform(users, rules.seed, f"explore {moment}"),
            seeded_uniform(users, rules.seed, f"which {moment}"),
        )


def _choose(
    rows: _Rows,
    users: _Codes,
    rules: Rules,
    catalogue: _Catalogue,
    draws: _Draws,
    pool: int | None,
) -> _Chosen:
    """Greedy choice for `users`, in blocks of users. `rows` are sorted by user.

    Without diversity the choice never looks past the first few of a group (of each of its
    categories, where these are limited), so the others are cut first and the pool stays exact
    however many variants crowd the top.
    """
    if rules.mmr_lambda >= 1.0 and rules.group_limit is not None:
        alike = catalogue.group
        if rules.max_per_category is not None:  # variants of another one may have to step in
            both = alike * (len(catalogue.ids) + 1) + catalogue.category
            alike = np.unique(both, return_inverse=True)[1]
        nth = _position_within(rows.user, alike[rows.item])
        rows = rows.take(nth < rules.group_limit)
    starts = np.searchsorted(rows.user, users)
    lengths = np.searchsorted(rows.user, users, side="right") - starts
    if pool is not None:
        lengths = np.minimum(lengths, pool)
    dimension = 8 if catalogue.matrix is None else catalogue.matrix.shape[1]
    step = max(1, _CELLS_PER_BLOCK // (int(lengths.max(initial=1)) * dimension + 1))
    blocks = [_nothing_chosen()]
    for first in range(0, len(users), step):
        block = slice(first, first + step)
        width = int(lengths[block].max(initial=0))
        if width:
            real = np.arange(width) < lengths[block][:, None]
            at = np.where(real, starts[block][:, None] + np.arange(width), 0)
            blocks.append(_choose_block(rows, users[block], at, real, rules, catalogue, draws))
    return _Chosen.joined(blocks)


def _nothing_chosen() -> _Chosen:
    nothing = np.zeros(0, dtype=np.int64)
    return _Chosen(nothing, nothing, nothing, np.zeros(0), nothing, np.zeros(0))


def _choose_block(
    rows: _Rows,
    users: _Codes,
    at: _Codes,
    real: _Mask,
    rules: Rules,
    catalogue: _Catalogue,
    draws: _Draws,
) -> _Chosen:
    """Lists for a block of users: `at` [user, candidate] points into `rows`, `real` says where."""
    item = rows.item[at]
    group = catalogue.group[item]
    category = catalogue.category[item]
    policy = rows.policy[at]
    relevance = rows.relevance[at]
    behind = np.where(policy == POLICIES.index(FALLBACK), _BEHIND, 0.0)
    lines = np.arange(len(users))
    free = real.copy()
    limits = _Limits.begin(group, category, rules)
    near = _unit_rows(catalogue, item)
    likeness = np.zeros(item.shape, dtype=np.float32)
    picks = np.full((len(users), rules.length), -1)
    for position in range(rules.length):
        value = rules.mmr_lambda * relevance - (1.0 - rules.mmr_lambda) * likeness - behind
        pick = np.argmax(np.where(free, value, -np.inf), axis=1)
        good = free[lines, pick]
        if not good.any():
            break
        picks[good, position] = pick[good]
        free[lines[good], pick[good]] = False
        limits.count(lines, pick, good)
        limits.close(free)
        if near is not None:
            cosine = np.matmul(near, near[lines, pick][:, :, None])[:, :, 0]
            likeness = cosine if position == 0 else np.maximum(likeness, cosine)
    chosen_policy = np.take_along_axis(policy, np.maximum(picks, 0), axis=1)
    propensity = np.ones(picks.shape)
    if rules.exploration_rate > 0:
        _explore(picks, chosen_policy, propensity, real, group, category, rules, draws, users)
    line, position_of = np.nonzero(picks >= 0)
    chosen = at[line, picks[line, position_of]]
    return _Chosen(
        users[line],
        position_of + 1,
        rows.item[chosen],
        rows.score[chosen],
        chosen_policy[line, position_of],
        propensity[line, position_of],
    )


@dataclass(frozen=True, eq=False)
class _Limits:
    """How many rows of each candidate's group and category a list already holds.

    Per limit: the codes [user, candidate], the counts of the same shape, and the most allowed.
    """

    parts: list[tuple[_Codes, npt.NDArray[np.int16], int]]

    @classmethod
    def begin(cls, group: _Codes, category: _Codes, rules: Rules) -> "_Limits":
        both = ((group, rules.group_limit), (category, rules.max_per_category))
        return cls(
            [
                (codes, np.zeros(codes.shape, dtype=np.int16), most)
                for codes, most in both
                if most is not None
            ]
        )

    def count(self, lines: _Codes, pick: _Codes, good: _Mask) -> None:
        """Count the pick of each line that is `good`; codes below 0 are not limited."""
        for codes, counts, _ in self.parts:
            picked = codes[lines, pick][:, None]
            counts += good[:, None] & (codes == picked) & (picked >= 0)

    def close(self, free: _Mask) -> None:
        """Close, in place, the candidates whose group or category is full."""
        for _, counts, most in self.parts:
            free &= counts < most


def _explore(
    picks: _Codes,
    policy: _Codes,
    propensity: _Floats,
    real: _Mask,
    group: _Codes,
    category: _Codes,
    rules: Rules,
    draws: _Draws,
    users: _Codes,
) -> None:
    """Redraw the exploration slot of the drawn users and set its propensities, in place.

    Eligible is, of what the choice looks at, whatever fits beside the other rows of the list, the
    ranking's own choice included.
    """
    slot = (rules.exploration_position or rules.length) - 1
    lines = np.flatnonzero(picks[:, slot] >= 0)
    if not len(lines):
        return
    own = picks[lines, slot]
    open_ = real[lines].copy()
    limits = _Limits.begin(group[lines], category[lines], rules)
    for position in range(rules.length):
        if position == slot:
            continue
        other = picks[lines, position]
        there = other >= 0
        at = np.maximum(other, 0)
        open_[np.flatnonzero(there), other[there]] = False
        limits.count(np.arange(len(lines)), at, there)
    limits.close(open_)
    n_open = open_.sum(axis=1)
    nth = np.floor(draws.which[users[lines]] * n_open).astype(np.int64) + 1
    drawn = np.argmax(np.cumsum(open_, axis=1) >= nth[:, None], axis=1)
    exploring = draws.explore[users[lines]] < rules.exploration_rate
    share = rules.exploration_rate / n_open
    final = np.where(exploring, drawn, own)
    picks[lines, slot] = final
    policy[lines[exploring], slot] = POLICIES.index(EXPLORE)
    propensity[lines, slot] = share + np.where(final == own, 1.0 - rules.exploration_rate, 0.0)


def _unit_rows(catalogue: _Catalogue, item: _Codes) -> npt.NDArray[np.float32] | None:
    if catalogue.matrix is None:
        return None
    rows = catalogue.vector_row[item]
    near = catalogue.matrix[rows]
    near[rows < 0] = 0.0
    return near


def _fallback_rows(
    fallback: pd.DataFrame,
    users: _Codes,
    rows: _Rows,
    catalogue: _Catalogue,
    taken_keys: _Codes,
) -> _Rows:
    """The fallback items for each of `users`, without what they have among `rows` or took."""
    item = catalogue.codes(fallback["item_id"])
    score = _finite(fallback["score"])
    if len(distinct(item)) != len(item):
        raise ValueError("the fallback repeats an item")
    kept = catalogue.eligible[item]
    item, score = item[kept], score[kept]
    span = np.ptp(score) if len(score) else 0.0
    relevance = (score - score.min()) / span if span > 0 else np.ones(len(score))
    relevance = relevance + catalogue.boost[item]
    order = np.lexsort((item, -score, -relevance))
    n, width = len(users), len(item)
    user = np.repeat(users, width)
    all_items = np.tile(item[order], n)
    policy = np.full(n * width, POLICIES.index(FALLBACK))
    offered = _Rows(user, all_items, np.tile(score[order], n), np.tile(relevance[order], n), policy)
    size = len(catalogue.ids)
    keys = user * size + all_items
    own = distinct(rows.user * size + rows.item)
    return offered.take(~in_sorted(keys, own) & ~in_sorted(keys, taken_keys))


def _position_within(user: _Codes, key: _Codes) -> _Codes:
    """How many earlier rows of the same user have the same key."""
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    low = key.min()
    combined = user * (key.max() - low + 1) + (key - low)
    order = np.argsort(combined, kind="stable")
    position = np.empty(len(user), dtype=np.int64)
    position[order] = position_in_run(combined[order])
    return position


def _all_users(candidates: pd.DataFrame, users: pd.Series | pd.Index | None) -> pd.Index:
    """Sorted distinct users; everyone with candidates must be among `users` if those are given."""
    with_candidates = pd.Index(candidates["user_id"].unique())
    if users is None:
        return with_candidates.sort_values()
    index = pd.Index(users).unique().sort_values()
    missing = int((~with_candidates.isin(index)).sum())
    if missing:
        raise ValueError(f"{missing} users have candidates but are not among the users")
    return index


def _pair_keys(pairs: pd.DataFrame | None, users: pd.Index, catalogue: _Catalogue) -> _Codes:
    if pairs is None:
        return np.zeros(0, dtype=np.int64)
    user = users.get_indexer(pd.Index(pairs["user_id"])).astype(np.int64)
    item = pd.Index(catalogue.ids).get_indexer(pd.Index(pairs["item_id"])).astype(np.int64)
    known = (user >= 0) & (item >= 0)
    return distinct(user[known] * len(catalogue.ids) + item[known])


def _finite(scores: pd.Series) -> _Floats:
    values = scores.to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite numbers")
    return values
