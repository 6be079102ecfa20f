"""What a run talks to: its calls, its critic and judges, its students. Each is opened when it is first needed.

A finished run is read back without opening any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import CriticError
from quipwright.core.paths import resolve
from quipwright.core.progress import console
from quipwright.core.records import Checkpoint, Comparison
from quipwright.core.storage.run_folder import RunFolder
from quipwright.critics.base import BaseCriticConfig, BuildContext, Critic, Grader
from quipwright.critics.config import CriticConfig
from quipwright.critics.reward_model.card import CARD_FILE
from quipwright.data.task import Task
from quipwright.llm.call_store import FILE
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Spent
from quipwright.pipeline.costs.plan import known, model_name
from quipwright.pipeline.recipe import Recipe
from quipwright.students.base import Student
from quipwright.students.load import open_student


@dataclass(frozen=True)
class Judge:
    """A judge beside the critic, opened; ``key`` identifies its readings."""

    critic: Critic
    settings: CriticConfig
    key: list[Any]


@dataclass
class Models:
    """The models of one run. ``base``: the folder that relative paths of the recipe start from."""

    recipe: Recipe
    run: RunFolder
    base: Path
    _trained: Student | None = None
    _untrained: Student | None = None
    _loaded: str = ""
    _active: Critic | None = None

    @cached_property
    def task(self) -> Task:
        """The task file."""
        return Task.load(self.recipe.task, self.base)

    # --- calls -------------------------------------------------------------------------------------------------------

    @cached_property
    def calls(self) -> Calls:
        """The one door to every call that may cost money; closed with the run."""
        recipe = self.recipe
        opened = Calls.open(self.run.calls, prices=recipe.prices, budget=recipe.budget, base=self.base)
        calls = self.run.resources.enter_context(opened)
        calls.store.stage = lambda: self.run.account + self.run.current
        return calls

    @property
    def _any_calls(self) -> bool:
        return (self.run.calls / FILE).exists()

    def spent(self) -> list[Spent]:
        """What the run's own calls came to by stage and model, those of earlier invocations included."""
        found, own = self.calls.store.spent() if self._any_calls else [], self.run.account
        return [s.model_copy(update={"stage": s.stage.removeprefix(own)}) for s in found if s.stage.startswith(own)]

    def note(self) -> None:
        """Write into the manifest what the models can do, as far as that is stated or was found out."""
        if self._any_calls:
            able = {
                f"{f.role} {model_name(f.model)}": f.able.model_dump(mode="json")
                for f in known(self.recipe, self.calls)
            }
            self.run.record("models", able)

    # --- critics -----------------------------------------------------------------------------------------------------

    def context(self, settings: BaseCriticConfig) -> BuildContext:
        """What the critic of ``settings`` is built from."""
        return BuildContext(self.base, self.task, self.calls if settings.models() else None)

    @property
    def critic(self) -> Critic:
        """The critic. One that an earlier invocation trained gives its name and figures only: all its judgments are
        stored. Raises :class:`CriticError` where it is still to be trained (:meth:`train_critic`)."""
        return self._active or self._critic

    @cached_property
    def _critic(self) -> Critic:
        if self.recipe.critic.trained_in_run and (self._copy / CARD_FILE).exists():
            return self.recipe.critic.restore(self._copy)
        return self._built(self.recipe.critic)

    def _built(self, settings: BaseCriticConfig) -> Critic:
        return settings.build(self.context(settings))

    @cached_property
    def judges(self) -> tuple[Judge, ...]:
        """Who judges beside the critic."""
        return tuple(Judge(self._built(one), one, self.readings_key(one)) for one in self.recipe.evaluate.judges)

    @cached_property
    def grader(self) -> Grader:
        """Who scores single responses: the recipe's scorer, else its critic. Raises :class:`CriticError` where that one
        only compares pairs."""
        found = self._built(self.recipe.scorer) if self.recipe.scorer else self.critic
        if not isinstance(found, Grader):
            raise CriticError(f"Critic {found.name} does not score single responses.", "Set scorer: {kind: reward}.")
        return found

    @cached_property
    def critic_key(self) -> list[Any]:
        """:meth:`readings_key` of the critic."""
        return self.readings_key(self.recipe.critic)

    def readings_key(self, settings: BaseCriticConfig) -> list[Any]:
        """What identifies the readings of a critic."""
        return settings.identity(BuildContext(self.base, self.task))

    @property
    def _copy(self) -> Path:
        """Where a critic that the run trained is kept for whoever wants to measure it."""
        return self.run.path / "critic"

    def train_critic(self, pairs: Sequence[Comparison]) -> None:
        """Where the critic is trained in the run: let it learn from ``pairs``, once."""
        settings = self.recipe.critic
        if not settings.trained_in_run or self._active is not None:
            return
        critic = settings.learn(self.context(settings), pairs)
        console.print(critic.summary())
        critic.save(self._copy)
        self._active = critic

    # --- students ----------------------------------------------------------------------------------------------------

    def student(self, checkpoint: Checkpoint | None) -> Student:
        """The student with the weights of ``checkpoint`` (``None``: those it starts from)."""
        wanted = checkpoint.id if checkpoint else "start"
        if self._trained is None or self._loaded != wanted:
            if checkpoint is None or self._trained is None:
                self._trained = self._fresh()
            if checkpoint is not None:
                self._trained.load(self.run.arrows / checkpoint.path)
            elif self.recipe.student.adapter:
                self._trained.load(resolve(self.recipe.student.adapter, "Adapter", self.base))
            self._loaded = wanted
        return self._trained

    def to_train(self, checkpoint: Checkpoint | None) -> Student:
        """As :meth:`student`, for someone who changes its weights: the next one to ask gets them loaded anew."""
        found = self.student(checkpoint)
        self._loaded = ""
        return found

    @property
    def untrained(self) -> Student:
        """The weights of the recipe as they are."""
        self._untrained = self._untrained or self._fresh()
        return self._untrained

    def forget_untrained(self) -> None:
        """Free the untrained weights."""
        self._untrained = None

    def _fresh(self) -> Student:
        torch.manual_seed(self.recipe.seed)  # new adapters are drawn from it
        return open_student(self.recipe.student, self.task.student_chat)
