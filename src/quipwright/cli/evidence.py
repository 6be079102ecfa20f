"""Commands of evidence: ``audit`` a critic, ``compare`` systems, let people ``rate``, ``report`` anew."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quipwright.cli.output import JsonFile, check_json, results
from quipwright.core.errors import CriticError, RecipeError
from quipwright.core.log import loading
from quipwright.core.paths import check_writable

if TYPE_CHECKING:
    from quipwright.data.task import Task
    from quipwright.evaluation.human.ratings import Ratings

Critics = Annotated[
    list[str],
    typer.Option(
        "--critic",
        help=(
            "reward, likelihood, multiple_choice, listwise, grade, cloze, recorded:FILE, recorded_grades:FILE, rule:longer, "
            "a trained critic's "
            "folder, a .yaml or recipe; repeatable."
        ),
    ),
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="The task whose wording is used (default: the one that ships).")
]
CallsFolder = Annotated[Path, typer.Option("--calls", help="Where answers of language models are kept.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(audit)
    app.command()(compare)
    app.command()(rate)
    app.command()(report)


def audit(
    labels: Annotated[
        str,
        typer.Option(help="JSONL of human verdicts (bundled:NAME for one that ships), or the ratings folder of a run."),
    ],
    critic: Critics = ["reward"],  # noqa: B006 - typer reads the default, nobody changes it
    split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many pairs, drawn at random.")] = None,
    floor: Annotated[float, typer.Option(min=0, max=1, help="Agreement a critic must show.")] = 0.6,
    require: Annotated[bool, typer.Option(help="Exit 9 unless every critic is a go.")] = False,
    output: JsonFile = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    task: TaskName = None,
    calls: CallsFolder = Path("runs/evidence"),
) -> None:
    """Measure critics against people: agreement, position and length bias, calibration, go or no-go."""
    check_json(output)
    loading("libraries")
    from quipwright.core.paths import resolve
    from quipwright.critics.loading import opened
    from quipwright.data.task import DEFAULT_TASK, Task
    from quipwright.evaluation.audit import agreement_columns, audit_critic
    from quipwright.evaluation.human.labels import read_labels, sampled_pairs
    from quipwright.evaluation.report.terminal import audit_lines, audit_table, decision_line

    chosen = Task.load(task or DEFAULT_TASK)
    pairs = sampled_pairs(read_labels(resolve(labels, "Labels"), split, chosen), limit, seed)
    with opened(critic, calls, task or DEFAULT_TASK) as critics:
        reports = [audit_critic(one.critic, pairs, floor, one.store, list(chosen.questions)) for one in critics]
    lines = [line for measured in reports for line in (*audit_lines(measured), "")]
    table = audit_table(reports, agreement_columns(chosen))
    results([*lines, table], [measured.to_json() for measured in reports], output)
    failed = next((measured for measured in reports if measured.decision != "go"), None)
    if require and failed is not None:
        raise CriticError(
            f"{failed.critic}: {decision_line(failed)}", "Use a better critic, or lower --floor knowingly."
        )


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(help="RUN, RUN:STUDENT, shipped, an export, FILE.jsonl or teacher; the last is the baseline."),
    ],
    judge: Annotated[list[str], typer.Option("--judge", help="A critic, as in audit; repeatable.")] = ["reward"],  # noqa: B006
    data: Annotated[Path | None, typer.Option(help="Literals that students answer anew.")] = None,
    column: Annotated[str | None, typer.Option(help="The field of the literals, in files that have it.")] = None,
    tie: Annotated[float, typer.Option(min=0, max=0.49, help="Half-width of the tie band.")] = 0.05,
    resamples: Annotated[int, typer.Option(min=100, help="Of every bootstrap and sign-flip test.")] = 10_000,
    guard: Annotated[bool, typer.Option(help="Copies and broken texts lose, whatever the judge says.")] = True,
    audited: Annotated[
        Path | None, typer.Option("--audit", help="A file of audit --json: rates are corrected by the judges' errors.")
    ] = None,
    meaning: Annotated[str | None, typer.Option(help="A sentence encoder: folder or hub name.")] = None,
    output: JsonFile = None,
    latex: Annotated[Path | None, typer.Option(help="Write the table for a paper there.")] = None,
    task: TaskName = None,
    calls: CallsFolder = Path("runs/evidence"),
) -> None:
    """Compare systems: win rates under four rules with intervals and tests, length control, quality of the outputs."""
    check_json(output)
    if latex:
        check_writable(latex, "--latex")
    loading("libraries")
    from quipwright.core.storage.files import write_atomic
    from quipwright.critics.loading import opened
    from quipwright.data.examples import literal_rows
    from quipwright.data.task import DEFAULT_TASK, Task
    from quipwright.evaluation.audit import read_audits
    from quipwright.evaluation.compare import compare as compare_systems
    from quipwright.evaluation.corrected import with_corrections
    from quipwright.evaluation.report.latex import compare_latex
    from quipwright.evaluation.report.terminal import compare_lines
    from quipwright.evaluation.similarity import Meaning
    from quipwright.evaluation.systems import distinct, open_system

    chosen = Task.load(task or DEFAULT_TASK)
    rows = literal_rows(data, column) if data else None
    outputs = distinct([open_system(reference, rows, chosen, column) for reference in systems])
    encoder = Meaning(meaning) if meaning else Meaning.installed()
    with opened(judge, calls, task or DEFAULT_TASK) as judges:
        result = compare_systems(
            outputs, [one.critic for one in judges],
            grades=chosen.grades, tie=tie, resamples=resamples, guard=guard, meaning=encoder,
        )  # fmt: skip
    if audited is not None:
        corrected = with_corrections(result.pairwise, read_audits(audited))
        result = result.model_copy(update={"pairwise": tuple(corrected)})
    results(compare_lines(result), result.model_dump(mode="json"), output)
    if latex:
        write_atomic(latex, compare_latex(result))


def rate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    system: Annotated[
        list[str] | None, typer.Option("--system", help="What to rate, repeatable; the last is the baseline.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="At most this many inputs.")] = None,
    checks: Annotated[int, typer.Option(min=0, help="Attention checks to strew in.")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; a token is asked for beyond this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the raters' orders; keep it for one study.")] = 0,
    target: Annotated[
        Path | None, typer.Option("--export", help="Write the votes: .csv, .json (Label Studio) or .jsonl (verdicts).")
    ] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Add the votes of such a file.")] = None,
    shown: Annotated[bool, typer.Option("--results", help="Print what people said so far.")] = False,
    rater: Annotated[
        list[str] | None, typer.Option(help="Only who has a link rates: print one for this name, repeatable.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Count those, too, who failed attention checks.")
    ] = False,
    output: JsonFile = None,
) -> None:
    """Let people rate a run's outputs blind, in a browser on this machine or in the house."""
    folder = run / "ratings"
    if target or shown:
        _show_ratings(folder, target, shown, output, system or (), everyone)
        return
    from quipwright.data.run_summary import read_run
    from quipwright.data.task import Task
    from quipwright.evaluation.human.formats import import_ratings
    from quipwright.evaluation.human.items import items_of_run
    from quipwright.evaluation.human.ratings import Ratings

    summary = read_run(run)
    task = Task.parse(summary.task, str(run))
    systems = list(system) if system else _rated_by_default(list(summary.checkpoints))
    if len(systems) < 2:
        raise RecipeError("rate needs two systems.", "For example: --system feedback --system teacher.")
    items = items_of_run(summary.samples, systems, list(task.questions), n, checks)
    ratings = Ratings.open(folder, items)
    try:
        if source:
            print(import_ratings(ratings, source).line(source))
        else:
            asked = {item.pair.id for item in items}
            _serve_ratings(ratings, task, _Study(host, port, seed, asked, _invited(rater or ())))
    finally:
        ratings.close()


