"""Options that every command has (``-q``, ``-v``, ``--log-file``), and what they set."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from quipwright.core.log import SHOWN, open_log

_SHARED = {
    "quiet": (Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but results and errors.")], False),
    "verbose": (
        Annotated[bool, typer.Option("-v", "--verbose", help="Say more: every stage, and where an error came from.")],
        False,
    ),
    "log_file": (
        Annotated[Path | None, typer.Option(help="Add what happens, with the time, to this file.")],
        None,
    ),
}


def with_shared_options(callback: Callable[..., Any]) -> Callable[..., Any]:
    """``callback`` as a command that has the options of all commands behind its own."""

    @functools.wraps(callback)
    def command(*, quiet: bool, verbose: bool, log_file: Path | None, **own: Any) -> Any:
        SHOWN.quiet, SHOWN.verbose = quiet, verbose
        if log_file is not None:
            open_log(log_file, ["quipwright", *sys.argv[1:]])
        return callback(**own)

    signature = inspect.signature(callback, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command
