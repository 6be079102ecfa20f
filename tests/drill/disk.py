"""No file may grow beyond a limit: one line, and the same command goes on to the same result once there is room."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable

from tests.drill.commands import Command, commands, made
from tests.drill.processes import Ended
from tests.drill.small_run import Drill

SIZES = (0, 1, 64, 256, 512, 1024, 2048, 4096, 6144, 8192, 12288, 16384, 20480, 24576, 32768, 40960, 65536, 98304,
         131072, 262144)  # fmt: skip
"""Bytes; the run's largest file has some 200,000."""
DISK_FULL = 10


def disk(drill: Drill) -> None:
    """See the module: under every command that writes. One run of ``distil`` meets all limits, from the least on."""
    for name, command in commands(drill).items():
        if not command.writes:
            continue
        drill.fresh()
        _, expected = made(drill, name, command)
        if name == "distil":
            shutil.rmtree(drill.run)
        for size in SIZES:
            ended, _ = made(drill, name, command, _starved(size))
            words, detail = _outcome(ended)
            drill.note(name, "full disk", words, detail and f"{size} bytes: {detail}")
            if ended.code and name != "distil":
                _again(drill, name, command, expected, size)
        _again(drill, name, command, expected, SIZES[-1])


def _again(drill: Drill, name: str, command: Command, expected: str, size: int) -> None:
    """There is room: the command makes what it would have made."""
    again, result = made(drill, name, command)
    same = again.code == 0 and result == expected
    detail = "" if same else f"after {size} bytes: {again.err[-600:] or 'without a word'}"
    drill.note(name, "room after a full disk", "same result" if same else "another result", detail)


def _starved(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _outcome(ended: Ended) -> tuple[str, str]:
    if ended.broke or ended.code not in (0, DISK_FULL):
        return f"exit {ended.code}", ended.err[-800:]
    return ("room enough", "") if ended.code == 0 else (f"one line, exit {DISK_FULL}", "")
