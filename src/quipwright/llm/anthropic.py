"""Anthropic's Messages API: another wire under the same model contract. It gives no log-probabilities and takes no seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quipwright.llm.http_outcome import Answered
from quipwright.llm.openai_api import clean, count
from quipwright.llm.types import Completion, Request, reply_of

VERSION = "2023-06-01"
_FINISH = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refused"}


@dataclass(frozen=True)
class MessagesWire:
    """Speaks the API for one model. ``extra`` is added to every body, fields named in ``omit`` are left out."""

    model: str
    key: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    omit: Sequence[str] = ()
    path: str = "/messages"

    def headers(self) -> dict[str, str]:
        """Content type, version, and the key where there is one."""
        headers = {"content-type": "application/json", "anthropic-version": VERSION}
        return headers | {"x-api-key": self.key} if self.key else headers

    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self.key,) if self.key else ()

    def body(self, request: Request, prefill: str = "none") -> dict[str, Any]:
        """The JSON of ``request``: system messages apart, a begun answer without blanks at its end (it is refused)."""
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        turns = [{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"]
        if turns and turns[-1]["role"] == "assistant":
            turns[-1]["content"] = turns[-1]["content"].rstrip()
        sampling = request.sampling
        body: dict[str, Any] = {"model": self.model, "messages": turns, "max_tokens": sampling.max_tokens}
        body["temperature"] = min(1.0, sampling.temperature)
        if sampling.top_p < 1:  # newer models refuse both at once
            body["top_p"] = sampling.top_p
        if system:
            body["system"] = system
        body |= self.extra
        return {name: value for name, value in body.items() if name not in self.omit}

    def read(self, payload: Any) -> Answered:
        """The text blocks, why the answer ended, and the tokens used (those read from a cache included)."""
        blocks = payload.get("content")
        finish = _FINISH.get(payload.get("stop_reason") or "", "stop")
        if not isinstance(blocks, list) or (not blocks and finish == "stop"):
            raise ValueError("content")
        text = "".join(block.get("text") or "" for block in blocks if block.get("type") == "text")
        thought = any(block.get("type") in ("thinking", "redacted_thinking") for block in blocks)
        usage = payload.get("usage") or {}
        parts = [usage.get(name) for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")]
        tokens_in = None if count(parts[0]) is None else sum(count(part) or 0 for part in parts)
        tokens_out = count(usage.get("output_tokens"))
        return Answered(
            reply_of(Completion(clean(text), finish, None, tokens_in, tokens_out, None, thought)), tokens_in, tokens_out
        )
