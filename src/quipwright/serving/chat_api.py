"""The chat-completions dialect: requests checked and turned into sampling, answers in the shape clients expect."""

from __future__ import annotations

import json
import reprlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quipwright.core.records import Sampling
from quipwright.data.care.judgment import REASON
from quipwright.serving.bad_request import BadRequestError
from quipwright.serving.logprobs import Scored, asked_in_chat, in_chat
from quipwright.students.base import Generated

MOST_TEXTS, MOST_TOKENS, MOST_STOPS = 16, 256, 4
# What a paraphrasing student cannot do must be refused, not silently left out.
_UNSUPPORTED = ("tools", "functions", "logit_bias", "audio", "modalities")


@dataclass(frozen=True)
class ChatRequest:
    """A checked request: the sentence to paraphrase, the name under which the model was asked, and how.

    ``logprobs``: how many alternatives are told beside each token; ``None``: no log-probabilities.
    """

    literal: str
    model: str
    style: str
    sampling: Sampling
    n: int
    seed: int | None
    stops: tuple[str, ...]
    stream: bool
    usage: bool
    logprobs: int | None = None


def fields_of(body: bytes) -> dict[str, Any]:
    """The fields of the object in ``body``. Raises :class:`BadRequestError`."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequestError("The body is not JSON, or nested too deeply.") from None
    if not isinstance(fields, dict):
        raise BadRequestError("The body must be a JSON object.")
    return fields


def refuse(fields: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises :class:`BadRequestError` where one of ``names``, which mean nothing here, is asked for."""
    for name in names:
        if fields.get(name):
            raise BadRequestError(f"{name} is not supported: the student only paraphrases.", name)


def read_request(fields: Mapping[str, Any], models: Mapping[str, str]) -> ChatRequest:
    """The request of ``fields``. ``models``: the style that each name of the model stands for. Raises
    :class:`BadRequestError`.

    The last user message is the sentence; a student keeps no conversation. Without a temperature one text comes from
    5 beams, as in evaluation, and several from nucleus sampling.
    """
    asked = fields.get("model")
    if not isinstance(asked, str) or asked not in models:
        known = ", ".join(map(repr, models))
        raise BadRequestError(
            f"The model {_shown(asked)} does not exist; this server has {known}.", "model", 404, "model_not_found"
        )
    refuse(fields, _UNSUPPORTED)
    if fields.get("tool_choice") not in (None, "none", "auto"):  # auto without tools is none
        raise BadRequestError("tool_choice is not supported: the student only paraphrases.", "tool_choice")
    for name in ("presence_penalty", "frequency_penalty"):
        if fields.get(name):
            raise BadRequestError(f"{name} is not supported; leave it out or set 0.", name)
    if _object(fields, "response_format").get("type", "text") != "text":
        raise BadRequestError("Only the response format text is supported.", "response_format")
    n = _whole(fields, "n", 1, 1, MOST_TEXTS)
    tokens = _limit(fields)
    seed = None if fields.get("seed") is None else _whole(fields, "seed", 0, -(2**63), 2**63 - 1) % 2**31
    return ChatRequest(
        literal=_sentence(fields.get("messages")),
        model=asked,
        style=models[asked],
        sampling=_sampling(fields, n, tokens),
        n=n,
        seed=seed,
        stops=_stops(fields.get("stop")),
        stream=fields.get("stream") is True,
        usage=_object(fields, "stream_options").get("include_usage") is True,
        logprobs=asked_in_chat(fields),
    )


def completion(
    model: str, texts: Sequence[Generated], usage: Mapping[str, int], scored: Scored | None = None
) -> dict[str, Any]:
    """The answer in one piece. ``scored``: the tokens of each text, where they were asked for."""
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": g.text},
            "logprobs": in_chat(scored[i]) if scored is not None else None,
            "finish_reason": finish_reason(g),
            **marks(g),
        }
        for i, g in enumerate(texts)
    ]
    return {**_envelope("chat.completion", model), "choices": choices, "usage": dict(usage)}


