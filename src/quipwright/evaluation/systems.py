"""Systems by what a user writes: a run's student, its teacher, a file of outputs, the student that ships."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from quipwright.core.errors import DataError, RunError
from quipwright.core.progress import console
from quipwright.core.records import Example, Response, Split, Status
from quipwright.core.table_files import is_table
from quipwright.core.text import normalise
from quipwright.data.examples import SPLITS, DataSettings, Row, literal_rows, read_rows, source_name, split_of
from quipwright.data.run_summary import RunSummary, read_run
from quipwright.data.task import Task
from quipwright.serving.writer import SHIPPED, Writer, is_export, run_and_student, shipped_trainer

_FIELDS = ("output", "text", "paraphrase", "response")


@dataclass(frozen=True)
class Output:
    """One system's answer to one literal; ``truncated`` where the token limit ended it."""

    literal: str
    text: str
    split: Split | Literal[""] = ""
    truncated: bool = False


@dataclass(frozen=True)
class Outputs:
    """A system's answers by the literal's key. ``critic``: the judge that trained it, or that learnt from the verdicts
    it was trained on, where there is one and it is known."""

    name: str
    answers: Mapping[str, Output]
    critic: str | None = None
    live: bool = field(default=False, compare=False)


def key(literal: str) -> str:
    """What identifies a literal across files: its normalised text in one case."""
    return normalise(literal).casefold()


def open_system(
    reference: str, rows: Sequence[Row] | None = None, task: Task | None = None, column: str | None = None
) -> Outputs:
    """The system that ``reference`` names.

    ``RUN`` or ``RUN:STUDENT``: a run's recorded answers (by default its last student's; ``RUN:teacher``, ``RUN:base``);
    ``FILE.jsonl``: outputs of any system; ``teacher``: the recorded teacher that ships; ``shipped``, an export's folder
    or a hub id: a student that answers ``rows``. With ``rows`` (literals to answer) a run's students answer those anew.
    ``task`` names the column of outputs, ``column`` that of literals, in files that have it.
    Raises :class:`RunError` or :class:`DataError` for anything else.
    """
    if reference == "teacher":
        return _teacher((task or Task.load()).style_named())
    if is_table(reference) and not Path(reference).is_dir():
        return _file(Path(reference), (task or Task.load()).output, column)
    folder, student = run_and_student(reference)
    is_hub_id = not folder.is_dir() and reference.count("/") == 1 and not reference.startswith((".", "~", "/"))
    if reference == SHIPPED or is_export(folder) or is_hub_id:
        return _export(reference, rows)
    if not folder.is_dir():
        raise RunError(
            f"There is no system {reference!r}.",
            "Name a run, RUN:STUDENT, an export's folder, a hub id, a .jsonl file, teacher or shipped.",
        )
    if rows is not None and student not in ("teacher", "base"):
        return _live(reference, Writer.of_run(folder, student), rows, _trainer(read_run(folder), student))
    return _recorded(folder, student)


def distinct(systems: Sequence[Outputs]) -> list[Outputs]:
    """``systems`` with names made unique: the same name twice would be one system."""
    seen: dict[str, int] = {}
    result = []
    for system in systems:
        seen[system.name] = number = seen.get(system.name, 0) + 1
        name = system.name if number == 1 else f"{system.name} ({number})"
        result.append(Outputs(name, system.answers, system.critic, system.live))
    return result


def aligned(systems: Sequence[Outputs]) -> tuple[list[Example], dict[str, dict[str, Response]]]:
    """The literals that any two of ``systems`` answered as examples, and each system's responses by example id."""
    counts: dict[str, int] = {}
    for system in systems:
        for name in system.answers:
            counts[name] = counts.get(name, 0) + 1
    examples: dict[str, Example] = {}
    for name in (n for n, count in counts.items() if count > 1 or len(systems) == 1):
        held = [system.answers[name] for system in systems if name in system.answers]
        split = next((o.split for o in held if o.split), "test")
        examples[name] = Example(text=held[0].literal, split=split, source="compare")
    responses = {
        system.name: {
            examples[name].id: Response(
                example_id=examples[name].id,
                text=o.text,
                author=f"system:{system.name}",
                status=Status.TRUNCATED if o.truncated else Status.OK,
            )
            for name, o in system.answers.items()
            if name in examples
        }
        for system in systems
    }
    return list(examples.values()), responses


