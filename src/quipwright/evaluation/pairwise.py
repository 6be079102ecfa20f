"""One candidate against one baseline, read every way that is in use, with intervals: what evaluation and ``compare``
share. The numbers come from :mod:`quipwright.core.statistics`; here they are tied to names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, TypeVar

from quipwright.core.records import Comparison, Judgment, Record
from quipwright.core.statistics import (
    RESAMPLES,
    Estimate,
    LengthControlled,
    WinTieLoss,
    holm,
    length_controlled_win_rate,
    mcnemar,
    paired_bootstrap,
    share,
    sign,
    sign_flip_test,
    soft_scores,
    win_rate_readings,
    win_tie_loss,
)
from quipwright.core.text import word_count

DEFINITIONS = {
    "per order": "each showing read alone at >= 1/2, both averaged (the paper's WTR)",
    "strict": "mean of both showings at or above 1/2",
    "tolerant": "mean of both showings, a tie within the band around 1/2",
    "verdict": "a win only where both showings name the same winner, else a tie",
}
Showings = tuple[float | None, float | None]


class Figure(Record):
    """A number with its 95 % interval; ``None`` is unknown."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        """The figure of an estimate."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)


class Reading(Record):
    """Counts in inputs under one rule (see ``DEFINITIONS``) and the win-tie rate with its Wilson interval."""

    rule: str
    wins: float
    ties: float
    losses: float
    rate: Figure


class Contest(Record):
    """A candidate against a baseline on one split by one judge.

    ``score`` is the mean probability in [0, 1] that the candidate is better (bootstrap interval, or Wilson's where all
    inputs agree); ``length_controlled`` the same had both been equally long, ``length_effect`` the log-odds the judge
    pays per standard deviation of extra words (candidate minus baseline). ``p_even``: sign-flip test of score 1/2;
    ``p_sign``: exact test of wins against losses under the verdict rule. ``p_holm`` is ``p_even`` adjusted for all
    contests of the table it stands in.
    """

    candidate: str
    baseline: str
    judge: str
    split: str
    n: int
    unparsed: int
    readings: tuple[Reading, ...]
    score: Figure
    length_controlled: Figure
    length_effect: float | None
    length_ratio: float
    p_even: float
    p_sign: float
    p_holm: float | None = None

    def reading(self, rule: str) -> Reading:
        """The reading under ``rule``."""
        return next(reading for reading in self.readings if reading.rule == rule)


class Duel(Record):
    """Two candidates against the same baseline on the same inputs: mean difference of scores, paired.

    ``p`` is the sign-flip test's, ``p_mcnemar`` McNemar's on inputs where only one of the two wins or ties.
    """

    candidate: str
    other: str
    baseline: str
    judge: str
    split: str
    n: int
    difference: Figure
    p: float
    p_mcnemar: float
    p_holm: float | None = None


Tested = TypeVar("Tested", Contest, Duel)


