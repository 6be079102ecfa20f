"""May a judge stand in for an annotator? The alternative annotator test (alt-test).

Source: Calderon, Reichart and Dror 2025, "The Alternative Annotator Test for LLM-as-a-Judge", ACL 2025.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

ANNOTATORS = 3  # with two, the test only asks which of them the judge resembles
ITEMS = 30  # an annotator's; the t-test leans on the normality of a mean

Label = Hashable | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The judge against one annotator, ``annotator`` (its place), over the ``items`` both labelled, as seen by the others.

    ``judge`` is the share of items on which the judge's label agrees with the other annotators' at least as often as
    this annotator's does (the paper's rho_j^f), ``person`` the share on which this annotator's does (rho_j^h); ties
    count for both. ``p``: one-sided t-test of person - judge < epsilon; ``p_adjusted``: after Benjamini and Yekutieli
    over the annotators.
    """

    annotator: int
    items: int
    judge: float
    person: float
    p: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class AltTest:
    """The outcome over all annotators with enough items.

    ``winning_rate`` is the share of annotators for whom ``p_adjusted`` <= ``alpha`` (omega); ``advantage`` is the mean
    of their ``judge`` (rho): the chance that the judge is as good as an annotator drawn by lot, or better, and the
    figure to compare judges by. Both are ``None`` with fewer than three such annotators. ``too_few`` counts annotators
    left out for want of items.
    """

    winning_rate: float | None
    advantage: float | None
    annotators: tuple[LeftOut, ...]
    too_few: int
    epsilon: float
    alpha: float

    @property
    def passed(self) -> bool | None:
        """Whether the judge may replace annotators: omega >= 1/2. ``None`` where omega is unknown."""
        return None if self.winning_rate is None else self.winning_rate >= 0.5


def alt_test(
    judge: Sequence[Label],
    people: Sequence[Sequence[Label]],
    *,
    epsilon: float = 0.1,
    alpha: float = 0.05,
    min_items: int = ITEMS,
) -> AltTest:
    """The alt-test of ``judge`` (one label an item) against ``people`` (for each item one label per annotator, in the
    same order throughout); ``None`` is unlabelled.

    ``epsilon`` is the benefit of the doubt that the judge's price buys: 0.2 beside experts, 0.15 beside trained people,
    0.1 beside crowd workers (the paper's rule of thumb). Alignment is the share of the other annotators whose label is the
    same. Items without the judge's label or with a single annotator say nothing. At least 30 items an annotator, better
    50. Raises ``ValueError`` for unlike lengths, epsilon outside 0..1, or alpha outside (0, 1).
    """
    if len(judge) != len(people):
        raise ValueError(f"judge and people must label the same items, got {len(judge)} and {len(people)}")
    if len({len(labels) for labels in people}) > 1:
        raise ValueError("every item needs one place per annotator; None where that one gave no label")
    if not 0 <= epsilon <= 1 or not 0 < alpha < 1:
        raise ValueError(f"epsilon must lie in 0..1 and alpha between 0 and 1, got {epsilon} and {alpha}")
    from scipy.stats import false_discovery_control  # takes long to import

    count = len(people[0]) if people else 0
    compared = {j: _wins(judge, people, j) for j in range(count)}
    enough = {j: wins for j, wins in compared.items() if len(wins) >= max(2, min_items)}
    p_values = [_p(wins, epsilon) for wins in enough.values()]
    adjusted = false_discovery_control(p_values, method="by").tolist() if p_values else []
    annotators = tuple(
        LeftOut(j, len(wins), float(wins[:, 0].mean()), float(wins[:, 1].mean()), p, q)
        for (j, wins), p, q in zip(enough.items(), p_values, adjusted, strict=True)
    )
    known = len(annotators) >= ANNOTATORS
    return AltTest(
        winning_rate=float(np.mean([one.p_adjusted <= alpha for one in annotators])) if known else None,
        advantage=float(np.mean([one.judge for one in annotators])) if known else None,
        annotators=annotators,
        too_few=count - len(annotators),
        epsilon=epsilon,
        alpha=alpha,
    )


def _wins(judge: Sequence[Label], people: Sequence[Sequence[Label]], place: int) -> np.ndarray:
    """For each item that counts, whether the judge and whether annotator ``place`` align at least as well; (items, 2)."""
    rows = []
    for label, labels in zip(judge, people, strict=True):
        vote = labels[place]
        others = [other for k, other in enumerate(labels) if k != place and other is not None]
        if label is not None and vote is not None and others:
            lead = others.count(label) - others.count(vote)
            rows.append((lead >= 0, lead <= 0))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _p(wins: np.ndarray, epsilon: float) -> float:
    behind = wins[:, 1] - wins[:, 0]
    if np.ptp(behind) == 0:  # no variance: t is infinite, or 0/0 at epsilon itself
        return 0.0 if behind[0] < epsilon else 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(behind, epsilon, alternative="less").pvalue)
