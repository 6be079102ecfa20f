"""Statistics by hand (numbers a reader can check) and by law (swap symmetry, intervals hold their estimate)."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from quipwright.core.statistics import (
    Estimate,
    bootstrap_mean,
    holm,
    mcnemar,
    paired_bootstrap,
    share,
    sign_flip_test,
    soft_scores,
    wilson,
    win_rate_readings,
    win_tie_loss,
)

# candidate shown first: P(candidate); candidate shown second, the judge gave P(baseline) = .30 .60 .80 .50 .70
FIRST = [0.80, 0.55, 0.30, 0.50, 0.90]
SECOND = [1 - p for p in (0.30, 0.60, 0.80, 0.50, 0.70)]

probability = st.floats(0, 1, allow_nan=False)
maybe = st.one_of(st.none(), probability)
Maybe = float | None
quick = settings(max_examples=40)


# --- win, tie, loss ---------------------------------------------------------------------------------------------------


def test_soft_scores_are_the_mean_of_both_showings() -> None:
    assert soft_scores(FIRST, SECOND) == pytest.approx([0.75, 0.475, 0.25, 0.50, 0.60])


def test_four_readings_of_five_inputs() -> None:
    result = win_rate_readings(FIRST, SECOND)
    counts = [(r.wins, r.ties, r.losses) for r in (result.strict, result.tolerant, result.per_order, result.verdict)]
    assert counts == [(2, 1, 2), (2, 2, 1), (2, 1, 2), (1, 3, 1)]
    rates = [r.win_tie_rate for r in (result.strict, result.tolerant, result.per_order, result.verdict)]
    assert rates == pytest.approx([0.6, 0.8, 0.6, 0.8])
    assert result.tolerant.win_rate == pytest.approx(0.4)
    assert result.tolerant.tie_rate == pytest.approx(0.4)
    assert result.tolerant.loss_rate == pytest.approx(0.2)
    assert result.verdict.score == pytest.approx(0.5)


def test_per_order_counts_showings_as_halves() -> None:
    result = win_rate_readings([0.9, 0.9, 0.5], [0.9, 0.1, 0.1]).per_order
    assert (result.wins, result.ties, result.losses, result.n) == (1.5, 0.5, 1.0, 3)


def test_rounding_does_not_break_a_tie() -> None:
    assert win_tie_loss([0.1 + 0.2 + 0.2, 0.5]).ties == 2
    assert win_tie_loss([0.45, 0.55, 0.449, 0.551], eps=0.05).ties == 2


def test_a_win_and_a_tie_are_no_win_under_the_verdict_rule() -> None:
    assert win_rate_readings([0.9], [0.5]).verdict.ties == 1


def test_unparsed_stand_apart_and_bound_both_ways() -> None:
    result = win_rate_readings([0.9, 0.9, None, 0.2], [0.9, None, None, 0.2])
    for reading in (result.strict, result.tolerant, result.per_order, result.verdict):
        assert (reading.wins, reading.ties, reading.losses, reading.unparsed, reading.n) == (1, 0, 1, 2, 2)
        assert reading.bounds == (0.25, 0.75)
        assert reading.interval == wilson(1, 2)


def test_nothing_parsed_is_unknown_not_zero() -> None:
    result = win_tie_loss([None, None])
    assert (result.n, result.win_tie_rate, result.score, result.bounds) == (0, None, None, (0, 1))
    assert win_tie_loss([]).bounds == (0, 1)


def test_bad_probabilities_are_named() -> None:
    with pytest.raises(ValueError, match=r"probability 1 must lie in 0\.\.1 or be None, got 1\.5"):
        soft_scores([0.5, 1.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="same inputs, got 1 and 2"):
        soft_scores([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="got nan"):
        win_tie_loss([float("nan")])


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        win_tie_loss([0.5]).wins = 3  # type: ignore[misc]


@given(st.lists(st.tuples(maybe, maybe), max_size=20))
def test_swapping_candidate_and_baseline_mirrors_every_reading(answers: list[tuple[Maybe, Maybe]]) -> None:
    first, second = [a for a, _ in answers], [b for _, b in answers]
    # the candidate shown first is the baseline shown second
    there = win_rate_readings(first, second)
    back = win_rate_readings([_flip(b) for b in second], [_flip(a) for a in first])
    for rule in ("strict", "tolerant", "per_order", "verdict"):
        one, other = getattr(there, rule), getattr(back, rule)
        assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
        assert one.wins + one.ties + one.losses + one.unparsed == len(answers)
        if one.n:
            assert one.score + other.score == pytest.approx(1)
            assert one.win_tie_rate + other.win_tie_rate == pytest.approx(1 + one.tie_rate)
            assert one.interval.low <= one.win_tie_rate <= one.interval.high
            assert one.bounds.low <= one.win_tie_rate + 1e-12
            assert one.win_tie_rate - 1e-12 <= one.bounds.high


def _flip(p: Maybe) -> Maybe:
    return None if p is None else 1 - p


# --- intervals and tests ----------------------------------------------------------------------------------------------


def test_wilson_by_hand() -> None:
    assert wilson(65, 100) == pytest.approx((0.55254, 0.73636), abs=5e-6)
    assert wilson(0, 20) == pytest.approx((0, 0.16113), abs=5e-6)
    assert wilson(0, 20).low == 0
    assert wilson(20, 20).high == 1
    assert wilson(0, 0) == (0, 1)


def test_paper_sized_samples() -> None:
    low, high = wilson(50, 100)
    assert (high - low) / 2 == pytest.approx(0.098, abs=0.003)
    draws = [1.0] * 650 + [0.0] * 350
    result = bootstrap_mean(draws)
    assert result.high - result.low == pytest.approx(2 * 1.96 * 0.0151, abs=0.002)


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match=r"0\.\.n, got 3 of 2"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, level=95)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.5, 0.999))
def test_wilson_holds_its_estimate_and_mirrors(a: int, b: int, level: float) -> None:
    n = a + b
    low, high = wilson(a, n, level)
    assert 0 <= low <= high <= 1
    if n:
        assert low - 1e-12 <= a / n <= high + 1e-12
    assert wilson(b, n, level) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@quick
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.data())
def test_bootstrap_holds_its_estimate(values: list[float], data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    for clusters in (None, ids):
        result = bootstrap_mean(values, clusters=clusters, resamples=500)
        assert result.value == pytest.approx(np.mean(values))
        if len(values) == 1 or (clusters and len(set(clusters)) == 1):
            assert (result.low, result.high) == (None, None)
        else:
            assert result.low - 1e-9 <= result.value <= result.high + 1e-9


def test_bootstrap_is_the_same_every_time_and_moves_with_the_seed() -> None:
    values = list(np.random.default_rng(3).random(50))
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)


def test_bootstrap_of_two_values_has_three_means() -> None:
    # means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 40 % is 1/2 alone
    result = bootstrap_mean([0.0, 1.0], level=0.4)
    assert (result.low, result.value, result.high) == (0.5, 0.5, 0.5)
    assert bootstrap_mean([0.0, 1.0], level=0.6).low == 0.0


def test_clusters_widen_the_interval_of_copies() -> None:
    values = [float(v) for v in np.random.default_rng(0).random(40)]
    copies, ids = values * 4, list(range(40)) * 4
    plain, blind, clustered = bootstrap_mean(values), bootstrap_mean(copies), bootstrap_mean(copies, clusters=ids)
    assert (clustered.low, clustered.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    assert clustered.high - clustered.low == pytest.approx(2 * (blind.high - blind.low), rel=0.1)


def test_bootstrap_refuses_unknown_values() -> None:
    with pytest.raises(ValueError, match="leave unparsed ones out"):
        bootstrap_mean([0.5, float("nan")])
    with pytest.raises(ValueError, match="2 values need 2 cluster ids, got 1"):
        bootstrap_mean([0.5, 0.5], clusters=["a"])
    assert bootstrap_mean([]) == Estimate(None, None, None, 0, "bootstrap")


def test_pairing_sees_a_small_steady_lead() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(200)  # inputs differ a lot, the students differ by 0.02 on each
    a, b = (hard * 0.9 + 0.02 + rng.normal(0, 0.02, 200)).tolist(), (hard * 0.9).tolist()
    result = paired_bootstrap(a, b)
    assert result.low > 0
    assert result.value == pytest.approx(0.02, abs=0.005)
    assert bootstrap_mean(a).low < bootstrap_mean(b).high  # unpaired, the two overlap
    assert sign_flip_test(a, b) < 0.001
    mirrored = paired_bootstrap(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))


def test_sign_flips_by_hand() -> None:
    # differences 1, 2, 3: of 8 sign patterns, two reach |6|; of 1, 1, -1, |1| is reached by all
    assert sign_flip_test([1, 2, 3], [0, 0, 0]) == 2 / 8
    assert sign_flip_test([1, 1, 0], [0, 0, 1]) == 1
    assert sign_flip_test([0.5, 0.5], [0.5, 0.5]) == 1
    # one cluster of three flips together: nothing to learn from a single unit
    assert sign_flip_test([1, 2, 3], [0, 0, 0], clusters=["x"] * 3) == 1


def test_sampled_sign_flips_approach_the_exact_test() -> None:
    a = np.random.default_rng(5).normal(0.4, 1, 12).tolist()
    exact, sampled = sign_flip_test(a, [0.0] * 12), sign_flip_test(a, [0.0] * 12, resamples=4000)
    assert 0.02 < exact < 0.98
    assert sampled == pytest.approx(exact, abs=0.03)
    assert sampled != exact
    # forty wins of forty: no sampled flip comes near, yet the p-value is not 0
    assert sign_flip_test([1] * 40, [0] * 40, resamples=999) == 1 / 1000


@quick
@given(st.lists(st.integers(-6, 6), min_size=2, max_size=9))
def test_exact_sign_flips_are_the_permutation_test_of_scipy(tenths: list[int]) -> None:
    differences = [t / 10 for t in tenths]
    exact = permutation_test(
        (np.array(tenths),),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip_test(differences, [0.0] * len(tenths)) == pytest.approx(exact.pvalue)


def test_p_values_are_not_rounded() -> None:
    # 2 * 2^-40, which a formatter may print as < 0.001
    assert mcnemar(40, 0) == pytest.approx(2**-39, rel=1e-12)
    assert holm([2**-39, 0.5]) == (2**-38, 0.5)
    assert sign_flip_test([1] * 13, [0] * 13) == 2 / 2**13


def test_mcnemar_by_hand() -> None:
    assert mcnemar(14, 7) == pytest.approx(0.189247, abs=5e-7)
    assert mcnemar(7, 14) == mcnemar(14, 7)
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 / 2**5)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, running maximum .04 .06 .06 .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.9, 0.6]) == (1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(probability, min_size=1, max_size=12))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(raw: list[float]) -> None:
    adjusted = holm(raw)
    ordered = [adjusted[i] for i in np.argsort(raw, kind="stable")]
    assert ordered == sorted(ordered)
    for p, q in zip(raw, adjusted, strict=True):
        assert p <= q <= 1
    assert min(adjusted) == pytest.approx(min(1, min(raw) * len(raw)))
    assert adjusted[int(np.argmax(raw))] == max(adjusted)


def test_share_takes_wilson_for_single_judgments_and_where_nothing_varies() -> None:
    low, high = wilson(3, 4)
    assert share([1, 1, 0, 1]) == Estimate(0.75, low, high, 4, "wilson")
    assert share([1, 1, 0, 1], ["a", "b", "c", "d"]) == share([1, 1, 0, 1])
    # six agreeing judgments of two pairs are two units, not six
    assert share([1] * 6, [1, 1, 1, 2, 2, 2]) == Estimate(1.0, *wilson(2, 2), 6, "wilson")
    assert share([1, 0.5, 0.5, 1]).method == "bootstrap"
    assert share([1, 0, 1, 1], ["a", "a", "b", "b"]).method == "bootstrap"
    assert share([]) == Estimate(None, 0, 1, 0, "wilson")


def test_share_of_nearly_certain_scores_is_no_surer_than_wins_are() -> None:
    # the bootstrap of 20 scores between .998 and 1 never draws a loss, and ends at .9987
    near = np.linspace(0.998, 1, 20).tolist()
    assert bootstrap_mean(near).low > 0.998
    assert share(near).low == pytest.approx(wilson(20, 20).low, abs=0.01)
    # nineteen of twenty inputs with three answers each: still near Wilson's for 20 inputs, not 60
    result = share([1.0] * 57 + [0.0, 0.0, 0.0], [i // 3 for i in range(60)])
    assert (result.low, result.high) == pytest.approx(wilson(19, 20), abs=0.05)
    # away from the edges it is the bootstrap's
    scores = [i / 39 for i in range(40)]
    assert share(scores) == bootstrap_mean(scores)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.9, 0.95, 0.975])
@pytest.mark.parametrize("n", [20, 40, 100])
def test_share_covers_the_rate_of_a_nearly_certain_judge(n: int, rate: float) -> None:
    """300 draws of scores near 1 and near 0, of which the bootstrap alone holds 42 % at 20 inputs and a rate of 0.975."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        scores = np.where(rng.random(n) < rate, 1 - 0.001 * rng.random(n), 0.001 * rng.random(n))
        result = share(scores.tolist(), resamples=2000)
        held += result.low <= rate <= result.high
    assert held / 300 >= 0.9
