"""Files that are there whole or not at all, whatever ends the process or the machine.

Belongs here: making what was written durable, and giving it its final name in one step. Does not
belong here: what a file holds, and who may write it (locks).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from shutil import copymode


def publish(path: Path, target: Path) -> None:
    """Make `path` durable, then give it its final name in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    path.replace(target)
    sync_folder(target.parent)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write what is to be `target`, which changes in one step at the end, or not at all.
    The permissions of a file that was there before stay; what processes that were killed had
    written of it is removed."""
    start = f".{target.stem}.recsys-"
    for left in target.parent.glob(f"{escape(start)}*{escape(target.suffix)}"):
        process = left.name.removeprefix(start).removesuffix(target.suffix)
        if process.isdigit() and not Path("/proc", process).exists():
            left.unlink(missing_ok=True)
    temporary = target.with_name(f"{start}{os.getpid()}{target.suffix}")
    try:
        yield temporary
        if target.exists():
            copymode(target, temporary)
        publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: of files that were created, renamed or removed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
