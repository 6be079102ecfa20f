"""A teacher's lines on a sensitive literal are kept on record, counted, said, and learnt from by nobody."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quipwright.core.records import Example, Status
from quipwright.data.care.judgment import Care, word_list
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.task import Task
from quipwright.pipeline.stages.teach import teach

SAD, PLAIN = "My dad died last week.", "The bus was late."


class Unkept:
    """A cache that makes all rows anew and remembers their keys."""

    def __init__(self) -> None:
        self.keys: list[Any] = []

    def rows(self, key: Any, kind: Any, chunks: Any, *, done: Any) -> list[Any]:
        rows = [row for chunk in chunks(0) for row in chunk]
        self.keys.append(key)
        done(rows)
        return rows


@pytest.mark.parametrize("allowed", [False, True])
def test_sensitive_lines_of_a_teacher_are_left_out(
    allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quipwright.data.care.screening.sensitive_kinds", Care(None, word_list()).kinds)
    path = tmp_path / "corpus.jsonl"
    texts = {
        SAD: ["My dad was late last week.", "My dad is fine."],
        PLAIN: ["The bus was in bed.", "The bus was a rumour."],
    }
    lines = [json.dumps({"literal": literal, "humorous": said}) for literal, said in texts.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    examples = [Example(text=literal, split="train") for literal in texts]
    cache = Unkept()
    task = Task.load().model_copy(update={"allow_sensitive": allowed})
    ctx: Any = SimpleNamespace(recipe_dir=tmp_path, task=task, cache=cache)
    taught = teach(ctx, RecordedTeacher(path=str(path)), examples)
    sad = [row for row in taught.rows if row.example_id == examples[0].id]
    assert {row.status for row in sad} == {Status.OK if allowed else Status.SENSITIVE}
    assert (examples[0].id in taught.responses) is allowed
    assert len(taught.responses[examples[1].id]) == len(sad)
    assert ("Left out as sensitive: 2 of 4 texts." in capsys.readouterr().err) is not allowed
