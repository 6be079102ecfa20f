"""The chat-completions API, as OpenAI, vLLM, SGLang, Ollama, llama.cpp, LM Studio and gateways speak it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quipwright.core.records import Sampling, content_hash
from quipwright.llm.http_outcome import Answered, Unusable
from quipwright.llm.types import Completion, Request, Token, reply_of

_FINISH = {"length": "length", "max_tokens": "length", "content_filter": "refused", "refusal": "refused"}


@dataclass(frozen=True)
class ChatWire:
    """Speaks the API for one model. ``extra`` is added to every body, fields named in ``omit`` are left out."""

    model: str
    key: str | None = field(default=None, repr=False)
    max_tokens_field: str = "max_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict)
    omit: Sequence[str] = ()
    path: str = "/chat/completions"

    def headers(self) -> dict[str, str]:
        """Content type, and the key where there is one."""
        headers = {"content-type": "application/json"}
        return headers | {"authorization": f"Bearer {self.key}"} if self.key else headers

    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self.key,) if self.key else ()

    def body(self, request: Request, prefill: str = "none") -> dict[str, Any]:
        """The JSON of ``request``; ``prefill`` as in :class:`~quipwright.llm.types.Capabilities`."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.max_tokens_field: sampling.max_tokens,
        }
        if sampling.temperature > 0:
            body["seed"] = seed_of(sampling)
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        if prefill == "continue" and request.messages[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        body |= self.extra
        return {name: value for name, value in body.items() if name not in self.omit}

    def read(self, payload: Any) -> Answered:
        """The first choice's text, why it ended, its log-probabilities and the tokens used."""
        choices = payload.get("choices")
        if not choices:
            raise ValueError("choices")
        message, said_why = choices[0].get("message") or {}, choices[0].get("finish_reason")
        if choices[0].get("error") or said_why == "error":
            raise ValueError("an answer: its choice holds an error")
        finish = _FINISH.get(said_why or "stop", "stop")
        text = message.get("content")
        if message.get("refusal"):
            text, finish = text or message["refusal"], "refused"
        if isinstance(text, list):  # some gateways give a list of parts
            text = "".join(part.get("text") or "" for part in text if part.get("type", "text") == "text")
        thought = bool(message.get("reasoning_content") or message.get("reasoning"))
        if not isinstance(text, str):
            if finish == "stop" and message.get("tool_calls"):
                raise Unusable("a call of a tool instead of an answer")
            if finish == "stop" and not thought:
                raise ValueError("content")
            text = ""
        usage = payload.get("usage") or {}
        tokens_in, tokens_out = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
        tokens = _tokens(choices[0].get("logprobs"))
        completion = Completion(clean(text), finish, None, tokens_in, tokens_out, tokens, thought)
        return Answered(reply_of(completion), tokens_in, tokens_out)


def seed_of(sampling: Sampling) -> int:
    """The seed to send: of seed and sample index, or a server that heeds it would draw every sample alike."""
    return int(content_hash(sampling.seed, sampling.index)[:8], 16) & 0x7FFFFFFF


def clean(text: str) -> str:
    """``text`` with surrogate pairs joined and half ones replaced, so that it can be hashed and written."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def count(value: Any) -> int | None:
    """A token count, or ``None`` where the server gave none that makes sense."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    """The answer's tokens; none where the log-probability of one is no number. Alternatives without one are left out."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return None
    tokens = []
    for entry in content:
        top = {clean(other["token"]): nats_of(other.get("logprob")) for other in entry.get("top_logprobs") or ()}
        text = clean(entry["token"])
        logprob = nats_of(entry.get("logprob"))
        logprob = top.get(text) if logprob is None else logprob
        if logprob is None:
            return None
        tokens.append(Token(text, logprob, tuple((other, nats) for other, nats in top.items() if nats is not None)))
    return tuple(tokens)


def nats_of(value: Any) -> float | None:
    """A log-probability, or ``None`` where ``value`` is none: no number, not finite, or above what rounding explains."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not -math.inf < value <= 0.01:
        return None
    return min(0.0, float(value))
