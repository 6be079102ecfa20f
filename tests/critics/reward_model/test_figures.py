"""The figures of a critic on held-out verdicts, by hand: they are the statistics' own, with the verdict as annotator."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.figures import measure
from quipwright.data.verdicts import VerdictRow

# log-odds 0, ln 4 and ln 9: probabilities .5, .8 and .9
SCORES = {"even": 0.0, "good": 1.3862943611198906, "better still, and longer": 2.1972245773362196}


class _Scorer(RewardModelCritic):
    """A critic that knows three texts and holds no model."""

    def __init__(self) -> None:
        pass

    def scores(self, literals: Sequence[str], texts: Sequence[str]) -> list[float]:
        return [SCORES[text] for text in texts]


def _row(a: str, b: str, verdict: str, strength: int = 1, author: str = "") -> VerdictRow:
    return VerdictRow.model_validate(
        {"literal": "L", "a": a, "b": b, "verdict": verdict, "strength": strength, "author_b": author}
    )


def _figures(rows: Sequence[VerdictRow]) -> dict[str, float]:
    return measure(_Scorer(), rows)


def test_figures_by_hand() -> None:
    long = "better still, and longer"
    figures = _figures(
        [
            _row("good", "even", "a", strength=3),  # agrees at .8
            _row("even", "good", "a"),  # disagrees at .8
            _row(long, "even", "b"),  # prefers the longer where the verdict takes the shorter, at .9
            _row("even", long, "b", strength=2),  # agrees at .9
            _row("even", "even", "a"),  # undecided: no agreement, half a hit at .5
            _row("even", "good", "tie"),  # a tie is left out
            _row("good", "even", "b", author="teacher"),  # against the teacher: apart
        ]
    )
    assert (figures["n"], figures["n_clear"], figures["n_teacher_judged"]) == (5, 2, 1)
    assert (figures["agreement"], figures["agreement_clear"], figures["agreement_teacher"]) == (0.4, 1.0, 0.0)
    assert figures["length_bias"] == 0.2
    assert figures["picks_longer"] == 1.0  # of the two pairs of unequal texts
    # bins at .5 (half right), .8 and .9 (one right of two each): (0 + 2 * .3 + 2 * .4) / 5
    assert figures["ece"] == pytest.approx(0.28)


def test_what_no_verdict_bears_on_is_left_out() -> None:
    figures = _figures([_row("good", "even", "a")])
    assert figures["agreement"] == 1.0
    unknown = {"agreement_clear", "agreement_graded", "agreement_teacher", "grade_exact", "picks_longer"}
    assert not unknown & figures.keys()
    assert (figures["n_clear"], figures["n_graded"]) == (0, 0)
    assert _figures([_row("good", "even", "tie")]) == {"n": 0, "n_clear": 0, "n_graded": 0}
