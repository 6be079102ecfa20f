"""The command: parse, call, print. No logic lives here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from quipwright.cli import data, evidence, experiment
from quipwright.core.errors import DataError, QuipwrightError, RecipeError, RunError, UnansweredError
from quipwright.core.progress import console
from quipwright.core.version import VERSION

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
STAGES = ("teach", "imitate", "sample", "grade", "select", "judge", "rank", "reference", "learn", "decode", "best")

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c. May be given several times.")]
Run = Annotated[Path | None, typer.Option("--run", help="The run folder (default: runs/NAME).")]
Until = Annotated[str | None, typer.Option(help="Stop after this stage: " + ", ".join(STAGES) + ".")]


def _version(asked: bool) -> None:
    if asked:
        print(f"quipwright {VERSION}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Teach a small language model a creative skill from a large one: imitation, then critique."""


@app.command()
def demo(run: Run = None, assign: Set = None, until: Until = None) -> None:
    """The whole method end to end on embedded parts: real weights, recorded teacher, distilled critic."""
    _distil("demo", run, assign, until)


@app.command()
def distil(
    recipe: str,
    run: Run = None,
    assign: Set = None,
    until: Until = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only show what would be used, as quipwright data does.")] = False,
) -> None:
    """Run RECIPE (a .yaml file, or the name of one that ships): teach, imitate, sample, judge, learn, evaluate, report."""
    if dry:
        data.data(recipe, assign)
    else:
        _distil(recipe, run, assign, until)


def _distil(reference: str, folder: Path | None, assign: list[str] | None, until: str | None) -> None:
    if until is not None and until not in STAGES:
        raise RecipeError(f"--until got {until!r}.", f"Stages are: {', '.join(STAGES)}.")
    console.print("[dim]loading libraries …[/dim]")
    from quipwright.core.storage.run_folder import RunFolder, StageReached
    from quipwright.data.examples import load_examples
    from quipwright.data.task import Task
    from quipwright.pipeline.costs.plan import may_cost, plan
    from quipwright.pipeline.distil import distil as run_recipe
    from quipwright.pipeline.recipe import load_recipe

    recipe, base = load_recipe(reference, assign or ())
    path = folder or Path("runs") / recipe.name
    with RunFolder.open(path, recipe.model_dump(mode="json"), identity=recipe.results_key()) as run:
        run.until = until
        run.on_stage = _announce
        if may_cost(recipe):
            planned = plan(recipe, Task.load(recipe.task, base), load_examples(recipe.data, base))
            print(f"The whole run will ask:\n\n{planned.table()}\n", flush=True)
        try:
            summary = run_recipe(recipe, run, base)
        except StageReached as stage:
            console.print(f"Stopped after {stage}, as asked; the same command without --until goes on.")
            return
    _print_summary(summary)
    console.print(f"\nReport: {path / 'report.html'}   Summary: {path / 'summary.json'}")
    if run.unanswered:
        told = ", ".join(f"{count} in {name}" for name, count in run.unanswered.items())
        raise UnansweredError(
            f"{sum(run.unanswered.values())} rows stayed without an answer ({told}); all others are in the results.",
            f"Their reasons are in {run.arrows}; remove the named folders there and run again to ask once more.",
        )


def _announce(name: str, skipped: bool) -> None:
    console.print(f"[dim]{name}: finished before[/dim]" if skipped else f"[bold]{name}[/bold]")


