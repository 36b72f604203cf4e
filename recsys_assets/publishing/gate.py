"""Whether a release may be served: the rules, over numbers that were measured elsewhere.

Two things are judged apart. The *recipe* (code and settings) by what it achieves on a period that
nothing was trained on, user by user beside the recipe that is served, both fitted at the same
cutoff. The *lists* that would be shown, by what can be seen of them without an outcome.

Belongs here: the rules and their statistics. Does not belong here: where the numbers come from
(`evidence.py`), and what follows from the verdict (`releases.py`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from recsys_assets.core.metrics import paired_bootstrap
from recsys_assets.core.settings.releases import Gate, Task
from recsys_assets.evaluation.glossary import MODELS, RETRIEVER
from recsys_assets.publishing.health import psi

DRAWS = 2000
LEVEL = 0.95
BEST_RETRIEVER = "best_retriever"
HEAD = 10
"""So many items of a list are compared with what was shown before."""

Outcome = Literal["passed", "failed", "reported"]


@dataclass(frozen=True)
class Criterion:
    """One rule and what came of it. `reported` means that it decides nothing, and `text` why."""

    name: str
    subject: str
    outcome: Outcome
    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    users: int = 0


@dataclass(frozen=True)
class Measured:
    """What the models of one release achieved on one task at one cutoff.

    `models`: name -> the metric per user (index user_id, the same for all); `slices`: the slice of
    each of those users.
    """

    models: Mapping[str, pd.Series]
    slices: pd.Series

    @property
    def ours(self) -> pd.Series:
        return self.models["ours"]

    @property
    def best_retriever(self) -> str | None:
        """The name of the best single retriever, by its mean; ties by name."""
        names = sorted(n for n in self.models if n.startswith(RETRIEVER))
        return max(names, key=lambda n: self.models[n].mean()) if names else None

    @property
    def unbeaten(self) -> frozenset[str]:
        """Every other model whose mean ours is not above."""
        ours = self.ours.mean()
        return frozenset(n for n, v in self.models.items() if n != "ours" and v.mean() >= ours)

    @property
    def lift(self) -> float | None:
        """Our mean over that of the best single retriever."""
        best = self.best_retriever
        if best is None or not self.models[best].mean() > 0:
            return None
        return float(self.ours.mean() / self.models[best].mean())


def blocking(criteria: Sequence[Criterion]) -> list[str]:
    """The reasons not to serve the release; empty = it may be served."""
    return [c.text for c in criteria if c.outcome == "failed"]


# -- the recipe ------------------------------------------------------------------------------------


def against_incumbent(
    task: Task,
    ours: pd.Series,
    incumbent: pd.Series,
    slices: pd.Series,
    gate: Gate,
    *,
    changed: bool,
    seed: int = 0,
) -> list[Criterion]:
    """The recipe beside the one that is served: same cutoff, same users, paired.

    A changed recipe must be shown to be better on task `all` (`gate.changed_recipe`); otherwise a
    recipe must be shown to be worse by less than the margin. Slices are decided together, by
    `corrected`.
    """
    name = f"recipe beside what is served, {task}"
    margin = gate.margin[task]
    difference = _difference(ours, incumbent, seed)
    superior = changed and task == "all" and gate.changed_recipe == "superior"
    limit = 0.0 if superior else -margin
    wanted = "better" if superior else f"less than {margin:g} worse"
    kind = "changed" if changed else "unchanged"
    passed = difference.low > limit
    if not changed and difference.value == difference.low == difference.high == 0:
        text = f"{task}: the lists of both recipes score the same for every user"
    else:
        text = (
            f"{task}: the {kind} recipe is {difference} against what is served; it must be shown "
            f"to be {wanted}"
        )
    found = [_decided(difference.criterion(name, task, passed, text, limit), gate)]
    share = float(ours.mean() / incumbent.mean() - 1) if incumbent.mean() > 0 else 0.0
    if task == "all":
        found.append(implausible(share, "what is served, at the same cutoff", gate, len(ours)))
    for slice_name in sorted(slices.unique()):
        people = slices.index[slices == slice_name]
        found.append(
            _slice_loss(task, slice_name, ours.loc[people], incumbent.loc[people], margin, seed)
        )
    return found


def implausible(
    share: float, reference: str, gate: Gate, users: int, *, limit: float | None = None
) -> Criterion:
    """A gain too good to be true is a leak until proven otherwise."""
    limit = gate.implausible_gain if limit is None else limit
    text = (
        f"all: {share:+.1%} against {reference}; a gain above {limit:.0%} is held back until "
        "somebody has found out why"
    )
    found = Criterion(
        f"gain is plausible, {reference}", "all", "passed" if share <= limit else "failed", text,
        value=share, limit=limit, users=users,
    )  # fmt: skip
    return _decided(found, gate)


PERSONAL = "personal_frequency"
_HABIT = 0.5
"""Personal frequency is a yardstick where it reaches so much of the best retriever's NDCG."""


