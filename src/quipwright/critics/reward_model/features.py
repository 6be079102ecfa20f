"""Plain features beside the learned score: is the text likely, does it give the literal away, does it copy it?

The base weights, without any adapter, read each text twice: after its literal (is it fluent and expected?) and before
it (can the literal be told from the text? that is faithfulness). The rest is word overlap. A ridge Bradley-Terry fit
(Bradley and Terry 1952) turns them into one score in nats of preference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from quipwright.core.settings import Settings
from quipwright.core.statistics import fit_logistic
from quipwright.core.text import n_dist, repetition, words
from quipwright.students.base import Prompted, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.scoring import score_rows

NAMES = (
    "given_literal",
    "gives_literal",
    "recall",
    "distance",
    "length",
    "novel",
    "repeats",
    "recall2",
    "distance2",
    "length2",
)
Matrix = np.ndarray


class FeatureWeights(Settings):
    """A fitted linear score: sum of weight * (feature - mean) / std, over :data:`NAMES`."""

    mean: tuple[float, ...] = Field(min_length=len(NAMES), max_length=len(NAMES))
    std: tuple[float, ...] = Field(min_length=len(NAMES), max_length=len(NAMES))
    weight: tuple[float, ...] = Field(min_length=len(NAMES), max_length=len(NAMES))

    def score(self, features: Matrix) -> Matrix:
        """One score a row of ``features`` (rows x features)."""
        return ((features - np.array(self.mean)) / np.array(self.std)) @ np.array(self.weight)


class FeatureReader:
    """Reads features with the base weights."""

    def __init__(
        self, weights: str, revision: str | None, forward: str, backward: str, base_dir: Path | None = None
    ) -> None:
        """Load the plain model; its adapters are fresh, so it is the base itself. ``forward`` (slot ``{literal}``)
        stands before a text, ``backward`` (slot ``{text}``) before a literal. ``base_dir``: where a relative folder of weights
        starts."""
        self.forward, self.backward = forward, backward
        self.reader = CausalStudent.open(StudentSettings(weights=weights, revision=revision), recipe_dir=base_dir)

    def read(self, literals: Sequence[str], texts: Sequence[str]) -> Matrix:
        """``rows x features``, in the order of :data:`NAMES`; likelihoods are nats a token."""
        forward = self._likelihood([self.forward.replace("{literal}", x) for x in literals], texts)
        backward = self._likelihood([self.backward.replace("{text}", y) for y in texts], literals)
        rows = []
        for literal, text, f, b in zip(literals, texts, forward, backward, strict=True):
            recall, distance, length, novel, repeats = lexical(literal, text)
            rows.append((f, b, recall, distance, length, novel, repeats, recall**2, distance**2, length**2))
        return np.array(rows, dtype=float).reshape(-1, len(NAMES))

    def _likelihood(self, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        order = sorted(range(len(texts)), key=lambda i: (len(prompts[i]) + len(texts[i]), i))
        scored = score_rows(self.reader, [Prompted(prompts[i], (texts[i],)) for i in order], 32)
        means = (scored.total[:, 0] / scored.tokens[:, 0]).tolist()
        likelihoods = [0.0] * len(texts)
        for place, i in enumerate(order):
            likelihoods[i] = means[place]
        return likelihoods


def lexical(literal: str, text: str) -> tuple[float, float, float, float, float]:
    """Recall of the literal's words, N-DIST, log length ratio, share of new words, share of repeated trigrams."""
    a, b = words(literal), words(text)
    mine, theirs = {w for w in a if w[0].isalnum()}, {w for w in b if w[0].isalnum()}
    recall = len(mine & theirs) / len(mine) if mine else 0.0
    novel = len(theirs - mine) / len(theirs) if theirs else 1.0
    return recall, n_dist(a, b), math.log((len(b) + 1) / (len(a) + 1)), novel, repetition(text)


def fit_features(
    features: Matrix, pairs: Sequence[tuple[int, int, float, float]], ridge: float = 10.0
) -> FeatureWeights:
    """Ridge Bradley-Terry fit; ``pairs`` are (i, j, P(i beats j), weight) over rows of ``features``."""
    mean, std = features.mean(0), features.std(0)
    std = np.where(std > 1e-4, std, 1.0)  # a feature that never varies says nothing
    i, j, target, weight = (np.array(column) for column in zip(*pairs, strict=True))
    z = (features - mean) / std
    w = fit_logistic(z[i.astype(int)] - z[j.astype(int)], target, weight, ridge)
    return FeatureWeights(mean=_plain(mean), std=_plain(std), weight=_plain(w))


def _plain(values: Matrix) -> tuple[float, ...]:
    return tuple(round(float(v), 6) for v in values)
