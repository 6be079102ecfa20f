"""The JSON schema of recipes, by which editors complete settings and mark what is wrong.

``python -m quipwright.pipeline.recipe_schema > recipes/recipe.schema.json`` writes the file that ships.
"""

from __future__ import annotations

import json
from typing import Any

from quipwright.pipeline.recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """The schema of what a recipe file may hold: a mapping as :class:`Recipe` reads it, whose ``name`` may be that of the
    file.

    Where one of several kinds is meant, ``kind`` may be left out if it is the default one, so that more than one may fit.
    """
    tree: dict[str, Any] = _loosened(Recipe.model_json_schema())
    tree["required"] = [name for name in tree.get("required", ()) if name != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **tree}


def _loosened(node: Any) -> Any:
    if isinstance(node, list):
        return [_loosened(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        name: _loosened(value) for name, value in node.items() if name != "discriminator" or "propertyName" not in value
    }
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")
    return kept


if __name__ == "__main__":
    print(json.dumps(recipe_schema(), indent=1, ensure_ascii=False))
