"""Commands about data: what a recipe would use, and rows to and from other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quipwright.cli.output import JsonFile, results
from quipwright.core.errors import DataError, RecipeError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(data)
    app.command("export-data")(export_data)
    app.command("import-data")(import_data)


def data(
    recipe: Annotated[str, typer.Argument(help="A recipe: a .yaml file, or the name of one that ships.")],
    assign: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Literals to show of each split.")] = 3,
    output: JsonFile = None,
) -> None:
    """Show what RECIPE would use: the literals of each split, how many, how long, where from. Nothing is run."""
    from quipwright.data.examples import load_data, overview
    from quipwright.pipeline.recipe import load_recipe

    chosen, base = load_recipe(recipe, assign or ())
    loaded = load_data(chosen.data, base)
    told = {"examples": [e.model_dump(mode="json") for e in loaded.examples], "left_out": dict(loaded.dropped)}
    results([overview(loaded, show)], told, output)


def export_data(
    source: Annotated[str, typer.Argument(help="A run, or a file of verdicts (sft: of a recorded teacher).")],
    target: Annotated[Path, typer.Argument(help="A new folder.")],
    form: Annotated[
        str, typer.Option(help="dpo (prompt, chosen, rejected), kto (labels) or sft (completions).")
    ] = "dpo",
    chat: Annotated[bool, typer.Option("--chat", help="Conversations instead of text.")] = False,
    task: Annotated[str | None, typer.Option(help="The task whose prompt a file's rows get.")] = None,
    output: JsonFile = None,
) -> None:
    """Write data for TRL: a folder that datasets loads, with a card."""
    from quipwright.data.task import Task
    from quipwright.serving.export.data_folder import SHAPES
    from quipwright.serving.export.data_folder import export_data as write_data

    shape = next((known for known in SHAPES if known == form), None)
    if shape is None:
        raise RecipeError(f"--form got {form!r}.", "Use dpo, kto or sft.")
    sizes = write_data(source, target, shape, Task.load(task) if task else None, chat)
    line = f"{target}: " + ", ".join(f"{size} rows {split}" for split, size in sizes.items())
    results([line], {"folder": str(target), "rows": dict(sizes)}, output)


def import_data(
    source: Annotated[Path, typer.Argument(help="Rows of TRL or like UltraFeedback's: .jsonl, .json, .parquet, .csv.")],
    target: Annotated[Path, typer.Argument(help="The new file: .jsonl.")],
    task: Annotated[str | None, typer.Option(help="The task whose prompt may stand around the sentences.")] = None,
) -> None:
    """Turn preference or KTO rows into verdicts for train-critic, prompt-completion rows into a recorded teacher."""
    from quipwright.core.paths import check_writable
    from quipwright.core.table_files import read_table
    from quipwright.core.table_writer import write_table
    from quipwright.data.exchange import read_preferences, read_taught
    from quipwright.data.task import Task

    if target.exists():
        raise DataError(f"{target} exists already.", "Name another file, or remove it first.")
    check_writable(target, "Output")
    rows = []
    for row in read_table(source):
        if row.problem is not None:
            raise row.problem
        rows.append((f"{source} {row.unit} {row.number}", row.fields))
    chosen = Task.load(task) if task else Task.load()
    if rows and not {"chosen", "label"} & rows[0][1].keys():
        taught = read_taught(rows, chosen)
        written = [{"literal": literal, chosen.output: texts} for literal, texts in taught.items()]
    else:
        written = [verdict.model_dump(exclude_none=True) for verdict in read_preferences(rows, chosen)]
    write_table(target, "jsonl", (), written)
    print(f"{target}: {len(written)} rows")
