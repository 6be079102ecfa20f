"""The log-probability of each token of a text, as the network that wrote it gives it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from quipwright.students.base import TokenLogprob


def read_tokens(
    tokenizer: Any, ids: Sequence[int], logits: Float[Tensor, "tokens vocabulary"], top: int
) -> list[TokenLogprob]:
    """The tokens ``ids`` of one text, ``logits`` being those by which each was drawn, with the ``top`` likeliest in its
    place. The space that parts the text from its prompt is no part of it. Of the tokens of one character the last has it.
    """
    logs = logits.float().log_softmax(-1)
    before, tokens = "", []
    for number, token in enumerate(ids):
        text = tokenizer.decode(list(ids[: number + 1])).removeprefix(" ")
        if number + 1 < len(ids):
            text = text.rstrip("\ufffd")  # which may still become a character
        likeliest = logs[number].topk(top)
        others = [
            (_alone(tokenizer, other, first=number == 0), _nats(value))
            for other, value in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        ]
        tokens.append(TokenLogprob(text[len(before) :], _nats(float(logs[number, token])), tuple(others)))
        before = text
    return tokens


def _alone(tokenizer: Any, token: int, *, first: bool) -> str:
    text: str = tokenizer.decode([token])
    return text.removeprefix(" ") if first else text


def _nats(value: float) -> float:
    """``value`` as JSON can hold it: what is impossible has the log-probability that OpenAI's API gives it."""
    return value if math.isfinite(value) else -9999.0
