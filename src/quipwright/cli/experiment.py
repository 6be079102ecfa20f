"""The command ``quipwright experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quipwright.core.progress import console


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(experiment)


def experiment(
    file: Annotated[Path, typer.Argument(help="An experiment: a YAML file of variants, or of critics.")],
    scale: Annotated[str | None, typer.Option(help="A size that the file defines, small for example.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="The folder (default: runs/NAME).")] = None,
) -> None:
    """Run a grid of recipe variants and seeds, or measure several critics against people; what is finished is kept,
    and one that fails stops no other."""
    console.print("[dim]loading libraries …[/dim]")
    from quipwright.core.config_files import read_yaml
    from quipwright.pipeline.experiment.critics import critics_markdown, load_critic_table, run_critic_table
    from quipwright.pipeline.experiment.grid import load_experiment, markdown, run_experiment

    tree = read_yaml(file, "Experiment")
    if "critics" in tree:
        table = load_critic_table(tree, file, scale)
        folder = _folder(run, table.name)
        found = run_critic_table(table, file.parent, folder, _told)
        _print(critics_markdown(table, found), folder, failed=any(isinstance(one, str) for one in found.values()))
    else:
        grid, base = load_experiment(file, scale)
        folder = _folder(run, grid.name)
        result = run_experiment(grid, base, folder, _told)
        _print(markdown(result), folder, failed=bool(result.silent) or any(row.failed for row in result.rows))


def _folder(run: Path | None, name: str) -> Path:
    from quipwright.core.storage.files import disk_errors

    folder = run or Path("runs") / name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _told(line: str) -> None:
    console.print(f"[bold]{line}[/bold]")


def _print(table: str, folder: Path, *, failed: bool) -> None:
    print(table)
    page = folder / "report.html"
    shown = f"Page: {page}   " if page.exists() else ""
    console.print(f"{shown}Table: {folder / 'table.md'}   Numbers: {folder / 'result.json'}")
    if failed:
        raise typer.Exit(1)
