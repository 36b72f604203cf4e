"""Which source of data a shop has, and what is known of each of its files.

Belongs here: the description of one file, the error a source raises, where an installed package
keeps its files, and the choice of the adapter. Does not belong here: what a source does
(`tabular.TabularSource`), the layout of any.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recsys_assets.core.config import Shop
from recsys_assets.core.digests import file_sha256
from recsys_assets.core.erasures import FOLDER as ERASURES
from recsys_assets.core.erasures import Erasures

if TYPE_CHECKING:
    from recsys_assets.ingestion.tabular import TabularSource

Role = Literal["interactions", "items", "users", "exposures", "promotions", "onboarding_answers"]


class SourceError(ValueError):
    """A file that cannot be landed at all; the text names the file, what is wrong, what to do.

    Raised before anything is written. A single bad *row* never raises: it becomes a reject.
    """


def package_folder(package: str, otherwise: str) -> Path:
    """Where an installed package lies, without importing it. Raises SourceError, which says what
    can be done otherwise."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SourceError(f"the package {package} is not installed; install it, or {otherwise}")
    return Path(spec.origin).parent


@dataclass(frozen=True, order=True)
class SourceFile:
    """One physical file. `name` is how people know it; see `name_of`."""

    role: Role
    name: str
    path: Path
    sha256: str
    size: int
    arrived: datetime | None = None
    """When a watched folder delivered it: what "in the future" is measured from."""
    history: bool = False
    """Whether its name is part of the shop's first data, in which no event is late."""
    since: datetime | None = None
    """When a watched folder first delivered a file of its name: what "late" is measured from, so
    that a corrected file keeps the rows that its predecessor had."""
    stored: str = field(default="", compare=False)
    """sha256 of its bytes in the archive, if rows of erased users were blanked there. Its own
    `sha256` stays what was delivered: that is what a redelivery is recognised by."""
    blanked: tuple[int, ...] = field(default=(), compare=False)
    """Numbers of those rows."""

    @property
    def batch(self) -> str:
        """The file's content as a short key: equal content is the same batch under any name."""
        return self.sha256[:16]


def open_source(shop: Shop, home: Path | None = None) -> "TabularSource":
    """The source a shop's configuration names. Opens no file yet.

    With `arrival` in the shop file, the source is what was accepted into the archive of `home`;
    without a home, what lies in the folders right now. Of users in the erasure ledger of `home`
    only the places of their rows are read.
    """
    # Imported here because every source module imports this one.
    from recsys_assets.ingestion import atomic, complete_journey, files, movielens

    config = shop.source
    source: TabularSource
    match config.kind:
        case "complete_journey":
            source = complete_journey.complete_journey_source(shop, config)
        case "movielens":
            source = movielens.movielens_source(shop, config)
        case "atomic":
            source = atomic.atomic_source(shop, config)
        case _:
            source = files.files_source(shop, config, home)
    if home is not None:
        source.erased = Erasures(home / ERASURES).erased()
    return source


def name_of(path: Path, root: Path) -> str:
    """How people know a file: relative to the source's folder `root`, as the shop file leads to it
    (`../data/sales.csv`); an absolute path that leads elsewhere is the whole name. Either way
    `root / name` is the file again."""
    inside = path.is_relative_to(root)
    return (path.relative_to(root) if inside else path.absolute()).as_posix()


def describe_file(path: Path, name: str, role: Role) -> SourceFile:
    """Hash one regular file. Its name is kept as text, so it has to be one."""
    if not is_text(name):
        raise SourceError(f"{str(path)!a}: {NOT_TEXT}")
    if not path.is_file():
        raise SourceError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    return SourceFile(role, name, path, sha256_of(path), path.stat().st_size)


NOT_TEXT = "its name is not UTF-8: rename it"


def is_text(name: str) -> bool:
    """Whether a file's name is valid UTF-8 (Python hands over others with surrogates)."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


@contextmanager
def named(file: SourceFile) -> Iterator[None]:
    """An error about a file names it, an archived one as the sender did, and hides no other. Of an
    archived one it says how to be rid of it: taking it out of the folder does nothing."""
    try:
        yield
    except SourceError as error:
        where = str(file.path) if file.arrived is None else file.name
        text = str(error).replace(str(file.path), where)
        text = text if where in text else f"{where}: {text}"
        if file.arrived is not None:
            text += (
                f". {file.name} was taken and is kept, whatever becomes of it in its folder: "
                "deliver that name again, corrected, or without rows to withdraw it"
            )
        raise SourceError(text) from error.__cause__


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes. Raises `SourceError` if it cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}); deliver it again, or let the process read "
            "it, then run again"
        ) from error
