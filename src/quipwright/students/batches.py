"""The two tensor types that make one training loop: what goes in, and what a model says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ANCHOR = -1
"""Rank of a column that is not compared but may serve as target of an MLE term (the teacher's text)."""
CONTRAST = -2
"""Rank of a column that is not compared and not learnt: another prompt's response, by which KTO measures its reference
point."""


@dataclass(frozen=True)
class RankedBatch:
    """Prompts with k responses each, best first.

    ``prompt``/``prompt_mask``: token ids and which are real, right-padded. ``response``/``mask``: the same for the
    responses, end token included; a column without any real token is absent. ``rank``: 0 is best, equal ranks are
    ties, :data:`ANCHOR` and :data:`CONTRAST` are not compared.
    """

    prompt: Int[Tensor, "batch src"]
    prompt_mask: Bool[Tensor, "batch src"]
    response: Int[Tensor, "batch k tgt"]
    mask: Bool[Tensor, "batch k tgt"]
    rank: Int[Tensor, "batch k"]

    def to(self, device: torch.device) -> RankedBatch:
        """The same batch on ``device``."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class LogProbs:
    """What a model says of a batch: per response the summed log-probability in nats and the number of tokens scored.

    ``uniform`` is the sum over tokens of the mean log-probability over the vocabulary, which label smoothing needs.
    """

    total: Float[Tensor, "batch k"]
    tokens: Float[Tensor, "batch k"]
    uniform: Float[Tensor, "batch k"] | None = None

    def columns(self, start: int, stop: int) -> LogProbs:
        """The responses ``start`` to ``stop`` of every row."""
        uniform = None if self.uniform is None else self.uniform[:, start:stop]
        return LogProbs(self.total[:, start:stop], self.tokens[:, start:stop], uniform)

    def mean(self, alpha: float = 1.0) -> Float[Tensor, "batch k"]:
        """Length-normalised log-probability, total / tokens^alpha; 0 for an absent column."""
        return self.total / self.tokens.clamp(min=1) ** alpha
