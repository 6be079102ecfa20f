"""What a judge pays for length: the win rate with length held equal, and the slope of preference on length."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from quipwright.core.statistics.intervals import Estimate, Floats, cluster_index, dispersion
from quipwright.core.statistics.logistic import expit, fit_logistic, profile_interval

# on the slope, in intervals: stops it from running away and no more (4.5 log-odds are one standard deviation of the
# prior this amounts to); a shrunken slope would leave its length effect in the rate where one side is longer on average
_FREE = 0.05


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """``rate`` is the win rate had both texts been equally long, beside ``raw``, the plain mean score.

    ``theta`` is the candidate's lead in log-odds at equal length, infinite where every score is 1 or every score 0.
    ``phi`` is what the judge pays for length, in log-odds: positive where the longer text is preferred; ``None`` where
    lengths never differ, or where all scores are 1 or all 0, which says nothing about length. ``std`` is the length
    difference's, in the unit given. All are ``None`` where nothing was parsed.
    """

    rate: Estimate
    raw: float | None
    theta: float | None
    phi: float | None
    std: float | None
    unparsed: int


def length_controlled_win_rate(
    scores: Sequence[float | None],
    length_differences: Sequence[float],
    *,
    ridge: float = 1.0,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> LengthControlled:
    """The win rate with length held equal: sigmoid(theta) of logit p = theta + phi * tanh(d / std(d)).

    ``scores[i]`` is the mean probability over both showings that the candidate is better (``None``: unparsed, left
    out and counted); ``length_differences[i]`` is candidate minus baseline, in words or characters.
    Source: Dubois et al. 2024 (AlpacaEval 2, glm_winrate). Departures: its per-instruction difficulty is fitted on its
    own 805 prompts and is left out; a penalty of ``ridge`` / 2 * phi^2 takes the place of cross-validated L1. The
    intercept is free, so that the rate is not drawn to 1/2. Where all differences are equal the rate is the raw one.

    The interval is :func:`profile_interval`'s for theta, scaled by the :func:`dispersion` of scores between inputs (or
    ``clusters``). A bootstrap would have no width where all win, and Wilson's interval belongs to the raw rate.
    Raises ``ValueError`` for unlike lengths, scores outside [0, 1], differences that are not finite or ridge <= 0.
    """
    if len(scores) != len(length_differences):
        raise ValueError(f"{len(scores)} scores need as many length differences, got {len(length_differences)}")
    kept = [i for i, score in enumerate(scores) if score is not None]
    y = _targets([score for score in scores if score is not None])
    d = _lengths([length_differences[i] for i in kept])
    ids = None if clusters is None else [clusters[i] for i in kept]
    unparsed = len(scores) - len(kept)
    if not kept:
        return LengthControlled(Estimate(None, None, None, 0, "likelihood"), None, None, None, None, unparsed)
    std, raw = _std(d), float(y.mean())
    x = _with_intercept(np.tanh(d / std)) if std > 0 else np.ones((y.size, 1))
    fitted = _fit(x, y, ridge)
    theta, phi = float(fitted[0]), float(fitted[1]) if std > 0 and np.isfinite(fitted[0]) else None
    value = float(expit(theta)) if phi is not None else raw
    spread = dispersion(y, expit(x @ fitted) if phi is not None else np.full(y.size, raw), cluster_index(y.size, ids))
    ends = profile_interval(x, y, _penalty(x, _FREE), 0, dispersion=spread, level=level)
    low, high = min(value, float(expit(ends.low))), max(value, float(expit(ends.high)))
    return LengthControlled(Estimate(value, low, high, y.size, "likelihood"), raw, theta, phi, std, unparsed)


def length_slope(
    preferences: Sequence[float], length_differences: Sequence[float], *, ridge: float = 1.0, level: float = 0.95
) -> Estimate:
    """Log-odds of preferring a text per unit that it is longer, by logistic regression with an intercept.

    ``preferences[i]`` in [0, 1] is the preference for text A of pair i and ``length_differences[i]`` the length of A
    minus that of B. ``ridge`` penalises the slope of the standardised difference; the slope is given back per unit.
    ``None`` where lengths never differ, or where every preference is 1 or every one 0. One preference per pair: the
    pair is the unit. Interval and errors as in :func:`length_controlled_win_rate`; an end is ``None`` where the data set
    no bound.
    """
    if len(preferences) != len(length_differences):
        raise ValueError(f"{len(preferences)} preferences need as many differences, got {len(length_differences)}")
    y, d = _targets(preferences), _lengths(length_differences)
    std = _std(d)
    if std == 0 or _one_sided(y):
        return Estimate(None, None, None, y.size, "likelihood")
    x = _with_intercept(d / std)
    fitted = _fit(x, y, ridge)
    spread = dispersion(y, expit(x @ fitted), np.arange(y.size))
    ends = profile_interval(x, y, _penalty(x, _FREE), 1, dispersion=spread, level=level)
    low, high = min(float(fitted[1]), ends.low) / std, max(float(fitted[1]), ends.high) / std
    return Estimate(
        float(fitted[1]) / std,
        low if np.isfinite(low) else None,
        high if np.isfinite(high) else None,
        y.size,
        "likelihood",
    )


def _fit(x: Floats, y: Floats, ridge: float) -> Floats:
    """Intercept and penalised slope; where the targets are all 1 or all 0, the limit: an infinite intercept."""
    if ridge <= 0:
        raise ValueError(f"ridge must be above 0, got {ridge}")
    if _one_sided(y):
        return np.array([np.inf if y[0] > 0.5 else -np.inf, *np.zeros(x.shape[1] - 1)])
    return fit_logistic(x, y, 1.0, _penalty(x, ridge))


def _one_sided(y: Floats) -> bool:
    """Whether all targets are 1 or all 0, but for a last bit."""
    return min(float(y.mean()), 1 - float(y.mean())) < 1e-9


def _penalty(x: Floats, slope: float) -> Floats:
    return np.array([0.0, slope])[: x.shape[1]]


def _with_intercept(x: Floats) -> Floats:
    return np.stack([np.ones(x.size), x], axis=1)


def _std(d: Floats) -> float:
    """Standard deviation (ddof 1) of ``d``; 0 where all values are equal."""
    if d.size < 2:
        return 0.0
    std = float(d.std(ddof=1))
    # equal values leave a rounding residue, which a division would blow up to +-1
    return 0.0 if std <= 1e-9 * max(1.0, float(np.abs(d).max())) else std


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
