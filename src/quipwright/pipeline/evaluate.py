"""Evaluation of a run's students: who answers what, who meets whom, what the judges say, and how the outputs look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from quipwright.core.errors import CriticError
from quipwright.core.records import Checkpoint, Comparison, Example, Grade, Judgment, Response, Status
from quipwright.core.results import PairedDifference, PairScores, PairwiseResult, Quality, Sample
from quipwright.critics.base import BuildContext, Critic
from quipwright.critics.by_grades import scores_of
from quipwright.critics.config import outsiders
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
from quipwright.evaluation.verdict import difference_fitness, with_fitness
from quipwright.pipeline.context import Context
from quipwright.pipeline.noise import Twice, noise_floors, sampled_twice, samples
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.rounds import reading_again
from quipwright.pipeline.runtime import Judge
from quipwright.pipeline.stages.grade import Grades, grade
from quipwright.pipeline.stages.judge import judge
from quipwright.pipeline.stages.looks import harmful, similarity
from quipwright.pipeline.stages.sample import sample, zero_shot
from quipwright.pipeline.validate import first
from quipwright.training.preference.pairs import copies_last
from quipwright.training.preference.rows import best_of

Names = tuple[str, str]
"""Candidate and baseline."""


@dataclass(frozen=True)
class Answers:
    """Every system's one answer to each example of a split, by system and example id, and the grades read on the way;
    ``drawn``: the samples of the best-of-N baselines, by student and example id."""

    systems: Mapping[str, System]
    grades: Grades
    drawn: Mapping[str, Mapping[str, list[Response]]]

    @property
    def different(self) -> list[Response]:
        """All systems' answers, equal ones once."""
        return list({r.id: r for system in self.systems.values() for r in system.values()}.values())


@dataclass(frozen=True)
class _Meetings:
    """What every judge is asked on one split: who meets whom, and each student against its own second sample."""

    split: str
    compared: Mapping[Names, Sequence[Comparison]]
    twice: Twice
    later: Sequence[str]

    @property
    def pairs(self) -> list[Comparison]:
        """All meetings of systems."""
        return list(chain.from_iterable(self.compared.values()))


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured on the evaluation splits. ``judgments``: of every judge, by stage part."""

    critic: Critic
    pairwise: list[PairwiseResult] = field(default_factory=list)
    differences: list[PairedDifference] = field(default_factory=list)
    scores: list[PairScores] = field(default_factory=list)
    quality: list[Quality] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    judgments: dict[str, list[Judgment]] = field(default_factory=dict)
    responses: dict[str, list[Response]] = field(default_factory=dict)


def evaluate(
    ctx: Context,
    recipe: Recipe,
    critic: Judge | None,
    examples: Sequence[Example],
    teacher: Mapping[str, Sequence[Response]],
    students: Mapping[str, Checkpoint],
) -> Evaluation:
    """Every student against the teacher, the untrained weights and, after feedback, the imitation student.

    Raises :class:`CriticError` where the critic was to be labelled actively and no round gave it pairs to learn from.
    """
    if critic is None:
        raise CriticError("A distilled critic judges only after a round of feedback.", "Set rounds to at least 1.")
    wanted = recipe.evaluate.students
    evaluated = {name: student for name, student in students.items() if wanted is None or name in wanted}
    result = Evaluation(critic.critic)
    for split in recipe.evaluate.splits:
        chosen = [e for e in examples if e.split == split]
        if chosen:
            _evaluate_split(ctx, recipe, critic, split, chosen, teacher, evaluated, result)
    judges = [critic.critic, *(ctx.judges.of(settings).critic for settings in recipe.evaluate.judges)]
    pairwise = with_fitness(adjusted(result.pairwise), result.quality, judges)
    return replace(result, pairwise=pairwise, differences=difference_fitness(adjusted(result.differences), pairwise))


def _evaluate_split(
    ctx: Context,
    recipe: Recipe,
    critic: Judge,
    split: str,
    examples: Sequence[Example],
    teacher: Mapping[str, Sequence[Response]],
    students: Mapping[str, Checkpoint],
    result: Evaluation,
) -> None:
    """Add what is measured on ``split`` to ``result``."""
    by_id = {e.id: e for e in examples}
    answered = _answers(ctx, recipe, split, examples, teacher, students, result)
    systems, grades = answered.systems, dict(answered.grades)
    answers = answered.different
    twice = sampled_twice(answered.drawn, examples) if recipe.evaluate.noise_floor else {}
    if recipe.grader:
        unread = [r for r in [*answers, *samples(twice, answered.drawn)] if r.id not in grades]
        grades |= grade(ctx, split, ctx.judges.grader(recipe.grader), by_id, unread)
    opponents = [name for name in ("teacher", "base") if name in systems]
    later = [name for name in systems if "imitation" in systems and name not in (*opponents, "imitation")]
    compared = {names: comparisons(*names, systems, examples) for names in meetings(systems, opponents, later)}
    met = _Meetings(split, compared, twice, later)
    judgments, scores = _judged(ctx, recipe, met, split, critic, grades, result)
    ordered = any(j.shown == "ba" for j in judgments)  # else the scores say it all
    result.scores.extend(
        PairScores(
            candidate=names[0],
            baseline=names[1],
            split=split,
            scores=scores[names],
            orders_won=orders_won(pairs_of_names, judgments) if ordered else None,
        )
        for names, pairs_of_names in compared.items()
    )
    grades = _judged_by_others(ctx, recipe, met, by_id, answered, grades, result)
    kept = similarity(ctx, split, by_id, answers)
    hurt = harmful(ctx, split, answers)
    looks = (quality(name, split, system, examples, grades, kept, hurt) for name, system in systems.items())
    result.quality.extend(look for look in looks if look is not None)
    head = scores.get(("feedback", "imitation"), {})
    result.samples.extend(_sample(e, systems, grades, head.get(e.id)) for e in examples)


def _judged_by_others(
    ctx: Context,
    recipe: Recipe,
    met: _Meetings,
    examples: Mapping[str, Example],
    answered: Answers,
    grades: Grades,
    result: Evaluation,
) -> Grades:
    """Add what the judges beside the critic say. Returns ``grades``, or those of the first that grades where it is empty."""
    outside = outsiders(recipe.critic, recipe.evaluate.judges, BuildContext(ctx.recipe_dir, ctx.task))
    for settings in recipe.evaluate.judges:
        other, part, own = ctx.judges.of(settings), f"{met.split}-{settings.kind}", Grades()
        if settings.can_grade:  # all systems' answers to a literal are read together
            grader = ctx.judges.grader(settings)
            own = grade(ctx, part, grader, examples, answered.different)
            grades = grades or dict(own)
            if again := samples(met.twice, answered.drawn):
                own |= grade(ctx, f"{part}-twice", grader, examples, again)
            other = other.reading(own)
        _judged(ctx, recipe, met, part, other, None, result, outside=settings in outside)
    return grades


def _answers(
    ctx: Context,
    recipe: Recipe,
    split: str,
    examples: Sequence[Example],
    teacher: Mapping[str, Sequence[Response]],
    students: Mapping[str, Checkpoint],
    result: Evaluation,
) -> Answers:
    """Each system's one answer an example: decoded students, best-of-N by the critic, teacher, untrained weights."""
    settings, by_id = recipe.evaluate, {e.id: e for e in examples}
    systems: dict[str, System] = {}
    grades: Grades = {}
    samples_of = dict[str, Mapping[str, list[Response]]]()

    def kept(stage: str, responses: Mapping[str, list[Response]]) -> Mapping[str, list[Response]]:
        result.responses[stage] = [r for texts in responses.values() for r in texts]
        return responses

    for name, checkpoint in students.items():
        part = f"{name}-{split}"
        systems[name] = first(
            kept(f"decode-{part}", sample(ctx, "decode", part, checkpoint, examples, settings.decode))
        )
    if settings.best_of and recipe.grader:
        for name in [n for n in ("imitation", "feedback") if n in students]:
            part = f"{name}-{split}"
            candidates = recipe.candidates.model_copy(update={"k": settings.best_of})
            drawn = kept(f"best_of-{part}", sample(ctx, "best_of", part, students[name], examples, candidates))
            samples_of[name] = drawn
            usable = [r for texts in drawn.values() for r in texts if r.usable]
            read = grade(ctx, f"best-{part}", ctx.judges.grader(recipe.grader), by_id, usable)
            grades |= read
            scores = scores_of(read.values())
            scores = copies_last(scores, examples, drawn) if recipe.copies_lose else scores
            systems[f"{name}-best-of-{settings.best_of}"] = first(best_of(drawn, scores))
    if settings.noise_floor:
        two = recipe.candidates.model_copy(update={"k": 2})
        for name in [
            n for n in ("imitation", "feedback") if n in students and (settings.best_of < 2 or n not in samples_of)
        ]:
            samples_of[name] = kept(
                f"twice-{name}-{split}", sample(ctx, "best_of", f"{name}-{split}-twice", students[name], examples, two)
            )
    if settings.base:
        systems["base"] = first(
            kept(f"decode-base-{split}", zero_shot(ctx, f"base-{split}", examples, settings.decode))
        )
        ctx.students.forget_untrained()
    systems["teacher"] = first({e.id: teacher[e.id] for e in examples if e.id in teacher})
    return Answers(systems, grades, samples_of)


