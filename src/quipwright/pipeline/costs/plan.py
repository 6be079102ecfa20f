"""What a recipe would put to models that may cost money, which ``quipwright estimate`` prices, and what those can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
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
from quipwright.pipeline.costs.estimate import TYPICAL, Estimate, Line, Work, estimate, measured
from quipwright.pipeline.costs.questions import Asked, asked_of_critics, asked_of_teacher
from quipwright.pipeline.recipe import Recipe


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
    some = [Example(text=TYPICAL, split=split) for split in ("train", "valid", *recipe.evaluate.splits)]
    return any(chain(asked_of_teacher(recipe, some), asked_of_critics(recipe, some)))


def plan(recipe: Recipe, task: Task, examples: Sequence[Example], found: Sequence[Found] = ()) -> Estimate:
    """A line for each stage and split at which a teacher or a critic is asked that may cost money.

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
    few = recipe.taught(examples)[:count]
    taught = _recorded(recipe, task, few, calls.base)
    lines: list[Line] = []
    seen: dict[tuple[str, str], Line] = {}  # each model is asked once, whatever the stages that ask it
    for who, line in _planned(recipe, task, examples, found):
        key = (line.role, line.model)
        ask: Callable[[], object] | None = None
        if who.model.whole or key in seen:
            pass
        elif isinstance(who, ModelTeacher):
            ask = partial(_teach, who.build(calls, task), few, taught)
        elif who.lists and taught:
            ask = partial(_graded, who.critic.build(BuildContext(calls.base, task, calls)), few, taught)
        elif compared := _compared(few, taught):
            ask = partial(who.critic.build(BuildContext(calls.base, task, calls)).judge, compared)
        if ask:
            seen[key] = measured(line, calls, ask, recipe.prices)
        lines.append(line.as_measured(seen[key]).priced(recipe.prices) if key in seen else line)
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
    lines = []
    for asked in chain(asked_of_teacher(recipe, examples), asked_of_critics(recipe, examples)):
        literals = [example.text for example in examples if example.split == asked.split]
        for line in estimate(task, _work(asked, found), recipe.prices, literals or [TYPICAL]).lines:
            lines.append((asked.who, replace(line, stage=asked.stage, split=asked.split)))
    return lines


def _work(asked: Asked, found: Sequence[Found]) -> Work:
    """``asked`` as the estimate takes it."""
    who, model = asked.who, asked.who.model
    if isinstance(who, ModelTeacher):
        return Work(literals=asked.literals, n=who.n, pairs=0, teacher=model_name(model), concurrency=_under_way(model))
    return Work(
        literals=0, pairs=who.pairs, lists=who.lists, critic=model_name(model),
        reader=who.reader if isinstance(who.reader, Reader) else Reader(),
        grading=who.reader if isinstance(who.reader, GradeReader) else GradeReader(),
        able=_able(model, found), concurrency=_under_way(model),
    )  # fmt: skip


def _under_way(model: Settings) -> int | None:
    """How many calls to ``model`` may be under way at once, where there is such a number."""
    return getattr(model, "concurrency", None)


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


def model_name(model: Settings) -> str:
    """The name under which a model's price stands in the recipe."""
    return str(getattr(model, "model", None) or getattr(model, "name", None) or model.__class__.__name__.lower())
