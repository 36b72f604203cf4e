"""`recsys`: the command line for people who do not want the UI.

Belongs here: reading arguments and printing. Does not belong here: computing anything; what it
shows it reads from the lake, what it starts it starts in a process of its own (`runs.py`).
"""

import fcntl
import json
import os
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

from dagster_project import resources
from dagster_project.commands import (
    arrivals,
    doctor,
    explain,
    forget,
    onboard,
    releases,
    retention,
    search,
    spend,
)
from dagster_project.console import Console
from recsys_assets.core.config import ConfigError, Shop, load_shop
from recsys_assets.core.journal import JournalError
from recsys_assets.core.lake import Lake, LakeError
from recsys_assets.ingestion.arrivals import LedgerError
from recsys_assets.ingestion.source import SourceError
from recsys_assets.language_model.prices import PriceMissingError
from recsys_assets.publishing.releases import Releases
from recsys_assets.publishing.serving import Served, exported

if TYPE_CHECKING:
    from dagster_project.runs import LaunchedRun

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Recommendations you can trace: run the pipeline, look at it, ask it.",
)
out = Console()
err = Console(stderr=True)


def lake() -> Lake:
    """The lake of $RECSYS_HOME."""
    return Lake(resources.home() / "lake")


@app.command()
def run(
    select: Annotated[
        str | None,
        typer.Option(
            help="Only these steps: 'items*' is items and all after it. The check of a table is a "
            "step of its own, NAME_quality."
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(help="Another job than the main one: weekly, evaluate_cutoffs or tune."),
    ] = None,
) -> None:
    """Run the main job: from the source files to recommendations and their scoreboard."""
    from dagster_project import jobs, runs

    job = job or jobs.MAIN
    if job not in (jobs.MAIN, *jobs.BY_HAND):
        raise typer.BadParameter(
            f"{job!r} is none of {', '.join((jobs.MAIN, *jobs.BY_HAND))}", param_hint="--job"
        )
    from recsys_assets.ingestion.assets import partitions
    from recsys_assets.ranking.recipe import check_models

    shop = load_shop(resources.shop_file())
    check_models(shop)
    _of_one_shop(shop, lake())
    keys = partitions(shop).get_partition_keys()
    if not keys:
        raise LakeError(
            f"the shop's partitions start at {shop.partitions.start}, which is not in the past"
        )
    out.print(f"{shop.name}, state in {resources.home()}", style="bold")
    refused = arrivals.take()
    out.print("Loading the project in a process of its own …", style="dim")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops a run as Ctrl-C does
    launched = runs.launch(select, (keys[0], keys[-1]), job)
    try:
        problems = _followed(launched)
    except KeyboardInterrupt:
        err.print("Stopping the run …")
        launched.stop()
        err.print(f"Stopped (run {launched.run_id or 'not started'}): what it approved stays.")
        raise typer.Exit(130) from None
    finally:
        launched.stop()  # nobody reads our output any more, for example: `recsys run | head -1`
    if not launched.succeeded:
        _print_failed(launched, problems, select, job)
        raise typer.Exit(1)
    from dagster_project import show

    show.green(launched.run_id, lake(), out)
    if not select and job == jobs.MAIN:
        show.scoreboard(lake().served, out)
        show.standing(lake().served("served_release"), Releases(lake()).state().live, out)
        show.warnings(lake().served("recommendations"), out)
        show.waiting(lake(), out)
    arrivals.tell(refused, "Not in this run: ")


def _followed(launched: "LaunchedRun") -> list[tuple[str, str]]:
    """Print the steps of a run as they end; (table, what happened to it) of those that failed."""
    problems: list[tuple[str, str]] = []
    with Bar(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=out,
        transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("starting")
        for event in launched.follow():
            match event.what:
                case "started":
                    bar.reset(task, description=event.asset)
                case "made" | "reused":
                    rows = f"{event.rows:>12,} rows" if event.rows is not None else " " * 17
                    took = f"{event.seconds:7.1f} s" if event.what == "made" else "unchanged"
                    out.print(
                        f"  {event.asset:<26}{rows}  {took}  {event.detail}".rstrip(),
                        soft_wrap=True,
                    )
                case "rejected":
                    text = f" was rejected by its check: {event.detail}"
                    problems.append((event.asset, text))
                case "failed" if event.detail and not event.asset.endswith("_quality"):
                    problems.append((event.asset or "run", f": {event.detail.strip()}"))
    return problems


def _print_failed(
    launched: "LaunchedRun", problems: list[tuple[str, str]], select: str | None, job: str
) -> None:
    """Why the run failed: what its steps said, or else the end of its log."""
    err.print(f"The run failed (run {launched.run_id or 'not started'}).", style="red")
    for problem in _once(problems):
        err.print(f"  • {problem}")
    if not problems:
        text = launched.log.read_text(encoding="utf-8", errors="replace")
        if "DagsterInvalidSubsetError" in text:
            names = "`recsys status` names the tables, the check of each is NAME_quality"
            err.print(f"  • no step of job {job} is meant by {select!r}; {names}")
        else:
            err.print("\n".join(text.splitlines()[-12:]))
    err.print(f"Full log: {launched.log}")


def _of_one_shop(shop: Shop, store: Lake) -> None:
    """Refuse to put the lists of a shop in the place of another one's."""
    releases = Releases(store)
    try:
        live = releases.state().live
        served = json.loads(releases.manifest(live).settings).get("name") if live else None
    except LakeError:
        return  # what is damaged the run repairs or tells
    if served and served != shop.name:
        raise LakeError(
            f"{resources.home()} serves the shop {served!r}, and {resources.shop_file()} describes "
            f"{shop.name!r}: set {resources.HOME} to a folder of its own for each shop, or, if it "
            "is the same shop, give it its old name"
        )


def _once(problems: list[tuple[str, str]]) -> list[str]:
    """(table, what happened to it), each happening told once, of all tables it happened to; of the
    run only where it happened to no table."""
    tables: dict[str, list[str]] = {}
    for table, what in dict.fromkeys(problems):
        tables.setdefault(what, []).append(table)
    return [
        ", ".join([n for n in names if n != "run"] or names) + what
        for what, names in tables.items()
    ]


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on localhost.")] = 3000,
) -> None:
    """Open the Dagster UI on the same graph and the same storage, on localhost only."""
    from dagster_project import runs

    with socket.socket() as probe:  # else a second daemon works here, behind a page that fails
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise typer.BadParameter(
                f"port {port} cannot be had ({error.strerror}): stop the `recsys ui` that may be "
                "running there, or name another port",
                param_hint="--port",
            ) from None
    folder = runs.prepare_home()
    lock = os.open(folder / "ui.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        where = os.read(lock, 99).decode()
        raise LakeError(
            f"a `recsys ui` of {resources.home()} runs already, at {where}: stop it first, else "
            "two daemons work here, and what one starts or tells the other does again"
        ) from None
    os.truncate(lock, 0)
    os.write(lock, f"http://127.0.0.1:{port}".encode())
    os.set_inheritable(lock, True)  # held by what this process becomes, until it ends
    workspace = folder / "workspace.yaml"
    runs.open_instance().dispose()
    command = ["dev", "--workspace", str(workspace), "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "dagster", *command])


@app.command()
def status() -> None:
    """Every table: its state, rows and version; what is served and how old it is."""
    store = lake()
    grid = Grid(title=f"Tables in {store.root}")
    for heading, justify in (("table", "left"), ("state", "left"), ("rows", "right")):
        grid.add_column(heading, justify=justify)  # type: ignore[arg-type]
    grid.add_column("version")
    grid.add_column("problem", overflow="fold")
    for asset in store.assets():
        entries = store.entries(asset)
        bad = {p: e for p, e in entries.items() if e.verdict != "approved"}
        current = [store.version(e.current) for e in entries.values() if e.current]
        state = "approved" if not bad else next(iter(bad.values())).verdict
        problem = "; ".join(r for e in bad.values() for r in e.reasons)[:200]
        version = current[0].id[:12] if len(current) == 1 else f"{len(current)} partitions"
        rows = f"{sum(v.rows for v in current):,}"
        style = "green" if state == "approved" else "red"
        grid.add_row(asset, Text(state, style), rows, version, problem)
    out.print(grid)
    releases.print_served(store, out)
    from dagster_project import show

    show.waiting(store, out)


@app.command()
def scoreboard(
    readme: Annotated[
        Path | None, typer.Option(help="Also write the table into this Markdown file.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the full report here.")] = None,
) -> None:
    """How good the lists are on a period nothing was trained on, beside every baseline."""
    from dagster_project import show

    served = Served.open(lake())
    show.scoreboard(served.table, out)
    if readme is not None:
        show.write_into_markdown(served.table, readme)
    if html is not None:
        page = served.page()
        with show.written(html) as path:
            path.write_text(page, encoding="utf-8")


@app.command()
def recommend(
    user_id: Annotated[str, typer.Argument(help="Id of the user; an unknown one is fine.")],
    exclude: Annotated[list[str] | None, typer.Option(help="Item ids to leave out.")] = None,
    placement: Annotated[str | None, typer.Option(help="Only this placement.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Items per placement.")] = 10,
    rerank: Annotated[
        bool,
        typer.Option(help="Let the language model put `discover` in order; needs a key."),
    ] = False,
) -> None:
    """What to show to USER_ID, placement by placement, with a reason for each item."""
    from dagster_project import show

    served, left_out = Served.open(lake()), frozenset(exclude or ())
    order = show.by_language_model(served, out) if rerank else None
    show.recommendations(served, out, user_id, left_out, placement, n, order)


@app.command()
def similar(
    item_id: Annotated[str, typer.Argument(help="Id of an item of the catalogue.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Items per list.")] = 10,
) -> None:
    """What could replace ITEM_ID, what goes well with it, and what the index finds near it."""
    from dagster_project import show

    show.related(Served.open(lake()), out, item_id, n)
    search.alike(item_id, n)


@app.command()
def export(
    table: Annotated[str, typer.Argument(help="Name of a table, as `recsys status` lists them.")],
    file: Annotated[Path, typer.Argument(help="Where to: a .parquet or .csv file.")],
) -> None:
    """Write a table of the served release to FILE, safe to open in a spreadsheet.

    Of quarantine and rejected_entities the newest version, approved or not.
    """
    from dagster_project import show

    data = exported(lake(), table)
    with show.written(file) as path:
        show.export(data, path)
    out.print(f"{data.num_rows:,} rows of {table} in {file}")


app.command()(explain.explain)
app.command()(onboard.onboard)
app.command()(arrivals.arrivals)
app.command()(doctor.doctor)
app.command()(forget.forget)
app.command()(retention.retention)
app.command()(search.search)
app.command()(spend.spend)
app.command()(search.index)
releases.register(app)


def main() -> None:
    """Entry point: errors people can act on are one line, everything else is a traceback."""
    warnings.filterwarnings("ignore", message=".*is currently in beta")  # Dagster on its own API
    try:
        app()
    except (
        LakeError,
        ConfigError,
        SourceError,
        LedgerError,
        JournalError,
        PriceMissingError,
    ) as error:
        text = str(error)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        return
    err.print(Text("error: ", "red").append(text, "default"), soft_wrap=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
