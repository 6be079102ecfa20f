"""All commands, assembled; each group has a file of its own."""

from __future__ import annotations

import sys
from typing import Annotated, TextIO, cast

import typer

from quipwright.cli import care, critic, data, distil, evidence, experiment, push, serve, start, write
from quipwright.cli.options import with_shared_options
from quipwright.cli.output import Harmless
from quipwright.core.log import LOG, SHOWN, close_log
from quipwright.core.text import printable
from quipwright.core.version import VERSION

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_IN_SHORT = {
    "init": "the files of a skill of your own, with comments",
    "schema": "the JSON schema of recipes, for editors",
    "demo": "the whole method, end to end, on embedded parts",
    "distil": "run a recipe: teach, imitate, judge, learn, report",
    "estimate": "what a recipe would cost, before anything is spent",
    "write": "paraphrase a sentence, or every row of a file",
    "export": "take a student to other tools",
    "push": "send a student, a critic or data to the Hugging Face Hub",
    "serve": "an OpenAI-compatible endpoint and a page to try",
    "audit": "a critic against people: agreement, biases, go or no-go",
    "compare": "win rates of systems, with intervals and tests",
    "rate": "let people rate pairs blind, in a browser",
    "report": "write the page of a run, or of several side by side",
    "train-critic": "train a reward model on verdicts",
    "measure-critic": "agreement of a trained critic with held-out verdicts",
    "train-care": "train what knows sentences that are not joked about",
    "measure-care": "its recall and false alarms on held-out sentences",
    "experiment": "a grid of recipes, or several critics, in one table",
    "data": "the literals that a recipe would use; nothing is run",
    "export-data": "preference data for TRL and datasets",
    "import-data": "preference data from TRL and the like",
}
"""What a command does, where all are listed: short enough for 80 columns."""


def _version(asked: bool) -> None:
    if asked:
        print(f"quipwright {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Teach a small language model a creative skill from a large one: imitation, then critique."""
    if context.invoked_subcommand is None:
        print(context.get_help())


for group in (start, distil, write, push, serve, evidence, critic, care, experiment, data):
    group.register(app)
for command in app.registered_commands:
    if command.callback is not None:
        command.name = command.name or command.callback.__name__
        command.callback = with_shared_options(command.callback)
        command.short_help = _IN_SHORT.get(command.name)


def run() -> int:
    """Run the command of this process and return its exit code. Errors are raised."""
    out, err = sys.stdout, sys.stderr
    SHOWN.quiet = SHOWN.verbose = False
    sys.stdout = cast(TextIO, Harmless(out))
    if not err.isatty():  # on a terminal the progress bars need their escape sequences
        sys.stderr = cast(TextIO, Harmless(err))
    try:
        code = app(standalone_mode=False, prog_name="quipwright")
    except BaseException as error:
        LOG.error("%s: %s", type(error).__name__, printable(str(error)))
        raise
    finally:
        close_log()
        sys.stdout, sys.stderr = out, err
    return code if isinstance(code, int) else 0
