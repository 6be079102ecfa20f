"""Progress that names the stage: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.markup import render
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quipwright.core.log import LOG, SHOWN, say
from quipwright.core.text import printable


class Spoken(Console):
    """Standard error for people: what it prints stands in the log file too, and is not shown to those who want quiet."""

    def print(self, *objects: Any, **how: Any) -> None:
        """As rich's."""
        if objects and all(isinstance(one, str) for one in objects):
            line = " ".join(objects).strip()
            LOG.info(printable(line if how.get("markup") is False else render(line).plain))
        if not SHOWN.quiet:
            super().print(*objects, **how)


console = Spoken(stderr=True)


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
    lines = _Lines(stage, total, unit, done, shown=not console.is_terminal)
    if not console.is_terminal or SHOWN.quiet:
        yield lines
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
            lines(units, note)

        yield step


class _Lines:
    """Progress as lines of text: ``shown`` to people, or only for the log file."""

    def __init__(self, stage: str, total: int, unit: str, done: int, *, shown: bool) -> None:
        self.stage, self.total, self.unit, self.done, self.shown = stage, total, unit, done, shown

    def __call__(self, units: int = 1, note: str = "") -> None:
        before, self.done = self.done, self.done + units
        if self.total and 4 * before // self.total < 4 * self.done // self.total:
            line = printable(f"{self.stage}: {self.done}/{self.total} {self.unit} {note}").rstrip()
            say(line) if self.shown else LOG.info(line)
