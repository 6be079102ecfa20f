"""What a recipe would put to models that may cost money, which ``quipwright estimate`` prices, and what those can do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from quipwright.core.records import Comparison, Example, Pair, Response
from quipwright.core.settings import Settings
from quipwright.core.storage.run_folder import RunFolder
from quipwright.critics.base import BuildContext, Critic, Grader, Questions
from quipwright.critics.grading import GradeReader
from quipwright.critics.reader import Reader
from quipwright.data.task import Task
from quipwright.data.teacher import ModelTeacher, Teacher
from quipwright.llm.calls import Calls
from quipwright.llm.probe import note_name
from quipwright.llm.types import Capabilities
from quipwright.pipeline.costs.estimate import Estimate, Line, Work, estimate, measured
from quipwright.pipeline.recipe import Recipe
from quipwright.training.preference.pairs import AnySelector


@dataclass(frozen=True)
class Found:
    """What the model of a ``role`` was found to do."""

    role: str
    model: Settings
    able: Capabilities

    def line(self) -> str:
        """For people, in the form that states it in a recipe."""
        setting = {"capabilities": self.able.model_dump(mode="json")}
        stated = yaml.safe_dump(setting, default_flow_style=True, sort_keys=False, width=1000).strip()
        return f"{self.role} {model_name(self.model)}: {stated}"


def may_cost(recipe: Recipe) -> bool:
    """Whether any model of ``recipe`` may cost money (or people's time)."""
    return bool(_teachers(recipe) or _critics(recipe, ()))


def plan(recipe: Recipe, task: Task, examples: Sequence[Example], found: Sequence[Found] = ()) -> Estimate:
    """A line for the teacher and one for each multiple-choice critic that may cost money.

    Evaluation is counted as the recipe's systems meet: every student against every opponent and the imitation student.
    Of a model's capabilities those ``found`` or stated count; Anthropic's API is known to give no log-probabilities,
    and any other is taken to give them. Raises :class:`~quipwright.core.errors.CriticError` where a critic would refuse its
    model.
    """
    return Estimate(tuple(line for _, line in _planned(recipe, task, examples, found)))


def measure(
    recipe: Recipe, task: Task, examples: Sequence[Example], found: Sequence[Found], calls: Calls, count: int
) -> Estimate:
    """As :func:`plan`, with the tokens and times of ``count`` literals put to each model through ``calls``: this spends.

    The critics compare the teacher's first two paraphrases of each, or grade them all, for want of a student's. What comes in files is
    left as it was reckoned. Raises as the models do.
    """
    few = examples[:count]
    taught = _recorded(recipe, task, few, calls.base)
    lines = []
    for settings, line in _planned(recipe, task, examples, found):
        ask: Callable[[], object] | None = None
        if settings.model.whole:
            pass
        elif isinstance(settings, ModelTeacher):
            ask = partial(_teach, settings.build(calls, task), few, taught)
        elif settings.lists and taught:
            ask = partial(_graded, settings.critic.build(BuildContext(calls.base, task, calls)), few, taught)
        elif compared := _compared(few, taught):
            ask = partial(settings.critic.build(BuildContext(calls.base, task, calls)).judge, compared)
        lines.append(measured(line, calls, ask, recipe.prices) if ask else line)
    return Estimate(tuple(lines))


@contextmanager
def asking(recipe: Recipe, base: Path, folder: Path | None) -> Iterator[Calls]:
    """Calls under the recipe's prices and caps: of its run ``folder``, so that nothing is paid for twice, or of none."""
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        else:
            tree, identity = recipe.model_dump(mode="json"), recipe.results_key()
            stack.enter_context(RunFolder.open(folder, tree, identity=identity))
        calls = stack.enter_context(Calls.open(folder, prices=recipe.prices, budget=recipe.budget, base=base))
        calls.store.stage = lambda: "estimate"
        yield calls


def probed(recipe: Recipe, calls: Calls) -> Iterator[Found]:
    """What each model of ``recipe`` can do. May ask tiny questions."""
    for role, model in _models(recipe):
        yield Found(role, model, model.build(calls).capabilities)


def known(recipe: Recipe, calls: Calls) -> Iterator[Found]:
    """As :func:`probed`, of those models of which it is stated, or was found out by an earlier call. Asks nothing."""
    for role, model in _models(recipe):
        able = getattr(model, "capabilities", None) or calls.store.note(note_name(model.identity()))
        if able is not None:
            yield Found(role, model, Capabilities.model_validate(able))


def _models(recipe: Recipe) -> list[tuple[str, Any]]:
    teacher = [("teacher", recipe.teacher.model)] if isinstance(recipe.teacher, ModelTeacher) else []
    named = [("critic", recipe.critic), *(("judge", judge) for judge in recipe.evaluate.judges)]
    critics = [(role, model) for role, critic in named for model in critic.models()]
    return [*teacher, *critics]


def _planned(
    recipe: Recipe, task: Task, examples: Sequence[Example], found: Sequence[Found]
) -> list[tuple[ModelTeacher | Questions, Line]]:
    """Who is asked, with what."""
    literals = [example.text for example in examples]
    asked: list[tuple[ModelTeacher | Questions, Work]] = [
        (
            teacher,
            Work(
                literals=len(examples), n=teacher.n, pairs=0, teacher=model_name(teacher.model),
                concurrency=_under_way(teacher.model),
            ),
        )
        for teacher in _teachers(recipe)
    ]  # fmt: skip
    for questions in _critics(recipe, examples):
        model = questions.model
        reader = questions.reader
        work = Work(
            literals=0, pairs=questions.pairs, lists=questions.lists, critic=model_name(model),
            reader=reader if isinstance(reader, Reader) else Reader(),
            grading=reader if isinstance(reader, GradeReader) else GradeReader(),
            able=_able(model, found), concurrency=_under_way(model),
        )  # fmt: skip
        asked.append((questions, work))
    return [
        (settings, line) for settings, work in asked for line in estimate(task, work, recipe.prices, literals).lines
    ]


def _under_way(model: Settings) -> int | None:
    """How many calls to ``model`` may be under way at once, where there is such a number."""
    return getattr(model, "concurrency", None)


def _teachers(recipe: Recipe) -> list[ModelTeacher]:
    teacher = recipe.teacher
    return [teacher] if isinstance(teacher, ModelTeacher) and not teacher.model.in_process else []


def _critics(recipe: Recipe, examples: Sequence[Example]) -> list[Questions]:
    """What is asked of the critic's and the judges' models that may cost money."""
    evaluated, lists = _evaluated(recipe, examples), _graded_lists(recipe, examples)
    if recipe.grader is recipe.critic:  # its pairs follow from the grades
        asked = recipe.critic.questions(_ranked(recipe, examples, scored=False), lists)
    else:
        asked = recipe.critic.questions(_ranked(recipe, examples) + evaluated)
    asked += recipe.scorer.questions(0, lists) if recipe.scorer else ()
    for judge in recipe.evaluate.judges:
        lists = [_answers(recipe, examples), *_twice(recipe, examples)]
        asked += judge.questions(0, lists) if judge.can_grade else judge.questions(evaluated)
    return [questions for questions in asked if not questions.model.in_process]


def _able(model: Settings, found: Sequence[Found]) -> Capabilities:
    known = [one.able for one in found if one.model == model]
    stated: Capabilities | None = getattr(model, "capabilities", None)
    usual = Capabilities() if getattr(model, "kind", "") == "anthropic" else Capabilities(logprobs=20)
    return known[0] if known else stated or usual


def _recorded(recipe: Recipe, task: Task, examples: Sequence[Example], base: Path | None) -> dict[str, list[Response]]:
    """A recorded teacher's paraphrases by example id; those of a live one are still to be asked for."""
    if isinstance(recipe.teacher, ModelTeacher):
        return {}
    answers = recipe.teacher.open(base)
    return {
        e.id: [Response(example_id=e.id, text=t.text, author="teacher") for t in answers.require(e.text, task)]
        for e in examples
    }


def _teach(teacher: Teacher, examples: Sequence[Example], taught: dict[str, list[Response]]) -> None:
    for response in teacher.teach(examples).responses:
        taught.setdefault(response.example_id, []).append(response)


def _compared(examples: Sequence[Example], taught: Mapping[str, Sequence[Response]]) -> list[Comparison]:
    """The first two of the teacher's paraphrases of each of ``examples``."""
    pairs = [(e, own[0], own[1]) for e in examples if len(own := taught.get(e.id, ())) > 1]
    return [
        Comparison(Pair(example_id=e.id, a_id=a.id, b_id=b.id, selector="measure"), e.text, a.text, b.text)
        for e, a, b in pairs
    ]


def _graded(critic: Critic, examples: Sequence[Example], taught: Mapping[str, Sequence[Response]]) -> None:
    """Grade the teacher's paraphrases of ``examples``."""
    texts = [(e.text, response) for e in examples for response in taught.get(e.id, ())]
    if isinstance(critic, Grader):
        critic.grade([literal for literal, _ in texts], [response for _, response in texts])


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


def _ranked(recipe: Recipe, examples: Sequence[Example], scored: bool = True) -> int:
    """Pairs of all steps, rounds and readings of early stopping; without ``scored``, of selectors that need no scores."""
    sampled, asked, teaching = _sampled(recipe, examples), 0, recipe.teacher_preferences
    if recipe.learn.source == "verdicts" and (scored or not recipe.select.needs_scores):
        asked += recipe.rounds * sampled * _each(recipe.select)
    if teaching is not None and (scored or not teaching.select.needs_scores):
        asked += sampled * _each(teaching.select)
    return asked + _readings(recipe, examples, "win_tie_rate")


def _graded_lists(recipe: Recipe, examples: Sequence[Example]) -> list[tuple[int, int]]:
    """How many lists of how many texts each the recipe wants scored one by one."""
    sampled, (tested, systems) = _sampled(recipe, examples), _answers(recipe, examples)
    more = sum(size for _, size in _twice(recipe, examples)) if recipe.evaluate.best_of < 2 else 0
    lists = [(tested, systems + more)]
    if recipe.learn.source == "best_of_n" or (recipe.learn.source == "verdicts" and recipe.select.needs_scores):
        lists.append((recipe.rounds * sampled, recipe.candidates.k))
    if recipe.teacher_preferences is not None and recipe.teacher_preferences.select.needs_scores:
        lists.append((sampled, getattr(recipe.teacher, "n", None) or 3))
    if recipe.evaluate.best_of:
        lists.append((2 * lists[0][0], recipe.evaluate.best_of))
    lists.append((_readings(recipe, examples, "mean_grade"), 1))
    return [(count, size) for count, size in lists if count]


def _answers(recipe: Recipe, examples: Sequence[Example]) -> tuple[int, int]:
    """Literals of the evaluation, and systems that answer them."""
    tested = sum(example.split in recipe.evaluate.splits for example in examples)
    return tested, _students(recipe) + 1 + recipe.evaluate.base


def _students(recipe: Recipe) -> int:
    """Students that are evaluated."""
    made = 1 + (recipe.teacher_preferences is not None) + (recipe.offline_preferences is not None)
    chosen = recipe.evaluate.students
    return made + recipe.rounds if chosen is None else len(chosen)


def _evaluated(recipe: Recipe, examples: Sequence[Example]) -> int:
    """Pairs of the evaluation."""
    chosen, students = recipe.evaluate.students, _students(recipe)
    later = students - 1 if chosen is None or "imitation" in chosen else 0
    opponents = 1 + recipe.evaluate.base
    tested = sum(example.split in recipe.evaluate.splits for example in examples)
    floors = sum(count * size for count, size in _twice(recipe, examples)) // 2
    return tested * (students * opponents + later) + floors


def _twice(recipe: Recipe, examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Literals of the evaluation, and the samples that are judged for the noise floor: two of imitation's and of
    feedback's."""
    if not recipe.evaluate.noise_floor:
        return []
    learns = recipe.rounds or recipe.offline_preferences
    made = {"imitation", "feedback"} if learns else {"imitation"}
    size = 2 * len(made & set(recipe.evaluate.students or made))
    return [(_answers(recipe, examples)[0], size)] if size else []


def _each(selector: AnySelector) -> int:
    """The most pairs that ``selector`` picks of one literal."""
    return getattr(selector, "pairs", getattr(selector, "size", 2) - 1)


def model_name(model: Settings) -> str:
    """The name under which a model's price stands in the recipe."""
    return str(getattr(model, "model", None) or getattr(model, "name", None) or model.__class__.__name__.lower())
