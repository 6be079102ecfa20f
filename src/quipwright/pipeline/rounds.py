"""Phase 2: what the student tries, what the critic says of it, and what the student learns from that.

Preferences among the teacher's own texts and rounds are here; what is on file already is in :mod:`quipwright.pipeline.offline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quipwright.core.errors import DataError
from quipwright.core.records import Checkpoint, Comparison, Example, Grade, Judgment, Ranking, Response
from quipwright.critics.by_grades import scores_of
from quipwright.pipeline.context import Context
from quipwright.pipeline.recipe import Learning, Recipe, TeacherPreferences
from quipwright.pipeline.runtime import Judge
from quipwright.pipeline.stages.grade import grade
from quipwright.pipeline.stages.judge import judge
from quipwright.pipeline.stages.label import label
from quipwright.pipeline.stages.rank import nothing_ranked, rank
from quipwright.pipeline.stages.sample import sample
from quipwright.pipeline.stages.select import Selection, nothing_selected, select
from quipwright.pipeline.stages.teach import of_style
from quipwright.pipeline.stages.train import Trained, train_preference, train_sft
from quipwright.pipeline.validate import validate, validation_callback
from quipwright.students.base import Prompted
from quipwright.training.early_stopping import ValidationCallback, ValidationPoint, best_point, out_of_patience
from quipwright.training.preference.pairs import AnySelector, copies_last
from quipwright.training.preference.rows import best_of, winners

Attempts = Mapping[str, Sequence[Response]]
"""Responses by example id."""


@dataclass(frozen=True)
class Basis:
    """What all steps of phase 2 start from. ``imitation_rows``: what the imitation student was trained on."""

    recipe: Recipe
    examples: Sequence[Example]
    teacher: Attempts
    imitation: Checkpoint
    imitation_rows: Sequence[Prompted]

    @property
    def sampled(self) -> list[Example]:
        """The training literals that feedback is given on."""
        return [e for e in self.examples if e.split == "train"][: self.recipe.feedback_examples]


@dataclass(frozen=True)
class Ranked:
    """The critic's order of chosen pairs. ``critic`` is the judge that gave it, for whatever is judged next;
    ``attempts``: all that the student wrote for it, unusable texts included; ``why_none``: why there is no order, and
    what to do, where there is none."""

    responses: Mapping[str, Response]
    rankings: Sequence[Ranking]
    critic: Judge | None
    selection: Selection | None = None
    judgments: Sequence[Judgment] = ()
    attempts: Sequence[Response] = ()
    why_none: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Step:
    """One step of phase 2: the student it left, what it was ranked from, and how it did on the validation split."""

    name: str
    trained: Trained
    ranked: Ranked
    validation: ValidationPoint | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The student's weights."""
        return self.trained.checkpoint


def learn_from_teacher(
    ctx: Context, basis: Basis, settings: TeacherPreferences, student: Checkpoint, critic: Judge | None
) -> Step:
    """The critic ranks the teacher's own responses, and the student learns from that before it ever tries (the BRIO of
    BRIO-DPO, Ravi et al. 2024 sec. 3.2)."""
    texts = of_style(basis.teacher, ctx.task.style_named())
    taught = [e for e in basis.examples if e.split == "train" and e.id in texts][: basis.recipe.feedback_examples]
    responses = {e.id: texts[e.id] for e in taught}
    ranked = rank_attempts(ctx, basis.recipe, 0, settings.select, taught, responses, critic)
    return Step(
        "teacher_preferences",
        learn_rankings(ctx, basis, "teacher", 0, settings.learn, student, student, ranked),
        ranked,
    )


