"""Publishing assets: drift and health, the release that a run makes, and what becomes of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version as library_version

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.assets import CADENCE, LIBRARIES, GatedAsset, Project, Report, table_asset
from recsys_assets.core.blocks import rows_of, tables_of
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of, interactions_as_of, live_cutoff
from recsys_assets.core.digests import json_sha256
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.core.threads import side_by_side
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.publishing import gate, manifest, tables, watch
from recsys_assets.publishing.alias import follow
from recsys_assets.publishing.evidence import ReleaseEvidence
from recsys_assets.publishing.refit import refit
from recsys_assets.publishing.releases import (
    SHORT,
    Known,
    Manifest,
    ReleaseError,
    Releases,
    State,
)
from recsys_assets.publishing.verdict import judge
from recsys_assets.ranking import ranker
from recsys_assets.ranking.features import Grains, join_features
from recsys_assets.ranking.placements import placements
from recsys_assets.ranking.scoring import served_models

GROUP = "publishing"
MEASURED = "evaluation_lists"
"""The table a recipe is measured by; all it is made of, but the data, is the recipe."""
HISTORY = 30
"""So many lines of the log of releases are shown beside the check of what is served."""
NOT_A_RECIPE = frozenset({"seed", "evaluation", "name"})
"""Sections that say how to measure or draw, not how lists are made: another seed is a retrain."""


def recipe_of(upstream: Sequence[GatedAsset]) -> tuple[list[str], list[str]]:
    """The assets between the data and the measured lists, in graph order, and their sections.

    Data are what has no input (read from sources) and what is partitioned.
    """
    by_name = {g.table.name: g for g in upstream}
    todo, found = [MEASURED], set[str]()
    while todo:
        name = todo.pop()
        producer = by_name[name].producer
        if name in found or not producer.inputs or by_name[name].asset.partitions_def is not None:
            continue
        found.add(name)
        todo += producer.inputs
    sections = {s for name in found for s in by_name[name].producer.config} - NOT_A_RECIPE
    return [g.table.name for g in upstream if g.table.name in found], sorted(sections)


def _release(upstream: Sequence[GatedAsset]) -> GatedAsset:
    names = [g.table.name for g in upstream]
    read_by_others = {i for g in upstream for i in g.producer.inputs}
    recipe, sections = recipe_of(upstream)

    def fits_together(candidate: Snapshot, project: Project) -> Iterator[Failure]:
        """Every table was made from exactly the tables the release names beside it."""
        releases = Releases(project.lake)
        own = Manifest.read("", candidate.to_pandas())
        snapshots = {name: releases.table(own, name) for name in own.tables}
        for name, snapshot in snapshots.items():
            for version in snapshot.versions:
                if version.partition:
                    continue  # a day is made when it comes; its rows are audited, not its moment
                for source, content in version.key.inputs.items():
                    if source in snapshots and snapshots[source].content_id != content:
                        yield Failure(
                            f"{name} was made from another version of {source} than the one that "
                            f"is approved now: materialize {source}+ and release again"
                        )

    def release(named: Mapping[str, Snapshot], shop: Shop, report: Report) -> pd.DataFrame:
        """The manifest of this run's result: tables, models, settings, code, libraries, numbers.

        Its version id is the release id. Whether it is served is decided after it.
        """
        rows = manifest.table_rows(named)
        rows += manifest.settings_rows(shop)
        rows += [manifest.row("library", n, "", library_version(n)) for n in LIBRARIES]
        parts = {n: [named[n].versions[0].key.code, named[n].versions[0].key.libraries]
                 for n in recipe}  # fmt: skip
        settings = shop.section_hash(*sections)
        facts = {
            "recipe": json_sha256([parts, settings]),
            "recipe settings": settings,
            "build_id": named["recommendations"].to_arrow(["build_id"])["build_id"][0].as_py(),
        }
        for target in ("evaluate", "live"):
            as_of = cutoff_of(named["cutoffs"], target)
            name = "as_of" if target == "live" else "evaluate_as_of"
            facts[name] = "" if as_of is None else part_name(as_of)
        rows += [manifest.row("fact", n, "", v) for n, v in facts.items()]
        metrics = manifest.headline(named["scoreboard"].to_pandas(), shop.evaluation.k)
        rows += [manifest.row("metric", n, "", repr(v)) for n, v in metrics.items()]
        report.numbers |= {**metrics, "tables": len(named)}
        report.texts |= facts
        return pd.DataFrame(rows).sort_values(["kind", "name", "part"], ignore_index=True)

    return table_asset(
        tables.RELEASE,
        group=GROUP,
        kinds=["json", "parquet"],
        config=tuple(s for s in Shop.model_fields if s != "releases"),
        rules=[fits_together],
        names=names,
        after=sorted(set(names) - read_by_others),
    )(release)


def incumbent_of(state: State, release_id: str) -> str:
    """What a release is judged against: what is served, or was when this one took its place."""
    if state.live != release_id:
        return state.live
    known = state.find(release_id)
    return known.against if known else ""


def _verdict(upstream: Sequence[GatedAsset]) -> GatedAsset:
    recipe, _ = recipe_of(upstream)
    steps = [g for g in upstream if g.table.name in recipe]

    def served_then(project: Project) -> str:
        newest = project.lake.read("release").versions[0].id
        return incumbent_of(Releases(project.lake).state(), newest)

    def release_verdict(
        named: Mapping[str, Snapshot], project: Project, run_id: str, report: Report
    ) -> pd.DataFrame:
        """The gate of a release: its recipe beside the served one's, and its lists beside those
        people see. A verdict is data: `failed` keeps the release from being served, and the run
        goes on."""
        releases, release_id = Releases(project.lake), named["release"].versions[0].id
        before = incumbent_of(releases.state(), release_id)
        incumbent = ReleaseEvidence(releases, releases.manifest(before)) if before else None

        def fit_back() -> Snapshot:
            assert incumbent is not None
            return refit(project, steps, incumbent.manifest, run_id)

        shop = project.shop
        promising = [p for p in placements(shop) if p != "buy_again"]
        challenger = ReleaseEvidence(releases, releases.manifest(release_id))
        criteria = judge(challenger, incumbent, shop, promising, fit_back)
        reasons = gate.blocking(criteria)
        report.texts["verdict"] = "; ".join(reasons) or "may be served"
        report.numbers["criteria failed"] = len(reasons)
        for c in criteria:
            if c.value is not None:
                report.numbers[f"{c.name}, {c.subject}"] = c.value
        rows = pd.DataFrame([asdict(c) for c in criteria]).rename(columns={"name": "criterion"})
        return rows.assign(release_id=release_id, incumbent=before)

    return table_asset(
        tables.RELEASE_VERDICT,
        group=GROUP,
        kinds=["python", "numpy"],
        config=("releases", "evaluation", "placements", "repeats"),
        inputs_hash=served_then,
        names=["release"],
        after=["release"],
    )(release_verdict)


def _served_is_complete(candidate: Snapshot, project: Project) -> Iterator[Failure]:
    """What is served is complete to the last byte, and it is what this table says."""
    releases = Releases(project.lake)
    if live := releases.state().live:
        releases.check(live)
    if (found := candidate.to_pandas()["served_id"].iloc[0]) != live:
        yield Failure(f"says that {found[:SHORT]} is served, but it is {live[:SHORT]}: run again")


@table_asset(
    tables.SERVED_RELEASE,
    group=GROUP,
    kinds=["python"],
    rules=[_served_is_complete],
    always=True,
)
def served_release(
    release: Snapshot, release_verdict: Snapshot, project: Project, run_id: str, report: Report
) -> pd.DataFrame:
    """Puts the newest release in front of people, if its gate passed and nobody holds it back.

    This is the only asset that changes what is served. Held back is no failure: people keep the
    release they have, and the check `promoted` says so.
    """
    releases, release_id = Releases(project.lake), release.versions[0].id
    verdict = release_verdict.to_pandas()
    if (about := verdict["release_id"].iloc[0]) != release_id:
        raise ReleaseError(
            f"the verdict is on release {about[:SHORT]}, the newest is {release_id[:SHORT]}: "
            "materialize release_verdict"
        )
    reasons = verdict.loc[verdict["outcome"] == "failed", "text"].tolist()
    known = Known(
        release_id, not reasons, reasons, release_verdict.versions[0].id,
        against=verdict["incumbent"].iloc[0],
    )  # fmt: skip
    releases.judged(known, f"run {run_id}")
    reason = releases.offer(release_id, f"run {run_id}")
    served = releases.state().live
    report.texts |= {"served": served[:SHORT], "reason": reason}
    if served and (problem := follow(project)):
        report.texts["index"] = problem
    return pd.DataFrame(
        {
            "release_id": [release_id],
            "standing": ["held back" if reason else "served"],
            "reason": [reason],
            "served_id": [served],
        }
    )


@dg.asset_check(
    asset=served_release.asset,
    name="promoted",
    blocking=False,
    description="Warns when the newest release is held back; people keep the one they have.",
)
def promoted(project: Project) -> dg.AssetCheckResult:
    line = project.lake.newest("served_release").to_pandas().iloc[0]
    return dg.AssetCheckResult(
        passed=bool(line["standing"] == "served"),
        severity=dg.AssetCheckSeverity.WARN,
        description=line["reason"] or f"release {line['release_id'][:SHORT]} is served",
        metadata={
            "release": line["release_id"],
            "served": line["served_id"],
            "history": history(Releases(project.lake).state()),
        },
    )


def history(state: State) -> dg.TableMetadataValue:
    """The newest lines of the log of releases, newest first, as the UI shows them."""
    columns = [dg.TableColumn(name) for name in ("at (UTC)", "release", "what", "who", "why")]
    records = [
        dg.TableRecord(
            {
                "at (UTC)": e.at[:16].replace("T", " "), "release": e.release_id[:SHORT],
                "what": e.action, "who": e.who[:SHORT], "why": e.why,
            }
        )
        for e in reversed(state.log[-HISTORY:])
    ]  # fmt: skip
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@table_asset(
    tables.DRIFT,
    group=GROUP,
    kinds=["lightgbm", "duckdb"],
    config=("seed",),
    sql=["ranking/ranking_features"],
)
def drift(
    interactions: Snapshot,
    fits: Snapshot,
    rankers: Snapshot,
    candidates: Snapshot,
    items: Snapshot,
    cutoffs: Snapshot,
    grains: Grains,
    shop: Shop,
    warehouse: Warehouse,
    report: Report,
) -> pd.DataFrame:
    """How far windowed features and scores of the live candidates are from the training windows'.

    Compared are all candidates of a few hundred users who took something in the 28 days before: at
    the windows the live rankers learned from, and now. Counts over a whole history grow by
    themselves and are left out, and so is what looks further back than half of what was known at
    the first window, and what tells too few users, items or types apart.
    """
    plan = fits.to_pandas()
    learned = sorted(plan.loc[plan["target"] == "live", "window_as_of"])
    windows = [part_name(w) for w in learned]
    as_of = cutoff_of(cutoffs, "live")
    live = part_name(as_of) if as_of is not None else ""

    habits = {
        part: grains["user_features"].to_pandas(["user_id", "user_takes_28"], part)
        for part in (*windows, live)
        if part
    }
    people = watch.people(habits, live, shop.seed)
    if live not in people or len(people) == 1:
        report.texts["drift"] = "no label window with users, or nobody now: nothing to compare"
        return pd.DataFrame(columns=watch.DRIFT_COLUMNS)
    first = pd.Timestamp(pc.min(interactions.to_arrow(["event_time"])["event_time"]).as_py())
    history_days = (learned[0] - first).days
    models = served_models(rankers.to_pandas(), "live")

    def looked_at(part: str) -> tuple[dict[str, int], dict[str, dict[str, np.ndarray]]]:
        """Features and scores of the candidates of a sample of users, and what they are about."""
        proposed = rows_of(candidates, part, people[part])
        tables_at = tables_of(grains, part, people[part])
        frame = join_features(warehouse, proposed, items.paths(), tables_at)
        scores = {
            name: ranker.score(model, _of_task(frame, model.task)).astype(float)
            for name, model in models.items()
        }
        columns = {"feature": watch.windowed_columns(frame, history_days), "score": scores}
        return watch.told_apart(frame), columns

    *before, (counts, now) = side_by_side(people, looked_at)
    # Windows are about much the same items and users: together they know no more of them than one.
    earlier = {about: max(known[about] for known, _ in before) for about in counts}
    limit = shop.releases.health.psi
    found = [
        watch.drift(
            {name: np.concatenate([at[kind][name] for _, at in before]) for name in now[kind]},
            now[kind],
            kind,
            (earlier, counts),
            limit,
        )
        for kind in ("feature", "score")
    ]
    table = pd.concat([f for f in found if len(f)] or found[:1], ignore_index=True)
    report.numbers |= {f"psi {n}": v for n, v in zip(table["name"], table["psi"], strict=True)}
    report.numbers["shifted"] = int((table["psi"] > limit).sum())
    return table


def _of_task(frame: pa.Table, task: ranker.Task) -> pa.Table:
    return frame.filter(pa.array(ranker.in_task(frame["ui_seen"].to_numpy() > 0, task)))


@table_asset(tables.DATA_HEALTH, group=GROUP, kinds=["python", "pandas"], config=("releases",))
def data_health(
    raw_interactions: Snapshot,
    interactions: Snapshot,
    items: Snapshot,
    recommendations: Snapshot,
    cutoffs: Snapshot,
    shop: Shop,
    report: Report,
) -> pd.DataFrame:
    """Whether the data of late are like those before: volume, popularity, new values, gaps; whether
    the catalogue knows what they are about; and whether the lists still come from the candidates.
    """
    as_of = live_cutoff(cutoffs)
    columns = ["item_id", "event_time", "counts_as_taken", *watch.NULLABLE]
    delivered = interactions_as_of(raw_interactions, as_of, ["item_id", "event_time"])
    since = as_of - pd.Timedelta(days=watch.RECENT_DAYS)
    delivered = delivered.filter(pc.greater_equal(delivered["event_time"], since))
    table = watch.measure(
        interactions_as_of(interactions, as_of, columns).to_pandas(),
        items.to_pandas(["item_id", *watch.LEVELS, "status", "available_from", "available_to"]),
        recommendations.to_pandas(["placement", "item_id", "policy"]),
        delivered["item_id"].to_pandas(),
        as_of,
        shop.releases.health,
    )
    for line in table.to_dict("records"):
        report.numbers[f"{line['measure']} {line['subject']}"] = float(line["value"])
    return table.astype({"usual": "float64", "limit": "float64", "healthy": "boolean"})


@dg.asset_check(
    asset=drift.asset,
    name="calm",
    blocking=False,
    description="Warns when a windowed feature or a score has shifted since training.",
)
def calm(project: Project) -> dg.AssetCheckResult:
    limit = project.shop.releases.health.psi
    table = project.lake.newest("drift").to_pandas()
    texts = watch.shifted(table, limit)
    return dg.AssetCheckResult(
        passed=not texts,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"shifted (index above {limit:g}): {', '.join(texts)}" if texts else "calm",
        metadata={
            "shifted": len(texts),
            "largest index": float(table["psi"].max()) if len(table) else 0.0,
        },
    )


@dg.asset_check(
    asset=data_health.asset,
    name="healthy",
    blocking=False,
    description="Warns when the data of late are unlike those before.",
)
def healthy(project: Project) -> dg.AssetCheckResult:
    table = project.lake.newest("data_health").to_pandas()
    texts = watch.unhealthy(table)
    return dg.AssetCheckResult(
        passed=not texts,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(texts) or "healthy",
        metadata={
            f"{line['measure']} {line['subject']}": float(line["value"])
            for line in table.to_dict("records")
        },
    )


WARNINGS: list[dg.AssetChecksDefinition] = [promoted, calm, healthy]
"""Checks that tell and never block."""


def assets(upstream: Sequence[GatedAsset]) -> list[GatedAsset]:
    """The stage's assets. A release names every asset of `upstream` but the studies, which are made
    once a week, from what there was then, and which nothing that is shown depends on."""
    part = [g for g in upstream if CADENCE not in g.asset.tags_by_key[g.asset.key]]
    return [drift, data_health, _release(part), _verdict(part), served_release]
