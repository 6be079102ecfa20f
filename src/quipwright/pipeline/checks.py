"""Everything about a run's inputs that can be known without a call, checked before the first call that is paid for."""

from __future__ import annotations

from quipwright.core.paths import check_writable
from quipwright.core.progress import console
from quipwright.data.checks import check_lengths, check_split
from quipwright.data.examples import LoadedExamples
from quipwright.data.run_summary import SUMMARY
from quipwright.pipeline.context import Context
from quipwright.pipeline.costs.plan import may_cost
from quipwright.pipeline.recipe import Recipe


def check_inputs(ctx: Context, recipe: Recipe, data: LoadedExamples) -> None:
    """Raises :class:`~quipwright.core.errors.QuipwrightError` where the run could not be finished with ``data``.

    Rows that were left out are told.

    Prompts are measured only where calls may cost something: the student must be opened for that.
    """
    for reason, count in data.dropped.items():
        console.print(f"Left out: {count} ({reason}).", markup=False, highlight=False)
    examples = data.examples
    check_split(examples, "train", "training")
    if recipe.early_stopping is not None:
        check_split(examples, "valid", "early_stopping")
    check_writable(ctx.run_dir / SUMMARY, "The summary")
    if may_cost(recipe) and not (ctx.run_dir / SUMMARY).exists():
        student = ctx.students.load(None)
        written = max(recipe.candidates.max_tokens, recipe.evaluate.decode.max_tokens)
        room = recipe.student.context - (written if recipe.student.kind == "causal" else 0)
        check_lengths(
            examples, lambda text: len(student.prompt_ids(ctx.task.prompt(text))), room, recipe.data, ctx.recipe_dir
        )
