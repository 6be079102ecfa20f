"""Logistic regression on a length difference, with soft targets: the length-controlled win rate, the length slope."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from quipwright.core.statistics.intervals import (
    RESAMPLES,
    Estimate,
    Floats,
    chunks,
    cluster_index,
    percentiles,
    resampled,
)

_ITERATIONS = 200
_DIVERGED = 15.0  # log-odds; a finite optimum of real judgments lies far below


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """``rate`` is the win rate had both texts been equally long, beside ``raw``, the plain mean score.

    ``theta`` is the candidate's lead in log-odds at equal length; ``phi`` is what the judge pays for length:
    positive where the longer text is preferred. ``std`` is the length difference's, in the unit given.
    """

    rate: Estimate
    raw: float | None
    theta: float
    phi: float
    std: float
    unparsed: int


def length_controlled_win_rate(
    scores: Sequence[float | None],
    length_differences: Sequence[float],
    *,
    ridge: float = 1.0,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LengthControlled:
    """The win rate with length held equal: sigmoid(theta) of logit p = theta + phi * tanh(d / std(d)).

    ``scores[i]`` is the mean probability over both showings that the candidate is better (``None``: unparsed, left
    out and counted); ``length_differences[i]`` is candidate minus baseline, in words or characters.
    Source: Dubois et al. 2024 (AlpacaEval 2, glm_winrate). Departures: its per-instruction difficulty is fitted on its
    own 805 prompts and is left out; an L2 penalty of ``ridge`` / 2 times the squared parameters takes the place of
    cross-validated L1, since separable judgments have no finite optimum. Where all differences are equal the
    length term is dropped. The interval refits everything, std included, on each resample of inputs (or clusters).
    Raises ``ValueError`` for unlike lengths, scores outside [0, 1], or ``ridge`` 0 on separable judgments.
    """
    if len(scores) != len(length_differences):
        raise ValueError(f"{len(scores)} scores need as many length differences, got {len(length_differences)}")
    kept = [i for i, score in enumerate(scores) if score is not None]
    y = _targets([score for score in scores if score is not None])
    d = _lengths([length_differences[i] for i in kept])
    ids = None if clusters is None else [clusters[i] for i in kept]
    unparsed = len(scores) - len(kept)
    if not kept:
        return LengthControlled(Estimate(None, None, None, 0, "bootstrap"), None, 0.0, 0.0, 0.0, unparsed)
    one = np.ones((1, y.size))
    std = _weighted_std(d, one)
    fitted = fit(_scaled(d, std, squash=True), y, one, ridge)
    _require_finite_optimum(fitted, ridge)
    theta, phi = (float(value) for value in fitted[0])
    index = cluster_index(y.size, ids)
    low: float | None = None
    high: float | None = None
    if index.max() > 0:
        # inputs of one length difference share a prediction, so that their total and sum say all: exact, and few columns
        lengths, place = np.unique(d, return_inverse=True)
        sizes, sums = (_by_unit(index, place, values) for values in (np.ones(y.size), y))
        drawn = []
        for counts in resampled(int(index.max()) + 1, resamples, seed):
            weights = counts @ sizes
            means = (counts @ sums) / np.maximum(weights, 1)
            x = _scaled(lengths, _weighted_std(lengths, weights), squash=True)
            drawn.append(expit(fit(x, means, weights, ridge, start=(theta, phi))[:, 0]))
        low, high = percentiles(np.concatenate(drawn), level)
    rate = Estimate(float(expit(theta)), low, high, y.size, "bootstrap")
    return LengthControlled(rate, float(y.mean()), theta, phi, float(std[0]), unparsed)


def length_slope(
    preferences: Sequence[float],
    length_differences: Sequence[float],
    *,
    ridge: float = 1.0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Log-odds of preferring a text per unit that it is longer, by logistic regression with an intercept.

    ``preferences[i]`` in [0, 1] is the preference for text A of pair i and ``length_differences[i]`` the length of A
    minus that of B. ``ridge`` penalises intercept and slope of the standardised difference; the slope is given back
    per unit. ``None`` where lengths never differ. One preference per pair: the pair is the unit.
    """
    if len(preferences) != len(length_differences):
        raise ValueError(f"{len(preferences)} preferences need as many differences, got {len(length_differences)}")
    y, d = _targets(preferences), _lengths(length_differences)
    std = _weighted_std(d, np.ones((1, y.size))) if y.size else np.zeros(1)
    if std[0] == 0:
        return Estimate(None, None, None, y.size, "bootstrap")
    x = _scaled(d, std, squash=False)
    fitted = fit(x, y, np.ones((1, y.size)), ridge)
    _require_finite_optimum(fitted, ridge)
    # equal pairs are drawn as one group: the same bootstrap distribution from far fewer columns
    cells, counts = np.unique(np.stack([x[0], y]), axis=1, return_counts=True)
    rng, slopes = np.random.default_rng(seed), []
    for rows in chunks(resamples, counts.size):
        weights = rng.multinomial(y.size, counts / y.size, rows).astype(np.float64)
        slopes.append(fit(cells[:1], cells[1], weights, ridge, tuple(fitted[0]))[:, 1])
    low, high = percentiles(np.concatenate(slopes) / std[0], level)
    return Estimate(float(fitted[0, 1] / std[0]), low, high, y.size, "bootstrap")


