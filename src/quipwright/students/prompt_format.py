"""How a causal student is shown a prompt and a response: one after the other, or as two turns of a chat template."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from quipwright.core.errors import WeightsError


@runtime_checkable
class PromptFormat(Protocol):
    """Token ids of prompts and responses, and the token that ends a response."""

    end: int

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of everything before a response."""

    def response_ids(self, text: str) -> list[int]:
        """Token ids of a response, end token included."""


class Plain:
    """The prompt with the tokenizer's own start token where it has one; a space, the response, the tokenizer's end."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises :class:`WeightsError` for a tokenizer without an end token."""
        if tokenizer.eos_token_id is None:
            raise WeightsError("The student's tokenizer has no end token.", "Choose weights with one.")
        self.tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id

    def prompt_ids(self, prompt: str) -> list[int]:
        """See :class:`PromptFormat`."""
        return list(self.tokenizer(prompt).input_ids)

    def response_ids(self, text: str) -> list[int]:
        """See :class:`PromptFormat`."""
        return [*self.tokenizer(" " + text, add_special_tokens=False).input_ids, self.end]


class Chat:
    """The prompt as the user's turn of the tokenizer's chat template, the response as the assistant's.

    The template writes all special tokens itself. What it puts between the opening of the assistant's turn and the
    text, and the token it closes the turn with, are read off a conversation it renders.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Raises :class:`WeightsError` for a tokenizer without a chat template, or where no end can be read off it."""
        if not getattr(tokenizer, "chat_template", None):
            raise WeightsError(
                "The task wants chat, but the student's tokenizer has no chat template.",
                "Choose chat weights, or set student_chat: false in the task.",
            )
        self.tokenizer = tokenizer
        reply = "wombat"
        asked = [{"role": "user", "content": "?"}]
        opening = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": reply}], tokenize=False)
        before, _, tail = whole.rpartition(reply)
        self.lead = before.removeprefix(opening) if before.startswith(opening) else ""
        closing = tokenizer(tail.strip(), add_special_tokens=False).input_ids
        ends = {*tokenizer.get_added_vocab().values(), tokenizer.eos_token_id}
        if not closing or closing[0] not in ends:
            raise WeightsError(
                f"The student's chat template closes a turn with {tail.strip()[:20]!r}, which is no special token.",
                "Set student_chat: false in the task.",
            )
        self.end: int = closing[0]

    def prompt_ids(self, prompt: str) -> list[int]:
        """See :class:`PromptFormat`."""
        turn = [{"role": "user", "content": prompt}]
        return list(self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False))

    def response_ids(self, text: str) -> list[int]:
        """See :class:`PromptFormat`."""
        return [*self.tokenizer(self.lead + text, add_special_tokens=False).input_ids, self.end]