def lead_is_plausible(measured: Measured, gate: Gate, *, repeats: bool) -> list[Criterion]:
    """Our lists beside what is simpler, on task all: a first release has nothing else to be held
    against, and a leak into the ranker shows here. Where things are often taken again, what
    somebody took before is hard to beat by much; a retriever that peeks shows beside that."""
    means = {name: float(values.mean()) for name, values in measured.models.items()}
    best, habit = measured.best_retriever, means.get(PERSONAL, 0.0)
    often = repeats and (best is None or habit >= _HABIT * means[best])
    found = []
    for name in (best, PERSONAL if often else None):
        if name is None or not means.get(name, 0.0) > 0:
            continue
        share = means["ours"] / means[name] - 1
        found.append(
            implausible(share, name, gate, len(measured.ours), limit=gate.implausible_lead)
        )
    return found


FEATURE_USERS = 300
"""Of so many users the features are looked at."""


def feature_is_plausible(feature: str, auc: float, users: int, gate: Gate) -> Criterion:
    """The one feature that orders the ranker's rows best, on its own."""
    text = (
        f"feature {feature} alone orders a user's candidates with an AUC of {auc:.3f}; above "
        f"{gate.implausible_auc:g} is held back until somebody has found out why"
    )
    outcome: Outcome = "passed" if auc <= gate.implausible_auc else "failed"
    found = Criterion(
        "single feature is plausible", "all", outcome, text,
        value=auc, limit=gate.implausible_auc, users=users,
    )  # fmt: skip
    # A shop that wants more users for its differences has no more of them here.
    return _decided(
        found, gate.model_copy(update={"min_users": min(gate.min_users, FEATURE_USERS)})
    )


_COLD = 20
"""With fewer items that nobody had taken, their share says nothing."""


def catalogue_is_plausible(cold: int, taken: int, gate: Gate) -> Criterion:
    """`taken` of `cold` items on offer that nobody had ever taken were taken within the horizon."""
    share = taken / cold if cold else 0.0
    text = (
        f"{taken:,} of {cold:,} items that nobody had ever taken were taken within the horizon "
        f"({share:.0%}); above {gate.max_cold_taken:.0%} the catalogue was made of what sold: "
        "bring the whole product table, say available_from, or, if new things do sell so well, "
        "raise releases.gate.max_cold_taken"
    )
    outcome: Outcome = "passed" if share <= gate.max_cold_taken else "failed"
    if cold < _COLD:
        outcome, text = "reported", f"{text} (fewer than {_COLD}: reported only)"
    return Criterion(
        "catalogue knows no future", "all", outcome, text, value=share, limit=gate.max_cold_taken
    )


def features_are_served(faults: Sequence[str]) -> Criterion:
    """Whether every ranker reads the features that its candidates come with, in their order."""
    text = "; ".join(faults) or "every ranker reads the features that candidates come with"
    return Criterion("feature spec", "all", "failed" if faults else "passed", text)


SLICE = "slice is not worse"


def corrected(criteria: Sequence[Criterion], gate: Gate) -> list[Criterion]:
    """Decide the slices together: a slice fails when it is worse by more than the margin beyond
    chance, by Holm's step-down correction for the number of slices that are large enough.
    """
    judged = [c for c in criteria if c.name == SLICE and c.users >= gate.min_users]
    order = sorted(judged, key=lambda c: (c.value, c.subject))
    failed: set[str] = set()
    for place, found in enumerate(order):
        assert found.value is not None
        if found.value > (1 - LEVEL) / (len(order) - place):
            break
        failed.add(found.subject)
    result = []
    for c in criteria:
        if c.name != SLICE:
            result.append(c)
        elif c.users < gate.min_users:
            result.append(replace(c, outcome="reported", text=f"{c.text} ({_too_few(c, gate)})"))
        else:
            result.append(replace(c, outcome="failed" if c.subject in failed else "passed"))
    return result