def _judged(
    ctx: Context,
    recipe: Recipe,
    met: _Meetings,
    part: str,
    reader: Judge,
    grades: Grades | None,
    result: Evaluation,
    outside: bool = False,
) -> tuple[list[Judgment], dict[Names, dict[str, float | None]]]:
    """Add to ``result`` what ``reader`` says of each meeting, and of each later student beside the imitation student.

    ``grades``: the training critic's own, which it is not asked for again. Returns its judgments, and the scores by meeting.
    """
    settings = recipe.evaluate

    def open_for(pairs: Sequence[Comparison]) -> Judge:
        return reader if grades is None else reading_again(recipe, reader, pairs, grades)

    judgments = judge(ctx, part, open_for(met.pairs), met.pairs, copies_lose=recipe.copies_lose)
    result.judgments[f"judge-{part}"] = judgments
    sampled = [c for own in met.twice.values() for c in own]
    floors = noise_floors(ctx, recipe, part, open_for(sampled), met.twice, result.judgments)
    scores = {names: scores_by_input(pairs, judgments) for names, pairs in met.compared.items()}
    tie, resamples = settings.tie, settings.resamples
    for names, pairs in met.compared.items():
        if pairs:
            found = pairwise_result(names, reader.name, met.split, pairs, judgments, tie=tie, resamples=resamples)
            known = {"noise_floor": floors.get(names[0]), "outside": outside}
            result.pairwise.append(found.model_copy(update=known))
    for name in met.later:
        for opponent in [other for student, other in scores if student == name and ("imitation", other) in scores]:
            names, mine, theirs = (name, "imitation"), scores[name, opponent], scores["imitation", opponent]
            result.differences.append(
                paired_difference(names, opponent, reader.name, met.split, mine, theirs, tie=tie, resamples=resamples)
            )
    return judgments, scores


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
