"""Commands that run a recipe, or say what running it would cost: ``demo``, ``distil``, ``estimate``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quipwright.cli.output import STDOUT, JsonFile, check_json, results
from quipwright.core.errors import RecipeError, UnansweredError
from quipwright.core.log import loading, say

if TYPE_CHECKING:
    from quipwright.core.storage.run_folder import RunFolder
    from quipwright.data.run_summary import RunSummary
    from quipwright.pipeline.recipe import Recipe

STAGES = ("teach", "sft", "sample", "grade", "select", "label", "judge", "rank", "reference", "preference", "decode")

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c. May be given several times.")]
Run = Annotated[Path | None, typer.Option("--run", help="The run folder (default: runs/NAME).")]
Until = Annotated[str | None, typer.Option(help="Stop after this stage: " + ", ".join(STAGES) + ".")]
RecipeName = Annotated[str, typer.Argument(help="A recipe: a .yaml file, or the name of one that ships.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(demo)
    app.command()(distil)
    app.command()(estimate)


def demo(run: Run = None, assign: Set = None, until: Until = None, output: JsonFile = None) -> None:
    """The whole method end to end on embedded parts: real weights, recorded teacher, trained critic."""
    _distil("demo", run, assign, until, output)


def distil(
    recipe: RecipeName,
    run: Run = None,
    assign: Set = None,
    until: Until = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only show what would be used, as quipwright data does.")] = False,
    output: JsonFile = None,
) -> None:
    """Run RECIPE: teach, imitate, sample, judge, learn, evaluate, report."""
    if dry:
        from quipwright.cli.data import data

        data(recipe, assign, output=output)
    else:
        _distil(recipe, run, assign, until, output)


def _distil(
    reference: str, folder: Path | None, assign: list[str] | None, until: str | None, output: Path | None
) -> None:
    if until is not None and until not in STAGES:
        raise RecipeError(f"--until got {until!r}.", f"Stages are: {', '.join(STAGES)}.")
    check_json(output)
    loading("libraries")
    from quipwright.core.log import SHOWN
    from quipwright.core.progress import console
    from quipwright.core.storage.ranks import Ranks
    from quipwright.core.storage.run_folder import RunFolder
    from quipwright.core.storage.stage_cache import StageReached
    from quipwright.data.examples import load_examples
    from quipwright.evaluation.report.pages import write_report
    from quipwright.evaluation.report.terminal import run_lines
    from quipwright.pipeline.costs.plan import may_cost, plan
    from quipwright.pipeline.distil import distil as run_recipe
    from quipwright.pipeline.recipe import load_recipe

    recipe, base = load_recipe(reference, assign or ())
    path = folder or Path("runs") / recipe.name
    settings, ranks = recipe.model_dump(mode="json"), Ranks.of_environment()
    if not ranks.first:
        SHOWN.quiet = True
    with RunFolder.open(path, settings, identity=recipe.results_key(), until=until, ranks=ranks) as run:
        run.cache.on_stage = _announce
        if not ranks.first:
            _take_part(recipe, run, base)
            return
        if may_cost(recipe):
            planned = plan(recipe, recipe.load_task(base), load_examples(recipe.data, base))
            if output != STDOUT:
                print(f"The whole run will ask:\n\n{planned.table()}\n", flush=True)
        try:
            summary = run_recipe(recipe, run, base)
        except StageReached as stage:
            console.print(f"Stopped after {stage}, as asked; the same command without --until goes on.")
            return
        finally:
            ranks.part()
    write_report(summary, path / "report.html")
    results(run_lines(summary), summary.model_dump(mode="json"), output)
    console.print(f"\nReport: {path / 'report.html'}   Summary: {path / 'summary.json'}")
    _tell_unanswered(summary, run.cache.folder)


def _take_part(recipe: Recipe, run: RunFolder, base: Path) -> None:
    """What a process beside the first does."""
    from quipwright.core.storage.stage_cache import StageReached
    from quipwright.pipeline.distil import take_part

    with suppress(StageReached):
        take_part(recipe, run, base)
    run.cache.ranks.part()


def _tell_unanswered(summary: RunSummary, stages: Path) -> None:
    """Raises :class:`UnansweredError` where rows stayed without an answer."""
    if unanswered := summary.counts.unanswered:
        counts = ", ".join(f"{count} in {name}" for name, count in unanswered.items())
        raise UnansweredError(
            f"{sum(unanswered.values())} rows stayed without an answer ({counts}); all others are in the results.",
            f"Their reasons are in {stages}; remove the named folders there and run again to ask once more.",
        )


def _announce(name: str, skipped: bool) -> None:
    from quipwright.core.progress import console

    console.print(f"[dim]{name}: finished before[/dim]" if skipped else f"[bold]{name}[/bold]")


def estimate(
    recipe: RecipeName,
    assign: Set = None,
    run: Run = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask each model a little: what can it do?")] = False,
    count: Annotated[
        int, typer.Option("--measure", min=0, help="Put so many literals to each model. Spends; the run keeps them.")
    ] = 0,
    output: JsonFile = None,
) -> None:
    """What RECIPE would ask of models that may cost money: calls, tokens, cost and time, before anything is spent."""
    from quipwright.data.examples import load_examples
    from quipwright.pipeline.costs.plan import asking, measure, plan, probed
    from quipwright.pipeline.recipe import load_recipe

    loaded, base = load_recipe(recipe, assign or ())
    task, examples = loaded.load_task(base), load_examples(loaded.data, base)
    probes: list[Any] = []
    if probe or count:
        with asking(loaded, base, (run or Path("runs") / loaded.name) if count else None) as calls:
            probes = list(probed(loaded, calls))
            planned = plan(loaded, task, examples, probes)
            if count:
                planned = measure(loaded, task, examples, probes, calls, count)
                say(f"Measured, and kept in {calls.folder}: {calls.ledger.line()}.")
    else:
        planned = plan(loaded, task, examples)
    free = "Nothing is asked of a model that could cost money: teacher and critic are recorded or local."
    lines = [planned.table() if planned.lines else free, *(each.line() for each in probes)]
    told = {"lines": [asdict(line) for line in planned.lines], "cost": planned.cost, "hours": planned.hours}
    results(lines, told, output)