def showings(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> list[Showings]:
    """For each comparison P(A better) with A shown first and with B shown first; ``None`` where unreadable.

    A judge that is shown no order, or a rule that needs none, answers once, and the answer stands for both.
    """
    by_pair: dict[str, dict[str, float | None]] = {}
    for j in judgments:
        hard = {"A": 1.0, "B": 0.0, "tie": 0.5}.get(j.verdict)
        by_pair.setdefault(j.pair_id, {})[j.shown] = None if hard is None else hard if j.p_a is None else j.p_a
    found = []
    for comparison in compared:
        own = by_pair.get(comparison.pair.id, {})
        once = next(iter(own.values()), None)
        found.append((own["ab"], own["ba"]) if len(own) == 2 else (once, once))
    return found


def contest(
    names: tuple[str, str], judge: str, split: str, compared: Sequence[Comparison], judgments: Sequence[Judgment],
    *, tie: float = 0.05, resamples: int = RESAMPLES,
) -> Contest:  # fmt: skip
    """``names[0]`` (text A of each comparison) against ``names[1]``. ``tie``: half-width of the tolerant band."""
    answers = showings(compared, judgments)
    first, second = [a for a, _ in answers], [b for _, b in answers]
    scores = soft_scores(first, second)
    found = win_rate_readings(first, second, tie)
    read = [s for s in scores if s is not None]
    words = [(word_count(c.a), word_count(c.b)) for c in compared]
    controlled = length_controlled_win_rate(scores, [float(a - b) for a, b in words], resamples=resamples)
    by_rule = (
        ("per order", found.per_order),
        ("strict", found.strict),
        ("tolerant", found.tolerant),
        ("verdict", found.verdict),
    )
    return Contest(
        candidate=names[0],
        baseline=names[1],
        judge=judge,
        split=split,
        n=len(read),
        unparsed=len(scores) - len(read),
        readings=tuple(_reading(rule, counts) for rule, counts in by_rule),
        score=Figure.of(share(read, resamples=resamples)),
        length_controlled=Figure.of(controlled.rate),
        length_effect=_effect(controlled),
        length_ratio=sum(a for a, _ in words) / max(1, sum(b for _, b in words)),
        p_even=sign_flip_test(read, [0.5] * len(read), resamples=resamples),
        p_sign=mcnemar(round(found.verdict.wins), round(found.verdict.losses)),
    )


def duel(
    names: tuple[str, str], baseline: str, judge: str, split: str,
    mine: Mapping[str, float | None], theirs: Mapping[str, float | None], *, tie: float = 0.05, resamples: int = RESAMPLES,
) -> Duel:  # fmt: skip
    """``names[0]`` minus ``names[1]``; their scores against ``baseline`` by input, those both have are used."""
    both = [(a, b) for key, a in mine.items() if a is not None and (b := theirs.get(key)) is not None]
    left, right = [x for x, _ in both], [y for _, y in both]
    good = [(sign(x, tie) >= 0, sign(y, tie) >= 0) for x, y in both]
    return Duel(
        candidate=names[0],
        other=names[1],
        baseline=baseline,
        judge=judge,
        split=split,
        n=len(both),
        difference=Figure.of(paired_bootstrap(left, right, resamples=resamples)),
        p=sign_flip_test(left, right, resamples=resamples),
        p_mcnemar=mcnemar(good.count((True, False)), good.count((False, True))),
    )


def adjusted(found: Sequence[Tested]) -> list[Tested]:
    """``found`` with Holm's adjustment over all of them: several looks at the data need it."""
    raw = [one.p_even if isinstance(one, Contest) else one.p for one in found]
    return [one.model_copy(update={"p_holm": p}) for one, p in zip(found, holm(raw), strict=True)]


def scores_by_input(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> dict[str, float | None]:
    """Mean of both showings by example id; ``None`` unless both are readable."""
    answers = showings(compared, judgments)
    scores = soft_scores([a for a, _ in answers], [b for _, b in answers])
    return {c.pair.example_id: score for c, score in zip(compared, scores, strict=True)}


def showings_won(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> dict[str, float | None]:
    """The share of its two showings, each read alone at 1/2 (the rule "per order"), that A wins or ties, by example id;
    ``None`` unless both are readable."""
    pairs = zip(compared, showings(compared, judgments), strict=True)
    return {c.pair.example_id: won(*both) for c, both in pairs}


def won(*scores: float | None) -> float | None:
    """The share of ``scores`` that win or tie, each read alone at 1/2; ``None`` unless all are known."""
    return None if None in scores else win_tie_loss(scores).win_tie_rate


def _reading(rule: str, counts: WinTieLoss) -> Reading:
    low, high = counts.interval
    known = counts.n > 0
    rate = Figure(value=counts.win_tie_rate, low=low if known else None, high=high if known else None)
    return Reading(rule=rule, wins=counts.wins, ties=counts.ties, losses=counts.losses, rate=rate)


def _effect(found: LengthControlled) -> float | None:
    return found.phi if found.rate.n and found.std > 0 else None
