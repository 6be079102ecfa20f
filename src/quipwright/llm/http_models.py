"""Models behind HTTP: any OpenAI-compatible server, or Anthropic's Messages API. Several servers form a pool."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import httpx2
from pydantic import AfterValidator, BeforeValidator, Field

from quipwright.core.errors import ModelError
from quipwright.core.records import content_hash
from quipwright.core.settings import secret
from quipwright.llm.anthropic import MessagesWire
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.calls import Asked, Calls, as_completion
from quipwright.llm.chat_model import RemoteModel
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.openai_api import ChatWire
from quipwright.llm.probe import probe
from quipwright.llm.recorder import recorded
from quipwright.llm.retry import Retry, Tries
from quipwright.llm.servers import Job, Servers
from quipwright.llm.types import Capabilities, ChatModel, Completion, Failure, Request

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
_KEYS = {"api.openai.com": "OPENAI_API_KEY", "api.anthropic.com": "ANTHROPIC_API_KEY"}


def checked_urls(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """``value`` if all of it are http addresses without a key in them; raises ``ValueError`` saying what is wrong,
    without what may be a key: addresses are written into manifests."""
    urls = (value,) if isinstance(value, str) else value
    if not urls:
        raise ValueError("needs at least one address")
    for url in urls:
        if "@" in url.split("://")[-1].split("/")[0]:
            raise ValueError("must not hold a key; name an environment variable in key_env instead")
        if "?" in url or "#" in url:
            raise ValueError("must end with its path, without ? or #; a key goes into the variable that key_env names")
        if not _is_address(url):
            raise ValueError(f"{url!r} is no http address; write it like http://localhost:8000/v1")
    return value


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return httpx2.URL(url).scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx2.InvalidURL):  # a port or a host that cannot be read
        return False


def checked_name(value: Any) -> Any:
    """``value`` if an environment variable can be called so; raises ``ValueError`` without it, for it may be a key."""
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("must be the name of an environment variable, not a key; write it like OPENAI_API_KEY")
    return value


Addresses = Annotated[str | tuple[str, ...], AfterValidator(checked_urls)]
VariableName = Annotated[str, BeforeValidator(checked_name)]


class _Served(ModelSettings):
    """What every model behind HTTP has (see :class:`Chat`)."""

    kind: str
    model: str = Field(min_length=1)
    base_url: Addresses
    revision: str | None = None
    key_env: VariableName | None = None
    concurrency: int = Field(32, ge=1, le=1024)
    retry: Retry = Retry()
    extra: dict[str, Any] = Field(default_factory=dict)
    omit: tuple[str, ...] = ()
    capabilities: Capabilities | None = None
    record: str | None = None

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer."""
        return {
            "kind": self.kind,
            "model": self.model,
            "revision": self.revision,
            "base_url": self.urls[0].rstrip("/"),
            "extra": self.extra,
            "omit": sorted(self.omit),
        }

    @property
    def at_once(self) -> int:
        """Enough requests to keep every connection busy."""
        return 4 * self.concurrency

    @property
    def urls(self) -> tuple[str, ...]:
        """The pool's addresses."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


class Chat(_Served):
    """A model behind an OpenAI-compatible server.

    ``base_url``: one address, or several replicas that serve the same weights; the first one names the pool in the
    keys of calls, so that replicas can be added without paying again. ``revision``: which weights, where the model's
    name does not say. ``key_env``: the environment variable that holds the key. ``extra``: more fields of the request
    body; ``omit``: fields not to send (``[temperature, seed]`` for models that refuse them). ``capabilities``: state
    what the server can do instead of probing. ``record``: name of a file in the run's recordings that collects the
    answers. ``concurrency`` bounds the requests under way; it is reached only as fast as the server allows.
    """

    kind: Literal["chat"] = "chat"
    base_url: Addresses = OPENAI
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None

    def build(self, calls: Calls) -> ChatModel:
        """The model, asking through ``calls``."""
        field = self.max_tokens_field or ("max_completion_tokens" if self.urls[0] == OPENAI else "max_tokens")
        wire = ChatWire(self.model, key_for(self.model, self.key_env, self.urls[0]), field, self.extra, self.omit)
        return recorded(_Asker(self, wire, calls).model(), self.record, calls)


class Anthropic(_Served):
    """A model behind Anthropic's Messages API (or a gateway that speaks it); fields as in :class:`Chat`."""

    kind: Literal["anthropic"] = "anthropic"
    base_url: Addresses = ANTHROPIC
    concurrency: int = Field(16, ge=1, le=1024)

    def build(self, calls: Calls) -> ChatModel:
        """The model, asking through ``calls``."""
        wire = MessagesWire(self.model, key_for(self.model, self.key_env, self.urls[0]), self.extra, self.omit)
        return recorded(_Asker(self, wire, calls).model(), self.record, calls)


class _Asker:
    """Asks the servers of one model, and finds out what they can do."""

    def __init__(self, settings: _Served, wire: ChatWire | MessagesWire, calls: Calls) -> None:
        self.settings, self.wire, self.calls = settings, wire, calls
        self._lock = threading.Lock()
        self._known = settings.capabilities
        name = content_hash(settings.kind, settings.model_dump(mode="json"), calls.budget, dict(calls.prices))
        self.servers = calls.engine.resource(name, self._servers)

    def _servers(self) -> Servers:
        settings, calls = self.settings, self.calls
        return Servers(
            calls.engine, self.wire, settings.urls, settings.concurrency, settings.retry, calls.budget,
            lambda tokens_in, tokens_out: calls.cost(settings.model, tokens_in, tokens_out),
        )  # fmt: skip

    def model(self) -> RemoteModel:
        """The model on these servers."""
        return RemoteModel(self.settings.model, self.settings.identity(), self.calls, self.send, self.capabilities)

    def capabilities(self) -> Capabilities:
        """What the servers can do: stated, found by an earlier probe of this run, or probed now."""
        with self._lock:
            if self._known is None:
                self._known = probe(self.calls.store, self.settings.identity(), self._ask_freely)
            return self._known

    def send(self, missing: list[Asked], prefill: str) -> Mapping[str, Stored | Failed]:
        """Ask what is missing, all at once."""
        return self.servers.ask([self._job(key, request, prefill) for key, request in missing])

    def _ask_freely(self, request: Request, prefill: str) -> Completion | Failure:
        """One probe: other ways to continue a begun answer are other questions."""
        identity = self.settings.identity() | {"probe": prefill}
        return as_completion(self.calls.collect(identity, [request], lambda missing: self.send(missing, prefill))[0])

    def _job(self, key: str, request: Request, prefill: str) -> Job:
        bound, tries = self.calls.bound(self.settings.model, request), Tries(self.settings.retry)
        return Job(key, self.settings.model, request.content(), self.wire.body(request, prefill), tries, bound)


def key_for(model: str, key_env: str | None, url: str) -> str | None:
    """The key in ``key_env``, or in the variable that belongs to a known provider's address; local servers need none.

    Raises :class:`ModelError` when a key is needed and its variable is not set.
    """
    name = key_env or _KEYS.get(urlsplit(url).hostname or "")
    if name is None:
        return None
    key = secret(name)
    if key is None:
        raise ModelError(f"{model} needs a key, but {name} is not set.", f"Set it: export {name}=…")
    return key
