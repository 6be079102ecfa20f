"""Fitting what turns a reward model's scores into probabilities, on literals that its adapters were not fitted on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from quipwright.core.statistics import fit_logistic
from quipwright.critics.reward_model.card import Calibration, RewardCard
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.features import fit_features
from quipwright.critics.reward_model.groups import Compared, FreeComparisons, Graded, Group


def calibrated(
    critic: RewardModelCritic,
    fit: Sequence[Group],
    calibration: Sequence[Group],
    free: FreeComparisons | None,
    with_features: bool,
    seed: int,
) -> RewardCard:
    """The card with mix, slope and cut points, fitted on ``calibration``, and the weights of plain features, fitted on
    ``fit`` where the critic is to have features and brings none."""
    rng = random.Random(seed + 1)
    features = critic.card.features
    if with_features and features is None:
        literals, texts, pairs, _ = _flat([free.extend(g, rng) if free else g for g in fit])
        features = fit_features(critic.read_features(literals, texts), pairs)
    card = critic.card.model_copy(update={"features": features})
    literals, texts, pairs, graded = _flat([free.extend(g, rng) if free else g for g in calibration])
    head = np.array(critic.head_scores(literals, texts))
    plain = features.score(critic.read_features(literals, texts)) if features else np.zeros(len(texts))
    x = np.stack([head, plain], 1)
    i, j, target, weight = (np.array(column) for column in zip(*pairs, strict=True))
    mix = fit_logistic(x[i.astype(int)] - x[j.astype(int)], target, weight, penalty=1.0)
    scale = _grade_scale(x @ mix, graded, Calibration(mix=(float(mix[0]), float(mix[1]))))
    return card.model_copy(update={"calibration": scale})


def _grade_scale(scores: np.ndarray, graded: Sequence[Graded], start: Calibration) -> Calibration:
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


Flat = tuple[list[str], list[str], list[Compared], list[Graded]]


def _flat(groups: Sequence[Group]) -> Flat:
    """Literals and texts of all groups in one list, with pairs and grades renumbered to it."""
    literals: list[str] = []
    texts: list[str] = []
    pairs: list[Compared] = []
    graded: list[Graded] = []
    for group in groups:
        start = len(texts)
        literals += [group.literal] * len(group.texts)
        texts += group.texts
        pairs += [pair._replace(i=start + pair.i, j=start + pair.j) for pair in group.pairs]
        graded += [text._replace(text=start + text.text) for text in group.graded]
    return literals, texts, pairs, graded
