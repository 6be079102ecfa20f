"""What a recipe would put to models that may cost money, which ``understudy estimate`` prices, and what those can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml

from understudy.critic.cloze import Cloze
from understudy.critic.distilled import Distilled
from understudy.critic.mcp import MCP, Reader
from understudy.estimate import Estimate, Work, estimate
from understudy.llm import capabilities
from understudy.llm.calls import Calls
from understudy.recipe import Recipe, members
from understudy.records import Example
from understudy.settings import Settings
from understudy.task import Task
from understudy.teacher import ModelTeacher


def plan(recipe: Recipe, task: Task, examples: Sequence[Example]) -> list[Estimate]:
    """One estimate for the teacher and one for each multiple-choice critic; empty where nothing is asked of a model.

    Evaluation is counted as the recipe's systems meet: every student against every opponent and the imitation student.
    """
    literals = [example.text for example in examples]
    found = []
    if isinstance(recipe.teacher, ModelTeacher):
        work = Work(literals=len(examples), n=recipe.teacher.n, pairs=0, teacher=model_name(recipe.teacher.model))
        found.append(estimate(task, work, recipe.prices, literals))
    for critic, pairs in _critics(recipe, examples):
        reader = Reader.model_validate({name: getattr(critic, name) for name in Reader.model_fields})
        work = Work(literals=0, pairs=pairs, reader=reader, critic=model_name(critic.model))
        found.append(estimate(task, work, recipe.prices, literals))
    return found


def probed(recipe: Recipe, calls: Calls) -> Iterator[str]:
    """A line for each model of ``recipe``, in the form that states its capabilities there. May ask tiny questions."""
    teacher = [("teacher", recipe.teacher.model)] if isinstance(recipe.teacher, ModelTeacher) else []
    named = [("critic", recipe.critic), *(("judge", judge) for judge in recipe.evaluate.judges)]
    critics = [(role, m.model) for role, one in named for m in members(one) if isinstance(m, MCP | Cloze)]
    for role, model in [*teacher, *critics]:
        found = {"capabilities": capabilities(model.open(calls)).model_dump(mode="json")}
        stated = yaml.safe_dump(found, default_flow_style=True, sort_keys=False, width=1000).strip()
        yield f"{role} {model_name(model)}: {stated}"


def _critics(recipe: Recipe, examples: Sequence[Example]) -> list[tuple[MCP, int]]:
    """The multiple-choice critics, the judges' too, each with how many pairs it is asked about."""
    evaluated, critic = _evaluated(recipe, examples), recipe.critic
    asked = critic.budget if isinstance(critic, Distilled) else _ranked(recipe, examples) + evaluated
    found = [(member, asked) for member in members(critic)]
    found += [(member, evaluated) for judge in recipe.evaluate.judges for member in members(judge)]
    return [(member, pairs) for member, pairs in found if isinstance(member, MCP)]


def _ranked(recipe: Recipe, examples: Sequence[Example]) -> int:
    """Pairs of all rounds."""
    train = sum(example.split == "train" for example in examples)
    sampled = train if recipe.feedback is None else min(train, recipe.feedback)
    return recipe.rounds * sampled


def _evaluated(recipe: Recipe, examples: Sequence[Example]) -> int:
    """Pairs of the evaluation."""
    students = 1 + recipe.rounds
    opponents = 1 + recipe.evaluate.base
    tested = sum(example.split in recipe.evaluate.splits for example in examples)
    return tested * (students * opponents + recipe.rounds)


def model_name(model: Settings) -> str:
    """The name under which a model's price stands in the recipe."""
    return str(getattr(model, "model", None) or getattr(model, "name", None) or model.__class__.__name__.lower())
