"""The corpora that ship: whole, without repeats, and read by the settings of the recipes that use them."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from quipwright.core.text import degenerate, is_copy, words
from quipwright.data.examples import DataSettings, load_examples
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.task import Task
from quipwright.pipeline.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SPLITS = ("train", "valid", "test", "ood")


@pytest.mark.parametrize(
    ("name", "counts", "texts", "near"),
    [
        ("demo", (160, 8, 40, 0), 2 * 208, 0),
        ("imitation", (12623, 264, 413, 0), 18862, 30),
        ("shipped", (12623, 264, 413, 0), 18862, 30),
        ("from-scratch", (12623, 264, 413, 0), 18862, 30),
        ("verdicts", (12623, 264, 413, 0), 3 * (6857 - 120) + 2 * 6563, 36),
        ("vivid", (330, 18, 69, 0), 3 * 417, 0),
    ],
)
def test_a_recipe_finds_sound_paraphrases_of_every_literal(
    name: str, counts: tuple[int, ...], texts: int, near: int
) -> None:
    """``near``: texts that add or change so few words of a long literal that the rule against copies takes them for one."""
    recipe, base = load_recipe(str(RECIPES / f"{name}.yaml"))
    examples = load_examples(recipe.data, base)
    assert tuple(sum(e.split == s for e in examples) for s in SPLITS) == counts
    assert isinstance(recipe.teacher, RecordedTeacher)
    recording, task = recipe.teacher.open(base), recipe.load_task(base)
    by_literal = {e.text: recording.require(e.text, task) for e in examples}
    everything = [t.text.casefold() for t in chain.from_iterable(by_literal.values())]
    assert len(everything) == len(set(everything)) == texts
    pairs = [(t.text, literal) for literal, own in by_literal.items() for t in own]
    assert not [text for text, literal in pairs if degenerate(text, literal) or is_copy(text, literal, 0)]
    assert sum(is_copy(text, literal) for text, literal in pairs) == near


def test_the_styles_of_the_bundled_texts_are_the_tasks() -> None:
    recording, task = RecordedTeacher().open(), Task.load("humour")
    examples = load_examples(DataSettings())
    counted = Counter((e.split, t.style) for e in examples for t in recording.require(e.text, task))
    assert {style: counted["train", style] for style in task.styles} == {"tag": 18187, "short": 5131, "free": 8134}
    assert {style: counted["test", style] for style in task.styles} == {"tag": 396, "short": 233, "free": 529}


def test_no_literal_of_one_split_is_nearly_one_of_another() -> None:
    examples = load_examples(DataSettings())
    texts = [{word.lower() for word in words(e.text.replace("’", "'")) if word[0].isalnum()} for e in examples]
    sizes, splits = np.array([len(t) for t in texts]), np.array([e.split for e in examples])
    places = defaultdict(list)
    for place, text in enumerate(texts):
        for word in text:
            places[word].append(place)
    near = []
    for place, text in enumerate(texts):
        if splits[place] != "train":
            shared = np.bincount(np.concatenate([places[word] for word in text]), minlength=len(texts))
            alike = 2 * shared >= 0.75 * (sizes + len(text))  # Dice's coefficient of the two sets of words
            near += [(examples[place].text, examples[i].text) for i in np.nonzero(alike & (splits != splits[place]))[0]]
    assert near == []
    assert len(examples) == 13420


@pytest.mark.parametrize(
    ("name", "style", "prompt"),
    [
        ("humour", "", "Plain: I am late.\nFunny tag:"),
        ("humour", "short", "Plain: I am late.\nFunny short:"),
        ("humour", "free", "Plain: I am late.\nFunny free:"),
        ("vivid", "", "Plain: I am late.\nVivid:"),
    ],
)
def test_what_the_student_of_a_shipped_task_is_shown(name: str, style: str, prompt: str) -> None:
    assert Task.load(name).prompt("I am late.", style) == prompt
