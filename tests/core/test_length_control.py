"""The length-controlled win rate and the slope of length: numbers by hand, laws, and coverage of the interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binom

from quipwright.core.statistics import (
    Estimate,
    LengthControlled,
    length_controlled_win_rate,
    length_slope,
    share,
    wilson,
)
from quipwright.core.statistics.intervals import dispersion

Y = [0.9, 0.8, 0.6, 0.4, 0.3, 0.7]
D = [6, 4, 1, -2, -5, 2]
RATES = (0.5, 0.8, 0.9, 0.95, 0.975)

probability = st.floats(0, 1, allow_nan=False)
quick = settings(max_examples=40)


# --- the interval -----------------------------------------------------------------------------------------------------


def test_dispersion_by_hand() -> None:
    units = np.arange(4)
    even = np.full(4, 0.5)
    assert dispersion(np.array([1.0, 0, 1, 0]), even, units) == 1  # wins and losses: what a coin has
    # half of them ties: variance 1/8, half of 1/4; (4 * 1/8 + 1) / (4 * 1/4 + 1), 1 being the unseen judgment
    assert dispersion(np.array([1.0, 0.5, 0.5, 0]), even, units) == pytest.approx(1.5 / 2)
    # two units that answer twice alike: 2, as for units that answer as one, (2^2 + 2^2) / 4
    assert dispersion(np.array([1.0, 1, 0, 0]), even, np.array([0, 0, 1, 1])) == 2
    assert dispersion(np.ones(4), np.ones(4), np.array([0, 0, 1, 1])) == 2  # nothing varies
    assert dispersion(np.array([1.0, 0, 1, 0]), even, np.zeros(4, dtype=int)) == 4  # one unit
    # scores of 0.999 prove no more than wins do
    near = np.linspace(0.998, 1, 20)
    assert dispersion(near, np.full(20, near.mean()), np.arange(20)) == pytest.approx(1, abs=0.03)


def _coverage(n: int, rate: float) -> float:
    """Exact: the chance that the interval of a binomial draw at equal lengths holds ``rate``."""
    held = [k for k in range(n + 1) if _holds(length_controlled_win_rate([1] * k + [0] * (n - k), [0] * n), rate)]
    return float(binom.pmf(held, n, rate).sum())


def _holds(controlled: LengthControlled, rate: float) -> bool:
    return controlled.rate.low <= rate <= controlled.rate.high


@pytest.mark.parametrize("rate", RATES)
def test_the_interval_covers_at_equal_lengths(rate: float) -> None:
    # no simulation: the sum over all outcomes of 20 inputs
    assert 0.92 <= _coverage(20, rate) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n", [40, 100])
def test_the_interval_covers_at_equal_lengths_of_many_inputs(n: int, rate: float) -> None:
    assert 0.92 <= _coverage(n, rate) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("longer", [0.0, 1.0])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n", [20, 40, 100])
def test_the_interval_covers_under_a_length_effect(n: int, rate: float, longer: float) -> None:
    """200 draws; lengths differ by ``longer`` standard deviations on average, each worth 1.5 log-odds to the judge."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        d = rng.normal(longer, 1, n)
        y = rng.random(n) < expit(logit(rate) + 1.5 * np.tanh(d / d.std(ddof=1)))
        held += _holds(length_controlled_win_rate(y.astype(float).tolist(), d.tolist()), rate)
    assert held / 200 >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", ["ties", "nearly certain", "three outputs an input"])
def test_the_interval_covers_soft_and_clustered_scores(kind: str, rate: float) -> None:
    rng = np.random.default_rng(0)
    held, times = 0, 3 if kind.startswith("three") else 1
    for _ in range(200):
        d = rng.normal(0.5, 1, 40)
        p = expit(logit(rate) + np.tanh(d / d.std(ddof=1)))
        u, rare = rng.random(40), np.minimum(p, 1 - p)
        y = (u < p).astype(float)
        if kind == "ties":
            y = np.where(u < p - rare / 2, 1.0, np.where(u < p + rare / 2, 0.5, 0.0))
        if kind == "nearly certain":
            y = 0.001 + 0.998 * y
        clusters = np.repeat(np.arange(40), times).tolist()
        controlled = length_controlled_win_rate(
            np.repeat(y, times).tolist(), np.repeat(d, times).tolist(), clusters=clusters
        )
        held += _holds(controlled, rate)
    assert held / 200 >= 0.92


# --- the length-controlled win rate -----------------------------------------------------------------------------------


