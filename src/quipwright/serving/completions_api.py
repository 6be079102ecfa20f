"""The older completions dialect: a prompt instead of a conversation, read and answered by way of the newer one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quipwright.serving.bad_request import BadRequestError
from quipwright.serving.chat_api import event, finish_reason, marks, refuse
from quipwright.serving.logprobs import Scored, asked_in_completions, in_completions
from quipwright.students.base import Generated

MOST_PROMPTS = 16
_UNSUPPORTED = ("suffix", "echo", "logit_bias")


def as_chats(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of the conversations that the prompts in ``fields`` are, one for each. Raises :class:`BadRequestError`."""
    refuse(fields, _UNSUPPORTED)
    if fields.get("best_of") not in (None, 1, fields.get("n")):
        raise BadRequestError("best_of is not supported; leave it out or set it to n.", "best_of")
    prompts = fields.get("prompt")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise BadRequestError(f"prompt must be a text or up to {MOST_PROMPTS} of them.", "prompt")
    if not all(isinstance(prompt, str) and any(c.isalpha() for c in prompt) for prompt in prompts):
        raise BadRequestError("prompt must hold a sentence; token ids are not supported.", "prompt")
    top = asked_in_completions(fields)
    scored = {"logprobs": None if top is None else True, "top_logprobs": top}
    return [{**fields, **scored, "messages": [{"role": "user", "content": p}]} for p in prompts]


def text_completion(
    model: str, texts: Sequence[Generated], usage: Mapping[str, int], scored: Scored | None = None
) -> dict[str, Any]:
    """The answer in one piece. ``scored``: the tokens of each text, where they were asked for."""
    choices = _choices(texts)
    for choice, tokens in zip(choices, scored or (), strict=False):
        choice["logprobs"] = in_completions(tokens)
    return {**_envelope(model), "choices": choices, "usage": dict(usage)}


def events(model: str, texts: Sequence[Generated], usage: Mapping[str, int] | None) -> Iterator[str]:
    """Finished texts as server-sent events, one a text."""
    shell = _envelope(model)
    for choice in _choices(texts):
        yield event({**shell, "choices": [choice]})
    if usage is not None:
        yield event({**shell, "choices": [], "usage": dict(usage)})
    yield "data: [DONE]\n\n"


def _choices(texts: Sequence[Generated]) -> list[dict[str, Any]]:
    return [
        {"index": i, "text": g.text, "logprobs": None, "finish_reason": finish_reason(g), **marks(g)}
        for i, g in enumerate(texts)
    ]


def _envelope(model: str) -> dict[str, Any]:
    return {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()), "model": model}