class Chunks:
    """One answer as server-sent events, as clients expect them."""

    def __init__(self, model: str) -> None:
        """All events of an answer carry one id."""
        self.shell = _envelope("chat.completion.chunk", model)

    def opening(self, index: int = 0) -> str:
        """The first event of a text."""
        return self._choice(index, {"role": "assistant", "content": ""})

    def more(self, text: str, index: int = 0) -> str:
        """What comes next of a text."""
        return self._choice(index, {"content": text})

    def finish(self, generated: Generated, index: int = 0) -> str:
        """The last event of a text."""
        return self._choice(index, {}, finish_reason(generated), marks(generated))

    def end(self, usage: Mapping[str, int] | None) -> Iterator[str]:
        """What closes the stream, with the tokens used where they were asked for."""
        if usage is not None:
            yield event({**self.shell, "choices": [], "usage": dict(usage)})
        yield "data: [DONE]\n\n"

    def whole(self, texts: Sequence[Generated], usage: Mapping[str, int] | None) -> Iterator[str]:
        """Finished texts, a word at a time."""
        for index, generated in enumerate(texts):
            yield self.opening(index)
            for place, word in enumerate(generated.text.split(" ")):
                yield self.more(f" {word}" if place else word, index)
            yield self.finish(generated, index)
        yield from self.end(usage)

    def _choice(
        self, index: int, delta: dict[str, str], finish: str | None = None, more: Mapping[str, str] | None = None
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **(more or {})}
        return event({**self.shell, "choices": [choice]})


def failed(message: str) -> str:
    """The event that ends a stream whose text cannot be finished."""
    return event(error(message, "server_error"))


def settled(text: str, stops: Sequence[str]) -> str:
    """What of a growing ``text`` will stand in the finished one: whole words, and nothing that a stop may yet cut off."""
    starts = [place for stop in stops if (place := text.find(stop)) >= 0]
    end = min([len(text) - max(map(len, stops), default=1) + 1, *starts])
    return text[: max(0, text.rfind(" ", 0, max(0, end)))].rstrip()


def cut(generated: Generated, stops: Sequence[str]) -> Generated:
    """``generated`` up to the first of ``stops``."""
    ends = [place for stop in stops if (place := generated.text.find(stop)) >= 0]
    return Generated(generated.text[: min(ends)].rstrip(), truncated=False) if ends else generated


def error(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error in the shape clients read."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _sentence(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list with a user message.", "messages")
    spoken = [m for m in messages if isinstance(m, dict) and m.get("role") == "user"]
    if not spoken:
        raise BadRequestError("There is no message with role user.", "messages")
    content = spoken[-1].get("content")
    if isinstance(content, list):
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
            raise BadRequestError("Only text parts are supported.", "messages")
        content = " ".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str) or not any(character.isalpha() for character in content):
        raise BadRequestError("The last user message holds no sentence.", "messages")
    if any("\ud800" <= character <= "\udfff" for character in content):
        raise BadRequestError("The last user message holds half a character (a lone surrogate).", "messages")
    return content


def _sampling(fields: Mapping[str, Any], n: int, tokens: int) -> Sampling:
    top_p = _number(fields, "top_p", None, 0.0, 1.0)
    temperature = _number(fields, "temperature", None, 0.0, 2.0)
    if temperature is None and n == 1 and top_p is None:
        return Sampling(beams=5, max_tokens=tokens)
    if temperature is not None and temperature < 0.01:
        return Sampling(beams=1, max_tokens=tokens)
    if top_p == 0:
        raise BadRequestError("top_p must be above 0.", "top_p")
    return Sampling(temperature=0.7 if temperature is None else temperature, top_p=top_p or 0.95, max_tokens=tokens)


def _stops(given: Any) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise BadRequestError(f"stop must be a text or up to {MOST_STOPS} of them.", "stop")
    return tuple(stops)


def _limit(fields: Mapping[str, Any]) -> int:
    """Most tokens of a text. More than we give is clamped, and -1 (no limit, to other servers) is the most we give."""
    name = "max_completion_tokens" if fields.get("max_completion_tokens") is not None else "max_tokens"
    if fields.get(name) == -1:
        return MOST_TOKENS
    return min(_whole(fields, name, 48, 1, 2**31), MOST_TOKENS)


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} must be an object, got {_shown(value)}.", name)
    return value


def _whole(fields: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequestError(f"{name} must be a whole number from {low} to {high}, got {_shown(value)}.", name)
    return value


def _number(fields: Mapping[str, Any], name: str, default: float | None, low: float, high: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequestError(f"{name} must be a number from {low:g} to {high:g}, got {_shown(value)}.", name)
    return float(value)


def _shown(value: Any) -> str:
    """``value`` for a message: short, and however deeply nested."""
    return reprlib.repr(value)


def finish_reason(generated: Generated) -> str:
    """Why a text ends, in the words clients read."""
    if generated.declined:
        return "content_filter"
    return "length" if generated.truncated else "stop"


def marks(generated: Generated) -> dict[str, str]:
    """The fields of a choice whose sentence was given back as it came: the reason, and what it is about."""
    return {"declined": REASON, "kind": generated.declined} if generated.declined else {}


def _envelope(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def event(value: Mapping[str, Any]) -> str:
    """``value`` as a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
