"""Assets of the scheduled studies: what `make run` does not wait for.

Belongs here: thin assets over `studies.py` and `tuning.py`. Does not belong here: anything the
recommendations or the scoreboard of the main job depend on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.content.vectors import TextVectors
from recsys_assets.core import plots
from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.blocks import rows_of, tables_of
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of, visits_as_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.metrics import bootstrap, paired_bootstrap, seeded_sample
from recsys_assets.core.threads import side_by_side
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.evaluation import held_out, studies, tables, tuning
from recsys_assets.evaluation.reading import measured_cutoff, people_of, tasks_of
from recsys_assets.evaluation.scoreboard import user_metrics as user_metrics_of
from recsys_assets.ranking import ranker
from recsys_assets.ranking.features import Grains, join_features, retrievers_of
from recsys_assets.ranking.placements import PLACEMENT_OF_TASK, competing
from recsys_assets.ranking.recipe import TASKS, Recipe
from recsys_assets.retrieval import registry

GROUP = "studies"
SAMPLE = "studies"
"""Salt of the draw of users: the same ones in every study."""
CONFIRMING = 3
"""The best setting is looked at on so many times as many users as it was chosen on."""
_LINES = 6
"""How many models a picture over cutoffs shows: the best in the mean."""

Learned = Annotated[
    dict[str, Snapshot],
    ("training_rows", "fits", "cutoffs", "labels", "candidates", "items"),
]
"""What a study of the tune target is made from beside the features, by name; see `_tune_sample`."""


def _own_row(measured: pd.DataFrame) -> pd.DataFrame:
    """The ranker before rules and what is `shown`, under the names that other cutoffs have for
    them. Where something simpler is published, the ranker stands beside it under its own name."""
    beside = measured.loc[measured["model"] == held_out.RANKER, "task"].unique()
    order = measured["model"] == "ours_no_rules"
    rows = measured[~(order & measured["task"].isin(beside))]
    return rows.assign(
        model=rows["model"].replace({"ours_no_rules": held_out.RANKER, "ours": "shown"})
    )


def _first_event(interactions: Snapshot) -> pd.Timestamp:
    times = interactions.to_arrow(["event_time"])["event_time"]
    return pd.Timestamp(pc.min(times).as_py())


@table_asset(
    tables.SCOREBOARD_CUTOFFS,
    group=GROUP,
    weekly=True,
    kinds=["lightgbm", "duckdb"],
    config=("studies", "retrieval", "ranker", "cutoffs", "evaluation", "repeats", "seed"),
    sql=[
        "ranking/labels", "ranking/user_item_days", "ranking/item_features",
        "ranking/user_features", "ranking/user_item_features", "ranking/user_category_features",
        "ranking/store_item_features", "ranking/ranking_features", "ranking/candidate_rows",
        "ranking/candidate_history",
    ],
)  # fmt: skip
def scoreboard_cutoffs(
    user_metrics: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    users: Snapshot,
    raw_promotions: Snapshot,
    text_vectors: TextVectors,
    cutoffs: Snapshot,
    shop: Shop,
    warehouse: Warehouse,
    report: Report,
) -> pd.DataFrame | pa.Table:
    """The recipe at several cutoffs: one window is one draw.

    Earlier cutoffs are fitted from scratch on what was known then: retrievers, features, rankers.
    The row of the evaluate target is the scoreboard's own; tune is there to be seen, not counted.
    """
    frames = []
    measured = user_metrics.to_pandas()
    for target in ("evaluate", "tune"):
        as_of = cutoff_of(cutoffs, target)
        own = measured[measured["target"] == target]
        if as_of is not None and len(own):
            frames.append(_own_row(own).assign(as_of=as_of, role=target))
    evaluate = cutoff_of(cutoffs, "evaluate")
    if not frames or evaluate is None:
        return tables.SCOREBOARD_CUTOFFS.empty()

    world = studies.World(
        warehouse=warehouse,
        interactions=interactions.paths(),
        items=items.paths(),
        users=users.to_arrow(),
        promotions=raw_promotions.paths(),
        catalogue=items.to_arrow(),
        known_at=lambda moment: interactions_as_of(interactions, moment),
        members=registry.members_of(shop, items, users, text_vectors),
        recipe=Recipe.read(shop.ranker, shop.seed),
        cutoffs=shop.cutoffs,
        seed=shop.seed,
    )
    first, c = _first_event(interactions), shop.cutoffs
    moments = studies.earlier_cutoffs(evaluate, first, c.horizon_days, shop.studies.cutoffs - 1)
    plan = {
        m: studies.windows_of(m, first, c.horizon_days, c.step_days, c.windows) for m in moments
    }
    windows: dict[pd.Timestamp, pa.Table] = {}
    for moment, needed in plan.items():
        windows = {w: windows[w] if w in windows else world.window(w) for w in needed}
        models, missing = world.rankers(pa.concat_tables(windows.values()))
        for task in tasks_of(shop):
            if task in missing:
                report.texts[f"{moment:%Y-%m-%d} {task}"] = f"no ranker: {missing[task]}"
        found = _measured_at(world, interactions, moment, models, shop)
        frames.append(found.assign(as_of=moment, role="earlier"))
    table = _summaries(pd.concat(frames, ignore_index=True), shop)
    _show_spread(report, table)
    return table


def _measured_at(
    world: studies.World,
    interactions: Snapshot,
    as_of: pd.Timestamp,
    models: Mapping[str, ranker.RankerModel],
    shop: Shop,
) -> pd.DataFrame:
    """Metrics per user of the ranker, the counting baselines and the retrievers at one cutoff."""
    labels = world.labels(as_of).to_pandas()
    log, proposed, scored = world.scored(as_of, models)
    relevant = held_out.relevant_pairs(labels, as_of, log.warm_ids, repeats=shop.repeats)
    people = people_of(relevant)
    known = visits_as_of(interactions, as_of)
    tasks = tasks_of(shop)
    cutoff = held_out.Cutoff(
        log=log,
        known=known,
        people=people,
        retrievers=retrievers_of(proposed.column_names),
        candidates=proposed.select,
        scored=scored,
        tasks=tasks,
        repeats=shop.repeats,
    )
    k, rows = shop.evaluation.k, scored.to_pandas()
    lists = [
        (task, held_out.RANKER, held_out.top(competing(rows, PLACEMENT_OF_TASK[task], shop), k))
        for task in tasks
    ]
    lists += held_out.all_lists(cutoff, k)
    frames = []
    for task, model, found in lists:
        found = found[found["user_id"].isin(people)].assign(model=model, seed=shop.seed)
        frames.append(user_metrics_of(relevant[task], found, k).assign(task=task))
    return pd.concat(frames, ignore_index=True)


def _summaries(per_user: pd.DataFrame, shop: Shop) -> pd.DataFrame:
    """Mean NDCG and recall per cutoff, task and model, with intervals over users."""
    found = []
    metrics = ["ndcg", "recall"]
    keys = ["as_of", "role", "task"]
    for key, rows in per_user.groupby(keys, sort=True):  # key: one value per name in `keys`
        means = rows.pivot_table(index="user_id", columns="model", values=metrics)
        summary = bootstrap(
            means, draws=shop.evaluation.bootstrap, seed=shop.evaluation.seed
        ).rename_axis(index=["metric", "model"])
        own = summary.reset_index()
        found.append(own.assign(**dict(zip(keys, key, strict=True))))  # type: ignore[arg-type]
    table = pd.concat(found, ignore_index=True)[tables.SCOREBOARD_CUTOFFS.names]
    return table.sort_values(list(tables.SCOREBOARD_CUTOFFS.key), ignore_index=True)


def _show_spread(report: Report, table: pd.DataFrame) -> None:
    counted = table[(table["role"] != "tune") & (table["metric"] == "ndcg")]
    report.numbers["cutoffs"] = int(counted["as_of"].nunique())
    for task, rows in counted[counted["model"] == held_out.RANKER].groupby("task"):
        for name, value in (
            ("mean", rows["value"].mean()), ("least", rows["value"].min()),
            ("most", rows["value"].max()),
        ):  # fmt: skip
            report.numbers[f"ranker ndcg {task}, {name}"] = float(value)
    ndcg = table[table["metric"] == "ndcg"]
    for task, rows in ndcg.groupby("task"):
        everywhere = rows.groupby("model")["as_of"].transform("nunique") == rows["as_of"].nunique()
        best = rows[everywhere].groupby("model")["value"].mean().sort_values(ascending=False)
        shown = rows[rows["model"].isin([held_out.RANKER, *best.index[:_LINES]])]
        picture = plots.spread(shown, title=f"Task {task}", highlight=(held_out.RANKER,))
        report.plot(f"spread {task}", picture)


def _tune_sample(
    made: Mapping[str, Snapshot], grains: Grains, shop: Shop, warehouse: Warehouse, n: int
) -> studies.TuneSample | None:
    """A seeded sample of `n` users of the tune target, and the rows its rankers learn from."""
    as_of = measured_cutoff(made["cutoffs"], made["labels"], "tune")
    plan = made["fits"].to_pandas()
    moments = sorted(plan.loc[plan["target"] == "tune", "window_as_of"], reverse=True)
    if as_of is None or not moments:
        return None
    part = part_name(as_of)
    rows = made["labels"].to_pandas(part=part)
    users = seeded_sample(rows["user_id"].unique(), n, shop.seed, SAMPLE)
    relevant = held_out.relevant_pairs(
        rows[rows["user_id"].isin(users)], as_of, pd.Index([]), repeats=shop.repeats
    )
    proposed, tables_at = rows_of(made["candidates"], part, users), tables_of(grains, part, users)
    joined = join_features(warehouse, proposed, made["items"].paths(), tables_at)
    return studies.TuneSample(
        windows=[made["training_rows"].to_arrow(part=part_name(w)) for w in moments],
        rows=joined if shop.repeats else joined.filter(pc.equal(joined["ui_seen"], 0)),
        relevant=relevant,
        k=shop.evaluation.k,
    )


@table_asset(
    tables.ABLATION,
    group=GROUP,
    weekly=True,
    kinds=["lightgbm", "python"],
    config=("studies", "ranker", "evaluation", "repeats", "seed"),
)
def ablation(
    made: Learned,
    grains: Grains,
    shop: Shop,
    warehouse: Warehouse,
    report: Report,
) -> pd.DataFrame:
    """What the ranker loses without a retriever, a group of features, or older label windows.

    On a sample of users of the tune target, each variant trained anew; differences are paired by
    user, a positive one says that the part helps.
    """
    sample = _tune_sample(made, grains, shop, warehouse, shop.studies.users)
    if sample is None:
        return tables.ABLATION.empty().to_pandas()
    variants = studies.ablations(retrievers_of(made["candidates"].columns), len(sample.windows))
    recipe, found = Recipe.read(shop.ranker, shop.seed), []
    for task in TASKS:
        if sample.relevant[task].empty:
            continue
        rows = _ablated(sample, task, recipe.settings[task], variants, shop, report)
        if len(rows):
            found.append(rows)
            _show_ablation(report, task, rows)
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return table.reindex(columns=tables.ABLATION.names)


def _ablated(
    sample: studies.TuneSample,
    task: ranker.Task,
    settings: ranker.RankerSettings,
    variants: Sequence[studies.Variant],
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """The whole recipe and every variant of a task, one row each; none if it cannot be learned."""
    # Two variants at once on a thread each take less than one after the other on two.
    settings = replace(settings, threads=1)
    whole = _per_user(sample, task, settings, studies.WHOLE)
    if isinstance(whole, str):
        report.texts[task] = whole
        return pd.DataFrame()
    rows: list[dict[str, object]] = [
        {"kind": "full", "name": "everything", "ndcg": float(whole.mean())},
        {"kind": "windows", "name": str(len(sample.windows)), "ndcg": float(whole.mean())},
    ]
    measured = side_by_side(variants, partial(_per_user, sample, task, settings))
    for variant, less in zip(variants, measured, strict=True):
        if isinstance(less, str):
            report.texts[f"{task}, {variant.kind} {variant.name}"] = less
            continue
        lost = paired_bootstrap(
            whole.to_frame("ndcg"), less.to_frame("ndcg"),
            draws=shop.evaluation.bootstrap, seed=shop.evaluation.seed,
        ).iloc[0]  # fmt: skip
        rows.append(
            {
                "kind": variant.kind,
                "name": variant.name,
                "ndcg": float(less.mean()),
                "loss": lost["value"],
                "low": lost["low"],
                "high": lost["high"],
            }
        )
    return pd.DataFrame(rows).assign(task=task, n_users=len(whole))


def _show_ablation(report: Report, task: ranker.Task, rows: pd.DataFrame) -> None:
    for kind, title in (
        ("retriever", "without this retriever"), ("features", "without these features")
    ):  # fmt: skip
        picture = plots.losses(rows[rows["kind"] == kind], title=f"Task {task}: {title}")
        report.plot(f"ablation {kind} {task}", picture)
    curve = rows[rows["kind"] == "windows"].assign(n=lambda f: f["name"].astype(int))
    report.plot(
        f"label windows {task}",
        plots.learning_curve(
            {"ranker": curve.sort_values("n")["ndcg"].tolist()},
            title=f"Task {task}: more label windows",
            x_label="label windows, the latest first",
        ),
    )


def _per_user(
    sample: studies.TuneSample,
    task: ranker.Task,
    settings: ranker.RankerSettings,
    variant: studies.Variant,
) -> "pd.Series[float] | str":
    """See `TuneSample.per_user`; where there is nothing to learn, why."""
    try:
        return sample.per_user(task, settings, variant)
    except ranker.NothingToLearnError as error:
        return f"no ranker: {error}"


@table_asset(
    tables.CALIBRATION,
    group=GROUP,
    weekly=True,
    kinds=["python", "numpy"],
    config=("ranker", "repeats"),
)
def calibration(
    scored_candidates: Snapshot,
    rankers: Snapshot,
    labels: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """Whether a predicted chance is one: predicted against observed takings, by tenths of scores.

    On the evaluate target, among candidates. The scores of a ranker of one binary objective are
    log odds; those of any other are read as the share that was taken at that score on tune.
    """
    recipe = Recipe.read(shop.ranker, shop.seed)
    trained = set(rankers.to_pandas(["target", "task"]).itertuples(index=False, name=None))
    found = []
    known = {
        target: _scored_and_taken(scored_candidates, labels, as_of, shop)
        for target in ("tune", "evaluate")
        if (as_of := measured_cutoff(cutoffs, labels, target)) is not None
    }
    for task in TASKS:
        settings = recipe.settings[task]
        alone = settings.seeds == 1 and not settings.blend and not settings.ensemble
        odds = settings.objectives == ("binary",) and alone
        needed = {"evaluate"} if odds else {"tune", "evaluate"}
        if not all(target in known and (target, task) in trained for target in needed):
            report.texts[task] = "too few periods were measured"
            continue
        score, taken = known["evaluate"][task]
        if not len(score):
            continue
        if odds:
            chance = studies.chance_of_margin(score, recipe.negative_share)
        else:
            chance = studies.chance_from(*known["tune"][task], of=score)
        rows, error = studies.reliability(chance, taken)
        report.numbers[f"calibration error {task}"] = error
        report.plot(f"calibration {task}", plots.reliability(rows, title=f"Task {task}"))
        found.append(rows.assign(task=task, error=error))
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return table.reindex(columns=tables.CALIBRATION.names)


def _scored_and_taken(
    scored_candidates: Snapshot, labels: Snapshot, as_of: pd.Timestamp, shop: Shop
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per task the scores of the candidates at a cutoff, and whether each was then taken."""
    part = part_name(as_of)
    names = ["user_id", "item_id", "seen", *(f"score_{task}" for task in TASKS)]
    scored = scored_candidates.to_pandas(names, part)
    if not shop.repeats:
        scored = scored[~scored["seen"]]
    relevant = held_out.relevant_pairs(
        labels.to_pandas(part=part), as_of, pd.Index([]), repeats=shop.repeats
    )
    candidate = pd.MultiIndex.from_frame(scored[["user_id", "item_id"]])
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for task in TASKS:
        score = scored[f"score_{task}"].to_numpy(dtype=np.float64, na_value=np.nan)
        taken = candidate.isin(pd.MultiIndex.from_frame(relevant[task]))
        known = np.isfinite(score)
        found[task] = (score[known], taken[known])
    return found


