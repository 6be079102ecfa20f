"""Grouping verdicts by literal, and the comparisons that come free."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipwright.critics.reward_model.groups import FreeComparisons, Graded, Group, grouped
from quipwright.data.verdicts import read_verdicts

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


@given(st.integers(0, 10_000))
def test_free_comparisons_always_favour_the_sound_text(seed: int) -> None:
    free = FreeComparisons(
        {LITERAL: list(TEXTS), "Another one here.": ["Something else entirely."]}, share=1.0, weight=0.2
    )
    group = Group(LITERAL, ["A fair and true attempt at it."], ["attempt"], [], [Graded(0, 2.0, 1.0)])
    extended = free.extend(group, random.Random(seed))
    assert group.pairs == []
    assert len(extended.texts) > 1
    rank = {"teacher": 2, "attempt": 1, "copy": 0, "spoilt": 0, "stray": 0}
    for i, j, target, weight in extended.pairs:
        assert target == 1.0
        against_attempt = extended.origins[j] == "attempt"
        assert weight == 0.5 if against_attempt else weight in (0.2, pytest.approx(0.3))
        assert rank[extended.origins[i]] > rank[extended.origins[j]]


def test_grouping_weighs_by_strength_and_finds_unjudged_pairs(tmp_path: Path) -> None:
    base = {"literal": "L one two.", "split": "train"}
    rows = [
        {**base, "a": "x", "b": "y", "verdict": "a", "strength": 3, "quality_a": 2, "quality_b": 1},
        {**base, "a": "y", "b": "z", "verdict": "tie", "strength": 1, "quality_a": 1, "quality_b": 0},
        {**base, "a": "x", "b": "y", "verdict": "a", "split": "heldout"},
    ]
    path = tmp_path / "v.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    train = [row for row in read_verdicts(path) if row.split == "train"]
    (group,) = grouped(train, unjudged_weight=0.5)
    assert group.pairs == [(0, 1, 1.0, 1.4), (1, 2, 0.5, 0.6), (0, 2, 1.0, 0.5)]
    assert group.graded == [(0, 2.0, 1.0), (1, 1.0, 1.0), (2, 0.0, 1.0)]
    by_teacher = [train[0].model_copy(update={"author_a": "teacher"}), train[1]]
    (group,) = grouped(by_teacher, unjudged_weight=0.5, teacher_share=0.5)
    assert group.origins == ["teacher", "attempt", "attempt"]
    assert group.pairs == [(0, 1, 1.0, 0.7), (1, 2, 0.5, 0.6), (0, 2, 1.0, 0.25)]
    assert group.graded == [(0, 2.0, 0.5), (1, 1.0, 1.0), (2, 0.0, 1.0)]
