"""The verdict on a release: which rules apply to it, and what comes of each.

Belongs here: the cases (first release, changed or unchanged recipe, same or moved cutoff, data too
short to measure). Does not belong here: the rules themselves (`gate.py`), reading (`evidence.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd
import pyarrow.compute as pc

from recsys_assets.core.config import Shop
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.settings.releases import Task
from recsys_assets.publishing import gate
from recsys_assets.publishing.evidence import TASKS, ReleaseEvidence
from recsys_assets.publishing.gate import Criterion, Measured
from recsys_assets.publishing.refit import RefitError
from recsys_assets.ranking.placements import FOR_YOU, PLACEMENT_OF_TASK
from recsys_assets.ranking.rules import STAND_IN
from recsys_assets.retrieval.registry import configured

LISTS = "evaluation_lists"
RECIPE = "recipe beside what is served"


def judge(
    challenger: ReleaseEvidence,
    incumbent: ReleaseEvidence | None,
    shop: Shop,
    placements: Sequence[str],
    refit: Callable[[], Snapshot],
) -> list[Criterion]:
    """Every criterion that applies to `challenger`, with its outcome.

    incumbent: the served release, None before the first. placements: those that promise everybody
    a list. refit: fits the challenger's recipe on the incumbent's data and returns its
    `evaluation_lists`; called only when the recipe has changed and the cutoff has moved.
    """
    rules, seed = shop.releases.gate, shop.evaluation.seed
    # The yardsticks of plausibility are measured, whatever the shop wants to be beaten.
    models = frozenset({"ours", gate.BEST_RETRIEVER, gate.PERSONAL, *rules.must_beat})
    measured: dict[Task, Measured] = {}
    if challenger.is_measured:
        measured = challenger.measured(challenger.table(LISTS), models, shop)
    found: list[Criterion] = []
    if not measured:
        found.append(
            _note(
                "measured",
                "the data are too short to hold out a period, and to learn before it: what is "
                "shown could not be measured, so only the lists themselves are judged",
            )
        )
    lists = challenger.lists()
    simpler = _published_instead(lists)
    for task, own in measured.items():
        beside = partial(
            gate.against_simpler, task, own, rules, first=incumbent is None,
            stands_in=task in simpler, seed=seed,
        )  # fmt: skip
        criteria = beside()
        if gate.blocking(criteria):  # only then what is served is measured again
            criteria = beside(unbeaten=_unbeaten(challenger, incumbent, task, models, shop))
        found += criteria
    if measured:
        found += gate.named_models_exist(measured, rules, configured(shop))
        found += _plausible(challenger, measured, shop)
    if "rankers" in challenger.manifest.tables:
        found.append(gate.features_are_served(challenger.feature_faults()))
    users = challenger.table("users").to_pandas(["user_id"])["user_id"]
    found += gate.lists_are_fit(lists, users, placements, rules)
    if incumbent is None:
        found.append(_note("first release", "nothing is served yet, so nothing is compared with"))
        return gate.corrected(found, rules)
    changed = _recipe(challenger) != _recipe(incumbent)
    if measured:
        found += _beside(challenger, incumbent, measured, shop, changed, refit)
    served = incumbent.lists()
    first_ranker = challenger.ranked("live") and not incumbent.ranked("live")
    turned = {PLACEMENT_OF_TASK[task] for task in simpler ^ _published_instead(served)}
    for placement in placements:
        otherwise = placement != FOR_YOU and (first_ranker or placement in turned)
        found += gate.lists_beside_served(lists, served, rules, placement, otherwise=otherwise)
    found.append(
        gate.scores_beside_served(
            challenger.live_scores(), incumbent.live_scores(), rules, changed=changed,
            first_ranker=first_ranker, stands_in="all" in simpler,
        )
    )  # fmt: skip
    return gate.corrected(found, rules)


def _unbeaten(
    challenger: ReleaseEvidence,
    incumbent: ReleaseEvidence | None,
    task: Task,
    models: frozenset[str],
    shop: Shop,
) -> frozenset[str]:
    """The models that what is served does not beat either, where it is of the same recipe."""
    if incumbent is None or not incumbent.is_measured or _recipe(incumbent) != _recipe(challenger):
        return frozenset()
    served = incumbent.measured(incumbent.table(LISTS), models, shop)
    return served[task].unbeaten if task in served else frozenset()


def _recipe(release: ReleaseEvidence) -> str:
    return release.manifest.facts["recipe"]


def _published_instead(lists: pd.DataFrame) -> frozenset[Task]:
    """The tasks whose lists are those of something simpler than the ranker."""
    instead = set(lists.loc[lists["policy"] == STAND_IN, "placement"])
    return frozenset(t for t in TASKS if PLACEMENT_OF_TASK[t] in instead)


def _plausible(
    challenger: ReleaseEvidence, measured: Mapping[Task, Measured], shop: Shop
) -> list[Criterion]:
    """What holds for every release, the first one too: nothing looks as if it knew the future."""
    rules, found = shop.releases.gate, []
    if "all" in measured:
        found += gate.lead_is_plausible(measured["all"], rules, repeats=shop.repeats)
    if "training_rows" in challenger.manifest.tables:
        strongest = challenger.strongest_feature(shop.evaluation.seed, repeats=shop.repeats)
        if strongest is not None:
            found.append(gate.feature_is_plausible(*strongest, rules))
        found.append(gate.catalogue_is_plausible(*challenger.cold_taken(), rules))
    return found


def _beside(
    challenger: ReleaseEvidence,
    incumbent: ReleaseEvidence,
    measured: Mapping[Task, Measured],
    shop: Shop,
    changed: bool,
    refit: Callable[[], Snapshot],
) -> list[Criterion]:
    """The two recipes at one cutoff: the challenger's if both were measured there, else, for a
    changed recipe, the incumbent's, to which the challenger's recipe goes back."""
    rules, seed = shop.releases.gate, shop.evaluation.seed
    served, ours = incumbent.table(LISTS), frozenset({"ours"})
    if not incumbent.is_measured:
        return [_note(RECIPE, "what is served was never measured: its data were too short")]
    if challenger.evaluate_as_of == incumbent.evaluate_as_of:
        new, old = measured, challenger.measured(served, ours, shop)
    elif not changed:
        text = "the recipe is the same one, and at the new cutoff it would meet itself"
        return [_note(RECIPE, text), *_lift(measured, incumbent, shop)]
    else:
        try:
            back = refit()
        except RefitError as error:
            text = f"the changed recipe cannot be compared with what is served: {error}"
            return [Criterion(RECIPE, "all", "failed", text)]
        measured_at = {
            part_name(m) for m in pc.unique(back.to_arrow(["as_of"])["as_of"]).to_pylist()
        }
        if measured_at != {incumbent.evaluate_as_of}:
            text = (
                "the changed recipe cannot be compared with what is served: from the same data it "
                f"is measured at {', '.join(sorted(measured_at)) or 'no cutoff'}, what is served "
                f"was at {incumbent.evaluate_as_of} (has `cutoffs` in the shop file changed?)"
            )
            return [Criterion(RECIPE, "all", "failed", text)]
        new, old = (incumbent.measured(lists, ours, shop) for lists in (back, served))
    found = []
    for task in old:
        if task in new:
            mine, theirs = new[task].ours, old[task].ours
            found += gate.against_incumbent(
                task, mine, theirs, new[task].slices, rules,
                changed=changed and not mine.equals(theirs), seed=seed,
            )  # fmt: skip
    return found


def _lift(
    measured: Mapping[Task, Measured], incumbent: ReleaseEvidence, shop: Shop
) -> list[Criterion]:
    """What the same recipe adds to the best single retriever, beside what it added before."""
    models = frozenset({"ours", gate.BEST_RETRIEVER})
    before = incumbent.measured(incumbent.table(LISTS), models, shop)
    if "all" not in measured or "all" not in before:
        return []
    now, then = measured["all"].lift, before["all"].lift
    if now is None or then is None:
        return []
    reference = "its own lead over the best retriever before"
    users = len(measured["all"].ours)
    return [gate.implausible(now / then - 1, reference, shop.releases.gate, users)]


def _note(name: str, text: str) -> Criterion:
    return Criterion(name, "all", "reported", text)
