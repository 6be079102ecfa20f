"""Overrides, nearest keys, hashes, and reading files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.config_files import override, validate
from quipwright.core.errors import DataError, RecipeError
from quipwright.core.records import Example, Judgment, Response, content_hash
from quipwright.core.settings import secret
from quipwright.core.text_files import read_text
from quipwright.pipeline.recipe import Recipe


def test_override_builds_paths_and_keeps_the_original() -> None:
    tree = {"a": {"b": 1}, "list": [{"x": 1}]}
    assert override(tree, ["a.b=2", "c.d=[1, 2]", "list.0.x=true"]) == {
        "a": {"b": 2},
        "c": {"d": [1, 2]},
        "list": [{"x": True}],
    }
    assert tree == {"a": {"b": 1}, "list": [{"x": 1}]}


@pytest.mark.parametrize("bad", ["a", "=1", "a.b.c=1", "list.5.x=1", "a.b={"])
def test_override_refuses(bad: str) -> None:
    with pytest.raises(RecipeError):
        override({"a": {"b": 1}, "list": [1]}, [bad])


def test_a_group_without_kind_is_of_the_default_kind() -> None:
    recipe = validate(Recipe, {"name": "x", "learn": {"objective": {"beta": 0.3}}}, "Recipe")
    assert recipe.learn.objective.kind == "dpo"


def test_the_hash_sees_every_setting() -> None:
    one = Recipe(name="x")
    assert one.hash == Recipe(name="x").hash
    assert one.hash != Recipe(name="x", seed=1).hash
    assert one.hash != validate(Recipe, {"name": "x", "learn": {"objective": {"beta": 0.11}}}, "Recipe").hash


def test_several_problems_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        validate(Recipe, {"name": "x", "sede": 1, "data": {"trian": 1}}, "Recipe")
    assert "'seed'" in str(caught.value)
    assert "'train'" in str(caught.value)


def test_names_that_would_leave_the_folder_are_refused() -> None:
    for name in ("../x", "a/b", "", ".hidden", "x" * 65, "a\0b", "CON/..", "-x"):
        with pytest.raises(RecipeError):
            validate(Recipe, {"name": name}, "Recipe")


def test_read_text_strips_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(path, "Input") == "hello"
    with pytest.raises(DataError, match="is a folder"):
        read_text(tmp_path, "Input")


def test_a_blank_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "  ")
    assert secret("SOME_KEY") is None


@given(st.text(), st.text())
def test_records_round_trip_and_notice_a_flipped_byte(text: str, author: str) -> None:
    record = Response(example_id="e", text=text, author=author)
    line = record.to_line()
    assert "\n" not in line
    assert Response.from_line(line) == record
    with pytest.raises(ValueError, match="not the content's id"):
        Response.from_line(line.replace('"example_id": "e"', '"example_id": "f"'))


def test_ids_tell_classes_and_contents_apart() -> None:
    assert Example(text="a").id == Example(text="a").id
    assert Example(text="a").id != Example(text="a", split="test").id
    assert Judgment(pair_id="p", judge="j", verdict="A").id != Judgment(pair_id="p", judge="j", verdict="B").id
    assert content_hash("a", 1) == "135f17a475a61afd"
