"""From what a user writes (``reward``, ``rule:longer``, ``critic.yaml``) to a critic that judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from quipwright.core.config_files import read_yaml, validate
from quipwright.core.errors import RecipeError
from quipwright.core.settings import Settings
from quipwright.core.storage.files import disk_errors
from quipwright.critics.base import Critic
from quipwright.critics.cloze import Cloze, ClozeCritic
from quipwright.critics.heuristics import RuleSettings
from quipwright.critics.multiple_choice import MCP, MCPCritic
from quipwright.critics.panel import Panel, PanelCritic
from quipwright.critics.recorded import ReplaySettings
from quipwright.critics.reward_model.critic import CARD_FILE, RewardSettings
from quipwright.data.task import Task
from quipwright.llm.call_store import CallStore
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Budget, Price

OneCritic = RewardSettings | ReplaySettings | RuleSettings | MCP | Cloze | Panel
AnyCritic = Annotated[OneCritic, Field(discriminator="kind")]
# The setting that stands behind the colon: reward:FOLDER, recorded:FILE, rule:longer.
_SHORT = {"reward": "path", "recorded": "path", "rule": "pick"}
_RECIPE = {"critic", "data", "student", "teacher", "learn", "evaluate"}  # any of these keys makes a file a recipe
C = TypeVar("C", bound=OneCritic)
_ON_MODEL = ("mcp", "cloze")  # bare, they read the embedded weights; mcp:NAME reads local weights of that name


class Chosen(Settings):
    """A critic's settings, and what a recipe says beside them of calls that cost money and of the task."""

    critic: AnyCritic
    prices: dict[str, Price] = Field(default_factory=dict)
    budget: Budget = Budget()
    task: str | None = None


class Opened(list[Critic]):
    """Critics, and the store of their calls where any of them asks a language model."""

    store: CallStore | None = None


def critic_settings(reference: str) -> tuple[Chosen, Path | None]:
    """The critic that ``reference`` names and the folder its relative paths start from.

    ``reference`` is a kind, a kind and its main setting (``reward:FOLDER``, ``mcp:WEIGHTS``), the folder of a trained
    critic or of a run that trained one, a YAML file with ``kind`` in it (``prices`` and ``budget`` too), or a recipe,
    whose critic is meant. Raises :class:`RecipeError` for an unknown kind or setting.
    """
    if reference.endswith((".yaml", ".yml")):
        return _in_file(Path(reference))
    for folder in (Path(reference), Path(reference) / "critic"):
        if (folder / CARD_FILE).exists():
            return Chosen(critic=RewardSettings(path=str(folder))), None
    kind, _, value = reference.partition(":")
    if kind in _ON_MODEL:
        model = {"kind": "local", "weights": value or "embedded"}
        return validate(Chosen, {"critic": {"kind": kind, "model": model}}, f"Critic {reference}"), None
    if kind not in _SHORT:
        known = ", ".join(
            [*(f"{kind}:{name.upper()}" for kind, name in _SHORT.items()), *(f"{k}:WEIGHTS" for k in _ON_MODEL)]
        )
        raise RecipeError(
            f"--critic got {reference!r}.",
            f"Write one of {known}, the folder of a trained critic, or a .yaml file: critic settings or a recipe.",
        )
    tree = {"kind": kind, _SHORT[kind]: value} if value else {"kind": kind}
    return validate(Chosen, {"critic": tree}, f"Critic {reference}"), None


def _in_file(path: Path) -> tuple[Chosen, Path]:
    tree = read_yaml(path, "Critic")
    beside: dict[str, Any] = {name: tree.pop(name) for name in ("prices", "budget") if name in tree}
    if "kind" not in tree and _RECIPE & tree.keys():
        beside |= {"task": tree["task"]} if "task" in tree else {}
        tree = tree.get("critic") or {}
        tree.setdefault("kind", "reward")
        if tree["kind"] == "distilled":
            raise RecipeError(
                f"The critic of recipe {path} is distilled: it is trained in a run.", "Name the run's folder instead."
            )
    return validate(Chosen, {"critic": tree, **beside}, f"Critic {path}"), path.parent


def own_critic(folder: Path, recipe: Mapping[str, Any]) -> str | None:
    """How to name the critic of the run in ``folder`` where it grades single texts; ``None`` where it only compares.

    That is the copy which the run trained, or the trained one of its ``recipe``.
    """
    if (folder / "critic" / CARD_FILE).exists():
        return str(folder / "critic")
    critic = recipe.get("critic") or {}
    return f"reward:{critic['path']}" if critic.get("kind") == "reward" else None


@contextmanager
def opened(references: Sequence[str], folder: Path, task: str = "humour") -> Iterator[Opened]:
    """The critics that ``references`` name (see :func:`opened_settings`)."""
    with opened_settings([critic_settings(reference) for reference in references], folder, task) as critics:
        yield critics


@contextmanager
def opened_settings(
    named: Sequence[tuple[Chosen, Path | None]], folder: Path, task: str = "humour"
) -> Iterator[Opened]:
    """The critics of ``named`` (each with the folder its relative paths start from), whatever their cards claim:
    whoever measures a critic must be let in.

    Answers of language models are kept in ``folder``, so that asking again is free. ``task`` says what they are asked,
    unless a recipe does.
    """
    with ExitStack() as stack:
        calls: Calls | None = None
        critics = Opened()
        for chosen, base in named:
            settings = chosen.critic
            if isinstance(settings, MCP | Cloze | Panel):
                if calls is None:
                    with disk_errors(folder):
                        folder.mkdir(parents=True, exist_ok=True)
                    calls = stack.enter_context(Calls.open(folder))
                    critics.store = calls.store
                own = replace(calls, base=base, prices=chosen.prices, budget=chosen.budget)
                critics.append(_let_in(settings).open(own, Task.load(chosen.task or task, base)))
            else:
                critics.append(_without_calls(settings, base))
        yield critics


def asks(critic: Critic) -> bool:
    """Whether ``critic`` asks a language model, so that judging may cost money."""
    return isinstance(critic, MCPCritic | ClozeCritic | PanelCritic)


def open_critic(reference: str) -> Critic:
    """As :func:`opened`, for one critic that asks no language model. Raises :class:`RecipeError` for one that does."""
    chosen, base = critic_settings(reference)
    settings = chosen.critic
    if isinstance(settings, MCP | Cloze | Panel):
        raise RecipeError(
            f"{reference} asks a language model, which is not possible here.", "Use reward or reward:FOLDER."
        )
    return _without_calls(settings, base)


def _without_calls(settings: RewardSettings | ReplaySettings | RuleSettings, base: Path | None) -> Critic:
    return _let_in(settings).open(base)


def _let_in(settings: C) -> C:
    """``settings`` without the floor of any trained critic in it."""
    if isinstance(settings, RewardSettings):
        return settings.model_copy(update={"floor": 0.0})
    if isinstance(settings, Panel):
        return settings.model_copy(update={"critics": tuple(_let_in(member) for member in settings.critics)})
    return settings
