"""The language-model door: complete a conversation, choose between labels, or score a text.

Teacher, critic and outside judge come through here, whether they are a server, local weights or a file of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from understudy.records import Sampling


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Completion:
    """A reply. ``finish`` is ``stop``, ``length`` or ``refused``; token counts are ``None`` where unknown."""

    text: str
    finish: str = "stop"
    call_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class Choice:
    """How a model chose between labels: probabilities over them (normalised to 1) where it gives any, or its text.

    ``coverage`` is the probability mass the labels had before normalising: below one half the model was not answering.
    """

    probabilities: tuple[float, ...] | None
    coverage: float | None
    text: str = ""
    call_id: str | None = None


class LanguageModel(Protocol):
    """A large model. Implementations may raise :class:`~understudy.errors.TeacherError`, never a bare library error."""

    name: str

    def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The model's reply to ``messages``."""

    def choose(self, messages: Sequence[Message], options: Sequence[str], sampling: Sampling) -> Choice:
        """Which of ``options`` (short labels) the model answers with."""

    def score(self, text: str) -> float | None:
        """Summed log-probability of ``text`` in nats, or ``None`` where the model cannot tell."""
