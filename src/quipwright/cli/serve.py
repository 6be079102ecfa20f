"""The command ``serve``: a student for OpenAI clients and for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quipwright.core.errors import CriticError, QuipwrightError
from quipwright.core.log import loading

if TYPE_CHECKING:
    from quipwright.critics.base import Grader
    from quipwright.data.task import Task


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(serve)


def serve(
    run: Annotated[
        str | None, typer.Argument(help="A run, an export folder or a hub id; the shipped student if left out.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="Which student of the run (default: the last).")] = None,
    critic: Annotated[
        str | None,
        typer.Option(help="Who grades on the page: reward, reward:FOLDER or none (default: the run's own, if it can)."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; a token is asked for beyond this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.")] = 8500,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name by which the server may be called, repeatable.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A page whose scripts may ask (CORS): https://app.example, or *; repeatable."),
    ] = None,
    waiting: Annotated[int, typer.Option(min=1, help="Most requests in the queue; more are told to wait.")] = 64,
    allow_sensitive: Annotated[
        bool, typer.Option("--allow-sensitive", help="Write on grief, self-harm, abuse and the like too.")
    ] = False,
) -> None:
    """Serve a student to OpenAI clients (chat completions, models) and on a small page."""
    loading("the student")
    from quipwright.data.care.judgment import shipped_care
    from quipwright.serving.app import serving_app
    from quipwright.serving.gate import Admitted, address, new_token
    from quipwright.serving.http_server import memory_used, run_server
    from quipwright.serving.served import Served
    from quipwright.serving.writer import SHIPPED, Writer, is_run, run_and_student

    reference = run or SHIPPED
    folder = run_and_student(reference)[0] if is_run(run_and_student(reference)[0]) else None
    grader = _grader(critic, folder)
    writer = Writer.load(reference, student, settled=True)  # opened now: the first request must not wait for it
    if not (allow_sensitive or writer.task.allow_sensitive):
        shipped_care()
    token = new_token(host)
    teacher = _teacher_answers(reference, folder, writer.task)
    served = Served(
        writer.student, writer.task, writer.name, grader, teacher=teacher, waiting=waiting,
        grades_teacher=grader is None or _knows_the_teacher(grader, folder), allow_sensitive=allow_sensitive,
    )  # fmt: skip
    admitted = Admitted(frozenset(allow_host or ()), frozenset(allow_origin or ()))

    def announce(bound: int) -> None:
        here = address(host, bound)
        print(f"{writer.name}: page {here}/" + (f"?token={token}" if token else ""))
        print(f"API base {here}/v1, key {token or 'any'}. {memory_used()}Stop with Ctrl-C.", flush=True)

    run_server(serving_app(served, token, admitted), host, port, announce)


def _grader(reference: str | None, run: Path | None) -> Grader | None:
    """The critic that ``reference`` names, or the run's own where none is named."""
    from quipwright.critics.base import Grader
    from quipwright.critics.loading import open_critic

    if reference == "none":
        return None
    if reference is None:
        return None if run is None else _critic_of_run(run)
    critic = open_critic(reference)
    if not isinstance(critic, Grader):
        raise CriticError(f"{reference} compares pairs but cannot grade one text.", "Use reward or reward:FOLDER.")
    return critic


def _knows_the_teacher(critic: Grader, run: Path | None) -> bool:
    """Whether nothing speaks against what ``critic`` says of the teacher's texts: neither its card nor the run."""
    from quipwright.data.run_summary import read_run
    from quipwright.evaluation.verdict import agreement_on_teacher, is_teacher

    agreement = agreement_on_teacher(critic)
    if agreement is not None and agreement < 0.5:
        return False
    met = read_run(run).pairwise if run is not None else []
    return not any(r.unfit for r in met if r.judge == critic.name and is_teacher(r.baseline))


def _critic_of_run(run: Path) -> Grader | None:
    """The run's own critic where that grades single texts and is at hand: it may have stayed on another machine."""
    from quipwright.critics.base import Grader
    from quipwright.critics.loading import open_critic, own_critic
    from quipwright.data.run_summary import read_run

    reference = own_critic(run, read_run(run).recipe)
    try:
        critic = open_critic(reference) if reference else None
    except QuipwrightError as error:
        print(f"No score on the page, for the run's own critic cannot be read: {error}")
        return None
    return critic if isinstance(critic, Grader) else None


def _teacher_answers(reference: str, run: Path | None, task: Task) -> Callable[[str, str], Sequence[str]]:
    """What finds the teacher's recorded answers to a literal in a style: the run's, or for the shipped student those of
    the corpus that ships."""
    from quipwright.data.recorded_teacher import RecordedTeacher
    from quipwright.evaluation.systems import taught
    from quipwright.serving.writer import SHIPPED

    if run is not None:
        return taught(run)
    if reference != SHIPPED:
        return lambda literal, style: ()
    recording = RecordedTeacher().open()
    return lambda literal, style: [t.text for t in recording.paraphrases(literal, task) or () if t.style == style]