def feedback_rounds(ctx: Context, basis: Basis, student: Checkpoint, critic: Judge | None) -> list[Step]:
    """Every round of feedback, until the recipe's number is reached or early stopping says so."""
    recipe, rounds = basis.recipe, list[Step]()
    for number in range(1, recipe.rounds + 1):
        parent = rounds[-1].checkpoint if rounds else student
        reference = student if recipe.reference == "initial" else parent
        step = feedback_round(ctx, basis, number, student, parent, reference, critic, rounds)
        rounds.append(step)
        critic = step.ranked.critic
        if recipe.early_stopping is not None and out_of_patience(validations(rounds), recipe.early_stopping.patience):
            break
    return rounds


def feedback_round(
    ctx: Context,
    basis: Basis,
    number: int,
    initial: Checkpoint,
    parent: Checkpoint,
    reference: Checkpoint,
    critic: Judge | None,
    earlier: Sequence[Step],
) -> Step:
    """One round: the student ``parent`` tries, the critic compares its attempts, the student learns from the verdicts.

    ``initial`` is the student before all rounds, beside which validation looks for degeneration.
    """
    recipe, learn, examples = basis.recipe, basis.recipe.learn, basis.sampled
    ranked, targets = Ranked({}, (), critic), None
    if learn.source == "teacher":
        targets = basis.teacher
    else:
        attempts: Attempts = sample(ctx, "sample", str(number), parent, examples, recipe.candidates, round=number)
        tried = [r for texts in attempts.values() for r in texts]
        if learn.source == "best_of_n":
            ranked = replace(ranked, attempts=tried)
            scores = scores_of(_graded(ctx, recipe, str(number), examples, attempts).values())
            targets = best_of(attempts, copies_last(scores, examples, attempts) if recipe.copies_lose else scores)
        else:
            if recipe.select.kind == "teacher_mix":
                taught = of_style(basis.teacher, ctx.task.style_named())
                attempts = {e.id: [*attempts.get(e.id, ()), *taught.get(e.id, ())] for e in examples}
            ranked = rank_attempts(ctx, recipe, number, recipe.select, examples, attempts, critic)
            known = remembered([*(step.ranked for step in earlier), ranked]) if recipe.keep_pairs else ranked
            ranked = replace(ranked, attempts=tried)
            targets = winners(known.rankings, known.responses) if learn.objective.kind == "mle" else None
    if targets is not None:
        trained = train_sft(ctx, f"round-{number}", parent, learn, examples, targets, round=number)
    else:
        callback = epoch_callback(ctx, basis, number, initial, ranked.critic)
        trained = learn_rankings(ctx, basis, str(number), number, learn, parent, reference, known, callback)
    point = None
    if recipe.early_stopping is not None:
        point = validate(ctx, recipe, _known(ranked.critic), number, initial, trained.checkpoint, *_split(basis))
    return Step(f"round-{number}", trained, ranked, point)


def rank_attempts(
    ctx: Context,
    recipe: Recipe,
    number: int,
    selector: AnySelector,
    examples: Sequence[Example],
    attempts: Attempts,
    critic: Judge | None,
) -> Ranked:
    """The critic's order of the pairs (or lists) that ``selector`` picks among ``attempts``.

    Without a ``critic`` one is made from these very pairs by active labelling.
    """
    by_id = {e.id: e for e in examples}
    responses = {r.id: r for texts in attempts.values() for r in texts}
    grades = _graded(ctx, recipe, str(number), examples, attempts) if selector.needs_scores else {}
    selection = select(ctx, number, selector, examples, attempts, grades, copies_lose=recipe.copies_lose)
    comparisons = [
        Comparison(p, by_id[p.example_id].text, responses[p.a_id].text, responses[p.b_id].text) for p in selection.pairs
    ]
    critic = critic or label(ctx, recipe.critic, comparisons)
    reader = reading_again(recipe, critic, comparisons, grades)
    judgments = judge(ctx, str(number), reader, comparisons, copies_lose=recipe.copies_lose)
    rankings = rank(ctx, number, recipe.rank, selection.pairs, judgments, grades)
    why_none = ("", "")
    if not selection.pairs:
        why_none = nothing_selected(selection, responses.values())
    elif not rankings:
        why_none = nothing_ranked(recipe.rank, selection.pairs, judgments, grades)
    return Ranked(responses, rankings, critic, selection, judgments, why_none=why_none)


