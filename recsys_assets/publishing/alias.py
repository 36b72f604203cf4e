"""The vector index follows the served release: its alias names the index that release names.

Belongs here: that one step, and which index that is. Does not belong here: which release is served
(the truth, in `releases.py`); an alias that lags behind is put right by the next run.
"""

import fcntl

from recsys_assets.core.assets import Project
from recsys_assets.indexing.contract import UnknownReleaseError, VectorIndexError
from recsys_assets.indexing.stores import activate, active, release_of
from recsys_assets.indexing.tables import VECTOR_INDEX
from recsys_assets.publishing.serving import Served


def follow(project: Project) -> str:
    """Point the store's alias at the served release's index. Returns '' or why it stays behind.

    One process at a time, else what was served before could be named last.
    """
    with (project.lake.root / "locks" / "alias").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        wanted = index_of(Served.open(project.lake))
        if wanted is None:
            return ""
        try:
            if active(project) != wanted:
                activate(project, wanted)
        except UnknownReleaseError:
            return (
                f"the vector index of this release, {wanted}, is kept no longer: `recsys search` "
                "and the index's part of `recsys similar` answer from another release's, until one "
                "is served whose index is there. Raise index.keep to go back as far as this"
            )
        except VectorIndexError as error:
            return f"the alias of the vector index stays where it was: {error}"
    return ""


def index_of(served: Served) -> str | None:
    """The index that a release names; None if it names none."""
    if VECTOR_INDEX.name not in served.manifest.tables:
        return None
    return release_of(served.table(VECTOR_INDEX.name))
