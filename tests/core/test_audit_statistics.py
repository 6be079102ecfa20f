"""The audit of a critic: agreement, bias, calibration and the ceiling, by hand, and critics of known faults."""

from __future__ import annotations

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
    calibration,
    human_ceiling,
    krippendorff_alpha,
    length_bias,
    position_bias,
    self_preference,
    wilson,
)

quick = settings(max_examples=40)

LENGTHS = [(12, 15), (15, 14), (9, 12), (20, 18), (10, 14)]
WORKED = [
    JudgedPair(first=f, second=s, people=(h,), length_a=a, length_b=b)
    for h, f, s, (a, b) in zip("ABABA", "ABBBB", "ABABB", LENGTHS, strict=True)
]


def test_agreement_by_hand() -> None:
    result = agreement(WORKED)
    assert (result.forward.value, result.backward.value, result.mean.value) == pytest.approx((0.6, 0.8, 0.7))
    assert (result.forward.low, result.forward.high) == wilson(3, 5)
    assert result.mean.method == "bootstrap"
    assert result.mean.n == 5


def test_position_and_length_bias_by_hand() -> None:
    assert position_bias(WORKED).changed.value == pytest.approx(0.2)
    # A shown first: A took 1 of 5; B shown first: B took 3 of 5
    assert position_bias(WORKED).first_rate.value == pytest.approx(0.4)
    result = length_bias(WORKED)
    assert (result.paper.forward.value, result.paper.backward.value) == pytest.approx((0.4, 0.2))
    assert result.paper.mean.value == pytest.approx(0.3)
    assert result.conditional.mean.n == 5  # people took the shorter in all five


def test_the_three_forms_of_length_bias_differ() -> None:
    pairs = [
        JudgedPair("B", "B", ("A",), 3, 9),  # shorter against longer: biased in every form
        JudgedPair("tie", "tie", ("A",), 3, 9),  # a tie: only BSM counts it
        JudgedPair("A", "A", ("B",), 3, 9),  # people took the longer: outside the conditional form
        JudgedPair("B", "B", ("A",), 5, 5),  # equal lengths are neither
        JudgedPair("A", "A", ("B",), 5, 5),
    ]
    result = length_bias(pairs)
    assert (result.paper.mean.value, result.paper.mean.n) == (0.2, 5)
    assert (result.not_shorter.mean.value, result.not_shorter.mean.n) == (0.4, 5)
    assert (result.conditional.mean.value, result.conditional.mean.n) == (0.5, 2)


def test_a_tie_against_a_win_is_a_change() -> None:
    pairs = [JudgedPair("A", "tie"), JudgedPair("tie", "tie"), JudgedPair("A", None)]
    result = position_bias(pairs)
    assert (result.changed.value, result.changed.n) == (0.5, 2)
    assert (result.first_rate.value, result.first_rate.n) == (1.0, 1)


def test_every_annotator_is_a_judgment_and_no_majority_is_taken() -> None:
    pairs = [
        JudgedPair("A", "A", ("A", "A", "B")),
        JudgedPair("B", "A", ("B", None, None)),
        JudgedPair("A", None, ("B",)),  # unparsed: left out
    ]
    result = agreement(pairs)
    assert (result.forward.value, result.forward.n) == (0.75, 4)
    assert result.backward.value == 0.5
    assert result.mean.value == 0.625


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
    result = human_ceiling([JudgedPair("A", "A", ("A", "A", "B")), JudgedPair("A", "A", ("B",))])
    assert result.pairwise.value == pytest.approx(1 / 3)
    assert result.leave_one_out.value == pytest.approx(1 / 3)
    assert (result.pairwise.n, result.leave_one_out.n) == (3, 3)
    both = human_ceiling([JudgedPair("A", "A", ("A", "A", "A")), JudgedPair("A", "A", ("B", "B", "A", "B"))])
    assert both.pairwise.value == pytest.approx((3 + 3) / (3 + 6))
    assert both.leave_one_out.value == pytest.approx((3 + 3) / (3 + 4))


