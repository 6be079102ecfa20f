"""Decoder-only students: Llama family, SmolLM, Qwen, GPT-2 and the like, through transformers' public API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import DataError, RecipeError
from quipwright.core.progress import console
from quipwright.core.records import DiverseBeams, Sampling
from quipwright.students.base import Generated, LoRA, OnToken, Prompted, StudentSettings, TokenLogprob
from quipwright.students.batches import RankedBatch
from quipwright.students.common import (
    NetworkStudent,
    add_lora,
    need_room,
    ranked_batch,
)
from quipwright.students.policy import CausalPolicy
from quipwright.students.precision import frozen_dtype
from quipwright.students.probe import scoring_path
from quipwright.students.prompt_format import Chat, Plain, PromptFormat
from quipwright.students.token_logprobs import read_tokens
from quipwright.students.weights import device, load, load_network, weights_identity


class CausalStudent(NetworkStudent):
    """A decoder-only student (see the ``Student`` protocol)."""

    def __init__(self, network: Any, tokenizer: Any, settings: StudentSettings, chat: bool = False) -> None:
        """Wrap a loaded ``network``; :meth:`open` loads one by settings. ``chat``: see ``open_student``."""
        if getattr(network.config, "is_encoder_decoder", False):
            raise RecipeError("A causal student was given an encoder-decoder model.", "Use student: {kind: seq2seq}.")
        self.tokenizer = tokenizer
        self.prompt_format: PromptFormat = Chat(tokenizer) if chat else Plain(tokenizer)
        path = scoring_path(network)
        if path.reason:
            say_cost(path.reason)
        if isinstance(settings.tuning, LoRA):
            network = add_lora(network, settings.tuning)
        super().__init__(network, CausalPolicy(network, settings.precision == "bf16", path), settings)

    @classmethod
    def open(
        cls, settings: StudentSettings, chat: bool = False, recipe_dir: Path | None = None, *, adapted: bool = True
    ) -> CausalStudent:
        """Load weights and tokenizer, on :func:`device`; a relative folder is seen from ``recipe_dir``. Without ``adapted``
        no adapters are put on them, whatever ``settings`` say.

        Frozen weights are held as :func:`frozen_dtype` says, trained ones in float32.
        """
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        config = load(AutoConfig, settings.weights, settings.revision, recipe_dir)
        if getattr(config, "is_encoder_decoder", False):
            raise RecipeError(f"{settings.weights} is an encoder-decoder model.", "Use student: {kind: seq2seq}.")
        frozen = isinstance(settings.tuning, LoRA)
        dtype = frozen_dtype(settings.precision, device()) if frozen else torch.float32
        network = load_network(AutoModelForCausalLM, settings.weights, settings.revision, dtype, recipe_dir)
        settings = settings if adapted else settings.model_copy(update={"tuning": "full"})
        student = cls(network, load(AutoTokenizer, settings.weights, settings.revision, recipe_dir), settings, chat)
        student.base = weights_identity(settings.weights, settings.revision, recipe_dir)
        student.module.to(device())  # only now: fresh adapters are drawn on the CPU, the same for every machine
        return student

    def collate(self, rows: Sequence[Prompted]) -> RankedBatch:
        """Token ids, right-padded."""
        return collate(self.prompt_format, rows, self.settings.context)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt, up to where the response begins."""
        return self.prompt_format.prompt_ids(prompt)

    def response_ids(self, text: str) -> list[int]:
        """Token ids of a response, end token included."""
        return self.prompt_format.response_ids(text)

    def token_logprobs(self, prompt: str, text: str, top: int = 0) -> list[TokenLogprob]:
        """See ``TokenScorer``: by the network that writes. The end token is no part of the text."""
        begin, ids = self.prompt_ids(prompt), self.response_ids(text)[:-1] if text else []
        return read_tokens(self.tokenizer, ids, self.engine.read([*begin, *ids], len(begin)), top) if ids else []

    @property
    def padded(self) -> bool:
        """As the scoring path says."""
        return bool(self.module.path.left_padding)

    def write(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Each prompt's number and its ``k`` texts, as prompts end: nucleus sampling at temperature > 0, else beam search
        or greedy; or diverse beams. Hand over all prompts: the engine orders and batches them.

        Raises :class:`DataError` for a prompt that leaves no room in the context.
        """
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        need_room(max(map(len, ids), default=0), sampling.max_tokens, self.settings.context)
        end = self.prompt_format.end
        return self.decode(ids, sampling, k, on_token, end=end, padding=end)


@cache
def say_cost(reason: str) -> None:
    """Say, once for each ``reason``, that scoring takes longer than for most models."""
    console.print(
        f"This student's responses are each scored behind a prompt of their own, which takes longer: {reason}.",
        soft_wrap=True,
    )


def collate(prompt_format: PromptFormat, rows: Sequence[Prompted], context: int) -> RankedBatch:
    """``rows`` as right-padded ids. Raises :class:`DataError` where a prompt and a response outgrow ``context``."""
    prompts = [prompt_format.prompt_ids(row.prompt) for row in rows]
    responses = [[prompt_format.response_ids(text) for text in row.responses] for row in rows]
    longest = max(len(p) + max(map(len, r)) for p, r in zip(prompts, responses, strict=True))
    if longest > context:
        raise DataError(
            f"A literal and its response take {longest} tokens; the context is {context}.",
            "Shorten the literal or raise student.context.",
        )
    return ranked_batch(prompts, responses, rows)
