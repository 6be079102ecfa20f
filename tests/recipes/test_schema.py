"""The JSON schema that editors read: it is that of the settings, fits every recipe, and refuses what no recipe holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.config_files import read_yaml
from quipwright.core.paths import SCAFFOLD
from quipwright.pipeline.recipe_schema import recipe_schema

FOLDER = Path(__file__).parents[2] / "recipes"
SHIPPED: dict[str, Any] = json.loads((FOLDER / "recipe.schema.json").read_text(encoding="utf-8"))
RECIPES = [*sorted(FOLDER.glob("*.yaml")), SCAFFOLD / "recipe.yaml"]
TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None), "array": list, "object": dict
}  # fmt: skip


def fits(value: Any, schema: Any) -> bool:
    """Whether ``value`` fits ``schema``: as much of JSON Schema as the file uses."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return fits(value, SHIPPED["$defs"][schema["$ref"].rpartition("/")[2]])
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "type" in schema and not _is(value, schema["type"]):
        return False
    if "anyOf" in schema and not any(fits(value, one) for one in schema["anyOf"]):
        return False
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        return set(schema.get("required", ())) <= value.keys() and all(
            fits(item, known[name]) if name in known else fits(item, rest) for name, item in value.items()
        )
    return not isinstance(value, list) or all(fits(item, schema.get("items", True)) for item in value)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def test_the_file_that_ships_is_the_schema_of_the_settings() -> None:
    assert recipe_schema() == SHIPPED, "python -m quipwright.pipeline.recipe_schema > recipes/recipe.schema.json"


def test_the_command_prints_it(quipwright: Any) -> None:
    code, out, err = quipwright("schema")
    assert (code, err, json.loads(out)) == (0, "", SHIPPED)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_fits_and_is_linked_to_it(recipe: Path) -> None:
    assert recipe.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert fits(read_yaml(recipe, "Recipe"), SHIPPED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 1},
        {"rounds": "two"},
        {"candidates": {"kk": 3}},
        {"learn": {"objective": {"kind": "ppo"}}},
        {"critic": {"kind": "panel", "critics": [{"kind": "reward", "weights": "x"}]}},
    ],
    ids=lambda tree: next(iter(tree)),
)
def test_what_no_recipe_holds_does_not_fit(wrong: dict[str, Any]) -> None:
    assert not fits({"name": "x", **wrong}, SHIPPED)


def test_what_may_be_left_out_may_be_left_out() -> None:
    assert fits({}, SHIPPED)  # the file's name is the recipe's
    assert fits({"learn": {"objective": {"beta": 0.2}}, "scorer": {"path": "x"}}, SHIPPED)
