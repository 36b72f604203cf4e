"""Whatever bytes are delivered: every row is accepted or refused with a reason; none is lost."""

import math
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.core.config import ConfigError, Shop, load_shop
from recsys_assets.ingestion.source import SourceError, SourceFile, open_source
from recsys_assets.ingestion.tabular import TabularSource

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SHOP = """\
name: broken
repeats: true
time_zone: Europe/Berlin
source:
  kind: files
  interactions: {path: "sales.*", event_type: purchase, negative_quantity: return}
  items: {path: items.csv}
partitions: {granularity: day, start: 2024-01-01}
"""
HEADER = "user_id,item_id,event_time,quantity,value,session_id"
GOOD = ["u1", "007", "2024-03-31 01:30:00", "2", "3.50", "b1"]
ODD = (
    "", " ", "NA", "null", "None", "nan", "inf", "-inf", "1e308", "1e999", "-1", "0", "007", "1.0",
    "9007199254740993", "12345678901234567890123", "=cmd|' /C calc'!A0", "@SUM(1)", "\u202e\u202d",
    "😀", "\ufeff", "é", "a\x00b", '"', '""', "'", "\\", "\t", "1970-01-01", "1970-01-01T00:00:00Z",
    "2999-01-01", "1711846800", "1711846800000", "2024-03-31 02:30:00", "2024-10-27 02:30:00",
    "2024-02-30", "2024-02-29", "0000-00-00", "2024-03-31T10:00:00+02:00",
    "2024-03-31T10:00:00+99:00", "31.03.2024", "yesterday", "x" * 5000, "١٢٣", "½", "1,5", "--5",
)  # fmt: skip


def malformed_line(chance: random.Random) -> bytes:
    """A line of a good file after something happened to it. Never blank: that is no row."""
    cells = list(GOOD)
    match chance.randrange(6):
        case 0:
            cells[chance.randrange(6)] = chance.choice(ODD)
        case 1:
            cells = [chance.choice([c, chance.choice(ODD)]) for c in cells]
        case 2:
            cells = cells[: chance.randrange(1, 6)]
        case 3:
            cells += [chance.choice(ODD)] * chance.randrange(1, 4)
        case 4:
            chance.shuffle(cells)
    line = bytearray(",".join(cells).encode())
    if chance.random() < 0.3:
        for _ in range(chance.randrange(1, 5)):
            line[chance.randrange(len(line))] = chance.randrange(256)
    flat = bytes(line).replace(b"\n", b"n").replace(b"\r", b"r")
    return flat if flat.strip(b" \t\x0b\x0c\x00,") else b"u1," + flat


def write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "shop.yaml").write_text(SHOP)
    (folder / "items.csv").write_text("item_id\n007\n")
    (folder / name).write_bytes(data)


def landed(folder: Path) -> tuple[pd.DataFrame, int]:
    source = open_source(load_shop(folder / "shop.yaml"))
    (file,) = [f for f in source.files() if f.role == "interactions"]
    return source.land(file, NOW), source.count_rows(file)


def sound(frame: pd.DataFrame, rows: int) -> None:
    """Every row is there once; an accepted one is usable, a refused one says why."""
    assert len(frame) == rows
    assert frame["row"].is_unique
    good = frame[frame["reject_reason"].isna()]
    for name in ("user_id", "item_id", "event_id", "event_type", "event_time", "quantity"):
        assert good[name].notna().all(), name
    for name in ("quantity", "value"):
        values = good[name].dropna().to_numpy(dtype=float)
        assert np.isfinite(values).all()
    assert good["event_time"].between(pd.Timestamp("2024-01-01", tz="UTC"), NOW).all()
    assert (frame.loc[frame["reject_reason"].notna(), "reject_reason"].str.len() > 3).all()


