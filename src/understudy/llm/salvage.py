"""``python -m understudy.llm.salvage RUN/calls.sqlite``: keep what is readable of a torn store of calls."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from understudy.errors import DataError, UnderstudyError
from understudy.llm.callstore import CallStore, Stored, read_row
from understudy.store import disk_errors


def salvage(path: Path) -> tuple[int, Path]:
    """Copy every readable good row of a torn store to a new one; the torn file is kept beside it.

    Returns the number of rows kept and where the torn file now is.
    """
    kept = list(_readable(path))
    torn = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    with disk_errors(path):
        os.replace(path, torn)
        path.with_name(path.name + "-journal").unlink(missing_ok=True)
    with CallStore.open(path.parent) as store:
        store.put(kept)
    return len(kept), torn


def _readable(path: Path) -> Iterator[Stored]:
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        # Without this, SQLite refuses a file that is shorter than its header says before a single page is read.
        connection.execute("PRAGMA writable_schema=ON")
        misses, row = 0, 0
        while misses < 20_000:
            row += 1
            try:
                found = connection.execute("SELECT key, value, hash FROM calls WHERE row = ?", (row,)).fetchone()
            except sqlite3.DatabaseError:
                found = None
            stored = read_row(*found) if found else None
            misses = 0 if stored else misses + 1
            if stored:
                yield stored
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Salvage the named store, say how many answers were kept; returns the exit code."""
    try:
        if len(arguments) != 1 or not Path(arguments[0]).is_file():
            raise DataError(f"{' '.join(arguments) or 'nothing'} is no file.", "Name the calls.sqlite of a run folder.")
        kept, torn = salvage(Path(arguments[0]))
    except UnderstudyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{kept} answers kept in {arguments[0]}; the damaged file is {torn}. Run the same command again to go on.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
