"""The command ``understudy experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.progress import console


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(experiment)


def experiment(
    file: Annotated[Path, typer.Argument(help="An experiment: a YAML file of variants.")],
    scale: Annotated[str | None, typer.Option(help="A size that the file defines, small for example.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="The folder (default: runs/NAME).")] = None,
) -> None:
    """Run a grid of recipe variants and seeds; what is finished is kept, and one that fails stops no other."""
    console.print("[dim]loading libraries …[/dim]")
    from understudy.experiment import load_experiment, markdown, run_experiment
    from understudy.store import disk_errors

    chosen, base = load_experiment(file, scale)
    folder = run or Path("runs") / chosen.name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    result = run_experiment(chosen, base, folder, lambda line: console.print(f"[bold]{line}[/bold]"))
    print(markdown(result))
    console.print(f"Page: {folder / 'report.html'}   Table: {folder / 'table.md'}   Numbers: {folder / 'result.json'}")
    if any(row.failed for row in result.rows):
        raise typer.Exit(1)
