"""Other people's recommenders on the same events, split and users, scored by our metrics.

Belongs here: handing the events over, choosing a peer's settings on the tune target, scoring, the
ratios. Does not belong here: the peers (`peer_models.py`, which runs in an environment of its own).

A peer gets everything that was taken before the cutoff, and the users who then took something; its
settings are chosen on the tune target and measured once on the evaluate target. Ours is the
`evaluation_lists` of the finished run in RECSYS_HOME.

Usage: RECSYS_HOME=... python -m benchmarks.peers [--python .venv-peers/bin/python] [--search]
       [--json FILE]
"""

import argparse
import itertools
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from benchmarks.steps import newest_steps
from dagster_project import resources
from recsys_assets.core.config import Shop
from recsys_assets.core.cutoffs import interactions_as_of
from recsys_assets.core.lake import Lake, NotApprovedError
from recsys_assets.core.metrics import per_user_metrics
from recsys_assets.evaluation.reading import (
    OURS,
    first_places,
    measured_cutoff,
    people_of,
    relevant_at,
)

K = 10
TASKS = ("all", "new")
GRID = [
    {"factors": 64, "regularization": 20.0, "alpha": 2.0},
    *(
        {"factors": f, "regularization": r, "alpha": a}
        for f, r, a in itertools.product((32, 128), (5.0, 50.0), (1.0, 10.0))
    ),
]
TUNED = {"all": GRID[0], "new": GRID[0]}
"""Settings used without `--search`, which finds the same on the tune target of the default data
(docs/benchmarks.md). They came into `GRID` from the tuning of our own retriever `als`, also there;
the rest of the grid surrounds them."""
MODELS = ("implicit ALS", "RecTools two-stage")
SCRIPT = Path(__file__).parent / "peer_models.py"


