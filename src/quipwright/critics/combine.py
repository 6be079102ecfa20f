"""What critics are shown and what their answers add up to: votes, both showings, the bias towards a position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from quipwright.core.records import Judgment, Verdict
from quipwright.core.statistics import sign


def vote_share(labels: Sequence[str | None]) -> float | None:
    """P(first) from sampled answers, ``(n1 + 1/2) / (n1 + n2 + 1)``; ``None`` where none was valid."""
    first, second = labels.count("1"), labels.count("2")
    return (first + 0.5) / (first + second + 1) if first + second else None


def verdict_of(p_a: float, tie: float) -> Verdict:
    """Who wins at P(A better): nobody within ``tie`` of one half, rounding forgiven."""
    found: dict[int, Verdict] = {1: "A", 0: "tie", -1: "B"}
    return found[sign(p_a, tie)]


def combine(p_a: Sequence[float], how: Literal["probability", "logit"] = "probability") -> float:
    """P(A better) from its readings in both showings: their mean, or the sigmoid of the mean logit.

    The logit mean removes an additive position bias exactly. From 0.6 : 0.2 (AB) and 0.5 : 0.3 (BA), p_a is 0.75 and
    0.375: 0.5625 by probability (Ravi et al. 2024 sec. 3.2), 0.5729 by logit.
    """
    if how == "probability":
        return sum(p_a) / len(p_a)
    return 1 / (1 + math.exp(-sum(_logit(p) for p in p_a) / len(p_a)))


def position_bias(p_ab: float, p_ba: float) -> float:
    """Log-odds a text gains by standing first, from p_a in both showings: 0 for a critic that ignores the order."""
    return (_logit(p_ab) - _logit(p_ba)) / 2


def combined(judgments: Sequence[Judgment], how: Literal["probability", "logit"] = "probability") -> float | None:
    """P(A better) over the readable ones of a pair's judgments; a verdict without a probability is 1, 0 or 1/2."""
    certain = {"A": 1.0, "B": 0.0, "tie": 0.5}
    read = [certain[j.verdict] if j.p_a is None else j.p_a for j in judgments if j.verdict != "unparsed"]
    return combine(read, how) if read else None


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
