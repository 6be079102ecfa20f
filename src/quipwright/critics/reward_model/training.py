"""Training a reward model on verdicts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from quipwright.core.errors import DataError
from quipwright.core.paths import resolve
from quipwright.core.progress import bar
from quipwright.core.records import content_hash
from quipwright.core.settings import Settings
from quipwright.core.statistics import wilson
from quipwright.core.storage.files import file_sha256
from quipwright.critics.active import Labelled
from quipwright.critics.reward_model.calibration import calibrated
from quipwright.critics.reward_model.card import RewardCard
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.figures import measure
from quipwright.critics.reward_model.groups import FreeComparisons, Group, grouped
from quipwright.critics.reward_model.model import RewardArchitecture, RewardModel
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.task import DEFAULT_TASK, Task
from quipwright.data.verdicts import VerdictRow, read_verdicts
from quipwright.students.batches import RankedBatch
from quipwright.training.loop import Hooks, optimise
from quipwright.training.settings import TrainSettings, total_steps


class CriticTraining(Settings):
    """How a reward model is trained.

    The loss is Bradley-Terry on pairs plus ``grade_weight`` times an ordinal loss on grades. ``unjudged_weight``: pairs
    whose grades differ but that were never judged side by side. ``teacher_share``: what a verdict on a text of the
    teacher weighs beside one on two attempts (nothing by default: docs/critic.md says why). ``free_share``,
    ``free_weight`` and ``teacher_weight``: see ``FreeComparisons``, off by default (docs/critic.md says why).
    ``task``: its ``student_prompt`` in the default style is used where the architecture names no prompt. ``start``: a
    trained critic whose adapters, head and feature weights to go on from. ``features``: mix plain features in, fitted on
    ``feature_literals`` of the literals at most. ``calibration_share`` of the literals is kept out of the fit to set mix
    and cut points on. ``batch_size`` literals a step; ``lr``, ``warmup_ratio``, ``weight_decay`` and ``max_grad_norm``
    as in ``TrainSettings``.
    """

    verdicts: str = "bundled:verdicts.jsonl"
    teacher: RecordedTeacher | None = RecordedTeacher()
    task: str = DEFAULT_TASK
    architecture: RewardArchitecture = RewardArchitecture()
    epochs: int = Field(2, ge=1)
    batch_size: int = Field(6, ge=1)
    lr: float = Field(6e-4, gt=0)
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    grade_weight: float = Field(1.5, ge=0)
    unjudged_weight: float = Field(0.5, ge=0)
    teacher_share: float = Field(0.0, ge=0, le=1)
    free_share: float = Field(0.0, ge=0, le=1)
    free_weight: float = Field(0.2, ge=0)
    teacher_weight: float = Field(0.0, ge=0)
    start: str | None = None
    features: bool = True
    feature_literals: int = Field(500, ge=1)
    calibration_share: float = Field(0.12, gt=0, lt=0.5)
    seed: int = Field(0, ge=0)

    @property
    def schedule(self) -> TrainSettings:
        """What the training loop is told."""
        same = {name: getattr(self, name) for name in ("lr", "warmup_ratio", "weight_decay", "max_grad_norm")}
        size = {"batch_size": self.batch_size, "micro_batch_size": self.batch_size}
        return TrainSettings(epochs=float(self.epochs), dropout=True, **size, **same)


def train_critic(settings: CriticTraining, base: Path | None = None) -> RewardModelCritic:
    """Train on the verdicts' ``train`` split, calibrate on a share of its literals kept out, measure on ``heldout``.

    The card carries the figures.
    """
    path = resolve(settings.verdicts, "Verdicts", base)
    return train_on(read_verdicts(path), settings, file_sha256(path)[:16], base)


def train_on(
    verdicts: Sequence[VerdictRow], settings: CriticTraining, data_hash: str, base: Path | None = None
) -> RewardModelCritic:
    """As :func:`train_critic`, on ``verdicts`` at hand. Raises :class:`DataError` where none is left to measure on."""
    if not any(row.split == "heldout" and row.verdict != "tie" and not row.with_teacher for row in verdicts):
        raise DataError("No held-out verdict on two attempts has a winner.", "Collect more verdicts.")
    critic = fit_critic([row for row in verdicts if row.split == "train"], settings, data_hash, base)
    answers = settings.teacher.open(base).texts if settings.teacher is not None else {}
    critic.card = _with_figures(critic, [row for row in verdicts if row.split == "heldout"], answers)
    return critic


def fit_critic(
    verdicts: Sequence[VerdictRow], settings: CriticTraining, data_hash: str, base: Path | None = None
) -> RewardModelCritic:
    """A critic fitted and calibrated on ``verdicts``, not yet measured."""
    if not settings.teacher_share:  # what weighs nothing need not be read either
        verdicts = [row for row in verdicts if not row.with_teacher]
    fit, calibration = _parted(grouped(verdicts, settings.unjudged_weight, settings.teacher_share), settings)
    free = _free_comparisons(settings, base)
    torch.manual_seed(settings.seed)
    started = RewardModelCritic.load(resolve(settings.start, "Critic", base)) if settings.start else None
    model = started.model if started else RewardModel(_architecture(settings, base), base)
    _fit(model, fit, free, settings)
    with torch.no_grad():  # what ships is bf16: measure what ships
        for parameter in model.trained().values():
            parameter.copy_(parameter.to(torch.bfloat16))
    features = started.card.features if started else None
    card = RewardCard(architecture=model.architecture, data_hash=data_hash, features=features)
    critic = RewardModelCritic(model, card, f"reward:{data_hash[:8]}")
    critic.card = calibrated(
        critic, fit[: settings.feature_literals], calibration, free, settings.features, settings.seed
    )
    return critic


def _architecture(settings: CriticTraining, base: Path | None) -> RewardArchitecture:
    if settings.architecture.prompt:
        return settings.architecture
    prompt = Task.load(settings.task, base).prompt_in()
    return RewardArchitecture.model_validate({**settings.architecture.model_dump(), "prompt": prompt})


def _free_comparisons(settings: CriticTraining, base: Path | None) -> FreeComparisons | None:
    if settings.teacher is None or not (settings.free_share or settings.teacher_weight):
        return None
    answers = settings.teacher.open(base).texts
    return FreeComparisons(answers, settings.free_share, settings.free_weight, settings.teacher_weight)


def copy_critic(labels: Sequence[Labelled], seed: int, settings: CriticTraining | None = None) -> RewardModelCritic:
    """A reward model fitted on the pairs that an expensive critic labelled."""
    rows = [as_verdict(label) for label in labels]
    seeded = (settings or CriticTraining(teacher=None)).model_copy(update={"seed": seed})
    return fit_critic(rows, seeded, content_hash([row.model_dump() for row in rows]))


def as_verdict(label: Labelled) -> VerdictRow:
    """``label`` as a verdict, the clearer the further its probability is from one half."""
    c, margin = label.comparison, abs(label.p_a - 0.5)
    verdict: Literal["a", "b", "tie"] = "tie" if margin == 0 else "a" if label.p_a > 0.5 else "b"
    strength = 1 if margin < 0.15 else 2 if margin < 0.35 else 3
    return VerdictRow(literal=c.literal, a=c.a, b=c.b, verdict=verdict, strength=strength)


def _parted(groups: Sequence[Group], settings: CriticTraining) -> tuple[list[Group], list[Group]]:
    """Groups to fit on and groups to calibrate on, drawn by the seed."""
    shuffled = random.Random(settings.seed).sample(list(groups), len(groups))
    kept = round(settings.calibration_share * len(groups))
    return shuffled[kept:], shuffled[:kept]


def _with_figures(
    critic: RewardModelCritic, heldout: Sequence[VerdictRow], teacher: Mapping[str, Sequence[str]]
) -> RewardCard:
    figures = measure(critic, heldout, teacher)
    n = int(figures["n"])
    low, high = wilson(round(figures["agreement"] * n), n)
    known = {"agreement": figures["agreement"], "low": round(low, 4), "high": round(high, 4), "n": n}
    return critic.card.model_copy(update={**known, "figures": figures})


@dataclass
class _Trainee:
    """The reward model as the training loop sees it."""

    module: nn.Module
    model: RewardModel

    def trainable(self) -> dict[str, nn.Parameter]:
        return self.model.trained()

    def save(self, folder: Path) -> None:
        self.model.save(folder)

    def load(self, folder: Path) -> None:
        self.model.restore(folder)


def _fit(model: RewardModel, groups: Sequence[Group], free: FreeComparisons | None, settings: CriticTraining) -> None:
    """Train ``model`` in place. Raises :class:`TrainingError` at the first loss that is not finite."""
    rng, schedule = random.Random(settings.seed), settings.schedule
    trainee = _Trainee(model, model)

    def loss(part: Sequence[int]) -> Tensor:
        chosen = [free.extend(groups[i], rng) if free else groups[i] for i in part]
        return group_loss(trainee.module, model, chosen, settings.grade_weight)

    sizes = [sum(map(len, group.texts)) for group in groups]
    with bar("Train critic", total_steps(len(groups), schedule), "steps") as step:
        optimise(trainee, loss, sizes, schedule, None, seed=settings.seed, hooks=Hooks(step_done=step))


def group_loss(
    forward: Callable[[RankedBatch], Tensor], model: RewardModel, groups: Sequence[Group], grade_weight: float
) -> Float[Tensor, " groups"]:
    """Bradley-Terry plus ordinal loss of each of ``groups``, summed over its comparisons and grades.

    ``forward`` scores a batch: ``model`` itself, or what the training loop has wrapped it in.
    """
    scores = forward(model.rows([g.literal for g in groups], [g.texts for g in groups]))
    losses = [
        _pair_loss(row, group) + grade_weight * _grade_loss(row, group, model.cuts)
        for row, group in zip(scores, groups, strict=True)
    ]
    return torch.stack(losses)


def _pair_loss(scores: Float[Tensor, " k"], group: Group) -> Float[Tensor, ""]:
    if not group.pairs:
        return scores.sum() * 0
    i, j, target, weight = (torch.tensor(column, device=scores.device) for column in zip(*group.pairs, strict=True))
    return bce(scores[i] - scores[j], target.float(), weight=weight.float(), reduction="sum")


def _grade_loss(scores: Float[Tensor, " k"], group: Group, cuts: Float[Tensor, " 3"]) -> Float[Tensor, ""]:
    if not group.graded:
        return scores.sum() * 0
    text, grade, weight = (torch.tensor(column, device=scores.device) for column in zip(*group.graded, strict=True))
    # P(grade >= g) for g = 1, 2, 3; a mean grade between two whole ones is a soft target.
    target = (grade.float()[:, None] - torch.arange(3, device=scores.device)).clamp(0, 1)
    logits = scores[text][:, None] - cuts
    return (bce(logits, target, reduction="none").sum(-1) * weight / 3).sum()
