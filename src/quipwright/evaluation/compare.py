"""Any systems against one another, by any judges, computed as a run's own evaluation is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from quipwright.core.errors import DataError
from quipwright.core.records import Example, Grade, Record, Response
from quipwright.core.results import Note, PairedDifference, PairwiseResult, Quality
from quipwright.core.statistics import RESAMPLES
from quipwright.critics.base import Critic, GradesOnFile
from quipwright.critics.by_grades import FromGrades
from quipwright.critics.copy_filter import CopyFilter
from quipwright.critics.grading import GradingCritic
from quipwright.evaluation.audit import judge_all
from quipwright.evaluation.harm import harm
from quipwright.evaluation.pairwise import (
    adjusted,
    comparisons,
    paired_difference,
    pairwise_result,
    scores_by_input,
)
from quipwright.evaluation.quality import System, quality
from quipwright.evaluation.similarity import Meaning
from quipwright.evaluation.systems import Outputs, aligned
from quipwright.evaluation.verdict import difference_fitness, with_fitness


class CompareResult(Record):
    """Everything that :func:`compare` computes.

    Holm's adjustment is over all pairwise results, and over all differences. ``grades`` names the levels of quality.
    """

    systems: tuple[str, ...]
    judges: tuple[str, ...]
    grades: tuple[str, ...]
    pairwise: tuple[PairwiseResult, ...]
    differences: tuple[PairedDifference, ...]
    quality: tuple[Quality, ...]
    warnings: tuple[Note, ...]


@dataclass(frozen=True)
class _Meeting:
    """What every judge is asked about one split, and how its answers are read."""

    split: str
    examples: Sequence[Example]
    answers: Mapping[str, System]
    candidates: Sequence[str]
    baseline: str
    tie: float
    resamples: int


def compare(
    systems: Sequence[Outputs], judges: Sequence[Critic], *, grades: Sequence[str] = (), tie: float = 0.05,
    resamples: int = RESAMPLES, guard: bool = True, meaning: Meaning | None = None,
) -> CompareResult:  # fmt: skip
    """Every system against the last one, by every judge, on every split; and the others with one another, paired.

    ``grades`` are the task's names of grades, worst first. ``guard``: copies and broken texts lose before any judge is
    asked. Raises :class:`DataError` where there are fewer than two systems or they have no literal in common.
    """
    if len(systems) < 2:
        raise DataError("compare needs two systems.", "For example: quipwright compare runs/a runs/b.")
    examples, answers = aligned(systems)
    *candidates, baseline = [system.name for system in systems]
    literal_of = {e.id: e.text for e in examples}
    responses = [response for system in answers.values() for response in system.values()]
    literals = [literal_of[r.example_id] for r in responses]
    cosines = {kept.response_id: kept.cosine for kept in (meaning.kept(responses, literals) if meaning else [])}
    harmful = {read.response_id: read.kind for read in harm(responses)}
    judges = [_read_at_once(judge, literals, responses) for judge in judges]
    graded = _known_grades(judges, literals, responses)
    pairwise, differences, looks = list[PairwiseResult](), list[PairedDifference](), list[Quality | None]()
    for split in dict.fromkeys(e.split for e in examples):
        chosen = [e for e in examples if e.split == split]
        meeting = _Meeting(split, chosen, answers, candidates, baseline, tie, resamples)
        for judge in judges:
            results, paired = _judge_split(CopyFilter(judge) if guard else judge, meeting)
            pairwise += results
            differences += paired
        looks += [quality(name, split, system, chosen, graded, cosines, harmful) for name, system in answers.items()]
    if not pairwise:
        raise DataError(
            f"No literal was answered both by {baseline} and by another system.",
            "Give them the same literals (--data FILE).",
        )
    trainers = {system.critic for system in systems}
    seen = [look for look in looks if look is not None]
    results = [
        r.model_copy(update={"outside": r.judge not in trainers})
        for r in with_fitness(adjusted(pairwise), seen, judges)
    ]
    return CompareResult(
        systems=tuple(system.name for system in systems),
        judges=tuple(judge.name for judge in judges),
        grades=tuple(grades),
        pairwise=tuple(results),
        differences=tuple(difference_fitness(adjusted(differences), results)),
        quality=tuple(seen),
        warnings=tuple(dict.fromkeys([*_judge_warnings(systems, judges), *_result_warnings(pairwise)])),
    )


def _judge_split(judge: Critic, meeting: _Meeting) -> tuple[list[PairwiseResult], list[PairedDifference]]:
    m, scores, results = meeting, {}, []
    for name in m.candidates:
        compared = comparisons(name, m.baseline, m.answers, m.examples)
        if not compared:
            continue
        judgments = [j for both in judge_all(judge, compared) for j in both]
        names = name, m.baseline
        results.append(
            pairwise_result(names, judge.name, m.split, compared, judgments, tie=m.tie, resamples=m.resamples)
        )
        scores[name] = scores_by_input(compared, judgments)
    paired = [
        paired_difference(
            (one, other),
            m.baseline,
            judge.name,
            m.split,
            scores[one],
            scores[other],
            tie=m.tie,
            resamples=m.resamples,
        )
        for one, other in combinations(scores, 2)
    ]
    return results, paired


def _read_at_once(judge: Critic, literals: Sequence[str], responses: Sequence[Response]) -> Critic:
    """``judge``; one that grades lists has then read all answers to a literal together."""
    if not isinstance(judge, GradingCritic):
        return judge
    return FromGrades(judge.name, {grade.response_id: grade for grade in judge.grade(literals, responses)})


def _known_grades(
    judges: Sequence[Critic], literals: Sequence[str], responses: Sequence[Response]
) -> Mapping[str, Grade]:
    """The grades of the first judge that has any on file or has read lists, by response id."""
    each = (
        judge.grades if isinstance(judge, FromGrades) else judge.recorded_grades(literals, responses)
        for judge in judges
        if isinstance(judge, FromGrades | GradesOnFile)
    )
    return next(filter(None, each), {})


def _judge_warnings(systems: Sequence[Outputs], judges: Sequence[Critic]) -> Iterator[Note]:
    """What makes a judge unfit for a claim about these systems."""
    trained_by = {system.critic: system.name for system in systems if system.critic}
    involved = [judge.name for judge in judges if judge.name in trained_by]
    told = ""
    if involved and len(involved) == len(judges):
        told = (
            f"{involved[0]} trained {trained_by[involved[0]]} (or learnt from the same verdicts) and is the only judge"
            " here: an outside judge is needed for a claim."
        )
    elif involved:
        told = f"{involved[0]} trained {trained_by[involved[0]]}: believe the other judges first."
    elif trained_by and not judges:
        told = "There is no judge."
    if told:
        yield Note(about="judge", text=told)


def _result_warnings(results: Sequence[PairwiseResult]) -> Iterator[Note]:
    for r in results:
        if r.unparsed:
            asked = r.n + r.unparsed
            told = f"{r.judge} could not be read on {r.unparsed} of {asked} inputs ({r.candidate}, {r.split})."
            yield Note(about="judge", text=told)
        if r.length_ratio is not None and not 0.8 <= r.length_ratio <= 1.25:
            told = (
                f"{r.candidate} writes {r.length_ratio:.2f} times as long as {r.baseline} on {r.split}:"
                " read the length-controlled rate."
            )
            yield Note(about="outputs", text=told)
