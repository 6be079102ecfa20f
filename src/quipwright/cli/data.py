"""The command ``data``: what a recipe would use, before anything is spent on it."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(data)


def data(
    recipe: Annotated[str, typer.Argument(help="A recipe: a .yaml file, or the name of one that ships.")],
    assign: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Literals to show of each split.")] = 3,
) -> None:
    """Show what RECIPE would use: the literals of each split, how many, how long, where from. Nothing is run."""
    from quipwright.data.examples import load_data, overview
    from quipwright.pipeline.recipe import load_recipe

    chosen, base = load_recipe(recipe, assign or ())
    print(overview(load_data(chosen.data, base), show))
