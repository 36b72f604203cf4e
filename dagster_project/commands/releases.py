"""`recsys releases`, `promote`, `rollback`, `unpin`, `freeze`, `unfreeze`, `trace`.

Belongs here: arguments and layout. Does not belong here: what a release is and which one is served
(`recsys_assets.publishing`).
"""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table as Grid
from rich.text import Text

from dagster_project import resources
from dagster_project.console import Console
from recsys_assets.core.lake import Lake
from recsys_assets.publishing.releases import (
    ROLLED_BACK,
    SHORT,
    Known,
    ReleaseError,
    Releases,
    State,
)
from recsys_assets.publishing.serving import Served

Why = Annotated[str, typer.Option("--why", help="Kept in the log, for those who come after you.")]
out = Console()

_SERVES = ("promoted", ROLLED_BACK, "redacted")
"""Beginnings of the actions in the log after which another release is served."""


def register(app: typer.Typer) -> None:
    """Add this topic's commands."""
    for command in (releases, promote, rollback, unpin, freeze, unfreeze, trace):
        app.command()(command)


def _releases() -> Releases:
    return Releases(Lake(resources.home() / "lake"))


def releases(
    log: Annotated[bool, typer.Option("--log", help="Also who did what, when and why.")] = False,
) -> None:
    """Every release that is kept: what it was made of, how it was judged, which one is served."""
    store = _releases()
    state = store.state()
    grid = Grid(title="Releases, newest last")
    for heading in ("release", "data up to", "measured", "gate"):
        grid.add_column(heading, no_wrap=True)
    grid.add_column("state", overflow="fold")
    whys = []
    for known in state.known:
        manifest = store.manifest(known.release_id)
        grid.add_row(
            known.release_id[:SHORT],
            manifest.facts["as_of"].removesuffix("T00:00Z"),
            "\n".join(f"{name} {value:.4f}" for name, value in manifest.metrics.items()),
            Text("passed", "green") if known.passed else Text("blocked", "red"),
            _standing(state, known.release_id),
        )
        whys += [f"{known.release_id[:SHORT]}: {reason}" for reason in known.reasons]
    out.print(grid)
    for why in whys:
        out.print(why, highlight=False, soft_wrap=True)
    for held, word, remedy in (
        (state.pinned, "Pinned", "unpin"), (state.frozen, "Frozen", "unfreeze")
    ):  # fmt: skip
        if held:
            out.print(f"{word}: {held} (`recsys {remedy}` lifts it)", style="yellow")
    if log:
        for entry in state.log:
            what = f"{entry.at}  {entry.who}  {entry.action}  {entry.release_id[:SHORT]}"
            before = f" (before: {entry.before[:SHORT]})" if entry.before else ""
            why = f": {entry.why}" if entry.why else ""
            out.print(what + before + why, highlight=False, soft_wrap=True)


def _standing(state: State, release_id: str) -> str:
    if release_id == state.live:
        return "served, pinned" if state.pinned else "served"
    if release_id in state.stack:
        return f"served before ({state.stack[::-1].index(release_id)} back)"
    return ""


def promote(
    release: Annotated[
        str | None, typer.Argument(help="Beginning of its id; default: the newest that passed.")
    ] = None,
    why: Why = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="Although its gate blocked it.")] = False,
) -> None:
    """Serve RELEASE from now on. Lifts a pin; refused while releases are frozen."""
    started, store = time.monotonic(), _releases()
    state = store.state()
    if release is None:
        passed = [k.release_id for k in state.known if k.passed and not k.withdrawn]
        if not passed:
            raise ReleaseError(
                "no release passed its gate: name the one you mean (`recsys releases`)"
            )
        release = passed[-1]
    store.promote(store.resolve(release), why=why, anyway=anyway)
    _say(store, state.live, started)


def rollback(
    steps: Annotated[int, typer.Argument(help="How many promotions to go back.")] = 1,
    why: Why = "",
) -> None:
    """Serve what was served before, at once, and pin it: no schedule undoes it until `unpin`.

    Repeated after it was cut off, it goes no further back than was meant, and says so."""
    started, store = time.monotonic(), _releases()
    state = store.state()
    if cut := state.cut():
        before = cut.before
        out.print(
            f"The rollback of {cut.at} by {cut.who} is done, but was cut off before it said so: "
            "nothing more is changed. Say it again to go further back.",
            style="yellow", soft_wrap=True,
        )  # fmt: skip
    else:
        before = state.live
        store.rollback(steps, why=why)
    _say(store, before, started)
    store.told()


