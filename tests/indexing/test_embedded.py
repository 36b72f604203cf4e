"""The embedded index: graphs beyond the exact limit, damaged files, and death at any moment."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys_assets.core.settings.index import Index as Settings
from recsys_assets.indexing import embedded
from recsys_assets.indexing.contract import (
    UnavailableError,
    UnknownReleaseError,
    VectorIndexError,
)
from recsys_assets.indexing.embedded import EmbeddedIndex
from recsys_assets.indexing.objects import Filter
from recsys_assets.indexing.verify import recall
from tests.indexing import shop
from tests.indexing.shop import publish, query, release_of

ROOT = Path(__file__).parents[2]


def test_beyond_the_exact_limit_graphs_answer_and_filters_do_not_cost_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SEGMENT_ROWS", 1500)
    index = EmbeddedIndex(tmp_path, Settings(exact_up_to=600))
    first = shop.crowd(4000)
    index.build(release_of(first), first)
    objects = shop.crowd(4000, changed=range(0, 40), gone=range(50, 90))
    release = release_of(objects)
    made = index.build(release, objects)
    assert made.written == 40
    graphs = [s.graph for s in index._manifest(release.id).segments]
    assert sum(g is not None for g in graphs) == 3, "the small new segment needs none"
    queries = query(*shop.directions(60, seed=9))
    for where in (Filter(), Filter(category="row 3"), Filter(max_price=20.0)):
        assert recall(index, release.id, objects, queries, 10, where) > 0.97, where
    found = {i for hits in index.nearest(release.id, queries, 100) for i in hits.item_ids}
    assert not found & {f"i{i:05d}" for i in range(50, 90)}, "deleted objects came back"


def test_a_release_made_in_many_small_steps_is_written_again_as_few_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "MOST_SEGMENTS", 4)
    index = EmbeddedIndex(tmp_path)
    for n in range(8):
        objects = shop.crowd(200, changed=range(n))
        index.build(release_of(objects), objects)
        assert len(index._manifest(release_of(objects).id).segments) <= 4
    near = objects.vectors[3]
    hits = index.nearest(release_of(objects).id, query(near), 10)[0]
    assert hits.item_ids == shop.exact(objects, near, 10)


def test_words_are_weighed_over_living_rows_only(tmp_path: Path) -> None:
    """A deleted row stays in its segment; a release answers as one built from nothing does."""
    ids = [f"i{n}" for n in range(8)]
    texts = ["pasta", "pasta sauce", *["bread and butter"] * 5, "pasta " * 9]
    first = shop.make(ids, shop.axes(8), text=texts)
    second = first.take(range(7))
    index, fresh = EmbeddedIndex(tmp_path / "synced"), EmbeddedIndex(tmp_path / "fresh")
    index.build(release_of(first), first)
    assert index.build(release_of(second), second).deleted == 1
    fresh.build(release_of(second), second)
    release = release_of(second).id
    for text in ("pasta", "sauce butter"):
        assert index.matching(release, text, 9) == fresh.matching(release, text, 9)
    once, twice = (index.matching(release, text, 9) for text in ("pasta", "pasta pasta"))
    assert np.allclose(twice.scores, 2 * np.array(once.scores)), "a word said twice weighs double"


def test_a_flipped_bit_anywhere_is_noticed_before_anything_is_parsed(tmp_path: Path) -> None:
    objects = shop.crowd(50)
    release = release_of(objects)
    index = EmbeddedIndex(tmp_path)
    index.build(release, objects)
    index.activate(release.id)
    files = [*(tmp_path / "files").iterdir(), *(tmp_path / "releases").iterdir()]
    for path in [*files, tmp_path / "active.json"]:
        good = path.read_bytes()
        for at, bit in itertools.product((0, len(good) // 2, len(good) - 1), (1, 0x80)):
            bad = bytearray(good)
            bad[at] ^= bit
            path.write_bytes(bytes(bad))
            fresh = EmbeddedIndex(tmp_path)
            with pytest.raises(VectorIndexError, match="was altered"):
                fresh.count(fresh.active() or "")
        path.write_bytes(good)
    assert EmbeddedIndex(tmp_path).count(release.id) == 50


def test_a_full_disk_is_an_error_with_a_remedy_and_the_old_release_stays(tmp_path: Path) -> None:
    old, new = shop.crowd(60), shop.crowd(60, changed=range(30))
    index = EmbeddedIndex(tmp_path)
    publish(index, old)
    done = _strace(tmp_path, "fsync:error=ENOSPC:when=2", new)
    assert b"free or repair the disk" in done.stderr
    fresh = EmbeddedIndex(tmp_path)
    assert [r.id for r in fresh.releases()] == [release_of(old).id]
    assert fresh.count(release_of(old).id) == 60
    fresh.build(release_of(new), new)
    assert not list((tmp_path / "tmp").iterdir())


def test_two_builders_do_not_mix(tmp_path: Path) -> None:
    objects = shop.crowd(20)
    first, second = EmbeddedIndex(tmp_path), EmbeddedIndex(tmp_path)
    with (
        first._exclusive(),
        pytest.raises(UnavailableError, match="another process is changing the index"),
    ):
        second.build(release_of(objects), objects)


def test_a_reader_whose_release_gave_way_is_told_so(tmp_path: Path) -> None:
    reader, builder = EmbeddedIndex(tmp_path), EmbeddedIndex(tmp_path)
    first, *later = (shop.crowd(60, changed=range(n)) for n in range(4))
    builder.build(release_of(first), first)
    assert reader.count(release_of(first).id) == 60
    for objects in later:
        builder.build(release_of(objects), objects)
    assert reader.count(release_of(first).id) == 60, "what is open stays readable"
    with pytest.raises(UnknownReleaseError, match="materialize vector_index to build it"):
        EmbeddedIndex(tmp_path).count(release_of(first).id)


def test_files_that_may_not_be_read_are_said(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    objects = shop.crowd(20)
    index.build(release_of(objects), objects)
    (tmp_path / "active.json").mkdir()
    with pytest.raises(UnavailableError, match="free or repair the disk"):
        index.active()


BUILDER = """
import sys
from pathlib import Path
from recsys_assets.indexing.embedded import EmbeddedIndex
from tests.indexing import shop
objects = shop.crowd(60, changed=range(int(sys.argv[2])))
release = shop.release_of(objects)
index = EmbeddedIndex(Path(sys.argv[1]))
index.build(release, objects)
index.activate(release.id)
"""


def _strace(folder: Path, inject: str, objects: shop.Objects) -> subprocess.CompletedProcess[bytes]:
    """Build and activate `objects` (crowd(60, changed=range(30))) in another, troubled process."""
    strace = "/usr/bin/strace"
    if not Path(strace).exists():
        pytest.skip("strace is not installed: apt-get install strace")
    call = inject.split(":")[0]
    return subprocess.run(
        [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}",
         sys.executable, "-c", BUILDER, str(folder), "30"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip


def _killed_at(start: Path, folder: Path, call: str, nth: int) -> bool:
    """Kill a build and activation at the nth such call and check the invariants; whether it got
    through without reaching that call."""
    shutil.copytree(start, folder)
    old, new = shop.crowd(60), shop.crowd(60, changed=range(30))
    done = _strace(folder, f"{call}:signal=SIGKILL:when={nth}", new)
    index = EmbeddedIndex(folder)
    active = index.active()
    wanted = {release_of(old).id: old, release_of(new).id: new}
    assert active in wanted, f"killed at {call} {nth}"
    for release in index.releases():
        stored = index.fetch(release.id, [f"i{n:05d}" for n in range(60)])
        assert stored.hashes == wanted[release.id].hashes.to_pylist(), f"killed at {call} {nth}"
        assert np.allclose(stored.vectors, wanted[release.id].vectors)
    publish(index, new)
    assert index.active() == release_of(new).id
    named = {name for m in index._manifests() for name in m.files}
    assert {p.name for p in (folder / "files").iterdir()} == named, "orphans stayed"
    assert not list((folder / "tmp").iterdir())
    return done.returncode == 0


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "index"
    objects = shop.crowd(60)
    index = EmbeddedIndex(folder)
    publish(index, objects)
    return folder


@pytest.mark.parametrize(("call", "nth"), [("fsync", 3), ("rename", 5), ("fsync", 13)])
def test_killed_while_building_or_activating_the_alias_names_a_complete_release(
    start: Path, tmp_path: Path, call: str, nth: int
) -> None:
    _killed_at(start, tmp_path / "index", call, nth)


@pytest.mark.faults
@pytest.mark.parametrize("call", ["fsync", "rename", "unlink"])
def test_killed_at_every_call_the_alias_names_a_complete_release(
    start: Path, tmp_path: Path, call: str
) -> None:
    for nth in range(1, 40):
        if _killed_at(start, tmp_path / str(nth), call, nth):
            assert nth > 1 or call == "unlink"
            return
    pytest.fail("the builder never got through: raise the number of calls tried")
