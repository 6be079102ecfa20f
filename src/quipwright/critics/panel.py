"""A panel: several critics judge every pair; their mean or majority is the verdict, their disagreement is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from quipwright.core.records import Judgment, Verdict
from quipwright.core.settings import Settings
from quipwright.critics.base import Comparison, Critic
from quipwright.critics.cloze import Cloze
from quipwright.critics.combine import combined, verdict_of
from quipwright.critics.multiple_choice import MCP
from quipwright.critics.reward_model.critic import RewardSettings
from quipwright.data.task import Task
from quipwright.llm.calls import Calls

Member = Annotated[MCP | Cloze | RewardSettings, Field(discriminator="kind")]


class Panel(Settings):
    """``rule``: the mean of the members' probabilities, or the majority of their verdicts. ``tie``: a mean this close
    to one half is a tie."""

    kind: Literal["panel"] = "panel"
    critics: tuple[Member, ...] = Field(min_length=2)
    rule: Literal["mean", "majority"] = "mean"
    tie: float = Field(0.05, ge=0, lt=0.5)

    def open(self, calls: Calls, task: Task) -> PanelCritic:
        """The critic with its members opened."""
        members = [c.open(calls.base) if isinstance(c, RewardSettings) else c.open(calls, task) for c in self.critics]
        return PanelCritic(members, self.rule, self.tie)


class PanelCritic:
    """Members behind one verdict (see the ``Critic`` protocol). Both showings of a positional member are averaged."""

    positional = False

    def __init__(
        self, members: Sequence[Critic], rule: Literal["mean", "majority"] = "mean", tie: float = 0.05
    ) -> None:
        """``members`` may be critics of any kind."""
        self.members, self.rule, self.tie = list(members), rule, tie
        self.name = f"panel-{rule}({', '.join(member.name for member in members)})"

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair; its reason says how the members voted and what share was outvoted."""
        votes = [_by_pair(member.judge(comparisons)) for member in self.members]
        return [self._judgment(c, [combined(vote.get(c.pair.id, [])) for vote in votes]) for c in comparisons]

    def _judgment(self, c: Comparison, readings: Sequence[float | None]) -> Judgment:
        votes = [self._verdict(p) for p in readings]
        read = [p for p in readings if p is not None]
        counts: dict[Verdict, int] = {v: votes.count(v) for v in ("A", "B", "tie")}
        p, verdict = None, "unparsed"
        if read:
            p = sum(read) / len(read) if self.rule == "mean" else (counts["A"] + counts["tie"] / 2) / len(read)
            verdict = self._verdict(p) if self.rule == "mean" else _most(counts)
        told = ", ".join(f"{votes.count(v)} {v}" for v in ("A", "B", "tie", "unparsed") if v in votes)
        outvoted = 1 - max(counts.values()) / len(read) if read else 0.0
        reason = f"members: {told}; disagreement {outvoted:.2f}"
        return Judgment(pair_id=c.pair.id, judge=self.name, p_a=p, verdict=verdict, reason=reason)

    def _verdict(self, p: float | None) -> Verdict:
        return "unparsed" if p is None else verdict_of(p, self.tie)


def _most(counts: Mapping[Verdict, int]) -> Verdict:
    most = max(counts.values())
    leaders = [verdict for verdict, count in counts.items() if count == most]
    return leaders[0] if len(leaders) == 1 else "tie"


def _by_pair(judgments: Sequence[Judgment]) -> dict[str, list[Judgment]]:
    found: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        found.setdefault(judgment.pair_id, []).append(judgment)
    return found
