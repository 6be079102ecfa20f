"""The one way out for tables: JSONL, CSV, TSV, Parquet or plain lines, whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.storage.files import write_atomic_bytes
from quipwright.core.table_files import csv_line, file_kind

WRITABLE = ("jsonl", "csv", "tsv", "parquet", "lines")

_SEPARATORS = {"csv": ",", "tsv": "\t"}


def output_kind(path: Path) -> str:
    """The form of a file to be written, by its ending. Raises :class:`DataError` for one that is not written."""
    kind = file_kind(path, "Output")
    if kind not in WRITABLE:
        raise DataError(
            f"Output {path} cannot be written as {kind}.", "End its name in .jsonl, .csv, .tsv, .parquet or .txt."
        )
    return kind


def head_text(kind: str, columns: Sequence[str]) -> str:
    """What stands before the rows of a table of text: the columns' names in CSV and TSV, nothing in JSONL."""
    return "" if kind == "jsonl" else csv_line(columns, _SEPARATORS[kind])


def row_text(kind: str, columns: Sequence[str], row: Mapping[str, Any], spread: str = "") -> str:
    """``row`` as text of the form ``kind``: ``jsonl``, ``csv`` or ``tsv``.

    A list in the column ``spread`` takes a line of cells for each item, and the other cells are repeated; any other list
    or object becomes JSON.
    """
    if kind == "jsonl":
        return json.dumps(row, ensure_ascii=False, default=str) + "\n"
    items = row.get(spread)
    lines = []
    for item in items if isinstance(items, list) and items else [items]:
        cells = {**row, spread: item}
        lines.append(csv_line((_cell(cells.get(column)) for column in columns), _SEPARATORS[kind]))
    return "".join(lines)


def write_table(
    path: Path, kind: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], spread: str = ""
) -> None:
    """Write ``rows`` to ``path`` in the form ``kind`` (see :func:`row_text`, or ``parquet``), whole or not at all.

    Raises :class:`DataError` where Parquet is asked for and pyarrow is missing, or cannot hold the columns.
    """
    if kind == "parquet":
        write_atomic_bytes(path, _parquet(columns, rows))
    else:
        lines = [head_text(kind, columns), *(row_text(kind, columns, row, spread) for row in rows)]
        write_atomic_bytes(path, "".join(lines).encode())


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


def _parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError("Parquet files need the package pyarrow.", "Install it: pip install pyarrow.") from None
    try:
        table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"Parquet cannot hold these columns: {reason}.", "Write .jsonl instead.") from None
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()
