"""A distilled critic: an expensive one labels some pairs, its cheap copy the rest, and the copy is measured first.

Which pairs to buy is a policy. Small margins of the cheap critic first (arXiv 2406.17312) and large gaps first
(2603.09692) contradict each other; random is the control.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.records import Judgment, content_hash
from quipwright.core.settings import Settings
from quipwright.core.statistics import Interval, wilson
from quipwright.critics.base import Comparison, Critic
from quipwright.critics.cloze import Cloze
from quipwright.critics.combine import combined
from quipwright.critics.multiple_choice import MCP
from quipwright.critics.panel import Panel
from quipwright.critics.reward_model.critic import RewardCritic


@dataclass(frozen=True)
class Labelled:
    """A pair with the expensive critic's P(A better), both showings averaged."""

    comparison: Comparison
    p_a: float


Learn = Callable[[Sequence[Labelled]], Critic]


class Buying(Settings):
    """``budget`` pairs are put to the expensive critic, chosen by ``policy``; a share ``heldout`` is not learnt from.

    On that the copy must agree at least ``floor`` of the time (ties left out), or the run stops and says so.
    """

    budget: int = Field(500, ge=10)
    policy: Literal["random", "small_margin", "large_gap"] = "random"
    heldout: float = Field(0.2, gt=0, lt=1)
    floor: float = Field(0.65, ge=0, le=1)
    seed: int = 0


class Distilled(Buying):
    """A copy of the critic ``from`` by ``Buying``'s rules."""

    kind: Literal["distilled"] = "distilled"
    source: MCP | Cloze | Panel = Field(alias="from", discriminator="kind")

    model_config = Settings.model_config | {"populate_by_name": True}


@dataclass(frozen=True)
class Agreement:
    """How often a copy named the expensive critic's winner on ``n`` held-out pairs that had one."""

    share: float
    n: int
    bought: int
    unparsed: int

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of ``share``."""
        return wilson(round(self.share * self.n), self.n)

    def line(self) -> str:
        """One line for people."""
        low, high = self.interval
        return (
            f"the copy agrees with {self.share:.1%} ({low:.0%} to {high:.0%}) of {self.n} held-out verdicts "
            f"({self.bought} bought, {self.unparsed} of them unreadable)"
        )


class DistilledCritic:
    """Gives the expensive critic's own judgments where they were bought and its copy's elsewhere."""

    def __init__(self, copy: Critic, bought: Sequence[Judgment], agreement: Agreement) -> None:
        """Use :func:`distil_critic`, which buys, trains and measures."""
        self.copy, self.agreement = copy, agreement
        self.name = copy.name
        self.positional = copy.positional
        self._bought: dict[str, list[Judgment]] = {}
        for judgment in bought:
            self._bought.setdefault(judgment.pair_id, []).append(judgment)

    def save(self, folder: Path) -> None:
        """Write the copy to ``folder`` as any trained critic, with its agreement; the bought judgments are the run's."""
        if isinstance(self.copy, RewardCritic):
            low, high = self.agreement.interval
            known = {"agreement": self.agreement.share, "low": low, "high": high, "n": self.agreement.n, "figures": {}}
            RewardCritic(self.copy.model, self.copy.card.model_copy(update=known), self.name).save(folder)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Judgments in order; each says who made it."""
        rest = [c for c in comparisons if c.pair.id not in self._bought]
        made: dict[str, list[Judgment]] = {}
        for judgment in self.copy.judge(rest) if rest else ():
            made.setdefault(judgment.pair_id, []).append(judgment)
        return [j for c in comparisons for j in self._bought.get(c.pair.id) or made.get(c.pair.id, [])]


def distil_critic(
    buying: Buying, expensive: Critic, comparisons: Sequence[Comparison], learn: Learn, cheap: Critic | None = None
) -> DistilledCritic:
    """Buy verdicts on some of ``comparisons``, ``learn`` a copy from them, measure it, and give it back if it is good.

    ``cheap`` is the critic whose margins the policies go by (``random`` needs none). Raises :class:`CriticError` when
    the agreement is below the floor or too few verdicts were readable to measure it.
    """
    chosen = choose(buying, comparisons, cheap)
    bought = expensive.judge(chosen)
    by_pair: dict[str, list[Judgment]] = {}
    for judgment in bought:
        by_pair.setdefault(judgment.pair_id, []).append(judgment)
    labels = [Labelled(c, p) for c in chosen if (p := combined(by_pair.get(c.pair.id, []))) is not None]
    held, learnt = split(labels, buying.heldout, buying.seed)
    copy = learn(learnt)
    share, n = measure(copy, held)
    agreement = Agreement(share, n, len(chosen), len(chosen) - len(labels))
    if n == 0 or share < buying.floor:
        raise CriticError(
            f"{agreement.line()}; the floor is {buying.floor:.0%}.",
            "Raise the budget, try another policy, or lower the floor knowingly.",
        )
    return DistilledCritic(copy, bought, agreement)


def choose(buying: Buying, comparisons: Sequence[Comparison], cheap: Critic | None = None) -> list[Comparison]:
    """The pairs to buy, in their own order. Raises :class:`CriticError` when a margin policy has no margins."""
    drawn = random.Random(content_hash("buy", buying.seed))
    order = drawn.sample(range(len(comparisons)), len(comparisons))
    if buying.policy != "random":
        if cheap is None:
            raise CriticError(f"Policy {buying.policy} needs a cheap critic's margins.", "Name one, or use random.")
        margins = _margins(cheap, comparisons)
        order.sort(key=lambda i: margins[i] if buying.policy == "small_margin" else -margins[i])
    return [comparisons[i] for i in sorted(order[: buying.budget])]


def split(labels: Sequence[Labelled], heldout: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """``(held out, learnt from)``, by literal, so that no sentence stands on both sides."""
    literals = sorted({label.comparison.literal for label in labels})
    random.Random(content_hash("held out", seed)).shuffle(literals)
    held = set(literals[: max(1, round(heldout * len(literals)))])
    return [x for x in labels if x.comparison.literal in held], [x for x in labels if x.comparison.literal not in held]


def measure(copy: Critic, held: Sequence[Labelled]) -> tuple[float, int]:
    """Share of held-out pairs with a winner for which ``copy`` names the same one, and their number; an unreadable or
    tied verdict of the copy is no agreement."""
    decided = [label for label in held if label.p_a != 0.5]
    judged: dict[str, list[Judgment]] = {}
    for judgment in copy.judge([label.comparison for label in decided]):
        judged.setdefault(judgment.pair_id, []).append(judgment)
    right = 0
    for label in decided:
        p = combined(judged.get(label.comparison.pair.id, []))
        right += p is not None and (p - 0.5) * (label.p_a - 0.5) > 0
    return (right / len(decided) if decided else 0.0), len(decided)


def _margins(cheap: Critic, comparisons: Sequence[Comparison]) -> list[float]:
    judged: dict[str, list[Judgment]] = {}
    for judgment in cheap.judge(comparisons):
        judged.setdefault(judgment.pair_id, []).append(judgment)
    read = [combined(judged.get(c.pair.id, [])) for c in comparisons]
    return [0.0 if p is None else abs(p - 0.5) for p in read]
