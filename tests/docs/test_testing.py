"""Every snippet of docs/testing.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) == 4


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_and_what_it_asserts_holds(number: int) -> None:
    exec(compile(SNIPPETS[number], f"{PAGE.name}, snippet {number + 1}", "exec"), {})
