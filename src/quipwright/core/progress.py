"""Progress that names the stage: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quipwright.core.text import printable

console = Console(stderr=True)


@runtime_checkable
class Step(Protocol):
    """Call it after each piece of work, with how many units it was and what to show beside the bar."""

    def __call__(self, units: int = 1, note: str = "") -> None:
        """Advance by ``units``."""


@contextmanager
def bar(stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Step]:
    """A progress bar for ``total`` units of ``stage``, of which ``done`` were made by an earlier run.

    Where the output is no terminal (a log, CI) it is a line every quarter instead.
    """
    if not console.is_terminal:
        yield _Lines(stage, total, unit, done)
        return
    columns = (
        TextColumn("{task.description:<22}", style="bold", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(printable(stage), total=total, completed=done, unit=unit, note="")

        def step(units: int = 1, note: str = "") -> None:
            progress.update(task, advance=units, note=printable(note))

        yield step


class _Lines:
    """Progress as lines of text."""

    def __init__(self, stage: str, total: int, unit: str, done: int) -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, done

    def __call__(self, units: int = 1, note: str = "") -> None:
        before, self.done = self.done, self.done + units
        if self.total and 4 * before // self.total < 4 * self.done // self.total:
            line = printable(f"{self.stage}: {self.done}/{self.total} {self.unit} {note}")
            print(line.rstrip(), file=sys.stderr, flush=True)
