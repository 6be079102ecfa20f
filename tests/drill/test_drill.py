"""The drill as a test: one process a part, since its children are forked and must inherit nothing of other tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| (\d+) \|$", re.MULTILINE)


def rows(text: str) -> Counter[tuple[str, str]]:
    """How many outcomes a table shows by command and by what happened."""
    counts: Counter[tuple[str, str]] = Counter()
    for command, happened, _, times in ROW.findall(text):
        counts[command, happened] += int(times)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "files", "disk"])
def test_nothing_is_lost_and_nothing_is_silently_different(part: str) -> None:
    drill = subprocess.run([sys.executable, "-m", "tests.drill", part], cwd=ROOT, capture_output=True, text=True)
    assert drill.returncode == 0, drill.stderr[-8000:]
    assert rows(drill.stdout)