def test_length_control_by_hand() -> None:
    controlled = length_controlled_win_rate(Y, D)
    # Ridge 1 on the slope alone, so the published example (ridge on both: 0.22974794, 0.52917077) does not apply. At
    # theta 0.39635409, phi 0.50812024 and x = tanh(d / 4) = .90515 .76159 .24492 -.46212 -.84828 .46212, p = sigmoid(
    # theta + phi x) is .70188 .68640 .62734 .54030 .49133 .65275: its sum is that of y, 3.7, and sum x (y - p) = phi.
    assert (controlled.theta, controlled.phi, controlled.rate.value) == pytest.approx(
        (0.39635409, 0.50812024, 0.59781138), abs=1e-8
    )
    p = np.array([0.70188, 0.68640, 0.62734, 0.54030, 0.49133, 0.65275])
    x = np.array([0.90515, 0.76159, 0.24492, -0.46212, -0.84828, 0.46212])
    assert p.sum() == pytest.approx(3.7, abs=2e-5)
    assert x @ (np.array(Y) - p) == pytest.approx(0.50812, abs=2e-5)
    assert (controlled.raw, controlled.std, controlled.unparsed) == (pytest.approx(0.61666667, abs=1e-8), 4.0, 0)


def test_the_intercept_is_not_drawn_to_one_half() -> None:
    # lengths that say nothing: 18 of 20 in both halves
    scores, lengths = [1.0] * 9 + [0.0] + [1.0] * 9 + [0.0], [3.0] * 10 + [-3.0] * 10
    controlled = length_controlled_win_rate(scores, lengths)
    assert (controlled.rate.value, controlled.phi) == (pytest.approx(0.9, abs=1e-9), pytest.approx(0, abs=1e-9))


def test_length_control_leaves_unparsed_out() -> None:
    controlled = length_controlled_win_rate([*Y[:3], None, *Y[3:]], [*D[:3], math.nan, *D[3:]])
    whole = length_controlled_win_rate(Y, D)
    assert (controlled.unparsed, controlled.rate) == (1, whole.rate)
    assert whole.rate.low < whole.rate.value < whole.rate.high


def test_copies_in_one_cluster_teach_nothing_new() -> None:
    rng = np.random.default_rng(6)
    y, d = rng.integers(0, 2, 30).astype(float).tolist(), rng.normal(0, 3, 30).tolist()
    once = length_controlled_win_rate(y, d).rate
    blind = length_controlled_win_rate(y * 4, d * 4).rate
    whole = length_controlled_win_rate(y * 4, d * 4, clusters=list(range(30)) * 4).rate
    assert whole.value == blind.value
    assert whole.high - whole.low == pytest.approx(once.high - once.low, rel=0.1)
    assert whole.high - whole.low == pytest.approx(2 * (blind.high - blind.low), rel=0.1)


def test_equal_lengths_give_the_raw_rate() -> None:
    controlled = length_controlled_win_rate(Y, [0.1] * 6)
    assert (controlled.std, controlled.phi, controlled.rate.value) == (0, None, controlled.raw)
    certain = length_controlled_win_rate([1.0] * 20, [7] * 20)
    assert (certain.rate.value, certain.raw, certain.theta, certain.phi) == (1.0, 1.0, math.inf, None)
    assert (certain.rate.low, certain.rate.high) == pytest.approx(wilson(20, 20), abs=1e-9)
    raw = share([1.0] * 20)
    assert (certain.rate.low, certain.rate.high) == pytest.approx((raw.low, raw.high), abs=1e-9)


@quick
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40))
def test_equal_lengths_hold_the_raw_interval(scores: list[float]) -> None:
    controlled, raw = length_controlled_win_rate(scores, [3] * len(scores)).rate, share(scores)
    assert controlled.value == raw.value
    assert controlled.low <= raw.low + 1e-9
    assert controlled.high >= raw.high - 1e-9


def test_all_ties_are_even_and_no_more_certain_than_the_raw_rate() -> None:
    for lengths in ([0.0] * 20, list(range(-10, 10))):
        controlled = length_controlled_win_rate([0.5] * 20, lengths)
        assert (controlled.rate.value, controlled.theta) == (pytest.approx(0.5), pytest.approx(0, abs=1e-9))
        assert controlled.rate.low <= wilson(10, 20).low + 1e-9


def test_all_wins_say_nothing_about_length() -> None:
    controlled = length_controlled_win_rate([1.0] * 20, list(range(-10, 10)))
    assert (controlled.rate.value, controlled.theta, controlled.phi, controlled.rate.high) == (1.0, math.inf, None, 1.0)
    # always the longer text too: at equal length anything from a third up would do
    longer = length_controlled_win_rate([1.0] * 20, list(range(20))).rate
    assert longer.low < controlled.rate.low < wilson(20, 20).low + 1e-9
    lost = length_controlled_win_rate([0.0] * 20, [-d for d in range(20)])
    assert (lost.rate.value, lost.theta, lost.rate.low) == (0.0, -math.inf, 0.0)
    assert lost.rate.high == pytest.approx(1 - longer.low)


