"""What a recipe puts to its models, by stage and split: literals to the teacher, pairs and lists to its critics."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quipwright.core.records import Example
from quipwright.critics.base import BaseCriticConfig, Questions
from quipwright.data.teacher import ModelTeacher
from quipwright.pipeline.recipe import Recipe
from quipwright.training.preference.pairs import AnySelector

Part = tuple[str, str]
"""A stage and the split that it works on."""
Lists = tuple[int, int]
"""How many lists of how many texts each."""


@dataclass(frozen=True)
class Asked:
    """What a stage puts to one model that may cost money: ``literals`` to the teacher, or a critic's ``questions``."""

    stage: str
    split: str
    who: ModelTeacher | Questions
    literals: int = 0


def asked_of_teacher(recipe: Recipe, examples: Sequence[Example]) -> Iterator[Asked]:
    """Every literal of a split that some stage reads."""
    teacher = recipe.teacher
    if isinstance(teacher, ModelTeacher) and not teacher.model.in_process:
        for split, count in Counter(example.split for example in recipe.taught(examples)).items():
            yield Asked("teach", split, teacher, count)


def asked_of_critics(recipe: Recipe, examples: Sequence[Example]) -> Iterator[Asked]:
    """The questions of the critic, the scorer and the judges, where their models may cost money."""
    evaluated, lists = _evaluated(recipe, examples), _graded_lists(recipe, examples)
    if recipe.grader is recipe.critic:  # its pairs follow from the grades
        asked = _asked(recipe.critic, _ranked(recipe, examples, scored=False), lists)
    else:
        asked = _asked(recipe.critic, {**_ranked(recipe, examples), **evaluated})
    asked += _asked(recipe.scorer, {}, lists) if recipe.scorer else []
    for judge in recipe.evaluate.judges:
        twice = _twice(recipe)
        read = {
            ("judge", split): [(count, systems), *([(count, twice)] if twice else [])]
            for split, (count, systems) in _answers(recipe, examples).items()
        }
        asked += _asked(judge, {}, read) if judge.can_grade else _asked(judge, evaluated)
    yield from (one for one in asked if isinstance(one.who, Questions) and not one.who.model.in_process)


def _asked(
    critic: BaseCriticConfig, pairs: Mapping[Part, int], lists: Mapping[Part, Sequence[Lists]] = {}
) -> list[Asked]:
    if critic.trained_in_run:  # it labels some of the first pairs, and judges all by itself
        pairs = {("label", "train"): sum(pairs.values())}
    parts = dict.fromkeys([*pairs, *lists])
    return [
        Asked(*part, questions)
        for part in parts
        for questions in critic.questions(pairs.get(part, 0), lists.get(part, ()))
        if questions.pairs or questions.lists
    ]


def _sampled(recipe: Recipe, examples: Sequence[Example]) -> int:
    """Literals that feedback is given on in a round."""
    train = sum(example.split == "train" for example in examples)
    return min(train, recipe.feedback_examples or train)


def _readings(recipe: Recipe, examples: Sequence[Example], measure: str) -> int:
    """Validation literals over all readings of early stopping that go by ``measure``."""
    stopping = recipe.early_stopping
    if stopping is None or stopping.measure != measure:
        return 0
    each = 1 + (math.ceil(recipe.learn.train.epochs) if stopping.each == "epoch" else 0)
    return recipe.rounds * each * sum(example.split == "valid" for example in examples)


def _ranked(recipe: Recipe, examples: Sequence[Example], scored: bool = True) -> dict[Part, int]:
    """Pairs of all steps, rounds and readings of early stopping; without ``scored``, of selectors that need no scores."""
    sampled, asked, teaching = _sampled(recipe, examples), 0, recipe.teacher_preferences
    if recipe.learn.source == "verdicts" and (scored or not recipe.select.needs_scores):
        asked += recipe.rounds * sampled * _each(recipe.select)
    if teaching is not None and (scored or not teaching.select.needs_scores):
        asked += sampled * _each(teaching.select)
    return {("judge", "train"): asked, ("validate", "valid"): _readings(recipe, examples, "win_tie_rate")}


def _graded_lists(recipe: Recipe, examples: Sequence[Example]) -> dict[Part, list[Lists]]:
    """The lists that the recipe wants scored text by text."""
    sampled, lists = _sampled(recipe, examples), defaultdict[Part, list[Lists]](list)
    train, tested = lists["grade", "train"], _answers(recipe, examples)
    if recipe.learn.source == "best_of_n" or (recipe.learn.source == "verdicts" and recipe.select.needs_scores):
        train.append((recipe.rounds * sampled, recipe.candidates.k))
    if recipe.teacher_preferences is not None and recipe.teacher_preferences.select.needs_scores:
        train.append((sampled, getattr(recipe.teacher, "n", None) or 3))
    lists["validate", "valid"].append((_readings(recipe, examples, "mean_grade"), 1))
    for split, (count, systems) in tested.items():
        lists["grade", split].append((count, systems + (_twice(recipe) if recipe.evaluate.best_of < 2 else 0)))
        if recipe.evaluate.best_of:
            lists["grade", split].append((2 * count, recipe.evaluate.best_of))
    return {part: [(count, size) for count, size in some if count] for part, some in lists.items()}


def _answers(recipe: Recipe, examples: Sequence[Example]) -> dict[str, Lists]:
    """Literals of each split that is evaluated, and systems that answer them."""
    counts = Counter(example.split for example in examples)
    systems = _students(recipe) + 1 + recipe.evaluate.base
    return {split: (counts[split], systems) for split in recipe.evaluate.splits if counts[split]}


def _students(recipe: Recipe) -> int:
    """Students that are evaluated."""
    made = 1 + (recipe.teacher_preferences is not None) + (recipe.offline_preferences is not None)
    chosen = recipe.evaluate.students
    return made + recipe.rounds if chosen is None else len(chosen)


def _evaluated(recipe: Recipe, examples: Sequence[Example]) -> dict[Part, int]:
    """Pairs of the evaluation: every student meets every opponent and the imitation student, and some themselves."""
    chosen, students = recipe.evaluate.students, _students(recipe)
    later = students - 1 if chosen is None or "imitation" in chosen else 0
    meetings = students * (1 + recipe.evaluate.base) + later + _twice(recipe) // 2
    return {("judge", split): count * meetings for split, (count, _) in _answers(recipe, examples).items()}


def _twice(recipe: Recipe) -> int:
    """Samples of a literal that are judged for the noise floor: two of imitation's and of feedback's."""
    if not recipe.evaluate.noise_floor:
        return 0
    learns = recipe.rounds or recipe.offline_preferences
    made = {"imitation", "feedback"} if learns else {"imitation"}
    return 2 * len(made & set(recipe.evaluate.students or made))


def _each(selector: AnySelector) -> int:
    """The most pairs that ``selector`` picks of one literal."""
    return getattr(selector, "pairs", getattr(selector, "size", 2) - 1)
