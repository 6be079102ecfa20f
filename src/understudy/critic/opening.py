"""From what a user writes (``reward``, ``rule:longer``, ``critic.yaml``) to a critic that judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from understudy.critic import Critic
from understudy.critic.replay import ReplaySettings
from understudy.critic.reward import RewardSettings
from understudy.critic.rules import RuleSettings
from understudy.errors import RecipeError
from understudy.settings import Settings, read_yaml, validate

AnyCritic = Annotated[RewardSettings | ReplaySettings | RuleSettings, Field(discriminator="kind")]
# The setting that stands behind the colon: reward:FOLDER, recorded:FILE, rule:longer.
_SHORT = {"reward": "path", "recorded": "path", "rule": "pick"}


class _Holder(Settings):
    critic: AnyCritic


def critic_settings(reference: str) -> tuple[RewardSettings | ReplaySettings | RuleSettings, Path | None]:
    """The settings that ``reference`` names and the folder their relative paths start from.

    ``reference`` is a kind, a kind and its main setting (``reward:FOLDER``), or a YAML file with ``kind`` in it.
    Raises :class:`RecipeError` for an unknown kind or setting.
    """
    if reference.endswith((".yaml", ".yml")):
        path = Path(reference)
        return validate(_Holder, {"critic": read_yaml(path, "Critic")}, f"Critic {path}").critic, path.parent
    kind, colon, value = reference.partition(":")
    if kind not in _SHORT:
        known = ", ".join(f"{kind}:{name.upper()}" for kind, name in _SHORT.items())
        raise RecipeError(f"--critic got {reference!r}.", f"Write one of {known}, or a .yaml file of critic settings.")
    tree = {"kind": kind, _SHORT[kind]: value} if colon else {"kind": kind}
    return validate(_Holder, {"critic": tree}, f"Critic {reference}").critic, None


def open_critic(reference: str) -> Critic:
    """The critic that ``reference`` names, whatever its card claims: whoever measures a critic must be let in."""
    settings, base = critic_settings(reference)
    if isinstance(settings, RewardSettings):
        settings = settings.model_copy(update={"floor": 0.0})
    return settings.open(base)
