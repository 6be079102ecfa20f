"""Commands in forked children: a kill is a real kill, and the libraries are imported once, by the parent."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import quipwright
from quipwright.cli.main import main

NOTES: dict[str, Any] = {}
"""What a child's hooks put here reaches the parent as :attr:`Ended.notes`."""


def nothing() -> None:
    """The hook that does nothing."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: killed by that signal), what it said, the files it opened.

    ``seconds``: of processor time, where it came to its end. ``notes``: see :data:`NOTES`.
    """

    code: int
    out: str
    err: str
    opened: frozenset[str] = frozenset()
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The line of its error."""
        return next((line for line in self.err.splitlines() if line.startswith("quipwright: ")), "")

    @property
    def broke(self) -> bool:
        """Whether it ended in a way that no command may end."""
        return "Traceback" in self.err or "This is a defect" in self.err


def preload() -> None:
    """Import all of the package, so that no child has to."""
    for module in pkgutil.walk_packages(quipwright.__path__, "quipwright."):
        if not module.name.startswith(("quipwright.testing", "quipwright.__main__", "quipwright.llm.vllm")):
            importlib.import_module(module.name)


def child(arguments: Sequence[str], before: Callable[[], None] = nothing) -> Ended:
    """Run ``quipwright arguments`` in a forked child that calls ``before`` first."""
    pipes = [os.pipe() for _ in range(3)]
    pid = os.fork()
    if pid == 0:
        _command(arguments, [writing for _, writing in pipes], before)
    for _, writing in pipes:
        os.close(writing)
    out, err, kept = (content.decode("utf-8", "replace") for content in _drained([reading for reading, _ in pipes]))
    _, status = os.waitpid(pid, 0)
    fields = json.loads(kept) if kept else {"opened": []}
    opened = frozenset(fields.pop("opened"))
    return Ended(os.waitstatus_to_exitcode(status), out, err, opened, **fields)


def _drained(pipes: Sequence[int]) -> list[bytes]:
    """Everything that comes out of ``pipes`` until all are closed at the other end."""
    content = {pipe: bytearray() for pipe in pipes}
    open_pipes = set(pipes)
    while open_pipes:
        for pipe in select.select(list(open_pipes), [], [])[0]:
            if block := os.read(pipe, 65536):
                content[pipe] += block
            else:
                os.close(pipe)
                open_pipes.remove(pipe)
    return [bytes(content[pipe]) for pipe in pipes]


def _command(arguments: Sequence[str], pipes: Sequence[int], before: Callable[[], None]) -> None:
    """The child: it says what it has to say through ``pipes``, which no limit on file sizes concerns, and never returns."""
    code = 1
    try:
        for number, pipe in ((1, pipes[0]), (2, pipes[1])):
            os.dup2(pipe, number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        opened: dict[str, None] = {}

        def note(event: str, values: tuple[object, ...]) -> None:
            if event in ("open", "sqlite3.connect"):
                opened[str(values[0])] = None

        sys.addaudithook(note)
        sys.argv = ["quipwright", *arguments]
        started = time.process_time()
        before()
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        seconds = time.process_time() - started
        sys.stdout.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        with open(pipes[2], "w") as file:
            json.dump({"opened": list(opened), "seconds": seconds, "notes": NOTES}, file)
    finally:
        os._exit(code)
