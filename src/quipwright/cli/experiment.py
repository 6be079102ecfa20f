"""The command ``experiment``: a grid of recipe variants, or several critics against people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quipwright.cli.output import JsonFile, check_json, results
from quipwright.core.log import loading


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(experiment)


def experiment(
    file: Annotated[Path, typer.Argument(help="An experiment: a YAML file of variants, or of critics.")],
    scale: Annotated[str | None, typer.Option(help="A size that the file defines, small for example.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="The folder (default: runs/NAME).")] = None,
    output: JsonFile = None,
) -> None:
    """Run a grid of recipe variants and seeds, or measure several critics against people.

    What is finished is kept, and one that fails stops no other.
    """
    check_json(output)
    loading("libraries")
    from quipwright.core.config_files import read_yaml
    from quipwright.core.progress import console
    from quipwright.core.storage.files import write_atomic
    from quipwright.evaluation.report.grid import grid_lines
    from quipwright.evaluation.report.latex import markdown_latex
    from quipwright.evaluation.report.markdown import experiment_markdown
    from quipwright.evaluation.report.pages import write_experiment
    from quipwright.pipeline.experiment.critics import load_critic_table, run_critic_table
    from quipwright.pipeline.experiment.grid import load_experiment, run_experiment

    tree = read_yaml(file, "Experiment")
    if "critics" in tree:
        table = load_critic_table(tree, file, scale)
        folder = _folder(run, table.name)
        measured = run_critic_table(table, file.parent, folder, _announce)
        failed, lines = any(isinstance(one, str) for one in measured.values()), None
    else:
        grid, base = load_experiment(file, scale)
        folder = _folder(run, grid.name)
        result = run_experiment(grid, base, folder, _announce)
        write_atomic(folder / "table.md", experiment_markdown(result))
        write_experiment(result, folder / "report.html")
        failed, lines = bool(result.silent) or any(row.failed for row in result.rows), list(grid_lines(result))
    table_text = (folder / "table.md").read_text(encoding="utf-8")
    write_atomic(folder / "table.tex", markdown_latex(table_text))
    results(lines or [table_text], json.loads((folder / "result.json").read_text(encoding="utf-8")), output)
    page = folder / "report.html"
    shown = f"Page: {page}   " if page.exists() else ""
    console.print(f"{shown}Table: {folder / 'table.md'} (LaTeX: table.tex)   Numbers: {folder / 'result.json'}")
    if failed:
        raise typer.Exit(1)


def _folder(run: Path | None, name: str) -> Path:
    from quipwright.core.storage.files import disk_errors

    folder = run or Path("runs") / name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _announce(line: str) -> None:
    from quipwright.core.progress import console

    console.print(f"[bold]{line}[/bold]")
