"""What commands print with: a stream that no data can make command a terminal, and JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from quipwright.core.text import printable


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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, whole or not at all."""
    from quipwright.core.storage.files import write_atomic

    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False))
