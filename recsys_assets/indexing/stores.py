"""Which vector index a project uses, and which release of it the lake has approved.

Belongs here: choosing and opening a store, and the two calls that publishing makes. Does not belong
here: what any store does.
"""

import os
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from recsys_assets.core.assets import Project
from recsys_assets.core.lake import Lake, NotApprovedError, Snapshot
from recsys_assets.indexing.contract import VectorIndex, VectorIndexError
from recsys_assets.indexing.tables import VECTOR_INDEX

API_KEY = "WEAVIATE_API_KEY"
RELEASE = "release"
"""Key of the release id among the texts of the asset's report."""


def open_index(project: Project, part: str = "") -> VectorIndex:
    """The store of `project`, connected. The caller closes it.

    `part` names an index of its own in the same store, for work that is not served.
    """
    match project.vector_store:
        case "embedded":
            from recsys_assets.indexing.embedded import EmbeddedIndex

            home = Path(project.home)
            root = home / "index_parts" / part if part else home / "index"
            return EmbeddedIndex(root, project.shop.index)
        case "weaviate":
            from recsys_assets.indexing.weaviate import WeaviateIndex

            return WeaviateIndex(
                project.weaviate_url,
                project.weaviate_grpc_port,
                os.environ.get(API_KEY),  # read when needed and kept in no configuration
                f"{project.shop.name}_{part}" if part else project.shop.name,
                project.shop.index,
            )
    raise VectorIndexError(
        f"RECSYS_VECTOR_STORE is {project.vector_store!r}: set it to embedded or weaviate"
    )


def release_of(version: Snapshot) -> str:
    """The index release that a version of `vector_index` stands for."""
    return str(version.report()["texts"][RELEASE])


def approved_release(lake: Lake) -> str | None:
    """The index release of the last approved version of `vector_index`, if there is one."""
    try:
        return release_of(lake.served(VECTOR_INDEX.name))
    except NotApprovedError:
        return None


def activate(project: Project, release_id: str) -> None:
    """Point the store's alias at a release: what promoting and rolling back call. Idempotent."""
    with closing(open_index(project)) as index:
        index.activate(release_id)


def active(project: Project) -> str | None:
    """The release that the store's alias names."""
    with closing(open_index(project)) as index:
        return index.active()


def unnamed(project: Project, named: Collection[str]) -> tuple[list[str], int]:
    """Index releases that are neither `named` nor the alias's, and the bytes they take."""
    if project.vector_store == "embedded" and not (Path(project.home) / "index").exists():
        return [], 0
    with closing(open_index(project)) as index:
        served = index.active()
        found = [r.id for r in index.releases() if r.id not in named and r.id != served]
        return found, index.freed_by(found)


def drop(project: Project, release_ids: Collection[str]) -> None:
    """Remove index releases; VectorIndexError if one of them has become the alias's."""
    with closing(open_index(project)) as index:
        for release_id in release_ids:
            index.drop(release_id)
