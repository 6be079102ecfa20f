"""What sways a critic besides quality: position, length, its own hand; and whether to believe its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quipwright.core.statistics.agreement import (
    BothShowings,
    Ceiling,
    Choice,
    JudgedPair,
    MarginAgreement,
    agreement,
    agreement_by_margin,
    both_showings,
    human_ceiling,
    krippendorff_alpha,
    showings,
)
from quipwright.core.statistics.intervals import (
    RESAMPLES,
    Estimate,
    Floats,
    bootstrap_mean,
    cluster_index,
    percentiles,
    proportion,
    resampled,
    share,
)
from quipwright.core.statistics.length_control import length_slope

_CREDIT: dict[Choice, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}


@dataclass(frozen=True, slots=True)
class PositionBias:
    """``changed`` is PB, the share of pairs whose verdict changes with the order (win to tie counts).

    ``first_rate`` is the share of decided showings won by the paraphrase shown first: 0.5 is even, above leans to the
    first place.
    """

    changed: Estimate
    first_rate: Estimate


@dataclass(frozen=True, slots=True)
class LengthBias:
    """LB over human judgments, in three forms; equal lengths are neither shorter nor longer.

    ``paper``: the person took the shorter and the critic the longer, over all judgments (Ravi et al. 2024).
    ``not_shorter``: the person took the shorter and the critic did not, ties included (Saha et al. 2023, BSM).
    ``conditional``: as ``paper``, over judgments where the person took the shorter; the other two cannot exceed that
    share, however biased the critic.
    """

    paper: BothShowings
    not_shorter: BothShowings
    conditional: BothShowings


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Human judgments of pairs on which the critic's confidence lay in [low, high) (the last bin is closed)."""

    low: float
    high: float
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error over ``n`` human judgments (its interval resamples pairs), with its non-empty ``bins``.

    ``floor`` is the error that a perfectly calibrated critic with these confidences shows on average from chance alone:
    an ``ece`` near it is no evidence of miscalibration. Both are unknown where n = 0.
    """

    ece: Estimate
    floor: float | None
    n: int
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class SelfPreference:
    """How often the critic prefers its own paraphrase (tie: half), how often people do, and the ``excess``.

    The plain rate is no bias: a critic that writes better should win. The excess over people on the same pairs is.
    """

    rate: Estimate
    people: Estimate
    excess: Estimate


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything a page on a critic shows. ``unparsed`` of ``pairs`` lack a choice in at least one showing."""

    pairs: int
    judgments: int
    unparsed: int
    agreement: BothShowings
    by_margin: tuple[MarginAgreement, ...]
    ceiling: Ceiling
    alpha: Estimate
    position: PositionBias
    length: LengthBias
    critic_slope: Estimate
    people_slope: Estimate
    calibration: Calibration
    self_preference: SelfPreference


def audit(pairs: Sequence[JudgedPair]) -> Audit:
    """All metrics of one critic over one set of pairs. ``alpha`` is the annotators' among themselves."""
    judged = [pair for pair in pairs if pair.votes]
    parsed = [pair for pair in pairs if pair.parsed]
    return Audit(
        pairs=len(pairs),
        judgments=sum(len(pair.votes) for pair in pairs),
        unparsed=len(pairs) - len(parsed),
        agreement=agreement(pairs),
        by_margin=agreement_by_margin(pairs),
        ceiling=human_ceiling(pairs),
        alpha=krippendorff_alpha([pair.people for pair in pairs]),
        position=position_bias(pairs),
        length=length_bias(pairs),
        critic_slope=length_slope([_critic_credit(pair) for pair in parsed], _length_differences(parsed)),
        people_slope=length_slope([_people_credit(pair) for pair in judged], _length_differences(judged)),
        calibration=calibration(pairs),
        self_preference=self_preference(pairs),
    )


def position_bias(pairs: Sequence[JudgedPair]) -> PositionBias:
    """PB and the direction of the lean; needs no people."""
    parsed = [pair for pair in pairs if pair.parsed]
    changed = sum(pair.first != pair.second for pair in parsed)
    answers = [(i, choice, shown) for i, pair in enumerate(parsed) for choice, shown in showings(pair)]
    decided = [(i, choice == shown) for i, choice, shown in answers if choice != "tie"]
    first_rate = share([hit for _, hit in decided], [unit for unit, _ in decided])
    return PositionBias(proportion(changed, len(parsed)), first_rate)


def length_bias(pairs: Sequence[JudgedPair]) -> LengthBias:
    """LB in the three forms of :class:`LengthBias`, each forward, backward and mean; unit as in :func:`agreement`."""
    judged = [(i, pair, vote) for i, pair in enumerate(pairs) if pair.parsed for vote in pair.votes]
    units = [i for i, _, _ in judged]
    took_shorter = [vote == _shorter(pair) for _, pair, vote in judged]

    def rate(longer_only: bool, within: bool = False) -> BothShowings:
        kept = [place for place in range(len(judged)) if took_shorter[place] or not within]
        forward = [took_shorter[k] and _misses(judged[k][1], judged[k][1].first, longer_only) for k in kept]
        backward = [took_shorter[k] and _misses(judged[k][1], judged[k][1].second, longer_only) for k in kept]
        return both_showings(forward, backward, [units[k] for k in kept])

    return LengthBias(rate(longer_only=True), rate(longer_only=False), rate(longer_only=True, within=True))


