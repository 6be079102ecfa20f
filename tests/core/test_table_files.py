"""Files of rows: every kind is read rightly or refused with what is wrong, and no bytes are a surprise."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quipwright.core.errors import DataError
from quipwright.core.table_files import TableRow, csv_line, file_kind, is_table, read_table

ENDINGS = ("jsonl", "ndjson", "json", "csv", "tsv", "txt", "text", "parquet")


def rows(folder: Path, name: str, content: bytes | str) -> list[TableRow]:
    """What is read from a file of that name and content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_table(path))


def fields(read: list[TableRow]) -> list[tuple[int, dict[str, Any]]]:
    """Number and fields of rows that have no problem."""
    assert not [row.problem for row in read if row.problem]
    return [(row.number, dict(row.fields)) for row in read]


def problem(read: list[TableRow]) -> str:
    """The one problem among ``read``."""
    (error,) = [row.problem for row in read if row.problem]
    return str(error)


def rows_or_error(path: Path) -> list[TableRow]:
    """What is read; a row with the error as its problem where the file is refused as a whole."""
    try:
        return list(read_table(path))
    except DataError as error:
        return [TableRow(1, problem=error)]


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "a.NDJson", "a.json"])
def test_json_lines_under_any_letter_case(name: str, tmp_path: Path) -> None:
    assert fields(rows(tmp_path, name, '{"a": 1}\n\n{"a": [2]}')) == [(1, {"a": 1}), (3, {"a": [2]})]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("A.CSV", ","), ("a.tsv", "\t"), ("a.Tsv", "\t")])
def test_delimited_files_by_their_header(name: str, separator: str, tmp_path: Path) -> None:
    content = separator.join(("id", " text ")) + "\n" + separator.join(("1", '"one\ntwo"')) + "\n\n2" + separator + "x"
    assert fields(rows(tmp_path, name, content)) == [
        (2, {"id": "1", "text": "one\ntwo"}),
        (5, {"id": "2", "text": "x"}),
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.text", "a"])
def test_plain_lines(name: str, tmp_path: Path) -> None:
    read = rows(tmp_path, name, "one\r\n\r\n  two\u2028still two \n")
    assert [(row.number, row.line) for row in read] == [(1, "one"), (3, "two\u2028still two")]


@pytest.mark.parametrize(("name", "separator"), [("a.txt", ""), ("a.jsonl", ""), ("a.csv", "")])
def test_a_carriage_return_alone_ends_a_line(name: str, separator: str, tmp_path: Path) -> None:
    content = {"a.txt": "one\rtwo", "a.jsonl": '{"t": "one"}\r{"t": "two"}', "a.csv": "t\rone\rtwo\r"}[name]
    read = rows(tmp_path, name, content)
    assert [row.line or row.fields["t"] for row in read] == ["one", "two"]


def test_json_lists_objects_and_their_items(tmp_path: Path) -> None:
    assert fields(rows(tmp_path, "a.json", '[\n {"a": 1},\n {"a": 2}\n]')) == [(1, {"a": 1}), (2, {"a": 2})]
    assert fields(rows(tmp_path, "a.json", '{\n "a": 1\n}')) == [(1, {"a": 1})]
    read = rows(tmp_path, "a.json", '[{"a": 1}, "text", null]')
    assert [str(row.problem) for row in read[1:]] == [
        f"{tmp_path / 'a.json'} item 2 is text, not an object. Write one object a row.",
        f"{tmp_path / 'a.json'} item 3 is null, not an object. Write one object a row.",
    ]
    with pytest.raises(DataError, match="is not JSON"):
        rows(tmp_path, "a.json", '[{"a": 1},')


def test_separators_inside_json_strings_end_no_line(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\u0085four"
    content = json.dumps({"t": text}, ensure_ascii=False) + "\n"
    assert fields(rows(tmp_path, "a.jsonl", content)) == [(1, {"t": text})]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": "half \\ud83d"}', "field 'a' holds half a surrogate pair"),
        ('{"a": {"b": ["\\udc00"]}}', "field 'a' holds half a surrogate pair"),
        ('{"\\ud83d": 1}', r"field '\\ud83d' holds half a surrogate pair"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "a number has too many digits"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": 1, "b": 2, "a": 3}', "field 'a' stands in it twice"),
        ('{"a": 1', "is not JSON: Expecting ',' delimiter at character 8"),
        ("[1]", "is a list, not an object"),
        ("7", "is a number, not an object"),
    ],
)
def test_a_bad_json_line_is_told_and_the_others_are_read(line: str, told: str, tmp_path: Path) -> None:
    read = rows(tmp_path, "a.jsonl", f'{{"a": 1}}\n{line}\n{{"a": 2}}')
    assert f"a.jsonl line 2 {told}" in problem(read) or (f"a.jsonl line 2 cannot be used: {told}" in problem(read))
    assert "\n" not in problem(read)
    assert [row.fields.get("a") for row in read] == [1, None, 2]


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    assert fields(rows(tmp_path, "a.jsonl", '{"a": "\\ud83d\\ude00"}')) == [(1, {"a": "😀"})]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a,b\n1,2\n3\n4,5", "line 3 has 1 of 2 cells. Fill in"),
        ("a,b\n1,2\n3,x,y\n4,5", "line 3 has 3 cells for 2 columns. Quote"),
        ('a,b\n1,2\n"3" x,y\n4,5', "line 3 is not CSV: ',' expected after '\"'"),
    ],
)
def test_a_bad_csv_row_is_told_and_the_others_are_read(content: str, told: str, tmp_path: Path) -> None:
    read = rows(tmp_path, "a.csv", content)
    assert told in problem(read)
    assert [row.fields.get("a") for row in read] == ["1", None, "4"]


