"""From what a user writes (``reward``, ``rule:longer``, ``critic.yaml``) to a critic that judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from understudy.critic import Critic
from understudy.critic.cloze import Cloze
from understudy.critic.mcp import MCP
from understudy.critic.panel import Panel
from understudy.critic.replay import ReplaySettings
from understudy.critic.reward import RewardSettings
from understudy.critic.rules import RuleSettings
from understudy.errors import RecipeError
from understudy.llm.calls import Calls
from understudy.settings import Settings, read_yaml, validate
from understudy.store import disk_errors
from understudy.task import Task

OneCritic = RewardSettings | ReplaySettings | RuleSettings | MCP | Cloze | Panel
AnyCritic = Annotated[OneCritic, Field(discriminator="kind")]
# The setting that stands behind the colon: reward:FOLDER, recorded:FILE, rule:longer.
_SHORT = {"reward": "path", "recorded": "path", "rule": "pick"}
C = TypeVar("C", bound=OneCritic)
_ON_MODEL = ("mcp", "cloze")  # bare, they read the embedded weights; mcp:NAME reads local weights of that name


class _Holder(Settings):
    critic: AnyCritic


def critic_settings(reference: str) -> tuple[OneCritic, Path | None]:
    """The settings that ``reference`` names and the folder their relative paths start from.

    ``reference`` is a kind, a kind and its main setting (``reward:FOLDER``, ``mcp:WEIGHTS``), or a YAML file with
    ``kind`` in it. Raises :class:`RecipeError` for an unknown kind or setting.
    """
    if reference.endswith((".yaml", ".yml")):
        path = Path(reference)
        return validate(_Holder, {"critic": read_yaml(path, "Critic")}, f"Critic {path}").critic, path.parent
    kind, _, value = reference.partition(":")
    if kind in _ON_MODEL:
        model = {"kind": "local", "weights": value or "embedded"}
        return validate(_Holder, {"critic": {"kind": kind, "model": model}}, f"Critic {reference}").critic, None
    if kind not in _SHORT:
        known = ", ".join(
            [*(f"{kind}:{name.upper()}" for kind, name in _SHORT.items()), *(f"{k}:WEIGHTS" for k in _ON_MODEL)]
        )
        raise RecipeError(f"--critic got {reference!r}.", f"Write one of {known}, or a .yaml file of critic settings.")
    tree = {"kind": kind, _SHORT[kind]: value} if value else {"kind": kind}
    return validate(_Holder, {"critic": tree}, f"Critic {reference}").critic, None


@contextmanager
def opened(references: Sequence[str], folder: Path, task: str = "humour") -> Iterator[list[Critic]]:
    """The critics that ``references`` name, whatever their cards claim: whoever measures a critic must be let in.

    Answers of language models are kept in ``folder``, so that asking again is free. ``task`` says what they are asked.
    """
    with ExitStack() as stack:
        calls: Calls | None = None
        critics: list[Critic] = []
        for reference in references:
            settings, base = critic_settings(reference)
            if isinstance(settings, MCP | Cloze | Panel):
                if calls is None:
                    with disk_errors(folder):
                        folder.mkdir(parents=True, exist_ok=True)
                    calls = stack.enter_context(Calls.open(folder))
                critics.append(_let_in(settings).open(replace(calls, base=base), Task.load(task, base)))
            else:
                critics.append(_without_calls(settings, base))
        yield critics


def open_critic(reference: str) -> Critic:
    """As :func:`opened`, for one critic that asks no language model. Raises :class:`RecipeError` for one that does."""
    settings, base = critic_settings(reference)
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
