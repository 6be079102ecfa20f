"""Graded attempts become what a student learns from: pairs within a literal, or single texts that are good or not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from quipwright.core.errors import DataError
from quipwright.core.records import content_hash
from quipwright.core.settings import Settings
from quipwright.core.text import degenerate, is_copy, length_ratio, normalise
from quipwright.data.graded import GradedRow, RepairRow

Group = tuple[str, str]
"""A literal, normalised, and a style: only texts of one group are compared."""


@dataclass(frozen=True)
class Graded:
    """A text with its grade. ``taught``: it is the teacher's, or a repair, not the student's own."""

    text: str
    grade: int
    taught: bool = False


@dataclass(frozen=True)
class Preferred:
    """The ``winner`` is better than the ``loser``, both of one group."""

    group: Group
    winner: str
    loser: str


class GradedPairs(Settings):
    """Which pairs are made of graded attempts.

    At most ``most`` of a literal. ``losers``: the share of each of the task's levels among the losers, by name; what a
    level has more of than its share is left out. Empty: all that can lose, as they come. ``length``: the least ratio of
    the shorter to the longer text of a pair, in words; unset, the task's length rule.
    """

    most: int = Field(3, ge=1)
    losers: dict[str, float] = Field(default_factory=dict)
    length: float | None = Field(None, ge=0, le=1)


def grouped(rows: Iterable[GradedRow]) -> dict[Group, list[Graded]]:
    """The graded texts of each group; one that was graded several times has the lowest of its grades."""
    groups: dict[Group, dict[str, Graded]] = {}
    for row in rows:
        texts = groups.setdefault((normalise(row.literal), row.style), {})
        before = texts.get(normalise(row.text))
        if before is None or row.grade < before.grade:
            texts[normalise(row.text)] = Graded(row.text, row.grade)
    return {group: list(texts.values()) for group, texts in groups.items()}


def repaired(repairs: Iterable[RepairRow]) -> list[Preferred]:
    """Each repair over the attempt it mends."""
    return [Preferred((normalise(row.literal), row.style), row.repair, row.attempt) for row in repairs]


def good_texts(group: Group, texts: Iterable[Graded], least: int) -> list[Graded]:
    """Those of ``texts`` that are graded ``least`` or better and are neither copies of the literal nor broken in form."""
    literal = group[0]
    return [
        t for t in texts if t.grade >= least and not is_copy(t.text, literal) and degenerate(t.text, literal) is None
    ]


def graded_pairs(
    groups: Mapping[Group, Sequence[Graded]],
    rule: GradedPairs,
    *,
    least: int,
    levels: Sequence[str],
    length: float,
    seed: int,
) -> list[Preferred]:
    """Pairs of a good text (graded ``least`` or better) over a worse one of its group, as ``rule`` says.

    ``levels`` are the task's names of grades; ``length`` is the least ratio of lengths. Copies of the literal neither win
    nor lose here. Of a literal's possible pairs those come first whose texts are in the fewest pairs yet, the student's
    own winners before others. The same for the same ``seed``. Raises :class:`DataError` where ``rule`` names a level that
    no loser can have.
    """
    shares = _shares(rule, levels)
    by_literal: dict[str, list[tuple[int, Preferred, bool]]] = {}
    for group, texts in groups.items():
        losers = [t for t in texts if (not shares or t.grade in shares) and not is_copy(t.text, group[0])]
        by_literal.setdefault(group[0], []).extend(
            (loser.grade, Preferred(group, winner.text, loser.text), winner.taught)
            for winner in good_texts(group, texts, least)
            for loser in losers
            if loser.grade < winner.grade and length_ratio(winner.text, loser.text) >= length
        )
    order = sorted(by_literal)
    random.Random(content_hash("graded pairs", seed)).shuffle(order)
    chosen = _drawn({literal: by_literal[literal] for literal in order}, shares, rule.most, seed)
    return _trimmed(chosen, shares)


def _shares(rule: GradedPairs, levels: Sequence[str]) -> dict[int, float]:
    """The share of each loser's grade; they add up to 1. Empty where the rule leaves them open."""
    below = {name: grade for grade, name in enumerate(levels[:-1])}
    unknown = [name for name in rule.losers if name not in below]
    if unknown:
        raise DataError(f"losers names {unknown[0]!r}, which is no level below the best.", f"Use {', '.join(below)}.")
    weights = {below[name]: weight for name, weight in rule.losers.items() if weight > 0}
    return {grade: weight / sum(weights.values()) for grade, weight in weights.items()}