def hand_over(lake: Lake, shop: Shop, folder: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Write what the peers read; target -> task -> what users then took."""
    interactions, cutoffs, labels = map(lake.served, ("interactions", "cutoffs", "labels"))
    relevant = {}
    for target in ("tune", "evaluate"):
        as_of = measured_cutoff(cutoffs, labels, target)
        if as_of is None:
            raise SystemExit(f"the data are too short for the target {target}: nothing to compare")
        relevant[target] = relevant_at(labels, interactions, as_of, shop)
        columns = ["user_id", "item_id", "event_time", "counts_as_taken", "polarity"]
        events = interactions_as_of(interactions, as_of, columns).to_pandas()
        events = events[events["counts_as_taken"] & (events["polarity"] > 0)]
        events = events[columns[:3]].assign(as_of=as_of)
        events.astype({"user_id": "str", "item_id": "str"}).to_parquet(
            folder / f"{target}-events.parquet"
        )
        people_of(relevant[target]).to_frame("user_id").to_parquet(
            folder / f"{target}-users.parquet"
        )
    return relevant


def run_peer(
    python: Path, folder: Path, target: str, model: str, settings: dict[str, Any], depth: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """(task, user_id, item_id, rank), (seconds, cpu_seconds, peak_megabytes) of one peer."""
    environment = {"OPENBLAS_NUM_THREADS": "1", "PATH": os.environ.get("PATH", "")}
    command = [python, SCRIPT, folder, target, model, json.dumps(settings), str(depth)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{model} failed on {target}:\n{done.stderr[-2000:]}")
    lists = pq.read_table(folder / "lists.parquet").to_pandas()
    return lists, json.loads((folder / "cost.json").read_text(encoding="utf-8"))


def scores(lists: pd.DataFrame, relevant: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Mean NDCG@10 and recall@10 per task of `relevant`, over everybody who took something."""
    found = {}
    for task in (task for task in TASKS if task in relevant):
        own = lists.loc[lists["task"] == task, ["user_id", "item_id", "rank"]]
        means = per_user_metrics(own[own["rank"] <= K], relevant[task], (K,))
        found |= {f"{m} {task}": float(means[f"{m}@{K}"].mean()) for m in ("ndcg", "recall")}
    return found


def ours(lake: Lake, relevant: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Our two rows, a mean over the seeds that were run; none when no run got that far."""
    try:
        stored = lake.served("evaluation_lists")
    except NotApprovedError:
        return []
    lists = {task: first_places(stored, task, K) for task in TASKS}
    steps = newest_steps()
    fresh = bool(steps) and not any(step.reused for step in steps.values())
    cost = {
        "seconds": sum(s.all_seconds for s in steps.values()),
        "cpu_seconds": sum(s.all_cpu_seconds for s in steps.values()),
        "peak_megabytes": max(s.peak_megabytes for s in steps.values()),
    }
    return [
        {"model": model, **over_seeds(lists, model, relevant), **(cost if fresh else {})}
        for model in OURS
    ]


def over_seeds(
    lists: dict[str, pd.DataFrame], model: str, relevant: dict[str, pd.DataFrame]
) -> dict[str, float]:
    """Metrics of a model per task, a mean over the seeds of that task: each counts its own."""
    found: dict[str, float] = {}
    for task, rows in lists.items():
        own = rows[rows["model"] == model].assign(task=task)
        per_seed = [scores(of_seed, {task: relevant[task]}) for _, of_seed in own.groupby("seed")]
        found |= pd.DataFrame(per_seed).mean().to_dict()
    return found


def tuned(
    python: Path, folder: Path, relevant: dict[str, pd.DataFrame]
) -> dict[str, dict[str, Any]]:
    """Task -> the ALS settings with the best NDCG@10 on the tune target."""
    trials = []
    for settings in GRID:
        lists, _ = run_peer(python, folder, "tune", MODELS[0], settings, K)
        found = scores(lists, relevant)
        trials.append({"settings": settings, **found})
        print(f"  tune {settings}: all {found['ndcg all']:.4f} new {found['ndcg new']:.4f}")
    return {
        task: max(trials, key=lambda trial: trial[f"ndcg {task}"])["settings"] for task in TASKS
    }


def compared(rows: list[dict[str, Any]]) -> str:
    """The table, and ours over each peer."""
    lines = [
        f"{'model':<32}{'NDCG@10 all':>12}{'R@10 all':>10}{'NDCG@10 new':>12}{'R@10 new':>10}"
        f"{'seconds':>9}{'cpu s':>8}{'peak MB':>9}"
    ]
    for row in rows:
        cost = (
            f"{row['seconds']:>9.0f}{row['cpu_seconds']:>8.0f}{row['peak_megabytes']:>9,.0f}"
            if "seconds" in row
            else f"{'?':>9}{'?':>8}{'?':>9}"
        )
        lines.append(
            f"{row['model']:<32}{row['ndcg all']:>12.4f}{row['recall all']:>10.4f}"
            f"{row['ndcg new']:>12.4f}{row['recall new']:>10.4f}{cost}"
        )
    mine = next((row for row in rows if row["model"] == "ours"), None)
    for row in rows if mine else []:
        if row["model"] in OURS:
            continue
        time = f", {mine['seconds'] / row['seconds']:.1f}x its time" if "seconds" in mine else ""
        lines.append(
            f"ours / {row['model']}: {mine['ndcg all'] / row['ndcg all']:.2f}x NDCG@10 on `all`, "
            f"{mine['ndcg new'] / row['ndcg new']:.2f}x on `new`{time}"
        )
    if mine is None:
        lines.append("ours: no finished run in RECSYS_HOME; `make run` first")
    elif "seconds" not in mine:
        lines.append("ours: the newest run reused tables, so its time says nothing")
    else:
        lines.append(
            "Ours is the whole graph: raw files to released lists, three targets, every gate and "
            "the scoreboard. A peer is one fit and the lists of one target."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--search", action="store_true", help="search the peers' settings anew")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    project = resources.project()
    lake = project.lake
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        relevant = hand_over(lake, project.shop, folder)
        best = tuned(given.python, folder, relevant["tune"]) if given.search else TUNED
        rows = ours(lake, relevant["evaluate"])
        for model in MODELS:
            for task in TASKS if best["all"] != best["new"] else TASKS[:1]:
                lists, cost = run_peer(given.python, folder, "evaluate", model, best[task], 100)
                found = scores(lists, relevant["evaluate"])
                suffix = f", set for {task}" if best["all"] != best["new"] else ""
                rows.append({"model": model + suffix, **found, **cost, "settings": best[task]})
    print(compared(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
