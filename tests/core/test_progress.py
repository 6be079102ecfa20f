"""Progress as lines, where the output is no terminal."""

from __future__ import annotations

import pytest

from quipwright.core.progress import bar


def test_a_line_every_quarter_and_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("judge \x1b[2J", 8, "pairs", done=1) as step:
        for number in range(2, 9):
            step(note=f"at\n{number}")
    assert capsys.readouterr().err.splitlines() == [
        r"judge \x1b[2J: 2/8 pairs at 2",
        r"judge \x1b[2J: 4/8 pairs at 4",
        r"judge \x1b[2J: 6/8 pairs at 6",
        r"judge \x1b[2J: 8/8 pairs at 8",
    ]