def against_simpler(
    task: Task,
    measured: Measured,
    gate: Gate,
    *,
    first: bool,
    stands_in: bool = False,
    unbeaten: Collection[str] = (),
    seed: int = 0,
) -> list[Criterion]:
    """Our lists beside everything simpler that the gate names and the shop has.

    On task `all` our mean must be the higher one. On `new`, for a first release (nothing is there
    to fall back on), where something simpler is published itself (`stands_in`; it cannot be better
    than itself), and against models that the same recipe has not beaten where it is served
    (`unbeaten`; holding it back keeps lists that are no better, and old), we must not be shown to
    be worse; the best retriever, picked as the best of many on the very users it is measured on, is
    then only reported.
    """
    found = []
    for wanted in gate.must_beat:
        model = measured.best_retriever if wanted == BEST_RETRIEVER else wanted
        if model is None or model not in measured.models:
            continue
        difference = _difference(measured.ours, measured.models[model], seed)
        lenient = first or stands_in or task == "new" or model in unbeaten
        passed = difference.high >= 0 if lenient else difference.value > 0
        rule = "it must not be shown to be worse" if lenient else "its mean must be higher"
        text = f"{task}: {difference} against {model}; {rule}"
        criterion = difference.criterion(f"beats {wanted}", task, passed, text, 0.0)
        if lenient and wanted == BEST_RETRIEVER:
            criterion = replace(criterion, outcome="reported", text=f"{text} (reported only)")
        found.append(_decided(criterion, gate))
    return found


def named_models_exist(
    measured: Mapping[Task, Measured], gate: Gate, retrievers: Collection[str]
) -> list[Criterion]:
    """A model of `must_beat` that there is not: a misspelt name would switch the rule off. One that
    is known may have no list for a while (of a week without sales nothing is popular)."""
    known = {BEST_RETRIEVER, *MODELS, *(f"{RETRIEVER}{name}" for name in retrievers)}
    known = known.union(*(m.models for m in measured.values()))
    return [
        Criterion(
            f"beats {wanted}", "all tasks", "failed",
            f"releases.gate.must_beat names {wanted!r}, and there is no such model: correct it "
            "(`recsys scoreboard` shows the names) or take it out",
        )
        for wanted in gate.must_beat
        if wanted not in known
    ]  # fmt: skip


# -- the lists -------------------------------------------------------------------------------------


def lists_are_fit(
    lists: pd.DataFrame, users: pd.Series, placements: Sequence[str], gate: Gate
) -> list[Criterion]:
    """What would be shown, by itself. `placements`: those that promise everybody a list."""
    found = []
    for placement in placements:
        own = lists[lists["placement"] == placement]
        served = users.isin(own["user_id"])
        share = float(served.mean())
        # Of 50 users 1% is half a one: a single user who took everything on offer is let off.
        may_lack = np.floor((1 - gate.min_served) * len(users) + 1e-9)
        if gate.min_served < 1:
            may_lack = max(1, may_lack)
        found.append(
            Criterion(
                "everybody has a list", placement,
                "passed" if (~served).sum() <= may_lack else "failed",
                f"{placement}: {share:.1%} of users have a list, at least {gate.min_served:.1%} "
                "must", value=share, limit=gate.min_served, users=len(users),
            )
        )  # fmt: skip
        ranked = set(own.loc[own["policy"] == "ranker", "user_id"])
        missing = [u for u in gate.golden_users if u not in ranked]
        if gate.golden_users:
            found.append(
                Criterion(
                    "golden users", placement, "failed" if missing else "passed",
                    f"{placement}: {len(missing)} of {len(gate.golden_users)} golden users have no "
                    "list from the ranker", value=float(len(missing)), limit=0.0,
                    users=len(gate.golden_users),
                )
            )  # fmt: skip
    return found


