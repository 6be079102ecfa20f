"""Verdicts of an expensive critic as training material: what it said, and comparisons that come free with the corpus."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quipwright.core.errors import DataError
from quipwright.core.text import is_copy, normalise
from quipwright.data.examples import read_rows

Origin = Literal["attempt", "teacher", "copy", "spoilt", "stray"]
STRENGTH_WEIGHT = {1: 0.6, 2: 1.0, 3: 1.4}
_TARGET = {"a": 1.0, "b": 0.0, "tie": 0.5}


class VerdictRow(BaseModel):
    """One verdict of a file: which of two texts is better, how clearly (1-3), and their absolute grades (0-3).

    ``author_a`` and ``author_b`` say who wrote them where that is known: ``teacher``, or a student's name.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    literal: str
    a: str
    b: str
    verdict: Literal["a", "b", "tie"]
    strength: int = Field(2, ge=1, le=3)
    quality_a: int | None = Field(None, ge=0, le=3)
    quality_b: int | None = Field(None, ge=0, le=3)
    author_a: str = ""
    author_b: str = ""
    split: Literal["train", "heldout"] = "train"

    @property
    def with_teacher(self) -> bool:
        """Whether one of the two texts is the teacher's."""
        return "teacher" in (self.author_a, self.author_b)


def read_verdicts(path: Path) -> list[VerdictRow]:
    """The rows of a verdict file. Raises :class:`DataError` naming the first bad line."""
    rows = []
    for row in read_rows(path):
        try:
            rows.append(VerdictRow.model_validate(row.fields))
        except ValidationError as error:
            issue = error.errors(include_url=False)[0]
            where = ".".join(map(str, issue["loc"]))
            raise DataError(
                f"{path} line {row.line}: {where}: {issue['msg']}.", "See the card of the bundled verdicts."
            ) from None
    if not any(row.split == "heldout" for row in rows):
        raise DataError(
            f"{path} has no row with split 'heldout'.", "Keep a share of the verdicts to measure agreement on."
        )
    return rows


def preferences(
    rows: Sequence[VerdictRow], pairs: int, strength: int, grade: int, teacher: bool
) -> dict[str, list[tuple[str, str]]]:
    """(winner, loser) of the best ``pairs`` verdicts of each literal: winner's grade first, then strength.

    Left out: ties, verdicts below ``strength``, winners graded below ``grade`` or copying the literal, what a text of
    the teacher lost, and what it won unless ``teacher``.
    """
    found: dict[str, list[tuple[int, int, str, str]]] = {}
    for row in rows:
        if row.verdict == "tie" or row.strength < strength or (row.with_teacher and not teacher):
            continue
        sides = (row.a, row.b, row.quality_a, row.author_b)
        winner, loser, quality, beaten = sides if row.verdict == "a" else (row.b, row.a, row.quality_b, row.author_a)
        worth = grade if quality is None else quality
        if worth >= grade and beaten != "teacher" and not is_copy(winner, row.literal):
            found.setdefault(normalise(row.literal), []).append((-worth, -row.strength, winner, loser))
    return {literal: [(w, x) for _, _, w, x in sorted(set(own))[:pairs]] for literal, own in found.items()}


@dataclass
class Group:
    """All texts of one literal with what is known of them.

    ``pairs``: (i, j, target, weight), target being P(i beats j). ``graded``: (i, grade, weight).
    """

    literal: str
    texts: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    pairs: list[tuple[int, int, float, float]] = field(default_factory=list)
    graded: list[tuple[int, float, float]] = field(default_factory=list)

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
        group.pairs.append((i, j, _TARGET[row.verdict], share * STRENGTH_WEIGHT[row.strength]))
        for index, grade in ((i, row.quality_a), (j, row.quality_b)):
            if grade is not None:
                grades.setdefault((group.literal, index), []).append(grade)
    for (literal, index), given in grades.items():
        share = teacher_share if groups[literal].origins[index] == "teacher" else 1.0
        groups[literal].graded.append((index, fmean(given), share))
    for group in groups.values():
        judged = {frozenset(pair[:2]) for pair in group.pairs}
        known = {index: grade for index, grade, _ in group.graded}
        for i, better in known.items():
            for j, worse in known.items():
                if better - worse >= 1 and frozenset((i, j)) not in judged:
                    share = teacher_share if "teacher" in (group.origins[i], group.origins[j]) else 1.0
                    group.pairs.append((i, j, 1.0, share * unjudged_weight))
    return list(groups.values())


def _origin(author: str) -> Origin:
    return "teacher" if author == "teacher" else "attempt"


class FreeComparisons:
    """Comparisons that cost no call: the teacher beats attempts, attempts that are true beat copies, spoilt and stray
    texts. The losers are drawn anew each epoch for a ``share`` of the literals and weigh ``weight``; one of the teacher's
    texts joins every literal and weighs ``teacher_weight``: without it a critic that only ever saw small students'
    attempts takes a wit it does not know for nonsense."""

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
        own = self.teacher.get(_key(group.literal))
        if not own:
            return group
        extended = Group(group.literal, [*group.texts], [*group.origins], [*group.pairs], [*group.graded])
        if self.teacher_weight:
            self._teacher_wins(extended, rng.choice(own))
        if rng.random() < self.share:
            text, origin = self._bad(group.literal, own, rng)
            if text not in own and text not in extended.texts:  # what could not be spoilt is no loser
                self._loser(extended, text, origin)
        return extended

    def _teacher_wins(self, group: Group, text: str) -> None:
        best = group.add(text, "teacher")
        group.pairs += [(best, i, 1.0, self.teacher_weight) for i, o in enumerate(group.origins) if o == "attempt"]
        group.graded.append((best, 3.0, self.teacher_weight))

    def _loser(self, group: Group, text: str, origin: Origin) -> None:
        good = {i for i, grade, _ in group.graded if grade >= 1 and not is_copy(group.texts[i], group.literal)}
        worst = group.add(text, origin)
        weight = self.weight * (1.5 if origin == "copy" else 1.0)
        group.pairs += [(i, worst, 1.0, weight) for i in sorted(good) if i != worst]
        group.graded.append((worst, 0.0, self.weight))

    def _bad(self, literal: str, own: Sequence[str], rng: random.Random) -> tuple[str, Origin]:
        kind = rng.random()
        if kind < 0.45:
            return literal, "copy"
        if kind < 0.65:
            return self._near_copy(literal, rng), "copy"
        if kind < 0.85:
            return self._spoil(rng.choice(own), rng), "spoilt"
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
