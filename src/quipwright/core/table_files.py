"""The one entrance for files of rows: JSONL, JSON, CSV, TSV, Parquet and plain lines; and the one CSV line on the way out.

What cannot be read is told, never passed over: a whole file by an error, a single row by its ``problem``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.text_files import check_item, decode, lines, parse_json, parse_object, read_bytes

_KINDS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".txt": "lines", ".text": "lines", "": "lines",
}  # fmt: skip
_PACKED = {".gz": "gunzip", ".zip": "unzip", ".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}
_CsvRecord = tuple[int, str, list[str], DataError | None]
_SEPARATORS = (",", ";", "\t", "|")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins with one of these."""


@dataclass(frozen=True)
class TableRow:
    """One row of a file.

    ``number`` counts from 1: lines of the file, or its rows where ``unit`` says so. ``fields`` is what stands in the row
    by column; of a file of plain lines it is empty and ``line`` has the text. ``problem`` says why the row cannot be
    read; ``fields`` is then empty and ``line`` has the row as it stands in the file.
    """

    number: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    line: str | None = None
    unit: str = "line"
    problem: DataError | None = None


def file_kind(path: Path, what: str = "Input") -> str:
    """``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or ``lines``, by the ending in any letter case.

    Raises :class:`DataError` for any other ending.
    """
    ending = path.suffix.lower()
    if ending in _PACKED:
        raise DataError(f"{what} {path} is packed.", f"Unpack it first, for example with {_PACKED[ending]}.")
    if ending not in _KINDS:
        known = ", ".join(name for name in _KINDS if name)
        raise DataError(f"{what} {path} ends in {path.suffix!r}, an ending that is not known.", f"Known are: {known}.")
    return _KINDS[ending]


def is_table(reference: str) -> bool:
    """Whether ``reference`` ends as a file of rows with named fields does, in any letter case."""
    return _KINDS.get(Path(reference).suffix.lower(), "lines") != "lines"


def read_table(path: Path, what: str = "Input") -> Iterator[TableRow]:
    """The rows of ``path`` in file order, blank lines left out.

    Raises :class:`DataError` at once where the file cannot be read as a whole: missing, empty, of an unknown ending, in
    another encoding, packed, with two columns of one name. A row that cannot be read is given with its ``problem``.
    """
    raw = read_bytes(path, what)
    kind = file_kind(path, what)
    if kind == "parquet":
        return _parquet(raw, f"{what} {path}")
    text = decode(raw, f"{what} {path}")
    if kind == "lines":
        return (TableRow(number, line=line.strip()) for number, line in lines(text))
    if kind == "json":
        return _json(path, text)
    if kind == "jsonl":
        return _jsonl(path, text)
    return _delimited(path, text, "\t" if kind == "tsv" else ",")


def csv_line(cells: Iterable[object], separator: str = ",") -> str:
    """One line of CSV (or TSV), its end (CR LF) included. A text that a spreadsheet would run gets a leading apostrophe, which
    :func:`read_table` takes away again; numbers stay as they are."""
    line = io.StringIO()
    csv.writer(line, delimiter=separator).writerow(
        [_guarded(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    return line.getvalue()


def _guarded(text: str) -> str:
    return "'" + text if text.lstrip("'").startswith(_FORMULA) else text


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


def _jsonl(path: Path, text: str) -> Iterator[TableRow]:
    for number, line in lines(text):
        try:
            yield TableRow(number, parse_object(line, f"{path} line {number}"))
        except DataError as error:
            yield TableRow(number, line=line, problem=error)


def _json(path: Path, text: str) -> Iterator[TableRow]:
    """The objects of a JSON list, a single object, or objects one a line."""
    if text.lstrip().startswith("["):
        return _items(path, parse_json(text, str(path)))
    try:
        return _items(path, [parse_json(text, str(path))])
    except DataError:
        return _jsonl(path, text)


def _items(path: Path, values: Sequence[Any]) -> Iterator[TableRow]:
    for number, value in enumerate(values, 1):
        try:
            yield TableRow(number, check_item(value, f"{path} item {number}"), unit="item")
        except DataError as error:
            yield TableRow(number, line=json.dumps(value), unit="item", problem=error)


def _delimited(path: Path, text: str, delimiter: str) -> Iterator[TableRow]:
    records = _records(path, text, delimiter)
    number, _, header, problem = next(records, (1, "", [], None))
    if problem is not None:
        raise problem
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} line {number} has two columns named {twice!r}.", "Rename or remove one of them.")
    if not any(names):
        raise DataError(f"{path} line {number} has no column names.", "Write them in the first line.")
    if len(names) == 1 and (other := next((s for s in _SEPARATORS if s in names[0]), "")):
        raise DataError(
            f"{path} line {number} has one column, {names[0][:60]!r}, which holds {other!r}.",
            "Separate the cells by commas and name the file .csv, or by tabs and name it .tsv.",
        )
    return _named_cells(path, names, records)


def _named_cells(path: Path, names: Sequence[str], records: Iterator[_CsvRecord]) -> Iterator[TableRow]:
    for number, line, cells, problem in records:
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if problem is None and len(cells) < len(names):
            size = f"has {len(cells)} of {len(names)} cells"
            problem = DataError(f"{path} line {number} {size}.", "Fill in the missing ones.")
        if problem is None and len(cells) > len(names):
            size = f"has {len(cells)} cells for {len(names)} columns"
            problem = DataError(f"{path} line {number} {size}.", "Quote a text that holds the separator.")
        if problem is not None:
            yield TableRow(number, line=line, problem=problem)
        else:
            fields = {name: _unguarded(cell) for name, cell in zip(names, cells, strict=True) if name}
            yield TableRow(number, fields)


def _records(path: Path, text: str, delimiter: str) -> Iterator[_CsvRecord]:
    """First line, text, cells and problem of each record that is not blank."""
    taken: list[str] = []  # the lines of one record

    def noted() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = DataError(f"{path} line {number} is not CSV: {error}.", "Mend its quotes.")
            yield number, "".join(taken).rstrip("\r\n"), [], problem
            continue
        if any(cell.strip() for cell in cells):
            yield number, "".join(taken).rstrip("\r\n"), cells, None


def _parquet(raw: bytes, where: str) -> Iterator[TableRow]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError("Parquet files need the package pyarrow.", "Install it: pip install pyarrow.") from None
    try:
        table = parquet.ParquetFile(io.BytesIO(raw)).read()
        names, rows = table.column_names, table.to_pylist()
    except Exception as error:  # of a damaged file pyarrow raises errors without a common base
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{where} is not Parquet: {reason}.", "Check how it was made.") from None
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has two columns named {twice!r}.", "Rename or remove one of them.")
    return (TableRow(number, fields, unit="row") for number, fields in enumerate(rows, 1))
