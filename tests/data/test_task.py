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
    del tree["critic"]["grading"]  # which says what each of the shipped grades means
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
    with pytest.raises(
        DataError, match=r"task '\.\./x' does not ship with the package\. Use one of humour, humour-de, vivid"
    ):
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


def styled(**changes: Any) -> Task:
    """A task of three styles; the first is marked by another word than its name."""
    tree = shipped("vivid") | {
        "name": "manner",
        "student_prompt": "Plain: {literal}\nAs {style}:",
        "styles": {
            "long": {"teacher": "at length", "marker": "a long one"},
            "short": {"teacher": "in brief"},
            "free": {"teacher": "as you like"},
        },
    }
    tree["teacher"] = {"user": "{literal}\n{n} of them:\n{styles}"}
    return Task.parse(tree | changes, "manner")


def test_a_style_is_named_in_the_students_prompt_by_its_marker() -> None:
    task = styled()
    assert task.prompt("It {style} rained.") == "Plain: It {style} rained.\nAs a long one:"
    assert task.prompt("It rained.", "short") == "Plain: It rained.\nAs short:"
    assert task.prompt_in("free") == "Plain: {literal}\nAs free:"
    with pytest.raises(DataError, match=r"task manner has no style 'odd'\. It has: long, short, free\."):
        task.prompt("It rained.", "odd")


def test_the_first_style_is_used_where_none_is_named_unless_the_task_says_otherwise() -> None:
    assert styled().style_named() == "long"
    assert styled(default_style="free").style_named() == "free"
    assert styled(default_style="free").style_named("short") == "short"


def test_a_task_without_styles_is_asked_for_none() -> None:
    task = Task.load("vivid")
    assert task.style_named() == ""
    assert task.item_styles(2) == ("", "")
    assert task.restricted() == task
    with pytest.raises(DataError, match=r"task vivid has no styles, so none is 'tag'"):
        task.prompt("It rained.", "tag")


def test_the_teachers_list_goes_round_the_styles() -> None:
    assert styled().item_styles(5) == ("long", "short", "free", "long", "short")


def test_a_task_is_restricted_to_the_styles_that_are_trained() -> None:
    task = styled(default_style="free")
    assert (list(task.restricted().styles), task.restricted().default_style) == (["long", "short", "free"], "free")
    assert (list(task.restricted(["short", "long"]).styles), task.restricted(["short", "long"]).style_named()) == (
        ["long", "short"],
        "long",
    )
    assert task.restricted(["short", "free"], "short").style_named() == "short"
    assert Task.parse(task.restricted(["short"]).model_dump(mode="json"), "again").style_named() == "short"
    with pytest.raises(DataError, match="has no style 'long'"):
        task.restricted(["short"], "long")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"student_prompt": "Plain: {literal}"}, "student_prompt lacks {style}"),
        ({"teacher": {"user": "{literal} {n}"}}, "teacher.user lacks {styles}"),
        ({"styles": {}}, "student_prompt has {style}, but the task names no styles"),
        ({"default_style": "odd"}, "default_style is 'odd', which styles lacks"),
        ({"styles": {"a": {"teacher": "x"}, "b": {"teacher": "y", "marker": "a"}}}, "styles has a marker twice"),
        ({"styles": {"a": {"teacher": "like {literal}"}}}, "string should match pattern"),
    ],
)
def test_styles_that_would_not_work_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        styled(**change)
    assert told in str(caught.value)
