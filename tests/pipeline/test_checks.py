"""What can be known for nothing is known before a teacher is paid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from quipwright.core.errors import RecipeError
from quipwright.pipeline.recipe import load_recipe
from quipwright.testing.faulty_server import FaultyServer

Command = Callable[..., tuple[int, str, str]]
VERDICT = {"literal": "Not in the corpus.", "a": "one", "b": "two", "verdict": "a"}
JUDGE = "{{kind: multiple_choice, model: {{kind: chat, model: j, base_url: '{url}', key_env: NO_SUCH_KEY}}}}"


def distil(quipwright: Command, recipe: Path, run: Path, *assignments: str) -> tuple[int, str, int]:
    """Exit code, the line of the error, and how many requests a paid teacher got."""
    with FaultyServer() as server:
        teacher = f"teacher={{kind: model, model: {{kind: chat, model: m, base_url: '{server.url}'}}}}"
        given = [word for a in (teacher, *assignments) for word in ("--set", a.replace("URL", server.url))]
        code, _, told = quipwright("distil", recipe, "--run", run, *given)
        return code, told, len(server.bodies)


@pytest.mark.parametrize(
    ("assignment", "code", "words"),
    [
        (f"critic={JUDGE.format(url='URL')}", 7, "j needs a key, but NO_SUCH_KEY is not set"),
        (f"evaluate.judges=[{JUDGE.format(url='URL')}]", 7, "j needs a key, but NO_SUCH_KEY is not set"),
        ("critic.path=nowhere", 9, "nowhere holds no reward model"),
        ("offline_preferences={path: nowhere.jsonl}", 3, "Input nowhere.jsonl does not exist"),
        ("offline_preferences={kind: grades, path: nowhere.jsonl}", 3, "nowhere.jsonl does not exist"),
        ("offline_preferences={kind: grades, repairs: nowhere.jsonl}", 3, "nowhere.jsonl does not exist"),
        ("offline_preferences={path: STRANGE}", 3, "no usable row on the training literals"),
        ("scorer={kind: recorded_grades, path: nowhere.jsonl}", 3, "Grades nowhere.jsonl does not exist"),
        ("evaluate.judges=[{kind: recorded, path: nowhere.jsonl}]", 3, "Recorded critic nowhere.jsonl does not exist"),
        ("student.adapter=nowhere", 6, "Adapter nowhere/student.safetensors does not exist"),
    ],
)
def test_a_missing_key_or_file_is_told_before_the_teacher_is_asked(
    quipwright: Command, tiny_recipe: Path, tmp_path: Path, assignment: str, code: int, words: str
) -> None:
    strange = tmp_path / "strange.jsonl"
    strange.write_text("".join(json.dumps({**VERDICT, "split": split}) + "\n" for split in ("train", "heldout")))
    assignment = assignment.replace("STRANGE", str(strange))
    found, told, asked = distil(quipwright, tiny_recipe, tmp_path / "run", assignment)
    assert (found, asked) == (code, 0)
    assert words in told


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.splits"):
        load_recipe("demo", ["evaluate.splits=[tset]"])
