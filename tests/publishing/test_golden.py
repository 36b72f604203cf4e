"""What an earlier program released is read as it was written, or refused by its format (row 28)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from recsys_assets.core import lake
from recsys_assets.core.lake import FORMAT, CorruptFileError, Lake, LakeError
from recsys_assets.publishing.releases import Releases
from recsys_assets.publishing.serving import Served
from recsys_assets.ranking import ranker
from tests.faults.invariants import torn, unservable
from tests.publishing import golden

FORMATS = sorted(path.name for path in golden.FOLDER.iterdir())


@pytest.fixture(params=FORMATS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden release: reading takes locks."""
    return Path(shutil.copytree(golden.FOLDER / request.param, tmp_path / "home"))


def differs(home: Path) -> list[str]:
    """What a golden home does not say any more."""
    releases = Releases(Lake(home / "lake"))
    expected = json.loads((home / golden.EXPECTED).read_text(encoding="utf-8"))
    assert set(releases.state().stack) == set(expected)
    return [
        f"{release_id[:12]} {name}"
        for release_id, was in expected.items()
        for name, now in golden.read(releases, release_id).items()
        if now != was[name]
    ]


def test_todays_format_has_its_golden_release() -> None:
    assert f"format-{FORMAT}" in FORMATS


def test_a_golden_release_is_whole_and_says_what_it_said(home: Path) -> None:
    store = Lake(home / "lake")
    assert torn(store) == unservable(store) == differs(home) == []
    served = Served.open(store)
    lists, known = served.lists("u1")
    assert known and lists["item_id"].tolist() == ["i2", "007"]
    assert (served.as_of.isoformat(), served.title("007")) == ("2024-05-06T00:00:00+00:00", "x")
    Releases(store).rollback(why="the first one was better")
    assert Served.open(store).lists("u1")[0]["item_id"].tolist() == ["i1", "007"]


def test_a_golden_release_of_another_format_is_refused_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake, "FORMAT", 99)
    with pytest.raises(LakeError, match=r"manifest has format \d+, this program reads 99"):
        Served.open(Lake(home / "lake"))


def test_every_changed_byte_of_a_golden_release_is_noticed(home: Path) -> None:
    store = Lake(home / "lake")
    stack = Releases(store).state().stack
    for path in sorted([*store.root.glob("objects/*/*.parquet"), *store.root.glob("manifests/*")]):
        good = path.read_bytes()
        path.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
        with pytest.raises((CorruptFileError, LakeError)):
            for release_id in stack:
                Releases(store).check(release_id, deep=True)
        path.write_bytes(good)


@pytest.mark.parametrize("change", ["a score", "a text"])
def test_a_program_that_reads_something_else_would_be_noticed(
    change: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "a score":
        real = ranker.to_matrix
        monkeypatch.setattr(ranker, "to_matrix", lambda *given: np.nan_to_num(real(*given)))
    else:
        monkeypatch.setattr(golden, "repr", str, raising=False)
    assert differs(home)
