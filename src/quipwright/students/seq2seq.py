"""Encoder-decoder students: BART, T5 (v1.0, v1.1, Flan), mT5, Pegasus, through transformers' public API.

The score is of what ``generate`` maximises: decoder input = start token, then the response shifted right by us, once;
the logits at position t predict token t. A tokenizer that opens every target with a constant token (BART's ``<s>``)
has it in the decoder's input and not in the score or the length, and generation begins after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quipwright.core.errors import DataError, RecipeError, WeightsError
from quipwright.core.records import DiverseBeams, Sampling
from quipwright.students.base import Generated, LoRA, OnToken, Prompted, StudentSettings
from quipwright.students.batches import RankedBatch
from quipwright.students.common import (
    NetworkStudent,
    add_lora,
    listener,
    need_room,
    pad,
    ranked_batch,
    read_generated,
)
from quipwright.students.diverse_beams import seq2seq_beams
from quipwright.students.probe import seq2seq_path
from quipwright.students.seq2seq_policy import Seq2SeqPolicy, start_token
from quipwright.students.weights import device, load, load_network, quiet


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

        Frozen weights are held in bf16 when so trained, trained ones in float32.
        """
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

        config = load(AutoConfig, settings.weights, settings.revision, recipe_dir)
        if not getattr(config, "is_encoder_decoder", False):
            raise RecipeError(f"{settings.weights} is a decoder-only model.", "Use student: {kind: causal}.")
        frozen_bf16 = settings.precision == "bf16" and isinstance(settings.tuning, LoRA)
        dtype = torch.bfloat16 if frozen_bf16 else torch.float32
        network = load_network(AutoModelForSeq2SeqLM, settings.weights, settings.revision, dtype, recipe_dir)
        student = cls(network, load(AutoTokenizer, settings.weights, settings.revision, recipe_dir), settings)
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

    def generate(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> list[list[Generated]]:
        """``k`` texts a prompt: nucleus sampling at temperature > 0, else beam search or greedy; or diverse beams.

        No end token is forced at the limit (published BART configs do), so that what was cut off is known as such.
        Raises :class:`DataError` for a prompt that outgrows the context.
        """
        from transformers import GenerationConfig, LogitsProcessorList

        from quipwright.students.nucleus import Nucleus

        ids, mask = self._encoded(prompts, sampling.max_tokens)
        if isinstance(sampling, DiverseBeams):
            return self._diverse(ids, mask, sampling)
        opening = torch.tensor([self.opening], device=self.device).expand(len(prompts), -1)
        drawn = sampling.temperature > 0
        nucleus = [Nucleus(sampling.temperature, sampling.top_p)] if drawn else []
        config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            num_beams=sampling.beams,
            num_return_sequences=k,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self._pad,
            decoder_start_token_id=self.opening[0],
            do_sample=drawn,
            **({"top_k": 0} if drawn else {}),
        )
        with torch.inference_mode(), quiet():
            torch.manual_seed(sampling.seed)
            out = self.snapshot().generate(
                input_ids=ids,
                attention_mask=mask.long(),
                decoder_input_ids=opening,
                generation_config=config,
                logits_processor=LogitsProcessorList(nucleus),
                streamer=listener(self.tokenizer, len(prompts), sampling, k, self.tokenizer.eos_token_id, on_token),
            )
        begun, end = len(self.opening), self.tokenizer.eos_token_id
        texts = [read_generated(self.tokenizer, row[begun:], end) for row in out.cpu()]
        return [texts[i * k : (i + 1) * k] for i in range(len(prompts))]

    def _diverse(self, ids: Tensor, mask: Tensor, sampling: DiverseBeams) -> list[list[Generated]]:
        if not self.module.path.shared:
            raise RecipeError(
                f"Diverse beams are not possible with this student: {self.module.path.reason}.",
                "Use candidates: {kind: nucleus}.",
            )
        end = self.tokenizer.eos_token_id
        beams = seq2seq_beams(
            self.snapshot(), ids, mask, torch.tensor(self.opening, device=self.device), sampling.groups,
            penalty=sampling.penalty, end=end, pad=self._pad, max_tokens=sampling.max_tokens,
        )  # fmt: skip
        return [[read_generated(self.tokenizer, text, end) for text in row] for row in beams.ids.cpu()]

    def _encoded(self, prompts: Sequence[str], new: int) -> tuple[Tensor, Tensor]:
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        need_room(max(map(len, ids)), 0, self.settings.context)
        need_room(len(self.opening), new, self.settings.context)
        tokens, mask = pad(ids)
        return tokens.to(self.device), mask.to(self.device)

    @property
    def _pad(self) -> int:
        pad_id = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad_id is None else pad_id)


def _constant_prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every target: BART's ``<s>``, nothing for T5 and Pegasus."""
    *prefix, end = tokenizer(text_target="").input_ids or [None]
    if end != tokenizer.eos_token_id:
        raise WeightsError(
            "The student's tokenizer does not close a target with its end token.", "Choose other weights."
        )
    return list(prefix)
