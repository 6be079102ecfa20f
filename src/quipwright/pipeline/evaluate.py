"""Evaluation of a run's students: who answers what, who meets whom, what the critic says, and how the outputs look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.records import Checkpoint, Comparison, Example, Grade, Judgment, Response, Status, ids_hash
from quipwright.core.results import PairedDifference, PairScores, PairwiseResult, Quality, Sample
from quipwright.core.statistics import win_tie_loss
from quipwright.evaluation.pairwise import (
    adjusted,
    comparisons,
    meetings,
    orders_won,
    paired_difference,
    pairwise_result,
    scores_by_input,
)
from quipwright.evaluation.quality import System, quality
from quipwright.evaluation.settings import EvaluateSettings
from quipwright.evaluation.similarity import PACKAGE, Kept, Meaning, packaged
from quipwright.pipeline.stages import Stages, by_example
from quipwright.students.base import Student
from quipwright.training.early_stopping import EarlyStopping, ValidationCallback, ValidationPoint
from quipwright.training.preference.candidates import sampled
from quipwright.training.preference.pairs import copies_last
from quipwright.training.preference.rows import best_of

Names = tuple[str, str]
"""Candidate and baseline."""


@dataclass
class Evaluation:
    """Everything that was measured on the evaluation splits."""

    pairwise: list[PairwiseResult] = field(default_factory=list)
    differences: list[PairedDifference] = field(default_factory=list)
    scores: list[PairScores] = field(default_factory=list)
    quality: list[Quality] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def evaluate(
    stages: Stages,
    examples: Sequence[Example],
    taught: Mapping[str, Sequence[Response]],
    students: Mapping[str, Checkpoint],
) -> Evaluation:
    """Every student against the teacher, the untrained weights and, after feedback, the imitation student."""
    result = Evaluation()
    result.data = {
        "literals": dict(Counter(e.split for e in examples)),
        "teacher": sum(map(len, taught.values())),
        "untaught": sum(not taught.get(e.id) for e in examples),
    }
    wanted = stages.recipe.evaluate.students
    students = {name: one for name, one in students.items() if wanted is None or name in wanted}
    for split in stages.recipe.evaluate.splits:
        chosen = [e for e in examples if e.split == split]
        if chosen:
            _evaluate_split(stages, split, chosen, taught, students, result)
    result.pairwise, result.differences = adjusted(result.pairwise), adjusted(result.differences)
    return result


def _evaluate_split(
    stages: Stages,
    split: str,
    examples: Sequence[Example],
    taught: Mapping[str, Sequence[Response]],
    students: Mapping[str, Checkpoint],
    result: Evaluation,
) -> None:
    how, by_id = stages.recipe.evaluate, {e.id: e for e in examples}
    systems = _systems(stages, split, examples, taught, students)
    answers = {r.id: r for system in systems.values() for r in system.values()}
    grades = stages.grade(f"grade-{split}", by_id, list(answers.values())) if stages.recipe.grader else {}
    opponents = [name for name in ("teacher", "base") if name in systems]
    later = [name for name in systems if "imitation" in systems and name not in (*opponents, "imitation")]
    compared = {names: comparisons(*names, systems, examples) for names in meetings(systems, opponents, later)}
    pairs = list(chain.from_iterable(compared.values()))
    judgments = stages.judge(f"judge-{split}", pairs)
    scores = _judged(stages.models.critic.name, split, compared, judgments, later, how, result)
    ordered = any(j.shown == "ba" for j in judgments)  # else the scores say it all
    result.scores += [
        PairScores(
            candidate=names[0],
            baseline=names[1],
            split=split,
            scores=scores[names],
            orders_won=orders_won(own, judgments) if ordered else None,
        )
        for names, own in compared.items()
    ]
    for judge in stages.models.judges:
        judgments = stages.judge(f"judge-{split}-{judge.settings.kind}", pairs, judge)
        _judged(judge.critic.name, split, compared, judgments, later, how, result)
    kept = _meaning(stages, split, by_id, list(answers.values()))
    looks = (quality(name, split, system, examples, grades, kept) for name, system in systems.items())
    result.quality += [look for look in looks if look is not None]
    head = scores.get(("feedback", "imitation"), {})
    result.samples += [_sample(e, systems, grades, head.get(e.id)) for e in examples]


def _judged(
    judge: str,
    split: str,
    compared: Mapping[Names, Sequence[Comparison]],
    judgments: Sequence[Judgment],
    later: Sequence[str],
    how: EvaluateSettings,
    result: Evaluation,
) -> dict[Names, dict[str, float | None]]:
    """Add to ``result`` what ``judge`` said of each meeting, and of each ``later`` student beside the imitation student.

    Returns the scores by meeting.
    """
    scores = {names: scores_by_input(own, judgments) for names, own in compared.items()}
    for names, own in compared.items():
        if own:
            result.pairwise.append(
                pairwise_result(names, judge, split, own, judgments, tie=how.tie, resamples=how.resamples)
            )
    for name in later:
        for opponent in [other for student, other in scores if student == name and ("imitation", other) in scores]:
            names, mine, theirs = (name, "imitation"), scores[name, opponent], scores["imitation", opponent]
            result.differences.append(
                paired_difference(names, opponent, judge, split, mine, theirs, tie=how.tie, resamples=how.resamples)
            )
    return scores


def _meaning(
    stages: Stages, split: str, examples: Mapping[str, Example], answers: Sequence[Response]
) -> dict[str, float]:
    """How much of its literal's meaning each answer keeps, by response id; nothing without the optional encoder."""
    if packaged() is None:
        return {}

    def work(start: int) -> Iterator[list[Kept]]:
        encoder = Meaning.installed()
        if start == 0 and encoder is not None:
            yield encoder.kept(answers, [examples[r.example_id].text for r in answers])

    key = [PACKAGE, ids_hash(answers), ids_hash(examples.values())]
    return {kept.response_id: kept.cosine for kept in stages.run.rows(f"meaning-{split}", Kept, key, work)}


