"""Pairs judged by what each text was graded alone: any two grades of one literal give a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from scipy.special import expit

from quipwright.core.records import Comparison, Grade, Judgment
from quipwright.critics.combine import verdict_of


class FromGrades:
    """Judges by the grades a critic has given already: no text is read twice."""

    positional = False

    def __init__(self, name: str, grades: Mapping[str, Grade]) -> None:
        """``grades`` are by response id; a pair that lacks one is unparsed."""
        self.name = name
        self.grades = grades

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair."""
        return [judged(c, self.grades.get(c.pair.a_id), self.grades.get(c.pair.b_id), self.name) for c in comparisons]


def judged(comparison: Comparison, a: Grade | None, b: Grade | None, judge: str) -> Judgment:
    """The judgment that the grades of both texts imply; unparsed where one of them is missing or unread."""
    if a is not None and b is not None and a.score is not None and b.score is not None:
        return preference(comparison, a.score, b.score, judge)
    unread = [grade for grade in (a, b) if grade is not None and grade.score is None]
    return Judgment(
        pair_id=comparison.pair.id,
        judge=judge,
        verdict="unparsed",
        reason=next((grade.reason for grade in unread if grade.reason), "no grade"),
        answered=all(grade.answered for grade in unread),
    )


def preference(comparison: Comparison, a: float, b: float, judge: str) -> Judgment:
    """The judgment that scores ``a`` and ``b`` imply: P(A better) = sigmoid(a - b)."""
    p = round(float(expit(a - b)), 6)
    return Judgment(pair_id=comparison.pair.id, judge=judge, p_a=p, verdict=verdict_of(p))


def by_scores(
    comparisons: Sequence[Comparison], scores: Callable[[Sequence[str], Sequence[str]], Sequence[float]], judge: str
) -> list[Judgment]:
    """One judgment a pair, by the two ``scores`` (of literals and texts) of its texts."""
    literals = [c.literal for c in comparisons for _ in range(2)]
    of_texts = scores(literals, [text for c in comparisons for text in (c.a, c.b)])
    pairs = zip(of_texts[0::2], of_texts[1::2], strict=True)
    return [preference(c, a, b, judge) for c, (a, b) in zip(comparisons, pairs, strict=True)]


def scores_of(grades: Iterable[Grade]) -> dict[str, float]:
    """The score of each response that has one, by its id."""
    return {grade.response_id: grade.score for grade in grades if grade.score is not None}


def shares_of(readings: Sequence[int], levels: int) -> tuple[float, ...]:
    """The share of each of so many levels among ``readings``; the best takes all numbers from ``levels`` - 1 on.

    From readings 1, 3 of three levels: 0, 1/2, 1/2.
    """
    reached = [min(number, levels - 1) for number in readings]
    return tuple(reached.count(level) / len(reached) for level in range(levels))
