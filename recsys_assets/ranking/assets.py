"""Ranking assets up to the scores: labels, feature groups, rankers, scored candidates."""

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.assets import GatedAsset, Report, table_asset
from recsys_assets.core.blocks import rows_of, tables_of, user_blocks
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import (
    by_cutoff,
    cutoff_units,
    cutoffs_of,
    rows_digest,
)
from recsys_assets.core.lake import LakeError, Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ranking import features, gates, ranker, tables, training
from recsys_assets.ranking.recipe import Recipe, tasks_of
from recsys_assets.ranking.scoring import (
    candidate_history,
    proposed_by,
    score_column,
    score_or_fuse,
)
from recsys_assets.retrieval.hidden import hidden_at
from recsys_assets.retrieval.learners import learners, people_at, units_of_people

GROUP = "ranking"
CURVE_USERS = 300
"""How many users of an unseen window the learning curve is measured on."""

SCORED_TOGETHER = 2_000_000
"""How many candidates are in memory with what is known about their users, at most."""


def _horizon(cutoffs: Snapshot, as_of: pd.Timestamp) -> pd.Timestamp:
    frame = cutoffs.to_pandas()
    return frame.loc[frame["as_of"] == as_of, "horizon_end"].iloc[0]


@table_asset(
    tables.LABELS,
    group=GROUP,
    kinds=["duckdb", "sql"],
    sql=["ranking/labels"],
    rules=[gates.no_event_on_both_sides, gates.every_taking_is_a_label],
)
def labels(
    interactions: Snapshot, cutoffs: Snapshot, warehouse: Warehouse, report: Report
) -> Iterator[tuple[str, pa.Table]]:
    """What each user took in the horizon after each cutoff that the data cover.

    The only table that looks past its cutoff: it is what is predicted, never what predicts.
    """
    complete = cutoffs_of(cutoffs, complete=True)
    if not complete:
        yield "", tables.LABELS.empty()
    for as_of in complete:
        table = training.build_labels(
            warehouse, interactions.paths(), as_of, _horizon(cutoffs, as_of)
        )
        report.numbers[f"pairs {as_of:%Y-%m-%d}"] = table.num_rows
        yield part_name(as_of), table


def _log(interactions: Snapshot, cutoffs: Snapshot) -> dict[str, str]:
    return cutoff_units(cutoffs, interactions)


@table_asset(
    tables.USER_ITEM_DAYS,
    group="features",
    kinds=["duckdb", "sql"],
    sql=["ranking/user_item_days"],
    rules=[gates.days_know_nothing_later],
    units=_log,
)
def user_item_days(
    interactions: Snapshot, cutoffs: Snapshot, warehouse: Warehouse, todo: list[str]
) -> Iterator[tuple[str, pa.Table]]:
    """What each user did with each item, day by day back from each cutoff.

    The one door from events to ranking features: nothing later than the cutoff passes it.
    """
    paths = interactions.paths()

    def compute(as_of: pd.Timestamp) -> pa.Table:
        return features.user_item_days(warehouse, paths, as_of)

    yield from by_cutoff(cutoffs_of(cutoffs, todo=todo), compute)


def _log_items_and_users(
    interactions: Snapshot,
    user_item_days: Snapshot,
    items: Snapshot,
    users: Snapshot,
    raw_promotions: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
) -> dict[str, str]:
    units = cutoff_units(cutoffs, interactions, same=[user_item_days], whole=[items, users])
    units = units_of_people(units, users, cutoffs, shop)
    promoted = raw_promotions.to_arrow()
    if promoted.num_rows:
        for as_of in cutoffs_of(cutoffs):
            units[part_name(as_of)] += rows_digest(features.known_promotions(promoted, as_of))
    return units


_GRAINS = {
    "item_features": "How an item does: demand in windows, trend, price, repeats, availability.",
    "user_features": "How a user behaves: activity, basket, spend, rhythm, taste for new things.",
    "user_item_features": "A user's history with one item: counts, rhythm, and whether it is due.",
    "user_category_features": "A user's history with a category, brand or group of variants.",
    "store_item_features": "How an item does in one store lately: is it on the shelf there?",
}


