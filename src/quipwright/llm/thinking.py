"""Thinking aloud is no answer: blocks of reasoning are taken out of every reply, where it enters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from quipwright.llm.types import Completion, Token

_NAME = r"(?:think|thinking|thought|thoughts|reasoning|reflection)"
_OPEN = rf"(?:<{_NAME}(?:\s[^<>]*)?>|\[THINK\]|◁think▷|<\|channel\|>\s*(?:analysis|commentary)\b[^<]*<\|message\|>)"
_CLOSE = rf"(?:</{_NAME}\s*>|\[/THINK\]|◁/think▷|<\|channel\|>\s*final\s*<\|message\|>)"
_BLOCK = re.compile(rf"{_OPEN}(?:(?!{_CLOSE}).)*(?:{_CLOSE}|\Z)", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(rf"\A.*{_CLOSE}", re.DOTALL | re.IGNORECASE)


def without_thinking(completion: Completion) -> Completion:
    """``completion`` without its thinking, whose tokens go too.

    A block goes whole; one that was cut off goes to the end; one without an opening tag (templates write that before the
    model begins) goes from the start. ``thought`` then says that there was one.
    """
    text = completion.text
    if not re.search(f"{_OPEN}|{_CLOSE}", text, re.IGNORECASE):
        return completion
    left = _UNOPENED.sub("", _BLOCK.sub("", text)).lstrip()
    return replace(completion, text=left, thought=True, tokens=_tokens_of(completion.tokens, left))


def _tokens_of(tokens: Sequence[Token] | None, left: str) -> tuple[Token, ...] | None:
    """The last of ``tokens``: those that spell ``left``; none where they do not."""
    if tokens is None or not left:
        return None
    start = "".join(token.text for token in tokens).rfind(left)
    if start < 0:
        return None
    end = 0
    for place, token in enumerate(tokens):
        end += len(token.text)
        if end > start:
            return tuple(tokens[place:])
    return None
