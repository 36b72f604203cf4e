"""The graph at several sizes of the same shop: seconds and memory by asset, and how they grow.

Belongs here: running the ordinary graph in a fresh process and home per size, stopping it when its
time is up, and the table. Does not belong here: making the larger shop (`larger_shop.py`), reading
what a run recorded (`steps.py`).

Usage: python -m benchmarks.scale --out FOLDER [--factors 1 3 10] [--until candidates]
                                  [--minutes 30]
       python -m benchmarks.scale --out FOLDER --table      prints what was measured, runs nothing
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import larger_shop
from benchmarks.steps import Step, scoring_rate, write

LEAST_SECONDS = 1.0
"""An asset that takes less at the smallest size has no exponent worth telling."""


def measure(folder: Path, factor: int, until: str | None, minutes: float | None) -> str:
    """Run one size, as far as it comes within its time; how it ended. Numbers go to x<factor>.json.

    `minutes` None = no limit. A run that was stopped leaves what it had finished, and the next one
    goes on from there: what it finds unchanged keeps the numbers of when it was made.
    """
    place = folder / f"x{factor}"
    shop = place / "shop.yaml"
    if not shop.exists():
        larger_shop.write(place, factor)
    environment = os.environ | {"RECSYS_HOME": str(place / "home"), "RECSYS_SHOP": str(shop)}
    command = [sys.executable, "-W", "ignore", "-m", "dagster_project.cli", "run"]
    if until:
        command += ["--select", f"*{until}_quality"]
    ended = "measured"
    run = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        code = run.wait(None if minutes is None else minutes * 60)
        if code:
            ended = f"stopped by an error (exit code {code}; see above)"
    except subprocess.TimeoutExpired:
        ended = f"stopped after {minutes:g} minutes"
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGTERM)
            run.wait()
    numbers = folder / f"x{factor}.json"
    before = _steps(numbers) if numbers.exists() else {}
    reading = [sys.executable, "-W", "ignore", "-m", "benchmarks.steps", "--json", numbers]
    read = subprocess.run(reading, env=environment, check=False, stdout=subprocess.DEVNULL)
    if read.returncode:
        return f"nothing was measured: {ended}"
    write(merged(before, _steps(numbers)), numbers)
    (folder / f"x{factor}.end").write_text(ended, encoding="utf-8")
    return ended


def measured(folder: Path) -> dict[int, dict[str, Step]]:
    """Factor -> asset -> what it cost, of every size that was run."""
    return {
        int(file.stem[1:]): _steps(file)
        for file in sorted(folder.glob("x*.json"), key=lambda path: int(path.stem[1:]))
    }


def _steps(file: Path) -> dict[str, Step]:
    return {name: Step(**step) for name, step in json.loads(file.read_text("utf-8")).items()}


def merged(before: dict[str, Step], now: dict[str, Step]) -> dict[str, Step]:
    """What was measured in several goes: of an asset that was not made again, when it was made."""
    made = {name: before.get(name, step) if step.reused else step for name, step in now.items()}
    return {**before, **made}


def exponent(costs: dict[int, float]) -> float | None:
    """The slope of log(cost) over log(factor): 1 = linear, 2 = quadratic. None with one size."""
    if len(costs) < 2 or min(costs.values()) <= 0:
        return None
    return float(np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0])


def _together(steps: dict[str, Step], names: set[str]) -> Step:
    """What these assets cost, one after the other."""
    some = [steps[name] for name in names]
    return Step(
        seconds=sum(step.all_seconds for step in some),
        cpu_seconds=sum(step.all_cpu_seconds for step in some),
        peak_megabytes=max((step.peak_megabytes for step in some), default=0.0),
    )


def growth_table(sizes: dict[int, dict[str, Step]]) -> str:
    """Seconds of processor and peak megabytes per asset and size, with the exponents; `together`
    is what was measured at every size."""
    factors = sorted(sizes)
    everywhere = set.intersection(*(set(steps) for steps in sizes.values()))
    sizes = {f: {"together": _together(s, everywhere), **s} for f, s in sizes.items()}
    heading = "".join(f"{f'x{f} s':>9}{'cpu s':>9}{'MB':>8}" for f in factors)
    lines = [f"{'asset':<28}{heading}{'cpu^':>7}{'MB^':>6}"]
    last = sizes[factors[-1]]

    def weight(name: str) -> float:
        return max(s[name].all_cpu_seconds for s in sizes.values() if name in s)

    for name in sorted({name for s in sizes.values() for name in s}, key=weight, reverse=True):
        cells = ""
        for factor in factors:
            step = sizes[factor].get(name)
            if step is None:
                cells += f"{'-':>9}{'-':>9}{'-':>8}"
                continue
            cells += (
                f"{step.all_seconds:>9.1f}{step.all_cpu_seconds:>9.1f}{step.peak_megabytes:>8,.0f}"
            )
        done = {f: sizes[f][name] for f in factors if name in sizes[f]}
        slope = exponent({f: s.all_cpu_seconds for f, s in done.items()})
        memory = exponent({f: s.peak_megabytes for f, s in done.items()})
        long = weight(name) >= LEAST_SECONDS and slope is not None and memory is not None
        lines.append(
            f"{name:<28}{cells}" + (f"{slope:>7.2f}{memory:>6.2f}" if long else f"{'-':>7}{'-':>6}")
        )
    absent = sorted({name for s in sizes.values() for name in s} - set(last))
    if absent:
        lines.append(f"not measured at x{factors[-1]}: {', '.join(absent)}")
    lines += [f"x{factor}: {scoring_rate(sizes[factor])}" for factor in factors]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of shops and numbers")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--until", help="the last asset to make; default: the whole graph")
    parser.add_argument("--minutes", type=float, help="the longest one size may take")
    parser.add_argument("--table", action="store_true", help="print what was measured before")
    given = parser.parse_args()
    for factor in [] if given.table else given.factors:
        ended = measure(given.out, factor, given.until, given.minutes)
        print(f"x{factor}: {ended}")
    sizes = measured(given.out)
    if not sizes:
        raise SystemExit(f"nothing was measured yet in {given.out}")
    print(growth_table(sizes))
    for factor in sizes:
        note = given.out / f"x{factor}.end"
        print(f"x{factor}: {note.read_text('utf-8') if note.exists() else 'measured'}")


if __name__ == "__main__":
    main()
