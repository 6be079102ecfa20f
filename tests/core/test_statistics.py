"""Statistics by hand (numbers a reader can check) and by law (swap symmetry, intervals hold their estimate)."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quipwright.core.statistics import (
    Estimate,
    JudgedPair,
    agreement,
    agreement_by_margin,
    audit,
    bootstrap_mean,
    calibration,
    holm,
    human_ceiling,
    krippendorff_alpha,
    length_bias,
    length_controlled_win_rate,
    length_slope,
    mcnemar,
    paired_bootstrap,
    position_bias,
    self_preference,
    share,
    sign_flip_test,
    soft_scores,
    wilson,
    win_rate_readings,
    win_tie_loss,
)
from quipwright.core.statistics.logistic import fit

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
    found = win_rate_readings(FIRST, SECOND)
    counts = [(r.wins, r.ties, r.losses) for r in (found.strict, found.tolerant, found.per_order, found.verdict)]
    assert counts == [(2, 1, 2), (2, 2, 1), (2, 1, 2), (1, 3, 1)]
    rates = [r.win_tie_rate for r in (found.strict, found.tolerant, found.per_order, found.verdict)]
    assert rates == pytest.approx([0.6, 0.8, 0.6, 0.8])
    assert found.tolerant.win_rate == pytest.approx(0.4)
    assert found.tolerant.tie_rate == pytest.approx(0.4)
    assert found.tolerant.loss_rate == pytest.approx(0.2)
    assert found.verdict.score == pytest.approx(0.5)


def test_per_order_counts_showings_as_halves() -> None:
    found = win_rate_readings([0.9, 0.9, 0.5], [0.9, 0.1, 0.1]).per_order
    assert (found.wins, found.ties, found.losses, found.n) == (1.5, 0.5, 1.0, 3)


def test_rounding_does_not_break_a_tie() -> None:
    assert win_tie_loss([0.1 + 0.2 + 0.2, 0.5]).ties == 2
    assert win_tie_loss([0.45, 0.55, 0.449, 0.551], eps=0.05).ties == 2


def test_a_win_and_a_tie_are_no_win_under_the_verdict_rule() -> None:
    assert win_rate_readings([0.9], [0.5]).verdict.ties == 1


def test_unparsed_stand_apart_and_bound_both_ways() -> None:
    found = win_rate_readings([0.9, 0.9, None, 0.2], [0.9, None, None, 0.2])
    for reading in (found.strict, found.tolerant, found.per_order, found.verdict):
        assert (reading.wins, reading.ties, reading.losses, reading.unparsed, reading.n) == (1, 0, 1, 2, 2)
        assert reading.bounds == (0.25, 0.75)
        assert reading.interval == wilson(1, 2)


def test_nothing_parsed_is_unknown_not_zero() -> None:
    found = win_tie_loss([None, None])
    assert (found.n, found.win_tie_rate, found.score, found.bounds) == (0, None, None, (0, 1))
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
    found = bootstrap_mean(draws)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0151, abs=0.002)


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
        found = bootstrap_mean(values, clusters=clusters, resamples=500)
        assert found.value == pytest.approx(np.mean(values))
        if len(values) == 1 or (clusters and len(set(clusters)) == 1):
            assert (found.low, found.high) == (None, None)
        else:
            assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_bootstrap_is_the_same_every_time_and_moves_with_the_seed() -> None:
    values = list(np.random.default_rng(3).random(50))
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)


def test_bootstrap_of_two_values_has_three_means() -> None:
    # means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 40 % is 1/2 alone
    found = bootstrap_mean([0.0, 1.0], level=0.4)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
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
    found = paired_bootstrap(a, b)
    assert found.low > 0
    assert found.value == pytest.approx(0.02, abs=0.005)
    assert bootstrap_mean(a).low < bootstrap_mean(b).high  # unpaired, the two overlap
    assert sign_flip_test(a, b) < 0.001
    mirrored = paired_bootstrap(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


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


# --- length control ---------------------------------------------------------------------------------------------------

Y = [0.9, 0.8, 0.6, 0.4, 0.3, 0.7]
D = [6, 4, 1, -2, -5, 2]


def test_length_control_by_hand() -> None:
    plain = length_controlled_win_rate(Y, D, ridge=0, resamples=20)
    assert (plain.theta, plain.phi, plain.rate.value) == pytest.approx((0.28542082, 1.50047648, 0.57087471), abs=1e-8)
    assert plain.raw == pytest.approx(0.61666667, abs=1e-8)
    assert plain.std == 4.0
    ridged = length_controlled_win_rate(Y, D, resamples=20)
    found = (ridged.theta, ridged.phi, ridged.rate.value)
    assert found == pytest.approx((0.22974794, 0.52917077, 0.55718566), abs=1e-8)


def test_length_control_leaves_unparsed_out() -> None:
    found = length_controlled_win_rate([*Y[:3], None, *Y[3:]], [*D[:3], 999, *D[3:]])
    whole = length_controlled_win_rate(Y, D)
    assert (found.unparsed, found.rate) == (1, whole.rate)
    assert whole.rate.low < whole.rate.value < whole.rate.high


def test_length_control_draws_clusters_whole() -> None:
    rng = np.random.default_rng(6)
    y, d = rng.random(30).tolist(), rng.normal(0, 3, 30).tolist()
    blind = length_controlled_win_rate(y * 4, d * 4, resamples=400).rate
    whole = length_controlled_win_rate(y * 4, d * 4, clusters=list(range(30)) * 4, resamples=400).rate
    assert whole.high - whole.low == pytest.approx(2 * (blind.high - blind.low), rel=0.2)
    assert whole.value == blind.value


def test_equal_lengths_drop_the_term() -> None:
    found = length_controlled_win_rate(Y, [0.1] * 6, ridge=0, resamples=50)
    assert (found.std, found.phi) == (0, 0)
    assert found.rate.value == pytest.approx(found.raw)


def test_length_control_recovers_the_lead_a_length_bias_hides() -> None:
    rng = np.random.default_rng(7)
    d = rng.normal(2.5, 4, 2000)
    truth = 1 / (1 + np.exp(0.3 - 1.2 * np.tanh(d / d.std(ddof=1))))
    scores = rng.binomial(1, truth).astype(float).tolist()
    found = length_controlled_win_rate(scores, d.tolist(), resamples=300)
    assert found.raw > 0.5  # looks better than the baseline
    assert found.rate.value == pytest.approx(0.42556, abs=0.03)  # is not: sigmoid(-.3)
    assert found.rate.low < 0.42556 < found.rate.high < 0.5
    assert found.phi == pytest.approx(1.2, abs=0.2)


def test_separable_judgments_need_a_penalty() -> None:
    for scores in ([1.0] * 6, [1, 1, 1, 0, 0, 1]):
        with pytest.raises(ValueError, match="separable"):
            length_controlled_win_rate(scores, D, ridge=0)
        found = length_controlled_win_rate(scores, D, resamples=50)
        assert 0.5 < found.rate.value < 1


@quick
@given(st.lists(st.tuples(probability, st.integers(-30, 30)), min_size=2, max_size=25))
def test_length_control_mirrors_under_swap(rows: list[tuple[float, int]]) -> None:
    y, d = [p for p, _ in rows], [float(length) for _, length in rows]
    there = length_controlled_win_rate(y, d, resamples=60)
    back = length_controlled_win_rate([1 - p for p in y], [-length for length in d], resamples=60)
    assert there.rate.value + back.rate.value == pytest.approx(1, abs=1e-8)
    assert there.rate.low + back.rate.high == pytest.approx(1, abs=1e-8)
    assert there.phi == pytest.approx(back.phi, abs=1e-7)


@quick
@given(st.lists(st.tuples(probability, st.floats(-30, 30)), min_size=1, max_size=25), st.floats(0.5, 3))
def test_the_fit_stands_where_its_gradient_is_zero(rows: list[tuple[float, float]], ridge: float) -> None:
    y, d = np.array([p for p, _ in rows]), np.array([length for _, length in rows])
    found = length_controlled_win_rate(y.tolist(), d.tolist(), ridge=ridge, resamples=5)
    x = np.tanh(d / found.std) if found.std else np.zeros_like(d)
    residual = 1 / (1 + np.exp(-found.theta - found.phi * x)) - y
    assert residual.sum() + ridge * found.theta == pytest.approx(0, abs=1e-6)
    assert residual @ x + ridge * found.phi == pytest.approx(0, abs=1e-6)


def test_the_fit_descends_from_a_far_start() -> None:
    # a full Newton step from a saturated start overshoots, and never comes back
    x, y, weights = np.tanh(np.array([D]) / 4), np.array(Y), np.full((1, 6), 500.0)
    near, far = fit(x, y, weights, 0.01), fit(x, y, weights, 0.01, start=(9.0, -9.0))
    assert far == pytest.approx(near, abs=1e-7)


def test_nothing_to_fit_is_unknown() -> None:
    assert length_controlled_win_rate([None], [3]).rate == Estimate(None, None, None, 0, "bootstrap")
    one = length_controlled_win_rate([0.8], [3]).rate
    assert (one.n, one.low, one.high) == (1, None, None)
    assert 0.5 < one.value < 0.8
    assert length_slope([], []).value is None


def test_slope_is_per_unit_of_length() -> None:
    rng = np.random.default_rng(2)
    d = rng.integers(-10, 11, 1500).astype(float)
    y = rng.binomial(1, 1 / (1 + np.exp(-0.25 * d))).astype(float)
    words = length_slope(y.tolist(), d.tolist(), resamples=200)
    assert words.low < 0.25 < words.high
    assert words.value == pytest.approx(0.25, abs=0.04)
    letters = length_slope(y.tolist(), (5 * d).tolist(), resamples=200)
    assert letters.value == pytest.approx(words.value / 5)
    assert length_slope([0.2, 0.9], [4, 4]).value is None


# --- the audit of a critic --------------------------------------------------------------------------------------------

LENGTHS = [(12, 15), (15, 14), (9, 12), (20, 18), (10, 14)]
WORKED = [
    JudgedPair(first=f, second=s, people=(h,), length_a=a, length_b=b)
    for h, f, s, (a, b) in zip("ABABA", "ABBBB", "ABABB", LENGTHS, strict=True)
]


def test_agreement_by_hand() -> None:
    found = agreement(WORKED)
    assert (found.forward.value, found.backward.value, found.mean.value) == pytest.approx((0.6, 0.8, 0.7))
    assert (found.forward.low, found.forward.high) == wilson(3, 5)
    assert found.mean.method == "bootstrap"
    assert found.mean.n == 5


def test_position_and_length_bias_by_hand() -> None:
    assert position_bias(WORKED).changed.value == pytest.approx(0.2)
    # A shown first: A took 1 of 5; B shown first: B took 3 of 5
    assert position_bias(WORKED).first_rate.value == pytest.approx(0.4)
    found = length_bias(WORKED)
    assert (found.paper.forward.value, found.paper.backward.value) == pytest.approx((0.4, 0.2))
    assert found.paper.mean.value == pytest.approx(0.3)
    assert found.conditional.mean.n == 5  # people took the shorter in all five


def test_the_three_forms_of_length_bias_differ() -> None:
    pairs = [
        JudgedPair("B", "B", ("A",), 3, 9),  # shorter against longer: biased in every form
        JudgedPair("tie", "tie", ("A",), 3, 9),  # a tie: only BSM counts it
        JudgedPair("A", "A", ("B",), 3, 9),  # people took the longer: outside the conditional form
        JudgedPair("B", "B", ("A",), 5, 5),  # equal lengths are neither
        JudgedPair("A", "A", ("B",), 5, 5),
    ]
    found = length_bias(pairs)
    assert (found.paper.mean.value, found.paper.mean.n) == (0.2, 5)
    assert (found.not_shorter.mean.value, found.not_shorter.mean.n) == (0.4, 5)
    assert (found.conditional.mean.value, found.conditional.mean.n) == (0.5, 2)


def test_a_tie_against_a_win_is_a_change() -> None:
    pairs = [JudgedPair("A", "tie"), JudgedPair("tie", "tie"), JudgedPair("A", None)]
    found = position_bias(pairs)
    assert (found.changed.value, found.changed.n) == (0.5, 2)
    assert (found.first_rate.value, found.first_rate.n) == (1.0, 1)


def test_every_annotator_is_a_judgment_and_no_majority_is_taken() -> None:
    pairs = [
        JudgedPair("A", "A", ("A", "A", "B")),
        JudgedPair("B", "A", ("B", None, None)),
        JudgedPair("A", None, ("B",)),  # unparsed: left out
    ]
    found = agreement(pairs)
    assert (found.forward.value, found.forward.n) == (0.75, 4)
    assert found.backward.value == 0.5
    assert found.mean.value == 0.625


def test_agreement_by_margin_by_hand() -> None:
    pairs = [
        JudgedPair("A", "A", ("A", "A", "A")),
        JudgedPair("A", "B", ("B", "B", "A")),
        JudgedPair("A", "A", ("B", "B", "A")),
        JudgedPair("A", "A", ("A", "B")),  # no majority
    ]
    narrow, clear = agreement_by_margin(pairs)
    assert (narrow.margin, narrow.agreement.value, narrow.agreement.n) == (pytest.approx(1 / 3), 0.25, 2)
    assert (clear.margin, clear.agreement.value, clear.agreement.n) == (1.0, 1.0, 1)


def test_ceiling_by_hand() -> None:
    # A A B: pairwise 1 of 3; left out: A meets a split A B (1/2), twice, and B meets A A (0)
    found = human_ceiling([JudgedPair("A", "A", ("A", "A", "B")), JudgedPair("A", "A", ("B",))])
    assert found.pairwise.value == pytest.approx(1 / 3)
    assert found.leave_one_out.value == pytest.approx(1 / 3)
    assert (found.pairwise.n, found.leave_one_out.n) == (3, 3)
    both = human_ceiling([JudgedPair("A", "A", ("A", "A", "A")), JudgedPair("A", "A", ("B", "B", "A", "B"))])
    assert both.pairwise.value == pytest.approx((3 + 3) / (3 + 6))
    assert both.leave_one_out.value == pytest.approx((3 + 3) / (3 + 4))


def test_alpha_by_hand() -> None:
    # Krippendorff 2011, section C: four observers, twelve units, missing labels, nominal alpha .743
    rows = ["1233214 12...".replace(" ", ""), "1233224125.3", ".3332342251.", "123324412 51.".replace(" ", "")]
    units = [[None if row[u] == "." else row[u] for row in rows] for u in range(12)]
    found = krippendorff_alpha(units)
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.n == 11  # the twelfth unit has one label
    assert found.low < found.value < found.high <= 1
    # section A: two observers, ten units: observed 4/10; expected 2 * 14 * 6 / (20 * 19)
    two = krippendorff_alpha(list(zip("0100000010", "1110010000", strict=True)))
    assert two.value == pytest.approx(1 - 0.4 / (168 / 380))
    assert two.value == pytest.approx(0.095, abs=5e-4)


def test_alpha_where_chance_is_perfect_is_unknown() -> None:
    assert krippendorff_alpha([["A", "A"], ["A", "A", None]]) == Estimate(None, None, None, 2, "bootstrap")
    assert krippendorff_alpha([["A"], [None, None]]).n == 0


@quick
@given(st.lists(st.sampled_from("ABC"), min_size=2, max_size=15), st.integers(2, 4))
def test_alpha_is_one_for_full_agreement(labels: list[str], raters: int) -> None:
    found = krippendorff_alpha([[label] * raters + [None] for label in labels], resamples=100)
    assert found.value is None if len(set(labels)) == 1 else found.value == pytest.approx(1)


@quick
@given(st.lists(st.lists(st.sampled_from(["A", "B", "tie", None]), min_size=3, max_size=3), min_size=2, max_size=12))
def test_alpha_heeds_neither_names_nor_the_order_of_raters(units: list[list[str | None]]) -> None:
    renamed = {"A": "x", "B": "y", "tie": "z", None: None}
    one = krippendorff_alpha(units, resamples=20)
    other = krippendorff_alpha([[renamed[label] for label in reversed(unit)] for unit in units], resamples=20)
    assert (one.value is None) == (other.value is None)
    if one.value is not None:
        assert one.value == pytest.approx(other.value)
        assert one.value <= 1


def test_calibration_by_hand() -> None:
    pairs = [
        JudgedPair("A", "A", ("A", "B"), p_first=0.7, p_second=0.5),  # .6: right once, wrong once
        JudgedPair("B", "B", ("B",), p_first=0.1, p_second=0.1),  # .9 for B: right
        JudgedPair("A", "A", ("A",), p_first=None, p_second=0.9),  # unknown: left out
    ]
    found = calibration(pairs)
    undecided = calibration([JudgedPair("A", "B", ("B",), p_first=0.8, p_second=0.2)])
    assert (undecided.ece.value, undecided.bins[0].accuracy.value) == (0, 0.5)
    assert found.n == 3
    assert found.ece.value == pytest.approx((2 * abs(0.5 - 0.6) + abs(1 - 0.9)) / 3)
    # drawing either pair twice, or each once, comes to .1 as well: annotators of one pair stay together
    assert (found.ece.low, found.ece.high, found.ece.n) == (pytest.approx(0.1), pytest.approx(0.1), 3)
    assert (undecided.ece.low, undecided.ece.high) == (None, None)
    assert [(b.low, b.accuracy.value, b.accuracy.n) for b in found.bins] == [(0.6, 0.5, 2), (0.9, 1.0, 1)]
    assert [b.confidence for b in found.bins] == pytest.approx([0.6, 0.9])


def test_calibration_tells_honest_from_boastful_critics() -> None:
    rng = np.random.default_rng(4)
    truth = rng.random(600)
    votes = ["A" if u < p else "B" for u, p in zip(rng.random(600), truth, strict=True)]
    loud = [float(p > 0.5) * 0.98 + 0.01 for p in truth]
    honest, boastful = (
        calibration([JudgedPair("A", "A", (v,), p_first=p, p_second=p) for v, p in zip(votes, stated, strict=True)])
        for stated in (truth, loud)
    )
    assert (honest.ece.value or 0) < 2 * honest.floor
    assert boastful.ece.value == pytest.approx(0.99 - 0.75, abs=0.05)
    assert boastful.ece.low > 5 * boastful.floor
    assert calibration([]).ece == Estimate(None, None, None, 0, "bootstrap")


def test_self_preference_is_the_excess_over_people() -> None:
    pairs = [
        JudgedPair("A", "A", ("B",), own="A"),
        JudgedPair("B", "B", ("B",), own="B"),
        JudgedPair("B", "tie", ("A", "B"), own="B"),
        JudgedPair("A", "A", own="A"),  # no people: in the rate, not in the excess
        JudgedPair("A", "A", ("A",)),  # authorship unknown
        JudgedPair("A", None, ("A",), own="A"),
    ]
    found = self_preference(pairs)
    assert (found.rate.value, found.rate.n) == (pytest.approx((1 + 1 + 0.75 + 1) / 4), 4)
    assert (found.people.value, found.people.n) == (pytest.approx((0 + 1 + 0.5) / 3), 3)
    assert found.excess.value == pytest.approx((1 + 0 + 0.25) / 3)


def _critic(position: float, length: float, quality: float = 0.0, n: int = 400) -> list[JudgedPair]:
    """A critic whose log-odds for A are quality * (what people see) + length * words more + position if shown first."""
    rng = np.random.default_rng(11)
    seen, a, b = rng.normal(0, 1, n), rng.integers(5, 25, n), rng.integers(5, 25, n)

    def draw(logit: np.ndarray) -> list[str]:
        return ["A" if hit else "B" for hit in rng.random(n) < 1 / (1 + np.exp(-logit))]

    lean = quality * seen + length * (a - b)
    columns = (draw(lean + position), draw(lean - position), *(draw(1.5 * seen) for _ in range(3)))
    return [
        JudgedPair(f, s, people, int(x), int(y))  # type: ignore[arg-type]
        for f, s, *people, x, y in zip(*columns, a, b, strict=True)
        for people in [tuple(people)]
    ]


def test_audit_finds_a_position_bias_and_nothing_else() -> None:
    found = audit(_critic(position=1.0, length=0.0))
    first = 1 / (1 + np.exp(-1.0))
    # tolerances are three standard errors of 400 pairs
    assert found.position.first_rate.value == pytest.approx(first, abs=0.05)
    assert found.position.first_rate.low > 0.6
    assert found.position.changed.value == pytest.approx(first**2 + (1 - first) ** 2, abs=0.075)
    assert found.critic_slope.value == pytest.approx(0, abs=0.03)
    assert found.agreement.mean.value == pytest.approx(0.5, abs=0.05)


def test_audit_finds_a_length_bias_and_nothing_else() -> None:
    found = audit(_critic(position=0.0, length=0.2))
    assert found.critic_slope.value == pytest.approx(0.2, abs=0.04)
    assert found.critic_slope.low > 0.1
    assert found.people_slope.value == pytest.approx(0, abs=0.03)
    assert found.position.first_rate.value == pytest.approx(0.5, abs=0.05)
    # people are blind to length here, so half took the shorter of unequal pairs, and the critic mostly did not
    assert found.length.conditional.mean.low > 0.6
    assert found.length.paper.mean.value < 0.5 < found.length.conditional.mean.value
    unbiased = length_bias(_critic(position=0.0, length=0.0))
    assert unbiased.conditional.mean.value == pytest.approx(0.5, abs=0.1)


def test_audit_of_a_critic_as_good_as_a_person_reaches_the_ceiling() -> None:
    found = audit(_critic(position=0.0, length=0.0, quality=1.5))
    assert found.agreement.mean.value == pytest.approx(found.ceiling.pairwise.value, abs=0.04)
    assert [m.margin for m in found.by_margin] == pytest.approx([1 / 3, 1])
    assert found.by_margin[0].agreement.high < found.by_margin[1].agreement.low
    assert 0 < found.alpha.low < found.alpha.value < found.alpha.high < 1
    assert (found.pairs, found.judgments, found.unparsed) == (400, 1200, 0)


def test_audit_of_nothing_is_unknown_throughout() -> None:
    found = audit([JudgedPair(None, "A", ("A",))])
    assert (found.pairs, found.unparsed, found.judgments) == (1, 1, 1)
    for estimate in (found.agreement.mean, found.position.changed, found.length.paper.mean, found.critic_slope):
        assert (estimate.value, estimate.n) == (None, 0)
    assert audit([]).self_preference.rate.value is None
