"""Models behind HTTP: any OpenAI-compatible server, or Anthropic's Messages API. Several servers form a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from understudy.errors import RecipeError, TeacherError
from understudy.llm import Capabilities, Choice, Completion, Failure, Message, Request, answer_or_raise
from understudy.llm.anthropic import MessagesWire
from understudy.llm.calls import Asked, Calls, as_completion
from understudy.llm.callstore import Failed, Stored
from understudy.llm.engine import Engine, Job, run_async
from understudy.llm.openai_api import ChatWire
from understudy.llm.probe import probe
from understudy.llm.reading import read_choice
from understudy.llm.recording import recorded
from understudy.llm.retry import Lane, Retry
from understudy.llm.spend import check_priced
from understudy.records import Sampling
from understudy.settings import Settings, secret

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
CHOICE_TOKENS = 4  # a label may stand behind a blank or a quote
_KEYS = {"api.openai.com": "OPENAI_API_KEY", "api.anthropic.com": "ANTHROPIC_API_KEY"}


class Chat(Settings):
    """A model behind an OpenAI-compatible server.

    ``base_url``: one address, or several replicas that serve the same weights; the first one names the pool in the
    keys of calls, so that replicas can be added without paying again. ``revision``: which weights, where the model's
    name does not say. ``key_env``: the environment variable that holds the key. ``extra``: more fields of the request
    body; ``omit``: fields not to send (``[temperature, seed]`` for models that refuse them). ``capabilities``: state
    what the server can do instead of probing. ``record``: name of a file in the run's recordings that collects the
    answers. ``concurrency`` bounds the requests under way; it is reached only as fast as the server allows.
    """

    kind: Literal["chat"] = "chat"
    model: str = Field(min_length=1)
    base_url: str | tuple[str, ...] = OPENAI
    revision: str | None = None
    key_env: str | None = None
    concurrency: int = Field(32, ge=1, le=1024)
    retry: Retry = Retry()
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    omit: tuple[str, ...] = ()
    capabilities: Capabilities | None = None
    record: str | None = None

    @field_validator("base_url")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return _checked(value)

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return _identity(self)

    def open(self, calls: Calls) -> Any:
        """The door, asking through ``calls``."""
        field = self.max_tokens_field or ("max_completion_tokens" if self.urls[0] == OPENAI else "max_tokens")
        wire = ChatWire(self.model, _key(self), field, self.extra, self.omit)
        return recorded(HttpModel(self, wire, calls), self.record, calls)

    @property
    def urls(self) -> tuple[str, ...]:
        """The pool's addresses."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


