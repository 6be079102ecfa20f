"""Text and JSON that others wrote. What files of rows share with them is tested there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import DataError
from quipwright.core.text_files import decode, json_lines, lines, parse_json, read_text

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.booleans())
def test_valid_json_is_read_as_it_is(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only), "x") == value


@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_one_error(raw: bytes) -> None:
    try:
        text = decode(raw, "File x")
    except DataError as error:
        text = str(error)
    text.encode()  # no half surrogates


@given(st.text(alphabet="ab\u2028\u0085\x0b\r\n"))
def test_lines_end_in_lf_crlf_or_cr_and_nothing_else(text: str) -> None:
    whole = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert list(lines(text)) == [(i, line) for i, line in enumerate(whole, 1) if line.strip()]


def test_json_lines_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert list(json_lines(path, "Labels")) == [(1, {"a": 1}), (3, {"a": 2})]
    path.write_text('{"a": 1}\n7\n')
    with pytest.raises(DataError, match=r"a\.jsonl line 2 is a number, not an object\. Write one object a row\."):
        list(json_lines(path, "Labels"))


def test_text_is_read_without_its_mark_and_folders_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(path, "Input") == "hello"
    with pytest.raises(DataError, match="is a folder"):
        read_text(tmp_path, "Input")
