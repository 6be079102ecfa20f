"""A rate corrected for its judge's errors: by hand, by law, and whether the interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quipwright.core.statistics import Counts, corrected_rate, proportion

quick = settings(max_examples=60)


def test_correction_by_hand() -> None:
    result = corrected_rate(Counts(60, 100), Counts(90, 100), Counts(80, 100))
    assert result.corrected.value == pytest.approx((0.6 + 0.8 - 1) / (0.9 + 0.8 - 1))  # .4 / .7
    # With added observations q = 61.9207 / 103.8415 = .596300, Se = 91 / 102, Sp = 81 / 102, so p = .568895; variances
    # .0023182, .00094326 and .0016029: half = 1.96 sqrt(.0023182 + .3236 * .00094326 + .1859 * .0016029) / .686275
    # = .154364; centre = .568895 + 2 * 3.8415 * (.568895 * .00094326 - .431105 * .0016029) = .567709
    assert (result.corrected.low, result.corrected.high) == pytest.approx((0.413345, 0.722073), abs=2e-6)
    assert result.raw == proportion(60, 100)
    assert (result.sensitivity, result.specificity) == (proportion(90, 100), proportion(80, 100))


def test_a_judge_no_better_than_a_coin_is_refused() -> None:
    for hits in (50, 40):
        refused = corrected_rate(Counts(60, 100), Counts(50, 100), Counts(hits, 100)).corrected
        assert (refused.value, refused.low, refused.high) == (None, None, None)
    # barely better by the counts, not so with the added observations: anything is possible
    barely = corrected_rate(Counts(60, 100), Counts(1, 1), Counts(1, 100)).corrected
    assert (barely.value, barely.low, barely.high) == (0.0, 0.0, 1.0)


def test_nothing_measured_is_unknown() -> None:
    for counts in ((0, 9, 9), (9, 0, 9), (9, 9, 0)):
        assert corrected_rate(*(Counts(n, n) for n in counts)).corrected.value is None
    with pytest.raises(ValueError, match=r"0\.\.n, got 3 of 2"):
        corrected_rate(Counts(1, 2), Counts(3, 2), Counts(1, 2))


def test_the_correction_is_cut_to_the_unit_interval() -> None:
    # fewer wins than the judge's false ones alone would be: .1 < 1 - .8
    result = corrected_rate(Counts(10, 100), Counts(90, 100), Counts(80, 100)).corrected
    assert (result.value, result.low) == (0.0, 0.0)
    assert 0 < result.high < 0.2


counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))).map(lambda pair: Counts(*pair))


@quick
@given(counts, counts, counts)
def test_the_interval_holds_its_value_and_mirrors(rate: Counts, se: Counts, sp: Counts) -> None:
    there = corrected_rate(rate, se, sp).corrected
    back = corrected_rate(Counts(rate.n - rate.hits, rate.n), sp, se).corrected  # losses for wins
    assert (there.value is None) == (back.value is None) == (se.hits / se.n + sp.hits / sp.n <= 1)
    if there.value is not None:
        assert 0 <= there.low <= there.value <= there.high <= 1
        assert (there.value, there.low) == pytest.approx((1 - back.value, 1 - back.high), abs=1e-9)


@quick
@given(st.floats(0, 1), st.floats(0.6, 1), st.floats(0.6, 1))
def test_the_correction_undoes_the_judges_errors(p: float, se: float, sp: float) -> None:
    n = 10**6
    seen = p * se + (1 - p) * (1 - sp)
    result = corrected_rate(Counts(seen * n, n), Counts(se * n, n), Counts(sp * n, n)).corrected
    assert result.value == pytest.approx(p, abs=1e-6)
    # the fewer pairs the judge was measured on, the less is known
    fewer = corrected_rate(Counts(seen * n, n), Counts(se * 50, 50), Counts(sp * 50, 50)).corrected
    assert fewer.high - fewer.low > result.high - result.low


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [40, 200])
def test_the_interval_covers(n: int, p: float) -> None:
    """1,000 draws; the judge is right on 80 % of wins and 85 % of losses, which 40 pairs each have shown."""
    rng = np.random.default_rng(0)
    held = 0
    for wins, se, sp in zip(
        rng.binomial(n, p * 0.8 + (1 - p) * 0.15, 1000),
        rng.binomial(40, 0.8, 1000),
        rng.binomial(40, 0.85, 1000),
        strict=True,
    ):
        result = corrected_rate(Counts(int(wins), n), Counts(int(se), 40), Counts(int(sp), 40)).corrected
        held += result.low <= p <= result.high
    assert held / 1000 >= 0.92