class Anthropic(Settings):
    """A model behind Anthropic's Messages API (or a gateway that speaks it); fields as in :class:`Chat`."""

    kind: Literal["anthropic"] = "anthropic"
    model: str = Field(min_length=1)
    base_url: str | tuple[str, ...] = ANTHROPIC
    revision: str | None = None
    key_env: str | None = None
    concurrency: int = Field(16, ge=1, le=1024)
    retry: Retry = Retry()
    extra: dict[str, Any] = Field(default_factory=dict)
    omit: tuple[str, ...] = ()
    capabilities: Capabilities | None = None
    record: str | None = None

    @field_validator("base_url")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return _checked(value)

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return _identity(self)

    def open(self, calls: Calls) -> Any:
        """The door, asking through ``calls``."""
        wire = MessagesWire(self.model, _key(self), self.extra, self.omit)
        return recorded(HttpModel(self, wire, calls), self.record, calls)

    @property
    def urls(self) -> tuple[str, ...]:
        """The pool's addresses."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


class HttpModel:
    """The door to a model behind HTTP (see the ``Door`` protocol)."""

    def __init__(self, settings: Chat | Anthropic, wire: ChatWire | MessagesWire, calls: Calls) -> None:
        """``wire`` speaks the server's API; everything is asked through ``calls``."""
        check_priced(calls.budget, calls.prices, settings.model)
        self.name = settings.model
        self.settings = settings
        self._wire = wire
        self._calls = calls
        self._lanes: list[Lane] = []
        self._known = settings.capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do: stated, found by an earlier probe of this run, or probed now."""
        if self._known is None:
            self._known = probe(self._calls.store, self.settings.identity(), self._ask_freely)
        return self._known

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """One reply a request, in order."""
        begun = any(request.messages[-1].role == "assistant" for request in requests)
        return self._ask(requests, self.capabilities.prefill if begun else "none")

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        """One choice a request: from log-probabilities where the server gives them, else its text alone."""
        able = self.capabilities
        asked = [_to_read(request, able) for request in requests]
        answers = self._ask(asked, able.prefill)
        return [
            answer if isinstance(answer, Failure) else read_choice(answer, request.options)
            for answer, request in zip(answers, requests, strict=True)
        ]

    def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to one conversation. Raises :class:`TeacherError` when there is none."""
        answer: Completion = answer_or_raise(self.complete_many([Request(tuple(messages), sampling)])[0], self.name)
        return answer

    def choose(self, messages: Sequence[Message], options: Sequence[str], sampling: Sampling) -> Choice:
        """The choice in one conversation. Raises :class:`TeacherError` when there is none."""
        request = Request(tuple(messages), sampling, tuple(options))
        answer: Choice = answer_or_raise(self.choose_many([request])[0], self.name)
        return answer

    def score(self, text: str) -> float | None:
        """``None``: chat servers do not score a text as it stands."""
        return None

    def _ask(self, requests: Sequence[Request], way: str) -> list[Completion | Failure]:
        def ask(missing: list[Asked]) -> dict[str, Stored | Failed]:
            return self._send([self._job(key, request, way) for key, request in missing])

        for request in requests:
            if request.sampling.beams > 1:
                raise RecipeError(f"{self.name} is a server and has no beam search.", "Set beams: 1 and a temperature.")
        return [as_completion(row) for row in self._calls.collect(self.settings.identity(), requests, ask)]

    def _ask_freely(self, request: Request, way: str) -> Completion | Failure:
        """One probe: other ways to continue a begun answer are other questions."""
        identity = self.settings.identity() | {"probe": way}
        rows = self._calls.collect(
            identity, [request], lambda missing: self._send([self._job(k, r, way) for k, r in missing])
        )
        return as_completion(rows[0])

    def _job(self, key: str, request: Request, way: str) -> Job:
        # A byte is at most a token, so this bounds what an attempt can cost before the server says what it did.
        most = sum(len(message.content.encode("utf-8", "replace")) + 8 for message in request.messages)
        bound = self._calls.cost(self.name, most, request.sampling.max_tokens)
        return Job(key, self.name, request.content(), self._wire.body(request, way), bound)

    def _send(self, jobs: Sequence[Job]) -> dict[str, Stored | Failed]:
        settings, calls = self.settings, self._calls
        if not self._lanes:  # what was learnt about a server's limits is kept from batch to batch
            self._lanes = [Lane(url.rstrip("/"), settings.concurrency, settings.retry) for url in settings.urls]
        for lane in self._lanes:
            lane.in_flight, lane.failures, lane.rests, lane.quiet_until = 0, 0, 0, 0.0
        engine = Engine(
            calls.store, self._wire, self._lanes, settings.retry, settings.concurrency, calls.budget,
            lambda tokens_in, tokens_out: calls.cost(self.name, tokens_in, tokens_out),
        )  # fmt: skip
        return run_async(engine.run(jobs))


def _to_read(request: Request, able: Capabilities) -> Request:
    """A choice as the completion it is read from; log-probabilities that move with temperature are read at 1."""
    sampling = request.sampling
    if able.logprobs:
        temperature = sampling.temperature if able.raw_logprobs else 1.0
        sampling = sampling.model_copy(update={"max_tokens": CHOICE_TOKENS, "temperature": temperature, "top_p": 1.0})
    return Request(request.messages, sampling, logprobs=able.logprobs)


def _identity(settings: Chat | Anthropic) -> dict[str, Any]:
    return {
        "kind": settings.kind,
        "model": settings.model,
        "revision": settings.revision,
        "base_url": settings.urls[0].rstrip("/"),
        "extra": settings.extra,
        "omit": sorted(settings.omit),
    }


def _checked(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    urls = (value,) if isinstance(value, str) else value
    if not urls:
        raise ValueError("needs at least one address")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http address; write it like http://localhost:8000/v1")
        if parts.username or parts.password:
            raise ValueError("must not hold a key; name an environment variable in key_env instead")
    return value


def _key(settings: Chat | Anthropic) -> str | None:
    name = settings.key_env or _KEYS.get(urlsplit(settings.urls[0]).hostname or "")
    if name is None:
        return None
    key = secret(name)
    if key is None:
        raise TeacherError(f"{settings.model} needs a key, but {name} is not set.", f"Set it: export {name}=…")
    return key
