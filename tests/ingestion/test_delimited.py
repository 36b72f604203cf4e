"""Text files: every line is accounted for, whatever is in it."""

import csv
import io
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_assets.ingestion import delimited
from recsys_assets.ingestion.delimited import Dialect, count_rows, nearest, read_header, read_rows
from recsys_assets.ingestion.raw import MAX_ROW_BYTES
from recsys_assets.ingestion.source import SourceError

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(
    path: Path, data: bytes, dialect: Dialect | None = None
) -> tuple[dict[int, list[str]], dict[int, str]]:
    """({line: values}, {line: reason}) of a file with these bytes."""
    path.write_bytes(data)
    dialect = dialect or Dialect()
    good: dict[int, list[str]] = {}
    bad: dict[int, str] = {}
    names = read_header(path, dialect)
    for block in read_rows(path, dialect, names):
        columns = [block.columns[name].to_pylist() for name in names]
        good |= dict(zip(block.rows.tolist(), map(list, zip(*columns, strict=True)), strict=True))
        bad |= dict(zip(block.broken_rows.tolist(), block.broken_reasons, strict=True))
    assert len(good) + len(bad) == count_rows(path, dialect)
    return good, bad


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def test_quotes_delimiters_and_doubled_quotes_inside_values(file: Path) -> None:
    good, bad = read(file, b'a,b\n"x, ""y""",5" pipe\n"",","\n')
    assert good == {2: ['x, "y"', '5" pipe'], 3: ["", ","]}
    assert not bad


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r\r\n"])
def test_bom_and_line_endings_are_no_part_of_values(file: Path, newline: bytes) -> None:
    good, _ = read(file, b"\xef\xbb\xbf" + newline.join([b"a,b", b"1,2", b"", b"3,4"]))
    assert good == {2: ["1", "2"], 4: ["3", "4"]}


def test_a_short_or_long_row_costs_itself_only(file: Path) -> None:
    good, bad = read(file, b"a,b,c\n1,2\n1,2,3,4\n1,2,3\n")
    assert good == {4: ["1", "2", "3"]}
    assert bad == {
        2: "wrong number of values: 2 where 3 are expected",
        3: "wrong number of values: 4 where 3 are expected",
    }


def test_an_unclosed_quote_costs_one_line_and_not_the_rest_of_the_file(file: Path) -> None:
    good, bad = read(file, b'a,b\n"1,2\n3,4\n"5"x,6\n7,8\n')
    assert good == {3: ["3", "4"], 5: ["7", "8"]}
    assert [reason.split(":")[0] for reason in bad.values()] == ["broken quotes"] * 2


def test_broken_bytes_cost_their_line(file: Path) -> None:
    good, bad = read(file, b"a,b\n\xff,1\n1,\xc3\n2,\x00\n\xf0\x9f\x98\x80,4\n")
    assert good == {5: ["😀", "4"]}
    assert bad == {
        2: "wrong encoding: not UTF-8",
        3: "wrong encoding: not UTF-8",
        4: "NUL character: found in the row",
    }


def test_a_character_torn_by_a_line_break_spoils_both_lines(file: Path) -> None:
    good, bad = read(file, b"a\nx\xc3\n\xa4y\nz\n\xa4\n")
    assert good == {4: ["z"]}
    assert set(bad) == {2, 3, 5}


