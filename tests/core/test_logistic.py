"""The logistic fit and the profile interval of a coefficient: numbers by hand, another optimiser, laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from quipwright.core.statistics import fit_logistic, wilson
from quipwright.core.statistics.logistic import gradient, profile_interval

Y = [0.9, 0.8, 0.6, 0.4, 0.3, 0.7]
D = [6, 4, 1, -2, -5, 2]

quick = settings(max_examples=40)


def test_worked_fits_with_and_without_penalties() -> None:
    x = np.stack([np.ones(6), np.tanh(np.array(D) / 4)], axis=1)
    y = np.array(Y)
    assert fit_logistic(x, y, 1.0, 0.0) == pytest.approx([0.28542082, 1.50047648], abs=1e-8)
    assert fit_logistic(x, y, 1.0, 1.0) == pytest.approx([0.22974794, 0.52917077], abs=1e-8)
    assert fit_logistic(x, y, 1.0, (0.0, 1.0)) == pytest.approx([0.39635409, 0.50812024], abs=1e-8)
    # a weight of 2 is the row twice
    assert fit_logistic(x, y, np.full(6, 2.0), 2.0) == pytest.approx(fit_logistic(x, y, 1.0, 1.0), abs=1e-9)


@quick
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.1, 5))
def test_the_fit_is_where_another_optimiser_ends(seed: int, k: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x, y, weight = rng.normal(0, scale, (12, k)), rng.random(12), rng.random(12) + 0.1
    penalty = rng.random(k) + 0.2

    def loss(b: np.ndarray) -> float:
        return float((weight * (np.logaddexp(0, x @ b) - y * (x @ b))).sum() + (penalty * b * b).sum() / 2)

    fitted = fit_logistic(x, y, weight, penalty)
    assert gradient(x, y, weight, penalty, fitted) == pytest.approx(np.zeros(k), abs=1e-8)
    assert fitted == pytest.approx(minimize(loss, np.zeros(k), tol=1e-12).x, abs=1e-4)
    # the gradient is the slope of the loss, here by central differences
    at, step = rng.normal(size=k), 1e-5
    slopes = [(loss(at + step * e) - loss(at - step * e)) / (2 * step) for e in np.eye(k)]
    assert gradient(x, y, weight, penalty, at) == pytest.approx(slopes, abs=1e-5)


def test_the_fit_descends_from_saturated_targets() -> None:
    # an undamped Newton step overshoots here: 1,000 rows that all but separate, hardly penalised
    x = np.concatenate([np.full(500, 8.0), np.full(499, -8.0), [-0.1]])[:, None]
    y = np.concatenate([np.ones(500), np.zeros(499), [1.0]])
    fitted = fit_logistic(x, y, 1.0, 1e-3)
    assert gradient(x, y, 1.0, 1e-3, fitted) == pytest.approx([0.0], abs=1e-9)
    assert 1 < fitted[0] < 2


def test_fit_recovers_known_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    truth = np.array([1.0, -0.5, 0.0])
    y = (rng.random(4000) < 1 / (1 + np.exp(-x @ truth))).astype(float)
    assert fit_logistic(x, y, np.ones(4000), 1.0) == pytest.approx(truth, abs=0.12)


def test_separable_targets_need_a_penalty() -> None:
    x = np.stack([np.ones(4), [-2.0, -1, 1, 2]], axis=1)
    with pytest.raises(ValueError, match="separable"):
        fit_logistic(x, np.array([0.0, 0, 1, 1]), 1.0, 0.0)
    with pytest.raises(ValueError, match="separable"):
        fit_logistic(x[:, :1], np.ones(4), 1.0, 0.0)
    # penalised, the slope b is where 2 (1 - sigmoid(b)) + 4 (1 - sigmoid(2 b)) = b: .5353 + .4713 = 1.0066
    assert fit_logistic(x, np.array([0.0, 0, 1, 1]), 1.0, (0, 1)) == pytest.approx([0, 1.0066], abs=1e-4)
    with pytest.raises(ValueError, match="must not be negative"):
        fit_logistic(x, np.ones(4), 1.0, -1.0)


def test_a_penalised_slope_may_be_as_sure_as_many_rows_make_it() -> None:
    x = np.concatenate([np.full(500, -1.0), np.full(500, 1.0), [12.0, -12.0]])
    b = fit_logistic(np.stack([np.ones(1002), x], axis=1), (x > 0).astype(float), 1.0, (0, 1))
    assert b[0] == pytest.approx(0, abs=1e-6)
    assert 1000 / (1 + math.exp(b[1])) == pytest.approx(
        b[1], abs=1e-3
    )  # the slope's equation; the two far rows add nothing
    assert 12 * b[1] > 30


def test_an_intercept_alone_gives_wilson_or_the_likelihood_ratio_whichever_is_wider() -> None:
    def ends(wins: int, n: int) -> tuple[float, float]:
        y = np.repeat([1.0, 0.0], [wins, n - wins])
        low, high = profile_interval(np.ones((n, 1)), y, np.zeros(1), 0)
        return float(expit(low)), float(expit(high))

    # 20 of 20: Wilson n / (n + z^2) = 20 / 23.84 lies below the likelihood ratio's exp(-z^2 / 2n) = 0.9084
    assert ends(20, 20) == pytest.approx((20 / 23.8415, 1.0), abs=1e-5)
    assert ends(0, 20) == pytest.approx((0.0, 1 - 20 / 23.8415), abs=1e-5)
    # 18 of 20: Wilson (0.6990, 0.9721); the likelihood ratio is z^2 = 3.8415 at 0.9826 (18 ln .9/p + 2 ln .1/(1 - p))
    low, high = ends(18, 20)
    assert low == pytest.approx(wilson(18, 20).low, abs=1e-8)
    assert 2 * (18 * math.log(0.9 / high) + 2 * math.log(0.1 / (1 - high))) == pytest.approx(3.8415, abs=1e-4)
    assert high == pytest.approx(0.9826, abs=1e-4)
