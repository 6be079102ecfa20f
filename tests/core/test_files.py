"""Append-only files: whole batches or nothing, and a seal that misses what is gone."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import DamagedError, DiskError
from quipwright.core.storage.files import write_atomic
from quipwright.core.storage.sealed_files import SealedAppendOnly, read_sealed_lines, seal_of

BATCHES = st.lists(st.lists(st.text("abé ", min_size=1), min_size=1), min_size=1)


def written(folder: str, batches: list[list[str]]) -> Path:
    path = Path(folder) / "lines.jsonl"
    for batch in batches:
        file = SealedAppendOnly(path)
        file.append(batch)
        file.close()
    return path


@given(BATCHES, st.data())
def test_every_cut_and_every_flip_of_a_sealed_file_is_noticed(batches: list[list[str]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, batches)
        assert read_sealed_lines(path) == [line for batch in batches for line in batch]
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(DamagedError):
            read_sealed_lines(path)
        flipped = bytearray(content)
        flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(flipped)
        with pytest.raises(DamagedError):
            SealedAppendOnly(path)
        assert path.read_bytes() == flipped  # nothing of a damaged file is cut off


def test_what_a_killed_process_wrote_beyond_the_seal_counts_where_it_is_whole(tmp_path: Path) -> None:
    path = written(str(tmp_path), [["one"], ["two"]])
    path.write_bytes(b"one\ntwo\nthree\nfo")
    assert read_sealed_lines(path) == ["one", "two", "three"]
    file = SealedAppendOnly(path)
    file.append(["four"])
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\nfour\n"
    assert read_sealed_lines(path) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("room", [0, 5, 10])  # none for the line, some for the line, none for the seal
def test_a_batch_that_cannot_be_sealed_is_taken_back(tmp_path: Path, room: int) -> None:
    path = written(str(tmp_path), [["one"]])
    file, sealed = SealedAppendOnly(path), seal_of(path).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 + room, limits[1]))
    try:
        with pytest.raises(DiskError, match="could not write"):
            file.append(["second"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.read_bytes(), seal_of(path).read_bytes()) == (b"one\n", sealed)
    file.append(["third"])
    file.close()
    assert read_sealed_lines(path) == ["one", "third"]
    assert sorted(os.listdir(tmp_path)) == ["lines.jsonl", "lines.jsonl.seal"]


@pytest.mark.parametrize("seal", ["", "[]", '{"bytes": "4", "sha256": ""}', '{"bytes": 4}'])
def test_a_damaged_seal_is_named_and_can_be_removed(tmp_path: Path, seal: str) -> None:
    path = written(str(tmp_path), [["one"]])
    seal_of(path).write_text(seal)
    with pytest.raises(DamagedError, match=r"lines\.jsonl\.seal cannot be read.*remove it to go on"):
        read_sealed_lines(path)
    seal_of(path).unlink()
    assert read_sealed_lines(path) == ["one"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("n" * 300, "File name too long. Use a shorter name and run the same command again"),
        ("file/x", "Not a directory. Check the path (a part of it is a file) and run"),
    ],
)
def test_what_to_do_depends_on_what_was_wrong(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError) as caught:
        write_atomic(tmp_path / path, "text")
    assert words in str(caught.value)