def calibration(pairs: Sequence[JudgedPair], bins: int = 5, *, simulations: int = 1000, seed: int = 0) -> Calibration:
    """Does a critic that is 80 % sure agree with 80 % of human judgments?

    Confidence is max(p, 1 - p), p being the mean of both showings, so that neither label matters; ``bins`` equal-width
    bins cover [0.5, 1]. A human tie, or p = 0.5, is half an agreement. Source: Guo et al. 2017, eq. 3.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    stated = [(i, pair, pair.probability) for i, pair in enumerate(pairs) if pair.probability is not None]
    judged = [(i, probability, vote) for i, pair, probability in stated for vote in pair.votes]
    if not judged:
        return Calibration(Estimate(None, None, None, 0, "bootstrap"), None, 0, ())
    units = cluster_index(len(judged), [i for i, _, _ in judged])
    p = np.array([probability for _, probability, _ in judged])
    credit = np.array([_CREDIT[vote] for _, _, vote in judged])
    confidence = np.maximum(p, 1 - p)
    right = np.where(p == 0.5, 0.5, np.where(p > 0.5, credit, 1 - credit))
    # 1e-9: a confidence of 0.7 belongs to the bin that starts there, whatever its last bit
    place = np.minimum(((confidence - 0.5) * 2 * bins + 1e-9).astype(int), bins - 1)
    member = (place[None, :] == np.arange(bins)[:, None]).astype(np.float64)
    chance = np.random.default_rng(seed).random((simulations, p.size)) < confidence
    filled = tuple(
        ReliabilityBin(
            0.5 + b / (2 * bins),
            0.5 + (b + 1) / (2 * bins),
            float(confidence[place == b].mean()),
            share(right[place == b].tolist(), units[place == b].tolist()),
        )
        for b in range(bins)
        if np.any(place == b)
    )
    floor = np.abs((chance - confidence) @ member.T).sum(1).mean() / p.size
    return Calibration(_ece(member * (right - confidence), units), float(floor), p.size, filled)


def _ece(gaps: Floats, units: NDArray[np.int64]) -> Estimate:
    """Sum over bins (rows of ``gaps``) of the absolute total gap, over the judgments (columns); units are drawn whole."""
    sums = np.stack([np.bincount(units, weights=row) for row in gaps], axis=1)
    sizes = np.bincount(units)
    value = float(np.abs(sums.sum(0)).sum() / sizes.sum())
    if sizes.size == 1:
        return Estimate(value, None, None, units.size, "bootstrap")
    drawn = [np.abs(c @ sums).sum(1) / (c @ sizes) for c in resampled(sizes.size, RESAMPLES, 0)]
    low, high = percentiles(np.concatenate(drawn), 0.95)
    return Estimate(value, low, high, units.size, "bootstrap")


def self_preference(pairs: Sequence[JudgedPair]) -> SelfPreference:
    """The critic's preference for its own paraphrase, over pairs of which it wrote exactly one.

    ``rate`` is over all such pairs; ``people`` and ``excess`` over those that people judged too, annotators averaged.
    """
    known = [pair for pair in pairs if pair.own is not None and pair.parsed]
    judged = [pair for pair in known if pair.votes]
    critic = [_towards(pair, _critic_credit(pair)) for pair in judged]
    people = [_towards(pair, _people_credit(pair)) for pair in judged]
    return SelfPreference(
        share([_towards(pair, _critic_credit(pair)) for pair in known]),
        share(people),
        bootstrap_mean([mine - theirs for mine, theirs in zip(critic, people, strict=True)]),
    )


def _critic_credit(pair: JudgedPair) -> float:
    """The critic's preference for A in [0, 1] by its choices, mean of both showings."""
    credits = [_CREDIT[choice] for choice, _ in showings(pair)]
    return sum(credits) / len(credits)


def _people_credit(pair: JudgedPair) -> float:
    return sum(_CREDIT[vote] for vote in pair.votes) / len(pair.votes)


def _towards(pair: JudgedPair, credit: float) -> float:
    return credit if pair.own == "A" else 1 - credit


def _length_differences(pairs: Sequence[JudgedPair]) -> list[float]:
    return [float(pair.length_a - pair.length_b) for pair in pairs]


def _shorter(pair: JudgedPair) -> Choice | None:
    if pair.length_a == pair.length_b:
        return None
    return "A" if pair.length_a < pair.length_b else "B"


def _misses(pair: JudgedPair, choice: Choice | None, longer_only: bool) -> bool:
    """Whether ``choice`` is not the shorter paraphrase; with ``longer_only`` a tie is no miss."""
    return choice != _shorter(pair) and not (longer_only and choice == "tie")
