"""What a rate would be by people's verdicts, from a judge whose errors were measured against theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from quipwright.core.statistics.intervals import Estimate, normal_quantile, proportion


class Counts(NamedTuple):
    """``hits`` of ``n``; ties may be halves."""

    hits: float
    n: int


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """``raw`` is the rate by the judge, ``corrected`` what it stands for by people; both are shares in [0, 1].

    ``sensitivity`` is the judge's share of wins among what people call wins, ``specificity`` its share of losses among
    what they call losses, with Wilson intervals. ``corrected`` is unknown (``None``) where the two sum to 1 or less, as
    a coin's do: such a judge says nothing, and no correction is made. So it is where any of the counts is empty.
    """

    raw: Estimate
    corrected: Estimate
    sensitivity: Estimate
    specificity: Estimate


def corrected_rate(rate: Counts, sensitivity: Counts, specificity: Counts, *, level: float = 0.95) -> CorrectedRate:
    """``rate`` corrected for the judge's errors: p = (q + Sp - 1) / (Se + Sp - 1), cut to [0, 1].

    Source: Rogan and Gladen 1978. ``rate`` counts the judge's wins over new inputs; ``sensitivity`` and ``specificity``
    count its hits on other inputs that people judged too, among their wins and among their losses. A win rate against
    an opponent is corrected with errors measured on pairs of the same two systems, or of systems like them.

    The interval carries the error of all three counts: the delta method after Agresti and Coull's added observations
    (z^2 for the rate, 2 for each of the others) with a shift of the centre (Lang and Reiczigel 2014), which holds at the
    edges and down to some 30 judged inputs; it is the interval that Lee et al. 2025 advise for LLM judges. It is [0, 1]
    where the added observations leave the judge no better than a coin.
    Raises ``ValueError`` for counts below 0 or hits above n.
    """
    q, se, sp = (proportion(counts.hits, counts.n, level) for counts in (rate, sensitivity, specificity))
    if q.value is None or se.value is None or sp.value is None or se.value + sp.value <= 1:
        return CorrectedRate(q, Estimate(None, None, None, rate.n, "delta"), se, sp)
    value = float(np.clip((q.value + sp.value - 1) / (se.value + sp.value - 1), 0, 1))
    low, high = _interval(rate, sensitivity, specificity, normal_quantile(level))
    corrected = Estimate(value, min(low, value), max(high, value), rate.n, "delta")
    return CorrectedRate(q, corrected, se, sp)


def _interval(rate: Counts, sensitivity: Counts, specificity: Counts, z: float) -> tuple[float, float]:
    q, q_variance = _padded(rate, z * z)
    se, se_variance = _padded(sensitivity, 2)
    sp, sp_variance = _padded(specificity, 2)
    better = se + sp - 1
    if better <= 0:
        return 0.0, 1.0
    p = (q + sp - 1) / better
    half = z * np.sqrt(q_variance + p * p * se_variance + (1 - p) ** 2 * sp_variance) / better
    centre = p + 2 * z * z * (p * se_variance - (1 - p) * sp_variance)
    return float(np.clip(centre - half, 0, 1)), float(np.clip(centre + half, 0, 1))


def _padded(counts: Counts, added: float) -> tuple[float, float]:
    """The rate with ``added`` observations, half of them hits, and the variance of that rate."""
    rate = (counts.hits + added / 2) / (counts.n + added)
    return rate, rate * (1 - rate) / (counts.n + added)