def _systems(
    stages: Stages,
    split: str,
    examples: Sequence[Example],
    taught: Mapping[str, Sequence[Response]],
    students: Mapping[str, Checkpoint],
) -> dict[str, System]:
    """Each system's one answer an example: decoded students, best-of-N by the critic, teacher, untrained weights."""
    recipe, how, by_id = stages.recipe, stages.recipe.evaluate, {e.id: e for e in examples}
    systems: dict[str, System] = {}
    for name, checkpoint in students.items():
        systems[name] = _first(stages.sample(f"decode-{name}-{split}", checkpoint, examples, how.decode))
    if how.best_of and stages.recipe.grader:
        for name in [n for n in ("imitation", "feedback") if n in students]:
            drawn = stages.sample(
                f"best-of-{name}-{split}",
                students[name],
                examples,
                recipe.candidates.model_copy(update={"k": how.best_of}),
            )
            usable = [r for own in drawn.values() for r in own if r.usable]
            read = stages.grade(f"grade-best-{name}-{split}", by_id, usable)
            scores = {response_id: grade.score for response_id, grade in read.items()}
            scores = copies_last(scores, examples, drawn) if stages.recipe.copies_lose else scores
            systems[f"{name}-best-of-{how.best_of}"] = _first(best_of(drawn, scores))
    if how.base:
        systems["base"] = _first(stages.zero_shot(f"decode-base-{split}", examples, how.decode))
        stages.models.forget_untrained()
    systems["teacher"] = _first({e.id: taught[e.id] for e in examples if e.id in taught})
    return systems


def _first(responses: Mapping[str, Sequence[Response]]) -> System:
    return {example_id: own[0] for example_id, own in responses.items() if own}


