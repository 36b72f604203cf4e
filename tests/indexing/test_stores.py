"""Which store a project uses, and that the loss of an index is noticed."""

import shutil
from pathlib import Path

import pytest

from recsys_assets.core.assets import Project
from recsys_assets.indexing import assets, stores
from recsys_assets.indexing.contract import VectorIndexError
from tests.indexing import shop
from tests.indexing.fake_weaviate import FakeWeaviate
from tests.indexing.shop import release_of

OBJECTS = shop.shelf()


def build(project: Project) -> str:
    index = stores.open_index(project)
    index.build(release_of(OBJECTS), OBJECTS)
    index.close()
    return release_of(OBJECTS).id


def test_the_alias_follows_what_is_promoted(project: Project) -> None:
    release = build(project)
    assert stores.active(project) is None
    stores.activate(project, release)
    assert stores.active(project) == release


def test_the_environment_names_the_server_and_the_key_is_in_no_setting(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeWeaviate() as server:
        server.trouble.key = "canary-key"
        monkeypatch.setenv(stores.API_KEY, "canary-key")
        remote = project.model_copy(
            update={
                "vector_store": "weaviate",
                "weaviate_url": server.url,
                "weaviate_grpc_port": server.grpc_port,
            }
        )
        stores.activate(remote, build(remote))
        assert set(server.aliases) == {"Recsys_tiny", f"Recsys_tiny_r_{release_of(OBJECTS).id}"}
        assert "canary-key" not in repr(remote) + assets._store(remote)
        assert assets._store(remote) != assets._store(project)


def test_a_store_that_does_not_exist_is_refused(project: Project) -> None:
    for name, expected in (("redis", "set it to embedded or weaviate"), ("weaviate", "write it")):
        with pytest.raises(VectorIndexError, match=expected):
            stores.open_index(project.model_copy(update={"vector_store": name}))


def test_a_lost_index_makes_the_asset_build_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = build(project)
    monkeypatch.setattr(assets, "approved_release", lambda lake: release)
    before = assets._store(project)
    assert assets._store(project) == before
    shutil.rmtree(Path(project.home) / "index")
    assert f"lost {release}" in assets._store(project)
