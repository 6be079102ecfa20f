"""The critic of recorded grades: what readers thought of single texts, read from files and looked up by the texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from quipwright.core.paths import resolve
from quipwright.core.records import Comparison, Grade, Judgment, Response
from quipwright.core.text import normalise
from quipwright.core.text_files import input_sha256
from quipwright.critics.base import BaseCriticConfig, BuildContext
from quipwright.critics.by_grades import judged, shares_of
from quipwright.data.graded import GradedRow, read_graded

Key = tuple[str, str]
UNKNOWN = "not recorded"


class RecordedGrades(BaseCriticConfig):
    """``path``: one file of grades or several (see :class:`~quipwright.data.graded.GradedRow`). ``reader``: whose grades,
    the first's (``grade``) or, where a second one read the text too, that one's (``second``). ``ties``: two texts of equal
    grade are a tie, or go by the first reader's ``rank`` of them, which counts up to half a grade. A text with several
    grades has their mean."""

    shorthand: ClassVar[str] = "path"
    can_grade: ClassVar[bool] = True
    kind: Literal["recorded_grades"] = "recorded_grades"
    path: str | tuple[str, ...] = "bundled:graded.jsonl"
    reader: Literal["grade", "second"] = "grade"
    ties: Literal["tie", "rank"] = "tie"

    def build(self, context: BuildContext) -> RecordedGradesCritic:
        """Read the files. Raises :class:`~quipwright.core.errors.DataError` naming the first bad line."""
        files, levels = self._files(context), context.task.grades
        rows = (row for file in files for row in read_graded(file, levels))
        named = "+".join(file.stem for file in files) + (f":{self.reader}" if self.reader != "grade" else "")
        return RecordedGradesCritic(_marks(rows, self.reader, self.ties), f"recorded_grades:{named}", len(levels))

    def identity(self, context: BuildContext) -> list[Any]:
        """Whose grades, the content of the files, and their names, by which judgments are signed."""
        names = context.task.grades  # by which a file may name its grades
        return [
            self.kind,
            self.reader,
            self.ties,
            names,
            *([f.stem, input_sha256(f, "Grades")] for f in self._files(context)),
        ]

    def readers(self, context: BuildContext) -> list[Any]:
        """Whoever gave the grades."""
        return [[input_sha256(file, "Grades"), self.reader] for file in self._files(context)]

    def _files(self, context: BuildContext) -> list[Path]:
        paths = (self.path,) if isinstance(self.path, str) else self.path
        return [resolve(path, "Grades", context.recipe_dir) for path in paths]


@dataclass(frozen=True)
class Mark:
    """What is on file of one text: every grade, and the part of a grade by which its rank lifts it."""

    grades: tuple[int, ...]
    lift: float = 0.0


class RecordedGradesCritic:
    """Answers by literal and text; what was never recorded is unparsed, never guessed."""

    positional = False

    def __init__(self, marks: Mapping[Key, Mark], name: str, levels: int) -> None:
        """``marks``: by normalised (literal, text). ``levels``: how many the task names, of which the best takes all grades
        from ``levels`` - 1 on."""
        self.marks, self.name, self.levels = marks, name, levels

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """One grade a response, in order; without a score where the text is not on file."""
        return [self._grade(literal, r.text, r.id) for literal, r in zip(literals, responses, strict=True)]

    def recorded_grades(self, literals: Sequence[str], responses: Sequence[Response]) -> dict[str, Grade]:
        """Grades by response id, of those texts that are on file."""
        return {g.response_id: g for g in self.grade(literals, responses) if g.score is not None}

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair."""
        return [
            judged(c, self._grade(c.literal, c.a, c.pair.a_id), self._grade(c.literal, c.b, c.pair.b_id), self.name)
            for c in comparisons
        ]

    def _grade(self, literal: str, text: str, response_id: str) -> Grade:
        mark = self.marks.get((normalise(literal), normalise(text)))
        if mark is None:
            return Grade(response_id=response_id, judge=self.name, score=None, reason=UNKNOWN)
        score = fmean(mark.grades) + mark.lift
        levels = shares_of(mark.grades, self.levels)
        return Grade(response_id=response_id, judge=self.name, score=score, levels=levels)


def _marks(rows: Iterable[GradedRow], reader: str, ties: str) -> dict[Key, Mark]:
    graded = [(row, grade) for row in rows if (grade := getattr(row, reader)) is not None]
    ranks = [(normalise(row.literal), row.rank) for row, _ in graded if row.rank is not None]
    last: dict[str, int] = {}
    for literal, rank in ranks:
        last[literal] = max(rank, last.get(literal, 0))
    marks: dict[Key, Mark] = {}
    for row, grade in graded:
        key = normalise(row.literal), normalise(row.text)
        lift = 0.5 * (1 - row.rank / (last[key[0]] + 1)) if ties == "rank" and row.rank is not None else 0.0
        before = marks.get(key, Mark(()))
        marks[key] = Mark((*before.grades, grade), max(before.lift, lift))
    return marks