def _grain(name: str, description: str) -> GatedAsset:
    """Declare one feature group: one file of `sql/ranking/`, computed at every cutoff."""

    def compute_all(
        interactions: Snapshot,
        user_item_days: Snapshot,
        items: Snapshot,
        users: Snapshot,
        raw_promotions: Snapshot,
        cutoffs: Snapshot,
        shop: Shop,
        warehouse: Warehouse,
        todo: list[str],
    ) -> Iterator[tuple[str, pa.Table]]:
        events, catalogue, everybody = interactions.paths(), items.paths(), users.to_arrow()

        def compute(as_of: pd.Timestamp) -> pa.Table:
            return features.feature_table(
                name,
                warehouse,
                user_item_days=user_item_days.paths(part_name(as_of)),
                interactions=events,
                items=catalogue,
                users=features.rows_of_users(everybody, people_at(as_of, users, cutoffs, shop)),
                promotions=raw_promotions.paths(),
                as_of=as_of,
                horizon_days=shop.cutoffs.horizon_days,
            )

        yield from by_cutoff(cutoffs_of(cutoffs, todo=todo), compute)

    compute_all.__doc__ = description
    return table_asset(
        tables.GRAIN_TABLES[name],
        group="features",
        kinds=["duckdb", "sql"],
        config=("cutoffs", "seed"),
        sql=[f"ranking/{name}"],
        rules=[gates.grain_knows_nothing_later(name)],
        units=_log_items_and_users,
    )(compute_all)


GRAINS = [_grain(name, description) for name, description in _GRAINS.items()]


