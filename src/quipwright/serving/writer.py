"""A trained student at work: one sentence in, quips out; or a file of them, streamed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from quipwright.core.errors import DataError, QuipwrightError, RunError
from quipwright.core.paths import resolve
from quipwright.core.records import Response, Sampling
from quipwright.core.storage.files import disk_errors
from quipwright.core.storage.run_folder import arrows_of
from quipwright.core.table_files import csv_line, file_kind
from quipwright.core.text import degenerate, is_copy, normalise, printable
from quipwright.critics.reward_model.card import CARD_FILE, RewardCard
from quipwright.critics.reward_model.critic import RewardModelConfig, RewardModelCritic
from quipwright.data.examples import Row, read_rows
from quipwright.data.task import Task
from quipwright.evaluation.systems import read_summary
from quipwright.students.base import Generated, Student, StudentSettings
from quipwright.students.load import open_student

SHIPPED = "bundled:student"


@dataclass
class Writer:
    """A student with its task. ``critic`` ranks several samples, where asked for the best of them."""

    student: Student
    task: Task
    critic: RewardModelCritic | None = None
    seed: int = 0
    max_tokens: int = 48

    @classmethod
    def shipped(cls) -> Writer:
        """The student that ships with the package."""
        folder = resolve(SHIPPED, "Student")
        settings = StudentSettings.model_validate_json((folder / "student.json").read_text(encoding="utf-8"))
        student = open_student(settings)
        student.load(folder)
        return cls(student, Task.load())

    @classmethod
    def of_run(cls, folder: Path, name: str | None = None) -> Writer:
        """A student of a finished run: ``name`` as in its summary, by default the last one trained.

        Raises :class:`RunError` where the run is not finished, has no such student, or its weights are gone.
        """
        summary = read_summary(folder)
        checkpoints = summary["checkpoints"]
        chosen = name or list(checkpoints)[-1]
        if chosen not in checkpoints:
            raise RunError(f"{folder} has no student {chosen!r}.", f"It has: {', '.join(checkpoints)}.")
        task = Task.parse(summary["task"], str(folder)) if summary.get("task") else Task.load(summary["recipe"]["task"])
        student = open_student(StudentSettings.model_validate(summary["recipe"]["student"]), task.student_chat)
        weights = arrows_of(folder) / checkpoints[chosen]["path"]
        if not weights.is_dir():
            raise RunError(
                f"{folder} has no weights of {chosen!r}: {weights} is missing.",
                "Name the run where it was made; the runs of an experiment need the arrows folder beside them.",
            )
        student.load(weights)
        return cls(student, task)

    def write(self, literals: Sequence[str], n: int = 1, best_of: int = 0) -> list[list[str]]:
        """``n`` paraphrases of each literal: the 5-beam answer for one, nucleus samples for several; with ``best_of``
        that many samples are drawn and the critic's ``n`` best returned, best first."""
        drawn = max(n, best_of)
        if drawn == 1:
            return [[answer.text] for answer in self.answers(literals)]
        how = Sampling(temperature=0.7, top_p=0.95, max_tokens=self.max_tokens, seed=self.seed)
        found = self.student.generate(self._prompts(literals), how, drawn + drawn // 2)
        return [
            self._chosen(literal, [g.text for g in row], n, drawn) for literal, row in zip(literals, found, strict=True)
        ]

    def answers(self, literals: Sequence[str]) -> list[Generated]:
        """The 5-beam answer to each literal."""
        how = Sampling(beams=5, max_tokens=self.max_tokens, seed=self.seed)
        return [row[0] for row in self.student.generate(self._prompts(literals), how)]

    def _prompts(self, literals: Sequence[str]) -> list[str]:
        return [self.task.prompt(normalise(literal)) for literal in literals]

    def _chosen(self, literal: str, texts: Sequence[str], n: int, drawn: int) -> list[str]:
        """Distinct and sound texts first; what is left over only fills up."""
        distinct = list(dict.fromkeys(texts))
        good = [t for t in distinct if not degenerate(t, literal) and not is_copy(t, literal)]
        rest = [t for t in distinct if t not in good]
        candidates = (good + rest)[:drawn]
        if self.critic is not None and drawn > n:
            responses = [Response(example_id="", text=t, author="student") for t in candidates]
            scores = {g.response_id: g.score for g in self.critic.grade([literal] * len(responses), responses)}
            sound = [r for r in responses if r.text in good] or responses
            candidates = [r.text for r in sorted(sound, key=lambda r: -scores[r.id])]
        return candidates[:n]


def shipped_trainer() -> str:
    """How the critic signs that learnt from the verdicts which the shipped student was trained on."""
    folder = resolve(RewardModelConfig().path, "Critic")
    return RewardCard.model_validate_json((folder / CARD_FILE).read_text(encoding="utf-8")).signature(folder)


def shipped_critic() -> RewardModelCritic:
    """The critic that ships, for ``best_of``."""
    return RewardModelConfig().load()


def write_file(
    writer: Writer, source: Path, target: Path | None, column: str | None, n: int, best_of: int
) -> tuple[int, int]:
    """Write for every row of ``source``, streaming to ``target`` (standard output if ``None``) as rows are done.

    A row that cannot be used is written with its reason and does not stop the others. Returns (done, failed). Raises
    :class:`DataError` before ``target`` is made where the source cannot be read at all.
    """
    done = failed = 0
    source_rows = read_rows(source, column, keep_bad=True)
    with _sink(target) as sink:
        for rows in _batches(source_rows, 16):
            for row, result in _attempt(writer, rows, n, best_of):
                sink(row, result)
                done, failed = done + isinstance(result, list), failed + isinstance(result, str)
    return done, failed


def _attempt(writer: Writer, rows: Sequence[Row], n: int, best_of: int) -> Iterator[tuple[Row, list[str] | str]]:
    """Each row with its texts, or with why it has none; a bad row in a batch is found by going one by one."""
    usable = [row for row in rows if any(c.isalpha() for c in row.literal)]
    try:
        texts = iter(writer.write([row.literal for row in usable], n, best_of) if usable else [])
        results: dict[int, list[str] | str] = {row.line: next(texts) for row in usable}
    except QuipwrightError as error:
        if len(usable) == 1:
            results = {usable[0].line: error.problem}
        else:
            results = {row.line: result for row in usable for _, result in _attempt(writer, [row], n, best_of)}
    for row in rows:
        reason = row.problem.problem if row.problem is not None else "no sentence in this row"
        yield row, results.get(row.line, reason)


@contextmanager
def _sink(target: Path | None) -> Iterator[Any]:
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
            _flush(file, csv_line(["literal", "humorous", "error"]))
            yield lambda row, result: _flush(file, _csv_rows(row, result))
        elif kind == "jsonl":
            yield lambda row, result: _flush(file, json.dumps(_object(row, result), ensure_ascii=False) + "\n")
        else:
            yield lambda row, result: _flush(file, "\n".join(_lines(row, result)) + "\n")


def _lines(row: Row, result: list[str] | str) -> list[str]:
    if isinstance(result, str):
        print(printable(f"{row.place}: {result}"), file=sys.stderr)
        return [""]
    return result


def _object(row: Row, result: list[str] | str) -> dict[str, Any]:
    outcome = {"error": result} if isinstance(result, str) else {"humorous": result}
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
