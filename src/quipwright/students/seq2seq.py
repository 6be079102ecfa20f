"""Encoder-decoder students: BART, T5 (v1.0, v1.1, Flan), mT5, Pegasus, through transformers' public API.

The score is of what ``generate`` maximises: decoder input = start token, then the response shifted right by us, once;
the logits at position t predict token t. A tokenizer that opens every target with a constant token (BART's ``<s>``)
has it in the decoder's input and not in the score or the length, and generation begins after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import DataError, RecipeError, WeightsError
from quipwright.core.records import DiverseBeams, Sampling
from quipwright.students.base import Generated, LoRA, OnToken, Prompted, StudentSettings
from quipwright.students.batches import RankedBatch
from quipwright.students.common import (
    NetworkStudent,
    add_lora,
    need_room,
    ranked_batch,
)
from quipwright.students.precision import frozen_dtype
from quipwright.students.probe import seq2seq_path
from quipwright.students.seq2seq_policy import Seq2SeqPolicy, start_token
from quipwright.students.weights import device, load, load_network, weights_identity


class Seq2SeqStudent(NetworkStudent):
    """An encoder-decoder student (see the ``Student`` protocol)."""

    def __init__(self, network: Any, tokenizer: Any, settings: StudentSettings) -> None:
        """Wrap a loaded ``network``; :meth:`open` loads one by settings."""
        if not getattr(network.config, "is_encoder_decoder", False):
            raise RecipeError("A seq2seq student was given a decoder-only model.", "Use student: {kind: causal}.")
        if tokenizer.eos_token_id is None:
            raise WeightsError("The student's tokenizer has no end token.", "Choose weights with one.")
        if (start := start_token(network)) is None:
            raise WeightsError("The student's config has no decoder_start_token_id.", "Choose weights with one.")
        self.tokenizer = tokenizer
        self.prefix = _constant_prefix(tokenizer)
        self.opening = [start, *self.prefix]
        path = seq2seq_path(network)
        if isinstance(settings.tuning, LoRA):
            network = add_lora(network, settings.tuning)
        module = Seq2SeqPolicy(network, self.opening, settings.precision == "bf16", path)
        super().__init__(network, module, settings)

    @classmethod
    def open(cls, settings: StudentSettings, recipe_dir: Path | None = None) -> Seq2SeqStudent:
        """Load weights and tokenizer, on :func:`device`; a relative folder is seen from ``recipe_dir``.

        Frozen weights are held as :func:`frozen_dtype` says, trained ones in float32.
        """
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

        config = load(AutoConfig, settings.weights, settings.revision, recipe_dir)
        if not getattr(config, "is_encoder_decoder", False):
            raise RecipeError(f"{settings.weights} is a decoder-only model.", "Use student: {kind: causal}.")
        frozen = isinstance(settings.tuning, LoRA)
        dtype = frozen_dtype(settings.precision, device()) if frozen else torch.float32
        network = load_network(AutoModelForSeq2SeqLM, settings.weights, settings.revision, dtype, recipe_dir)
        student = cls(network, load(AutoTokenizer, settings.weights, settings.revision, recipe_dir), settings)
        student.base = weights_identity(settings.weights, settings.revision, recipe_dir)
        student.module.to(device())  # only now: fresh adapters are drawn on the CPU, the same for every machine
        return student

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with the tokenizer's own special tokens."""
        return list(self.tokenizer(prompt).input_ids)

    def response_ids(self, text: str) -> list[int]:
        """Token ids of a response as they are scored: without the constant prefix, end token included."""
        return list(self.tokenizer(text_target=text).input_ids)[len(self.prefix) :]

    def collate(self, rows: Sequence[Prompted]) -> RankedBatch:
        """Token ids, right-padded. Raises :class:`DataError` where a prompt or a response outgrows the context."""
        prompts = [self.prompt_ids(row.prompt) for row in rows]
        responses = [[self.response_ids(text) for text in row.responses] for row in rows]
        longest = max(
            max(len(p), len(self.opening) + max(map(len, r))) for p, r in zip(prompts, responses, strict=True)
        )
        if longest > self.settings.context:
            raise DataError(
                f"A literal or its response takes {longest} tokens; the context is {self.settings.context}.",
                "Shorten it or raise student.context.",
            )
        return ranked_batch(prompts, responses, rows)

    def write(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Each prompt's number and its ``k`` texts, as prompts end: nucleus sampling at temperature > 0, else beam search
        or greedy; or diverse beams. Hand over all prompts: the engine orders and batches them.

        No end token is forced at the limit (published BART configs do), so that what was cut off is known as such.
        Raises :class:`DataError` for a prompt that outgrows the context.
        """
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        need_room(max(map(len, ids), default=0), 0, self.settings.context)
        need_room(len(self.opening), sampling.max_tokens, self.settings.context)
        if isinstance(sampling, DiverseBeams) and self.engine.mode == "generate" and not self.module.path.shared:
            raise RecipeError(
                f"Diverse beams are not possible with this student: {self.module.path.reason}.",
                "Use candidates: {kind: nucleus}.",
            )
        end, padding = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        return self.decode(ids, sampling, k, on_token, end=end, padding=end if padding is None else padding)


def _constant_prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every target: BART's ``<s>``, nothing for T5 and Pegasus."""
    *prefix, end = tokenizer(text_target="").input_ids or [None]
    if end != tokenizer.eos_token_id:
        raise WeightsError(
            "The student's tokenizer does not close a target with its end token.", "Choose other weights."
        )
    return list(prefix)
