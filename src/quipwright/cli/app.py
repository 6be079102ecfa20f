"""All commands, assembled; each group has a file of its own."""

from __future__ import annotations

import sys
from typing import Annotated, TextIO, cast

import typer

from quipwright.cli import critic, data, distil, evidence, experiment, push, serve, write
from quipwright.cli.output import Harmless
from quipwright.core.version import VERSION

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


for group in (distil, write, push, serve, evidence, critic, experiment, data):
    group.register(app)


def run() -> int:
    """Run the command of this process and return its exit code. Errors are raised."""
    out, err = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, Harmless(out))
    if not err.isatty():  # on a terminal the progress bars need their escape sequences
        sys.stderr = cast(TextIO, Harmless(err))
    try:
        code = app(standalone_mode=False)
    finally:
        sys.stdout, sys.stderr = out, err
    return code if isinstance(code, int) else 0
