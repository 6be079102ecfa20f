"""Verdicts on file: reading them, and which of them are preferences."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.errors import DataError
from quipwright.data.verdicts import VerdictRow, preferences, read_verdicts

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


def test_preferences_on_file_are_clear_honest_and_the_best_of_each_literal() -> None:
    def row(a: str, b: str, verdict: str = "a", strength: int = 2, grades: tuple[int, int] = (1, 0), **more: str):
        fields = {
            "a": a,
            "b": b,
            "verdict": verdict,
            "strength": strength,
            "quality_a": grades[0],
            "quality_b": grades[1],
        }
        return VerdictRow.model_validate({"literal": LITERAL, **fields, **more})

    rows = [
        row("good", "bad"),
        row("worse", "funny", verdict="b", grades=(0, 2)),
        row("tied", "level", verdict="tie"),
        row("faint", "bad", strength=1),
        row("least bad", "worst", grades=(0, 0)),
        row(LITERAL, "bad"),
        row("wit", "bad", grades=(3, 0), author_a="teacher"),
        row("student beats", "teacher", author_b="teacher"),
    ]
    assert preferences(rows, 5, 2, 1, False) == {LITERAL: [("funny", "worse"), ("good", "bad")]}
    assert preferences(rows, 1, 2, 1, True) == {LITERAL: [("wit", "bad")]}
    assert preferences(rows, 1, 2, 0, False) == {LITERAL: [("funny", "worse")]}
    assert preferences([row("x", "y").model_copy(update={"quality_a": None})], 1, 2, 3, False) == {
        LITERAL: [("x", "y")]
    }


def test_bad_verdict_files(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"literal": "L.", "a": "x", "b": "y", "verdict": "c"}\n')
    with pytest.raises(DataError, match=r"line 1: verdict"):
        read_verdicts(path)
    path.write_text('{"literal": "L.", "a": "x", "b": "y", "verdict": "a"}\n')
    with pytest.raises(DataError, match="heldout"):
        read_verdicts(path)


def test_the_bundled_verdicts_hold_no_literal_on_both_sides() -> None:
    from quipwright.core.paths import resolve

    rows = read_verdicts(resolve("bundled:verdicts.jsonl", "Verdicts"))
    sides = [{r.literal for r in rows if r.split == side} for side in ("train", "heldout")]
    assert not sides[0] & sides[1]