def test_separable_judgments_stay_finite() -> None:
    # won exactly where longer: the length explains it all, and the rate at equal length is even
    controlled = length_controlled_win_rate([1.0] * 10 + [0.0] * 10, [4.0] * 10 + [-4.0] * 10)
    assert controlled.rate.value == pytest.approx(0.5)
    assert controlled.phi > 1
    assert 0 < controlled.rate.low < 0.3 < 0.7 < controlled.rate.high < 1


def test_length_control_recovers_the_lead_a_length_bias_hides() -> None:
    rng = np.random.default_rng(7)
    d = rng.normal(2.5, 4, 2000)
    truth = expit(-0.3 + 1.2 * np.tanh(d / d.std(ddof=1)))
    scores = rng.binomial(1, truth).astype(float).tolist()
    controlled = length_controlled_win_rate(scores, d.tolist())
    assert controlled.raw > 0.5  # looks better than the baseline
    assert controlled.rate.value == pytest.approx(0.42556, abs=0.03)  # is not: sigmoid(-.3)
    assert controlled.rate.low < 0.42556 < controlled.rate.high < 0.5
    assert controlled.phi == pytest.approx(1.2, abs=0.2)


@quick
@given(st.lists(st.tuples(probability, st.integers(-30, 30)), min_size=2, max_size=25))
def test_length_control_mirrors_under_swap(rows: list[tuple[float, int]]) -> None:
    y, d = [p for p, _ in rows], [float(length) for _, length in rows]
    there = length_controlled_win_rate(y, d)
    back = length_controlled_win_rate([1 - p for p in y], [-length for length in d])
    assert there.rate.low <= there.rate.value <= there.rate.high
    assert there.rate.value + back.rate.value == pytest.approx(1, abs=1e-8)
    assert there.rate.low + back.rate.high == pytest.approx(1, abs=1e-6)
    assert (there.phi is None) == (back.phi is None)
    if there.phi is not None:
        assert there.phi == pytest.approx(back.phi, abs=1e-7)


@quick
@given(st.lists(st.tuples(probability, st.floats(-30, 30)), min_size=2, max_size=25), st.floats(0.5, 3))
def test_the_point_stands_where_its_gradient_is_zero(rows: list[tuple[float, float]], ridge: float) -> None:
    y, d = np.array([p for p, _ in rows]), np.array([length for _, length in rows])
    controlled = length_controlled_win_rate(y.tolist(), d.tolist(), ridge=ridge)
    if controlled.phi is None:
        assert controlled.rate.value == controlled.raw
        return
    x = np.tanh(d / controlled.std)
    residual = expit(controlled.theta + controlled.phi * x) - y
    assert residual.sum() == pytest.approx(0, abs=1e-6)  # the intercept bears no penalty
    assert residual @ x + ridge * controlled.phi == pytest.approx(0, abs=1e-6)


def test_nothing_to_fit_is_unknown() -> None:
    nothing = length_controlled_win_rate([None], [3])
    assert nothing == LengthControlled(Estimate(None, None, None, 0, "likelihood"), None, None, None, None, 1)
    one = length_controlled_win_rate([0.8], [3])
    assert (one.rate.n, one.rate.value, one.phi) == (1, 0.8, None)
    assert one.rate.low <= wilson(0.8, 1).low + 1e-9
    assert one.rate.high >= wilson(0.8, 1).high - 1e-9


def test_length_control_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        length_controlled_win_rate([0.5, 0.5], [1, math.nan])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        length_controlled_win_rate([math.nan], [1])
    with pytest.raises(ValueError, match="2 scores need as many length differences, got 1"):
        length_controlled_win_rate([0.5, 0.5], [1])
    with pytest.raises(ValueError, match="ridge must be above 0"):
        length_controlled_win_rate(Y, D, ridge=0)


# --- the length slope -------------------------------------------------------------------------------------------------


def test_slope_is_per_unit_of_length() -> None:
    rng = np.random.default_rng(2)
    d = rng.integers(-10, 11, 1500).astype(float)
    y = rng.binomial(1, expit(-0.25 * -d)).astype(float)
    words = length_slope(y.tolist(), d.tolist())
    assert words.low < 0.25 < words.high
    assert words.value == pytest.approx(0.25, abs=0.04)
    letters = length_slope(y.tolist(), (5 * d).tolist())
    assert letters.value == pytest.approx(words.value / 5)
    assert letters.low == pytest.approx(words.low / 5)


def test_slope_at_the_edges_is_unknown_or_unbounded_not_zero() -> None:
    assert length_slope([], []).value is None
    assert length_slope([0.2, 0.9], [4, 4]).value is None
    assert length_slope([1, 1, 1], [1, 2, 3]) == Estimate(None, None, None, 3, "likelihood")
    # the longer always wins: above zero, and the penalty alone keeps it finite
    always = length_slope([1.0] * 10 + [0.0] * 10, [3.0] * 10 + [-3.0] * 10)
    assert 0 < always.low < always.value < always.high