@table_asset(
    tables.TUNED_SETTINGS,
    group=GROUP,
    weekly=True,
    kinds=["optuna", "lightgbm"],
    config=("studies", "ranker", "evaluation", "repeats", "seed"),
)
def tuned_settings(
    made: Learned,
    grains: Grains,
    shop: Shop,
    warehouse: Warehouse,
    report: Report,
) -> pd.DataFrame:
    """Settings of the rankers searched on the tune target, and the YAML that would use them.

    A budget of `studies.trials` per task, seeded, on a sample of users. The best of many is partly
    the luckiest, so it is compared with what is configured on users that it was not chosen on, and
    is only proposed where it wins there, beyond noise. Nothing changes by itself: a person puts the
    YAML into the shop file, which is what every other asset reads. A setting under which no tree
    can be grown counts 0.
    """
    users = (1 + CONFIRMING) * shop.studies.users
    sample = _tune_sample(made, grains, shop, warehouse, users)
    if sample is None:
        return tables.TUNED_SETTINGS.empty().to_pandas()
    recipe, found = Recipe.read(shop.ranker, shop.seed), []
    proposed: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        if sample.relevant[task].empty:
            continue
        trials, said = _searched(sample, task, recipe.settings[task], shop)
        report.texts[task] = said
        best = trials[trials["is_best"]].iloc[0]
        if best["is_confirmed"]:
            proposed[task] = best["settings"]
        report.numbers |= {
            f"{task} ndcg as configured": float(trials["ndcg"].iloc[0]),
            f"{task} ndcg best": float(best["ndcg"]),
        }
        found.append(trials.assign(task=task))
    report.texts["for the shop file"] = (
        f"```yaml\n{tuning.as_yaml(proposed)}```" if proposed else "Nothing: keep what it says."
    )
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame({"settings": []})
    texts = [json.dumps(s, sort_keys=True) for s in table["settings"]]
    return table.assign(settings=texts).reindex(columns=tables.TUNED_SETTINGS.names)


