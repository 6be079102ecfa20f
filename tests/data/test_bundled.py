"""The corpora that ship: whole, without repeats, and read by the settings of the recipes that use them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from quipwright.core.text import degenerate, is_copy
from quipwright.data.examples import load_examples
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.task import Task
from quipwright.pipeline.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(("name", "train", "valid", "test"), [("shipped", 1391, 83, 146), ("vivid", 330, 18, 69)])
def test_a_recipe_finds_three_sound_paraphrases_of_every_literal(name: str, train: int, valid: int, test: int) -> None:
    recipe, base = load_recipe(str(RECIPES / f"{name}.yaml"))
    examples = load_examples(recipe.data, base)
    assert [sum(e.split == s for e in examples) for s in ("train", "valid", "test")] == [train, valid, test]
    assert isinstance(recipe.teacher, RecordedTeacher)
    recording = recipe.teacher.open(base)
    texts = {e.text: recording.require(e.text) for e in examples}
    everything = [t.casefold() for t in chain.from_iterable(texts.values())]
    assert len(everything) == len(set(everything)) == 3 * len(examples)
    for literal, own in texts.items():
        assert not any(is_copy(t, literal) or degenerate(t, literal) for t in own), literal
    task = Task.load(recipe.task, base)
    assert task.prompt("I am late.") == f"Plain: I am late.\n{'Vivid' if name == 'vivid' else 'Funny'}:"
