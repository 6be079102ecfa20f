"""Every kind of critic that a recipe can name, as one union, and the two kinds that are made of other critics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator

from quipwright.core.errors import CriticError
from quipwright.core.progress import console
from quipwright.core.records import Comparison
from quipwright.critics.active import ActiveCritic, LabelBudget, Labelled, label_actively
from quipwright.critics.base import BaseCriticConfig, BuildContext, Critic, Questions
from quipwright.critics.cloze import Cloze
from quipwright.critics.grading import GradeCritic
from quipwright.critics.heuristics import Heuristic
from quipwright.critics.likelihood import Likelihood
from quipwright.critics.listwise import Listwise
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.critics.panel import PanelCritic
from quipwright.critics.recorded import Recorded
from quipwright.critics.recorded_grades import RecordedGrades
from quipwright.critics.reward_model.critic import RewardModelConfig, RewardModelCritic
from quipwright.critics.reward_model.model import RewardArchitecture
from quipwright.critics.reward_model.training import CriticTraining, copy_critic
from quipwright.llm.config import ModelConfig

_RENAMED = {"mcp": "multiple_choice"}


def _with_current_kind(tree: Any) -> Any:
    """Settings under a former name of their kind are read all the same, with a note."""
    kind = tree.get("kind") if isinstance(tree, dict) else None
    if not isinstance(kind, str) or kind not in _RENAMED:
        return tree
    _note_renamed(kind)
    return {**tree, "kind": _RENAMED[kind]}


@cache
def _note_renamed(kind: str) -> None:
    console.print(f"Note: critic kind {kind} is now called {_RENAMED[kind]}.", soft_wrap=True)


class Panel(BaseCriticConfig):
    """``rule``: the mean of the members' probabilities, or the majority of their verdicts. ``tie``: a mean this close
    to one half is a tie."""

    kind: Literal["panel"] = "panel"
    critics: tuple[CriticConfig, ...] = Field(min_length=2)
    rule: Literal["mean", "majority"] = "mean"
    tie: float = Field(0.05, ge=0, lt=0.5)

    @field_validator("critics")
    @classmethod
    def _ready(cls, critics: tuple[CriticConfig, ...]) -> tuple[CriticConfig, ...]:
        for member in critics:
            refuse_untrained(member)
        return critics

    def build(self, context: BuildContext) -> PanelCritic:
        """The critic with its members built."""
        return PanelCritic([member.build(context) for member in self.critics], self.rule, self.tie)

    def identity(self, context: BuildContext) -> list[Any]:
        """Its rule and its members."""
        return [self.kind, self.rule, self.tie, *(member.identity(context) for member in self.critics)]

    def models(self) -> tuple[ModelConfig, ...]:
        """Those of its members."""
        return tuple(model for member in self.critics for model in member.models())

    def readers(self, context: BuildContext) -> list[Any]:
        """Those of its members."""
        return [reader for member in self.critics for reader in member.readers(context)]

    def questions(self, pairs: int, lists: Sequence[tuple[int, int]] = ()) -> tuple[Questions, ...]:
        """Those of its members."""
        return tuple(asked for member in self.critics for asked in member.questions(pairs, lists))


class ActiveLabelling(LabelBudget, BaseCriticConfig):
    """A reward model trained in the run on labels of the critic ``from`` (see :class:`LabelBudget`)."""

    trained_in_run: ClassVar[bool] = True
    kind: Literal["active_labelling"] = "active_labelling"
    source: CriticConfig = Field(alias="from")

    model_config = BaseCriticConfig.model_config | {"populate_by_name": True}

    @field_validator("source")
    @classmethod
    def _ready(cls, source: CriticConfig) -> CriticConfig:
        refuse_untrained(source)
        return source

    def build(self, context: BuildContext) -> Critic:
        """Raises :class:`CriticError`: there is nothing to judge with before :meth:`learn`."""
        raise CriticError(
            "A critic of kind active_labelling judges only after a round of feedback.",
            "Set rounds to at least 1, or name the folder of a run that trained one.",
        )

    def learn(self, context: BuildContext, comparisons: Sequence[Comparison]) -> ActiveCritic:
        """Label some of ``comparisons`` and train the reward model on them."""
        cheap = None if self.policy == "random" else RewardModelConfig().build(context)
        settings = CriticTraining(teacher=None, architecture=RewardArchitecture(prompt=context.task.prompt_in()))

        def train(labels: Sequence[Labelled]) -> RewardModelCritic:
            return copy_critic(labels, self.seed, settings)

        return label_actively(self, self.source.build(context), comparisons, train, cheap)

    def restore(self, folder: Path) -> ActiveCritic:
        """What :meth:`learn` made and ``save`` wrote to ``folder``."""
        return ActiveCritic.load(folder)

    def identity(self, context: BuildContext) -> list[Any]:
        """Its budget, the critic that labels, and what else the reward model depends on."""
        budget = self.model_dump(mode="json", include=set(LabelBudget.model_fields))
        cheap = [] if self.policy == "random" else RewardModelConfig().identity(context)
        return [self.kind, budget, self.source.identity(context), cheap, context.task.prompt_in()]

    def models(self) -> tuple[ModelConfig, ...]:
        """Those of the critic that labels."""
        return self.source.models()

    def readers(self, context: BuildContext) -> list[Any]:
        """Those of the critic that labels."""
        return self.source.readers(context)

    def questions(self, pairs: int, lists: Sequence[tuple[int, int]] = ()) -> tuple[Questions, ...]:
        """Those of the critic that labels, of no more pairs than the budget."""
        return self.source.questions(min(pairs, self.budget), lists)


CriticConfig = Annotated[
    RewardModelConfig
    | MultipleChoice
    | GradeCritic
    | Listwise
    | Cloze
    | Panel
    | ActiveLabelling
    | Recorded
    | RecordedGrades
    | Likelihood
    | Heuristic,
    Field(discriminator="kind"),
    BeforeValidator(_with_current_kind),
]
"""The settings of any critic. A new kind is one more member."""

Panel.model_rebuild()
ActiveLabelling.model_rebuild()


def refuse_untrained(critic: BaseCriticConfig) -> None:
    """Raises ``ValueError`` for a critic that a run has to train first."""
    if critic.trained_in_run:
        raise ValueError("a critic that a run trains first cannot stand here; name the folder of a trained one")


def config_of(kind: str) -> type[BaseCriticConfig] | None:
    """The settings class of critics of ``kind``, former names included; ``None`` where there is none."""
    members: tuple[type[BaseCriticConfig], ...] = get_args(get_args(CriticConfig)[0])
    current = _RENAMED.get(kind, kind)
    return next((member for member in members if member.model_fields["kind"].default == current), None)


def outsiders(critic: BaseCriticConfig, judges: Sequence[CriticConfig], context: BuildContext) -> list[CriticConfig]:
    """Those of ``judges`` that read texts with other models than ``critic``: only they can back a claim about what was
    trained with it."""
    own_readers = critic.readers(context)

    def outside(judge: BaseCriticConfig) -> bool:
        readers = judge.readers(context)
        return bool(readers) and all(reader not in own_readers for reader in readers)

    return [judge for judge in judges if outside(judge)]
