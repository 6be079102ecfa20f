"""Critics that read no meaning: yardsticks for an audit, and controls with a bias one knows.

A critic that agrees with people no better than "the longer one wins" has shown nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from quipwright.core.records import Comparison, Judgment, Order, Verdict, content_hash, credit
from quipwright.core.text import word_count
from quipwright.critics.base import BaseCriticConfig, BuildContext

Pick = Literal["longer", "shorter", "first", "second", "coin"]


class Heuristic(BaseCriticConfig):
    """``pick``: the longer or shorter text in words (a tie where equal), whichever is shown first or second, or a coin
    tossed once for each pair of texts."""

    shorthand: ClassVar[str] = "pick"
    kind: Literal["rule"] = "rule"
    pick: Pick = "longer"

    def build(self, context: BuildContext) -> HeuristicCritic:
        """The critic."""
        return HeuristicCritic(self.pick)

    def identity(self, context: BuildContext) -> list[Any]:
        """Its settings are all there is."""
        return [self.kind, self.pick]


class HeuristicCritic:
    """A rule of thumb as a critic (see the ``Critic`` protocol)."""

    def __init__(self, pick: Pick) -> None:
        """Judgments are signed ``rule:<pick>``."""
        self.pick = pick
        self.name = f"rule:{pick}"
        self.positional = pick in ("first", "second")

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair, or two where the rule is about position; certain ones have probability 0 or 1."""
        orders: tuple[Order, ...] = ("ab", "ba") if self.positional else ("ab",)
        return [self._judgment(c, shown) for c in comparisons for shown in orders]

    def _judgment(self, c: Comparison, shown: Order) -> Judgment:
        verdict = self._verdict(c, shown)
        return Judgment(pair_id=c.pair.id, judge=self.name, shown=shown, p_a=credit(verdict), verdict=verdict)

    def _verdict(self, c: Comparison, shown: Order) -> Verdict:
        if self.positional:
            return "A" if (self.pick == "first") == (shown == "ab") else "B"
        if self.pick == "coin":
            # the hash is of the two texts in a fixed order: swapping A and B must not toss again
            low, high = sorted((c.a, c.b))
            winner = (low, high)[int(content_hash(c.literal, low, high), 16) % 2]
            return "tie" if c.a == c.b else "A" if winner == c.a else "B"
        a, b = word_count(c.a), word_count(c.b)
        return "tie" if a == b else "A" if (a > b) == (self.pick == "longer") else "B"
