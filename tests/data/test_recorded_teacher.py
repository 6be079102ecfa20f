"""The recorded teacher: whose words it has, in which styles."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.errors import DataError, TeacherError
from quipwright.data.recorded_teacher import Recorded, RecordedTeacher
from quipwright.data.task import Task


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two files; the second says more of the first one's literal."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text(
        '{"literal": "It rained.", "humorous": ["It rained, on me.", "Wet.", "Soup fell."],'
        ' "styles": ["tag", "short", "odd"]}\n{"literal": "I am late.", "humorous": ["Late."]}\n'
    )
    second.write_text('{"literal": "it  rained.", "humorous": ["It rained fish."], "styles": ["free"]}\n')
    return str(first), str(second)


def test_several_files_are_one_teacher(files: tuple[str, str]) -> None:
    recording = RecordedTeacher(path=files).open()
    assert recording.texts == {
        "it rained.": ["It rained, on me.", "Wet.", "Soup fell.", "It rained fish."],
        "i am late.": ["Late."],
    }
    assert RecordedTeacher(path=files[1]).open().texts == {"it rained.": ["It rained fish."]}
    with pytest.raises(TeacherError, match=r"first\.jsonl, .*second\.jsonl has no answer for 'Who\?'"):
        recording.require("Who?", Task.load())


def test_a_task_gets_the_texts_of_its_styles(files: tuple[str, str]) -> None:
    recording = RecordedTeacher(path=files).open()
    task = Task.load()
    assert recording.require("It rained.", task) == [
        Recorded("It rained, on me.", "tag"), Recorded("Wet.", "short"), Recorded("It rained fish.", "free"),
    ]  # fmt: skip
    assert recording.other_styles("It rained.", task) == ["odd"]
    short = task.restricted(["short", "free"])
    assert recording.require("It rained.", short) == [Recorded("Wet.", "short"), Recorded("It rained fish.", "free")]
    assert recording.other_styles("It rained.", short) == ["tag", "odd"]
    assert recording.require("I am late.", short) == [Recorded("Late.", "short")], "a text without one has the default"


def test_a_task_without_styles_gets_every_text(files: tuple[str, str]) -> None:
    recording = RecordedTeacher(path=files).open()
    assert [t.text for t in recording.require("It rained.", Task.load("vivid"))] == recording.texts["it rained."]
    assert {t.style for t in recording.require("It rained.", Task.load("vivid"))} == {""}
    assert recording.other_styles("It rained.", Task.load("vivid")) == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"literal": "A b.", "humorous": "c"}', "'humorous' is \"c\". It must be a list of sentences."),
        ('{"literal": "A b.", "humorous": [" "]}', "'humorous' is [\" \"]. It must be a list of sentences."),
        (
            '{"literal": "A b.", "humorous": ["c", "d"], "styles": ["tag"]}',
            "'styles' is [\"tag\"]. It must name a style for each of 2 texts.",
        ),
        ('{"literal": "A b.", "humorous": ["c"], "styles": "tag"}', "'styles' is \"tag\". It must name a style"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_with_its_line(row: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(f"{row}\n")
    with pytest.raises(DataError) as caught:
        RecordedTeacher(path=str(path)).open()
    assert str(caught.value).startswith(f"{path} line 1: {told}")
