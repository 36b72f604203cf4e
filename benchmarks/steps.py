"""Where a run spends its time: seconds per step of the newest run, longest first.

Usage: RECSYS_HOME=... python benchmarks/steps.py
"""

from dagster_project.runs import open_instance, prepare_home


def main() -> None:
    prepare_home()
    instance = open_instance()
    runs = instance.get_runs(limit=1)
    if not runs:
        raise SystemExit("there is no run yet: start with `recsys run`")
    stats = instance.get_run_step_stats(runs[0].run_id)
    done = [(s.end_time - s.start_time, s.step_key) for s in stats if s.start_time and s.end_time]
    print(
        f"run {runs[0].run_id} ({runs[0].status.value}), {sum(t for t, _ in done):.0f} s in steps"
    )
    for seconds, step in sorted(done, reverse=True):
        print(f"{seconds:8.1f}  {step}")


if __name__ == "__main__":
    main()
