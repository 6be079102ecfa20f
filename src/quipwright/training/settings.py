"""How training runs: epochs, batches and the learning-rate schedule."""

from __future__ import annotations

import math

from pydantic import Field

from quipwright.core.settings import Settings


class TrainSettings(Settings):
    """How to train: ``batch_size`` rows a step, computed ``micro_batch_size`` at a time.

    The learning rate rises to ``lr`` over the first ``warmup_ratio`` of all steps, then falls linearly to 0. AdamW
    decays weight matrices by ``weight_decay``; norms and biases are spared. Gradients are clipped to the norm
    ``max_grad_norm``. ``dropout`` False trains with the network in evaluation mode, so that a policy equal to its
    reference has a DPO loss of exactly ln 2. ``save_every`` steps between states to resume from.
    """

    epochs: float = Field(2.0, gt=0)
    batch_size: int = Field(16, ge=1)
    micro_batch_size: int = Field(8, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    dropout: bool = False
    save_every: int = Field(20, ge=1)


def total_steps(rows: int, settings: TrainSettings) -> int:
    """Optimiser steps of a training run; an epoch's last step may hold fewer rows than the others."""
    return max(1, math.ceil(math.ceil(rows / settings.batch_size) * settings.epochs - 1e-9))


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """The learning rate of step ``step`` (from 0) of ``total``: linear warm-up, then linear decay to 0."""
    warm = round(settings.warmup_ratio * total)
    if step < warm:
        return settings.lr * (step + 1) / warm
    return settings.lr * (total - step) / max(1, total - warm)
