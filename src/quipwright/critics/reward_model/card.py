"""What is known of a trained reward model, and what turns its scores into probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.settings import Settings
from quipwright.critics.reward_model.features import FeatureWeights
from quipwright.critics.reward_model.model import RewardArchitecture

CARD_FILE = "critic.json"
OF_RUN = "critic"
"""The folder in a run's folder that holds the critic which the run trained."""


class Calibration(Settings):
    """How scores become probabilities, fitted on literals that neither the adapters nor the features were fitted on.

    Preference: score = ``mix[0]`` * head + ``mix[1]`` * features, P(A beats B) = s(score_A - score_B).
    Grades: P(grade >= g) = s(``slope`` * score - ``cuts[g - 1]``).
    """

    mix: tuple[float, float] = (1.0, 0.0)
    slope: float = 1.0
    cuts: tuple[float, float, float] = (0.0, 1.5, 3.0)


class RewardCard(Settings):
    """What is known of a trained critic. Shares are of held-out verdicts with a winner; ``figures`` are everything
    that training printed."""

    architecture: RewardArchitecture
    features: FeatureWeights | None = None
    calibration: Calibration = Calibration()
    agreement: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    data_hash: str = ""
    figures: dict[str, float] = Field(default_factory=dict)

    def signature(self, folder: Path) -> str:
        """How judgments of the critic in ``folder`` are signed."""
        return f"reward:{self.data_hash[:8] or folder.name}"

    def known(self) -> dict[str, Any]:
        """Agreement with its interval, the number of verdicts, and all figures of the training."""
        return {**self.figures, "agreement": self.agreement, "low": self.low, "high": self.high, "n": self.n}


def read_card(folder: Path) -> RewardCard:
    """The card of the reward model in ``folder``. Raises :class:`CriticError` where there is none."""
    try:
        return RewardCard.model_validate_json((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CriticError(
            f"{folder} holds no reward model: {reason}.", "Train one with quipwright train-critic."
        ) from None