def lists_beside_served(
    lists: pd.DataFrame, served: pd.DataFrame, gate: Gate, placement: str, *, otherwise: bool
) -> list[Criterion]:
    """What would be shown beside what is shown: how many items, and how much changes at once.
    Only reported where the list is ordered `otherwise` than the served one; lists for nobody who
    is shown one now are another shop's, and held in any case."""
    new = lists[(lists["placement"] == placement) & (lists["rank"] <= HEAD)]
    old = served[(served["placement"] == placement) & (served["rank"] <= HEAD)]
    items_new, items_old = new["item_id"].nunique(), old["item_id"].nunique()
    coverage = items_new / items_old if items_old else 1.0
    users = sorted(set(new["user_id"]) & set(old["user_id"]))
    pairs = new[new["user_id"].isin(users)].merge(old, on=["user_id", "item_id"])
    shown = new["user_id"].isin(users).sum()
    overlap = len(pairs) / shown if shown else 1.0
    if not users and len(new) and len(old):
        return [
            Criterion(
                "same users", placement, "failed",
                f"{placement}: of the {old['user_id'].nunique():,} users who are shown a list none "
                "has one here; these are the lists of another shop, or every user has a new id",
                value=0.0,
            )
        ]  # fmt: skip
    note = " (something else gives the order now: reported only)" if otherwise else ""

    def outcome(passed: bool) -> Outcome:
        return "reported" if otherwise else "passed" if passed else "failed"

    return [
        Criterion(
            "coverage", placement, outcome(coverage >= gate.min_coverage),
            f"{placement}: {items_new:,} different items are shown, {coverage:.0%} of the "
            f"{items_old:,} that are shown now; at least {gate.min_coverage:.0%} must{note}",
            value=coverage, limit=gate.min_coverage, users=len(users),
        ),
        Criterion(
            "churn", placement, outcome(overlap >= gate.min_overlap),
            f"{placement}: {overlap:.0%} of the first {HEAD} items were shown to the same user "
            f"before; at least {gate.min_overlap:.0%} must{note}", value=overlap,
            limit=gate.min_overlap, users=len(users),
        ),
    ]  # fmt: skip


def scores_beside_served(
    scores: np.ndarray,
    served: np.ndarray,
    gate: Gate,
    *,
    changed: bool,
    first_ranker: bool = False,
    stands_in: bool = False,
) -> Criterion:
    """Scores of all live candidates beside those of the served release. Only reported where the
    recipe is another one or this is the first release with a ranker (its scores mean something
    else), or where something simpler is published (nobody sees them)."""
    shift = psi(served, scores)
    outcome: Outcome = "passed" if shift <= gate.max_score_shift else "failed"
    why = ""
    if changed:
        why = "another recipe"
    elif first_ranker:
        why = "a ranker's, where fused places are served"
    elif stands_in:
        why = "no list goes by them"
    note = f" ({why}: reported only)" if why else ""
    return Criterion(
        "score shift", "score_all", "reported" if why else outcome,
        f"scores: stability index {shift:.2f} against the served release, at most "
        f"{gate.max_score_shift:g}{note}", value=shift, limit=gate.max_score_shift,
    )  # fmt: skip


# -- inside ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Difference:
    value: float
    low: float
    high: float
    p_value: float
    users: int

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f}, {self.users:,} users)"

    def criterion(
        self, name: str, subject: str, passed: bool, text: str, limit: float
    ) -> Criterion:
        return Criterion(
            name, subject, "passed" if passed else "failed", text,
            self.value, self.low, self.high, limit, self.users,
        )  # fmt: skip


def _difference(ours: pd.Series, other: pd.Series, seed: int) -> _Difference:
    row = paired_bootstrap(
        ours.to_frame("x"), other.to_frame("x"), draws=DRAWS, level=LEVEL, seed=seed
    ).iloc[0]
    return _Difference(
        float(row["value"]), float(row["low"]), float(row["high"]), float(row["p_value"]),
        int(row["n_users"]),
    )  # fmt: skip


def _slice_loss(
    task: Task, name: str, ours: pd.Series, incumbent: pd.Series, margin: float, seed: int
) -> Criterion:
    """`value` is the one-sided p-value of "worse by no more than the margin"."""
    shifted = _difference(ours + margin, incumbent, seed)
    plain = _difference(ours, incumbent, seed)
    p_value = shifted.p_value / 2 if shifted.value < 0 else 1.0
    text = (
        f"{task}, users with {name} baskets: {plain} against what is served; it must not be shown "
        f"to be more than {margin:g} worse"
    )
    return Criterion(
        SLICE, f"{task}: {name}", "passed", text, p_value, plain.low, plain.high, -margin,
        plain.users,
    )  # fmt: skip


def _decided(criterion: Criterion, gate: Gate) -> Criterion:
    if criterion.users >= gate.min_users:
        return criterion
    text = f"{criterion.text} ({_too_few(criterion, gate)})"
    return replace(criterion, outcome="reported", text=text)


def _too_few(criterion: Criterion, gate: Gate) -> str:
    return f"{criterion.users} users, {gate.min_users} are needed to decide: reported only"
