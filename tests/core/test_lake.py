"""The lake keeps its last good version whatever happens to a newer one."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from recsys_assets.core.assets import Project
from recsys_assets.core.garbage import garbage
from recsys_assets.core.lake import (
    BusyError,
    CorruptFileError,
    Lake,
    LakeError,
    NotApprovedError,
    Version,
    VersionKey,
)


def key(code: str = "c") -> VersionKey:
    return VersionKey(code=code, config="", libraries="", inputs={})


def put(lake: Lake, value: int, *, partition: str = "", approve: bool = True) -> Version:
    version = lake.store(
        "numbers", [("", pa.table({"x": [value]}))], key(str(value)), partition=partition
    )
    lake.propose([version])
    if approve:
        lake.approve([version])
    return version


def values(lake: Lake) -> list[int]:
    return lake.read("numbers").to_arrow()["x"].to_pylist()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_nothing_can_be_read_before_approval(lake: Lake) -> None:
    put(lake, 1, approve=False)
    with pytest.raises(NotApprovedError, match="has not been audited yet"):
        lake.read("numbers")
    with pytest.raises(NotApprovedError, match="no approved version"):
        lake.served("numbers")


def test_an_unaudited_successor_blocks_readers_but_not_serving(lake: Lake) -> None:
    put(lake, 1)
    put(lake, 2, approve=False)
    with pytest.raises(NotApprovedError, match="did not run to the end"):
        lake.read("numbers")
    assert lake.served("numbers").to_arrow()["x"].to_pylist() == [1]


def test_a_rejection_names_its_reasons_and_a_repair_clears_it(lake: Lake) -> None:
    put(lake, 1)
    bad = put(lake, 2, approve=False)
    lake.reject(bad, ["x: is null (3 rows)"])
    with pytest.raises(NotApprovedError, match=r"x: is null \(3 rows\)"):
        lake.read("numbers")
    put(lake, 3)
    assert values(lake) == [3]


def test_a_broken_check_is_told_apart_from_bad_data(lake: Lake) -> None:
    version = put(lake, 1, approve=False)
    lake.reject(version, ["ZeroDivisionError: division by zero"], broken=True)
    with pytest.raises(NotApprovedError, match="quality check itself failed: ZeroDivisionError"):
        lake.read("numbers")


def test_approving_a_version_that_was_overtaken_is_refused(lake: Lake) -> None:
    first = put(lake, 1, approve=False)
    put(lake, 2, approve=False)
    with pytest.raises(BusyError, match="newer version was written"):
        lake.approve([first])


def test_rejecting_a_version_that_was_overtaken_says_nothing_of_the_newer_one(lake: Lake) -> None:
    first = put(lake, 1, approve=False)
    second = put(lake, 2)
    lake.reject(first, ["x: is null"])
    entry = lake.entries("numbers")[""]
    assert (entry.candidate, entry.current, entry.verdict) == (second.id, second.id, "approved")


def test_a_file_that_was_cut_is_not_intact(lake: Lake) -> None:
    version = put(lake, 1)
    assert lake.intact(version.id) == version
    path = lake.object_path(version.files[0].sha256, "parquet")
    path.write_bytes(path.read_bytes()[:-1])
    assert lake.intact(version.id) is None


def test_where_a_candidate_is_lost_what_is_current_stays_and_may_be_read(lake: Lake) -> None:
    """As an erasure leaves a pointer whose newest version cannot be redacted."""
    first = put(lake, 1)
    second = put(lake, 2, approve=False)
    lake.repoint("numbers", {}, {second.id}, str)
    assert values(lake) == [1]
    lake.repoint("numbers", {}, {first.id}, str)
    assert lake.entries("numbers") == {}


def test_parts_are_read_one_by_one_or_in_the_order_of_their_names(lake: Lake) -> None:
    for partition, value in (("2024-01-02", 3), ("2024-01-01", 1)):
        parts = [(name, pa.table({"x": [value + n]})) for n, name in enumerate("ab")]
        version = lake.store("numbers", parts, key(), partition=partition)
        lake.propose([version])
        lake.approve([version])
    snapshot = lake.read("numbers")
    assert snapshot.to_arrow()["x"].to_pylist() == [1, 2, 3, 4]
    backwards = lake.of_version(*reversed(snapshot.versions))
    assert backwards.to_arrow(part="b")["x"].to_pylist() == [2, 4]
    with pytest.raises(LakeError, match=r"no part 'c'; it has \['a', 'b'\]"):
        snapshot.to_arrow(part="c")


def test_rows_of_one_value_are_found_in_every_part_or_in_one(lake: Lake) -> None:
    parts = [
        ("a", pa.table({"who": ["ann", "bob"], "x": [1, 2]})),
        ("b", pa.table({"who": ["bob", "ann"], "x": [3, 4]})),
    ]
    snapshot = lake.of_version(lake.store("numbers", parts, key()))
    assert snapshot.where("who", "ann").to_pydict() == {"who": ["ann", "ann"], "x": [1, 4]}
    assert snapshot.where("who", "ann", "b", ["x"]).to_pydict() == {"x": [4]}
    assert snapshot.where("who", "nobody").schema == parts[0][1].schema


def test_replacing_a_partition_touches_no_other(lake: Lake) -> None:
    put(lake, 1, partition="2024-01-01")
    kept = put(lake, 2, partition="2024-01-02")
    put(lake, 9, partition="2024-01-01")
    assert values(lake) == [9, 2]
    assert lake.entries("numbers")["2024-01-02"].current == kept.id


def test_parts_are_one_version_in_whatever_order_they_come_and_of_one_schema(lake: Lake) -> None:
    a, b = pa.table({"x": [1]}), pa.table({"x": [2]})
    first = lake.store("numbers", [("a", a), ("b", b)], key())
    assert lake.store("numbers", [("b", b), ("a", a)], key()).id == first.id
    kept = [f for f in first.files if f.part == "a"]
    again = lake.store("numbers", [("b", b)], key(), kept=kept, kept_from=first)
    assert again.id == first.id
    with pytest.raises(LakeError, match="part 'b' has other columns"):
        lake.store("numbers", [("b", b.rename_columns(["y"]))], key(), kept=kept, kept_from=first)


def test_one_bad_partition_blocks_unless_tolerated_and_then_its_last_good_state_is_read(
    lake: Lake,
) -> None:
    put(lake, 1, partition="2024-01-01")
    put(lake, 2, partition="2024-01-02")
    bad = put(lake, 99, partition="2024-01-02", approve=False)
    lake.reject(bad, ["x: has maximum 99"])
    with pytest.raises(NotApprovedError, match=r"numbers\[2024-01-02\] was rejected"):
        values(lake)
    tolerant = lake.read("numbers", tolerated_partitions=1)
    assert tolerant.to_arrow()["x"].to_pylist() == [1, 2]


def test_a_table_without_partitions_is_never_tolerated(lake: Lake) -> None:
    put(lake, 1)
    lake.reject(put(lake, 99, approve=False), ["x: has maximum 99"])
    with pytest.raises(NotApprovedError, match="numbers was rejected"):
        lake.read("numbers", tolerated_partitions=1)


def test_a_table_of_which_no_partition_was_ever_approved_is_not_read_as_nothing(lake: Lake) -> None:
    put(lake, 1, partition="2024-01-01", approve=False)
    with pytest.raises(NotApprovedError, match="has not been audited yet"):
        lake.read("numbers", tolerated_partitions=1)


@pytest.mark.parametrize("text", ['{"": {"candi', '{"": {"bandidate": "1"}}', '{"": 1}', "[]"])
def test_a_damaged_pointer_is_an_error_that_says_what_to_do(lake: Lake, text: str) -> None:
    put(lake, 1)
    (lake.root / "pointers" / "numbers.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"numbers.json is damaged .* materialize numbers"):
        lake.read("numbers")


def test_equal_content_has_one_identity_and_other_code_another_version(lake: Lake) -> None:
    table = pa.table({"x": [1, 2]})
    first = lake.store("numbers", [("", table)], key("a"))
    second = lake.store("numbers", [("", table)], key("b"))
    assert first.content_id == second.content_id
    assert first.id != second.id


def test_every_flipped_bit_of_a_file_is_noticed_before_it_is_parsed(lake: Lake) -> None:
    version = put(lake, 1)
    path = lake.object_path(version.files[0].sha256, "parquet")
    good = path.read_bytes()
    for position in range(0, len(good), max(1, len(good) // 25)):
        flipped = bytearray(good)
        flipped[position] ^= 1
        path.write_bytes(bytes(flipped))
        with pytest.raises(CorruptFileError, match="was altered"):
            values(lake)
    path.write_bytes(good)
    assert values(lake) == [1]


def test_an_altered_manifest_is_refused(lake: Lake) -> None:
    version = put(lake, 1)
    path = lake.root / "manifests" / f"{version.id}.json"
    path.write_bytes(path.read_bytes().replace(b'"rows":1', b'"rows":2'))
    with pytest.raises(CorruptFileError, match="manifest"):
        values(lake)


def test_a_manifest_of_another_format_is_refused_with_the_remedy() -> None:
    with pytest.raises(LakeError, match="format 99"):
        Version.from_json(b'{"format": 99}')


def test_garbage_collection_keeps_what_a_pointer_names(lake: Lake) -> None:
    put(lake, 1)
    put(lake, 2)
    put(lake, 3, approve=False)
    found = garbage(lake, ())
    size = sum(p.stat().st_size for p in lake.root.rglob("*") if p.is_file())
    assert found.remove() == found.bytes > 0
    assert size - sum(p.stat().st_size for p in lake.root.rglob("*") if p.is_file()) == found.bytes
    assert garbage(lake, ()).bytes == 0
    assert lake.served("numbers").to_arrow()["x"].to_pylist() == [2]
    assert lake.candidates("numbers")[0].rows == 1


def test_garbage_collection_keeps_protected_versions_that_no_pointer_names(lake: Lake) -> None:
    old = put(lake, 1)
    put(lake, 2)
    garbage(lake, [old.id]).remove()
    assert lake.of_version(lake.version(old.id)).to_arrow()["x"].to_pylist() == [1]


WRITER = """
import sys, pyarrow as pa
from pathlib import Path
from recsys_assets.core.lake import Lake, VersionKey
lake = Lake(Path(sys.argv[1]))
key = VersionKey(code="2", config="", libraries="", inputs={})
version = lake.store("numbers", [("", pa.table({"x": list(range(50_000))}))], key)
lake.propose([version])
lake.approve([version])
"""


def test_kill_at_every_fsync_of_a_write_leaves_a_complete_version(tmp_path: Path) -> None:
    strace = "/usr/bin/strace"
    if not Path(strace).exists():
        pytest.skip("strace is not installed: apt-get install strace")
    lake = Lake(tmp_path)
    put(lake, 1)
    for nth in range(1, 13):
        done = subprocess.run(
            [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync",
             "-e", f"inject=fsync:signal=SIGKILL:when={nth}", sys.executable, "-c", WRITER,
             str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=False, capture_output=True,
        )  # fmt: skip
        rows = lake.served("numbers").rows
        assert rows in (1, 50_000), f"killed at fsync {nth}"
        lake.sweep()
        assert not list((tmp_path / "tmp").iterdir()), f"stray files after fsync {nth}"
        if done.returncode == 0:
            break
    else:
        pytest.fail("the writer never got through: raise the number of fsyncs tried")
    assert lake.read("numbers").rows == 50_000


def _write_many(root: str, value: int) -> None:
    """Twenty times: a table that both write, and a partition that nobody else writes."""
    lake = Lake(Path(root))
    for turn in range(20):
        both = lake.store("numbers", [("", pa.table({"x": [value] * 1000}))], key(f"{value}"))
        own = lake.store("days", [("", pa.table({"x": [turn]}))], key(), partition=f"{value}")
        lake.propose([both])
        lake.propose([own])
        lake.approve([own])
        try:
            lake.approve([both])
        except BusyError:
            continue


def test_two_writers_never_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(tmp_path), v)) for v in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    lake = Lake(tmp_path)
    assert set(lake.served("numbers").to_arrow()["x"].to_pylist()) in ({1}, {2})
    assert lake.read("days").to_arrow()["x"].to_pylist() == [19, 19], "each has its last"


def test_who_reads_holds_off_a_deletion_and_needs_a_file_that_may_only_be_read(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    with lake.reading() as stream:
        assert not stream.writable()
        with pytest.raises(BusyError, match="still reads"), lake.undisturbed(0):
            pass
    with lake.undisturbed(0):
        pass


def test_the_run_lock_refuses_a_second_run_and_dies_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from recsys_assets.core.lake import Lake\n"
        "with Lake(Path(sys.argv[1])).exclusive('run 17'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match="run 17"), Lake(tmp_path).exclusive("run 18"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Lake(tmp_path).exclusive("run 18"):
        pass


@pytest.mark.parametrize("tags", [{"dagster/schedule_name": "daily"}, {"dagster/sensor_name": "x"}])
def test_what_a_clock_started_waits_for_whoever_holds_the_lake(
    project: Project, tags: dict[str, str]
) -> None:
    @dg.op(required_resource_keys={"project"})
    def work(context: dg.OpExecutionContext) -> None:
        context.log.info(context.resources.project.lake.holder())

    @dg.job(resource_defs={"project": project.get_resource_definition()})
    def job() -> None:
        work()

    held, free = threading.Event(), threading.Event()

    def clean_up() -> None:
        with project.lake.exclusive("a clean-up"):
            held.set()
            free.wait(30)

    other = threading.Thread(target=clean_up)
    other.start()
    assert held.wait(30)
    try:
        with pytest.raises(dg.DagsterError) as caught:
            job.execute_in_process()
        assert isinstance(caught.value.__cause__, BusyError)
        threading.Timer(0.6, free.set).start()
        assert job.execute_in_process(tags=tags).success
        assert free.is_set()
    finally:
        free.set()
        other.join()
