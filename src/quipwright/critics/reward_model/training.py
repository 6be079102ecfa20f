"""Training a distilled critic on verdicts."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from quipwright.core.errors import DataError, TrainingError
from quipwright.core.paths import resolve
from quipwright.core.progress import bar
from quipwright.core.records import content_hash
from quipwright.core.settings import Settings
from quipwright.core.statistics import wilson
from quipwright.core.storage.files import file_sha256
from quipwright.critics.active import Labelled
from quipwright.critics.reward_model.card import Calibration, RewardCard
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.features import fit_features, fit_logistic
from quipwright.critics.reward_model.figures import measure
from quipwright.critics.reward_model.groups import FreeComparisons, Group, grouped
from quipwright.critics.reward_model.model import RewardArchitecture, RewardModel
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.verdicts import VerdictRow, read_verdicts


class CriticTraining(Settings):
    """How a distilled critic is trained.

    The loss is Bradley-Terry on pairs plus ``grade_weight`` times an ordinal loss on grades. ``unjudged_weight``: pairs
    whose grades differ but that were never judged side by side. ``teacher_share``: what a verdict on a text of the
    teacher weighs beside one on two attempts (nothing by default: docs/critic.md says why). ``free_share``,
    ``free_weight`` and ``teacher_weight``: see
    ``FreeComparisons``, off by default (docs/critic.md says why). ``start``: a trained critic whose adapters, head and
    feature weights to go on from. ``features``: mix plain features in, fitted on ``feature_literals`` of the literals
    at most. ``calibration_share`` of the literals is kept out of the fit to set mix and cut points on. ``batch``
    literals a step.
    """

    verdicts: str = "bundled:verdicts.jsonl"
    teacher: RecordedTeacher | None = RecordedTeacher()
    architecture: RewardArchitecture = RewardArchitecture()
    epochs: int = Field(2, ge=1)
    batch: int = Field(6, ge=1)
    lr: float = Field(6e-4, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
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
    answers = settings.teacher.open(base).answers if settings.teacher is not None else {}
    critic.card = _with_figures(critic, [row for row in verdicts if row.split == "heldout"], answers)
    return critic


def fit_critic(
    verdicts: Sequence[VerdictRow], settings: CriticTraining, data_hash: str, base: Path | None = None
) -> RewardModelCritic:
    """A critic fitted and calibrated on ``verdicts``, not yet measured."""
    if not settings.teacher_share:  # what weighs nothing need not be read either
        verdicts = [row for row in verdicts if not row.with_teacher]
    fit, calibration = _parted(grouped(verdicts, settings.unjudged_weight, settings.teacher_share), settings)
    free = None
    if settings.teacher is not None and (settings.free_share or settings.teacher_weight):
        answers = settings.teacher.open(base).answers
        free = FreeComparisons(answers, settings.free_share, settings.free_weight, settings.teacher_weight)
    torch.manual_seed(settings.seed)
    begun = RewardModelCritic.load(resolve(settings.start, "Critic", base)) if settings.start else None
    model = begun.model if begun else RewardModel(settings.architecture)
    _fit(model, fit, free, settings)
    with torch.no_grad():  # what ships is bf16: measure what ships
        for parameter in model.trained().values():
            parameter.copy_(parameter.to(torch.bfloat16))
    critic = RewardModelCritic(
        model, RewardCard(architecture=model.architecture, data_hash=data_hash), f"reward:{data_hash[:8]}"
    )
    if begun:
        critic.card = critic.card.model_copy(update={"features": begun.card.features})
    critic.card = calibrated(critic, fit, calibration, free, settings)
    return critic


def copy_critic(labels: Sequence[Labelled], seed: int, settings: CriticTraining | None = None) -> RewardModelCritic:
    """A cheap copy of an expensive critic, fitted on the pairs it labelled; P(A better) is the soft target's side."""
    rows = [as_verdict(label) for label in labels]
    how = (settings or CriticTraining(teacher=None)).model_copy(update={"seed": seed})
    return fit_critic(rows, how, content_hash([row.model_dump() for row in rows]))


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


def calibrated(
    critic: RewardModelCritic,
    fit: Sequence[Group],
    calibration: Sequence[Group],
    free: FreeComparisons | None,
    settings: CriticTraining,
) -> RewardCard:
    """The card with feature weights (fitted on ``fit``), and mix, slope and cut points (on ``calibration``)."""
    rng = random.Random(settings.seed + 1)
    features = critic.card.features
    if settings.features and features is None:
        few = fit[: settings.feature_literals]  # a dozen weights need no more, and reading is slow
        literals, texts, pairs, _ = _flat([free.extend(g, rng) if free else g for g in few])
        features = fit_features(critic.read_features(literals, texts), pairs)
    card = critic.card.model_copy(update={"features": features})
    literals, texts, pairs, graded = _flat([free.extend(g, rng) if free else g for g in calibration])
    head = np.array(critic.head_scores(literals, texts))
    plain = features.score(critic.read_features(literals, texts)) if features else np.zeros(len(texts))
    x = np.stack([head, plain], 1)
    i, j, target, weight = (np.array(column) for column in zip(*pairs, strict=True))
    mix = fit_logistic(x[i.astype(int)] - x[j.astype(int)], target, weight, ridge=1.0)
    how = _grade_scale(x @ mix, graded, Calibration(mix=(float(mix[0]), float(mix[1]))))
    return card.model_copy(update={"calibration": how})