def reading_again(
    recipe: Recipe, critic: Judge, comparisons: Sequence[Comparison], grades: Mapping[str, Grade]
) -> Judge:
    """``critic``, or its own ``grades`` where it was asked for one of each text of ``comparisons``: no text is read twice."""
    graded = recipe.scorer is None and all(c.pair.a_id in grades and c.pair.b_id in grades for c in comparisons)
    return critic.reading(grades) if graded else critic


def remembered(ranked: Sequence[Ranked]) -> Ranked:
    """All of ``ranked`` as one; an order of the same texts that an earlier one has already is left out."""
    responses = {id: response for one in ranked for id, response in one.responses.items()}
    kept: dict[tuple[str, ...], Ranking] = {}
    for ranking in (ranking for one in ranked for ranking in one.rankings):
        kept.setdefault((ranking.example_id, *(responses[i].text for i in ranking.best_first)), ranking)
    return Ranked(responses, list(kept.values()), ranked[-1].critic, why_none=ranked[-1].why_none)


def validations(rounds: Sequence[Step]) -> list[ValidationPoint]:
    """What validation read after each of ``rounds``."""
    return [step.validation for step in rounds if step.validation is not None]


def named_students(recipe: Recipe, rounds: Sequence[Step]) -> dict[str, Checkpoint]:
    """The students of ``rounds`` by name: ``feedback`` is the one to keep, named last; others are ``round-<number>``."""
    if not rounds:
        return {}
    read = validations(rounds)
    kept = best_point(read) if recipe.early_stopping and recipe.early_stopping.keep_best and read else len(rounds)
    others = {f"round-{i}": step.checkpoint for i, step in enumerate(rounds, 1) if i != kept}
    return {**others, "feedback": rounds[kept - 1].checkpoint}


def _graded(
    ctx: Context, recipe: Recipe, part: str, examples: Sequence[Example], attempts: Attempts
) -> dict[str, Grade]:
    """The grades of all usable ``attempts``, by response id."""
    usable = [r for texts in attempts.values() for r in texts if r.usable]
    grader = ctx.judges.grader(recipe.scorer or recipe.critic)
    return grade(ctx, part, grader, {e.id: e for e in examples}, usable)


def learn_rankings(
    ctx: Context,
    basis: Basis,
    part: str,
    number: int,
    learn: Learning,
    parent: Checkpoint,
    reference: Checkpoint,
    ranked: Ranked,
    callback: ValidationCallback | None = None,
) -> Trained:
    """Preference training on ``ranked``."""
    return train_preference(
        ctx, part, parent, learn,
        {e.id: e for e in basis.examples}, ranked.responses, ranked.rankings, basis.teacher,
        round=number, reference=reference, length_rows=basis.imitation_rows, callback=callback,
        why_none=ranked.why_none,
    )  # fmt: skip


def epoch_callback(
    ctx: Context, basis: Basis, number: int, initial: Checkpoint, critic: Judge | None
) -> ValidationCallback | None:
    """What measures the student of round ``number`` at each epoch's end beside ``initial``, where the recipe wants that
    and there is a critic to measure with."""
    stopping = basis.recipe.early_stopping
    if stopping is None or stopping.each != "epoch" or critic is None:
        return None
    return validation_callback(ctx, basis.recipe, critic, number, initial, *_split(basis))


def _known(critic: Judge | None) -> Judge:
    if critic is None:
        raise DataError(
            "Nothing was judged yet, so there is no critic to validate with.", "Set learn.source: verdicts."
        )
    return critic


def _split(basis: Basis) -> tuple[Sequence[Example], Attempts]:
    return basis.examples, basis.teacher
