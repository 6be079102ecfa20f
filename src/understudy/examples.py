"""Literal sentences in: JSONL, CSV or plain text, checked before anything is spent on them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from understudy.errors import DataError
from understudy.records import Example, Split, content_hash
from understudy.resources import resolve
from understudy.settings import Settings, read_text
from understudy.text import normalise

SPLITS: tuple[Split, ...] = get_args(Split)


class DataSettings(Settings):
    """Where the literals come from and how many of each split are used (``None`` is all of them).

    ``path``: JSONL (field ``literal`` or ``text``, optional ``split``), CSV (``column``) or plain lines. Rows without
    a split get one by a hash of their text: 85 % train, 5 % valid, 10 % test. ``duplicates``: ``error`` or ``drop``.
    """

    path: str = "bundled:humour.jsonl"
    column: str | None = None
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
    """Rows of a JSONL, CSV or text file, by its ending. Raises :class:`DataError` naming the line."""
    text = read_text(path, "Input")
    if path.suffix in (".jsonl", ".ndjson"):
        yield from _jsonl(path, text, column)
    elif path.suffix == ".csv":
        yield from _csv(path, text, column)
    else:
        lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
        yield from (Row(number, line, {}) for number, line in lines if line)


def _jsonl(path: Path, text: str, column: str | None) -> Iterator[Row]:
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
        yield Row(number, _literal(fields, column, f"{path} line {number}"), fields)


def _csv(path: Path, text: str, column: str | None) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text))
    try:
        for fields in reader:
            yield Row(reader.line_num, _literal(fields, column, f"{path} line {reader.line_num}"), dict(fields))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is not CSV: {error}.", "Mend that line.") from None


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
    path = resolve(settings.path, "Data", base)
    found: list[Example] = []
    seen: dict[str, int] = {}
    for row in read_rows(path, settings.column):
        text = normalise(row.literal)
        if not any(character.isalpha() for character in text):
            raise DataError(f"{path} line {row.line} holds no sentence: {row.literal[:40]!r}.", "Remove that line.")
        if (first := seen.setdefault(text.casefold(), row.line)) != row.line:
            if settings.duplicates == "drop":
                continue
            raise DataError(
                f"{path} line {row.line} repeats the literal of line {first}: {text[:60]!r}.",
                "Remove one of them, or set data.duplicates: drop.",
            )
        found.append(Example(text=text, split=_split(row, path), source=path.name))
    limits = {"train": settings.train, "valid": settings.valid, "test": settings.test, "ood": settings.ood}
    return [example for split in SPLITS for example in _of(found, split)[: limits[split]]]


def _of(examples: Sequence[Example], split: str) -> list[Example]:
    return [example for example in examples if example.split == split]


def _split(row: Row, path: Path) -> Split:
    split = row.fields.get("split")
    if split is None or split == "":
        place = int(content_hash(normalise(row.literal)), 16) % 100
        return "train" if place < 85 else "valid" if place < 90 else "test"
    if split not in SPLITS:
        raise DataError(f"{path} line {row.line} has split {split!r}.", f"Use one of {', '.join(SPLITS)}.")
    return split
