"""The alternative annotator test: a worked example, the procedure written out anew as an oracle, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t

from quipwright.core.statistics import JudgedPair, LeftOut, alt_test

JUDGE = ["A", "B", "A", "B"]
PEOPLE = [("A", "A", "B"), ("B", "A", "B"), ("A", "A", "A"), ("A", "A", "B")]

quick = settings(max_examples=40)
label = st.sampled_from(["A", "B", "tie", None])
table = st.lists(st.tuples(label, label, label, label, label), min_size=3, max_size=15)


def test_alt_test_by_hand() -> None:
    result = alt_test(JUDGE, PEOPLE, epsilon=0.1, min_items=4)
    # Without the first annotator judge and annotator agree with the others equally often on all four items: the
    # difference is 0 throughout, below epsilon. Without the second (third) the judge agrees more often on item 2 (1):
    # differences 0 -1 0 0, mean -1/4, standard deviation 1/2, t = (-.25 - .1) / (.5 / 2) = -1.4 with 3 degrees of freedom
    p = 0.5 + (-1.4 / math.sqrt(3) / (1 + 1.4**2 / 3) - math.atan(1.4 / math.sqrt(3))) / math.pi
    assert p == pytest.approx(0.1280, abs=5e-5)
    # Benjamini-Yekutieli: times 3 / rank and 1 + 1/2 + 1/3 = 11/6, the running minimum from above: p * 11/6 for both
    q = p * 11 / 6
    assert result.annotators == (
        LeftOut(0, 4, 1.0, 1.0, 0.0, 0.0),
        LeftOut(1, 4, 1.0, 0.75, pytest.approx(p), pytest.approx(q)),
        LeftOut(2, 4, 1.0, 0.75, pytest.approx(p), pytest.approx(q)),
    )
    assert (result.winning_rate, result.advantage, result.passed) == (pytest.approx(1 / 3), 1.0, False)
    lenient = alt_test(JUDGE, PEOPLE, epsilon=0.1, alpha=0.25, min_items=4)
    assert (lenient.winning_rate, lenient.passed) == (1.0, True)


def test_too_few_items_or_annotators_are_unknown() -> None:
    short = alt_test(JUDGE, PEOPLE)
    assert (short.winning_rate, short.advantage, short.passed, short.annotators, short.too_few) == (
        None,
        None,
        None,
        (),
        3,
    )
    two = alt_test(JUDGE * 10, [labels[:2] for labels in PEOPLE] * 10)
    assert (two.winning_rate, two.passed, len(two.annotators)) == (None, None, 2)
    assert alt_test([], []).winning_rate is None


def test_unlabelled_items_and_lone_annotators_say_nothing() -> None:
    more = alt_test(
        [*JUDGE, None, "A", "A"], [*PEOPLE, ("A", "A", "A"), ("B", None, None), (None, "B", "A")], min_items=4
    )
    assert [one.items for one in more.annotators] == [4, 5, 5]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="same items, got 1 and 4"):
        alt_test(["A"], PEOPLE)
    with pytest.raises(ValueError, match="one place per annotator"):
        alt_test(["A", "A"], [("A", "B"), ("A",)])
    with pytest.raises(ValueError, match="epsilon must lie"):
        alt_test(JUDGE, PEOPLE, epsilon=-0.1)


@quick
@given(table, st.floats(0.01, 0.3))
def test_the_procedure_written_out_anew(rows: list[tuple[str | None, ...]], epsilon: float) -> None:
    judge, people = [row[0] for row in rows], [row[1:] for row in rows]
    result = alt_test(judge, people, epsilon=epsilon, min_items=3)
    expected, p_values = {}, []
    for j in range(4):
        f, h = [], []
        for verdict, labels in zip(judge, people, strict=True):
            others = [x for k, x in enumerate(labels) if k != j and x is not None]
            if verdict is None or labels[j] is None or not others:
                continue
            aligned = [sum(x == y for y in others) / len(others) for x in (verdict, labels[j])]
            f.append(aligned[0] >= aligned[1])
            h.append(aligned[1] >= aligned[0])
        if len(f) < 3:
            continue
        d = np.array(h, float) - np.array(f, float)
        spread = d.std(ddof=1)
        p = float(student_t.cdf((d.mean() - epsilon) / (spread / math.sqrt(d.size)), d.size - 1)) if spread else 0.0
        p_values.append(p if spread or d[0] < epsilon else 1.0)
        expected[j] = (len(f), np.mean(f), np.mean(h), p_values[-1])
    got = {a.annotator: (a.items, a.judge, a.person, a.p) for a in result.annotators}
    assert got == {j: pytest.approx(values) for j, values in expected.items()}
    # step-up: the most hypotheses k such that the k-th smallest p is at most k alpha / (m * harmonic number)
    m = len(p_values)
    harmonic = sum(1 / i for i in range(1, m + 1))
    rejected = max((k for k, p in enumerate(sorted(p_values), 1) if p <= k * 0.05 / (m * harmonic)), default=0)
    assert result.winning_rate == (pytest.approx(rejected / m) if m >= 3 else None)


@quick
@given(table)
def test_names_of_labels_and_order_of_annotators_do_not_matter(rows: list[tuple[str | None, ...]]) -> None:
    judge, people = [row[0] for row in rows], [row[1:] for row in rows]
    renamed = {"A": 1, "B": 2, "tie": 3, None: None}
    one = alt_test(judge, people, min_items=3)
    other = alt_test(
        [renamed[x] for x in judge], [[renamed[x] for x in labels[::-1]] for labels in people], min_items=3
    )
    assert one.winning_rate == other.winning_rate
    assert one.advantage == pytest.approx(other.advantage)
    assert [a.p for a in one.annotators] == pytest.approx([a.p for a in reversed(other.annotators)])


@quick
@given(table, st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_cheaper_judge_is_never_held_to_more(rows: list[tuple[str | None, ...]], a: float, b: float) -> None:
    judge, people = [row[0] for row in rows], [row[1:] for row in rows]
    strict, mild = (alt_test(judge, people, epsilon=e, min_items=3) for e in sorted((a, b)))
    assert strict.advantage == mild.advantage  # which does not depend on epsilon
    if strict.winning_rate is not None:
        assert strict.winning_rate <= mild.winning_rate


def test_good_and_random_judges_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 100)
    noisy = [np.where(rng.random(100) < 0.2, 1 - truth, truth).tolist() for _ in range(4)]
    people = list(zip(*noisy, strict=True))
    good, bad = alt_test(truth.tolist(), people), alt_test(rng.integers(0, 2, 100).tolist(), people)
    assert (good.winning_rate, good.passed) == (1.0, True)
    assert (bad.winning_rate, bad.passed) == (0.0, False)
    assert good.advantage > 0.9 > 0.7 > bad.advantage


def test_the_verdict_of_two_showings() -> None:
    verdicts = [JudgedPair(*both).verdict for both in (("A", "A"), ("A", "B"), ("A", "tie"), ("A", None))]
    assert verdicts == ["A", "tie", "tie", None]
