"""What a recipe would put to models that may cost money, which ``understudy estimate`` prices, and what those can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml

from understudy.critic.cloze import Cloze
from understudy.critic.distilled import Distilled
from understudy.critic.mcp import MCP, Reader
from understudy.critic.panel import Panel
from understudy.estimate import Estimate, Work, estimate
from understudy.llm import capabilities
from understudy.llm.calls import Calls
from understudy.recipe import Recipe
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
    for critic, budget in _critics(recipe):
        pairs = _pairs(recipe, examples) if budget is None else budget
        reader = Reader.model_validate({name: getattr(critic, name) for name in Reader.model_fields})
        work = Work(literals=0, pairs=pairs, reader=reader, critic=model_name(critic.model))
        found.append(estimate(task, work, recipe.prices, literals))
    return found


def probed(recipe: Recipe, calls: Calls) -> Iterator[str]:
    """A line for each model of ``recipe``, in the form that states its capabilities there. May ask tiny questions."""
    teacher = [("teacher", recipe.teacher.model)] if isinstance(recipe.teacher, ModelTeacher) else []
    critics = [("critic", member.model) for member in _members(recipe) if isinstance(member, MCP | Cloze)]
    for role, model in [*teacher, *critics]:
        found = {"capabilities": capabilities(model.open(calls)).model_dump(mode="json")}
        stated = yaml.safe_dump(found, default_flow_style=True, sort_keys=False, width=1000).strip()
        yield f"{role} {model_name(model)}: {stated}"


def _critics(recipe: Recipe) -> list[tuple[MCP, int | None]]:
    budget = recipe.critic.budget if isinstance(recipe.critic, Distilled) else None
    return [(member, budget) for member in _members(recipe) if isinstance(member, MCP)]


def _members(recipe: Recipe) -> tuple[Settings, ...]:
    """The critics that judge in the end: a panel's members, and those a distilled one buys from."""
    critic: Settings = recipe.critic.source if isinstance(recipe.critic, Distilled) else recipe.critic
    return critic.critics if isinstance(critic, Panel) else (critic,)


def _pairs(recipe: Recipe, examples: Sequence[Example]) -> int:
    """Pairs of all rounds and of the evaluation."""
    train = sum(example.split == "train" for example in examples)
    sampled = train if recipe.feedback is None else min(train, recipe.feedback)
    chosen = recipe.evaluate.students
    students = 1 + recipe.rounds if chosen is None else len(chosen)
    later = recipe.rounds if chosen is None else len(chosen) - 1 if "imitation" in chosen else 0
    opponents = 1 + recipe.evaluate.base
    tested = sum(example.split in recipe.evaluate.splits for example in examples)
    return recipe.rounds * sampled + tested * (students * opponents + later)


def model_name(model: Settings) -> str:
    """The name under which a model's price stands in the recipe."""
    return str(getattr(model, "model", None) or getattr(model, "name", None) or model.__class__.__name__.lower())
