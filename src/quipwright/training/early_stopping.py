"""Early stopping: what is measured on the validation split, which round or epoch is kept, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from quipwright.core.results import Quality
from quipwright.core.settings import Settings
from quipwright.students.base import Student


class EarlyStopping(Settings):
    """What is measured on the validation split after each round, and what follows from it.

    ``measure``: the student's answers are judged against the teacher's (``win_tie_rate``), or each is graded alone and the
    mean grade counts, in the task's levels from 0 (``mean_grade``; answers that could not be read are left out).
    ``keep_best``: the round of the highest figure becomes the result, else the last one. ``patience``: stop after so many
    rounds without a higher one (``None``: never).
    ``each: epoch`` measures after each epoch of a round as well: the round's checkpoint is its best epoch, and its
    training stops by the same patience. A round or epoch *fails* where its answers are more than ``longer`` times as
    long as the imitation student's, their distinct-2 is below ``distinct`` of its, or the shares of copies or empty
    answers grew by more than ``copies`` or ``empty``. A failed one raises a warning and is never kept if another one
    passes.
    """

    measure: Literal["win_tie_rate", "mean_grade"] = "win_tie_rate"
    each: Literal["round", "epoch"] = "round"
    keep_best: bool = True
    patience: int | None = Field(None, ge=1)
    longer: float = Field(1.5, gt=1)
    distinct: float = Field(0.6, gt=0, le=1)
    copies: float = Field(0.15, ge=0, le=1)
    empty: float = Field(0.05, ge=0, le=1)

    def issues(self, now: Quality, before: Quality) -> list[str]:
        """How ``now`` has degenerated against ``before`` (the imitation student); empty where it has not."""
        issues = []
        if now.length_ratio > self.longer * before.length_ratio:
            issues.append(f"writes {now.length_ratio / max(before.length_ratio, 1e-9):.2f} times as long")
        if now.distinct_2 < self.distinct * before.distinct_2:
            issues.append(f"distinct-2 fell from {before.distinct_2:.2f} to {now.distinct_2:.2f}")
        if now.copy_rate > before.copy_rate + self.copies:
            issues.append(f"copies rose from {before.copy_rate:.0%} to {now.copy_rate:.0%}")
        if now.empty > before.empty + self.empty:
            issues.append(f"empty answers rose from {before.empty:.0%} to {now.empty:.0%}")
        return issues


@dataclass(frozen=True)
class ValidationPoint:
    """One measurement on the validation split: what :class:`EarlyStopping` measures, its ``rate``, and how the answers
    degenerated.

    ``number`` is the round, or within a round the step of its training.
    """

    number: int
    rate: float
    issues: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidationCallback:
    """Measures a student during its training: ``measure(student, step)``. The checkpoint depends on what is measured,
    so ``key`` identifies that."""

    measure: Callable[[Student, int], ValidationPoint]
    settings: EarlyStopping
    key: list[Any]


def best_point(points: Sequence[ValidationPoint]) -> int:
    """The number of the point to keep: the highest rate among those without issues, the earliest of equals."""
    sound = [p for p in points if not p.issues] or list(points)
    return max(sound, key=lambda p: (p.rate, -p.number)).number


def out_of_patience(points: Sequence[ValidationPoint], patience: int | None) -> bool:
    """True where the last ``patience`` points all stayed at or below the best rate before them; a point with issues
    counts as below every one without."""
    if patience is None or len(points) <= patience:
        return False

    def gain(point: ValidationPoint) -> tuple[bool, float]:
        return not point.issues, point.rate

    best = max(map(gain, points[:-patience]))
    return all(gain(point) <= best for point in points[-patience:])
