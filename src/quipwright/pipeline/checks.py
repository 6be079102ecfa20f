"""Everything about a run's inputs that can be known without a call, checked before the first call that is paid for."""

from __future__ import annotations

from quipwright.core.paths import check_writable, resolve
from quipwright.core.progress import console
from quipwright.core.storage.files import read_json
from quipwright.core.storage.seals import SEAL
from quipwright.data.checks import check_lengths, check_split
from quipwright.data.examples import LoadedExamples
from quipwright.data.run_summary import SUMMARY
from quipwright.data.task import Task, fill
from quipwright.pipeline.context import Context
from quipwright.pipeline.costs.plan import may_cost
from quipwright.pipeline.offline import check_files
from quipwright.pipeline.recipe import Recipe
from quipwright.serving.writer import TASK_FILE


def check_inputs(ctx: Context, recipe: Recipe, data: LoadedExamples) -> None:
    """Raises :class:`~quipwright.core.errors.QuipwrightError` where the run could not be finished with ``data``.

    Rows that were left out are told, and prompts that the student's adapter does not know.

    Prompts are measured only where calls may cost something: the student must be opened for that.
    """
    for reason, count in data.dropped.items():
        console.print(f"Left out: {count} ({reason}).", markup=False, highlight=False)
    if recipe.student.adapter is not None:
        _tell_new_prompts(ctx, recipe.student.adapter)
    examples = data.examples
    check_split(examples, "train", "training")
    if recipe.early_stopping is not None:
        check_split(examples, "valid", "early_stopping")
    for split in recipe.evaluate.splits:
        if not any(example.split == split for example in examples):
            console.print(f"Nothing is evaluated on {split}: the data has no literal of that split.")
    check_writable(ctx.run_dir / SUMMARY, "The summary")
    check_models(ctx, recipe)
    if recipe.offline_preferences is not None and ctx.cache.until is None and not (ctx.run_dir / SUMMARY).exists():
        check_files(ctx, recipe.offline_preferences, examples)
    if may_cost(recipe) and not (ctx.run_dir / SUMMARY).exists():
        student = ctx.students.load(None)
        written = max(recipe.candidates.max_tokens, recipe.evaluate.decode.max_tokens)
        room = recipe.student.context - (written if recipe.student.kind == "causal" else 0)
        prompts = _prompts(ctx.task)

        def longest(text: str) -> int:
            return max(len(student.prompt_ids(fill(prompt, literal=text))) for prompt in prompts)

        check_lengths(examples, longest, room, recipe.data, ctx.recipe_dir)


def _tell_new_prompts(ctx: Context, adapter: str) -> None:
    """Say with which of the task's prompts ``adapter`` was never trained, where it remembers its task."""
    file = resolve(adapter, "Adapter", ctx.recipe_dir) / TASK_FILE
    if file.exists():
        known = _prompts(Task.parse(read_json(file), str(file)))
        for prompt in _prompts(ctx.task):
            if prompt not in known:
                told = f"The adapter {adapter} was not trained with the prompt {prompt!r}; this run begins to teach it."
                console.print(told, markup=False, highlight=False)


def _prompts(task: Task) -> list[str]:
    return [task.prompt_in(style) for style in tuple(task.styles) or ("",)]


def check_models(ctx: Context, recipe: Recipe) -> None:
    """Raises :class:`~quipwright.core.errors.QuipwrightError` where a file of the student or of a critic is missing, and,
    before a teacher is paid, where a critic needs a key that is not set. A run that is to stop on the way may lack what
    only later stages need."""
    _ = ctx.students.identity
    if ctx.cache.until is not None:
        return
    critics = [critic for critic in (recipe.critic, recipe.scorer, *recipe.evaluate.judges) if critic is not None]
    for critic in critics:
        ctx.judges.key(critic)
    if may_cost(recipe) and not any(ctx.cache.folder.glob(f"teach-*/{SEAL}")):
        for model in (model for critic in critics for model in critic.models()):
            model.build(ctx.calls.opened)
