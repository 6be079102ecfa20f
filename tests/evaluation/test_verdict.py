"""Which comparison a verdict rests on, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from quipwright.core.results import Figure, PairwiseResult, Quality, ScoringRule
from quipwright.critics.heuristics import HeuristicCritic
from quipwright.evaluation.verdict import conclusion, main_result, unfit, verdict, with_fitness


def figure(value: float, low: float, high: float) -> Figure:
    return Figure(value=value, low=low, high=high)


def result(**changed: Any) -> PairwiseResult:
    rule = ScoringRule(rule="tolerant", wins=60, ties=10, losses=30, rate=figure(0.7, 0.6, 0.78))
    usual: dict[str, Any] = {
        "candidate": "feedback", "baseline": "imitation", "judge": "j", "split": "test", "n": 100, "unparsed": 0,
        "rules": (rule,), "score": figure(0.65, 0.56, 0.74), "length_controlled": figure(0.64, 0.55, 0.73),
        "length_effect": None, "length_ratio": 1.0, "p_even": 0.01, "p_sign": None,
    }  # fmt: skip
    return PairwiseResult(**{**usual, **changed})


def looks(system: str, worst: float, by: str = "j") -> Quality:
    return Quality(
        system=system, split="test", n=9, copy_rate=0, empty=0, truncated=0, words=1, length_ratio=1, distinct_2=1,
        levels=(worst, 1 - worst), graded=9, graded_by=by,
    )  # fmt: skip


def test_a_verdict_says_who_won_by_how_much_and_who_judged() -> None:
    assert verdict(result(outside=True)) == (
        "feedback is clearly better than imitation. 60 wins, 10 ties, 30 losses on 100 inputs of test: score 65 [56, 74], "
        "where 50 is even; 64 [55, 73] had both been equally long. Judged by j, from outside the training."
    )
    assert "an outside judge is needed for a claim" in verdict(result())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"score": figure(0.35, 0.26, 0.44), "length_controlled": figure(0.4, 0.3, 0.49)},
            "clearly worse than imitation.",
        ),
        ({"score": figure(0.55, 0.46, 0.64)}, "not clearly better or worse"),
        (
            {"length_controlled": figure(0.52, 0.4, 0.6)},
            "clearly better than imitation, but not once both are equally long.",
        ),
        ({"n": 19}, "With 19 inputs nothing can be said"),
    ],
)
def test_a_conclusion_goes_by_the_interval(changed: dict[str, Any], said: str) -> None:
    assert said in conclusion(result(**changed))


def test_a_verdict_rests_on_a_fit_judge_from_outside_where_there_is_one() -> None:
    own, blind, outside = (
        result(judge="own"), result(judge="blind", unfit="why", outside=True), result(judge="other", outside=True)
    )  # fmt: skip
    assert main_result([own, blind, outside], "feedback", "imitation") == outside
    assert main_result([own, blind], "feedback", "imitation") == own
    assert main_result([blind], "feedback", "imitation") is None
    assert main_result([own], "feedback", "teacher") is None


def test_what_makes_a_judge_unfit() -> None:
    assert unfit(result(), []) == ""
    assert "could not be read on 60 of 100" in unfit(result(n=40, unparsed=60), [])
    assert "another winner on 51 % of the inputs" in unfit(result(order_changes=0.51), [])
    assert unfit(result(order_changes=0.5), []) == ""
    graded = [looks("feedback", 0.41), looks("teacher", 0.65)]
    assert "the worst grade more often than feedback (65 % against 41 %)" in unfit(result(baseline="teacher"), graded)
    assert unfit(result(), [looks("feedback", 0.41), looks("imitation", 0.65)]) == "", "a student may well be broken"
    assert unfit(result(baseline="teacher"), [looks("feedback", 0.7), looks("teacher", 0.65)]) == ""
    assert unfit(result(baseline="teacher", judge="another"), graded) == "", "the grades are of another judge"
    measured = unfit(result(baseline="teacher"), [], on_teacher=0.15)
    assert measured == "j agrees with 15 % of the verdicts on a text of the teacher: it does not know such texts."
    assert unfit(result(baseline="teacher"), [], on_teacher=0.5) == unfit(result(), [], on_teacher=0.15) == ""


def test_a_judges_card_is_read() -> None:
    class Known(HeuristicCritic):
        def figures(self) -> dict[str, float]:
            return {"agreement_teacher": 0.15}

    known, plain = Known("longer"), HeuristicCritic("longer")
    met = result(baseline="teacher", judge=known.name)
    assert "15 %" in with_fitness([met], [], [known])[0].unfit
    assert with_fitness([met], [], [plain])[0].unfit == ""
