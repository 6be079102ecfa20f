"""Verdicts on file: which of two texts a judge found better, and what of them is clear enough to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quipwright.core.errors import DataError
from quipwright.core.text import is_copy, normalise
from quipwright.data.examples import read_rows


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

    def swapped(self) -> VerdictRow:
        """The same verdict, the two texts having changed places."""
        changed = {
            "a": self.b, "b": self.a, "quality_a": self.quality_b, "quality_b": self.quality_a,
            "author_a": self.author_b, "author_b": self.author_a,
            "verdict": {"a": "b", "b": "a", "tie": "tie"}[self.verdict],
        }  # fmt: skip
        return self.model_copy(update=changed)

    @property
    def texts(self) -> tuple[tuple[str, int | None, str], ...]:
        """Both texts, each with its grade and its author."""
        return (self.a, self.quality_a, self.author_a), (self.b, self.quality_b, self.author_b)

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
    ranked: dict[str, list[tuple[int, int, str, str]]] = {}
    for row in rows:
        if row.verdict == "tie" or row.strength < strength or (row.with_teacher and not teacher):
            continue
        better = row if row.verdict == "a" else row.swapped()
        worth = grade if better.quality_a is None else better.quality_a
        if worth >= grade and better.author_b != "teacher" and not is_copy(better.a, row.literal):
            preference = (-worth, -row.strength, better.a, better.b)
            ranked.setdefault(normalise(row.literal), []).append(preference)
    return {
        literal: [(winner, loser) for _, _, winner, loser in sorted(set(own))[:pairs]]
        for literal, own in ranked.items()
    }