def unpin(why: Why = "") -> None:
    """Let the next release that passes its gate be served again."""
    _releases().unpin(why=why)
    out.print("Unpinned: the next release that passes its gate will be served.")


def freeze(why: Why = "") -> None:
    """Nothing is promoted, by schedule or by hand, until `unfreeze`. A rollback stays possible."""
    _releases().freeze(why=why)
    out.print("Frozen: nothing is promoted until `recsys unfreeze`.")


def unfreeze(why: Why = "") -> None:
    """Lift `freeze`."""
    _releases().unfreeze(why=why)
    out.print("Unfrozen: the next release that passes its gate will be served.")


def trace(
    user_id: Annotated[str, typer.Argument(help="Id of the user.")],
    item_id: Annotated[str, typer.Argument(help="Id of an item that the user is served.")],
    placement: Annotated[
        str | None,
        typer.Option(help="On this list; default: for_you, else discover, else buy_again."),
    ] = None,
    features: Annotated[int, typer.Option(help="So many of the ranker's features.")] = 15,
) -> None:
    """Where a served recommendation comes from: release, scores, features, models, versions."""
    from recsys_assets.publishing import trace as tracing

    project = resources.project()
    served = Served.open(project.lake)
    found = tracing.trace(served, project.warehouse, user_id, item_id, placement)
    facts = served.manifest.facts
    out.print(f"release   {found.release_id}", highlight=False)
    for name in ("as_of", "build_id", "recipe"):
        out.print(f"{name:<9} {facts[name]}", highlight=False)
    shown = ("placement", "rank", "score", "policy", "propensity", "retrievers", "reason")
    for name in shown:
        out.print(f"{name:<9} {found.row[name]}", highlight=False)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in sorted(found.scores.items()))
    out.print(f"scores    {scores}", highlight=False)
    if found.note:
        out.print(f"no features: {found.note}", style="yellow")
    else:
        out.print("The ranker's score was computed again from this release, and is the same.")
        grid = Grid(title="What the ranker saw, and what each feature added")
        for heading, side in (("feature", "left"), ("value", "right"), ("adds", "right")):
            grid.add_column(heading, justify=side)  # type: ignore[arg-type]
        for line in found.features[:features]:
            value = "" if line.value is None else f"{line.value:.4g}"
            grid.add_row(line.feature, value, f"{line.amount:+.4f}")
        out.print(grid)
    out.print("Made of, back to the raw data:")
    for name, version in found.made_of.items():
        out.print(f"  {name:<26}{version}", highlight=False)
    libraries = ", ".join(f"{name} {version}" for name, version in found.libraries.items())
    out.print(f"by {libraries}", highlight=False)


def print_served(lake: Lake, console: Console) -> None:
    """One paragraph on what is served and how old it is."""
    store = Releases(lake)
    state = store.state()
    if not state.live:
        console.print("Nothing is served yet: start with `recsys run`.")
        return
    manifest = store.manifest(state.live)
    since = next(
        e.at
        for e in reversed(state.log)
        if e.release_id == state.live and e.action.startswith(_SERVES) and e.before != state.live
    )
    hours = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() / 3600
    how_long = f"for {hours:.1f} hours"
    if hours < 0:
        how_long = f"since {since}, which is still to come by this machine's clock"
    console.print(
        f"Served: release {state.live[:SHORT]}, data up to {manifest.facts['as_of']}, {how_long}."
    )
    newest = state.known[-1]
    if newest.release_id != state.live:
        reasons = "; ".join(newest.reasons) or _held(state, newest)
        console.print(f"A newer one, {newest.release_id[:SHORT]}, is not: {reasons}")


def _held(state: State, newest: Known) -> str:
    """Why a release that passed its gate is not served."""
    if newest.withdrawn:
        return f"it was rolled back ({newest.withdrawn})"
    if state.frozen:
        return f"releases are frozen ({state.frozen}): `recsys unfreeze` lifts it"
    if state.pinned:
        return f"another is pinned ({state.pinned}): `recsys unpin` lifts it"
    return "it waits for the end of its run, or for `recsys promote`"


def _say(store: Releases, before: str, started: float) -> None:
    from recsys_assets.publishing.alias import follow

    seconds = time.monotonic() - started
    live = store.state().live[:SHORT]
    out.print(f"Served: {live}, before: {before[:SHORT] or 'nothing'} ({seconds:.3f} s).")
    if problem := follow(resources.project()):
        out.print(problem, style="yellow")
