"""Which comparison a verdict rests on, what makes a judge unfit for one, and the sentence that says how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quipwright.core.format import counts, hundred, percent
from quipwright.core.results import Figure, PairedDifference, PairwiseResult, Quality
from quipwright.critics.base import Critic, Grader, Measured

FEW = 20
"""Inputs: on fewer a bootstrap interval promises more than it can keep."""
ORDER = 0.5
"""A judge that changes its mind with the order on more than this share of the inputs reads the order."""


def with_fitness(
    results: Iterable[PairwiseResult], looks: Sequence[Quality], judges: Iterable[Critic] = ()
) -> list[PairwiseResult]:
    """``results`` with ``unfit`` filled in; ``looks`` are the systems' outputs with the grades that a judge gave."""
    measured = {judge.name: agreement_on_teacher(judge) for judge in judges}
    return [r.model_copy(update={"unfit": unfit(r, looks, measured.get(r.judge))}) for r in results]


def agreement_on_teacher(judge: Critic | Grader) -> float | None:
    """How far ``judge`` agrees with verdicts on a text of the teacher and an attempt, where that was measured."""
    known = judge.figures().get("agreement_teacher") if isinstance(judge, Measured) else None
    return None if known is None else float(known)


def unfit(r: PairwiseResult, looks: Sequence[Quality], on_teacher: float | None = None) -> str:
    """Why the judge of ``r`` cannot tell the two systems apart; empty where nothing speaks against it."""
    if r.unparsed > r.n:
        return f"{r.judge} could not be read on {r.unparsed} of {r.n + r.unparsed} inputs."
    if r.order_changes is not None and r.order_changes > ORDER:
        return f"{r.judge} names another winner on {percent(r.order_changes)} of the inputs when the order is turned."
    if not is_teacher(r.baseline):
        return ""
    if on_teacher is not None and on_teacher < 0.5:
        return f"{r.judge} agrees with {percent(on_teacher)} of the verdicts on a text of the teacher: it does not know such texts."
    graded = {q.system: q.levels for q in looks if q.split == r.split and q.graded_by == r.judge and q.levels}
    student, teacher = graded.get(r.candidate), graded.get(r.baseline)
    if student is None or teacher is None or teacher[0] <= student[0]:
        return ""
    return (
        f"{r.judge} gives the teacher the worst grade more often than {r.candidate} ({percent(teacher[0])} against "
        f"{percent(student[0])}): it does not know such texts."
    )


def is_teacher(system: str) -> bool:
    """Whether ``system`` names the teacher, of a run or the one that ships."""
    return system.rpartition(":")[2] == "teacher"


def difference_fitness(
    differences: Iterable[PairedDifference], results: Sequence[PairwiseResult]
) -> list[PairedDifference]:
    """``differences`` with ``unfit`` filled in: a judge that cannot judge one of the two meetings cannot judge their gap."""

    def why(d: PairedDifference) -> str:
        names = (d.candidate, d.baseline)
        met = (
            r
            for r in results
            if r.candidate in names and (r.baseline, r.judge, r.split) == (d.opponent, d.judge, d.split)
        )
        return next((r.unfit for r in met if r.unfit), "")

    return [d.model_copy(update={"unfit": why(d)}) for d in differences]


def main_result(results: Iterable[PairwiseResult], candidate: str, baseline: str) -> PairwiseResult | None:
    """The comparison of the two that a verdict rests on: by a fit judge, from outside where there is one."""
    met = [r for r in results if (r.candidate, r.baseline) == (candidate, baseline) and not r.unfit and r.n]
    return min(met, key=lambda r: not r.outside, default=None)


def verdict(r: PairwiseResult) -> str:
    """How ``r`` ended: what follows, what that rests on, and who judged."""
    return f"{conclusion(r)} {rests_on(r)} {judged_by(r)}"


def rests_on(r: PairwiseResult) -> str:
    """Wins, ties and losses; the score, also length-controlled."""
    wins, ties, losses = counts(r.headline).split(" / ")
    told = f"{wins} wins, {ties} ties, {losses} losses on {r.n} inputs of {r.split}: score {hundred(r.score)}, where 50 is even"
    if r.length_controlled.value is not None:
        told += f"; {hundred(r.length_controlled)} had both been equally long"
    return f"{told}."


def judged_by(r: PairwiseResult) -> str:
    """Who judged, and from where."""
    if r.outside:
        return f"Judged by {r.judge}, from outside the training."
    return f"Judged by {r.judge}, which also trained the student: an outside judge is needed for a claim."


def conclusion(r: PairwiseResult) -> str:
    """Whether the candidate is ahead, behind or neither, by the interval of the score."""
    if r.n < FEW:
        return f"With {r.n} inputs nothing can be said about which is better."
    side = _side(r.score)
    if not side:
        return f"{r.candidate} is not clearly better or worse than {r.baseline}."
    which = f"{r.candidate} is clearly {'better' if side > 0 else 'worse'} than {r.baseline}"
    if r.length_controlled.value is not None and _side(r.length_controlled) != side:
        return f"{which}, but not once both are equally long."
    return f"{which}."


def _side(score: Figure) -> int:
    """1 where all of the interval lies above one half, -1 where all of it lies below, else 0."""
    if score.low is None or score.high is None:
        return 0
    return (score.low > 0.5) - (score.high < 0.5)
