"""Who meets whom, and a judge's answers turned into pairwise results and paired differences with intervals and tests.

The numbers come from :mod:`quipwright.core.statistics`; here they are tied to names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from quipwright.core.records import Comparison, Example, Judgment, Pair
from quipwright.core.results import Figure, PairedDifference, PairScores, PairwiseResult, ScoringRule
from quipwright.core.statistics import (
    RESAMPLES,
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
from quipwright.critics.combine import by_pair
from quipwright.evaluation.quality import System

DEFINITIONS = {
    "per order": "each presentation order read alone at >= 1/2, both averaged (the paper's WTR)",
    "strict": "mean of both orders at or above 1/2",
    "tolerant": "mean of both orders, a tie within the band around 1/2",
    "verdict": "a win only where both orders name the same winner, else a tie",
}
"""The scoring rules, by name."""

SELECTOR = "evaluation"
"""What a pair of two systems' answers says of who picked it."""
Scores = Mapping[str, float | None]
"""By example id the mean probability that the candidate is better, ``None`` where it could not be read."""
BothOrders = tuple[float | None, float | None]
Tested = TypeVar("Tested", PairwiseResult, PairedDifference)


def meetings(systems: Mapping[str, System], opponents: Sequence[str], feedback: Sequence[str]) -> list[tuple[str, str]]:
    """Who meets whom: each student every opponent, and each later student the imitation student."""
    against = [(name, other) for other in opponents for name in systems if name not in opponents]
    return against + [(name, "imitation") for name in feedback if name != "imitation"]


def comparisons(
    candidate: str, baseline: str, systems: Mapping[str, System], examples: Sequence[Example]
) -> list[Comparison]:
    """One comparison for each example that both systems answered; the candidate is A."""
    mine, theirs = systems[candidate], systems[baseline]
    return [
        Comparison(
            Pair(example_id=e.id, a_id=mine[e.id].id, b_id=theirs[e.id].id, selector=SELECTOR),
            e.text,
            mine[e.id].text,
            theirs[e.id].text,
        )
        for e in examples
        if e.id in mine and e.id in theirs
    ]


