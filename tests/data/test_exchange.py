"""Rows for other libraries: what they hold, and that what went out comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.errors import DataError
from quipwright.data.exchange import kto_rows, preference_rows, read_preferences, read_taught, sft_rows
from quipwright.data.task import Task
from quipwright.data.verdicts import VerdictRow

TASK = Task.load()


def verdict(a: str, b: str, said: Any = "a", literal: str = "It rains.") -> VerdictRow:
    return VerdictRow(literal=literal, a=a, b=b, verdict=said)


def placed(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"x line {number}", row) for number, row in enumerate(rows, 1)]


def said(rows: list[VerdictRow]) -> list[tuple[str, str, str, str]]:
    return [(row.literal, row.a, row.b, row.verdict) for row in rows]


def test_preferences_name_the_winner_first_and_join_to_what_a_student_is_trained_on() -> None:
    rows = preference_rows([verdict("wet", "dry", "b"), verdict("x", "y", "tie")], TASK)
    assert rows == [
        {"prompt": "Plain: It rains.\nFunny tag:", "chosen": " dry", "rejected": " wet", "literal": "It rains."}
    ]
    (chat,) = preference_rows([verdict("wet", "dry")], TASK, chat=True)
    assert chat["prompt"] == [{"role": "user", "content": "Plain: It rains.\nFunny tag:"}]
    assert (chat["chosen"], chat["rejected"]) == (
        [{"role": "assistant", "content": "wet"}], [{"role": "assistant", "content": "dry"}],
    )  # fmt: skip


def test_a_label_is_what_a_text_was_more_often() -> None:
    # "wet" wins twice and loses once, "dry" wins and loses once, "mud" loses twice.
    verdicts = [verdict("wet", "dry"), verdict("wet", "mud"), verdict("dry", "wet"), verdict("dry", "mud", "tie")]
    verdicts.append(verdict("fog", "mud", "a"))
    labels = {row["completion"]: row["label"] for row in kto_rows(verdicts, TASK)}
    assert labels == {" wet": True, " mud": False, " fog": True}


def test_ultrafeedback_like_conversations_are_read() -> None:
    user = {"role": "user", "content": "It rains."}
    talks = [[user, {"role": "assistant", "content": text}] for text in ("wet", "dry")]
    row = {"prompt": "It rains.", "chosen": talks[0], "rejected": talks[1], "score_chosen": 8.0, "score_rejected": 3.0}
    even = {**row, "score_rejected": 8.0}
    implicit = {"chosen": talks[1], "rejected": talks[0]}
    assert said(read_preferences(placed([row, even, implicit]), TASK)) == [
        ("It rains.", "wet", "dry", "a"), ("It rains.", "wet", "dry", "tie"), ("It rains.", "dry", "wet", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize("style", ["tag", "short", "free"])
def test_the_sentence_is_found_inside_the_tasks_prompt(style: str) -> None:
    row = {"prompt": f"Plain: It rains.\nFunny {style}:", "chosen": " wet", "rejected": " dry"}
    assert said(read_preferences(placed([row]), TASK)) == [("It rains.", "wet", "dry", "a")]


def test_each_liked_text_beats_each_other_one() -> None:
    rows = [
        {"prompt": "It rains.", "completion": text, "label": text in ("wet", "fog")} for text in ("wet", "dry", "fog")
    ]
    assert said(read_preferences(placed(rows), TASK)) == [
        ("It rains.", "wet", "dry", "a"), ("It rains.", "fog", "dry", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "It rains.", "chosen": "wet"}, "line 1 has no text in 'rejected'"),
        ({"chosen": "wet", "rejected": ""}, "no text in 'rejected'"),
        ({"prompt": [{"role": "system", "content": "x"}], "chosen": "a", "rejected": "b"}, "line 1 has no prompt"),
        ({"prompt": "It rains.", "completion": "wet", "label": "yes"}, "label is no true or false"),
    ],
)
def test_a_row_of_another_shape_is_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_preferences(placed([row]), TASK)


words = st.text("abc déf.", min_size=1, max_size=12).filter(str.strip).map(lambda text: " ".join(text.split()))


@given(st.lists(st.tuples(words, words, words), max_size=5), st.booleans())
def test_preferences_come_back_as_they_went(triples: list[tuple[str, str, str]], chat: bool) -> None:
    verdicts = [verdict(a, b, "a", literal) for literal, a, b in triples]
    assert said(read_preferences(placed(preference_rows(verdicts, TASK, chat)), TASK)) == said(verdicts)


@given(st.dictionaries(words, st.lists(words, min_size=1, max_size=3), max_size=4), st.booleans())
def test_a_teachers_texts_come_back_as_they_went(taught: dict[str, list[str]], chat: bool) -> None:
    assert read_taught(placed(sft_rows(taught, TASK, chat)), TASK) == taught