def test_a_quote_that_never_ends_is_told(tmp_path: Path) -> None:
    assert "unexpected end of data" in problem(rows(tmp_path, "a.csv", 'a,b\n1,"2\n3,4'))


def test_empty_columns_of_a_spreadsheet_do_no_harm(tmp_path: Path) -> None:
    assert fields(rows(tmp_path, "a.csv", "a,,\n1,,\n,,\n2,,,\n")) == [(2, {"a": "1"}), (4, {"a": "2"})]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "text;split\nWell, no.;train\n", "one column, 'text;split', which holds ';'. Separate the cells"),
        ("a.csv", "text\tsplit\nNo.\ttrain\n", r"one column, 'text\tsplit', which holds '\t'"),
        ("a.tsv", "text,split\nNo.,train\n", "one column, 'text,split', which holds ','"),
    ],
)
def test_another_separator_is_told_at_once(name: str, content: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        rows(tmp_path, name, content)
    assert told in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("a.csv", "t,s,t\n1,2,3"), ("a.tsv", "t\ts\tt\n1\t2\t3")])
def test_two_columns_of_one_name_are_refused(name: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1 has two columns named 't'"):
        rows(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "t\nüber".encode("utf-16"), "is UTF-16, not UTF-8. Save it as UTF-8: iconv -f UTF-16"),
        ("a.csv", "t\nx".encode("utf-32"), "is UTF-32, not UTF-8"),
        ("a.csv", "t\nx".encode("utf-16-le"), "has a NUL byte at byte 1"),
        ("a.csv", "t\nüber".encode("latin1"), "is not UTF-8: byte 2 is 0xfc"),
        (
            "a.jsonl",
            gzip.compress(b'{"a": 1}', mtime=0),
            "is packed with gzip. Unpack it first, for example with gunzip",
        ),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}', mtime=0), "is packed. Unpack it first, for example with gunzip"),
        ("a.csv", b"PK\x03\x04 an Excel file", "is packed with zip"),
        (
            "a.xlsx",
            b"PK\x03\x04",
            r"ends in '.xlsx', an ending that is not known. Known are: .jsonl, .ndjson, .json, .csv",
        ),
        ("a.docx", b"x", "ends in '.docx', an ending that is not known"),
        ("a.csv", b"\n \n", "is empty"),
        ("a.csv", b",,\n1,2,3\n", None),
        ("a.parquet", b"PAR1 not really", "is not Parquet"),
    ],
)
def test_a_file_that_is_something_else_is_named(name: str, content: bytes, told: str | None, tmp_path: Path) -> None:
    if told is None:  # a first line without names is a blank one; the next one is the header
        assert rows(tmp_path, name, content) == []
        return
    with pytest.raises(DataError) as caught:
        rows(tmp_path, name, content)
    assert told in str(caught.value)
    assert caught.value.exit_code == 3


