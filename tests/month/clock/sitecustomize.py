"""Python runs this at its start when its folder is on PYTHONPATH: `now` is what a file says.

The file ($SIMULATED_CLOCK) holds the seconds by which the simulated time is ahead of the real one.
Time goes on at its own pace between two changes; monotonic clocks and waiting are not touched.
Servers that end when nobody asked for 30 seconds are told to be patient: a day passes in a leap.
"""

import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import grpc._channel
import grpc._cython.cygrpc
import grpc._server
import time_machine

PAUSE = 0.1


def _ahead(file: Path) -> float:
    return float(file.read_text())


def _follow(file: Path, known: float, traveller: time_machine.Traveller) -> None:
    while file.exists():
        time.sleep(PAUSE)
        try:
            now = _ahead(file)
        except FileNotFoundError:
            return  # the month is over
        if now != known:
            known = now
            traveller.move_to(time_machine.escape_hatch.time.time() + known)


def _leave_out_grpc() -> None:
    """gRPC hands deadlines to code in C, which looks at the machine's clock: so must it."""
    real = ModuleType("time")
    vars(real).update(vars(time))
    real.time = time_machine.escape_hatch.time.time  # type: ignore[attr-defined]
    for module in (grpc._channel, grpc._cython.cygrpc, grpc._server):
        module.time = real


def _be_patient(arguments: list[str]) -> None:
    if "--heartbeat-timeout" in arguments:
        arguments[arguments.index("--heartbeat-timeout") + 1] = "1000000"


def start(file: Path) -> None:
    """Live by the clock in `file` from now on."""
    ahead = _ahead(file)
    traveller = time_machine.travel(time.time() + ahead, tick=True).start()
    _leave_out_grpc()
    threading.Thread(target=_follow, args=(file, ahead, traveller), daemon=True).start()


if "SIMULATED_CLOCK" in os.environ:
    _be_patient(sys.argv)
    start(Path(os.environ["SIMULATED_CLOCK"]))
