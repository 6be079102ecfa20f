"""Every command that reads a run, what it makes, and how its outcome is judged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.drill.processes import Ended, child, nothing
from tests.drill.small_run import AUDIT, LITERALS, Drill, hashes

_TOOK = re.compile(r"took [\d.]+ s")
REFUSALS = (3, 4, 5, 6)
"""Exit codes of a command that refuses what it reads."""


@dataclass(frozen=True)
class Command:
    """A command line. ``before`` is called in its process; ``writes``: whether it leaves a file behind."""

    arguments: list[str]
    before: Callable[[], None] = nothing
    writes: bool = True


def commands(drill: Drill) -> dict[str, Command]:
    """The commands by name; what they write goes to the folder ``made``."""
    run, made = str(drill.run), str(drill.made)
    students = [f"{run}:feedback", f"{run}:imitation"]
    labels = ["--labels", f"{run}/ratings"]
    return {
        "distil": Command(["distil", str(drill.folder / "tiny.yaml"), "--run", run]),
        "write": Command(["write", LITERALS[0], "--run", run], writes=False),
        "serve": Command(["serve", run], _served_once, writes=False),
        "export": Command(["export", run, f"{made}/student"]),
        "compare": Command(["compare", *students, "--judge", "rule:longer", "--json", f"{made}/c.json"]),
        "rate": Command(["rate", run, "--system", "feedback", "--system", "teacher"], _rated_once, writes=False),
        "rate --export": Command(["rate", run, "--export", f"{made}/votes.csv"]),
        "report": Command(["report", run, "--output", f"{made}/report.html"]),
        "train-critic --run": Command(["train-critic", "--run", run, "--export", f"{made}/verdicts.jsonl"]),
        "audit": Command([*AUDIT, *labels, "--calls", f"{made}/calls"], writes=False),
    }


def made(drill: Drill, name: str, command: Command, before: Callable[[], None] = nothing) -> tuple[Ended, str]:
    """Run a command after ``before``; how it ended, and one text of everything that it made, times left out."""
    shutil.rmtree(drill.made, ignore_errors=True)
    drill.made.mkdir()

    def hook() -> None:
        command.before()
        before()

    ended = child(command.arguments, hook)
    if name == "distil":
        return ended, drill.result() if ended.code == 0 else ""
    return ended, _TOOK.sub("", ended.out) + hashes(drill.made)


def outcome(ended: Ended, same: bool, file: Path) -> tuple[str, str]:
    """The outcome in words of a command after ``file`` was damaged, and what is wrong with it if anything is."""
    if ended.broke or ended.code not in (0, *REFUSALS):
        return f"exit {ended.code}", ended.err[-800:]
    if ended.code == 0:
        return ("same result", "") if same else ("another result", ended.err[-300:] or "without a word")
    named = file.name in ended.line or file.parent.name in ended.line
    return (f"refused, exit {ended.code}", "") if named else ("refused without the file's name", ended.line)


def _served_once() -> None:
    """Put one question to the student instead of waiting for clients."""
    from quipwright.serving import app, http_server
    from quipwright.serving.writer import Writer

    def answer(served: Any, *_: Any) -> None:
        print(Writer(served.student, served.task).write(LITERALS[0]), served.teacher(LITERALS[0], ""))

    app.serving_app = lambda served, *_: served  # type: ignore[assignment,misc,return-value]
    http_server.run_server = answer  # type: ignore[assignment]


def _rated_once() -> None:
    """Show the votes that stand instead of waiting for people."""
    from quipwright.evaluation.human import page
    from quipwright.serving import http_server

    page.rating_app = lambda ratings, *rest: ratings  # type: ignore[assignment,misc,return-value]
    http_server.run_server = lambda ratings, *_: print(ratings.order, ratings.votes)  # type: ignore[assignment]
