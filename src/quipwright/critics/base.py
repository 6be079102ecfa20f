"""The critic door: pairs in, judgments out. A critic never changes what it is shown and never guesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from quipwright.core.records import Grade, Judgment, Pair, Response


@dataclass(frozen=True)
class Comparison:
    """One pair with its texts: what a critic reads."""

    pair: Pair
    literal: str
    a: str
    b: str


class Critic(Protocol):
    """Judges pairs. ``positional``: its verdict may depend on the order, so each pair is shown both ways."""

    name: str
    positional: bool

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Judgments in the order of ``comparisons``: two a pair (shown ``ab``, ``ba``) where positional, else one."""


@runtime_checkable
class Grader(Protocol):
    """A critic that also scores each response alone, so that k responses cost k readings, not k(k-1)/2."""

    name: str

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """One grade a response, in order."""