def both_orders(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> list[BothOrders]:
    """For each comparison P(A better) with A shown first and with B shown first; ``None`` where unreadable.

    A judge that is shown no order answers once, and the answer stands for both.
    """
    judged = by_pair(judgments)
    result = []
    for comparison in compared:
        answers = {judgment.shown: judgment.credit for judgment in judged.get(comparison.pair.id, ())}
        only = next(iter(answers.values()), None)
        result.append((answers["ab"], answers["ba"]) if len(answers) == 2 else (only, only))
    return result


def pairwise_result(
    names: tuple[str, str], judge: str, split: str, compared: Sequence[Comparison], judgments: Sequence[Judgment],
    *, tie: float = 0.05, resamples: int = RESAMPLES,
) -> PairwiseResult:  # fmt: skip
    """``names[0]`` (text A of each comparison) against ``names[1]``. ``tie``: half-width of the tolerant band."""
    answers = both_orders(compared, judgments)
    first, second = [a for a, _ in answers], [b for _, b in answers]
    scores = soft_scores(first, second)
    counts = win_rate_readings(first, second, tie)
    read = [s for s in scores if s is not None]
    words = [(word_count(c.a), word_count(c.b)) for c in compared]
    baseline_words = sum(b for _, b in words)
    controlled = length_controlled_win_rate(scores, [float(a - b) for a, b in words])
    by_rule = (
        ("per order", counts.per_order),
        ("strict", counts.strict),
        ("tolerant", counts.tolerant),
        ("verdict", counts.verdict),
    )
    return PairwiseResult(
        candidate=names[0],
        baseline=names[1],
        judge=judge,
        split=split,
        n=len(read),
        unparsed=len(scores) - len(read),
        rules=tuple(_scoring_rule(rule, wtl) for rule, wtl in by_rule),
        score=Figure.of(share(read, resamples=resamples)),
        length_controlled=Figure.of(controlled.rate),
        length_effect=controlled.phi,
        length_ratio=sum(a for a, _ in words) / baseline_words if baseline_words else None,
        p_even=sign_flip_test(read, [0.5] * len(read), resamples=resamples) if read else None,
        p_sign=mcnemar(round(counts.verdict.wins), round(counts.verdict.losses)) if read else None,
        order_changes=_order_changes(compared, judgments),
    )


def paired_difference(
    names: tuple[str, str], opponent: str, judge: str, split: str, mine: Scores, theirs: Scores,
    *, tie: float = 0.05, resamples: int = RESAMPLES,
) -> PairedDifference:  # fmt: skip
    """``names[0]`` minus ``names[1]``: their scores against ``opponent``, on the inputs for which both have one."""
    both = [(a, b) for key, a in mine.items() if a is not None and (b := theirs.get(key)) is not None]
    left, right = [a for a, _ in both], [b for _, b in both]
    won_or_tied = [(sign(a, tie) >= 0, sign(b, tie) >= 0) for a, b in both]
    only_left, only_right = won_or_tied.count((True, False)), won_or_tied.count((False, True))
    return PairedDifference(
        candidate=names[0],
        baseline=names[1],
        opponent=opponent,
        judge=judge,
        split=split,
        n=len(both),
        difference=Figure.of(paired_bootstrap(left, right, resamples=resamples)),
        p=sign_flip_test(left, right, resamples=resamples) if both else None,
        p_mcnemar=mcnemar(only_left, only_right) if both else None,
    )


def adjusted(results: Sequence[Tested]) -> list[Tested]:
    """``results`` with Holm's adjustment over all that were tested: several looks at the data need it."""
    raw = [r.p_even if isinstance(r, PairwiseResult) else r.p for r in results]
    known = iter(holm([p for p in raw if p is not None]))
    return [
        result if p is None else result.model_copy(update={"p_holm": next(known)})
        for result, p in zip(results, raw, strict=True)
    ]


def scores_by_input(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> dict[str, float | None]:
    """Mean of both presentation orders by example id; ``None`` unless both are readable."""
    answers = both_orders(compared, judgments)
    scores = soft_scores([a for a, _ in answers], [b for _, b in answers])
    return {c.pair.example_id: score for c, score in zip(compared, scores, strict=True)}


def orders_won(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> dict[str, float | None]:
    """The share of its two presentation orders (rule "per order") that A wins or ties, by example id.

    ``None`` unless both are readable.
    """
    pairs = zip(compared, both_orders(compared, judgments), strict=True)
    return {c.pair.example_id: share_won(*both) for c, both in pairs}


def scores_between(records: Iterable[PairScores], candidate: str, baseline: str, split: str) -> PairScores | None:
    """The scores among ``records`` of ``candidate`` against ``baseline`` on ``split``, if they are there."""
    names = (candidate, baseline, split)
    return next((r for r in records if (r.candidate, r.baseline, r.split) == names), None)


def share_won(*scores: float | None) -> float | None:
    """The share of ``scores`` that win or tie, each read alone at 1/2; ``None`` unless all are known."""
    return None if None in scores else win_tie_loss(scores).win_tie_rate


def _order_changes(compared: Sequence[Comparison], judgments: Sequence[Judgment]) -> float | None:
    """The share of pairs whose two orders name different winners, among those that were shown in both and read."""
    shown = by_pair(judgments)
    twice = [both for c in compared if len(both := [j.credit for j in shown.get(c.pair.id, ())]) == 2]
    signs = [(sign(a, 0.0), sign(b, 0.0)) for a, b in twice if a is not None and b is not None]
    return sum(a * b < 0 for a, b in signs) / len(signs) if signs else None


def _scoring_rule(rule: str, counts: WinTieLoss) -> ScoringRule:
    low, high = counts.interval if counts.n else (None, None)
    rate = Figure(value=counts.win_tie_rate, low=low, high=high)
    return ScoringRule(rule=rule, wins=counts.wins, ties=counts.ties, losses=counts.losses, rate=rate)
