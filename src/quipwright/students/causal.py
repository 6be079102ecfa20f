"""Decoder-only students: Llama family, SmolLM, Qwen, GPT-2 and the like, through transformers' public API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quipwright.core.errors import DataError, RecipeError
from quipwright.core.progress import console
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
from quipwright.students.diverse_beams import causal_beams
from quipwright.students.policy import CausalPolicy
from quipwright.students.probe import scoring_path
from quipwright.students.prompt_format import Chat, Plain, PromptFormat
from quipwright.students.weights import device, load, load_network, quiet


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
    def open(cls, settings: StudentSettings, chat: bool = False, recipe_dir: Path | None = None) -> CausalStudent:
        """Load weights and tokenizer, on :func:`device`; a relative folder is seen from ``recipe_dir``.

        Frozen weights are held in bf16 when so trained, trained ones in float32.
        """
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        config = load(AutoConfig, settings.weights, settings.revision, recipe_dir)
        if getattr(config, "is_encoder_decoder", False):
            raise RecipeError(f"{settings.weights} is an encoder-decoder model.", "Use student: {kind: seq2seq}.")
        frozen_bf16 = settings.precision == "bf16" and isinstance(settings.tuning, LoRA)
        dtype = torch.bfloat16 if frozen_bf16 else torch.float32
        network = load_network(AutoModelForCausalLM, settings.weights, settings.revision, dtype, recipe_dir)
        student = cls(network, load(AutoTokenizer, settings.weights, settings.revision, recipe_dir), settings, chat)
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

    def generate(
        self, prompts: Sequence[str], sampling: Sampling | DiverseBeams, k: int = 1, on_token: OnToken | None = None
    ) -> list[list[Generated]]:
        """``k`` texts a prompt in one left-padded batch: nucleus sampling at temperature > 0, else beam search or greedy;
        or diverse beams.

        Sampling uses the whole nucleus (top_k off, which transformers would silently set to 50) and torch's seed.
        Raises :class:`DataError` for a prompt that leaves no room in the context.
        """
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        need_room(max(map(len, ids)), sampling.max_tokens, self.settings.context)
        torch.manual_seed(getattr(sampling, "seed", 0))
        if self.module.path.left_padding:
            return self._generate(ids, sampling, k, on_token)
        texts: dict[int, list[Generated]] = {}
        for length in dict.fromkeys(map(len, ids)):  # a family that padding on the left would disturb
            numbers = [i for i, row in enumerate(ids) if len(row) == length]
            told = None if on_token is None else (lambda row, text, numbers=numbers: on_token(numbers[row], text))
            texts |= zip(numbers, self._generate([ids[i] for i in numbers], sampling, k, told), strict=True)
        return [texts[i] for i in range(len(ids))]

    def _generate(
        self, ids: Sequence[list[int]], sampling: Sampling | DiverseBeams, k: int, on_token: OnToken | None
    ) -> list[list[Generated]]:
        from transformers import GenerationConfig, LogitsProcessorList

        from quipwright.students.nucleus import Nucleus

        tokens, mask = (side.flip(1).to(self.device) for side in pad([row[::-1] for row in ids]))
        if isinstance(sampling, DiverseBeams):
            return self._diverse(tokens, mask, sampling)
        drawn = sampling.temperature > 0
        nucleus = [Nucleus(sampling.temperature, sampling.top_p)] if drawn else []
        config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            num_beams=sampling.beams,
            num_return_sequences=k,
            eos_token_id=self.prompt_format.end,
            pad_token_id=self.prompt_format.end,
            do_sample=drawn,
            **({"top_k": 0} if drawn else {}),
        )
        with torch.inference_mode(), quiet():
            out = self.snapshot().generate(
                input_ids=tokens,
                attention_mask=mask.long(),
                generation_config=config,
                logits_processor=LogitsProcessorList(nucleus),
                streamer=listener(self.tokenizer, len(ids), sampling, k, self.prompt_format.end, on_token),
            )
        width = tokens.shape[1]
        texts = [read_generated(self.tokenizer, row[width:], self.prompt_format.end) for row in out.cpu()]
        return [texts[i * k : (i + 1) * k] for i in range(len(ids))]

    def _diverse(self, ids: Tensor, mask: Tensor, sampling: DiverseBeams) -> list[list[Generated]]:
        end = self.prompt_format.end
        options = {"penalty": sampling.penalty, "end": end, "pad": end, "max_tokens": sampling.max_tokens}
        beams = causal_beams(self.snapshot(), ids, mask, sampling.groups, **options)
        return [[read_generated(self.tokenizer, text, end) for text in row] for row in beams.ids.cpu()]


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
