"""What an evaluation finds, as frozen records: figures with intervals, pairwise results, the look of the outputs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from quipwright.core.records import Record, Split
from quipwright.core.statistics import Estimate

HEADLINE_RULE = "tolerant"
"""The scoring rule whose win-tie rate stands for a pairwise result wherever only one is shown."""


class Figure(Record):
    """A number with its 95 % interval; ``None`` is unknown."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        """The figure of an estimate."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)


class ScoringRule(Record):
    """Counts in inputs under one rule (see :data:`quipwright.evaluation.pairwise.DEFINITIONS`).

    ``rate`` is the win-tie rate with its Wilson interval. Ties count for both sides (Ravi et al. 2024 sec. 4), so the
    rates of A against B and of B against A do not add up to 1.
    """

    rule: str
    wins: float
    ties: float
    losses: float
    rate: Figure


class Note(Record):
    """What a reader must know before believing a figure. ``about``: what it asks of the reader, as :data:`ADVICE` says."""

    about: Literal["judge", "outputs", "training"]
    text: str

    def __str__(self) -> str:
        """The text alone."""
        return self.text


ADVICE = {
    "judge": "Before you believe a win rate",
    "outputs": "Look for this in the answers",
    "training": "For the next run",
}
"""What a reader should do about the notes of each kind, in the order in which they are shown."""


class PairwiseResult(Record):
    """A candidate against a baseline on one split, by one judge.

    ``n`` inputs were read and ``unparsed`` were not. ``score`` is the mean probability in [0, 1] that the candidate is
    better (bootstrap interval, no narrower than Wilson's where nearly all inputs agree). ``length_controlled`` is the
    same, had both been equally long (profile interval); ``length_effect`` is the log-odds the judge adds for one
    standard deviation of extra words (candidate minus baseline). ``length_ratio`` is the candidate's words over the
    baseline's. ``p_even`` is the sign-flip test of score 1/2, ``p_sign`` the exact test of wins against losses under
    the verdict rule. ``p_holm`` is ``p_even`` adjusted for all results of the table. Where no input was read, every
    figure is ``None``. ``order_changes`` is the share of inputs on which the two orders of showing name different
    winners, ``None`` for a judge that is shown no order. ``noise_floor`` is the candidate's win-tie rate against its own
    second sample by the same judge and rule, where two were drawn: a student that equals the baseline reaches about that.
    ``corrected`` is what the rate of wins (ties half) would be by people, after the judge's errors were measured against them,
    with the error of that measurement in its interval.
    ``outside``: the judge took no part in training either of the two. ``unfit`` says why the judge cannot tell these two
    apart; such a result is part of no verdict.
    """

    candidate: str
    baseline: str
    judge: str
    split: str
    n: int
    unparsed: int
    rules: tuple[ScoringRule, ...]
    score: Figure
    length_controlled: Figure
    length_effect: float | None
    length_ratio: float | None
    p_even: float | None
    p_sign: float | None
    p_holm: float | None = None
    order_changes: float | None = None
    noise_floor: Figure | None = None
    corrected: Figure | None = None
    outside: bool = False
    unfit: str = ""

    def under(self, rule: str) -> ScoringRule:
        """The counts under ``rule``. Raises ``KeyError`` for an unknown one."""
        by_name = {counts.rule: counts for counts in self.rules}
        return by_name[rule]

    @property
    def headline(self) -> ScoringRule:
        """The counts under the rule that stands for the whole result."""
        return self.under(HEADLINE_RULE)


class PairedDifference(Record):
    """Two systems against the same opponent on the same inputs: ``candidate``'s mean score minus ``baseline``'s.

    ``difference`` has a paired-bootstrap interval. ``p`` is the sign-flip test's, ``p_mcnemar`` McNemar's on the inputs
    on which only one of the two wins or ties. ``p_holm`` is ``p`` adjusted for all differences of the table. ``unfit`` as
    in :class:`PairwiseResult`, of the judge and the opponent.
    """

    candidate: str
    baseline: str
    opponent: str
    judge: str
    split: str
    n: int
    difference: Figure
    p: float | None
    p_mcnemar: float | None
    p_holm: float | None = None
    unfit: str = ""


class PairScores(Record):
    """What one judge said of ``candidate`` against ``baseline``, input by input, for paired comparisons of runs.

    ``scores``: by example id the mean probability in [0, 1] that the candidate is better, ``None`` where it could not be
    read. ``orders_won``: the share of its two presentation orders, each read alone at 1/2, that the candidate won or
    tied; ``None`` for a judge that is shown no order.
    """

    candidate: str
    baseline: str
    split: str
    scores: dict[str, float | None]
    orders_won: dict[str, float | None] | None = None


class Quality(Record):
    """What a system's outputs look like on one split, beside any win rate.

    ``copy_rate``, ``empty`` and ``truncated`` are shares of the ``n`` outputs, ``stock_turns`` of those whose last three
    words end another one too. ``words`` is the mean number of words,
    ``length_ratio`` words of output over words of literal. ``distinct_2`` is over all outputs, ``repetition`` the mean
    share of an output's trigrams that already stood in it, ``self_bleu`` how alike the outputs are (1: all the same),
    ``meaning`` the mean cosine of sentence embeddings of output and literal. ``levels`` are mean probabilities of the
    task's grades over the ``graded`` outputs, worst first, where ``graded_by`` grades, and ``level_ranges`` their 95 %
    intervals. ``harm`` is the share of outputs that may hurt, by the embedded classifier. ``None`` is unknown. A system
    without outputs has no quality.
    """

    system: str
    split: str
    n: int
    copy_rate: float
    empty: float
    truncated: float
    words: float
    length_ratio: float
    distinct_2: float
    stock_turns: float | None = None
    levels: tuple[float, ...] | None = None
    level_ranges: tuple[tuple[float, float], ...] = ()
    graded: int = 0
    graded_by: str = ""
    repetition: float | None = None
    self_bleu: float | None = None
    meaning: float | None = None
    harm: Figure = Figure(value=None, low=None, high=None)

    def shares(self, levels: int) -> tuple[Figure, ...]:
        """The share of each of so many ``levels``; unknown ones where the outputs have no grades of as many."""
        if self.levels is None or len(self.levels) != levels:
            return (Figure(value=None, low=None, high=None),) * levels
        ranges = self.level_ranges or ((None, None),) * len(self.levels)
        return tuple(Figure(value=v, low=low, high=high) for v, (low, high) in zip(self.levels, ranges, strict=True))


class Sample(Record):
    """One evaluation input with every system's answer, for side-by-side views.

    All fields in braces are by system. ``levels`` are probabilities of the task's grades, worst first, where the critic
    grades. ``response_ids`` and ``authors`` are those of the :class:`~quipwright.core.records.Response`. ``truncated``
    names the systems whose answer hit the token limit. ``feedback_over_imitation`` is the critic's probability that
    feedback's answer is better than imitation's.
    """

    literal: str
    example_id: str
    split: Split
    answers: dict[str, str]
    levels: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    response_ids: dict[str, str] = Field(default_factory=dict)
    authors: dict[str, str] = Field(default_factory=dict)
    truncated: tuple[str, ...] = ()
    feedback_over_imitation: float | None = None
