"""A file of sentences through a student: no row is lost, an interrupted file goes on, and the output appears when it is whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError, QuipwrightError
from quipwright.core.paths import check_writable
from quipwright.core.progress import bar
from quipwright.core.records import content_hash
from quipwright.core.storage.files import file_sha256, write_atomic_bytes
from quipwright.core.table_writer import head_text, output_kind, row_text, write_table
from quipwright.core.text import normalise, printable
from quipwright.data.care.judgment import DECLINED, REASON
from quipwright.data.examples import Row, read_rows
from quipwright.serving.journal import Journal, Outcome
from quipwright.serving.writer import Writer

BATCH = 256  # sentences written together


@dataclass(frozen=True)
class Job:
    """What is to be done with a file: as ``Writer.stream`` takes it, and the column of the sentences."""

    column: str | None = None
    n: int = 1
    best_of: int = 0
    style: str = ""

    def identity(self, writer: Writer, source: Path) -> dict[str, Any]:
        """What an interrupted file must share with the command that goes on with it, by the option's name."""
        return {
            "--input": file_sha256(source), "--column": self.column, "-n": self.n, "--best-of": self.best_of,
            "--style": writer.task.style_named(self.style), "--seed": writer.seed, "--run": writer.name,
            "--allow-sensitive": writer.allow_sensitive, "the student": writer.fingerprint(),
            "the task": content_hash(writer.task.model_dump(mode="json")),
        }  # fmt: skip


def write_file(
    writer: Writer, source: Path, target: Path | None, job: Job, form: str = "lines"
) -> tuple[int, int, int]:
    """Write for every row of ``source`` to ``target``, or in the form ``form`` to standard output as rows are done.

    All columns are kept. A row that cannot be used is written with its reason and does not stop the others; a sentence
    that stands there twice gets one answer. What an interrupted command wrote is kept beside ``target`` and used by
    the same command. Returns (done, failed, declined). Raises :class:`DataError` before anything is written where the source
    cannot be read at all, ``target`` is there, the task has no such style, or what is kept belongs to another command.
    """
    writer.task.style_named(job.style)
    rows = list(read_rows(source, job.column, keep_bad=True))
    layout = Layout.of(rows, writer.task.output)
    if target is not None:
        outcomes = _to_file(writer, source, target, rows, layout, job)
    else:
        outcomes = []
        if form != "lines":
            _print(head_text(form, layout.columns), form)
        for row, outcome in _in_order(writer, rows, job, {}):
            _print_row(layout, row, outcome, form)
            outcomes.append(outcome)
    failed, declined = (sum(bool(getattr(o, name)) for o in outcomes) for name in ("problem", "declined"))
    return len(outcomes) - failed, failed, declined


def _to_file(
    writer: Writer, source: Path, target: Path, rows: Sequence[Row], layout: Layout, job: Job
) -> list[Outcome]:
    if target.exists():
        raise DataError(f"{target} exists already.", "Name another file, or remove it first.")
    kind = output_kind(target)
    check_writable(target, "Output")
    with Journal(target, job.identity(writer, source)) as journal:
        done = dict(journal.known)
        distinct = {_key(row) for row in rows if _usable(row)}
        with bar("write", len(distinct), "sentences", len(distinct & done.keys())) as step:
            results = list(_in_order(writer, rows, job, done, journal.add, step))
        if kind == "lines":
            write_atomic_bytes(target, "".join(_lines(row, outcome) for row, outcome in results).encode())
        else:
            table = [layout.fields(row, outcome) for row, outcome in results]
            write_table(target, kind, layout.columns, table, layout.output)
        journal.remove()
    return [outcome for _, outcome in results]


