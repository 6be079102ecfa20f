"""From what a user writes (``reward``, ``rule:longer``, ``critic.yaml``) to a critic that judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from quipwright.core.config_files import read_yaml, validate
from quipwright.core.errors import RecipeError
from quipwright.core.settings import Settings
from quipwright.core.storage.files import disk_errors
from quipwright.critics.base import BuildContext, Critic
from quipwright.critics.config import CriticConfig, config_of
from quipwright.critics.reward_model.card import CARD_FILE, OF_RUN
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.task import DEFAULT_TASK, Task
from quipwright.llm.call_store import CallStore
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Budget, Price

_RECIPE = {"critic", "data", "student", "teacher", "learn", "evaluate"}  # any of these keys makes a file a recipe


class Chosen(Settings):
    """A critic's settings, and what a recipe says beside them of calls that cost money and of the task."""

    critic: CriticConfig
    prices: dict[str, Price] = Field(default_factory=dict)
    budget: Budget = Budget()
    task: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A critic, and the store of its calls where it asks a language model."""

    critic: Critic
    store: CallStore | None


def critic_settings(reference: str) -> tuple[Chosen, Path | None]:
    """The critic that ``reference`` names and the folder its relative paths start from.

    ``reference`` is a kind, a kind and its main setting (``reward:FOLDER``, ``multiple_choice:WEIGHTS``), the folder of
    a trained critic or of a run that trained one, a YAML file with ``kind`` in it (``prices`` and ``budget`` too), or a
    recipe, whose critic is meant. Raises :class:`RecipeError` for an unknown kind or setting.
    """
    if reference.endswith((".yaml", ".yml")):
        return _in_file(Path(reference))
    for folder in (Path(reference), Path(reference) / OF_RUN):
        if (folder / CARD_FILE).exists():
            return Chosen(critic=RewardModelConfig(path=str(folder))), None
    kind, _, value = reference.partition(":")
    config = config_of(kind)
    if config is None or not config.shorthand:
        raise RecipeError(
            f"--critic got {reference!r}.",
            "Write one of reward:PATH, likelihood:FOLDER, recorded:PATH, recorded_grades:PATH, rule:PICK, "
            "multiple_choice:WEIGHTS, listwise:WEIGHTS, grade:WEIGHTS, cloze:WEIGHTS, the folder of a trained critic, or a "
            ".yaml file: critic settings or a recipe.",
        )
    return validate(Chosen, {"critic": config.tree(value)}, f"Critic {reference}"), None


def _in_file(path: Path) -> tuple[Chosen, Path]:
    tree = read_yaml(path, "Critic")
    beside: dict[str, Any] = {name: tree.pop(name) for name in ("prices", "budget") if name in tree}
    if "kind" not in tree and _RECIPE & tree.keys():
        beside |= {"task": tree["task"]} if "task" in tree else {}
        tree = tree.get("critic") or {}
        tree.setdefault("kind", "reward")
    chosen = validate(Chosen, {"critic": tree, **beside}, f"Critic {path}")
    if chosen.critic.trained_in_run:
        raise RecipeError(f"The critic of {path} is trained in a run.", "Name the run's folder instead.")
    return chosen, path.parent


def own_critic(folder: Path, recipe: Mapping[str, Any]) -> str | None:
    """How to name the critic of the run in ``folder`` where it grades single texts; ``None`` where it only compares.

    That is the reward model which the run trained, or the trained one of its ``recipe``.
    """
    if (folder / OF_RUN / CARD_FILE).exists():
        return str(folder / OF_RUN)
    critic = recipe.get("critic") or {}
    return f"reward:{critic['path']}" if critic.get("kind") == "reward" else None


@contextmanager
def opened(references: Sequence[str], folder: Path, task: str = DEFAULT_TASK) -> Iterator[list[Loaded]]:
    """The critics that ``references`` name (see :func:`opened_settings`)."""
    with opened_settings([critic_settings(reference) for reference in references], folder, task) as critics:
        yield critics


@contextmanager
def opened_settings(
    named: Sequence[tuple[Chosen, Path | None]], folder: Path, task: str = DEFAULT_TASK
) -> Iterator[list[Loaded]]:
    """The critics of ``named`` (each with the folder its relative paths start from). Floors of agreement are ignored,
    because this function is used to measure critics.

    Answers of language models are kept in ``folder``, so that asking again is free. ``task`` says what they are asked,
    unless a recipe does.
    """
    with ExitStack() as stack:
        shared: Calls | None = None
        critics: list[Loaded] = []
        for chosen, base in named:
            calls = None
            if chosen.critic.models():
                shared = shared or stack.enter_context(_calls_in(folder))
                calls = replace(shared, base=base, prices=chosen.prices, budget=chosen.budget)
            context = BuildContext(base, Task.load(chosen.task or task, base), calls, measuring=True)
            critics.append(Loaded(chosen.critic.build(context), calls.store if calls else None))
        yield critics


@contextmanager
def _calls_in(folder: Path) -> Iterator[Calls]:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Calls.open(folder) as calls:
        yield calls


def open_critic(reference: str) -> Critic:
    """As :func:`opened`, for one critic that asks no language model. Raises :class:`RecipeError` for one that does."""
    chosen, base = critic_settings(reference)
    if chosen.critic.models():
        raise RecipeError(
            f"{reference} asks a language model, which is not possible here.", "Use reward or reward:FOLDER."
        )
    return chosen.critic.build(BuildContext(base, Task.load(chosen.task or DEFAULT_TASK, base), measuring=True))
