"""The algorithm, top to bottom: a student imitates its teacher, then learns from its critic (Ravi et al. 2024 sec. 3)."""

from __future__ import annotations

from pathlib import Path

from quipwright.core.storage.run_folder import RunFolder
from quipwright.data.examples import load_data
from quipwright.data.run_summary import RunSummary
from quipwright.pipeline.checks import check_inputs
from quipwright.pipeline.context import Context, open_context
from quipwright.pipeline.evaluate import evaluate
from quipwright.pipeline.offline import learn_offline
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.rounds import Basis, feedback_rounds, learn_from_teacher, named_students
from quipwright.pipeline.stages.teach import teach
from quipwright.pipeline.stages.train import adopt, prompted, train_sft
from quipwright.pipeline.summary import Outcome, summarise


def distil(recipe: Recipe, run: RunFolder, recipe_dir: Path) -> RunSummary:
    """Run every stage of ``recipe`` that is not finished in ``run``; relative paths of the recipe start at
    ``recipe_dir``."""
    with open_context(recipe, run, recipe_dir) as ctx:
        return summarise(ctx, recipe, run, _stages(ctx, recipe))


def take_part(recipe: Recipe, run: RunFolder, recipe_dir: Path) -> None:
    """What a process beside the first does while that one runs :func:`distil`: its share of every stage, which it meets
    in the same order, for what comes next depends on finished stages alone."""
    with open_context(recipe, run, recipe_dir) as ctx:
        _stages(ctx, recipe)


def _stages(ctx: Context, recipe: Recipe) -> Outcome:
    data = load_data(recipe.data, ctx.recipe_dir)
    if ctx.cache.ranks.first:
        check_inputs(ctx, recipe, data)
    examples = data.examples
    teacher = teach(ctx, recipe.teacher, recipe.taught(examples))

    # Phase 1: imitation.
    imitation = (
        train_sft(ctx, "imitation", None, recipe.imitation, examples, teacher.responses)
        if recipe.imitation is not None
        else adopt(ctx, "imitation")
    )
    rows = prompted(ctx, [e for e in examples if e.split == "train"], teacher.responses)
    basis = Basis(recipe, examples, teacher.responses, imitation.checkpoint, rows)

    # Phase 2: feedback. An actively labelled critic is made from the first pairs that are to be judged.
    critic = None if recipe.critic.trained_in_run else ctx.judges.of(recipe.critic)
    student, steps = imitation.checkpoint, []
    if recipe.teacher_preferences is not None:
        steps.append(learn_from_teacher(ctx, basis, recipe.teacher_preferences, student, critic))
        student, critic = steps[-1].checkpoint, steps[-1].ranked.critic
    if recipe.offline_preferences is not None:
        steps.append(learn_offline(ctx, basis, recipe.offline_preferences, student, critic))
        student = steps[-1].checkpoint
    rounds = feedback_rounds(ctx, basis, student, critic)
    critic = rounds[-1].ranked.critic if rounds else critic

    students = {"imitation": imitation.checkpoint, **{step.name: step.checkpoint for step in steps}}
    students |= named_students(recipe, rounds)
    if recipe.offline_preferences is not None and not rounds:  # the last to learn from verdicts is the feedback student
        students["feedback"] = students.pop("offline_preferences")
    evaluation = evaluate(ctx, recipe, critic, examples, teacher.responses, students)
    return Outcome(data, teacher, imitation, steps, rounds, students, evaluation)