def csv_files(folder: Path, files: int, lines: int) -> int:
    """Lands `files` files of malformed lines between good ones; how many rows that were."""
    total = 0
    for seed in range(files):
        chance = random.Random(seed)
        body = [malformed_line(chance) for _ in range(lines)]
        good = ",".join(GOOD).encode()
        write(folder, "sales.csv", b"\n".join([HEADER.encode(), good, *body, good]) + b"\n")
        frame, counted = landed(folder)
        assert counted == lines + 2, f"seed {seed}"
        sound(frame, lines + 2)
        assert frame["reject_reason"].iloc[[0, -1]].isna().all(), f"seed {seed}: good rows suffer"
        total += lines
    return total


def parquet_files(folder: Path, files: int) -> int:
    """Damaged Parquet never crashes: it is refused by its reader, or by the gate of `landed_rows`,
    which compares these two counts (the footer has no checksum), or every row is sound; and where
    its pages are damaged, which have checksums, every row is what it was."""
    good = pa.table(
        {
            "user_id": [f"u{n * n}" for n in range(100)],
            "item_id": ["007"] * 100,
            "event_time": pa.array([NOW.replace(tzinfo=None)] * 100, pa.timestamp("us")),
            "quantity": [1.0, math.inf] * 50,
        }
    )
    write(folder, "sales.parquet", b"")
    pq.write_table(good, folder / "sales.parquet", write_page_checksum=True)
    whole = (folder / "sales.parquet").read_bytes()
    undamaged = landed(folder)[0].drop(columns="batch")
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for seed in range(files):
        chance = random.Random(seed)
        data = bytearray(whole)
        if chance.random() < 0.3:
            place = chance.randrange(len(data))
            data = data[:place]
        else:
            place = chance.randrange(len(data))
            data[place] ^= 1 << chance.randrange(8)
        (folder / "sales.parquet").write_bytes(bytes(data))
        try:
            frame, counted = landed(folder)
        except SourceError as error:
            assert "sales.parquet" in str(error)
            continue
        if counted == len(frame):
            sound(frame, counted)
            if place < pages:
                assert frame.drop(columns="batch").equals(undamaged), f"seed {seed}"
    (folder / "sales.parquet").unlink()
    return files


def shop_files(folder: Path, files: int) -> int:
    """A damaged shop file is refused with its name, or is a shop."""
    for seed in range(files):
        chance = random.Random(seed)
        text = bytearray(SHOP.encode())
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(text))
            match chance.randrange(3):
                case 0:
                    text[place] = chance.randrange(256)
                case 1:
                    del text[place : place + chance.randrange(1, 20)]
                case 2:
                    text[place:place] = chance.choice(ODD).encode()
        path = folder / "other.yaml"
        path.write_bytes(bytes(text))
        try:
            assert isinstance(load_shop(path), Shop)
        except ConfigError as error:
            assert "other.yaml" in str(error), f"seed {seed}"
    return files


def test_a_sample_of_malformed_inputs_is_accepted_or_refused_row_by_row(tmp_path: Path) -> None:
    assert csv_files(tmp_path / "csv", files=5, lines=300) == 1500
    assert parquet_files(tmp_path / "parquet", 60) == 60
    assert shop_files(tmp_path / "csv", 100) == 100


def test_a_reader_that_drops_a_row_or_takes_a_bad_one_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TabularSource.land

    def without_the_last_refused(
        source: TabularSource, file: SourceFile, now: datetime
    ) -> pd.DataFrame:
        frame = real(source, file, now)
        refused = frame.index[frame["reject_reason"].notna()]
        return frame.drop(refused[-1:])

    def all_accepted(source: TabularSource, file: SourceFile, now: datetime) -> pd.DataFrame:
        return real(source, file, now).assign(reject_reason=None)

    for sabotage in (without_the_last_refused, all_accepted):
        monkeypatch.setattr(TabularSource, "land", sabotage)
        with pytest.raises(AssertionError):
            csv_files(tmp_path / sabotage.__name__, files=1, lines=100)


@pytest.mark.faults
def test_a_hundred_thousand_malformed_inputs_are_accepted_or_refused_one_by_one(
    tmp_path: Path,
) -> None:
    total = csv_files(tmp_path / "csv", files=92, lines=1000)
    total += parquet_files(tmp_path / "parquet", 4000)
    total += shop_files(tmp_path / "csv", 4000)
    assert total == 100_000