def test_missing_files_and_folders_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "none.xyz")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(Path("a" * 5000))
    with pytest.raises(DataError, match="cannot be read"):
        read_table(Path("a\0b.csv"))


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert fields(rows(tmp_path, "a.csv", b"\xef\xbb\xbftext\nx")) == [(2, {"text": "x"})]
    assert fields(rows(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"a": 1}')) == [(1, {"a": 1})]


def test_parquet_keeps_nulls_and_numbers(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "split=train" / "a.PARQUET"
    path.parent.mkdir()
    parquet.write_table(arrow.table({"a": [1, None], "t": ["x", None]}), path)
    read = list(read_table(path))
    assert [(row.number, row.unit, dict(row.fields)) for row in read] == [
        (1, "row", {"a": 1, "t": "x"}),
        (2, "row", {"a": None, "t": None}),
    ]
    parquet.write_table(arrow.Table.from_arrays([arrow.array([1]), arrow.array([2])], names=["t", "t"]), path)
    with pytest.raises(DataError, match="two columns named 't'"):
        read_table(path)


def test_the_kinds_by_ending() -> None:
    assert [file_kind(Path(f"x.{ending}")) for ending in ENDINGS] == [
        *("jsonl", "jsonl", "json", "csv", "tsv", "lines", "lines", "parquet")
    ]


@pytest.mark.parametrize(("name", "table"), [("o.JSONL", True), ("o.tsv", True), ("o.txt", False), ("runs/one", False)])
def test_tables_are_told_from_lines_and_folders(name: str, table: bool) -> None:
    assert is_table(name) is table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='{}[]",:;\t\r\n\\u0a\u2028é=-1NnTf', max_size=120).map(str.encode),
        st.lists(
            st.sampled_from([b'{"a": "', b'"}', b"\n", b"\\ud83d", b"a,b", b'"', b"[", b"]", b"PAR1", b"\xff\xfe"])
        ).map(b"".join),
    ),
    st.sampled_from(ENDINGS),
)
@example(b'""', "csv")
@example(b"PAR1\x00\x00\x00\x00PAR1", "parquet")
def test_any_bytes_under_any_ending_are_rows_or_one_error(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    for row in rows_or_error(path):
        assert row.number >= 1
        assert "\n" not in str(row.problem or "")
        json.dumps(row.fields, ensure_ascii=False, default=str).encode()  # nothing that no file could hold


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_parquet_file_is_rows_or_one_error(tmp_path: Path, place: int, byte: int) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(arrow.table({"literal": ["I am late.", None], "n": [1, 2]}), path)
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] = byte
    path.write_bytes(bytes(raw))
    assert len(rows_or_error(path)) <= 2


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "'=1", "''-1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str) -> None:
    ((cell, number),) = csv.reader(io.StringIO(csv_line([text, -1.5]), newline=""))
    assert cell == "'" + text
    assert number == "-1.5"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="a'=+-@\t\r\n\",;é ", min_size=1), min_size=2, max_size=2))
def test_what_is_written_as_csv_is_read_back(tmp_path: Path, cells: list[str]) -> None:
    if not any(cell.strip() for cell in cells):
        return
    content = csv_line(["a", "b"]) + csv_line(cells)
    assert content.endswith("\r\n")
    assert fields(rows(tmp_path, "a.csv", content)) == [(2, {"a": cells[0], "b": cells[1]})]
