"""Settings objects: default kinds, hashes, names, the environment; and the records' ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.config_files import validate
from quipwright.core.errors import DiskError, RecipeError
from quipwright.core.records import Example, Judgment, Response, content_hash
from quipwright.core.settings import cache_dir, secret
from quipwright.pipeline.recipe import Recipe, load_recipe


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


NUMBERS = (
    "budget.money", "candidates.temperature", "critic.floor", "evaluate.tie", "learn.objective.beta", "learn.train.epochs",
    "learn.train.lr", "memory", "rank.strength",
)  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_no_limit_lets_through_what_is_no_number(name: str, value: str) -> None:
    with pytest.raises(RecipeError, match=name.replace(".", r"\.")):
        load_recipe("demo", [f"{name}={value}"])


def test_names_that_would_leave_the_folder_are_refused() -> None:
    for name in ("../x", "a/b", "", ".hidden", "x" * 65, "a\0b", "CON/..", "-x"):
        with pytest.raises(RecipeError):
            validate(Recipe, {"name": name}, "Recipe")


def test_the_cache_is_made_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "named"
    assert (tmp_path / "named").is_dir()
    monkeypatch.delenv("QUIPWRIGHT_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "quipwright"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "quipwright"


def test_a_cache_that_cannot_be_made_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DiskError, match=r"Not a directory\. Set QUIPWRIGHT_CACHE to a folder you may write") as caught:
        cache_dir()
    assert caught.value.exit_code == 10


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
