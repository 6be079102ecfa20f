"""A panel: several critics judge every pair; their mean or majority is the verdict, their disagreement is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from quipwright.core.records import Comparison, Judgment, Verdict
from quipwright.critics.base import Critic
from quipwright.critics.combine import combined_by_pair, verdict_of


class PanelCritic:
    """Members behind one verdict (see the ``Critic`` protocol). Both orders of a positional member are averaged."""

    positional = False

    def __init__(
        self, members: Sequence[Critic], rule: Literal["mean", "majority"] = "mean", tie: float = 0.05
    ) -> None:
        """``members`` may be critics of any kind."""
        self.members, self.rule, self.tie = list(members), rule, tie
        self.name = f"panel-{rule}({', '.join(member.name for member in members)})"

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair; its reason says how the members voted and what share was outvoted.

        A member that could read one order only has no vote.
        """
        votes = [combined_by_pair(member.judge(comparisons)) for member in self.members]
        return [self._judgment(c, [vote.get(c.pair.id) for vote in votes]) for c in comparisons]

    def _judgment(self, c: Comparison, votes: Sequence[float | None]) -> Judgment:
        verdicts = [verdict_of(p, self.tie) for p in votes]
        read = [p for p in votes if p is not None]
        counts: dict[Verdict, int] = {v: verdicts.count(v) for v in ("A", "B", "tie")}
        p, verdict = None, verdict_of(None)
        if read:
            p = sum(read) / len(read) if self.rule == "mean" else (counts["A"] + counts["tie"] / 2) / len(read)
            verdict = verdict_of(p, self.tie) if self.rule == "mean" else _most(counts)
        summary = ", ".join(f"{verdicts.count(v)} {v}" for v in ("A", "B", "tie", "unparsed") if v in verdicts)
        outvoted = 1 - max(counts.values()) / len(read) if read else 0.0
        reason = f"members: {summary}; disagreement {outvoted:.2f}"
        return Judgment(pair_id=c.pair.id, judge=self.name, p_a=p, verdict=verdict, reason=reason)


def _most(counts: Mapping[Verdict, int]) -> Verdict:
    most = max(counts.values())
    leaders = [verdict for verdict, count in counts.items() if count == most]
    return leaders[0] if len(leaders) == 1 else "tie"
