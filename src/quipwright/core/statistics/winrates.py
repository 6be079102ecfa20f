"""Win, tie and loss of a candidate against a baseline, read four ways from the judge's two showings.

A judge is asked twice about every input: candidate shown first, then shown second. Both answers arrive here as the
probability that the *candidate* is better (1, 0.5 or 0 where the judge gives only a verdict), or ``None`` where its
reply could not be parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from quipwright.core.statistics.intervals import Interval, wilson

Rule = Literal["mean", "per order", "verdict"]
Probability = float | None

_ROUNDING = 1e-9  # (0.3 + 0.7) / 2 must tie, whatever the last bit says


@dataclass(frozen=True, slots=True)
class WinTieLoss:
    """Counts in inputs under one rule; ``unparsed`` inputs stand outside n = wins + ties + losses.

    Under the per-order rule each showing is half an input, so counts may be halves. Rates are ``None`` where n = 0.
    """

    rule: Rule
    wins: float
    ties: float
    losses: float
    unparsed: int = 0

    @property
    def n(self) -> int:
        """Inputs with both showings parsed."""
        return round(self.wins + self.ties + self.losses)

    @property
    def win_rate(self) -> float | None:
        """Wins over n."""
        return self.wins / self.n if self.n else None

    @property
    def tie_rate(self) -> float | None:
        """Ties over n."""
        return self.ties / self.n if self.n else None

    @property
    def loss_rate(self) -> float | None:
        """Losses over n."""
        return self.losses / self.n if self.n else None

    @property
    def win_tie_rate(self) -> float | None:
        """WTR (Ravi et al. 2024, sec. 4): as good or better, over n. Both directions' rates sum to 1 plus the ties.

        Its noise floor is a system's WTR against its own second sample: not 1/2 but 1/2 plus half the tie rate, since
        only the score is 1/2 by symmetry. A lead is what exceeds that.
        """
        return (self.wins + self.ties) / self.n if self.n else None

    @property
    def score(self) -> float | None:
        """Wins plus half the ties, over n: the symmetric rate, fit for tests of significance."""
        return (self.wins + self.ties / 2) / self.n if self.n else None

    @property
    def interval(self) -> Interval:
        """Wilson 95 % interval of the win-tie rate, with the input as unit.

        For the per-order rule this errs on the wide side: the mean of two showings varies no more than one showing.
        """
        return wilson(self.wins + self.ties, self.n)

    @property
    def bounds(self) -> Interval:
        """The win-tie rate if every unparsed input were a loss, and if every one were a win."""
        asked = self.n + self.unparsed
        if asked == 0:
            return Interval(0.0, 1.0)
        return Interval((self.wins + self.ties) / asked, (self.wins + self.ties + self.unparsed) / asked)


@dataclass(frozen=True, slots=True)
class WinRateReadings:
    """One set of judgments under four rules; they differ only in what they call a tie.

    ``strict`` and ``tolerant`` read the mean of the two showings with no tie band and with one of ``eps``;
    ``per_order`` is the paper's, each showing read alone at >= 0.5 and the two averaged; ``verdict`` gives a win only
    to the candidate that wins both showings.
    """

    strict: WinTieLoss
    tolerant: WinTieLoss
    per_order: WinTieLoss
    verdict: WinTieLoss
    eps: float


def soft_scores(first: Sequence[Probability], second: Sequence[Probability]) -> list[Probability]:
    """Per input the mean probability that the candidate is better, both showings weighing alike.

    ``first[i]`` is the answer with the candidate shown first, ``second[i]`` with it shown second. ``None`` where
    either is: one showing alone would carry its position bias into the mean. Raises ``ValueError`` for unlike lengths
    or a number outside [0, 1].
    """
    if len(first) != len(second):
        raise ValueError(f"both showings need the same inputs, got {len(first)} and {len(second)}")
    _check(first)
    _check(second)
    return [None if a is None or b is None else (a + b) / 2 for a, b in zip(first, second, strict=True)]


def win_tie_loss(scores: Sequence[Probability], eps: float = 0.0) -> WinTieLoss:
    """Counts over per-input scores: a win above 0.5 + eps, a tie within eps of 0.5. ``None`` counts as unparsed.

    Serves people's single verdicts too (1, 0.5, 0).
    """
    if not 0 <= eps < 0.5:
        raise ValueError(f"eps must lie in 0..0.5, got {eps}")
    _check(scores)
    signs = [sign(score, eps) for score in scores if score is not None]
    return WinTieLoss("mean", signs.count(1), signs.count(0), signs.count(-1), len(scores) - len(signs))


def win_rate_readings(
    first: Sequence[Probability], second: Sequence[Probability], eps: float = 0.05
) -> WinRateReadings:
    """The four readings of one set of judgments, side by side. Arguments and errors as in :func:`soft_scores`."""
    scores = soft_scores(first, second)
    signs = [(sign(a), sign(b)) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    unparsed = len(scores) - len(signs)
    showings = [sign for pair in signs for sign in pair]
    wins, losses = signs.count((1, 1)), signs.count((-1, -1))
    return WinRateReadings(
        strict=win_tie_loss(scores),
        tolerant=win_tie_loss(scores, eps),
        per_order=WinTieLoss(
            "per order", showings.count(1) / 2, showings.count(0) / 2, showings.count(-1) / 2, unparsed
        ),
        # a win joined with a tie is no win: only both showings together decide
        verdict=WinTieLoss("verdict", wins, len(signs) - wins - losses, losses, unparsed),
        eps=eps,
    )


def sign(probability: float, eps: float = 0.0) -> int:
    """1 for a win, 0 for a tie, -1 for a loss: a tie lies within ``eps`` of 0.5, rounding forgiven."""
    excess = probability - 0.5
    return 0 if abs(excess) <= eps + _ROUNDING else (1 if excess > 0 else -1)


def _check(probabilities: Sequence[Probability]) -> None:
    for place, value in enumerate(probabilities):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"probability {place} must lie in 0..1 or be None, got {value}")
