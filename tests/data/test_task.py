"""The task file: what it must hold, and where it is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from quipwright.core.errors import DataError, RecipeError
from quipwright.data.task import LengthRule, Task, fill, task_path


def shipped(name: str = "humour") -> dict[str, Any]:
    """The tree of a task that ships."""
    return dict(yaml.safe_load(task_path(name).read_text(encoding="utf-8")))


def test_grades_and_questions_are_the_tasks_own() -> None:
    humour, vivid = Task.load("humour"), Task.load("vivid")
    assert humour.grades == ("broken", "plain", "funny")
    assert vivid.grades == ("broken", "plain", "vivid")
    assert list(humour.questions) == ["humour", "consistency", "overall"]
    assert list(vivid.questions) == ["vividness", "consistency", "overall"]
    assert humour.questions["humour"] == "Which is funnier?"


def test_a_task_without_grades_and_questions_has_plain_ones() -> None:
    tree = {name: value for name, value in shipped().items() if name not in ("grades", "questions")}
    task = Task.parse(tree, "mine")
    assert task.grades == ("broken", "plain", "good")
    assert task.questions == {"overall": "Which is better?"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"grades": ["plain", "plain"]}, "grades has a level twice"),
        ({"grades": ["only"]}, "at least 2 items"),
        ({"grades": ["broken", "Very Good"]}, "string should match pattern"),
        ({"questions": {"humour": "Which is funnier?"}}, "questions lacks overall"),
        ({"student_prompt": "Say it better:"}, "student_prompt lacks {literal}"),
        ({"cloze": "{text} is how to say {literal}"}, "cloze must end with {text}"),
        ({"cloze": {"humour": "{literal} {text}"}}, "cloze lacks a template of the question overall"),
        ({"refusals": ["("]}, "is not a regular expression"),
    ],
)
def test_a_task_that_would_not_work_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Task.parse({**shipped(), **change}, "mine")
    assert told in str(caught.value)
    assert str(caught.value).startswith("task mine: ")


def test_a_task_file_starts_at_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.YAML").write_text(yaml.safe_dump({**shipped(), "name": "mine"}))
    monkeypatch.chdir(tmp_path)
    assert Task.load("mine.YAML", tmp_path / "recipes").name == "mine"
    with pytest.raises(DataError, match=r"task file mine\.YAML does not exist"):
        Task.load("mine.YAML")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Task.load("~/recipes/mine.YAML").name == "mine"
    with pytest.raises(DataError, match=r"task '\.\./x' does not ship with the package\. Use one of humour, vivid"):
        Task.load("../x")


def test_slots_are_filled_in_one_pass() -> None:
    assert fill("{a} {b} {c} {}", a="{b}", b=2) == "{b} 2 {c} {}"


@pytest.mark.parametrize(
    ("a", "b", "passes"), [("one two three four five", "a b c d e f", True), ("a b", "a b c", False)]
)
def test_the_length_rule_is_symmetric(a: str, b: str, passes: bool) -> None:
    rule = LengthRule()  # 5/6 is exactly the least, 2/3 is below it
    assert rule.passes(a, b) is passes
    assert rule.passes(b, a) is passes
