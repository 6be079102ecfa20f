"""Conversations as token ids, for models we run ourselves: chat template, begun answers, and whole continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quipwright.core.errors import ModelError
from quipwright.llm.types import Message, Request


@dataclass(frozen=True)
class Continuation:
    """Token ids of a prompt and what continues it; the ids from ``start`` on are the continuation's."""

    ids: tuple[int, ...]
    start: int


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """``messages`` as the model's prompt text; a last message of the assistant's is left open to be continued.

    Without a chat template the contents stand one under another. Raises :class:`ModelError` when the template
    refuses the conversation (a system message, say).
    """
    begun = messages[-1].role == "assistant"
    if not getattr(tokenizer, "chat_template", None):
        return "\n\n".join(message.content for message in messages) + ("" if begun else "\n")
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
    except Exception as error:  # templates are programs of their own and raise what they like
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"The model's chat template refuses the conversation: {reason}.", "Leave the system message out."
        ) from None
    return text


def takes_system(tokenizer: Any) -> bool:
    """Whether the chat template takes a system message."""
    try:
        return "wombat" in render(tokenizer, [Message("system", "wombat"), Message("user", "?")])
    except ModelError:
        return False


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a rendered prompt. The template already wrote the special tokens; without one, a first token is added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not getattr(tokenizer, "chat_template", None) and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    return ids


def labels_after(tokenizer: Any, messages: Sequence[Message], options: Sequence[str]) -> list[Continuation]:
    """Each of ``options`` as a whole continuation of the conversation.

    Prompt and label are tokenised together and cut at the longest prefix of ids common to the prompt and every
    label: " 1" is one token for some tokenisers, a blank and a digit for others (SmolLM2, measured).
    """
    text = render(tokenizer, messages)
    blank = " " if messages[-1].role == "assistant" and text[-1:].strip() else ""
    prompt = prompt_ids(tokenizer, text)
    whole = [prompt_ids(tokenizer, f"{text}{blank}{option}") for option in options]
    start = min(common_prefix(prompt, ids) for ids in whole)
    return [Continuation(tuple(ids), start) for ids in whole]


def text_after(tokenizer: Any, before: str, text: str) -> Continuation:
    """``text`` as a continuation of ``before``. The model's first token is put in front where it has one; where it has
    none, the first token of all has nothing before it and is not scored."""
    first = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    whole = first + tokenizer(before + text, add_special_tokens=False)["input_ids"]
    start = common_prefix(first + tokenizer(before, add_special_tokens=False)["input_ids"], whole) if before else 0
    return Continuation(tuple(whole), max(1, start, len(first)))


def tokens_to_complete(tokenizer: Any, request: Request) -> int:
    """Tokens of the prompt of ``request`` and its longest answer."""
    return len(prompt_ids(tokenizer, render(tokenizer, request.messages))) + request.sampling.max_tokens


def tokens_to_choose(tokenizer: Any, request: Request) -> int:
    """Tokens of the prompt of ``request`` and its longest option, and one more: some engines draw one in any case."""
    return 1 + max(len(one.ids) for one in labels_after(tokenizer, request.messages, request.options))


def tokens_to_score(tokenizer: Any, before: str, text: str) -> int:
    """Tokens of ``text`` after ``before``, and one more as above."""
    return 1 + len(text_after(tokenizer, before, text).ids)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
