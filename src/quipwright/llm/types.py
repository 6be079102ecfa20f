"""The contract of language models: what they are asked, what they answer, and how a model is called.

Teacher, critic and outside judge are all a :class:`ChatModel`, whether they are a server, local weights or a file of
answers. A model that tells how likely a text is, is a :class:`Scorer` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from quipwright.core.errors import ModelError
from quipwright.core.records import Record, Sampling

A = TypeVar("A")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. A last message of the assistant's is the beginning of its answer (prefill)."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """What a model is asked. ``options`` are the labels of a choice (none for a completion).

    ``logprobs`` is the number of alternatives wanted for every token of the answer: 0 is none.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    options: tuple[str, ...] = ()
    logprobs: int = 0

    def content(self) -> dict[str, Any]:
        """As JSON: what of the question changes the answer."""
        return {
            "messages": [[message.role, message.content] for message in self.messages],
            "sampling": self.sampling.model_dump(mode="json"),
            "options": list(self.options),
            "logprobs": self.logprobs,
        }


@dataclass(frozen=True)
class Token:
    """One token of an answer: its text, its log-probability in nats, and the likeliest ``(text, nats)`` there."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """A reply. ``finish`` is ``stop``, ``length`` or ``refused``; token counts are ``None`` where unknown.

    ``tokens`` is ``None`` unless log-probabilities were asked for and given. ``thought`` says that the model thought
    aloud; its thinking is not in ``text``.
    """

    text: str
    finish: str = "stop"
    call_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens: tuple[Token, ...] | None = None
    thought: bool = False

    def why_empty(self, max_tokens: int) -> str:
        """Why there is no text, in words that name the limit; empty where there is some."""
        if self.text.strip():
            return ""
        if self.finish == "length":
            spent = ", all of which went into thinking" if self.thought else ""
            return f"no answer within max_tokens: {max_tokens}{spent}"
        return f"thinking and no answer (max_tokens: {max_tokens})" if self.thought else "an empty answer"


@dataclass(frozen=True)
class Choice:
    """How a model chose between labels: probabilities over them (normalised to 1) where it gives any, or its text.

    ``coverage`` is the probability mass the labels had before normalising: below one half the model was not answering.
    ``floored`` says that a label was not among the alternatives given, and has the least of their probabilities.
    """

    probabilities: tuple[float, ...] | None
    coverage: float | None
    text: str = ""
    call_id: str | None = None
    floored: bool = False


@dataclass(frozen=True)
class Failure:
    """A request that was not answered: why, the server's last status, and how often it was tried. Never an answer."""

    reason: str
    status: int | None = None
    attempts: int = 1
    call_id: str | None = None


@dataclass(frozen=True)
class Score:
    """Log-probability of a text in nats, summed over its ``tokens`` scored tokens."""

    nats: float
    tokens: int


class Capabilities(Record):
    """What a model can do, found by probing once (or stated in the recipe) and kept with the run.

    ``logprobs``: alternatives given for each token (0: none). ``raw_logprobs``: they do not move with temperature.
    ``prefill``: how a begun answer is continued: not at all, by a last assistant message, or with
    ``continue_final_message``. ``echoes``: what comes back has that beginning in front of it. ``system``: takes a
    system message. ``exact``: labels are scored whole, from the full distribution. ``score``: the model is a
    :class:`Scorer`.
    """

    logprobs: int = 0
    raw_logprobs: bool = True
    prefill: Literal["none", "plain", "continue"] = "none"
    echoes: bool = False
    system: bool = True
    exact: bool = False
    score: bool = False

    def turns(self, system: str, user: str) -> list[Message]:
        """A question as such a model takes it: ``system`` stands before ``user`` where it takes no system message."""
        if not self.system:
            return [Message("user", f"{system}\n\n{user}")]
        return [Message("system", system), Message("user", user)]


class ChatModel(Protocol):
    """A large model. It answers many requests at once: one failure leaves the others alone, answers keep their order.

    A request that nobody answered is a :class:`Failure`. What stops all of them (no key, no server, a cap) is a
    :class:`~quipwright.core.errors.QuipwrightError`, never a bare library error. Several threads may ask at once.
    """

    @property
    def name(self) -> str:
        """The model's name, as it stands in prices and authors."""

    @property
    def capabilities(self) -> Capabilities:
        """What this model can do; the first look may cost a few small calls."""

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """One reply a request."""

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """One choice a request, between its ``options``."""


@runtime_checkable
class Scorer(Protocol):
    """A model that tells how likely a text is."""

    @property
    def name(self) -> str:
        """The model's name."""

    def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        """For each ``(before, text)``, the score of ``text`` where it follows ``before`` (which may be empty)."""


def complete(model: ChatModel, messages: Sequence[Message], sampling: Sampling | None = None) -> Completion:
    """The reply to one conversation. Raises :class:`ModelError` when there is none."""
    (answer,) = model.complete_many([Request(tuple(messages), sampling or Sampling())])
    return answered(answer, model.name)


def answered(answer: A | Failure, name: str) -> A:
    """``answer`` of the model called ``name``. Raises :class:`ModelError` where it is a :class:`Failure`."""
    if isinstance(answer, Failure):
        raise ModelError(f"{name} did not answer: {answer.reason} ({answer.attempts} attempts).", "Run again to retry.")
    return answer


def completion_of(reply: dict[str, Any], call_id: str | None = None) -> Completion:
    """Inverse of :func:`reply_of` for completions."""
    fields = dict(reply)
    if fields.get("tokens") is not None:
        fields["tokens"] = tuple(Token(t, p, tuple((w, q) for w, q in top)) for t, p, top in fields["tokens"])
    return Completion(**fields, call_id=call_id)


def choice_of(reply: dict[str, Any], call_id: str | None = None) -> Choice:
    """Inverse of :func:`reply_of` for choices."""
    fields = dict(reply)
    if fields.get("probabilities") is not None:
        fields["probabilities"] = tuple(fields["probabilities"])
    return Choice(**fields, call_id=call_id)


def reply_of(answer: Completion | Choice) -> dict[str, Any]:
    """``answer`` as JSON, its call's id left out; empty fields of a completion are left out too."""
    if isinstance(answer, Choice):
        fields = asdict(answer)
    else:
        fields = {name: getattr(answer, name) for name in ("text", "finish", "tokens_in", "tokens_out")}
        if answer.thought:
            fields["thought"] = True
        if answer.tokens is not None:
            fields["tokens"] = [
                [token.text, token.logprob, [list(pair) for pair in token.top]] for token in answer.tokens
            ]
    fields.pop("call_id", None)
    return fields
