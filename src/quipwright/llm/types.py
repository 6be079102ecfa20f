"""The language-model door: complete a conversation, choose between labels, or score a text.

Teacher, critic and outside judge come through here, whether they are a server, local weights or a file of answers.
A door answers one request or many; :func:`complete_many` and :func:`choose_many` serve models that know only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from quipwright.core.errors import TeacherError
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

    ``tokens`` is ``None`` unless log-probabilities were asked for and given. ``choices`` is how many answers came, of
    which this is the first.
    """

    text: str
    finish: str = "stop"
    call_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens: tuple[Token, ...] | None = None
    choices: int = 1


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


UNANSWERED = "failed: "
"""How the reason of a row begins whose question was never answered."""


@dataclass(frozen=True)
class Failure:
    """A request that was not answered: why, the server's last status, and how often it was tried. Never an answer."""

    reason: str
    status: int | None = None
    attempts: int = 1
    call_id: str | None = None

    @property
    def told(self) -> str:
        """As the reason of the row that stays without an answer."""
        return f"{UNANSWERED}{self.reason}"


class Capabilities(Record):
    """What a model's door can do, found by probing once (or stated in the recipe) and kept with the run.

    ``logprobs``: alternatives given for each token (0: none). ``raw_logprobs``: they do not move with temperature.
    ``prefill``: how a begun answer is continued: not at all, by a last assistant message, or with
    ``continue_final_message``. ``echoes``: what comes back has that beginning in front of it. ``several``: ``n`` > 1
    answers a request. ``system``: takes a system message.
    ``exact``: labels are scored whole, from the full distribution. ``score``: gives the log-probability of a text.
    """

    logprobs: int = 0
    raw_logprobs: bool = True
    prefill: Literal["none", "plain", "continue"] = "none"
    echoes: bool = False
    several: bool = False
    system: bool = True
    exact: bool = False
    score: bool = False


class LanguageModel(Protocol):
    """A large model. Implementations may raise :class:`~quipwright.core.errors.TeacherError`, never a bare library error."""

    name: str

    def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The model's reply to ``messages``."""

    def choose(self, messages: Sequence[Message], options: Sequence[str], sampling: Sampling) -> Choice:
        """Which of ``options`` (short labels) the model answers with."""

    def score(self, text: str) -> float | None:
        """Summed log-probability of ``text`` in nats, or ``None`` where the model cannot tell."""


@dataclass(frozen=True)
class Score:
    """Log-probability of a text in nats, summed over its ``tokens`` scored tokens."""

    nats: float
    tokens: int


class OneByOne:
    """``complete`` and ``choose`` of a door that answers many at once."""

    name: str

    def complete(self: Door, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to one conversation. Raises :class:`TeacherError` when there is none."""
        (answer,) = self.complete_many([Request(tuple(messages), sampling)])
        return answered(answer, self.name)

    def choose(self: Door, messages: Sequence[Message], options: Sequence[str], sampling: Sampling) -> Choice:
        """The choice in one conversation. Raises :class:`TeacherError` when there is none."""
        (answer,) = self.choose_many([Request(tuple(messages), sampling, tuple(options))])
        return answered(answer, self.name)


@runtime_checkable
class Scorer(Protocol):
    """A model that tells how likely a text is."""

    name: str

    def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
        """For each ``(before, text)``, the score of ``text`` where it follows ``before`` (which may be empty)."""


class Door(LanguageModel, Protocol):
    """A model that answers many requests at once: one failure leaves the others alone, answers keep their order."""

    @property
    def capabilities(self) -> Capabilities:
        """What this door can do; the first look may cost a few small calls."""

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """One reply a request."""

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """One choice a request, between its ``options``."""


def complete_many(model: LanguageModel, requests: Sequence[Request]) -> list[Completion | Failure]:
    """Replies of any model: at once where it can, else one by one."""
    if hasattr(model, "complete_many"):
        return list(model.complete_many(requests))
    return [_one(lambda r: model.complete(r.messages, r.sampling), request) for request in requests]


def choose_many(model: LanguageModel, requests: Sequence[Request]) -> list[Choice | Failure]:
    """Choices of any model: at once where it can, else one by one."""
    if hasattr(model, "choose_many"):
        return list(model.choose_many(requests))
    return [_one(lambda r: model.choose(r.messages, r.options, r.sampling), request) for request in requests]


def capabilities(model: LanguageModel) -> Capabilities:
    """What ``model`` can do; a model that does not say gets an empty list (its ``choose`` is asked all the same)."""
    return getattr(model, "capabilities", None) or Capabilities()


def answered(answer: A | Failure, name: str) -> A:
    """``answer``, unless it is a :class:`Failure`: then :class:`~quipwright.core.errors.TeacherError` in one line."""
    if isinstance(answer, Failure):
        raise TeacherError(
            f"{name} did not answer: {answer.reason} ({answer.attempts} attempts).", "Run again to retry."
        )
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
        if answer.choices > 1:
            fields["choices"] = answer.choices
        if answer.tokens is not None:
            fields["tokens"] = [
                [token.text, token.logprob, [list(pair) for pair in token.top]] for token in answer.tokens
            ]
    fields.pop("call_id", None)
    return fields


def _one(ask: Any, request: Request) -> Any:
    try:
        return ask(request)
    except TeacherError as error:
        return Failure(str(error))
