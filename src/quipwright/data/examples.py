"""Literal sentences in: from files or hub data sets, checked before anything is spent on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from quipwright.core.errors import DataError
from quipwright.core.paths import BUNDLED, resolve
from quipwright.core.records import Example, Split, content_hash
from quipwright.core.settings import Settings
from quipwright.core.table_files import TableRow, read_table
from quipwright.core.text import normalise, printable, word_count
from quipwright.core.text_files import kind_of
from quipwright.data.hub import HUB, HubRow, clean_hub_rows, hub_splits

SPLITS: tuple[Split, ...] = get_args(Split)
Paths = str | tuple[str, ...]
"""One reference to a file, or several."""
BUNDLED_CORPUS = ("bundled:humour.jsonl", "bundled:tags.jsonl")
"""The literals that ship, with what the recorded teacher made of them."""


def as_paths(paths: Paths) -> tuple[str, ...]:
    """``paths`` as a tuple."""
    return (paths,) if isinstance(paths, str) else paths


class DataSettings(Settings):
    """Where the literals come from and how many of each split are used (``None`` is all of them).

    ``path``: JSONL, JSON, CSV, TSV or Parquet (field ``literal`` or ``text``, or that named by ``column``; optional
    ``split``), or plain lines. Rows without a split get one by a hash of their text: 85 % train, 5 % valid, 10 % test.
    Or ``hub:OWNER/NAME[@REVISION]``, cleaned where it is EmpatheticDialogues or SAMSum. Or several of these, one after
    the other. ``duplicates``: ``error`` or
    ``drop``. ``ood_path``: a second source, all of which is the ``ood`` split (less what the first one has).
    """

    path: Paths = BUNDLED_CORPUS
    column: str | None = None
    ood_path: str | None = None
    train: int | None = Field(None, ge=0)
    valid: int | None = Field(None, ge=0)
    test: int | None = Field(None, ge=0)
    ood: int | None = Field(None, ge=0)
    duplicates: Literal["error", "drop"] = "error"

    @property
    def sources(self) -> tuple[str, ...]:
        """All files and data sets, that of ``ood_path`` last."""
        return (*as_paths(self.path), *([self.ood_path] if self.ood_path is not None else []))


@dataclass(frozen=True)
class Row:
    """One input row: its number in the file (from 1), its literal and whatever else stood in it.

    ``unit`` says what is counted (``line``, ``row`` of Parquet, ``item`` of a JSON list). ``problem`` says why the row
    cannot be used; its literal is then empty. ``raw``: the row as it stands in the file, where its fields cannot be read.
    """

    line: int
    literal: str
    fields: Mapping[str, Any]
    unit: str = "line"
    problem: DataError | None = None
    raw: str | None = None

    @property
    def place(self) -> str:
        """Where it stands in its file: ``line 3``."""
        return f"{self.unit} {self.line}"


@dataclass(frozen=True)
class LoadedExamples:
    """The examples of a run, and how many rows were left out by reason."""

    examples: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


def read_rows(path: Path, column: str | None = None, *, keep_bad: bool = False) -> Iterator[Row]:
    """The rows of a file, by its ending (see :func:`~quipwright.core.table_files.read_table`), in file order.

    ``column`` names the field of the literal; otherwise it is ``literal`` or ``text``. Raises :class:`DataError` at
    once for a file that cannot be read, and while reading for the first bad row, naming its place; with ``keep_bad``
    a bad row is given with its ``problem`` instead.
    """
    rows = (_row(path, row, column) for row in read_table(path))
    return rows if keep_bad else _strict(rows)


def literal_rows(path: Path, column: str | None = None) -> list[Row]:
    """As :func:`read_rows`, where the literal stands in ``column`` if the file has that, else in the usual field."""
    first = next(iter(read_table(path)), None)
    return list(read_rows(path, column if first is not None and column in first.fields else None))


def _strict(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if row.problem is not None:
            raise row.problem
        yield row


def _row(path: Path, row: TableRow, column: str | None) -> Row:
    if row.problem is not None:
        return Row(row.number, "", {}, row.unit, row.problem, row.line)
    if row.line is not None:
        return Row(row.number, row.line, {}, row.unit)
    try:
        return Row(row.number, _literal(row.fields, column, f"{path} {row.unit} {row.number}"), row.fields, row.unit)
    except DataError as error:
        return Row(row.number, "", row.fields, row.unit, error)


def _literal(fields: Mapping[str, Any], column: str | None, where: str) -> str:
    names = (column,) if column is not None else ("literal", "text")
    name = next((name for name in names if name in fields), None)
    if name is None:
        wanted = " or ".join(map(repr, names))
        known = ", ".join(map(str, fields))[:200] or "nothing"
        raise DataError(
            f"{where} has no field {wanted}; it has {known}.",
            "Rename one to 'literal', or name it: data.column in a recipe, --column of write and compare.",
        )
    if not isinstance(fields[name], str):
        raise DataError(f"{where}: field {name!r} is {kind_of(fields[name])}, not text.", "Write text, or remove it.")
    return str(fields[name])


def load_examples(settings: DataSettings, recipe_dir: Path | None = None) -> list[Example]:
    """The examples that a run uses, in file order within each split, capped as ``settings`` say.

    Raises :class:`DataError` as :func:`load_data`.
    """
    return list(load_data(settings, recipe_dir).examples)


def load_data(settings: DataSettings, recipe_dir: Path | None = None) -> LoadedExamples:
    """The examples that a run uses, as :func:`load_examples`, with counts of what was left out.

    Raises :class:`DataError` naming file and line of the first row that cannot be used.
    """
    first_seen: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    examples = [
        example
        for path in as_paths(settings.path)
        for example in _source(path, settings, recipe_dir, first_seen, dropped)
    ]
    if settings.ood_path is not None:
        # The second source is another domain: what both have stays in the first one.
        apart = settings.model_copy(update={"duplicates": "drop"})
        extra = _source(settings.ood_path, apart, recipe_dir, first_seen, dropped)
        replaced = len(_of(examples, "ood"))
        dropped += Counter({"split ood of the first source, because data.ood_path is set": replaced})
        examples = [e for e in examples if e.split != "ood"]
        examples += [e.model_copy(update={"split": "ood"}) for e in extra]
    limits = {"train": settings.train, "valid": settings.valid, "test": settings.test, "ood": settings.ood}
    return LoadedExamples(tuple(e for split in SPLITS for e in _of(examples, split)[: limits[split]]), dict(dropped))


def source_name(reference: str) -> str:
    """What examples from ``reference`` (a file or a hub data set) name as their source."""
    return reference if reference.startswith(HUB) else Path(reference.removeprefix(BUNDLED)).name


def place_of(text: str, settings: DataSettings, recipe_dir: Path | None = None) -> str:
    """File and line of the literal ``text``, for messages; ``the data`` where it is not found again."""
    for reference in settings.sources:
        if not reference.startswith(HUB):
            path = resolve(reference, "Data", recipe_dir)
            for row in read_rows(path, settings.column, keep_bad=True):
                if normalise(row.literal) == text:
                    return f"{path} {row.place}"
    return "the data"


def _source(
    reference: str, settings: DataSettings, recipe_dir: Path | None, first_seen: dict[str, str], dropped: Counter[str]
) -> list[Example]:
    """All examples of one file or hub data set.

    ``first_seen`` says where each text (case-folded) was met first, over all sources; ``dropped`` is counted up.
    """
    if reference.startswith(HUB):
        place = Path(reference.removeprefix(HUB))
        rows = _hub_rows(clean_hub_rows(hub_splits(reference), settings.column), dropped)
    else:
        place = resolve(reference, "Data", recipe_dir)
        rows = read_rows(place, settings.column)
    examples = []
    for row in rows:
        text = normalise(row.literal)
        if not any(character.isalpha() for character in text):
            raise DataError(f"{place} {row.place} holds no sentence: {row.literal[:40]!r}.", "Remove that row.")
        if (first := first_seen.get(text.casefold())) is not None:
            if settings.duplicates == "drop":
                dropped["repeats another literal"] += 1
                continue
            raise DataError(
                f"{place} {row.place} repeats the literal of {first.removeprefix(f'{place} ')}: {text[:60]!r}.",
                "Remove one of them, or set data.duplicates: drop.",
            )
        first_seen[text.casefold()] = f"{place} {row.place}"
        examples.append(Example(text=text, split=_split(row, place), source=source_name(reference)))
    return examples


def _hub_rows(rows: Iterator[HubRow], dropped: Counter[str]) -> Iterator[Row]:
    number = 0
    for row in rows:
        if row.dropped:
            dropped[row.dropped] += 1
        else:
            number += 1
            yield Row(number, row.text, {"split": row.split}, "row")


def overview(loaded: LoadedExamples, shown: int = 3) -> str:
    """What would be used, in plain lines that a terminal can show: each split's size, mean words, first literals, and
    what was left out."""
    lines = []
    for split in SPLITS:
        examples = _of(loaded.examples, split)
        line = f"{split}: {len(examples)} literals"
        if examples:
            words = sum(word_count(e.text) for e in examples) / len(examples)
            line += f", {words:.1f} words on average, from {', '.join(sorted({e.source for e in examples}))}"
        lines += [line, *(f"  {e.text}" for e in examples[:shown])]
    lines += [f"left out: {count} ({reason})" for reason, count in loaded.dropped.items() if count]
    return "\n".join(map(printable, lines))


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
    named = row.fields.get("split")
    if named is None or named == "":
        return None
    for split in SPLITS:
        if named == split:
            return split
    raise DataError(f"{where} {row.place} has split {str(named)[:40]!r}.", f"Use one of {', '.join(SPLITS)}.")
