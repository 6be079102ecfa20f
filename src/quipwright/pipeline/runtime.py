"""The models of a run: its calls, its critics, its students. Each is opened when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from quipwright.core.errors import CriticError
from quipwright.core.records import Checkpoint, Grade
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.seals import check_seal
from quipwright.critics.base import BuildContext, Critic, Grader
from quipwright.critics.by_grades import FromGrades
from quipwright.critics.config import CriticConfig
from quipwright.data.task import Task
from quipwright.llm.call_rows import SPENT
from quipwright.llm.call_store import FILE
from quipwright.llm.calls import Calls
from quipwright.llm.costs import Spent
from quipwright.llm.request_batching import Window, asked_at_once
from quipwright.pipeline.costs.plan import known, model_name
from quipwright.pipeline.recipe import Recipe
from quipwright.students.base import Student
from quipwright.students.load import load_adapter, open_student, student_identity


class RunCalls:
    """A run's calls to models that may cost money: one store, prices and caps for all of them."""

    def __init__(self, recipe: Recipe, run: RunFolder, recipe_dir: Path, stack: ExitStack) -> None:
        """Nothing is opened before the first question; ``stack`` closes what was."""
        self._recipe, self._run, self._recipe_dir, self._stack = recipe, run, recipe_dir, stack

    @cached_property
    def opened(self) -> Calls:
        """The one way to every call; each is put down to the stage that is being made.

        The first process of a run asks; the others open their models without a question, so they have a store of none.
        """
        recipe, run = self._recipe, self._run
        folder = run.calls if run.cache.ranks.first else Path(self._stack.enter_context(TemporaryDirectory()))
        calls = self._stack.enter_context(
            Calls.open(folder, prices=recipe.prices, budget=recipe.budget, base=self._recipe_dir)
        )
        calls.store.stage = lambda: run.owner + run.cache.current
        return calls

    def spent(self) -> list[Spent]:
        """What the run's calls came to by stage and model, those of earlier invocations included."""
        owner = self._run.owner
        spent = self.opened.store.spent() if self._any else []
        return [s.model_copy(update={"stage": s.stage.removeprefix(owner)}) for s in spent if s.stage.startswith(owner)]

    def note_capabilities(self) -> None:
        """Write into the manifest what the models can do, as far as that is stated or was found out."""
        if self._any and self._run.cache.ranks.first:
            capabilities = {
                f"{model.role} {model_name(model.model)}": model.able.model_dump(mode="json")
                for model in known(self._recipe, self.opened)
            }
            self._run.record("models", {**self.capabilities(), **capabilities})

    def capabilities(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of the models."""
        return dict(self._run.manifest().get("models", {}))

    @property
    def _any(self) -> bool:
        """Whether calls were made, as far as the folder knows: a store that vanished is opened too, which refuses it."""
        return any((self._run.calls / name).exists() for name in (FILE, SPENT))


@dataclass(frozen=True)
class Judge:
    """A critic of the run. ``key`` identifies its readings; ``window``: how many pairs to keep under way. ``local``: it
    calls no model, so that several processes of a run may share its pairs out."""

    key: tuple[Any, ...]
    window: Window
    open: Callable[[], Critic]
    local: bool

    @property
    def critic(self) -> Critic:
        """The critic, opened."""
        return self.open()

    @property
    def name(self) -> str:
        """How its judgments are signed."""
        return self.critic.name

    def reading(self, grades: Mapping[str, Grade]) -> Judge:
        """The same judge, which takes the ``grades`` that it gave before instead of reading the texts again."""
        return replace(self, window=Window(), open=lambda: FromGrades(self.name, grades))


@dataclass(frozen=True)
class GradingCritic:
    """What scores single responses. ``key`` identifies its readings; ``window``: how many literals to keep under way;
    ``local`` as in :class:`Judge`."""

    key: tuple[Any, ...]
    window: Window
    open: Callable[[], Grader]
    local: bool


class Judges:
    """Makes judges of critics' settings; each critic is opened once."""

    def __init__(self, calls: RunCalls, task: Task, recipe_dir: Path) -> None:
        """Nothing is opened yet."""
        self._calls, self._task, self._recipe_dir = calls, task, recipe_dir
        self._critics: dict[str, Critic] = {}

    def context(self, settings: CriticConfig) -> BuildContext:
        """What the critic of ``settings`` is built from."""
        return BuildContext(self._recipe_dir, self._task, self._calls.opened if settings.models() else None)

    def key(self, settings: CriticConfig) -> tuple[Any, ...]:
        """What identifies the readings of the critic of ``settings``."""
        return tuple(settings.identity(BuildContext(self._recipe_dir, self._task)))

    def of(self, settings: CriticConfig) -> Judge:
        """The judge that ``settings`` describe."""
        return Judge(self.key(settings), asked_at_once(settings), lambda: self._opened(settings), not settings.models())

    def grader(self, settings: CriticConfig) -> GradingCritic:
        """The critic of ``settings`` as one that scores single responses. It raises :class:`CriticError` when opened
        where it only compares pairs."""

        def opened() -> Grader:
            critic = self._opened(settings)
            if not isinstance(critic, Grader):
                raise CriticError(
                    f"Critic {critic.name} does not score single responses.", "Set scorer: {kind: reward} (or grade)."
                )
            return critic

        return GradingCritic(self.key(settings), asked_at_once(settings), opened, not settings.models())

    def _opened(self, settings: CriticConfig) -> Critic:
        if settings.hash not in self._critics:
            self._critics[settings.hash] = settings.build(self.context(settings))
        return self._critics[settings.hash]


class Students:
    """Opens students: one set of trained weights at a time, and the untrained ones beside it."""

    def __init__(self, recipe: Recipe, task: Task, run: RunFolder, recipe_dir: Path) -> None:
        """Nothing is opened yet; checkpoints' paths start at the run's folder of stages."""
        self._settings, self._seed, self._memory = recipe.student, recipe.seed, int(recipe.memory * 2**30)
        self._task, self._run, self._stages, self._recipe_dir = task, run, run.cache.folder, recipe_dir
        self._trained: Student | None = None
        self._untrained: Student | None = None
        self._loaded = ""

    @property
    def weights(self) -> str:
        """The name of the weights that all of them start from."""
        return self._settings.weights

    @cached_property
    def identity(self) -> list[Any]:
        """What of a student, beside its checkpoint, changes a result: its settings, and the content of its weights and of
        the adapter that it starts from."""
        return student_identity(self._settings, self._recipe_dir)

    def load(self, checkpoint: Checkpoint | None) -> Student:
        """The student with the weights of ``checkpoint`` (``None``: those it starts from), read through their seal."""
        wanted = checkpoint.id if checkpoint else "start"
        if self._trained is None or self._loaded != wanted:
            if checkpoint is None or self._trained is None:
                self._trained = self._fresh()
            if checkpoint is not None:
                check_seal(self._stages / checkpoint.path)
                self._trained.load(self._stages / checkpoint.path)
            else:
                load_adapter(self._trained, self._settings, self._recipe_dir)
            self._loaded = wanted
        return self._trained

    def to_train(self, checkpoint: Checkpoint | None) -> Student:
        """As :meth:`load`, for someone who changes the weights: the next one to ask gets them loaded anew."""
        student = self.load(checkpoint)
        self._loaded = ""
        return student

    def untrained(self) -> Student:
        """The weights of the recipe as they are."""
        self._untrained = self._untrained or self._fresh()
        return self._untrained

    def forget_untrained(self) -> None:
        """Free the untrained weights."""
        self._untrained = None

    def note_decoding(self, student: Student) -> None:
        """Write into the manifest how ``student`` writes."""
        decoding = student.decoding
        self._run.record("students", {self.weights: {"mode": decoding.mode, "reason": decoding.reason}})

    def keep_decoding_noted(self) -> None:
        """Write down anew how students write where the manifest that said so was lost."""
        if self.weights not in self._run.manifest().get("students", {}):
            self.note_decoding(self.untrained())

    def _fresh(self) -> Student:
        torch.manual_seed(self._seed)  # new adapters are drawn from it
        student = open_student(self._settings, self._task.student_chat, self._recipe_dir)
        student.memory = self._memory
        return student
