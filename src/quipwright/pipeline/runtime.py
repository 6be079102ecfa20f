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
from quipwright.core.records import Checkpoint
from quipwright.core.settings import identity_of, within
from quipwright.core.storage.files import file_sha256
from quipwright.core.storage.run_folder import RunFolder
from quipwright.critics.active import Distilled, DistilledCritic, distil_critic
from quipwright.critics.base import Comparison, Critic, Grader
from quipwright.critics.cloze import Cloze
from quipwright.critics.reward_model.critic import CARD_FILE, RewardArchitecture, RewardCritic, RewardSettings
from quipwright.critics.reward_model.training import CriticTraining, copy_critic
from quipwright.data.task import Task
from quipwright.evaluation.quality import AnyJudge
from quipwright.llm.call_store import FILE
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Spent
from quipwright.pipeline.costs.plan import known, model_name
from quipwright.pipeline.recipe import AnyCritic, Recipe
from quipwright.students.base import Student, open_student


@dataclass(frozen=True)
class Judge:
    """A judge beside the critic, opened; ``key`` identifies its readings."""

    critic: Critic
    settings: AnyJudge
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
    _distilled: DistilledCritic | None = None

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

    @property
    def critic(self) -> Critic:
        """The critic. A distilled one that was bought by an earlier invocation gives its name and figures only: all its
        judgments are stored. Raises :class:`CriticError` where none was bought yet (:meth:`distil_critic`)."""
        return self._distilled or self._critic

    @cached_property
    def _critic(self) -> Critic:
        settings = self.recipe.critic
        if not isinstance(settings, Distilled):
            return self._opened(settings)
        if not (self._copy / CARD_FILE).exists():
            raise CriticError("A distilled critic judges only after a round of feedback.", "Set rounds to at least 1.")
        return RewardCritic.load(self._copy)

    def _opened(self, settings: AnyJudge) -> Critic:
        return (
            settings.open(self.base) if isinstance(settings, RewardSettings) else settings.open(self.calls, self.task)
        )

    @cached_property
    def judges(self) -> tuple[Judge, ...]:
        """Who judges beside the critic."""
        return tuple(Judge(self._opened(one), one, self.readings_key(one)) for one in self.recipe.evaluate.judges)

    @cached_property
    def grader(self) -> Grader:
        """Who scores single responses: the recipe's scorer, else its critic. Raises :class:`CriticError` where that one
        only compares pairs."""
        found = self.recipe.scorer.open(self.base) if self.recipe.scorer else self.critic
        if not isinstance(found, Grader):
            raise CriticError(f"Critic {found.name} does not score single responses.", "Set scorer: {kind: reward}.")
        return found

    @cached_property
    def critic_key(self) -> list[Any]:
        """:meth:`readings_key` of the critic."""
        return self.readings_key(self.recipe.critic)

    def readings_key(self, settings: AnyCritic) -> list[Any]:
        """What identifies the readings of a critic: its settings, its weights, its wording."""
        rewards = [part for part in within(settings) if isinstance(part, RewardSettings)]
        folders = [resolve(reward.path, "Critic", self.base) for reward in rewards]
        weights = [file_sha256(p) for folder in folders for p in sorted(folder.glob("critic.*"))]
        if isinstance(settings, RewardSettings):
            return [settings.hash, *weights]
        clozes = [part.question for part in within(settings) if isinstance(part, Cloze) and part.question != "overall"]
        asked = [self.task.template(question) for question in clozes]
        return [identity_of(settings), self.task.critic.hash, self.task.template(), *weights, *asked]

    @property
    def _copy(self) -> Path:
        """Where a distilled critic is kept for whoever wants to measure it."""
        return self.run.path / "critic"

    def distil_critic(self, pairs: Sequence[Comparison]) -> None:
        """Where the critic is a distilled one: buy verdicts on some of ``pairs`` and train its cheap copy, once."""
        settings = self.recipe.critic
        if not isinstance(settings, Distilled) or self._distilled is not None:
            return
        cheap = None if settings.policy == "random" else RewardSettings().open(self.base)
        expensive = settings.source.open(self.calls, self.task)
        how = CriticTraining(teacher=None, architecture=RewardArchitecture(prompt=self.task.student_prompt))
        made = distil_critic(settings, expensive, pairs, lambda labels: copy_critic(labels, settings.seed, how), cheap)
        console.print(made.agreement.line())
        made.save(self._copy)
        self._distilled = made

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
