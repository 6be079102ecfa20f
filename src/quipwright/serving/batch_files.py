"""A file of sentences through a student, streamed: rows that cannot be used are written with their reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from quipwright.core.errors import DataError, QuipwrightError
from quipwright.core.storage.files import disk_errors
from quipwright.core.table_files import csv_line, file_kind
from quipwright.core.text import printable
from quipwright.data.examples import Row, read_rows
from quipwright.serving.writer import Writer

BATCH = 256  # sentences written together


def write_file(
    writer: Writer, source: Path, target: Path | None, column: str | None, n: int, best_of: int
) -> tuple[int, int]:
    """Write for every row of ``source``, streaming to ``target`` (standard output if ``None``) as rows are done.

    A row that cannot be used is written with its reason and does not stop the others. Returns (done, failed). Raises
    :class:`DataError` before ``target`` is made where the source cannot be read at all.
    """
    source_rows = read_rows(source, column, keep_bad=True)
    done = failed = 0
    with _sink(target, writer.task.output) as sink:
        for rows in _batches(source_rows, BATCH):
            for row, result in _attempt(writer, rows, n, best_of):
                sink(row, result)
                done, failed = done + isinstance(result, list), failed + isinstance(result, str)
    return done, failed


def _attempt(writer: Writer, rows: Sequence[Row], n: int, best_of: int) -> Iterator[tuple[Row, list[str] | str]]:
    """Each row with its texts, or with why it has none, in the order of ``rows``. Where a row in it is refused, a batch
    is halved until that row stands alone."""
    usable = [row for row in rows if any(c.isalpha() for c in row.literal)]
    lines = {row.line for row in usable}
    try:
        written = writer.stream([row.literal for row in usable], n=n, best_of=best_of) if usable else iter(())
    except QuipwrightError as error:
        if len(rows) > 1:
            half = len(rows) // 2
            yield from _attempt(writer, rows[:half], n, best_of)
            yield from _attempt(writer, rows[half:], n, best_of)
        else:
            yield rows[0], error.problem
        return
    results: dict[int, list[str]] = {}
    for row in rows:
        while row.line in lines and row.line not in results:
            place, texts = next(written)
            results[usable[place].line] = texts
        reason = row.problem.problem if row.problem is not None else "no sentence in this row"
        yield row, results.get(row.line, reason)


@contextmanager
def _sink(target: Path | None, output: str) -> Iterator[Any]:
    """A function that writes one row in the target's format: JSONL, CSV or plain lines, by its ending."""
    if target is None:
        yield lambda row, result: print("\n".join(_lines(row, result)), flush=True)
        return
    if target.exists():
        raise DataError(f"{target} exists already.", "Name another file, or remove it first.")
    kind = file_kind(target, "Output")
    if kind not in ("csv", "jsonl", "lines"):
        raise DataError(f"Output {target} cannot be written as {kind}.", "End its name in .jsonl, .csv or .txt.")
    with disk_errors(target), open(target, "w", encoding="utf-8", newline="") as file:
        if kind == "csv":
            _flush(file, csv_line(["literal", output, "error"]))
            yield lambda row, result: _flush(file, _csv_rows(row, result))
        elif kind == "jsonl":
            yield lambda row, result: _flush(file, json.dumps(_object(row, result, output), ensure_ascii=False) + "\n")
        else:
            yield lambda row, result: _flush(file, "\n".join(_lines(row, result)) + "\n")


def _lines(row: Row, result: list[str] | str) -> list[str]:
    if isinstance(result, str):
        print(printable(f"{row.place}: {result}"), file=sys.stderr)
        return [""]
    return result


def _object(row: Row, result: list[str] | str, output: str) -> dict[str, Any]:
    outcome = {"error": result} if isinstance(result, str) else {output: result}
    return {"line": row.line, "literal": row.literal, **outcome}


def _csv_rows(row: Row, result: list[str] | str) -> str:
    if isinstance(result, str):
        return csv_line([row.literal, "", result])
    return "".join(csv_line([row.literal, text, ""]) for text in result)


def _flush(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
