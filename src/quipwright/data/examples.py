"""Literal sentences in: JSONL, CSV, Parquet, plain text or hub data sets, checked before anything is spent on them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from quipwright.core.errors import DataError
from quipwright.core.paths import BUNDLED, resolve
from quipwright.core.records import Example, Split, content_hash
from quipwright.core.settings import Settings
from quipwright.core.text import normalise, word_count
from quipwright.core.text_files import read_text
from quipwright.data.hub import HUB, cleaned, hub_splits

SPLITS: tuple[Split, ...] = get_args(Split)


class DataSettings(Settings):
    """Where the literals come from and how many of each split are used (``None`` is all of them).

    ``path``: JSONL or Parquet (field ``literal`` or ``text``, optional ``split``), CSV (``column``) or plain lines. Rows without
    a split get one by a hash of their text: 85 % train, 5 % valid, 10 % test. ``duplicates``: ``error`` or ``drop``.
    Or ``hub:OWNER/NAME[@REVISION]``, cleaned where it is EmpatheticDialogues or SAMSum. ``ood_path``: a second source,
    all of which is the ``ood`` split (less what the first one has).
    """

    path: str = "bundled:humour.jsonl"
    column: str | None = None
    ood_path: str | None = None
    train: int | None = Field(None, ge=0)
    valid: int | None = Field(None, ge=0)
    test: int | None = Field(None, ge=0)
    ood: int | None = Field(None, ge=0)
    duplicates: Literal["error", "drop"] = "error"


@dataclass(frozen=True)
class Row:
    """One input row: its line number (from 1), its literal and whatever else stood in it."""

    line: int
    literal: str
    fields: dict[str, Any]


def read_rows(path: Path, column: str | None = None) -> Iterator[Row]:
    """Rows of a JSONL, CSV, Parquet or text file, by its ending. Raises :class:`DataError` naming the line."""
    if path.suffix == ".parquet":
        yield from _parquet(path, column)
        return
    text = read_text(path, "Input")
    if path.suffix in (".jsonl", ".ndjson"):
        yield from _jsonl(path, text, column)
    elif path.suffix == ".csv":
        yield from _csv(path, text, column)
    else:
        lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
        yield from (Row(number, line, {}) for number, line in lines if line)


def json_objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line of ``text``, which ``path`` holds. Raises :class:`DataError` naming a
    bad line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError:
            raise DataError(f"{path} line {number} is not JSON: {line[:40]!r}.", "Write one object a line.") from None
        if not isinstance(fields, dict):
            raise DataError(
                f"{path} line {number} is a {type(fields).__name__}, not an object.", "Write one object a line."
            )
        yield number, fields


def _jsonl(path: Path, text: str, column: str | None) -> Iterator[Row]:
    for number, fields in json_objects(path, text):
        yield Row(number, _literal(fields, column, f"{path} line {number}"), fields)


def _csv(path: Path, text: str, column: str | None) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text))
    try:
        for fields in reader:
            yield Row(reader.line_num, _literal(fields, column, f"{path} line {reader.line_num}"), dict(fields))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is not CSV: {error}.", "Mend that line.") from None


def _parquet(path: Path, column: str | None) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError("Parquet files need the package pyarrow.", "Install it: pip install pyarrow.") from None
    try:
        table = parquet.read_table(path)
    except FileNotFoundError:
        raise DataError(f"Input {path} does not exist.", "Check the path.") from None
    except (ArrowException, OSError) as error:
        raise DataError(f"Input {path} is not Parquet: {' '.join(str(error).split())[:100]}.", "Check it.") from None
    for number, fields in enumerate(table.to_pylist(), 1):
        yield Row(number, _literal(fields, column, f"{path} row {number}"), fields)


def _literal(fields: dict[str, Any], column: str | None, where: str) -> str:
    for name in (column,) if column else ("literal", "text"):
        if isinstance(fields.get(name), str):
            return str(fields[name])
    wanted = repr(column) if column else "'literal' or 'text'"
    raise DataError(
        f"{where} has no text field {wanted}; it has {', '.join(map(str, fields))}.", "Name it with column."
    )


def load_examples(settings: DataSettings, base: Path | None = None) -> list[Example]:
    """The examples that a run uses, in file order within each split, capped as ``settings`` say."""
    seen: dict[str, str] = {}
    found = _source(settings.path, settings, base, seen)
    if settings.ood_path is not None:
        # the second source is another domain: what both have stays where it was
        apart = settings.model_copy(update={"duplicates": "drop"})
        extra = _source(settings.ood_path, apart, base, seen)
        found = [e for e in found if e.split != "ood"] + [e.model_copy(update={"split": "ood"}) for e in extra]
    limits = {"train": settings.train, "valid": settings.valid, "test": settings.test, "ood": settings.ood}
    return [example for split in SPLITS for example in _of(found, split)[: limits[split]]]


def source_name(reference: str) -> str:
    """What examples from ``reference`` (a file or a hub data set) name as their source."""
    return reference if reference.startswith(HUB) else Path(reference.removeprefix(BUNDLED)).name


def _source(reference: str, settings: DataSettings, base: Path | None, seen: dict[str, str]) -> list[Example]:
    """All examples of one file or hub data set; ``seen`` says where each text (casefolded) was first met."""
    if reference.startswith(HUB):
        pairs = cleaned(hub_splits(reference), settings.column)
        rows: Iterator[Row] = (Row(i, text, {"split": split}) for i, (text, split) in enumerate(pairs, 1))
        place = Path(reference.removeprefix(HUB))
    else:
        place = resolve(reference, "Data", base)
        rows = read_rows(place, settings.column)
    name, found = source_name(reference), list[Example]()
    for row in rows:
        text = normalise(row.literal)
        if not any(character.isalpha() for character in text):
            raise DataError(f"{place} line {row.line} holds no sentence: {row.literal[:40]!r}.", "Remove that line.")
        here = f"line {row.line}"
        if (first := seen.setdefault(text.casefold(), f"{reference} {here}")) != f"{reference} {here}":
            if settings.duplicates == "drop":
                continue
            raise DataError(
                f"{place} {here} repeats the literal of line {first.rpartition(' ')[2]}: {text[:60]!r}.",
                "Remove one of them, or set data.duplicates: drop.",
            )
        found.append(Example(text=text, split=_split(row, place), source=name))
    return found


def overview(examples: Sequence[Example], shown: int = 3) -> str:
    """What would be used, in plain lines: each split's size, mean words and first literals."""
    lines = []
    for split in SPLITS:
        own = _of(examples, split)
        words = sum(word_count(e.text) for e in own) / len(own) if own else 0.0
        sources = ", ".join(sorted({e.source for e in own}))
        lines.append(
            f"{split}: {len(own)} literals" + (f", {words:.1f} words on average, from {sources}" if own else "")
        )
        lines += [f"  {e.text}" for e in own[:shown]]
    return "\n".join(lines)


def _of(examples: Sequence[Example], split: str) -> list[Example]:
    return [example for example in examples if example.split == split]


def _split(row: Row, path: Path) -> Split:
    split = split_of(row, str(path))
    if split is None:
        place = int(content_hash(normalise(row.literal)), 16) % 100
        return "train" if place < 85 else "valid" if place < 90 else "test"
    return split


def split_of(row: Row, where: str) -> Split | None:
    """The split that ``row`` of ``where`` names, if any. Raises :class:`DataError` for an unknown one."""
    split = row.fields.get("split")
    if split is None or split == "":
        return None
    if split not in SPLITS:
        raise DataError(f"{where} line {row.line} has split {split!r}.", f"Use one of {', '.join(SPLITS)}.")
    found: Split = split
    return found
