"""How a recipe's students are evaluated."""

from __future__ import annotations

from pydantic import Field, field_validator

from quipwright.core.records import Split
from quipwright.core.settings import Settings
from quipwright.core.statistics import RESAMPLES
from quipwright.critics.config import CriticConfig, refuse_untrained
from quipwright.training.preference.candidates import DecodeSettings


class EvaluateSettings(Settings):
    """How students are compared. ``splits`` of the data; ``tie``: |s - 1/2| within it is a tie; ``best_of``: how many
    samples the best-of-N baselines draw (0 leaves them out); ``base``: also ask the untrained weights; ``students``: which
    of the run's students are evaluated (unset: all, each round's too); ``judges``: who judges beside the training critic;
    ``noise_floor``: they also judge two samples of a student against one another."""

    splits: tuple[Split, ...] = ("test",)
    students: tuple[str, ...] | None = Field(None, min_length=1, exclude_if=lambda chosen: chosen is None)
    decode: DecodeSettings = DecodeSettings()
    tie: float = Field(0.05, ge=0, lt=0.5)
    best_of: int = Field(6, ge=0)
    base: bool = True
    resamples: int = Field(RESAMPLES, ge=100)
    judges: tuple[CriticConfig, ...] = ()
    noise_floor: bool = Field(True, exclude_if=lambda wanted: wanted)

    @field_validator("judges")
    @classmethod
    def _ready(cls, judges: tuple[CriticConfig, ...]) -> tuple[CriticConfig, ...]:
        for judge in judges:
            refuse_untrained(judge)
        return judges