@table_asset(
    tables.TRAINING_ROWS,
    group=GROUP,
    kinds=["duckdb", "sql"],
    config=("ranker", "cutoffs", "seed"),
    sql=["ranking/ranking_features", "ranking/candidate_rows", "ranking/item_features"],
    rules=[gates.learns_from_what_is_served, gates.no_feature_only_tells_windows_apart],
)
def training_rows(
    candidates: Snapshot,
    hidden_candidates: Snapshot,
    user_item_days: Snapshot,
    labels: Snapshot,
    items: Snapshot,
    users: Snapshot,
    raw_promotions: Snapshot,
    fits: Snapshot,
    grains: features.Grains,
    shop: Shop,
    warehouse: Warehouse,
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """Labelled candidates of every label window, with every feature as of the window's cutoff.

    Every window is learned from so many users (`cutoffs.users_per_window`), the next one from
    others. Positives and negatives are only what the retrievers proposed at that cutoff; a missed
    positive is never added. Negatives are a fixed draw by hash. In every window another 5% of the
    catalogue is shown as if nobody had ever taken it (`hidden_candidates`).
    """
    windows = sorted(fits.to_pandas()["window_as_of"].unique())
    recipe = Recipe.read(shop.ranker, shop.seed)
    catalogue = items.to_arrow(["item_id"])["item_id"].to_pylist()
    everybody = users.to_arrow(["user_id"])["user_id"].to_pylist()

    def learn(as_of: pd.Timestamp) -> pa.Table:
        part = part_name(as_of)
        taught = learners(everybody, as_of, shop.cutoffs, shop.seed)
        shown, tables_at = training.hide(
            warehouse,
            rows_of(candidates, part, taught),
            items.paths(),
            tables_of(grains, part, taught),
            user_item_days=user_item_days.to_arrow(part=part),
            promotions=raw_promotions.paths(),
            hidden=list(hidden_at(catalogue, as_of, shop.seed)),
            proposed=hidden_candidates.to_arrow(part=part),
        )
        return training.training_frame(
            warehouse,
            shown,
            labels.to_arrow(part=part),
            items.paths(),
            tables_at,
            negative_share=recipe.negative_share,
            seed=shop.seed,
        )

    rows = positives = 0
    for part, table in by_cutoff(windows, learn):
        rows += table.num_rows
        positives += int(pc.sum(table["label"]).as_py() or 0)
        yield part, table
    if not windows:
        names = [
            *features.KEYS,
            "label",
            "label_again",
            *features.feature_names(candidates.columns),
        ]
        yield "", tables.TRAINING_ROWS.arrow_schema(names).empty_table()
    report.numbers |= {"windows": len(windows), "rows": rows, "positives": positives}


def _models_have_trees(candidate: Snapshot, fits: Snapshot, shop: Shop) -> Iterator[Failure]:
    targets = fits.to_pandas()["target"].unique()
    recipe = Recipe.read(shop.ranker, shop.seed)
    expected = sum(
        len(recipe.variants(target, task)) for target in targets for task in tasks_of(shop)
    )
    if candidate.rows > expected:
        yield Failure(f"holds {candidate.rows} rankers, at most {expected} were expected")
    for row in candidate.to_pandas().to_dict("records"):
        model = ranker.RankerModel.from_json(row["model"])
        if not any(model.importance.values()):
            yield Failure(
                f"the ranker {row['target']}/{row['task']} never split: it learned nothing"
            )


def _read_what_is_served(candidate: Snapshot, candidates: Snapshot) -> Iterator[Failure]:
    """Every ranker reads the features that candidates come with, all of them and in their order."""
    served = features.feature_names(candidates.columns)
    for fault in ranker.all_spec_faults(candidate.to_pandas(), served):
        yield Failure(fault, "feature_spec")


@table_asset(
    tables.RANKERS,
    group=GROUP,
    kinds=["lightgbm", "python"],
    pool="ranker",
    config=("ranker", "repeats", "seed"),
    rules=[_models_have_trees, _read_what_is_served, gates.rankers_learn_from_their_windows],
)
def rankers(training_rows: Snapshot, fits: Snapshot, shop: Shop, report: Report) -> pd.DataFrame:
    """LightGBM rankers, one per target, task and seed, each trained on its own label windows.

    `evaluate` measures the recipe on data it has never seen; `live` refits the same recipe with
    windows up to now. A window trains a target only if it ends before the target's cutoff.
    """
    plan, recipe = fits.to_pandas(), Recipe.read(shop.ranker, shop.seed)
    rows = []
    for target, windows in plan.groupby("target", sort=True):
        own = part_name(windows["as_of"].iloc[0])
        unseen = None
        if own in training_rows.parts:
            unseen = _first_users(training_rows.to_arrow(part=own), CURVE_USERS)
        variants = {task: recipe.variants(str(target), task) for task in tasks_of(shop)}
        rows_of = (
            training_rows.to_arrow(part=part_name(w)) for w in sorted(windows["window_as_of"])
        )
        grown = ranker.train_tasks(pa.concat_tables(rows_of), variants, valid=unseen)
        for task, models, missing in grown:
            if missing:
                report.texts[f"{target}/{task}"] = f"no ranker: {missing}"
            rows += [
                {
                    "target": target,
                    "task": task,
                    "seed": model.settings["seed"],
                    "model": model.to_json(),
                    "feature_spec": ranker.feature_spec(model.features),
                    "rows": int(model.metrics["rows"]),
                }
                for model in models
            ]
            if not models:
                continue
            first = models[0]
            report.numbers |= {f"{target}/{task} {k}": v for k, v in first.metrics.items()}
            if target == "live":
                _show_importance(report, task, first)
            if target == "evaluate":
                _show_learning_curve(report, task, first)
    columns = ["target", "task", "seed", "model", "feature_spec", "rows"]
    return pd.DataFrame(rows, columns=columns)


def _first_users(rows: pa.Table, n: int) -> pa.Table:
    """The rows of the first `n` users of one window (rows lie together by user)."""
    return rows.filter(pa.array(features.query_codes(rows["user_id"]) < n))


def _show_importance(report: Report, task: str, model: ranker.RankerModel) -> None:
    from recsys_assets.core import plots

    title = f"What the ranker looks at ({task})"
    picture = plots.feature_importance(pd.Series(model.importance), title=title)
    report.plot(f"importance {task}", picture)


def _show_learning_curve(report: Report, task: str, model: ranker.RankerModel) -> None:
    """NDCG among the sampled candidates of a window the model has not learned from."""
    if not model.learning_curve:
        return
    from recsys_assets.core import plots

    curve = pd.DataFrame(model.learning_curve)
    values = {
        f"member {member:.0f}": rows["ndcg_10"].tolist() for member, rows in curve.groupby("member")
    }
    title = f"NDCG@10 on an unseen window, task {task}"
    report.plot(
        f"learning curve {task}",
        plots.learning_curve(values, title=title, x_label="tenths of the trees"),
    )


def _scores_vary(candidate: Snapshot) -> Iterator[Failure]:
    for part in candidate.parts:
        rows = candidate.to_arrow(["item_id", "score_all"], part)
        scores, several = rows["score_all"], pc.count_distinct(rows["item_id"]).as_py() > 1
        if several and pc.min(scores).as_py() == pc.max(scores).as_py():
            yield Failure("every candidate has the same score", "score_all", len(scores), part)


@table_asset(
    tables.SCORED_CANDIDATES,
    group=GROUP,
    kinds=["lightgbm", "duckdb"],
    config=("ranker",),
    sql=["ranking/ranking_features", "ranking/candidate_history"],
    rules=[_scores_vary, gates.features_vary_when_served],
)
def scored_candidates(
    candidates: Snapshot,
    rankers: Snapshot,
    items: Snapshot,
    cutoffs: Snapshot,
    grains: features.Grains,
    warehouse: Warehouse,
    report: Report,
) -> Iterator[tuple[str, pa.Table]]:
    """Candidates of the tune, evaluate and live cutoffs, scored by each target's own rankers.

    A target whose data are too short for a ranker is scored by the fused places of the retrievers.
    """
    calendar = cutoffs.to_pandas()
    models = rankers.to_pandas()
    names = features.feature_names(candidates.columns)
    served = int(models["seed"].min()) if len(models) else 0
    columns = {
        score_column(t, s, served) for t, s in zip(models["task"], models["seed"], strict=True)
    }
    for row in calendar[calendar["target"].notna()].to_dict("records"):
        as_of, target = row["as_of"], row["target"]
        chosen = {}
        for line in models[models["target"] == target].to_dict("records"):
            model = ranker.RankerModel.from_json(line["model"])
            for fault in ranker.spec_faults(model, line["feature_spec"], names):
                raise LakeError(
                    f"the ranker {target}/{line['task']} cannot score these candidates: {fault}; "
                    "materialize rankers"
                )
            chosen[score_column(line["task"], line["seed"], served)] = model
        part, scored = part_name(as_of), []
        for people in user_blocks(candidates, part, SCORED_TOGETHER):
            proposed = rows_of(candidates, part, people)
            tables_at = tables_of(grains, part, people)
            history = candidate_history(warehouse, proposed, tables_at)
            scores = score_or_fuse(
                warehouse, chosen, proposed, items.paths(), tables_at, history["seen"].to_numpy()
            )
            absent = sorted(columns - set(scores))
            scored.append(
                pa.table(
                    {
                        **{k: proposed[k] for k in features.KEYS},
                        **scores,
                        **{name: pa.nulls(proposed.num_rows, pa.float32()) for name in absent},
                        "seen": history["seen"],
                        "times": history["times"],
                        "due": history["due"],
                        "retrievers": proposed_by(proposed),
                    }
                )
            )
        table = pa.concat_tables(scored)
        del scored
        report.numbers[f"{target} rows"] = table.num_rows
        if target == "live":
            _show_scores(report, table.select(list(scores)))
        yield part, table


def _show_scores(report: Report, scores: pa.Table) -> None:
    from recsys_assets.core import plots

    shown = {name: scores[name].to_numpy()[::20] for name in scores.column_names}
    picture = plots.score_histogram(shown, title="Scores of the live candidates")
    report.plot("score distribution", picture)


ASSETS: list[GatedAsset] = [
    labels,
    user_item_days,
    *GRAINS,
    training_rows,
    rankers,
    scored_candidates,
]