def test_alpha_by_hand() -> None:
    # Krippendorff 2011, section C: four observers, twelve units, missing labels, nominal alpha .743
    rows = ["1233214 12...".replace(" ", ""), "1233224125.3", ".3332342251.", "123324412 51.".replace(" ", "")]
    units = [[None if row[u] == "." else row[u] for row in rows] for u in range(12)]
    result = krippendorff_alpha(units)
    assert result.value == pytest.approx(0.743, abs=5e-4)
    assert result.n == 11  # the twelfth unit has one label
    assert result.low < result.value < result.high <= 1
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
    result = krippendorff_alpha([[label] * raters + [None] for label in labels], resamples=100)
    assert result.value is None if len(set(labels)) == 1 else result.value == pytest.approx(1)


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
    result = calibration(pairs)
    undecided = calibration([JudgedPair("A", "B", ("B",), p_first=0.8, p_second=0.2)])
    assert (undecided.ece.value, undecided.bins[0].accuracy.value) == (0, 0.5)
    assert result.n == 3
    assert result.ece.value == pytest.approx((2 * abs(0.5 - 0.6) + abs(1 - 0.9)) / 3)
    # drawing either pair twice, or each once, comes to .1 as well: annotators of one pair stay together
    assert (result.ece.low, result.ece.high, result.ece.n) == (pytest.approx(0.1), pytest.approx(0.1), 3)
    assert (undecided.ece.low, undecided.ece.high) == (None, None)
    assert [(b.low, b.accuracy.value, b.accuracy.n) for b in result.bins] == [(0.6, 0.5, 2), (0.9, 1.0, 1)]
    assert [b.confidence for b in result.bins] == pytest.approx([0.6, 0.9])


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
    result = self_preference(pairs)
    assert (result.rate.value, result.rate.n) == (pytest.approx((1 + 1 + 0.75 + 1) / 4), 4)
    assert (result.people.value, result.people.n) == (pytest.approx((0 + 1 + 0.5) / 3), 3)
    assert result.excess.value == pytest.approx((1 + 0 + 0.25) / 3)


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
    result = audit(_critic(position=1.0, length=0.0))
    first = 1 / (1 + np.exp(-1.0))
    # tolerances are three standard errors of 400 pairs
    assert result.position.first_rate.value == pytest.approx(first, abs=0.05)
    assert result.position.first_rate.low > 0.6
    assert result.position.changed.value == pytest.approx(first**2 + (1 - first) ** 2, abs=0.075)
    assert result.critic_slope.value == pytest.approx(0, abs=0.03)
    assert result.agreement.mean.value == pytest.approx(0.5, abs=0.05)


def test_audit_finds_a_length_bias_and_nothing_else() -> None:
    result = audit(_critic(position=0.0, length=0.2))
    assert result.critic_slope.value == pytest.approx(0.2, abs=0.04)
    assert result.critic_slope.low > 0.1
    assert result.people_slope.value == pytest.approx(0, abs=0.03)
    assert result.position.first_rate.value == pytest.approx(0.5, abs=0.05)
    # people are blind to length here, so half took the shorter of unequal pairs, and the critic mostly did not
    assert result.length.conditional.mean.low > 0.6
    assert result.length.paper.mean.value < 0.5 < result.length.conditional.mean.value
    unbiased = length_bias(_critic(position=0.0, length=0.0))
    assert unbiased.conditional.mean.value == pytest.approx(0.5, abs=0.1)


def test_audit_of_a_critic_as_good_as_a_person_reaches_the_ceiling() -> None:
    result = audit(_critic(position=0.0, length=0.0, quality=1.5))
    assert result.agreement.mean.value == pytest.approx(result.ceiling.pairwise.value, abs=0.04)
    assert [m.margin for m in result.by_margin] == pytest.approx([1 / 3, 1])
    assert result.by_margin[0].agreement.high < result.by_margin[1].agreement.low
    assert 0 < result.alpha.low < result.alpha.value < result.alpha.high < 1
    assert (result.pairs, result.judgments, result.unparsed) == (400, 1200, 0)


def test_audit_of_nothing_is_unknown_throughout() -> None:
    result = audit([JudgedPair(None, "A", ("A",))])
    assert (result.pairs, result.unparsed, result.judgments) == (1, 1, 1)
    for estimate in (result.agreement.mean, result.position.changed, result.length.paper.mean, result.critic_slope):
        assert (estimate.value, estimate.n) == (None, 0)
    assert audit([]).self_preference.rate.value is None
