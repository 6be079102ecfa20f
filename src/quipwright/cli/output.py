"""What commands print with: a stream that no data can make command a terminal, and JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from quipwright.core.paths import check_writable
from quipwright.core.text import printable

STDOUT = Path("-")


class Harmless:
    """A text stream in front of another: control characters of data are written as escapes, ``\\x1b`` say.

    What the encoding of the stream lacks is written as an escape, too, so that no letter ends a command.
    """

    def __init__(self, stream: TextIO) -> None:
        """``stream`` gets what is written; all else is asked of it."""
        self.stream = stream

    def write(self, text: str) -> int:
        """Write ``text`` and return its length."""
        encoding = self.stream.encoding or "utf-8"
        shown = "\n".join(map(printable, text.split("\n")))
        self.stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has."""
        return getattr(self.stream, name)


JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the results to this file as JSON; - is standard output, alone.")
]


def results(lines: Iterable[str], value: Any, target: Path | None) -> None:
    """Print ``lines`` for people, and write ``value`` to ``target`` as JSON; on standard output it stands alone."""
    if target != STDOUT:
        print("\n".join(lines), flush=True)
    if target is not None:
        write_json(target, value)


def check_json(target: Path | None) -> None:
    """Raise where ``target`` cannot be written: before anything takes its time."""
    if target is not None and target != STDOUT:
        check_writable(target, "--json")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, whole or not at all, or print it."""
    from quipwright.core.storage.files import write_atomic

    text = json.dumps(value, indent=1, ensure_ascii=False)
    if path == STDOUT:
        print(text, flush=True)
    else:
        write_atomic(path, text)
