"""Several processes make a row stage together: whatever is killed, and whatever their number is then, its bytes are those
of one process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quipwright.core.errors import ModelError, RunError
from quipwright.core.records import Record
from quipwright.core.storage.ranks import ALONE, Ranks, wait_for
from quipwright.core.storage.seals import SEAL
from quipwright.core.storage.shares import Parts, make_share
from quipwright.core.storage.stage_cache import ROWS, StageCache, StageKey
from quipwright.core.storage.stage_cache import Chunks as AnyChunks

COUNT = 7
KEY = StageKey("sample", "1", ("x",))


class Line(Record):
    """A row."""

    number: int


class KilledError(Exception):
    """The process ended here."""


def parts(made: list[int], dies_after: int = 10**6) -> Parts[Line]:
    """Seven chunks of 0, 1, 2, 0, 1, 2, 0 rows, which note in ``made`` what was made before the process died."""

    def make(numbers: Sequence[int]) -> Iterator[list[Line]]:
        for place, number in enumerate(numbers):
            if place == dies_after:
                raise KilledError
            made.append(number)
            yield [Line(number=10 * number + i) for i in range(number % 3)]

    return Parts(COUNT, make)


def alone(folder: Path) -> bytes:
    """What one process writes."""
    StageCache(folder).rows(KEY, Line, parts([]))
    return (folder / KEY.folder / ROWS).read_bytes()


invocations = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), max_size=4)


@settings(deadline=None, max_examples=60)
@given(killed=invocations, last=st.integers(1, 4), torn=st.binary(max_size=12))
def test_any_numbers_of_processes_killed_anywhere_end_with_the_bytes_of_one(
    tmp_path_factory: pytest.TempPathFactory, killed: list[list[int]], last: int, torn: bytes
) -> None:
    """Each list is one invocation: how many chunks each of its processes makes before all are killed."""
    base = tmp_path_factory.mktemp("shares")
    folder, made = base / "run" / KEY.folder, list[int]()
    for lives in killed:
        for rank, dies_after in enumerate(lives):
            try:
                make_share(folder, ROWS, Line, parts(made, dies_after), Ranks(rank, len(lives)))
            except KilledError:
                with open(folder / f"share-{rank}.jsonl", "ab") as file:
                    file.write(torn)
    for rank in range(1, last):
        make_share(folder, ROWS, Line, parts(made), Ranks(rank, last))
    rows = StageCache(base / "run", ranks=Ranks(0, last)).rows(KEY, Line, parts(made))
    assert [row.number for row in rows] == [10, 20, 21, 40, 50, 51]
    assert (folder / ROWS).read_bytes() == alone(base / "alone")
    assert sorted(made) == list(range(COUNT))  # nothing is made twice
    assert {path.name for path in folder.iterdir()} == {ROWS, SEAL}


def test_what_one_process_began_is_not_made_again_by_two(tmp_path: Path) -> None:
    made: list[int] = []
    with pytest.raises(KilledError):
        StageCache(tmp_path).rows(KEY, Line, parts(made, 3))
    make_share(tmp_path / KEY.folder, ROWS, Line, parts(made), Ranks(1, 2))
    assert made == [0, 1, 2, 3, 5]
    StageCache(tmp_path, ranks=Ranks(0, 2)).rows(KEY, Line, parts(made))
    assert sorted(made) == list(range(COUNT))


def test_the_others_read_what_the_first_has_sealed(tmp_path: Path) -> None:
    alone(tmp_path)
    other = StageCache(tmp_path, ranks=Ranks(1, 2))
    assert [row.number for row in other.rows(KEY, Line, parts([], 0))] == [10, 20, 21, 40, 50, 51]

    def unasked(folder: Path) -> dict[str, int]:
        raise KilledError

    built = StageKey("sft", "imitation", ())
    (tmp_path / "made").mkdir()
    StageCache(tmp_path).built(built, lambda folder: {"rows": 2})
    assert other.built(built, unasked, together=True)[1] == {"rows": 2}


def test_rows_that_are_refused_are_forgotten_by_all(tmp_path: Path) -> None:
    def refuse(rows: Sequence[Line]) -> None:
        raise ModelError("none was answered", "ask again")

    make_share(tmp_path / KEY.folder, ROWS, Line, parts([]), Ranks(1, 2))
    with pytest.raises(ModelError):
        StageCache(tmp_path, ranks=Ranks(0, 2)).rows(KEY, Line, parts([]), check=refuse)
    assert not list((tmp_path / KEY.folder).glob("*.json*"))


@pytest.mark.parametrize(
    ("count", "size", "chunks"), [(0, 2, []), (5, 2, [[0, 1], [2, 3], [4]]), (4, 2, [[0, 1], [2, 3]])]
)
def test_parts_cut_items_into_chunks(count: int, size: int, chunks: list[list[int]]) -> None:
    def make(items: Sequence[int]) -> Iterator[list[int]]:
        yield from ([*items[i : i + size]] for i in range(0, len(items), size))

    cut: AnyChunks[Line] = Parts.of(range(count), size, make)  # type: ignore[arg-type]
    assert list(cut(0)) == chunks
    assert list(cut(1)) == chunks[1:]


def test_a_launcher_names_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Ranks.of_environment() == ALONE
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    assert Ranks.of_environment() == Ranks(2, 3)
    assert not Ranks(2, 3).first
    for wrong in ("3", "x"):
        monkeypatch.setenv("RANK", wrong)
        with pytest.raises(RunError, match="torchrun or accelerate"):
            Ranks.of_environment()


def test_who_waits_for_a_launcher_that_has_gone_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([17, 17, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    with pytest.raises(RunError, match=r"gone before .*done\.json"):
        wait_for(tmp_path / SEAL)
    assert list(parents) == []