def taught(folder: Path) -> Callable[[str, str], Sequence[str]]:
    """What the teacher of the run in ``folder`` said to a literal of whichever split in a style; nothing to any other
    sentence.

    The texts stand under example ids, which follow from literal, split and source, so that no data file is needed.
    """
    summary = read_run(folder)
    by_id: dict[tuple[str, str], list[str]] = {}
    for row in summary.stage_rows(folder, Response, "teach"):
        if row.text and row.usable:
            by_id.setdefault((row.example_id, row.style), []).append(row.text)
    data = summary.recipe.get("data") or {}
    sources = [source_name(reference) for reference in DataSettings.model_validate(data).sources]
    evaluated = {key(s.literal): [s.answers["teacher"]] for s in summary.samples if "teacher" in s.answers}

    def find(literal: str, style: str) -> Sequence[str]:
        ids = [Example(text=normalise(literal), split=split, source=name).id for split in SPLITS for name in sources]
        return next((by_id[i, style] for i in ids if (i, style) in by_id), evaluated.get(key(literal), []))

    return find


def _export(reference: str, rows: Sequence[Row] | None) -> Outputs:
    """A student without a run, which answers ``rows`` now."""
    if rows is None:
        raise DataError(f"{reference} has no recorded answers.", "Name literals with --data FILE.")
    return _live(reference, Writer.load(reference), rows, shipped_trainer() if reference == SHIPPED else None)


def _recorded(folder: Path, student: str | None) -> Outputs:
    summary = read_run(folder)
    chosen = student or list(summary.checkpoints)[-1]
    answers = {
        key(s.literal): Output(s.literal, s.answers[chosen], s.split, chosen in s.truncated)
        for s in summary.samples
        if chosen in s.answers
    }
    if not answers:
        known = ", ".join(dict.fromkeys(name for s in summary.samples for name in s.answers))
        raise RunError(f"{folder} has no answers of {chosen!r}.", f"It has: {known or 'none'}.")
    return Outputs(f"{folder.resolve().name}:{chosen}", answers, _trainer(summary, chosen))


def _trainer(summary: RunSummary, student: str | None) -> str | None:
    """The critic that trained ``student`` (the last one unless named) of a run, ``None`` where none did."""
    chosen = student or list(summary.checkpoints)[-1]
    return None if chosen in ("teacher", "base", "imitation") else summary.critic.get("name")


def _teacher(style: str) -> Outputs:
    """The teacher that ships: of each literal its text in ``style``, or its first where it has none."""
    from quipwright.data.recorded_teacher import RecordedTeacher

    settings = RecordedTeacher()
    rows = (row for path in settings.files() for row in read_rows(path))

    def text(row: Row) -> str:
        texts, styles = row.fields[settings.field], row.fields.get(settings.styles, ())
        return str(texts[styles.index(style) if style in styles else 0])

    return Outputs("teacher", _answers("bundled", ((row, text(row)) for row in rows)))


def _file(path: Path, output: str, column: str | None) -> Outputs:
    rows, known = literal_rows(path, column), tuple(dict.fromkeys((output, *_FIELDS)))
    names = [name for name in known if any(name in row.fields for row in rows)]
    if not names:
        raise DataError(f"{path} has no outputs.", f"Give each row a literal and one of {', '.join(known)}.")
    name = "output" if names == ["text"] and not any("literal" in row.fields for row in rows) else names[0]
    return Outputs(path.stem, _answers(str(path), ((row, row.fields.get(name)) for row in rows)))


def _answers(where: str, rows: Iterable[tuple[Row, Any]]) -> dict[str, Output]:
    found: dict[str, Output] = {}
    left_out: Counter[str] = Counter()
    for row, given in rows:
        text = given[0] if isinstance(given, list) and given else given
        if not isinstance(text, str):
            left_out["without an output"] += 1
        elif key(row.literal) in found:
            left_out["of a literal that stands above"] += 1
        else:
            split, truncated = split_of(row, where) or "", bool(row.fields.get("truncated"))
            found[key(row.literal)] = Output(row.literal, text, split, truncated)
    for reason, count in left_out.items():
        console.print(f"{where}: {count} rows left out, {reason}.", markup=False, highlight=False, soft_wrap=True)
    return found


def _live(name: str, writer: Writer, rows: Sequence[Row], critic: str | None) -> Outputs:
    splits = [split_of(row, "--data") or "" for row in rows]  # before any writing, which takes its time
    answers = writer.answers([row.literal for row in rows])
    found: dict[str, Output] = {}
    for row, split, answer in zip(rows, splits, answers, strict=True):
        found.setdefault(key(row.literal), Output(row.literal, answer.text, split, answer.truncated))
    return Outputs(name, found, critic, live=True)
