"""The rows that a reward model is trained on: all texts of one literal, with the comparisons and grades known of them,
and comparisons that come free with the corpus."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, NamedTuple

from quipwright.core.text import is_copy, normalise
from quipwright.data.verdicts import VerdictRow

Origin = Literal["attempt", "teacher", "copy", "spoilt", "stray"]
STRENGTH_WEIGHT = {1: 0.6, 2: 1.0, 3: 1.4}
_TARGET = {"a": 1.0, "b": 0.0, "tie": 0.5}


class Compared(NamedTuple):
    """Texts number ``i`` and ``j`` of a group: ``target`` is P(i beats j)."""

    i: int
    j: int
    target: float
    weight: float


class Graded(NamedTuple):
    """Text number ``text`` of a group: its mean ``grade``, 0 to 3."""

    text: int
    grade: float
    weight: float


@dataclass
class Group:
    """All texts of one literal with what is known of them."""

    literal: str
    texts: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    pairs: list[Compared] = field(default_factory=list)
    graded: list[Graded] = field(default_factory=list)

    def add(self, text: str, origin: Origin) -> int:
        """The index of ``text``, which is added if it is new."""
        if text in self.texts:
            return self.texts.index(text)
        self.texts.append(text)
        self.origins.append(origin)
        return len(self.texts) - 1


def grouped(verdicts: Sequence[VerdictRow], unjudged_weight: float, teacher_share: float = 1.0) -> list[Group]:
    """One group a literal: judged pairs weighted by strength, pairs a whole grade apart by ``unjudged_weight``, and
    the mean grade of every text. Whatever concerns a text of the teacher weighs ``teacher_share`` of that: such pairs
    are easy and many, and would drown the hard ones."""
    groups: dict[str, Group] = {}
    grades: dict[tuple[str, int], list[int]] = {}
    for row in verdicts:
        group = groups.setdefault(normalise(row.literal), Group(normalise(row.literal)))
        i, j = group.add(row.a, _origin(row.author_a)), group.add(row.b, _origin(row.author_b))
        share = teacher_share if row.with_teacher else 1.0
        group.pairs.append(Compared(i, j, _TARGET[row.verdict], share * STRENGTH_WEIGHT[row.strength]))
        for index, (_, grade, _) in zip((i, j), row.texts, strict=True):
            if grade is not None:
                grades.setdefault((group.literal, index), []).append(grade)
    for (literal, index), given in grades.items():
        share = teacher_share if groups[literal].origins[index] == "teacher" else 1.0
        groups[literal].graded.append(Graded(index, fmean(given), share))
    for group in groups.values():
        judged = {frozenset((pair.i, pair.j)) for pair in group.pairs}
        known = {graded.text: graded.grade for graded in group.graded}
        for i, better in known.items():
            for j, worse in known.items():
                if better - worse >= 1 and frozenset((i, j)) not in judged:
                    share = teacher_share if "teacher" in (group.origins[i], group.origins[j]) else 1.0
                    group.pairs.append(Compared(i, j, 1.0, share * unjudged_weight))
    return list(groups.values())


def _origin(author: str) -> Origin:
    return "teacher" if author == "teacher" else "attempt"


class FreeComparisons:
    """Comparisons that cost no call: the teacher beats attempts, attempts that are true beat copies, spoilt and stray
    texts. The losers are drawn anew each epoch for a ``share`` of the literals and weigh ``weight``; one of the teacher's
    texts joins every literal and weighs ``teacher_weight``: without it a critic that only ever saw small students'
    attempts takes a style it does not know for nonsense."""

    def __init__(
        self, teacher: Mapping[str, Sequence[str]], share: float, weight: float, teacher_weight: float = 0.5
    ) -> None:
        """``teacher``: paraphrases by literal."""
        self.teacher_weight = teacher_weight
        self.teacher = {_key(literal): list(texts) for literal, texts in teacher.items()}
        self.share, self.weight = share, weight
        self.vocabulary = [word for texts in self.teacher.values() for text in texts for word in text.split()]

    def extend(self, group: Group, rng: random.Random) -> Group:
        """A copy of ``group`` with free texts and comparisons, or the group itself."""
        taught = self.teacher.get(_key(group.literal))
        if not taught:
            return group
        extended = Group(group.literal, [*group.texts], [*group.origins], [*group.pairs], [*group.graded])
        if self.teacher_weight:
            self._teacher_wins(extended, rng.choice(taught))
        if rng.random() < self.share:
            text, origin = self._bad(group.literal, taught, rng)
            if text not in taught and text not in extended.texts:  # what could not be spoilt is no loser
                self._loser(extended, text, origin)
        return extended

    def _teacher_wins(self, group: Group, text: str) -> None:
        best = group.add(text, "teacher")
        group.pairs += [
            Compared(best, i, 1.0, self.teacher_weight) for i, o in enumerate(group.origins) if o == "attempt"
        ]
        group.graded.append(Graded(best, 3.0, self.teacher_weight))

    def _loser(self, group: Group, text: str, origin: Origin) -> None:
        good = {i for i, grade, _ in group.graded if grade >= 1 and not is_copy(group.texts[i], group.literal)}
        worst = group.add(text, origin)
        weight = self.weight * (1.5 if origin == "copy" else 1.0)
        group.pairs += [Compared(i, worst, 1.0, weight) for i in sorted(good) if i != worst]
        group.graded.append(Graded(worst, 0.0, self.weight))

    def _bad(self, literal: str, taught: Sequence[str], rng: random.Random) -> tuple[str, Origin]:
        kind = rng.random()
        if kind < 0.45:
            return literal, "copy"
        if kind < 0.65:
            return self._near_copy(literal, rng), "copy"
        if kind < 0.85:
            return self._spoil(rng.choice(taught), rng), "spoilt"
        others = [other for other in self.teacher if other != _key(literal)]
        return rng.choice(self.teacher[rng.choice(others)]), "stray"

    def _near_copy(self, literal: str, rng: random.Random) -> str:
        tokens = literal.split()
        place = rng.randrange(len(tokens))
        tokens[place : place + 1] = [] if rng.random() < 0.5 and len(tokens) > 1 else [rng.choice(self.vocabulary)]
        return " ".join(tokens)

    def _spoil(self, text: str, rng: random.Random) -> str:
        tokens = text.split()
        if len(tokens) < 4 or (kind := rng.randrange(3)) == 0:
            return " ".join(tokens[: max(2, int(len(tokens) * rng.uniform(0.3, 0.7)))])
        for _ in range(max(2, len(tokens) // 5)):
            i = rng.randrange(len(tokens) - 1)
            if kind == 1:
                tokens[i], tokens[i + 1] = tokens[i + 1], tokens[i]
            else:
                tokens[i] = rng.choice(self.vocabulary)
        return " ".join(tokens)


def _key(literal: str) -> str:
    return normalise(literal).casefold()