def _grade_scale(scores: np.ndarray, graded: Sequence[tuple[int, float, float]], start: Calibration) -> Calibration:
    """Slope and cut points of least ordinal log-loss on calibration grades; the cuts stay in order."""
    if not graded:
        return start
    index, grade, _ = (np.array(column) for column in zip(*graded, strict=True))
    s, target = scores[index.astype(int)], np.clip(grade[:, None] - np.arange(3), 0, 1)

    def cuts(p: np.ndarray) -> np.ndarray:
        return np.cumsum([p[1], np.exp(p[2]), np.exp(p[3])])

    def loss(p: np.ndarray) -> float:
        logit = np.exp(p[0]) * s[:, None] - cuts(p)
        return float((np.logaddexp(0, logit) - target * logit).mean() + 1e-3 * (p @ p))

    best = minimize(loss, np.array([0.0, 0.0, 0.3, 0.3]), method="L-BFGS-B").x
    c1, c2, c3 = (round(float(c), 6) for c in cuts(best))
    return start.model_copy(update={"slope": round(float(np.exp(best[0])), 6), "cuts": (c1, c2, c3)})


Flat = tuple[list[str], list[str], list[tuple[int, int, float, float]], list[tuple[int, float, float]]]


def _flat(groups: Sequence[Group]) -> Flat:
    """Literals and texts of all groups in one list, with pairs and grades renumbered to it."""
    literals: list[str] = []
    texts: list[str] = []
    pairs: list[tuple[int, int, float, float]] = []
    graded: list[tuple[int, float, float]] = []
    for group in groups:
        start = len(texts)
        literals += [group.literal] * len(group.texts)
        texts += group.texts
        pairs += [(start + i, start + j, target, weight) for i, j, target, weight in group.pairs]
        graded += [(start + i, grade, weight) for i, grade, weight in group.graded]
    return literals, texts, pairs, graded


def _with_figures(
    critic: RewardModelCritic, heldout: Sequence[VerdictRow], teacher: Mapping[str, Sequence[str]]
) -> RewardCard:
    figures = measure(critic, heldout, teacher)
    n = int(figures["n"])
    low, high = wilson(round(figures["agreement"] * n), n)
    found = {
        "agreement": figures["agreement"],
        "low": round(low, 4),
        "high": round(high, 4),
        "n": n,
        "figures": figures,
    }
    return critic.card.model_copy(update=found)


def _fit(model: RewardModel, groups: Sequence[Group], free: FreeComparisons | None, settings: CriticTraining) -> None:
    parameters = list(model.trained().values())
    optimiser = torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)
    per_epoch = math.ceil(len(groups) / settings.batch)
    total = per_epoch * settings.epochs
    rng = random.Random(settings.seed)
    step = 0
    model.train()
    with bar("Train critic", total, "steps") as advance:
        for _ in range(settings.epochs):
            order = rng.sample(range(len(groups)), len(groups))
            for start in range(0, len(groups), settings.batch):
                chosen = [groups[i] for i in order[start : start + settings.batch]]
                loss = group_loss(model, [free.extend(g, rng) if free else g for g in chosen], settings.grade_weight)
                if not math.isfinite(float(loss.detach())):
                    raise TrainingError(f"Critic step {step + 1}: loss {float(loss)}.", "Lower the learning rate.")
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
                for group in optimiser.param_groups:
                    group["lr"] = settings.lr * _schedule(step, total, settings.warmup)
                optimiser.step()
                step += 1
                advance(1, f"loss {float(loss.detach()):.3f}")
    model.eval()


def _schedule(step: int, total: int, warmup: float) -> float:
    warm = max(1, round(warmup * total))
    return (step + 1) / warm if step < warm else (total - step) / max(1, total - warm)


def group_loss(model: RewardModel, groups: Sequence[Group], grade_weight: float) -> Tensor:
    """Bradley-Terry plus ordinal loss of one step, summed over comparisons and averaged over literals."""
    scores = model(model.rows([g.literal for g in groups], [g.texts for g in groups]))
    cuts, device = model.cuts, scores.device
    total = scores.sum() * 0
    for row, group in enumerate(groups):
        if group.pairs:
            i, j, target, weight = (torch.tensor(own, device=device) for own in zip(*group.pairs, strict=True))
            total = total + bce(scores[row, i] - scores[row, j], target.float(), weight=weight.float(), reduction="sum")
        if group.graded and grade_weight:
            index, grade, weight = (torch.tensor(own, device=device) for own in zip(*group.graded, strict=True))
            # P(grade >= g) for g = 1, 2, 3; a mean grade between two whole ones is a soft target.
            target = (grade.float()[:, None] - torch.arange(3, device=device)).clamp(0, 1)
            logits = scores[row, index][:, None] - cuts
            total = total + grade_weight * (bce(logits, target, reduction="none").sum(-1) * weight / 3).sum()
    return total / len(groups)
