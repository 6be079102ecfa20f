"""Commands of evidence: audit a critic, compare systems, let people rate, report, try a student out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quipwright.core.errors import CriticError, QuipwrightError, RecipeError

Critics = Annotated[
    list[str],
    typer.Option(
        "--critic",
        help="reward, multiple_choice, cloze, recorded:FILE, rule:longer, a trained critic's folder, a .yaml or recipe; repeatable.",
    ),
]

TaskName = Annotated[str, typer.Option("--task", help="The task whose wording critics on language models use.")]
CallsFolder = Annotated[Path, typer.Option("--calls", help="Where answers of language models are kept.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(audit)
    app.command()(compare)
    app.command()(rate)
    app.command()(report)
    app.command()(serve)


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
    output: Annotated[Path | None, typer.Option("--json", help="Write everything there.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    task: TaskName = "humour",
    calls: CallsFolder = Path("runs/evidence"),
) -> None:
    """Measure critics against people: agreement, position and length bias, calibration, go or no-go."""
    from quipwright.core.paths import resolve
    from quipwright.core.storage.files import write_atomic
    from quipwright.critics.loading import opened
    from quipwright.evaluation.audit import audit_critic, decision_line, lines, table
    from quipwright.evaluation.human.labels import read_labels, sampled_pairs

    pairs = sampled_pairs(read_labels(resolve(labels, "Labels"), split), limit, seed)
    with opened(critic, calls, task) as critics:
        passports = [audit_critic(one.critic, pairs, floor, one.store) for one in critics]
    for passport in passports:
        print("\n".join(lines(passport)), end="\n\n")
    show(table(passports))
    if output:
        write_atomic(output, json.dumps([p.to_json() for p in passports], indent=1, ensure_ascii=False))
    failed = [p for p in passports if p.decision != "go"]
    if require and failed:
        raise CriticError(
            f"{failed[0].critic}: {decision_line(failed[0])}", "Use a better critic, or lower --floor knowingly."
        )


def compare(
    systems: Annotated[
        list[str], typer.Argument(help="RUN, RUN:STUDENT, FILE.jsonl, teacher or student; the last is the baseline.")
    ],
    judge: Annotated[list[str], typer.Option("--judge", help="A critic, as in audit; repeatable.")] = ["reward"],  # noqa: B006
    data: Annotated[Path | None, typer.Option(help="Literals that students answer anew.")] = None,
    tie: Annotated[float, typer.Option(min=0, max=0.49, help="Half-width of the tie band.")] = 0.05,
    resamples: Annotated[int, typer.Option(min=100, help="Of every bootstrap and sign-flip test.")] = 10_000,
    guard: Annotated[bool, typer.Option(help="Copies and broken texts lose, whatever the judge says.")] = True,
    meaning: Annotated[str | None, typer.Option(help="A sentence encoder: folder or hub name.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write everything there.")] = None,
    task: TaskName = "humour",
    calls: CallsFolder = Path("runs/evidence"),
) -> None:
    """Compare systems: win rates in four readings with intervals and tests, length control, quality of the outputs."""
    from quipwright.core.storage.files import write_atomic
    from quipwright.critics.loading import opened
    from quipwright.data.examples import read_rows
    from quipwright.evaluation.compare import compare as run
    from quipwright.evaluation.compare import definitions, tables
    from quipwright.evaluation.similarity import Meaning
    from quipwright.evaluation.systems import distinct, open_system

    rows = list(read_rows(data)) if data else None
    found = distinct([open_system(reference, rows) for reference in systems])
    encoder = Meaning(meaning) if meaning else Meaning.installed()
    with opened(judge, calls, task) as judges:
        outcome = run(found, [one.critic for one in judges], tie=tie, resamples=resamples, guard=guard, meaning=encoder)
    for table in tables(outcome):
        show(table)
    print("\n".join(definitions()))
    for warning in outcome.warnings:
        print(f"Note: {warning}")
    if output:
        write_atomic(output, outcome.model_dump_json(indent=1))


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
    results: Annotated[bool, typer.Option(help="Print what people said so far.")] = False,
) -> None:
    """Let people rate a run's outputs blind, in a browser on this machine or in the house."""
    folder = run / "ratings"
    if target or results:
        _show_ratings(folder, target, results)
        return
    from quipwright.evaluation.human.formats import import_ratings
    from quipwright.evaluation.human.ratings import Ratings, items_of_run
    from quipwright.evaluation.systems import read_summary

    summary = read_summary(run)
    systems = list(system) if system else _rated_by_default(list(summary["checkpoints"]))
    if len(systems) < 2:
        raise RecipeError("rate needs two systems.", "For example: --system feedback --system teacher.")
    ratings = Ratings.open(folder, items_of_run(summary["samples"], systems, n, checks))
    try:
        if source:
            print(f"{import_ratings(ratings, source)} votes added from {source}")
            return
        _serve_ratings(ratings, host, port, seed)
    finally:
        ratings.close()


def _show_ratings(folder: Path, target: Path | None, results: bool) -> None:
    from quipwright.evaluation.human.formats import export_ratings
    from quipwright.evaluation.human.ratings import Ratings

    ratings = Ratings.read(folder)
    if target:
        print(f"{export_ratings(ratings, target)} votes written to {target}")
    if results:
        _print_ratings(ratings)


