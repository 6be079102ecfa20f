"""Do judges agree: a critic with people, people with one another, and any number of raters (Krippendorff's alpha)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from quipwright.core.statistics.intervals import RESAMPLES, Estimate, percentiles, resampled, share

Choice = Literal["A", "B", "tie"]


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One pair of paraphrases as a critic and people judged it; every choice is mapped back to identity, A or B.

    ``first`` is the critic's choice with A shown first, ``second`` with B shown first; ``None`` is unparsed.
    ``p_first`` and ``p_second`` are its probabilities that A is better, where it gives any.
    ``people`` holds one choice per annotator, ``None`` where that one did not judge. Lengths are in words.
    ``own`` names the paraphrase whose author is the critic itself, where authorship is known and only one is.
    """

    first: Choice | None
    second: Choice | None
    people: tuple[Choice | None, ...] = ()
    length_a: int = 0
    length_b: int = 0
    p_first: float | None = None
    p_second: float | None = None
    own: Literal["A", "B"] | None = None

    @property
    def parsed(self) -> bool:
        """Whether both showings gave a choice; the audit's rates are over such pairs only."""
        return self.first is not None and self.second is not None

    @property
    def verdict(self) -> Choice | None:
        """The one choice of a critic that reads both showings: what they share, else a tie; ``None`` unless parsed."""
        if self.first is None or self.second is None:
            return None
        return self.first if self.first == self.second else "tie"

    @property
    def votes(self) -> tuple[Choice, ...]:
        """The choices of the annotators who judged."""
        return tuple(vote for vote in self.people if vote is not None)

    @property
    def probability(self) -> float | None:
        """Mean probability that A is better over both showings; ``None`` unless both are known."""
        return None if self.p_first is None or self.p_second is None else (self.p_first + self.p_second) / 2


@dataclass(frozen=True, slots=True)
class BothShowings:
    """A rate with the pairs shown forward (A first), backward (B first), and the mean of the two, which is reported."""

    forward: Estimate
    backward: Estimate
    mean: Estimate


@dataclass(frozen=True, slots=True)
class MarginAgreement:
    """The critic's agreement with the people's majority on pairs whose ``margin`` of votes was this clear.

    ``margin`` is (votes for the majority - votes for the runner-up) / votes, in (0, 1]; 1 is unanimous.
    """

    margin: float
    agreement: Estimate


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How well people predict people: what no critic should be expected to exceed.

    ``pairwise`` compares two annotators' choices and is the fair companion of Ag, which compares a critic's choice with
    one annotator's. ``leave_one_out`` compares each choice with the majority of the others.
    """

    leave_one_out: Estimate
    pairwise: Estimate


def agreement(pairs: Sequence[JudgedPair]) -> BothShowings:
    """Ag-H or Ag-C: the share of single human judgments that the critic's choice matches (Ravi et al. 2024, sec. 4).

    No majority vote: a pair with three annotators is three judgments. Annotators of one pair are resampled
    together. Pairs without both showings are left out.
    """
    judged = [(i, pair, vote) for i, pair in enumerate(pairs) if pair.parsed for vote in pair.votes]
    forward = [float(pair.first == vote) for _, pair, vote in judged]
    backward = [float(pair.second == vote) for _, pair, vote in judged]
    return both_showings(forward, backward, [i for i, _, _ in judged])


def both_showings(forward: Sequence[float], backward: Sequence[float], clusters: Sequence[Hashable]) -> BothShowings:
    """Estimates of two showings' rates and of their mean; pairs (``clusters``) are the units."""
    mean = [(f + b) / 2 for f, b in zip(forward, backward, strict=True)]
    return BothShowings(share(forward, clusters), share(backward, clusters), share(mean, clusters))


