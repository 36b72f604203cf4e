"""Where a run spends its time and its memory: every asset of the newest run, longest first.

Belongs here: reading what a run recorded about itself. Does not belong here: running anything.

Usage: RECSYS_HOME=... python -m benchmarks.steps [--json FILE]
"""

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

from dagster_project import jobs
from dagster_project.runs import open_instance, prepare_home

_MEASURED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
SCORED = "scored_candidates"


@dataclass
class Step:
    """One asset of a run with its gate: seconds by the clock, seconds of processor (over all
    cores), and the most megabytes that the whole process held while it worked."""

    rows: int = 0
    reused: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gate_seconds: float = 0.0
    gate_cpu_seconds: float = 0.0
    peak_megabytes: float = 0.0
    gated: bool = False

    @property
    def all_seconds(self) -> float:
        return self.seconds + self.gate_seconds

    @property
    def all_cpu_seconds(self) -> float:
        return self.cpu_seconds + self.gate_cpu_seconds


def steps_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, Step]:
    """Asset -> what it cost in the run, as far as the run has come."""
    found: dict[str, Step] = defaultdict(Step)
    cursor, more = None, True
    while more:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=_MEASURED, limit=1000)
        cursor, more = page.cursor, page.has_more
        for record in page.records:
            event = record.event_log_entry.dagster_event
            if event is None:
                continue
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                made = event.step_materialization_data.materialization
                metadata = {k: v.value for k, v in made.metadata.items()}
                step = found[made.asset_key.to_user_string()]
                # every partition of one step carries the numbers of the whole step
                step.rows = metadata.get("rows", metadata.get("dagster/row_count", 0))
                step.reused = bool(metadata.get("reused", False))
                step.seconds = metadata.get("seconds", 0.0)
                step.cpu_seconds = metadata.get("cpu seconds", 0.0)
            else:
                result = event.asset_check_evaluation_data
                metadata = {k: v.value for k, v in result.metadata.items()}
                if "cpu seconds" not in metadata:
                    continue  # a warning, not the gate
                step = found[result.asset_key.to_user_string()]
                step.gate_seconds = metadata["seconds"]
                step.gate_cpu_seconds = metadata["cpu seconds"]
                step.gated = True
            peak = metadata.get("peak megabytes", 0.0)
            step.peak_megabytes = max(step.peak_megabytes, peak)
    return dict(found)


def newest_steps() -> dict[str, Step]:
    """The steps of the newest whole run of RECSYS_HOME; empty when there is none."""
    prepare_home()
    instance = open_instance()
    run_id = newest_run(instance)
    return steps_of(instance, run_id) if run_id else {}


def newest_run(instance: dg.DagsterInstance) -> str:
    """The newest run of the main job that succeeded, '' when there is none."""
    whole = dg.RunsFilter(job_name=jobs.MAIN, statuses=[dg.DagsterRunStatus.SUCCESS])
    runs = instance.get_runs(filters=whole, limit=1)
    return runs[0].run_id if runs else ""


def table(steps: dict[str, Step]) -> str:
    """The steps as text, the longest first, with their sum."""
    lines = [
        f"{'asset':<28}{'rows':>12}{'seconds':>10}{'gate s':>9}{'cpu s':>9}{'peak MB':>9}",
        *(
            f"{name:<28}{s.rows:>12,}{s.seconds:>10.1f}{s.gate_seconds:>9.1f}"
            f"{s.all_cpu_seconds:>9.1f}{s.peak_megabytes:>9,.0f}{'  unchanged' * s.reused}"
            for name, s in sorted(steps.items(), key=lambda item: -item[1].all_seconds)
        ),
        f"{'together':<28}{'':>12}{sum(s.seconds for s in steps.values()):>10.1f}"
        f"{sum(s.gate_seconds for s in steps.values()):>9.1f}"
        f"{sum(s.all_cpu_seconds for s in steps.values()):>9.1f}"
        f"{max((s.peak_megabytes for s in steps.values()), default=0.0):>9,.0f}",
    ]
    return "\n".join(lines)


def scoring_rate(steps: dict[str, Step]) -> str:
    """How many user-item rows a second the batch scoring of everybody gets through."""
    step = steps.get(SCORED)
    if step is None or not step.seconds or step.reused:
        return "batch scoring: not done in this run"
    return (
        f"batch scoring of all users: {step.rows:,} user-item rows in {step.seconds:.1f} s = "
        f"{step.rows / step.seconds:,.0f} rows/s with features, every task, every seed "
        f"({step.rows / step.cpu_seconds:,.0f} per second of processor)"
    )


def write(steps: dict[str, Step], file: Path) -> None:
    """As JSON: asset -> its numbers."""
    text = json.dumps({name: asdict(step) for name, step in steps.items()}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    steps = newest_steps()
    if not steps:
        raise SystemExit("there is no run yet: start with `recsys run`")
    print(table(steps))
    print(scoring_rate(steps))
    if given.json:
        write(steps, given.json)


if __name__ == "__main__":
    main()