@pytest.mark.parametrize("block", [16 << 20, 1 << 20], ids=["within a block", "over many"])
def test_a_ten_megabyte_value_is_refused_and_its_neighbours_are_not(
    file: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_BYTES", block)
    good, bad = read(file, b"a,b\n1,2\n" + b"x" * 10_000_000 + b",2\n3,4\n")
    assert good == {2: ["1", "2"], 4: ["3", "4"]}
    assert bad == {3: f"too long: more than {MAX_ROW_BYTES} bytes"}


def test_quoted_line_breaks_where_the_configuration_allows_them(file: Path) -> None:
    spanning = Dialect(newlines_in_values=True)
    good, bad = read(file, b'a,b\n"1\n\n2",x\n3,4,5\n6,7\n', spanning)
    assert good == {2: ["1\n\n2", "x"], 6: ["6", "7"]}
    assert set(bad) == {5}
    with pytest.raises(SourceError, match="on line 3 a quote is opened and never closed"):
        read(file, b'a,b\n1,2\n"3,4\n5,6\n', spanning)


def test_an_overlong_value_of_many_lines_keeps_later_line_numbers_right(file: Path) -> None:
    long = b'"' + b"x\n" * 1_000_000 + b'"'
    good, bad = read(file, b"a,b\n" + long + b",2\n3,4\n", Dialect(newlines_in_values=True))
    assert good == {1_000_003: ["3", "4"]}
    assert set(bad) == {2}


def test_other_encodings_are_declared(file: Path) -> None:
    good, bad = read(file, "a;b\nKäse;1 €\n".encode("cp1252"), Dialect(";", encoding="cp1252"))
    assert good == {2: ["Käse", "1 €"]}
    assert not bad
    _, bad = read(file, b"a;b\n\x81;1\n", Dialect(";", encoding="cp1252"))
    assert bad == {2: "wrong encoding: not CP1252"}


def test_delimiters_of_several_characters_and_files_without_header(file: Path) -> None:
    good, _ = read(file, b"1::x:y::2\n", Dialect("::", None, header=("a", "b", "c")))
    assert good == {1: ["1", "x:y", "2"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n\r\n", "no header line"),
        (b"a,b,a\n1,2,3\n", "'a' more than once"),
        (b"PK\x03\x04....", "zip archive"),
        (b"PAR1....", "Parquet file"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b'{"user":1,"item":2}\n', "is JSON"),
        (b'[{"user":1}]', "is JSON"),
        (b"a\xff,b\n1,2\n", "header line is not utf-8"),
        (b'"a,b\n1,2\n', "header line has broken quotes"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_why(
    file: Path, data: bytes, message: str
) -> None:
    file.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        read_header(file, Dialect())


def test_a_header_alone_is_a_file_of_no_rows(file: Path) -> None:
    assert read(file, b"a,b\n") == ({}, {})


def test_the_nearest_column_ignores_case_and_punctuation() -> None:
    assert nearest("user_id", ["Item", "UserID", "user"]) == "UserID"
    assert nearest("user_id", ["qty"]) is None


rows = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.lists(st.sampled_from([b"1", b'"', b'""', b",", b"\r", b"\n", b"\xc3", b"\xa4", b"\0"]))
        .map(b"".join)
        .filter(lambda row: len(row) < 20),
    ),
    max_size=12,
).map(b"\n".join)


@quick
@given(data=rows, spanning=st.booleans(), block=st.integers(8, 64))
def test_no_bytes_lose_a_row_or_raise_anything_but_a_source_error(
    file: Path, data: bytes, spanning: bool, block: int
) -> None:
    dialect = Dialect(newlines_in_values=spanning)
    whole = None
    try:
        whole = read(file, b"a,b\n" + data, dialect)
    except SourceError as error:
        assert spanning, error
        assert "never closed" in str(error)
    blocks = delimited._BLOCK_BYTES
    try:
        delimited._BLOCK_BYTES = block
        if whole is not None:
            assert read(file, b"a,b\n" + data, dialect) == whole
    finally:
        delimited._BLOCK_BYTES = blocks


text = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=8)


@quick
@given(
    table=st.lists(st.tuples(text, text, text), max_size=6),
    style=st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
)
def test_what_the_standard_library_writes_is_read_back_unchanged(
    file: Path, table: list[tuple[str, str, str]], style: Literal[0, 1]
) -> None:
    stream = io.StringIO()
    csv.writer(stream, quoting=style, lineterminator="\n").writerows([("a", "b", "c"), *table])
    good, bad = read(file, stream.getvalue().encode())
    assert list(good.values()) == [list(row) for row in table]
    assert not bad
