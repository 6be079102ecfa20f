"""The rule that no critic may overturn: a copy of the literal loses to any attempt, and so does an empty text.

A copy is coherent and true, so critics that value both reward it, and a student trained on them learns to copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from quipwright.core.records import Comparison, Judgment, Verdict, credit
from quipwright.core.text import degenerate, is_copy
from quipwright.critics.base import Critic
from quipwright.critics.combine import by_pair

RULE = "rule:"
"""How the judge's name of a judgment begins that a rule made."""


class CopyFilter:
    """``critic`` behind the rule. What the rule decides costs no call and is recorded with its reason."""

    def __init__(self, critic: Critic) -> None:
        """``critic`` judges whatever the rule leaves open."""
        self.critic = critic
        self.name = critic.name
        self.positional = critic.positional

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Judgments in order; the rule's have judge ``rule:copy`` or ``rule:degenerate``, one a pair."""
        ruled = {i: verdict for i, c in enumerate(comparisons) if (verdict := _rule(c)) is not None}
        judged = by_pair(self.critic.judge([c for i, c in enumerate(comparisons) if i not in ruled]))
        return [j for i, c in enumerate(comparisons) for j in ([ruled[i]] if i in ruled else judged[c.pair.id])]


def _rule(comparison: Comparison) -> Judgment | None:
    for judge, reason, faulty in (
        ("degenerate", "empty or broken text", lambda text: degenerate(text, comparison.literal) is not None),
        ("copy", "copy of the literal", lambda text: is_copy(text, comparison.literal)),
    ):
        a, b = faulty(comparison.a), faulty(comparison.b)
        if a or b:
            verdict: Verdict = "tie" if a and b else "B" if a else "A"
            return Judgment(
                pair_id=comparison.pair.id, judge=f"{RULE}{judge}", p_a=credit(verdict), verdict=verdict, reason=reason
            )
    return None
