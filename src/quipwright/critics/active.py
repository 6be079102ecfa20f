"""Active labelling: an expensive critic labels some pairs, a reward model trained on those labels judges the rest.

The reward model is measured before it is trusted. Which pairs to label is a policy: small margins of a cheap critic
first (arXiv 2406.17312) and large gaps first (2603.09692) contradict each other; random is the control.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from quipwright.core.errors import CriticError
from quipwright.core.records import Comparison, Judgment, content_hash
from quipwright.core.settings import Settings
from quipwright.core.statistics import wilson
from quipwright.core.storage.files import read_lines, write_atomic
from quipwright.critics.base import Critic
from quipwright.critics.combine import UNREAD_REMEDY, by_pair, combined_by_pair, unread, verdict_of
from quipwright.critics.reward_model.critic import RewardModelCritic

LABELS_FILE = "labels.jsonl"


@dataclass(frozen=True)
class Labelled:
    """A pair with the expensive critic's P(A better), both orders averaged."""

    comparison: Comparison
    p_a: float


class LabelBudget(Settings):
    """``budget`` pairs are put to the expensive critic, chosen by ``policy``; a share ``heldout`` is not learnt from.

    On that the reward model must agree at least ``floor`` of the time (ties left out), or the run stops and says so.
    """

    budget: int = Field(500, ge=10)
    policy: Literal["random", "small_margin", "large_gap"] = "random"
    heldout: float = Field(0.2, gt=0, lt=1)
    floor: float = Field(0.65, ge=0, le=1)
    seed: int = 0


@dataclass(frozen=True)
class Agreement:
    """On how many of ``n`` held-out pairs with a winner the reward model named it: ``right``. ``labelled``: all pairs
    that were put to the expensive critic; ``unparsed`` of them could not be read in both orders."""

    right: int
    n: int
    labelled: int
    unparsed: int

    @property
    def share(self) -> float | None:
        """``right`` over ``n``; ``None`` where there is nothing to measure on."""
        return self.right / self.n if self.n else None

    def figures(self) -> dict[str, Any]:
        """As a critic's figures, with Wilson's 95 % interval."""
        low, high = wilson(self.right, self.n) if self.n else (None, None)
        return {"agreement": self.share, "low": low, "high": high, "n": self.n}

    def line(self) -> str:
        """One line for people."""
        counts = f"{self.n} held-out verdicts ({self.labelled} labelled, {self.unparsed} of them unreadable)"
        if self.share is None:
            return f"the reward model could not be measured: there are {counts}"
        low, high = wilson(self.right, self.n)
        return f"the reward model agrees with {self.share:.1%} ({low:.0%} to {high:.0%}) of {counts}"


