"""The erasure ledger knows erased users again, and says of nobody who they are."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_assets.core.erasures import ErasureError, Erasures

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_an_erased_user_is_recognised_and_stands_nowhere_in_clear(tmp_path: Path) -> None:
    ledger = Erasures(tmp_path / "erasure")
    assert ledger.erased() is None
    ledger.ask("customer-17", "asked by letter", NOW)
    erased = Erasures(tmp_path / "erasure").erased()
    assert erased is not None
    ids = pa.array(["customer-1", "customer-17", None, "customer-17"])
    assert erased(ids).tolist() == [False, True, False, True]
    assert ledger.among(["customer-1", "customer-17"]) == {"customer-17"}
    for path in ledger.folder.iterdir():
        assert b"customer-17" not in path.read_bytes()
    assert ledger.key_path.stat().st_mode & 0o777 == 0o600


def test_the_same_user_has_another_hash_under_another_key(tmp_path: Path) -> None:
    first = Erasures(tmp_path / "a" / "erasure").ask("u1", "", NOW)
    assert Erasures(tmp_path / "a" / "erasure").ask("u1", "", NOW) == first
    assert Erasures(tmp_path / "b" / "erasure").ask("u1", "", NOW) != first


def test_an_erasure_is_pending_until_a_search_proved_it(tmp_path: Path) -> None:
    ledger = Erasures(tmp_path / "erasure")
    name = ledger.ask("u1", "", NOW)
    assert set(ledger.pending()) == {name}
    ledger.done([name], NOW)
    assert ledger.pending() == {}
    assert ledger.among(["u1"]) == {"u1"}
    ledger.ask("u1", "came back with a backup", NOW)
    assert set(ledger.pending()) == {name}


@pytest.mark.parametrize("key", [None, b"another key of thirty-two bytes.."])
def test_without_its_key_the_ledger_lets_nothing_in(tmp_path: Path, key: bytes | None) -> None:
    ledger = Erasures(tmp_path / "erasure")
    ledger.ask("u1", "", NOW)
    ledger.key_path.unlink()
    if key is not None:
        ledger.key_path.write_bytes(key)
    with pytest.raises(ErasureError, match="restore the"):
        ledger.erased()
    with pytest.raises(ErasureError):
        ledger.ask("u2", "", NOW)


def test_where_users_were_erased_and_the_ledger_is_gone_nothing_is_let_in(tmp_path: Path) -> None:
    """A home that was restored in part: else who was erased would be taken in again."""
    Erasures(tmp_path / "erasure").ask("u1", "", NOW)
    (tmp_path / "erasure").rename(tmp_path / "safe")
    ledger = Erasures(tmp_path / "erasure")
    with pytest.raises(ErasureError, match="users were erased here"):
        ledger.erased()
    with pytest.raises(ErasureError, match="users were erased here"):
        ledger.ask("u2", "", NOW)
    assert ledger.take_over(tmp_path / "safe") == 1
    erased = ledger.erased()
    assert erased is not None and erased(pa.array(["u1"])).tolist() == [True]


def test_no_altered_byte_of_the_ledger_lets_an_erased_user_in_again(tmp_path: Path) -> None:
    Erasures(tmp_path / "erasure").ask("u1", "", NOW)
    whole, refused = (tmp_path / "erasure" / "ledger.jsonl").read_bytes(), 0
    for place in range(len(whole) - 1):  # without its line break it is an unfinished line
        altered = bytearray(whole)
        altered[place] ^= 1
        (tmp_path / "erasure" / "ledger.jsonl").write_bytes(altered)
        try:
            assert Erasures(tmp_path / "erasure").among(["u1"]) == {"u1"}, altered
        except ErasureError:
            refused += 1
    assert refused > 0.9 * len(whole)


def test_a_line_of_an_earlier_program_counts(tmp_path: Path) -> None:
    ledger = Erasures(tmp_path / "erasure")
    ledger.ask("u1", "", NOW)
    record = json.loads(ledger.path.read_bytes())
    del record["seal"]
    ledger.path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert Erasures(tmp_path / "erasure").among(["u1"]) == {"u1"}


def test_a_reason_that_names_the_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ErasureError, match="must not name"):
        Erasures(tmp_path / "erasure").ask("u1", "u1 wrote to us", NOW)


def test_a_restored_home_takes_over_the_erasures_that_its_backup_did_not_know(
    tmp_path: Path,
) -> None:
    kept, restored, empty = (
        Erasures(tmp_path / n / "erasure") for n in ("kept", "restored", "empty")
    )
    kept.ask("u1", "", NOW)
    restored.folder.mkdir(parents=True)
    for path in kept.folder.iterdir():
        (restored.folder / path.name).write_bytes(path.read_bytes())
    kept.ask("u2", "", NOW)
    assert restored.take_over(kept.folder) == 1
    assert restored.take_over(kept.folder) == 0
    assert empty.take_over(kept.folder) == 2
    assert restored.among(["u1", "u2", "u3"]) == empty.among(["u1", "u2"]) == {"u1", "u2"}
    stranger = Erasures(tmp_path / "stranger" / "erasure")
    stranger.ask("u9", "", NOW)
    with pytest.raises(ErasureError, match="another key"):
        stranger.take_over(kept.folder)