def _show_ratings(
    folder: Path, target: Path | None, shown: bool, output: Path | None, systems: Sequence[str], everyone: bool
) -> None:
    from quipwright.evaluation.human.formats import export_ratings
    from quipwright.evaluation.human.kept import careless, kept
    from quipwright.evaluation.human.ratings import Ratings
    from quipwright.evaluation.report.terminal import rating_lines

    stored = Ratings.read(folder)
    ratings = kept(stored, systems, leave_out=() if everyone else None)
    if target:
        print(f"{export_ratings(ratings, target)} votes written to {target}")
    left_out = {} if everyone else careless(stored)
    lines = [
        f"Left out: {sum(key[1] == judge for key in stored.order)} votes of {judge}, who passed {passed} of {asked} "
        "attention checks (--everyone counts them)."
        for judge, (passed, asked) in left_out.items()
    ]
    if shown:
        rates, checks = ratings.results(), stored.checks()
        told = {"rates": [rate.model_dump(mode="json") for rate in rates], "checks": checks, "left_out": [*left_out]}
        results([*rating_lines(rates, checks), *lines], told, output)
    elif lines:
        print("\n".join(lines))


@dataclass(frozen=True)
class _Study:
    """How votes are collected: the ids of the pairs that are ``asked`` about, and the raters who get a link, if only they
    may rate."""

    host: str
    port: int
    seed: int
    asked: Collection[str]
    raters: tuple[str, ...]