def _in_order(
    writer: Writer, rows: Sequence[Row], job: Job, done: dict[str, Outcome],
    keep: Callable[[str, Outcome], None] = lambda key, outcome: None, step: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Row, Outcome]]:  # fmt: skip
    """Each row with its outcome, in the order of ``rows``. ``done`` grows; ``keep`` and ``step`` are told of each sentence."""
    missing = {_key(row): row for row in reversed(rows) if _usable(row) and _key(row) not in done}
    waiting = list(reversed(missing.values()))
    fresh = (
        pair
        for start in range(0, len(waiting), BATCH)
        for pair in _attempt(writer, waiting[start : start + BATCH], job)
    )
    for row in rows:
        while _usable(row) and _key(row) not in done:
            written, outcome = next(fresh)
            done[_key(written)] = outcome
            keep(_key(written), outcome)
            step()
        if _usable(row):
            yield row, done[_key(row)]
        else:
            yield row, Outcome(problem=row.problem.problem if row.problem else "no sentence in this row")


def _attempt(writer: Writer, rows: Sequence[Row], job: Job) -> Iterator[tuple[Row, Outcome]]:
    """Each row with its texts, or with why it has none. Where a row in it is refused, a batch is halved until that row
    stands alone."""
    try:
        written = writer.stream([row.literal for row in rows], n=job.n, best_of=job.best_of, style=job.style)
    except QuipwrightError as error:
        if len(rows) == 1:
            yield rows[0], Outcome(problem=error.problem)
            return
        half = len(rows) // 2
        yield from _attempt(writer, rows[:half], job)
        yield from _attempt(writer, rows[half:], job)
        return
    for place, texts in written:
        outcome = Outcome(tuple(g.text for g in texts), any(g.truncated for g in texts), declined=texts[0].declined)
        yield rows[place], outcome


@dataclass(frozen=True)
class Layout:
    """The columns of the output: those of the input, what was written, whether the limit ended it, what made the sentence
    sensitive, and why nothing was written.

    ``raw`` is the column of rows whose fields cannot be read, as they stand in the file; "" where there is no such row.
    """

    columns: tuple[str, ...]
    sentence: str
    raw: str
    output: str
    truncated: str
    declined: str
    error: str

    @classmethod
    def of(cls, rows: Sequence[Row], output: str) -> Layout:
        """The layout for ``rows``. A column of ours gets a number where the input has one of its name."""
        given = tuple(dict.fromkeys(name for row in rows for name in row.fields))
        sentence = "" if {"literal", "text"} & set(given) else "literal"
        raw = _free("row", given) if any(row.raw for row in rows) else ""
        added = [_free(name, given) for name in (output, "truncated", "declined", "error")]
        return cls((*given, *filter(None, (sentence, raw)), *added), sentence, raw, *added)

    def fields(self, row: Row, outcome: Outcome) -> dict[str, Any]:
        """``row`` with what became of it."""
        fields = dict(row.fields)
        if self.sentence and row.problem is None:
            fields[self.sentence] = row.literal
        if row.raw:
            fields[self.raw] = row.raw
        if outcome.problem:
            return {**fields, self.error: outcome.problem}
        marks = {self.truncated: outcome.truncated, self.declined: outcome.declined and REASON}
        return {**fields, self.output: list(outcome.texts), **{name: mark for name, mark in marks.items() if mark}}


def _free(name: str, taken: Sequence[str]) -> str:
    return next(one for one in (name, *(f"{name}_{k}" for k in range(2, 99))) if one not in taken)


def _usable(row: Row) -> bool:
    return row.problem is None and any(character.isalpha() for character in row.literal)


def _key(row: Row) -> str:
    return normalise(row.literal)


def _print_row(layout: Layout, row: Row, outcome: Outcome, form: str) -> None:
    if form == "lines":
        _print(_lines(row, outcome), form)
    else:
        _print(row_text(form, layout.columns, layout.fields(row, outcome), layout.output), form)


def _print(text: str, form: str) -> None:
    """To standard output: byte for byte where a program reads a table, harmless for a terminal elsewhere."""
    if form == "lines" or sys.stdout.isatty():
        print(text, end="", flush=True)
    else:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


def _lines(row: Row, outcome: Outcome) -> str:
    if outcome.problem:
        print(printable(f"{row.place}: {outcome.problem}"), file=sys.stderr)
        return "\n"
    if outcome.declined:
        print(printable(f"{row.place}: {DECLINED}"), file=sys.stderr)
    return "".join(f"{text}\n" for text in outcome.texts)
