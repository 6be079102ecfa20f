"""Log-probabilities of a text's tokens, asked for and answered as in OpenAI's two dialects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from quipwright.serving.bad_request import BadRequestError
from quipwright.students.base import TokenLogprob

MOST_IN_CHAT, MOST_IN_COMPLETIONS = 20, 5
Scored = Sequence[Sequence[TokenLogprob]]
"""The tokens of each text."""


def asked_in_chat(fields: Mapping[str, Any]) -> int | None:
    """How many alternatives each token is to have beside it; ``None`` where no log-probabilities are asked for.

    Raises :class:`BadRequestError`.
    """
    wanted, top = fields.get("logprobs"), fields.get("top_logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise BadRequestError("logprobs must be true or false.", "logprobs")
    if top is None:
        return _whole_answers(fields, 0) if wanted else None
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= MOST_IN_CHAT:
        raise BadRequestError(f"top_logprobs must be a whole number from 0 to {MOST_IN_CHAT}.", "top_logprobs")
    if not wanted:
        raise BadRequestError("top_logprobs needs logprobs: true.", "top_logprobs")
    return _whole_answers(fields, top)


def asked_in_completions(fields: Mapping[str, Any]) -> int | None:
    """As :func:`asked_in_chat` for the older dialect, where ``logprobs`` is the number."""
    top = fields.get("logprobs")
    if top is None or top is False:
        return None
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= MOST_IN_COMPLETIONS:
        raise BadRequestError(f"logprobs must be a whole number from 0 to {MOST_IN_COMPLETIONS}.", "logprobs")
    return _whole_answers(fields, top)


def _whole_answers(fields: Mapping[str, Any], top: int) -> int:
    if fields.get("stream"):
        raise BadRequestError("logprobs come with whole answers only; leave stream out.", "logprobs")
    return top


def in_chat(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The field ``logprobs`` of a choice of chat completions."""
    content = [
        {**_token(one.text, one.logprob), "top_logprobs": [_token(text, value) for text, value in one.top]}
        for one in tokens
    ]
    return {"content": content, "refusal": None}


def in_completions(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The field ``logprobs`` of a choice of the older completions; offsets count from the text's beginning."""
    ends = accumulate((len(one.text) for one in tokens), initial=0)
    return {
        "tokens": [one.text for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [dict(one.top) for one in tokens] if any(one.top for one in tokens) else None,
        "text_offset": list(ends)[: len(tokens)],
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    """``bytes`` is null where a token is part of a character."""
    return {"token": text, "logprob": logprob, "bytes": None if not text or "\ufffd" in text else list(text.encode())}
