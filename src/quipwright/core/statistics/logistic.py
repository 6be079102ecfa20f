"""Logistic regression with soft targets, an L2 penalty of its own on each coefficient, and intervals that hold at the
edges, where all judgments agree or nearly do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from quipwright.core.statistics.intervals import Floats, Interval, normal_quantile

_ITERATIONS = 200
_BOUND = 30.0  # log-odds; a rate beyond it is 0 or 1 to 13 digits, and no finite optimum of real judgments lies there
_FLOOR = 1e-12  # keeps the Hessian invertible where every prediction is certain


def fit_logistic(
    x: Floats, target: Floats, weight: Floats | float, penalty: Floats | Sequence[float] | float
) -> Floats:
    """Coefficients b of logit p = x b; shape (k,).

    ``x`` is (n, k) (a column of ones is an intercept), ``target`` (n,) in [0, 1], ``weight`` (n,) or one number,
    ``penalty`` one number per coefficient or one for all. Minimises the sum of weight times cross-entropy plus
    penalty / 2 * b^2, by Newton steps shortened to ln(1 + r) / r, r = |x| |step|, which descend from any start (Sun and
    Tran-Dinh 2019, generalised self-concordance); close to the optimum they are full steps.
    Raises ``ValueError`` for a negative penalty, and where an unpenalised coefficient has no finite optimum.
    """
    ridge = np.broadcast_to(np.asarray(penalty, dtype=np.float64), x.shape[1:])
    if np.any(ridge < 0):
        raise ValueError(f"penalty must not be negative, got {penalty}")
    fitted = _minimum(x, target, weight, ridge, 0.0)
    free = ridge == 0  # a penalised coefficient is finite, however sure it makes the fit of some rows
    if float(np.abs(x[:, free] @ fitted[free]).max(initial=0.0)) > _BOUND:
        raise ValueError("the targets are separable: without a penalty the fit has no finite optimum; use penalty > 0")
    return fitted


def expit(x: Any) -> Any:
    """The logistic function of a number or an array."""
    from scipy.special import expit as sigmoid  # takes long to import

    return sigmoid(x)


def gradient(x: Floats, target: Floats, weight: Floats | float, penalty: Floats | float, b: Floats) -> Floats:
    """Gradient at ``b`` of what :func:`fit_logistic` minimises; shape (k,)."""
    return np.asarray(x.T @ (weight * (expit(x @ b) - target)) + penalty * b)


def profile_interval(
    x: Floats, target: Floats, penalty: Floats, place: int, *, dispersion: float = 1.0, level: float = 0.95
) -> Interval:
    """Interval of coefficient ``place``, in log-odds; an end is infinite where the data set no bound.

    Holds every value v that the score test or the likelihood-ratio test keeps, with the other coefficients refitted
    given v: min(score(v), deviance(v)) / dispersion <= chi-square quantile (1 degree of freedom). For an intercept
    alone the score test is Wilson's interval (Agresti 2013, sec. 1.4), and for a rate near 0 or 1 each test lacks what
    the other has: Wilson's upper end is below 0.975 at 18 of 20, the likelihood ratio's lower end above 0.9 at 20 of 20.
    ``dispersion``: see :func:`quipwright.core.statistics.intervals.dispersion`.
    """
    from scipy.optimize import brentq  # takes long to import

    bar = normal_quantile(level) ** 2 * dispersion
    best = _minimum(x, target, 1.0, penalty, 0.0)
    centre = float(np.clip(best[place], -_BOUND, _BOUND))
    least = _profiled(x, target, penalty, place, centre)[1]

    def excess(value: float) -> float:
        score, loss = _profiled(x, target, penalty, place, value)
        return min(score, 2 * (loss - least)) - bar

    def end(side: int) -> float:
        near, step = centre, 0.5
        while abs(far := centre + side * step) <= _BOUND:
            if excess(far) > 0:
                return float(brentq(excess, near, far, xtol=1e-10))
            near, step = far, 2 * step
        return side * np.inf

    return Interval(end(-1), end(1))


def _minimum(x: Floats, target: Floats, weight: Floats | float, penalty: Floats, offset: Floats | float) -> Floats:
    """The optimum of :func:`fit_logistic` with ``offset`` added to the logits; coefficients may run away."""
    b = np.zeros(x.shape[1])
    reach = float(np.sqrt((x * x).sum(1).max(initial=0.0)))
    for _ in range(_ITERATIONS):
        p = expit(offset + x @ b)
        slope = x.T @ (weight * (p - target)) + penalty * b
        step = np.linalg.solve(_hessian(x, weight * p * (1 - p), penalty), slope)
        size = reach * float(np.linalg.norm(step))
        b = b - step * (np.log1p(size) / size if size > 0 else 1.0)
        if size < 1e-10:
            break
    return b


def _profiled(x: Floats, target: Floats, penalty: Floats, place: int, value: float) -> tuple[float, float]:
    """Score statistic and penalised loss with coefficient ``place`` held at ``value`` and the others refitted."""
    others = np.delete(np.arange(x.shape[1]), place)
    b = np.full(x.shape[1], value)
    b[others] = _minimum(x[:, others], target, 1.0, penalty[others], value * x[:, place])
    logit = x @ b
    p = expit(logit)
    slope = float(x[:, place] @ (p - target) + penalty[place] * value)
    variance = np.linalg.inv(_hessian(x, p * expit(-logit), penalty))[place, place]
    loss = float((np.logaddexp(0, logit) - target * logit).sum() + (penalty * b * b).sum() / 2)
    return slope * slope * float(variance), loss


def _hessian(x: Floats, curvature: Floats, penalty: Floats) -> Floats:
    return np.asarray((x * curvature[:, None]).T @ x + np.diag(penalty + _FLOOR))
