"""The drill as a test: one process a part, since its children are forked and must inherit nothing of other tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from quipwright.testing.faulty_server import FaultyServer
from tests.drill.commands import REFUSALS, commands
from tests.drill.damages import DAMAGES
from tests.drill.disk import SIZES
from tests.drill.kills import RUNS
from tests.drill.small_run import Drill

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| (\d+) \| ([^|]+) \|$", re.MULTILINE)


def rows(text: str) -> dict[tuple[str, str], int]:
    """How many outcomes a table shows by command and by what happened."""
    return {(command, happened): int(times) for command, happened, times, _ in ROW.findall(text)}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "files", "disk"])
def test_nothing_is_lost_and_nothing_is_silently_different(part: str) -> None:
    drill = subprocess.run([sys.executable, "-m", "tests.drill", part], cwd=ROOT, capture_output=True, text=True)
    assert drill.returncode == 0, drill.stderr[-8000:]
    printed, told = rows(drill.stdout), rows(PAGE.read_text(encoding="utf-8"))
    assert printed
    assert set(printed) <= set(told)  # the page shows all that is tried


def test_the_page_shows_the_whole_drill() -> None:
    told = rows(PAGE.read_text(encoding="utf-8"))
    stopped = [times for (_, happened), times in told.items() if happened.startswith("stopped in ")]
    assert stopped == [RUNS] * 11 == [20] * 11
    names = set(commands(Drill(Path(), FaultyServer())))
    for damage in DAMAGES:
        assert {command for command, happened in told if happened == f"file {damage.__name__}"} == names
    folders = {command for command, happened in told if happened == "folder deleted"}
    assert folders == names - {"compare"}  # that reads no file in a folder
    full = {command: times for (command, happened), times in told.items() if happened == "full disk"}
    assert set(full.values()) == {len(SIZES)} == {20}
    outcomes = {outcome for *_, cell in ROW.findall(PAGE.read_text(encoding="utf-8")) for outcome in cell.split("; ")}
    kinds = {outcome.rpartition(" (")[0] for outcome in outcomes}
    refused = {f"refused, exit {code}" for code in REFUSALS}
    assert kinds <= {"same result", "again: same result", "room enough", "one line, exit 10", *refused}
