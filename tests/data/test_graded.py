"""Grades and repairs on file: how they are read, and that the bundled ones are what their cards say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from quipwright.core.errors import DataError
from quipwright.core.paths import resolve
from quipwright.core.text import normalise
from quipwright.data.graded import read_graded, read_repairs

LEVELS = ("broken", "plain", "funny")


def test_grades_are_numbers_or_names_of_the_tasks_levels(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(
        '{"literal": "It rained.", "text": "It rained on me.", "style": "tag", "who": "me", "grade": 2, "rank": 0}\n'
        '{"literal": "It rained.", "text": "Rain it.", "grade": "broken", "second": "plain", "split": "held"}\n'
    )
    first, second = read_graded(path, LEVELS)
    assert (first.grade, first.rank, first.second, first.style, first.who, first.split) == (
        2, 0, None, "tag", "me", "train",
    )  # fmt: skip
    assert (second.grade, second.second, second.style, second.split) == (0, 1, "", "held")


def test_a_table_of_cells_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("literal,text,grade,second\nIt rained.,It rained on me.,funny,\nIt rained.,Rain it.,0,1\n")
    assert [(row.grade, row.second) for row in read_graded(path, LEVELS)] == [(2, None), (0, 1)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"literal": "L.", "text": "t", "grade": 9}', "line 1: grade: Input should be less than or equal to 8"),
        ('{"literal": "L.", "text": "t", "grade": "witty"}', "line 1: grade: Input should be a valid integer"),
        ('{"literal": "L.", "text": "", "grade": 1}', "line 1: text: Field required"),
        ('{"literal": "L.", "text": "t", "grade": 1.5}', "line 1: grade: Input should be a valid integer"),
        ('{"literal": "L.", "text": "t", "grade": 1, "split": "test"}', "line 1: split: Input should be 'train' or"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message) as raised:
        read_graded(path, LEVELS)
    assert ("broken, plain, funny" in str(raised.value)) == ("grade:" in message)


def test_the_bundled_grades_are_what_their_card_says() -> None:
    rows = read_graded(resolve("bundled:graded.jsonl", "Grades"))
    literals = {split: {normalise(r.literal) for r in rows if r.split == split} for split in ("train", "held")}
    assert not literals["train"] & literals["held"]
    assert Counter(row.split for row in rows) == {"train": 8424, "held": 894}
    assert len({(r.literal, r.text) for r in rows}) == len(rows) == 9318
    twice = [row for row in rows if row.second is not None]
    assert (len(twice), len({row.literal for row in twice})) == (2340, 390)
    assert round(100 * sum(row.grade == row.second for row in twice) / len(twice)) == 86
    tags = Counter(min(row.grade, 2) for row in rows if row.style == "tag")
    assert [round(100 * tags[grade] / tags.total()) for grade in range(3)] == [45, 44, 11]


@pytest.mark.parametrize(
    ("who", "splits", "shares", "best"),
    [
        ("imitation", {"train": 12102, "held": 654}, [56, 32, 13], (2126, 56)),
        ("feedback", {"train": 7668, "held": 385}, [18, 53, 28], (1404, 85)),
    ],
)
def test_the_grades_of_a_students_attempts_are_what_their_card_says(
    who: str, splits: dict[str, int], shares: list[int], best: tuple[int, int]
) -> None:
    rows = read_graded(resolve(f"bundled:{who}-grades.jsonl", "Grades"))
    assert Counter(row.split for row in rows) == splits
    assert {(row.who, row.style) for row in rows} == {(who, "tag")}
    assert len({(r.literal, r.text) for r in rows}) == len(rows)
    grades = Counter(min(row.grade, 2) for row in rows)
    assert [round(100 * grades[grade] / len(rows)) for grade in range(3)] == shares
    top: dict[str, int] = {}
    for row in rows:
        top[row.literal] = max(row.grade, top.get(row.literal, 0))
    assert (len(top), round(100 * sum(grade >= 2 for grade in top.values()) / len(top))) == best


def test_two_readings_of_the_imitation_students_attempts_agree() -> None:
    rows = read_graded(resolve("bundled:imitation-grades.jsonl", "Grades"))
    twice = [row for row in rows if row.second is not None]
    assert (len(twice), len({row.literal for row in twice})) == (2520, 420)
    assert round(100 * sum(row.grade == row.second for row in twice) / len(twice)) == 84


def test_every_bundled_repair_mends_a_graded_attempt_that_may_be_learnt_from() -> None:
    grades = {(r.literal, r.text): r for r in read_graded(resolve("bundled:graded.jsonl", "Grades"))}
    repairs = read_repairs(resolve("bundled:repairs.jsonl", "Repairs"))
    assert len(repairs) == len({row.literal for row in repairs}) == 1330
    for row in repairs:
        attempt = grades[row.literal, row.attempt]
        assert (attempt.grade, attempt.style, attempt.split) == (row.grade, "tag", "train")
        assert normalise(row.repair) != normalise(row.attempt)
