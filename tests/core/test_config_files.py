"""Settings from files and from the command line: what is read, what is refused, and what an error names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.core.config_files import override, parse_yaml, read_yaml, validate
from quipwright.core.errors import DataError, QuipwrightError, RecipeError
from quipwright.core.settings import Settings


class Inner(Settings):
    """A group of settings."""

    rate: float = 0.5
    steps: int = 1


class Outer(Settings):
    """Settings with a group."""

    name: str = "x"
    inner: Inner = Inner()


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "at line 5, column 5: its aliases stand for more than 100000 values"),
        ("data: &x\n  a: *x\n", "at line 2, column 6: an alias refers to what it is part of"),
        ("a: " + "[" * 100_000, "at line 1, column 53: it is nested more than 50 deep"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "it is nested more than 50 deep"),
        ("seed: " + "9" * 5000, "is no int"),
        ("seed: 0x" + "f" * 5000, "does not fit in 64 bits"),
        ("seed: 18446744073709551616", "at line 1, column 7: '18446744073709551616' does not fit in 64 bits"),
        (r'a: "\ud83d"', "at line 1, column 4: a text holds half a surrogate pair"),
        ("a: 2026-99-99", "at line 1, column 4: '2026-99-99' is no timestamp"),
        ("a: !!bool maybe", "'maybe' is no bool"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: 1\nb: 2\na: 3", "at line 3, column 1: key 'a' is given twice"),
        ("a: 1\n b: 2", "at line 2, column 3: mapping values are not allowed here"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_hostile_and_torn_yaml_is_one_line(text: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_yaml(text, "Recipe r.yaml")
    assert told in str(caught.value)
    assert str(caught.value).startswith("Recipe r.yaml cannot be read")
    assert len(str(caught.value)) < 250


def test_ordinary_anchors_and_merges_are_read() -> None:
    text = "base: &b {lr: 1, steps: 2}\none: {<<: *b, lr: 3}\ntwo: {<<: *b}\n"
    assert parse_yaml(text, "r") == {
        "base": {"lr": 1, "steps": 2},
        "one": {"lr": 3, "steps": 2},
        "two": {"lr": 1, "steps": 2},
    }
    assert parse_yaml("seed: 9223372036854775807", "r") == {"seed": 2**63 - 1}


@given(st.text(alphabet="a:-[]{}&*!|>'\"# \n,?<0x9", max_size=60))
def test_any_text_is_a_value_or_one_error(text: str) -> None:
    try:
        parse_yaml(text, "r")
    except QuipwrightError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


def test_a_file_must_hold_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(RecipeError, match="holds a list, not a mapping of settings"):
        read_yaml(path, "Recipe")
    path.write_bytes(b"\xff\xfen\x00")
    with pytest.raises(DataError, match="is UTF-16, not UTF-8"):
        read_yaml(path, "Recipe")
    with pytest.raises(DataError, match=r"Recipe .*none\.yaml does not exist"):
        read_yaml(tmp_path / "none.yaml", "Recipe")


def test_override_builds_paths_and_keeps_the_original() -> None:
    tree = {"a": {"b": 1}, "list": [{"x": 1}]}
    assert override(tree, ["a.b=2", "c.d=[1, 2]", "list.0.x=true"]) == {
        "a": {"b": 2},
        "c": {"d": [1, 2]},
        "list": [{"x": True}],
    }
    assert tree == {"a": {"b": 1}, "list": [{"x": 1}]}


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("/data/a #1.jsonl", "/data/a #1.jsonl"),
        ("#1", "#1"),
        ("C#", "C#"),
        ("'a #1'", "a #1"),
        ('"a #1"', "a #1"),
        ("[1, 2]", [1, 2]),
        ("1e-3", "1e-3"),
        ("0.001", 0.001),
        ("true", True),
        ("", None),
    ],
)
def test_a_hash_in_an_assignment_begins_no_comment(value: str, meant: object) -> None:
    assert override({}, [f"a={value}"]) == {"a": meant}


@pytest.mark.parametrize("bad", ["a", "=1", "a.b.c=1", "list.5.x=1", "list.².x=1", "list.-1=2", "a.b={", "a.b=[x #1]"])
def test_override_refuses(bad: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        override({"a": {"b": 1}, "list": [1]}, [bad])


def test_a_bomb_in_an_assignment_is_refused() -> None:
    with pytest.raises(RecipeError, match="is not a YAML value"):
        override({}, ["a=" + "[" * 1000])


def test_validation_names_the_nearest_key_and_several_problems() -> None:
    with pytest.raises(RecipeError) as caught:
        validate(Outer, {"nam": "x", "inner": {"step": 1, "rate": "fast"}}, "Recipe r")
    assert str(caught.value) == (
        "Recipe r: 'inner.rate': input should be a valid number, unable to parse string as a number, got 'fast'; "
        "unknown key 'inner.step', the nearest valid one is 'steps'; "
        "unknown key 'nam', the nearest valid one is 'name'. Mend it and run again."
    )


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(RecipeError) as caught:
        validate(Outer, {"inner": {"steps": "x" * 1000}}, "Recipe r")
    assert len(str(caught.value)) < 250