def fit(x: Floats, y: Floats, weights: Floats, ridge: float, start: tuple[float, ...] = (0.0, 0.0)) -> Floats:
    """Intercept and slope of logit y = a + b x for each row of ``weights``; result (rows, 2).

    ``x`` is (rows or 1, n), ``y`` (n,) or (rows, n) in [0, 1], ``weights`` (rows, n). Minimises weighted cross-entropy plus
    ridge / 2 * (a^2 + b^2) by Newton steps shortened to ln(1 + r) / r, r = |x| |step|, which makes them descend from
    any start (Sun and Tran-Dinh 2019, generalised self-concordance); close to the optimum they are full steps.
    """
    if ridge < 0:
        raise ValueError(f"ridge must not be negative, got {ridge}")
    a = np.full(weights.shape[0], start[0], dtype=np.float64)
    b = np.full(weights.shape[0], start[1], dtype=np.float64)
    reach = float(np.sqrt(1 + np.max(x * x)))
    floor = 1e-12 * y.shape[-1]  # keeps the 2 x 2 system solvable where a resample has no spread and ridge is 0
    for _ in range(_ITERATIONS):
        p = expit(a[:, None] + b[:, None] * x)
        residual, curvature = weights * (p - y), weights * p * (1 - p)
        ga, gb = residual.sum(1) + ridge * a, (residual * x).sum(1) + ridge * b
        tilted = curvature * x
        haa, hab = curvature.sum(1) + ridge + floor, tilted.sum(1)
        hbb = (tilted * x).sum(1) + ridge + floor
        determinant = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        size = reach * np.hypot(da, db)
        damping = np.log1p(size) / np.maximum(size, 1e-300)
        damping[size == 0] = 1.0
        a, b = a - damping * da, b - damping * db
        if float(size.max()) < 1e-8:
            break
    return np.stack([a, b], axis=1)


def _by_unit(index: NDArray[np.int64], place: NDArray[np.int64], values: Floats) -> Floats:
    """Sums of ``values`` in a cell for each unit (row) and distinct length difference (column)."""
    cells = np.zeros((int(index.max()) + 1, int(place.max()) + 1))
    np.add.at(cells, (index, place), values)
    return cells


def _weighted_std(d: Floats, weights: Floats) -> Floats:
    """Standard deviation (ddof 1) of ``d`` for each row of ``weights``, 0 where all drawn values are equal; (rows,)."""
    total = weights.sum(1)
    centred = d - ((weights @ d) / total)[:, None]
    std = np.sqrt((weights * centred * centred).sum(1) / np.maximum(total - 1, 1))
    # equal values leave a rounding residue, which a division would blow up to +-1
    return np.where(std <= 1e-9 * max(1.0, float(np.abs(d).max())), 0.0, std)


def _scaled(d: Floats, std: Floats, *, squash: bool) -> Floats:
    x = np.where(std[:, None] > 0, d / np.where(std > 0, std, 1.0)[:, None], 0.0)
    return np.tanh(x) if squash else x


def _require_finite_optimum(fitted: Floats, ridge: float) -> None:
    if ridge == 0 and float(np.abs(fitted).max()) > _DIVERGED:
        raise ValueError("the judgments are separable: without a penalty the fit has no finite optimum; use ridge > 0")


def _targets(values: Sequence[float]) -> Floats:
    y = np.asarray(values, dtype=np.float64)
    if not np.all((y >= 0) & (y <= 1)):
        raise ValueError("scores must lie in 0..1")
    return y


def _lengths(values: Sequence[float]) -> Floats:
    d = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(d)):
        raise ValueError("length differences must be finite")
    return d