def _print_summary(summary: Any) -> None:
    shown = [s for s in summary.samples if "feedback" in s.answers]
    shown.sort(key=lambda s: -s.funny.get("feedback", 0))
    picked = [("best by the critic", s) for s in shown[:3]] + [("worst by the critic", s) for s in shown[-2:]]
    for label, sample in picked:
        print(f"\n[{label}] {sample.literal}")
        for name in ("imitation", "feedback", "teacher"):
            print(f"  {name:<10} {sample.answers.get(name, '–')}")
    table = Table(title="\nWin-tie rate, 95 % interval", title_justify="left")
    for column in ("candidate", "baseline", "judge", "split", "WTR", "95 %", "win/tie/loss", "length"):
        table.add_column(column, justify="left" if column in ("candidate", "baseline", "judge", "split") else "right")
    for w in summary.win_rates:
        rate, interval = f"{w.rate:.0%}", f"{w.low:.0%} – {w.high:.0%}"
        table.add_row(
            w.candidate, w.baseline, w.judge, w.split, rate, interval, f"{w.wins}/{w.ties}/{w.losses}",
            f"{w.length_ratio:.2f}",
        )  # fmt: skip
    _out(table)
    table = Table(title="\nOutputs (grades are the critic's)", title_justify="left")
    for column in ("system", "split", "n", "copies", "broken", "plain", "funny", "words", "distinct-2"):
        table.add_column(column, justify="left" if column in ("system", "split") else "right")
    for q in summary.quality:
        grades = ["–" if g is None else f"{g:.0%}" for g in (q.broken, q.plain, q.funny)]
        table.add_row(
            q.system, q.split, str(q.n), f"{q.copy_rate:.0%}", *grades, f"{q.words:.1f}", f"{q.distinct_2:.2f}"
        )
    _out(table)
    for d in summary.differences:
        if d.mean is not None:
            low, high = (f"{x:+.3f}" if x is not None else "?" for x in (d.low, d.high))
            print(
                f"{d.candidate} - {d.baseline} against {d.opponent} ({d.split}, {d.judge}): {d.mean:+.3f} ({low} to {high}), n = {d.n}"
            )
    for warning in summary.warnings:
        print(f"Note: {warning}")
    seconds = sum(stage["seconds"] for stage in summary.stages)
    print(f"{len(summary.stages)} stages, {seconds / 60:.1f} minutes.")


def _out(table: Table) -> None:
    from rich.console import Console

    wide = Console() if sys.stdout.isatty() else Console(width=110)
    wide.print(table)


