"""A publish that is killed, refused by the disk, short of memory, overtaken by the clock, or done
twice at once (rows 1, 2, 3, 4, 25 and 26).
"""

import json
import random
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from recsys_assets.core import lake
from tests.faults.harness import DIED, STRACE, Fault, Publish

pytestmark = pytest.mark.skipif(not STRACE.exists(), reason="needs strace: apt-get install strace")


@pytest.fixture(scope="module")
def publish(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publish]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_assets.core.assets.release_memory", lambda: None)
        yield Publish(tmp_path_factory.mktemp("publish"))


def test_a_publish_cut_at_a_sample_of_its_system_calls_is_finished_by_the_next(
    publish: Publish,
) -> None:
    before = publish.struck
    for fault in (
        Fault("write", 1, "ENOSPC"),  # the first: a delivered file on its way into the archive
        Fault("write", 1, "SIGKILL"),
        Fault("fsync", 1, "SIGKILL", at="home/arrivals/ledger.jsonl"),
        Fault("write,fsync", 1, "SIGKILL", at="home/lake/pointers"),
    ):
        assert publish.strike(fault) == []
    assert publish.struck == before + 4, "every fault of the sample hits"


def test_a_clock_that_jumps_back_a_day_in_a_publish_changes_nothing(publish: Publish) -> None:
    assert publish.jump(timedelta(days=-1), nth=2) == ([], "")


def test_two_publishes_at_once_end_in_one_result(publish: Publish) -> None:
    assert publish.collide() == []


PARTS = 8
"""So many tests share the points of one effect, so that two processors end at the same time."""


@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("effect", ["SIGKILL", "ENOSPC", "EIO"])
def test_a_publish_cut_at_every_system_call_is_finished_by_the_next(
    publish: Publish, effect: str, part: int
) -> None:
    points, before = publish.points(effect)[part::PARTS], publish.struck
    broken = [what for fault in points for what in publish.strike(fault)]
    struck = publish.struck - before
    print(f"{effect}: {len(points)} points, {struck} hit; {dict(publish.calls)}")  # noqa: T201
    assert broken == []
    # The rest: calls whose error the caller may ignore, and threads that share work differently.
    assert struck >= 0.5 * len(points)


@pytest.mark.faults
def test_a_publish_killed_at_a_hundred_random_moments_is_finished_by_the_next(
    publish: Publish,
) -> None:
    chance = random.Random(7)
    broken = [what for _ in range(100) for what in publish.interrupt(chance.uniform(0, 3))]
    assert broken == []


@pytest.mark.faults
def test_a_publish_with_any_amount_of_memory_is_finished_by_the_next(
    publish: Publish,
) -> None:
    said = {}
    for megabytes in (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 768, 2048):
        broken, said[megabytes] = publish.starve(megabytes)
        assert broken == [], f"{megabytes} MB"
    died = [megabytes for megabytes, text in said.items() if text.startswith(DIED)]
    failed = [megabytes for megabytes, text in said.items() if re.search("(?i)memory|alloc", text)]
    print(f"MB: the run says that memory lacks {failed}, the process ends {died}")  # noqa: T201
    assert failed or died, "no size was too small: the fault never struck"
    assert said[2048] == "", "so much is enough"


@pytest.mark.faults
@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_a_clock_that_jumps_anywhere_in_a_publish_changes_nothing(
    publish: Publish, hours: int
) -> None:
    for nth in range(1, publish.calls["rename"] + 1):
        assert publish.jump(timedelta(hours=hours), nth) == ([], ""), f"at place {nth}"


@pytest.mark.faults
def test_two_publishes_at_once_end_in_one_result_a_hundred_times(publish: Publish) -> None:
    assert [what for _ in range(100) for what in publish.collide()] == []


@pytest.mark.faults
def test_the_checker_sees_a_pointer_that_is_not_replaced_in_one_step(
    publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lake.publish

    def in_two_steps(path: Path, target: Path) -> None:
        if target.parent.name != "pointers":
            return real(path, target)
        data = path.read_bytes()
        with target.open("wb", buffering=0) as stream:
            stream.write(data[: len(data) // 2])
            stream.write(data[len(data) // 2 :])
        path.unlink()

    monkeypatch.setattr(lake, "publish", in_two_steps)
    points = [p for p in publish.points("SIGKILL") if p.call == "write"]
    assert any(publish.strike(fault, check_only=True) for fault in points)


def test_the_checker_sees_every_kind_of_damage_it_is_there_for(publish: Publish) -> None:
    publish.publish_undisturbed()
    assert publish.unsound() == []
    home, store = publish.folder / "home", publish.watch.lake

    (home / "arrivals" / "files" / "tmp-1").write_bytes(b"half")
    assert any("I7" in what for what in publish.unsound())
    (home / "arrivals" / "files" / "tmp-1").unlink()

    ledger = home / "arrivals" / "ledger.jsonl"
    lines = ledger.read_bytes()
    ledger.write_bytes(lines + lines.splitlines(keepends=True)[-1])
    assert any("arrivals are lost or doubled" in what for what in publish.unsound())
    ledger.write_bytes(lines)

    pointer = home / "lake" / "pointers" / "raw_interactions.json"
    good = pointer.read_bytes()
    first = json.loads(good)
    lost = {k: v for k, v in first.items() if not k.startswith("2024-01-05")}
    assert lost != first
    pointer.write_text(json.dumps(lost))
    assert any("I1" in what for what in publish.unsound())
    pointer.write_bytes(good)

    (file,) = store.version(store.entries("landed_rows")[""].current or "").files[:1]
    path = store.object_path(file.sha256, "parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert any("I2" in what for what in publish.unsound())
    path.write_bytes(whole)
    assert publish.unsound() == []