def _searched(
    sample: studies.TuneSample, task: ranker.Task, start: ranker.RankerSettings, shop: Shop
) -> tuple[pd.DataFrame, str]:
    """Every trial of a task, and in words how its best does on users it was not chosen on."""
    users = list(sample.relevant[task]["user_id"].unique())
    half = min(shop.studies.users, max(1, len(users) // 2))
    some = seeded_sample(users, half, shop.seed, SAMPLE)
    others = sorted({*users} - {*some})
    per_user: dict[str, pd.Series] = {}

    def measure(settings: ranker.RankerSettings) -> float:
        try:
            values = sample.per_user(task, settings)
        except ranker.NothingToLearnError:
            values = pd.Series(0.0, index=users)  # nothing is put in any order
        per_user[json.dumps(tuning.chosen(settings))] = values
        return float(values[some].mean())

    trials = tuning.search(measure, start, shop.studies.trials, shop.seed)
    trials = trials.rename(columns={"value": "ndcg"})
    unseen = [per_user[json.dumps(s)][others] for s in trials["settings"]]
    at = int(trials["ndcg"].to_numpy().argmax())
    won = paired_bootstrap(
        unseen[at].to_frame("ndcg"), unseen[0].to_frame("ndcg"),
        draws=shop.evaluation.bootstrap, seed=shop.evaluation.seed,
    ).loc["ndcg"]  # fmt: skip
    confirmed = bool(won["low"] > 0)
    said = (
        f"Best of {len(trials)} on {len(some)} users: {trials['ndcg'].iloc[at]:.4f}, as configured "
        f"{trials['ndcg'].iloc[0]:.4f}. On {len(others)} others {won['value']:+.4f} "
        f"({won['low']:+.4f} to {won['high']:+.4f}): {'' if confirmed else 'not '}proposed."
    )
    return (
        trials.assign(
            others_ndcg=[values.mean() for values in unseen],
            is_best=trials.index == at,
            is_confirmed=(trials.index == at) & confirmed,
        ),
        said,
    )


ASSETS: list[GatedAsset] = [scoreboard_cutoffs, ablation, calibration, tuned_settings]