def _drawn(
    candidates: Mapping[str, Sequence[tuple[int, Preferred, bool]]], shares: Mapping[int, float], most: int, seed: int
) -> list[tuple[int, Preferred]]:
    """Up to ``most`` pairs of each literal, one a turn, of that loser's grade which lags most behind its share (if any)."""
    rng = random.Random(content_hash("graded turns", seed))
    left = {literal: rng.sample(list(pairs), len(pairs)) for literal, pairs in candidates.items()}
    counts: Counter[int] = Counter()
    uses: Counter[tuple[Group, str]] = Counter()
    chosen: list[tuple[int, Preferred]] = []
    for _ in range(most):
        for pairs in left.values():
            if not pairs:
                continue
            lag = {grade: share * (len(chosen) + 1) - counts[grade] for grade, share in shares.items()}
            best = min(
                pairs,
                key=lambda one: (
                    -lag.get(one[0], 0.0), one[2], uses[one[1].group, one[1].winner] + uses[one[1].group, one[1].loser]
                ),
            )  # fmt: skip
            pairs.remove(best)
            grade, pair, _ = best
            counts[grade] += 1
            uses.update([(pair.group, pair.winner), (pair.group, pair.loser)])
            chosen.append((grade, pair))
    return chosen


def _trimmed(chosen: Sequence[tuple[int, Preferred]], shares: Mapping[int, float]) -> list[Preferred]:
    """As many of ``chosen``, the first ones first, as leave each grade its share; none where one is missing."""
    if not shares:
        return [pair for _, pair in chosen]
    counts = Counter(grade for grade, _ in chosen)
    total = min(counts[grade] / share for grade, share in shares.items())
    room = {grade: round(share * total) for grade, share in shares.items()}
    kept = []
    for grade, pair in chosen:
        if room[grade] > 0:
            room[grade] -= 1
            kept.append(pair)
    return kept


def labelled(
    groups: Mapping[Group, Sequence[Graded]], least: int, copies: float = 0.0, seed: int = 0
) -> list[tuple[Group, str, bool]]:
    """Each text with its group, and whether it is desirable: good as :func:`good_texts` says.

    For the share ``copies`` of the good ones, drawn by ``seed``, the literal itself is added as an undesirable text, once
    a group.
    """
    texts, good_groups = list[tuple[Group, str, bool]](), list[Group]()
    for group, own in groups.items():
        good = {text.text for text in good_texts(group, own, least)}
        good_groups += [group] * len(good)
        texts += [(group, text, text in good) for text in dict.fromkeys(text.text for text in own)]
    drawn = random.Random(content_hash("copies", seed)).sample(good_groups, round(copies * len(good_groups)))
    return [*texts, *((group, group[0], False) for group in dict.fromkeys(drawn))]


def imitated(groups: Mapping[Group, Sequence[Graded]], least: int, *, weighted: bool) -> dict[Group, list[str]]:
    """The good texts of each group that has any; ``weighted``: one of grade g stands there g - ``least`` + 1 times."""
    targets = {
        group: [t.text for t in good_texts(group, texts, least) for _ in range(t.grade - least + 1 if weighted else 1)]
        for group, texts in groups.items()
    }
    return {group: texts for group, texts in targets.items() if texts}