@app.command()
def write(
    sentence: Annotated[str | None, typer.Argument(help="A plain sentence.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=50, help="How many paraphrases.")] = 1,
    best_of: Annotated[int, typer.Option(min=0, max=100, help="Draw this many and let the critic choose.")] = 0,
    run: Annotated[Path | None, typer.Option(help="Use a student of this run instead of the one that ships.")] = None,
    student: Annotated[str | None, typer.Option(help="Which student of the run (default: the last).")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="A file of sentences: lines, .jsonl or .csv.")] = None,
    target: Annotated[Path | None, typer.Option("--output", help="Where to write: lines, .jsonl or .csv.")] = None,
    column: Annotated[str | None, typer.Option(help="The column or field of the sentences.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
) -> None:
    """Humorous paraphrases of SENTENCE, or of every row of a file."""
    if (sentence is None) == (source is None):
        raise DataError(
            "write takes a sentence or --input FILE, one of them.", 'For example: quipwright write "I am late."'
        )
    if sentence is not None and not any(character.isalpha() for character in sentence):
        raise DataError(f"There is no sentence in {sentence!r}.", 'For example: quipwright write "I am late."')
    if source is not None and not source.exists():
        raise DataError(f"Input {source} does not exist.", "Check the path.")
    from quipwright.serving.writer import Writer, shipped_critic, write_file

    writer = Writer.shipped() if run is None else Writer.of_run(run, student)
    writer.seed = seed
    if best_of > n:
        writer.critic = shipped_critic()
    if sentence is not None:
        print("\n".join(writer.write([sentence], n, best_of)[0]))
        return
    assert source is not None
    done, failed = write_file(writer, source, target, column, n, best_of)
    console.print(f"{done} sentences written" + (f", {failed} left out with their reason" if failed else "") + ".")


@app.command("train-critic")
def train_critic(
    output: Annotated[Path | None, typer.Option(help="Folder for the trained critic.")] = None,
    settings: Annotated[Path | None, typer.Option(help="A YAML file of critic training settings.")] = None,
    assign: Set = None,
    run: Annotated[Path | None, typer.Option(help="Learn from the judgments of this run's feedback rounds.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write that run's verdicts to this .jsonl file as well.")] = None,
) -> None:
    """Train a distilled critic on pairwise verdicts, of a file or a run, and measure it on held-out ones."""
    if output is None and export is None:
        raise RecipeError("train-critic got no folder to write to.", "Name one with --output.")
    if export is not None and run is None:
        raise RecipeError("--export writes the verdicts of a run, but no run is named.", "Name one with --run.")
    if export is not None and export.exists():
        raise RunError(f"{export} is there already.", "Name a new file.")
    if output is not None and output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty.", "Name a new folder.")
    from quipwright.core.config_files import override, read_yaml, validate
    from quipwright.core.records import content_hash
    from quipwright.critics.from_run import settings_for_run, verdicts_of_run, write_verdicts
    from quipwright.critics.reward_model.training import CriticTraining, train_on
    from quipwright.critics.reward_model.training import train_critic as run_training

    tree = override(read_yaml(settings, "Critic settings") if settings else {}, assign or ())
    base = settings.parent if settings else None
    rows = verdicts_of_run(run) if run is not None else []
    if export is not None:
        write_verdicts(rows, export)
        console.print(f"{len(rows)} verdicts written to {export}.")
    if output is None:
        return
    how = validate(CriticTraining, settings_for_run(run, tree) if run else tree, "Critic settings")
    critic = (
        train_on(rows, how, content_hash([row.model_dump() for row in rows]), base) if run else run_training(how, base)
    )
    critic.save(output)
    card = critic.card
    print(f"agreement {card.agreement:.1%} ({card.low:.1%} to {card.high:.1%}) of {card.n} held-out verdicts")
    for name, value in card.figures.items():
        print(f"{name} {value:g}")


@app.command()
def estimate(
    recipe: str,
    assign: Set = None,
    run: Run = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask each model a little: what can it do?")] = False,
    count: Annotated[
        int, typer.Option("--measure", min=0, help="Put so many literals to each model. Spends; the run keeps them.")
    ] = 0,
) -> None:
    """What RECIPE would ask of models that may cost money: calls, tokens, cost and time, before anything is spent."""
    from quipwright.data.examples import load_examples
    from quipwright.data.task import Task
    from quipwright.pipeline.costs.plan import asking, measure, plan, probed
    from quipwright.pipeline.recipe import load_recipe

    loaded, base = load_recipe(recipe, assign or ())
    task, examples = Task.load(loaded.task, base), load_examples(loaded.data, base)
    if probe or count:
        with asking(loaded, base, (run or Path("runs") / loaded.name) if count else None) as calls:
            found = list(probed(loaded, calls))
            planned = plan(loaded, task, examples, found)
            if count:
                planned = measure(loaded, task, examples, found, calls, count)
                print(f"Measured, and kept in {calls.folder}: {calls.ledger.line()}.\n")
    else:
        found, planned = [], plan(loaded, task, examples)
    if planned.lines:
        print(planned.table())
    else:
        print("Nothing is asked of a model that could cost money: teacher and critic are recorded or local.")
    for each in found:
        print(each.line())


@app.command("measure-critic")
def measure_critic(
    folder: Annotated[str, typer.Argument(help="A trained critic: a folder, or bundled:critic.")] = "bundled:critic",
    verdicts: Annotated[str, typer.Option(help="Verdicts whose heldout split is used.")] = "bundled:verdicts.jsonl",
) -> None:
    """Agreement of a distilled critic, and of each of its parts alone, with held-out verdicts."""
    from quipwright.core.paths import resolve
    from quipwright.critics.reward_model.critic import RewardModelCritic
    from quipwright.critics.reward_model.figures import component_figures, measure
    from quipwright.data.verdicts import read_verdicts

    critic = RewardModelCritic.load(resolve(folder, "Critic"))
    rows = [row for row in read_verdicts(resolve(verdicts, "Verdicts")) if row.split == "heldout"]
    for name, value in measure(critic, rows).items():
        print(f"{name} {value:g}")
    for name, (rate, low, high) in component_figures(critic, rows).items():
        print(f"{name:<14} alone agrees with {rate:.1%} ({low:.1%} to {high:.1%})")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    target: Annotated[Path, typer.Argument(help="A new folder for the student.")],
    student: Annotated[str | None, typer.Option(help="Which student (default: the last trained).")] = None,
    form: Annotated[str, typer.Option("--to", help="adapter (small), or hf (merged weights any tool loads).")] = "hf",
) -> None:
    """Take a trained student out of RUN, with a model card."""
    if form not in ("adapter", "hf"):
        raise RecipeError(f"--to got {form!r}.", "Use adapter or hf.")
    from quipwright.serving.export import export as run_export

    print(run_export(run, target, student, "adapter" if form == "adapter" else "hf"))


evidence.register(app)
experiment.register(app)
data.register(app)


def main() -> None:
    """Entry point: errors a user can act on are one line and an exit code; Ctrl-C keeps what is finished."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(standalone_mode=False)
    except QuipwrightError as error:
        print(f"quipwright: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("quipwright: interrupted. Finished work is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("click", "typer") and hasattr(error, "format_message"):
            print(f"quipwright: {error.format_message()} Try quipwright --help.", file=sys.stderr)
            sys.exit(2)
        raise