def _serve_ratings(ratings: Any, host: str, port: int, seed: int) -> None:
    from quipwright.evaluation.human.page import rating_app
    from quipwright.serving.gate import address, new_token, run_server

    token = new_token(host)
    entrance = f"{address(host, port)}/" + (f"?token={token}" if token else "")
    print(f"{len(ratings.items)} pairs to rate: {entrance}", flush=True)
    print("Every answer is stored at once. Stop with Ctrl-C.", flush=True)
    run_server(rating_app(ratings, token, seed), host, port)


def _rated_by_default(students: list[str]) -> list[str]:
    """The last student against the first, or against the teacher where there is only one."""
    return [students[-1], students[0] if len(students) > 1 else "teacher"]


def _print_ratings(ratings: Any) -> None:
    from quipwright.evaluation.compare import percent

    table = Table(title="What people said, x 100 [95 %]", title_justify="left")
    for head in (
        "system",
        "against",
        "question",
        "raters",
        "pairs",
        "win/tie/loss",
        "can't tell",
        "WTR",
        "score",
        "alpha",
    ):
        table.add_column(head, justify="left" if head in ("system", "against", "question") else "right")
    for r in ratings.results():
        counts = f"{r.wins}/{r.ties}/{r.losses}"
        rest = (percent(r.rate), percent(r.score), "–" if r.alpha.value is None else f"{r.alpha.value:.2f}")
        table.add_row(
            r.candidate, r.baseline, r.question, str(r.raters), str(r.pairs), counts, str(r.cannot_tell), *rest
        )
    show(table)
    for judge, (passed, asked) in ratings.checks().items():
        print(f"{judge} passed {passed} of {asked} attention checks")


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs; several are compared. Or one experiment's.")
    ],
    output: Annotated[Path | None, typer.Option("--output", help="Where to write the page.")] = None,
) -> None:
    """Write the page of a run anew (with people's votes so far) or of an experiment, or one that compares several runs."""
    from quipwright.evaluation.report import (
        load_summary,
        read_evidence,
        report_experiment,
        report_run,
        write_comparison,
    )

    if len(runs) == 1:
        one = report_experiment if (runs[0] / "result.json").exists() else report_run
        print(one(runs[0], output))
        return
    names = [run.resolve().name for run in runs]
    shown = names if len(set(names)) == len(names) else [str(run) for run in runs]
    target = output or Path("comparison.html")
    found = [(name, load_summary(run), read_evidence(run)) for name, run in zip(shown, runs, strict=True)]
    write_comparison([(name, s) for name, s, _ in found], target, [(name, own) for name, _, own in found])
    print(target)


def serve(
    run: Annotated[
        Path | None, typer.Argument(help="The folder of a finished run; the shipped student if left out.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="Which student of the run (default: the last).")] = None,
    critic: Annotated[
        str | None,
        typer.Option(help="Who grades on the page: reward, reward:FOLDER or none (default: the run's own, if it can)."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; a token is asked for beyond this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8500,
    rows: Annotated[int, typer.Option(min=1, max=256, help="Most prompts in one batch.")] = 16,
    waiting: Annotated[int, typer.Option(min=1, help="Most requests in the queue; more are told to wait.")] = 64,
) -> None:
    """Serve a student to OpenAI clients (chat completions, models) and on a small page."""
    from quipwright.serving.app import Served, serving_app
    from quipwright.serving.gate import address, new_token, run_server
    from quipwright.serving.writer import Writer

    grader = _grader(critic, run)
    writer = Writer.shipped() if run is None else Writer.of_run(run, student)
    name = "student" if run is None else f"{run.resolve().name}:{student or 'student'}"
    token = new_token(host)
    served = Served(writer.student, writer.task, name, grader, _taught(run), rows, waiting)
    here = address(host, port)
    print(f"{name}: page {here}/" + (f"?token={token}" if token else ""))
    print(f"API base {here}/v1, key {token or 'any'}. Stop with Ctrl-C.", flush=True)
    run_server(serving_app(served, token), host, port)


def _grader(reference: str | None, run: Path | None) -> Any:
    """The critic that ``reference`` names, or the run's own where none is named."""
    from quipwright.critics.base import Grader
    from quipwright.critics.loading import open_critic

    if reference == "none":
        return None
    if reference is None:
        return None if run is None else _own_grader(run)
    found = open_critic(reference)
    if not isinstance(found, Grader):
        raise CriticError(f"{reference} compares pairs but cannot grade one text.", "Use reward or reward:FOLDER.")
    return found


def _own_grader(run: Path) -> Any:
    """The run's own critic where that grades single texts and is at hand: it may have stayed on another machine."""
    from quipwright.critics.loading import open_critic, own_critic
    from quipwright.evaluation.systems import read_summary

    own = own_critic(run, read_summary(run)["recipe"])
    try:
        return open_critic(own) if own else None
    except QuipwrightError as error:
        print(f"No score on the page, for the run's own critic cannot be read: {error}")
        return None


def _taught(run: Path | None) -> Any:
    """What finds the teacher's recorded answers: the run's, or those of the corpus that ships."""
    from quipwright.data.recorded_teacher import RecordedTeacher
    from quipwright.evaluation.systems import taught

    return RecordedTeacher().open().paraphrases if run is None else taught(run)


def show(table: Table) -> None:
    """Print ``table``, wide enough for its columns where no terminal says otherwise."""
    (Console() if sys.stdout.isatty() else Console(width=170)).print(table)
