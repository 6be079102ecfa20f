"""Commands for a beginning: ``init`` makes the files of a skill of your own, ``schema`` tells an editor what recipes hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quipwright.core.errors import DataError


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(init)
    app.command()(schema)


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for the files; new or empty.")]) -> None:
    """Make the files of a skill of your own: a task, a recipe and data, with comments, ready to run."""
    from quipwright.core.paths import SCAFFOLD, SCHEMA, check_writable, shipped_recipes
    from quipwright.core.storage.files import disk_errors, write_atomic_bytes

    files = {path.name: path for path in sorted(SCAFFOLD.iterdir())} | {SCHEMA: shipped_recipes() / SCHEMA}
    for name in files:
        if (folder / name).exists():
            raise DataError(f"{folder / name} exists already.", "Name another folder.")
    check_writable(folder / "recipe.yaml", "The folder")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        write_atomic_bytes(folder / name, source.read_bytes())
        print(folder / name)
    recipe = folder / "recipe.yaml"
    print(f"\nNext: quipwright data {recipe}\n      quipwright distil {recipe} --run {folder / 'run'}")
    print(f'      quipwright write --run {folder / "run"} "Move your car."')


def schema() -> None:
    """Print the JSON schema of recipes, for an editor that completes settings and marks mistakes."""
    from quipwright.core.paths import SCHEMA, shipped_recipes

    print((shipped_recipes() / SCHEMA).read_text(encoding="utf-8"), end="")