def _serve_ratings(ratings: Ratings, task: Task, study: _Study) -> None:
    from quipwright.evaluation.human.page import rating_app
    from quipwright.evaluation.human.raters import Links
    from quipwright.serving.gate import address, new_token
    from quipwright.serving.http_server import run_server

    token = new_token(study.host)

    def announce(bound: int) -> None:
        here = address(study.host, bound)
        entrance = f"{here}/" + (f"?token={token}" if token else "")
        print(f"{len(study.asked)} pairs to rate" + ("." if study.raters else f": {entrance}"), flush=True)
        for name in study.raters:
            print(f"{name}: {here}{Links(ratings.folder).path(name, token)}")
        print("Every answer is stored at once. Stop with Ctrl-C.", flush=True)

    app = rating_app(ratings, task, token, study.seed, asked=study.asked, invited=bool(study.raters))
    run_server(app, study.host, study.port, announce)


def _invited(names: Sequence[str]) -> tuple[str, ...]:
    from quipwright.evaluation.human.raters import checked_name

    try:
        return tuple(map(checked_name, names))
    except ValueError as error:
        raise RecipeError(f"--rater got {', '.join(map(repr, names))}.", str(error)) from None


def _rated_by_default(students: list[str]) -> list[str]:
    """The last student against the first, or against the teacher where there is only one."""
    return [students[-1], students[0] if len(students) > 1 else "teacher"]


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs; several are compared. Or one experiment's.")
    ],
    output: Annotated[Path | None, typer.Option("--output", help="Where to write the page.")] = None,
) -> None:
    """Write the page of a run anew (with people's votes so far) or of an experiment, or one that compares several runs."""
    from quipwright.data.run_summary import read_run
    from quipwright.evaluation.report.evidence import read_evidence
    from quipwright.evaluation.report.pages import report_experiment, report_run, write_comparison

    if len(runs) == 1:
        write = report_experiment if (runs[0] / "result.json").exists() else report_run
        print(write(runs[0], output))
        return
    names = [run.resolve().name for run in runs]
    shown = names if len(set(names)) == len(names) else [str(run) for run in runs]
    target = output or Path("comparison.html")
    each = [(name, read_run(run), read_evidence(run)) for name, run in zip(shown, runs, strict=True)]
    summaries = [(name, summary) for name, summary, _ in each]
    write_comparison(summaries, target, [(name, evidence) for name, _, evidence in each])
    print(target)
