"""The validation split: how a student stands against the teacher after a round, or at an epoch's end within one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from quipwright.core.errors import DataError
from quipwright.core.progress import console
from quipwright.core.records import Checkpoint, Example, Response, ids_hash
from quipwright.core.statistics import win_tie_loss
from quipwright.evaluation.pairwise import comparisons, scores_by_input
from quipwright.evaluation.quality import System, quality
from quipwright.pipeline.context import Context
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.runtime import Judge
from quipwright.pipeline.stages.grade import grade
from quipwright.pipeline.stages.judge import judge
from quipwright.pipeline.stages.sample import sample
from quipwright.pipeline.stages.teach import by_example
from quipwright.students.base import Student
from quipwright.training.early_stopping import EarlyStopping, ValidationCallback, ValidationPoint
from quipwright.training.preference.candidates import sampled

Attempts = Mapping[str, Sequence[Response]]


def validate(
    ctx: Context,
    recipe: Recipe,
    critic: Judge,
    round: int,
    before: Checkpoint,
    now: Checkpoint,
    examples: Sequence[Example],
    teacher: Attempts,
) -> ValidationPoint:
    """``now`` on the validation split after ``round``: what :class:`EarlyStopping` measures, and in what it
    degenerated beside ``before``, the student before all rounds. Raises :class:`DataError` without validation literals."""
    held = _held(examples, teacher)
    decode = recipe.evaluate.decode
    start = first(sample(ctx, "validate", "0", before, held, decode))
    answers = first(sample(ctx, "validate", str(round), now, held, decode))
    point = _read(ctx, recipe, critic, str(round), round, start, answers, held, teacher)
    ctx.metrics.add("validate", round, round, {_figure(recipe): point.rate})
    for issue in point.issues:
        console.print(issue_line(f"Round {round}", issue))
    return point


def validation_callback(
    ctx: Context,
    recipe: Recipe,
    critic: Judge,
    round: int,
    before: Checkpoint,
    examples: Sequence[Example],
    teacher: Attempts,
) -> ValidationCallback:
    """What reads a student at each epoch's end within ``round``, as :func:`validate` does after it."""
    held, decode = _held(examples, teacher), recipe.evaluate.decode
    # Decoded before training begins: the student that would answer is the one that will be trained.
    start = first(sample(ctx, "validate", "0", before, held, decode))

    def read(student: Student, step: int) -> ValidationPoint:
        name = f"{round}.{step}"
        chunks = sampled(
            lambda: student,
            f"student:{name}",
            ctx.task.prompt,
            held,
            decode,
            ctx.seed,
            f"validate-{name}",
            ctx.task.style_named(),
        )
        answers = first(by_example([response for part in chunks(0) for response in part]))
        point = _read(ctx, recipe, critic, name, step, start, answers, held, teacher)
        ctx.metrics.add("validate-epoch", round, step, {_figure(recipe): point.rate})
        for issue in point.issues:
            console.print(issue_line(f"Round {round}, step {step},", issue))
        return point

    taught = ids_hash(r for e in held for r in teacher[e.id][:1])
    by = ctx.judges.key(recipe.grader) if _figure(recipe) == "mean_grade" and recipe.grader else critic.key
    key = [by, decode, recipe.evaluate.tie, before.id, ids_hash(held), taught]
    return ValidationCallback(read, recipe.early_stopping or EarlyStopping(), key)


def _figure(recipe: Recipe) -> str:
    """The name of what is measured, in the stream of figures."""
    by_grades = recipe.early_stopping is not None and recipe.early_stopping.measure == "mean_grade"
    return "mean_grade" if by_grades else "against-teacher/win_tie_rate"


def issue_line(who: str, issue: str) -> str:
    """In what ``who`` degenerated, for people."""
    return f"{who} degenerates on the validation split: {issue}."


def first(responses: Attempts) -> System:
    """The one answer to each example that has any."""
    return {example_id: texts[0] for example_id, texts in responses.items() if texts}


def _held(examples: Sequence[Example], teacher: Attempts) -> list[Example]:
    held = [e for e in examples if e.split == "valid" and e.id in teacher]
    if not held:
        raise DataError(
            "early_stopping measures on the valid split, which is empty.",
            "Give data.valid, or leave early_stopping out.",
        )
    return held


def _read(
    ctx: Context,
    recipe: Recipe,
    critic: Judge,
    name: str,
    number: int,
    start: System,
    answers: System,
    held: Sequence[Example],
    teacher: Attempts,
) -> ValidationPoint:
    stopping = recipe.early_stopping or EarlyStopping()
    if stopping.measure == "mean_grade":
        rate = _mean_grade(ctx, recipe, name, answers, held)
    else:
        rate = _win_tie_rate(ctx, recipe, critic, name, answers, held, teacher)
    now, before = (quality(who, "valid", system, held, {}) for who, system in (("now", answers), ("before", start)))
    issues = stopping.issues(now, before) if now and before else ["answers nothing at all"]
    return ValidationPoint(number, rate, tuple(issues))


def _win_tie_rate(
    ctx: Context,
    recipe: Recipe,
    critic: Judge,
    name: str,
    answers: System,
    held: Sequence[Example],
    teacher: Attempts,
) -> float:
    systems = {"now": answers, "teacher": first({e.id: teacher[e.id] for e in held})}
    compared = comparisons("now", "teacher", systems, held)
    judgments = judge(ctx, f"validate-{name}", critic, compared, copies_lose=recipe.copies_lose)
    return win_tie_loss(list(scores_by_input(compared, judgments).values()), recipe.evaluate.tie).win_tie_rate or 0.0


def _mean_grade(ctx: Context, recipe: Recipe, name: str, answers: System, held: Sequence[Example]) -> float:
    """The mean level of the answers, from 0; 0 where none could be read."""
    grader = ctx.judges.grader(recipe.grader or recipe.critic)
    grades = grade(ctx, f"validate-{name}", grader, {e.id: e for e in held}, list(answers.values()))
    read = [g.levels for g in grades.values() if g.levels is not None]
    return fmean(sum(level * p for level, p in enumerate(levels)) for levels in read) if read else 0.0
