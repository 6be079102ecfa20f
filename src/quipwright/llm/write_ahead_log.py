"""Answers on their way into the store: with the system at once, on the disk within the next commit.

A commit waits for the disk (20 ms on a slow one), and a slot should not wait for a commit. So every answer is first
appended to one of two small files without waiting; a killed process loses nothing that was written so, and the next
one to open the store takes it over. While one file's answers are being committed, new ones go to the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from quipwright.core.storage.files import disk_errors

Row = tuple[str, str, str]  # key, value, hash


class Tail:
    """The two files ``calls.tail0`` and ``calls.tail1`` of a run folder."""

    def __init__(self, folder: Path) -> None:
        """Open both; :meth:`leftover` must be taken over before anything is appended."""
        self.paths = [folder / "calls.tail0", folder / "calls.tail1"]
        with disk_errors(folder):
            self._files = [open(path, "ab", buffering=0) for path in self.paths]  # noqa: SIM115
        self._current = 0

    def append(self, row: Row) -> None:
        """Hand ``row`` to the system."""
        with disk_errors(self.paths[self._current]):
            self._files[self._current].write(json.dumps(row).encode() + b"\n")

    def swap(self) -> Callable[[], None]:
        """From now on append to the other file; gives what is to be called when all up to now is committed."""
        full = self._files[self._current]
        self._current = 1 - self._current
        return lambda: _empty(full)

    def leftover(self) -> list[Row]:
        """What a killed process left behind; a torn last line is left out (its hash could not match)."""
        rows: list[Row] = []
        for path in self.paths:
            for line in path.read_bytes().split(b"\n"):
                try:
                    key, value, hashed = json.loads(line)
                except ValueError:
                    continue
                rows.append((key, value, hashed))
        return rows

    def clear(self) -> None:
        """Everything is committed."""
        for file in self._files:
            _empty(file)

    def close(self) -> None:
        """Close both; empty ones are removed."""
        for file, path in zip(self._files, self.paths, strict=True):
            file.close()
            if path.exists() and not path.stat().st_size:
                path.unlink()


def _empty(file: object) -> None:
    file.truncate(0)  # type: ignore[attr-defined]
