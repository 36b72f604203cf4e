"""Publishing assets: the release that a run makes, and what becomes of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version as library_version

import dagster as dg
import pandas as pd

from recsys_assets.core.assets import CADENCE, LIBRARIES, GatedAsset, Project, Report, table_asset
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import cutoff_of
from recsys_assets.core.lake import Snapshot, part_name
from recsys_assets.core.quality import Failure
from recsys_assets.publishing import gate, manifest, tables
from recsys_assets.publishing.evidence import Evidence
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
from recsys_assets.ranking.placements import placements

GROUP = "publishing"
MEASURED = "evaluation_lists"
"""The table a recipe is measured by; all it is made of, but the data, is the recipe."""
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
            "recipe": manifest.digest([parts, settings]),
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
        incumbent = Evidence(releases, releases.manifest(before)) if before else None

        def fit_back() -> Snapshot:
            assert incumbent is not None
            return refit(project, steps, incumbent.manifest, run_id)

        shop = project.shop
        promising = [p for p in placements(shop) if p != "buy_again"]
        challenger = Evidence(releases, releases.manifest(release_id))
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
        config=("releases", "evaluation", "placements"),
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
    line = project.lake.of_version(*project.lake.candidates("served_release")).to_pandas().iloc[0]
    return dg.AssetCheckResult(
        passed=bool(line["standing"] == "served"),
        severity=dg.AssetCheckSeverity.WARN,
        description=line["reason"] or f"release {line['release_id'][:SHORT]} is served",
        metadata={"release": line["release_id"], "served": line["served_id"]},
    )


WARNINGS: list[dg.AssetChecksDefinition] = [promoted]
"""Checks that tell and never block."""


def assets(upstream: Sequence[GatedAsset]) -> list[GatedAsset]:
    """The stage's assets. A release names every asset of `upstream` but the studies, which are made
    once a week, from what there was then, and which nothing that is shown depends on."""
    part = [g for g in upstream if CADENCE not in g.asset.tags_by_key[g.asset.key]]
    return [_release(part), _verdict(part), served_release]
