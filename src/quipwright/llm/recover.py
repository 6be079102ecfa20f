"""``python -m quipwright.llm.recover RUN/calls.sqlite``: keep what is readable of a torn store of calls."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError, QuipwrightError
from quipwright.core.storage.files import disk_errors
from quipwright.llm.call_rows import SPENT, Failed, Spending, Stored, read_note, read_row, read_text
from quipwright.llm.call_store import FILE, CallStore, store_lock

_GAP = 20_000  # so many rows may be missing in a row before we believe that no more follow
_BESIDE = ("-wal", "-shm", "-journal")
_COLUMNS = {
    "calls": "key, value, hash",
    "notes": "name, value, hash",
    "failures": "key, model, reason, status, attempts, charged",
}


@dataclass(frozen=True)
class _Found:
    """What could be read of a torn store."""

    answers: list[Stored]
    notes: dict[str, Any]
    failures: list[Failed]

    def __bool__(self) -> bool:
        return bool(self.answers or self.notes or self.failures)


def salvage(path: Path) -> tuple[int, Path]:
    """Copy every readable good row of a torn store to a new one; the torn file is kept beside it.

    Returns the number of answers kept and where the torn file now is. Raises :class:`RunError` when a run has it open.
    """
    torn, fresh = (path.with_name(f"{path.name}.{end}") for end in (f"damaged-{int(time.time())}", "salvaged"))
    with store_lock(path.parent), disk_errors(path):
        found, spent = _readable(path), Spending.beside(path)
        for file in (fresh, *_beside(fresh)):
            file.unlink(missing_ok=True)
        with CallStore.connect(fresh) as store:
            store.put(found.answers, found.failures)
            for name, value in found.notes.items():
                store.set_note(name, value)
            store.salvaged(spent)
        for old, new in zip((*_beside(path), path), (*_beside(torn), torn), strict=True):
            if old.exists():
                os.replace(old, new)
        fresh.with_name(SPENT).unlink(missing_ok=True)
        os.replace(fresh, path)
    return len(found.answers), torn


def _beside(path: Path) -> list[Path]:
    """The files that SQLite keeps beside ``path``: they belong to it and to no other."""
    return [path.with_name(path.name + end) for end in _BESIDE]


def _readable(path: Path) -> _Found:
    """What can be read, with what a killed process left in the write-ahead log where that can be read too."""
    if not path.exists():
        return _Found([], {}, [])
    logged = _read(path, "mode=ro") if _beside(path)[0].exists() else None
    return logged or _read(path, "mode=ro&immutable=1")


def _read(path: Path, way: str) -> _Found:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{way}", uri=True)) as connection:
        connection.text_factory = read_text
        # Without this, SQLite refuses a file that is shorter than its header says before a single page is read.
        connection.execute("PRAGMA writable_schema=ON")
        answers = [stored for row in _rows(connection, "calls") if (stored := read_row(*row)) is not None]
        notes = {row[0]: value for row in _rows(connection, "notes") if (value := read_note(*row)) is not None}
        failures = [Failed(*row) for row in _rows(connection, "failures") if _sound(*row)]
    return _Found(answers, notes, failures)


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    misses = row = 0
    while misses < _GAP:
        row += 1
        try:
            values = connection.execute(f"SELECT {_COLUMNS[table]} FROM {table} WHERE rowid = ?", (row,)).fetchone()
        except sqlite3.DatabaseError:
            values = None
        misses = 0 if values else misses + 1
        if values:
            yield values


def _sound(key: Any, model: Any, reason: Any, status: Any, attempts: Any, charged: Any) -> bool:
    """Whether a row of failures, which has no hash, can be one."""
    texts = all(isinstance(text, str) for text in (key, model, reason)) and isinstance(status, int | None)
    return texts and isinstance(attempts, int) and isinstance(charged, float) and math.isfinite(charged)


def main(arguments: list[str]) -> int:
    """Salvage the named store, say how many answers were kept; returns the exit code."""
    try:
        path = Path(arguments[0]) if len(arguments) == 1 else Path()
        if not path.is_file() and not (path.name == FILE and path.with_name(SPENT).exists()):
            raise DataError(f"{' '.join(arguments) or 'nothing'} is no file.", "Name the calls.sqlite of a run folder.")
        kept, torn = salvage(path)
    except QuipwrightError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{kept} answers kept in {arguments[0]}; the damaged file is {torn}. Run the same command again to go on.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