class ActiveCritic:
    """Gives the expensive critic's own judgments where it labelled the pair and the reward model's elsewhere."""

    def __init__(self, reward_model: RewardModelCritic, labels: Sequence[Judgment], agreement: Agreement) -> None:
        """Use :func:`label_actively`, which labels, trains and measures."""
        self.reward_model, self.agreement = reward_model, agreement
        self.name = reward_model.name
        self.positional = reward_model.positional
        self.labels = by_pair(labels)

    @classmethod
    def load(cls, folder: Path) -> ActiveCritic:
        """What :meth:`save` wrote. Raises :class:`CriticError` or :class:`DamagedError` where it is not there."""
        reward_model = RewardModelCritic.load(folder)
        counts = {name: round(value) for name, value in reward_model.card.figures.items()}
        labels = [Judgment.from_line(line) for line in read_lines(folder / LABELS_FILE)]
        return cls(reward_model, labels, Agreement(**counts))

    def figures(self) -> dict[str, Any]:
        """The measured agreement with the expensive critic."""
        return self.agreement.figures()

    def summary(self) -> str:
        """The measured agreement, in words."""
        return self.agreement.line()

    def save(self, folder: Path) -> None:
        """Write the reward model to ``folder`` as any trained one, with its agreement, and the labels beside it."""
        counts = {name: float(count) for name, count in asdict(self.agreement).items()}
        card = self.reward_model.card.model_copy(update={**self.figures(), "figures": counts})
        RewardModelCritic(self.reward_model.model, card, self.name).save(folder)
        labels = [judgment.to_line() + "\n" for own in self.labels.values() for judgment in own]
        write_atomic(folder / LABELS_FILE, "".join(labels))

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Judgments in order; each says who made it."""
        rest = [c for c in comparisons if c.pair.id not in self.labels]
        judged = self.labels | by_pair(self.reward_model.judge(rest) if rest else ())
        return [j for c in comparisons for j in judged[c.pair.id]]


def label_actively(
    budget: LabelBudget,
    expensive: Critic,
    comparisons: Sequence[Comparison],
    train: Callable[[Sequence[Labelled]], RewardModelCritic],
    cheap: Critic | None = None,
) -> ActiveCritic:
    """Label some of ``comparisons``, ``train`` a reward model on them, measure it, and return it if it is good enough.

    ``cheap`` is the critic whose margins the policies go by (``random`` needs none). Raises :class:`CriticError` when
    the agreement is below the floor or too few labels were readable to measure it.
    """
    chosen = choose(budget, comparisons, cheap)
    judgments = expensive.judge(chosen)
    p_a = combined_by_pair(judgments)
    labels = [Labelled(c, p) for c in chosen if (p := p_a.get(c.pair.id)) is not None]
    if not labels:
        raise CriticError(f"Active labelling: {unread(judgments)}.", UNREAD_REMEDY)
    held, rest = split(labels, budget.heldout, budget.seed)
    reward_model = train(rest)
    right, n = measure(reward_model, held)
    agreement = Agreement(right, n, len(chosen), len(chosen) - len(labels))
    if agreement.share is None or not agreement.share >= budget.floor:
        raise CriticError(
            f"Active labelling: {agreement.line()}; the floor is {budget.floor:.0%}.",
            "Raise the budget, try another policy, or lower the floor knowingly.",
        )
    return ActiveCritic(reward_model, judgments, agreement)


def choose(budget: LabelBudget, comparisons: Sequence[Comparison], cheap: Critic | None = None) -> list[Comparison]:
    """The pairs to label, in their own order. Raises :class:`CriticError` when a margin policy has no margins."""
    drawn = random.Random(content_hash("buy", budget.seed))
    order = drawn.sample(range(len(comparisons)), len(comparisons))
    if budget.policy != "random":
        if cheap is None:
            raise CriticError(f"Policy {budget.policy} needs a cheap critic's margins.", "Name one, or use random.")
        margins = _margins(cheap, comparisons)
        order.sort(key=lambda i: margins[i] if budget.policy == "small_margin" else -margins[i])
    return [comparisons[i] for i in sorted(order[: budget.budget])]


def split(labels: Sequence[Labelled], heldout: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """``(held out, learnt from)``, by literal, so that no sentence stands on both sides."""
    literals = sorted({label.comparison.literal for label in labels})
    random.Random(content_hash("held out", seed)).shuffle(literals)
    held = set(literals[: max(1, round(heldout * len(literals)))])
    return [x for x in labels if x.comparison.literal in held], [x for x in labels if x.comparison.literal not in held]


def measure(critic: Critic, held: Sequence[Labelled]) -> tuple[int, int]:
    """On how many of the ``held`` pairs with a winner ``critic`` names the same one, and the number of such pairs; an
    unreadable or tied verdict is no agreement."""
    decided = [label for label in held if label.p_a != 0.5]
    p_a = combined_by_pair(critic.judge([label.comparison for label in decided]))
    right = sum(verdict_of(p_a.get(x.comparison.pair.id)) == verdict_of(x.p_a) for x in decided)
    return right, len(decided)


def _margins(cheap: Critic, comparisons: Sequence[Comparison]) -> list[float]:
    p_a = combined_by_pair(cheap.judge(comparisons))
    return [0.0 if p is None else abs(p - 0.5) for p in (p_a.get(c.pair.id) for c in comparisons)]
