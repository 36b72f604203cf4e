"""What a piece of work costs this process, and giving memory back after it.

Belongs here: reading and resetting the process's own accounts. Does not belong here: deciding what
is measured, limits, and anything that reaches the content of a table.
"""

import atexit
import ctypes
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What written to `_RESET` starts the peak anew (`man proc_pid_clear_refs`)."""


@dataclass
class Cost:
    """What one piece of work took: wall-clock seconds, seconds of all processor cores together, and
    the most memory that the whole process held meanwhile, in megabytes (0 where the system does not
    tell, which is everywhere but on Linux)."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_megabytes: float = 0.0

    def as_metadata(self) -> dict[str, float]:
        """For Dagster, which plots numbers over runs."""
        return {
            "seconds": round(self.seconds, 3),
            "cpu seconds": round(self.cpu_seconds, 3),
            "peak megabytes": round(self.peak_megabytes, 1),
        }


@contextmanager
def measured() -> Iterator[Cost]:
    """The cost of what is done inside; complete when the block has ended, also by an exception.

    Not to be nested: the inner one starts the outer one's peak anew.
    """
    cost = Cost()
    with suppress(OSError):  # not permitted in some containers: the peak is then the run's so far
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    wall, cpu = time.monotonic(), time.process_time()
    try:
        yield cost
    finally:
        cost.seconds = time.monotonic() - wall
        cost.cpu_seconds = time.process_time() - cpu
        cost.peak_megabytes = _peak_megabytes()


def _peak_megabytes() -> float:
    if not _STATUS.exists():
        return 0.0
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


_modules = 0
"""How many modules were loaded when what they hold was last set aside."""


def release_memory() -> None:
    """Give freed memory back to the system: a run lives in one process, and its peak is the sum of
    what each step would otherwise keep.

    What imported libraries hold stays for the life of the process, and looking through it takes
    half a second, twice per asset: it is set aside (`gc.freeze`) whenever more was imported.
    """
    global _modules
    gc.collect()
    if len(sys.modules) != _modules:
        if not _modules:
            atexit.register(gc.unfreeze)  # libraries that count what is left at the end find it all
        _modules = len(sys.modules)
        gc.freeze()
    trim()


def trim() -> None:
    """Have the allocators give back what they hold freed, without looking for garbage."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