def _sample(example: Example, systems: Mapping[str, System], grades: Mapping[str, Grade], head: float | None) -> Sample:
    answers = {name: system[example.id] for name, system in systems.items() if example.id in system}
    return Sample(
        literal=example.text,
        example_id=example.id,
        split=example.split,
        answers={name: response.text for name, response in answers.items()},
        levels={name: g.levels for name, r in answers.items() if (g := grades.get(r.id)) and g.levels is not None},
        response_ids={name: response.id for name, response in answers.items()},
        authors={name: response.author for name, response in answers.items()},
        truncated=tuple(name for name, response in answers.items() if response.status is Status.TRUNCATED),
        feedback_over_imitation=head,
    )


def reading(
    stages: Stages,
    round: int,
    before: Checkpoint,
    now: Checkpoint,
    examples: Sequence[Example],
    taught: Mapping[str, Sequence[Response]],
) -> ValidationPoint:
    """Round ``round`` on the validation split: win-tie rate against the teacher, and the degeneracy guard's complaints
    beside the student ``before`` all rounds. Raises :class:`DataError` without validation literals."""
    valid = _watched(examples, taught)
    start, answers = (
        _first(stages.sample(name, checkpoint, valid, stages.recipe.evaluate.decode))
        for name, checkpoint in (("watch-0", before), (f"watch-{round}", now))
    )
    found = _reading(stages, str(round), round, start, answers, valid, taught)
    stages.warn(f"Round {round}", found.issues)
    return found


def probe(
    stages: Stages,
    round: int,
    before: Checkpoint,
    examples: Sequence[Example],
    taught: Mapping[str, Sequence[Response]],
) -> ValidationCallback:
    """What reads a student within round ``round`` as :func:`reading` does after it."""
    watch, how = stages.recipe.watch or EarlyStopping(), stages.recipe.evaluate
    valid = _watched(examples, taught)
    # before training begins: the student that would answer is the one that will be trained
    start = _first(stages.sample("watch-0", before, valid, how.decode))

    def read(student: Student, step: int) -> ValidationPoint:
        name = f"{round}.{step}"
        chunks = sampled(
            lambda: student,
            f"student:{name}",
            stages.task.prompt,
            valid,
            how.decode,
            stages.recipe.seed,
            f"watch-{name}",
        )
        responses = [r for part in chunks(0) for r in part if isinstance(r, Response)]
        answers = _first(by_example(responses))
        return _reading(stages, name, step, start, answers, valid, taught)

    taught_ids = ids_hash(r for e in valid for r in taught[e.id][:1])
    return ValidationCallback(
        read, watch, [stages.models.critic_key, how.decode, how.tie, before.id, ids_hash(valid), taught_ids]
    )


def _watched(examples: Sequence[Example], taught: Mapping[str, Sequence[Response]]) -> list[Example]:
    valid = [e for e in examples if e.split == "valid" and e.id in taught]
    if not valid:
        raise DataError("watch measures on the valid split, which is empty.", "Give data.valid, or leave watch out.")
    return valid


def _reading(
    stages: Stages,
    name: str,
    number: int,
    start: System,
    answers: System,
    valid: Sequence[Example],
    taught: Mapping[str, Sequence[Response]],
) -> ValidationPoint:
    watch, how = stages.recipe.watch or EarlyStopping(), stages.recipe.evaluate
    systems = {"before": start, "now": answers, "teacher": _first({e.id: taught[e.id] for e in valid})}
    compared = comparisons("now", "teacher", systems, valid)
    scores = scores_by_input(compared, stages.judge(f"watch-judge-{name}", compared))
    rate = win_tie_loss(list(scores.values()), how.tie).win_tie_rate or 0.0
    now, before = (quality(name, "valid", systems[name], valid, {}) for name in ("now", "before"))
    issues = watch.issues(now, before) if now and before else ["answers nothing at all"]
    round, _, within = name.partition(".")
    stages.metrics.add("watch-epoch" if within else "watch", int(round), number, {"against-teacher/win_tie_rate": rate})
    return ValidationPoint(number, rate, tuple(issues))
