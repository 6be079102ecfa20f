"""A student as its own critic: of two texts it prefers the one that it is likelier to write, token for token.

A student that imitates a teacher is likelier to write what makes sense than what does not, and no labels are needed for
that. It is a filter: docs/critic.md has its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipwright.core.paths import resolve
from quipwright.core.records import Comparison, Grade, Judgment, Response
from quipwright.critics.base import BaseCriticConfig, BuildContext
from quipwright.critics.by_grades import by_scores
from quipwright.students.base import Prompted, Student
from quipwright.students.load import open_started, started_in, student_identity
from quipwright.students.scoring import score_rows

COLUMNS = 6
ROWS = 4


class Likelihood(BaseCriticConfig):
    """``adapter``: the folder of the student, exported with ``--to adapter``; by default the imitation student that ships.
    It is asked by the task's prompt in the default style. ``scale``: so many nats a token are one nat of preference."""

    can_grade: ClassVar[bool] = True
    shorthand: ClassVar[str] = "adapter"
    kind: Literal["likelihood"] = "likelihood"
    adapter: str = "bundled:imitation"
    scale: float = Field(0.25, gt=0)

    def build(self, context: BuildContext) -> LikelihoodCritic:
        """The critic, its student opened. Raises as :func:`~quipwright.students.load.open_started`."""
        folder = self._folder(context)
        student = open_started(started_in(folder), context.task.student_chat, folder)
        return LikelihoodCritic(student, context.task.prompt_in(), self.scale, f"likelihood:{self.adapter}")

    def identity(self, context: BuildContext) -> list[Any]:
        """The student's settings and content, the prompt and the scale."""
        task = context.task
        return [self.kind, *self.readers(context), task.prompt_in(), task.student_chat, self.scale]

    def readers(self, context: BuildContext) -> list[Any]:
        """The content of the student."""
        folder = self._folder(context)
        return [student_identity(started_in(folder), folder)[1:]]

    def _folder(self, context: BuildContext) -> Path:
        return resolve(self.adapter, "Adapter", context.recipe_dir)


class LikelihoodCritic:
    """Scores each text alone, so the order of a pair changes nothing."""

    positional = False

    def __init__(self, student: Student, prompt: str, scale: float, name: str) -> None:
        """``prompt`` has the slot ``{literal}`` once; ``scale`` as in :class:`Likelihood`."""
        self.student, self.prompt, self.scale, self.name = student, prompt, scale, name

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """The score of each response: mean log-probability a token, end token included, over ``scale``."""
        scores = self.scores(literals, [response.text for response in responses])
        return [
            Grade(response_id=response.id, judge=self.name, score=round(score, 6))
            for response, score in zip(responses, scores, strict=True)
        ]

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair: P(A better) = sigmoid(score of A - score of B)."""
        return by_scores(comparisons, self.scores, self.name)

    def scores(self, literals: Sequence[str], texts: Sequence[str]) -> list[float]:
        """One score a text, in order; equal texts of a literal are read once, those of one literal share its prompt."""
        by_literal: dict[str, dict[str, None]] = {}
        for literal, text in zip(literals, texts, strict=True):
            by_literal.setdefault(literal, {})[text] = None
        parts = [
            (literal, tuple(own)[i : i + COLUMNS])
            for literal, own in by_literal.items()
            for i in range(0, len(own), COLUMNS)
        ]
        if not parts:
            return []
        rows = [Prompted(self.prompt.replace("{literal}", literal), own) for literal, own in parts]
        scored = score_rows(self.student, rows, ROWS)
        known = {
            (literal, text): float(scored.total[i, j] / scored.tokens[i, j]) / self.scale
            for i, (literal, own) in enumerate(parts)
            for j, text in enumerate(own)
        }
        return [known[pair] for pair in zip(literals, texts, strict=True)]
