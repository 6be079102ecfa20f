"""The critic contract: pairs in, judgments out. A critic never changes what it is shown and never guesses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from quipwright.core.errors import CriticError
from quipwright.core.records import Comparison, Grade, Judgment, Response
from quipwright.core.settings import Settings
from quipwright.data.task import Task
from quipwright.llm.calls import Calls
from quipwright.llm.config import ModelConfig
from quipwright.llm.types import ChatModel


class Critic(Protocol):
    """Judges pairs. ``positional``: its verdict may depend on the order, so each pair is shown in both orders."""

    name: str
    positional: bool

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """Judgments in the order of ``comparisons``: two a pair (shown ``ab``, ``ba``) where positional, else one."""


@runtime_checkable
class Grader(Protocol):
    """A critic that also scores each response alone, so that k responses cost k readings, not k(k-1)/2."""

    name: str

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """One grade a response, in order; what could not be read has no score."""


class TrainedCritic(Critic, Protocol):
    """A critic that a run trained."""

    def summary(self) -> str:
        """One line for people: how good it is."""

    def save(self, folder: Path) -> None:
        """Write everything that it judges by to ``folder``."""


@runtime_checkable
class Measured(Protocol):
    """A critic whose agreement with held-out verdicts is known."""

    def figures(self) -> dict[str, Any]:
        """``agreement`` with its 95 % interval ``low`` to ``high``, on ``n`` pairs, and whatever else was measured."""


@runtime_checkable
class GradesOnFile(Protocol):
    """A critic that has grades of some texts at hand and grades no others."""

    def recorded_grades(self, literals: Sequence[str], responses: Sequence[Response]) -> dict[str, Grade]:
        """Grades by response id, of those texts that have one."""


@dataclass(frozen=True)
class BuildContext:
    """What a critic is built from beside its settings.

    ``recipe_dir``: where relative paths start (``None``: the current folder). ``task``: what is asked. ``calls``: the
    store that calls of language models go through, ``None`` where none may be made. ``measuring``: the critic is built
    to be measured, so no floor of agreement is asked of it.
    """

    recipe_dir: Path | None
    task: Task
    calls: Calls | None = None
    measuring: bool = False

    def open_model(self, settings: ModelConfig) -> ChatModel:
        """The language model of ``settings``. Raises :class:`CriticError` where no calls may be made."""
        if self.calls is None:
            raise CriticError("This critic asks a language model, which is not possible here.", "Use kind: reward.")
        return settings.build(self.calls)


@dataclass(frozen=True)
class Questions:
    """How many ``pairs`` are put to the chat ``model`` of ``critic``, and how its answers are read; or how many ``lists``
    of how many texts each are put to one that grades."""

    critic: BaseCriticConfig
    model: ModelConfig
    reader: Settings
    pairs: int
    lists: tuple[tuple[int, int], ...] = ()


class BaseCriticConfig(Settings):
    """Settings of one kind of critic. A subclass sets ``kind``; ``critics/config.py`` lists it in ``CriticConfig``.

    ``can_grade``: what it builds is a :class:`Grader`. ``trained_in_run``: it is trained on the pairs of a run's first
    round, by :meth:`learn`; :meth:`build` cannot make it. ``shorthand``: the setting behind the colon of a reference on
    the command line (``rule:longer``); "" where there is no such short form.
    """

    identity_needs_context: ClassVar[bool] = True
    can_grade: ClassVar[bool] = False
    trained_in_run: ClassVar[bool] = False
    shorthand: ClassVar[str] = ""
    kind: str

    @abstractmethod
    def build(self, context: BuildContext) -> Critic:
        """The critic. Raises :class:`CriticError` where it cannot judge."""

    @abstractmethod
    def identity(self, context: BuildContext) -> list[Any]:
        """What identifies its readings, as JSON: the settings that matter, the content of its files, its questions."""

    def models(self) -> tuple[ModelConfig, ...]:
        """The language models it asks."""
        return ()

    def readers(self, context: BuildContext) -> list[Any]:
        """What reads the texts in the end: identities of models or of files. Critics that share one are no outsiders
        to each other; one without any reads no meaning."""
        return []

    def questions(self, pairs: int, lists: Sequence[tuple[int, int]] = ()) -> tuple[Questions, ...]:
        """What it asks of chat models in order to judge ``pairs`` pairs and, where it grades, so many ``lists`` of so many
        texts each."""
        return ()

    def learn(self, context: BuildContext, comparisons: Sequence[Comparison]) -> TrainedCritic:
        """The critic trained on the first round's ``comparisons``. Raises :class:`CriticError` for other kinds than
        those ``trained_in_run``."""
        raise CriticError(f"A critic of kind {self.kind} is not trained in a run.", "Use kind: active_labelling.")

    def restore(self, folder: Path) -> TrainedCritic:
        """What :meth:`learn` made and ``save`` wrote to ``folder``. Raises as :meth:`learn` does."""
        raise CriticError(f"A critic of kind {self.kind} is not trained in a run.", "Use kind: active_labelling.")

    @classmethod
    def tree(cls, value: str) -> dict[str, Any]:
        """The settings that the reference ``kind`` or ``kind:value`` stands for, as a tree."""
        kind = {"kind": cls.model_fields["kind"].default}
        return {**kind, cls.shorthand: value} if value else kind


def figures(critic: Critic) -> dict[str, Any]:
    """What is known of ``critic``: its name and, where it was measured, its figures. What is unknown is ``None``."""
    unknown: Mapping[str, Any] = {"agreement": None, "low": None, "high": None, "n": 0}
    measured = critic.figures() if isinstance(critic, Measured) else {}
    return {"name": critic.name, **unknown, **measured}
