"""The cells of examples/quickstart.ipynb run, top to bottom, in a folder of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = []
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
            printed.append(capsys.readouterr().out)
    answer, ranked, compared, audited, recipe = printed
    assert len(answer.split()) > 3
    assert 1 <= len(ranked.splitlines()) <= 2
    assert "score 0.67" in compared  # the longer text wins two of three inputs
    assert "rule:longer agrees with" in audited
    assert "of 200: no-go" in audited
    assert "demo 1 " in recipe
    assert "beta=0.2" in recipe
    assert "students: imitation, round-1, feedback" in recipe
