"""A stored file with one bit turned, or cut short, is refused before it is parsed (row 27)."""

import random
from pathlib import Path

import pyarrow as pa
import pytest
from _pytest.outcomes import Failed

from recsys_assets.core.lake import CorruptFileError, Lake
from tests.stored import approved


def damage(root: Path, times: int) -> None:
    """Alters objects and manifests of a small lake `times` times; every one must be noticed."""
    lake = Lake(root)
    for asset, text in (("factors", "x"), ("rankers", "tree\nnum_leaves=3\n")):
        table = pa.table({"id": ["a", "b"], "model": [text, text], "x": [0.5, 1.5]})
        approved(lake, asset, {"1": table, "2": table.slice(1)})
    files = sorted([*root.glob("objects/*/*.parquet"), *root.glob("manifests/*.json"),
                    *root.glob("objects/*/*.json")])  # fmt: skip
    chance = random.Random(7)
    for _ in range(times):
        path = chance.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        if chance.random() < 0.3:
            del bad[chance.randrange(len(bad)) :]
        else:
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(bad))
        with pytest.raises(CorruptFileError):
            for asset in lake.assets():
                snapshot = lake.served(asset)
                snapshot.to_arrow()
                snapshot.report()
        path.write_bytes(good)
    for asset in lake.assets():
        assert lake.served(asset).rows == 3


def test_a_sample_of_altered_files_is_refused(tmp_path: Path) -> None:
    damage(tmp_path, 300)


@pytest.mark.faults
def test_ten_thousand_altered_files_are_refused(tmp_path: Path) -> None:
    damage(tmp_path, 10_000)


def test_files_that_are_not_hashed_when_they_are_read_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unhashed(lake: Lake, asset: str, sha256: str, suffix: str) -> Path:
        return lake.object_path(sha256, suffix)

    monkeypatch.setattr(Lake, "verified_object", unhashed)
    with pytest.raises((Failed, OSError, ValueError)):  # served as if nothing were, or a crash
        damage(tmp_path, 300)
