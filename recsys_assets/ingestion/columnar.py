"""Parquet files as raw typed columns, with data row numbers.

Belongs here: opening, projecting, and refusing values that no later step could carry (invalid
UTF-8, NUL, overlong texts). Does not belong here: what a column means, conversion of types.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.ingestion.raw import MAX_ROW_BYTES, RawRows, invalid_utf8
from recsys_assets.ingestion.source import SourceError

_BATCH_ROWS = 1 << 19


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, and every way in which reading it can fail as one error."""
    try:
        with (
            path.open("rb") as stream,
            # In nanoseconds, as INT96 is read otherwise, 9999-12-31 ("for ever") becomes 1816.
            pq.ParquetFile(
                stream, page_checksum_verification=True, coerce_int96_timestamp_unit="us"
            ) as file,
        ):
            yield file
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(
            f"{path}: is not a readable Parquet file ({first_line}); deliver it again"
        ) from error


def read_header(path: Path) -> list[str]:
    """The column names. Raises `SourceError` for a corrupt file and a name that occurs twice."""
    with _opened(path) as file:
        names = list(file.schema_arrow.names)
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise SourceError(
            f"{path}: names {', '.join(map(repr, twice))} more than once; which of them holds the "
            "values cannot be known: rename one"
        )
    return names


def count_rows(path: Path) -> int:
    """Rows according to the file's footer."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def read_rows(path: Path, wanted: Collection[str]) -> Iterator[RawRows]:
    """The file's rows in batches; texts come as large_string, other types as they are.

    A nested column among `wanted`, or one of bytes of a fixed size that are no UUIDs, is a
    `SourceError`.
    """
    names = [name for name in read_header(path) if name in wanted]
    done = 0
    with _opened(path) as file:
        for name in names:
            kind = _plain(file.schema_arrow.field(name).type)
            if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind):
                raise SourceError(f"{path}: column {name!r} is {kind}; expected plain values")
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            columns = {name: batch.column(name) for name in names}
            yield _rows_of(columns, np.arange(done + 1, done + 1 + len(batch), dtype=np.int64))
            done += len(batch)


def _plain(kind: pa.DataType) -> pa.DataType:
    """What values of a type come to, as `_rows_of` hands them over."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if kind == pa.uuid():
        return pa.large_string()
    return _plain(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _uuids(array: pa.Array) -> pa.LargeStringArray:
    """UUIDs as they are written: 8-4-4-4-12 lowercase hexadecimal digits."""
    stored = pc.fill_null(array.storage, bytes(16))
    data = np.frombuffer(stored.buffers()[1], np.uint8)[stored.offset * 16 :]
    data = data[: len(stored) * 16].reshape(-1, 16)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    written = np.full((len(stored), 36), ord("-"), np.uint8)
    places = np.delete(np.arange(36), [8, 13, 18, 23])
    written[:, places] = np.stack([digits[data >> 4], digits[data & 15]], axis=2).reshape(-1, 32)
    whole = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(36), len(stored), [None, pa.py_buffer(written)]
    )
    texts = whole.cast(pa.large_binary()).cast(pa.large_string())
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.large_string()))


def _rows_of(columns: dict[str, pa.Array], numbers: np.ndarray) -> RawRows:
    reasons = np.full(len(numbers), None, dtype=object)
    plain: dict[str, pa.Array] = {}
    for name, array in columns.items():
        if isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        if isinstance(array, pa.ExtensionArray):
            array = _uuids(array) if array.type == pa.uuid() else array.storage
        kind = array.type
        if (
            pa.types.is_string(kind)
            or pa.types.is_string_view(kind)
            or pa.types.is_binary(kind)
            or pa.types.is_binary_view(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_large_binary(kind)
        ):
            array, bad = _texts(array)
            for what, mask in bad:
                reasons[mask] = f"{what} in column {name}"
        plain[name] = array
    broken = np.array([reason is not None for reason in reasons], dtype=bool)
    if not broken.any():
        return RawRows(numbers, plain, numbers[:0], [])
    keep = pa.array(~broken)
    return RawRows(
        rows=numbers[~broken],
        columns={name: array.filter(keep) for name, array in plain.items()},
        broken_rows=numbers[broken],
        broken_reasons=reasons[broken].tolist(),
    )


def _texts(array: pa.Array) -> tuple[pa.LargeStringArray, list[tuple[str, np.ndarray]]]:
    """(the texts, with bad ones null; what is bad where)."""
    data = array.cast(pa.large_binary())
    filled = pc.fill_null(data, b"")
    bad = [
        ("wrong encoding: not UTF-8", invalid_utf8(filled)),
        ("NUL character: found", np.asarray(pc.match_substring(filled, b"\0"))),
        (
            f"too long: more than {MAX_ROW_BYTES} bytes",
            np.asarray(pc.greater(pc.binary_length(filled), MAX_ROW_BYTES)),
        ),
    ]
    bad = [(what, mask.astype(bool)) for what, mask in bad if mask.any()]
    for _, mask in bad:
        data = pc.if_else(pa.array(mask), pa.scalar(None, pa.large_binary()), data)
    return data.cast(pa.large_string()), bad