def agreement_by_margin(pairs: Sequence[JudgedPair]) -> tuple[MarginAgreement, ...]:
    """Agreement with the majority, mean of both showings, for each margin of the human vote, narrow to clear.

    A critic worth the name agrees more where people do. Pairs without a majority are left out.
    """
    groups: dict[float, list[float]] = {}
    for pair in pairs:
        ranked = Counter(pair.votes).most_common()
        if not pair.parsed or not ranked:
            continue
        (winner, most), runner_up = ranked[0], ranked[1][1] if len(ranked) > 1 else 0
        if most > runner_up:
            hits = (float(pair.first == winner) + float(pair.second == winner)) / 2
            groups.setdefault((most - runner_up) / len(pair.votes), []).append(hits)
    return tuple(MarginAgreement(margin, _halves(hits)) for margin, hits in sorted(groups.items()))


def human_ceiling(pairs: Sequence[JudgedPair]) -> Ceiling:
    """Agreement among the annotators themselves, over pairs that at least two of them judged.

    Where the others' vote is split, the choice scores its chance of matching a majority drawn by lot among the
    leaders; leaving split votes out would count the easy pairs only.
    """
    alone: list[tuple[int, float]] = []
    paired: list[tuple[int, float]] = []
    for i, pair in enumerate(pairs):
        if len(pair.votes) < 2:
            continue
        for place, vote in enumerate(pair.votes):
            others = Counter(pair.votes[:place] + pair.votes[place + 1 :])
            leaders = [choice for choice, count in others.items() if count == max(others.values())]
            alone.append((i, (vote in leaders) / len(leaders)))
        paired += [(i, float(one == other)) for one, other in combinations(pair.votes, 2)]
    return Ceiling(_share(alone), _share(paired))


def krippendorff_alpha(
    units: Sequence[Sequence[Hashable | None]], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Krippendorff's alpha for nominal labels: 1 is perfect agreement, 0 what chance would give.

    ``units[u]`` holds the raters' labels of unit u, ``None`` where missing, in any order and number; units with fewer
    than two labels say nothing and are left out of n. ``value`` is ``None`` where only one label was ever used, since
    chance then agrees perfectly too. Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", C.
    The interval resamples units; resamples that draw a single label have no alpha and are left out.
    """
    labelled = [[label for label in unit if label is not None] for unit in units]
    pairable = [unit for unit in labelled if len(unit) > 1]
    labels = {label: number for number, label in enumerate(dict.fromkeys(label for unit in pairable for label in unit))}
    if len(labels) < 2:
        return Estimate(None, None, None, len(pairable), "bootstrap")
    counts = np.zeros((len(pairable), len(labels)))
    for row, unit in zip(counts, pairable, strict=True):
        for label in unit:
            row[labels[label]] += 1
    sizes = counts.sum(1)
    disagreeing = (sizes**2 - (counts**2).sum(1)) / (sizes - 1)  # ordered pairs of unlike labels / (m - 1)

    def alphas(weights: np.ndarray) -> np.ndarray:
        totals = weights @ counts
        n = totals.sum(1)
        expected = (n**2 - (totals**2).sum(1)) / (n - 1)
        defined = expected > 0
        return np.asarray(1 - (weights @ disagreeing)[defined] / expected[defined])

    value = float(alphas(np.ones((1, len(pairable))))[0])
    if len(pairable) == 1:
        return Estimate(value, None, None, 1, "bootstrap")
    drawn = np.concatenate([alphas(weights) for weights in resampled(len(pairable), resamples, seed)])
    low, high = percentiles(drawn, level) if drawn.size else (None, None)
    return Estimate(value, low, high, len(pairable), "bootstrap")


def showings(pair: JudgedPair) -> Iterator[tuple[Choice, Literal["A", "B"]]]:
    """The critic's choice and the paraphrase shown first, for each parsed showing."""
    if pair.first is not None:
        yield pair.first, "A"
    if pair.second is not None:
        yield pair.second, "B"


def _halves(values: Sequence[float]) -> Estimate:
    return share(values, range(len(values)))


def _share(valued: Sequence[tuple[int, float]]) -> Estimate:
    return share([value for _, value in valued], [unit for unit, _ in valued])
