"""Who writes in the benchmark of decoding, and what they are asked for."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from quipwright.students.engine import Engine
from quipwright.students.engine.fallback import Fallback

K, BEAMS, LIMIT, TEMPERATURE, TOP_P, ROWS = 6, 5, 44, 0.8, 0.95, 144
BATCH = ROWS // K  # prompts
Count = Callable[[int], int]
"""Writes for all prompts with a seed; the number of tokens written."""


def engine_writes(network: Any, prompts: Sequence[list[int]], end: int, beams: int, opening: list[int] | None) -> Count:
    """The engine, over a copy of ``network``."""
    engine = Engine.of(copy.deepcopy(network), opening)
    print(f"engine: {engine.mode} {engine.reason}", flush=True)

    def write(seed: int) -> int:
        if beams > 1:
            texts = engine.beam(prompts, beams=beams, max_tokens=LIMIT, end=end)
        else:
            texts = engine.sample(
                prompts, k=K, temperature=TEMPERATURE, top_p=TOP_P, max_tokens=LIMIT, end=end, seed=seed
            )
        return sum(len(text) for _, row in texts for text in row)

    return write


def generate_writes(
    network: Any, prompts: Sequence[list[int]], end: int, beams: int, opening: list[int] | None
) -> Count:
    """transformers' ``generate`` in batches of as many rows as the engine writes together, prompts sorted by length."""
    ordered = sorted(prompts, key=len)
    size = max(1, ROWS // (beams if beams > 1 else K))
    options: dict[str, Any] = {"num_beams": beams, "do_sample": False}
    if beams == 1:
        options = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0, "num_return_sequences": K}
    if opening:
        options["decoder_start_token_id"] = opening[0]
    config = transformers.GenerationConfig(max_new_tokens=LIMIT, eos_token_id=end, pad_token_id=end, **options)

    def write(seed: int) -> int:
        torch.manual_seed(seed)
        tokens = 0
        for begin in range(0, len(ordered), size):
            batch = ordered[begin : begin + size]
            width = max(map(len, batch))
            side = [([0] * (width - len(p)), p) for p in batch]
            ids = torch.tensor([[*p, *gap] if opening else [*gap, *p] for gap, p in side])
            mask = torch.tensor([[*[1] * len(p), *gap] if opening else [*gap, *[1] * len(p)] for gap, p in side])
            given = {"decoder_input_ids": torch.tensor([opening] * len(batch))} if opening else {}
            with torch.inference_mode():
                out = network.generate(input_ids=ids, attention_mask=mask, generation_config=config, **given)
            rows = out[:, len(opening) if opening else width :].tolist()
            tokens += sum(row.index(end) + 1 if end in row else len(row) for row in rows)
        return tokens

    return write


def fallback_writes(network: Any, prompts: Sequence[list[int]], end: int, beams: int) -> Count:
    """The engine's fallback: transformers' ``generate`` with the engine's draw, or its beams."""
    fallback = Fallback(copy.deepcopy(network), None, ROWS)

    def write(seed: int) -> int:
        if beams > 1:
            texts = fallback.beam(prompts, beams, 1, LIMIT, end)
        else:
            texts = fallback.sample(prompts, K, TEMPERATURE, TOP_P, LIMIT, end, seed, 0, None)
        return sum(len(text) for _, row in texts for text in row)

    return write


def ctranslate2_writes(network: Any, tokenizer: Any, prompts: Sequence[list[int]], beams: int) -> Count:
    """CTranslate2 with int8 weights."""
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(f"{folder}/hf")
        tokenizer.save_pretrained(f"{folder}/hf")
        ctranslate2.converters.TransformersConverter(f"{folder}/hf").convert(f"{folder}/ct2", quantization="int8")
        generator = ctranslate2.Generator(f"{folder}/ct2", device="cpu", inter_threads=1, intra_threads=1)
    words = [tokenizer.convert_ids_to_tokens(prompt) for prompt in prompts]
    options: dict[str, Any] = {"beam_size": beams}
    if beams == 1:
        options = {"num_hypotheses": K, "sampling_topk": 0, "sampling_topp": TOP_P, "sampling_temperature": TEMPERATURE}
    size = max(1, ROWS // (beams if beams > 1 else K))

    def write(seed: int) -> int:
        ctranslate2.set_random_seed(seed)
        results = generator.generate_batch(
            words, max_length=LIMIT, include_prompt_in_result=False, max_batch_size=size,
            end_token=tokenizer.eos_token, **options,
        )  # fmt: skip
        return sum(len(ids) + 1 for result in results for ids in result.sequences_ids)

    return write
