"""Tiny random networks of every family the engine is held to, what transformers writes with them, and prompts."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import transformers as hf

VOCABULARY = 64
END = 1
_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "initializer_range": 0.2}
_IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": END, "bos_token_id": 2}
_LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
_BART = {**_LAYERS, "d_model": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.2}
_START = {**_IDS, "decoder_start_token_id": 0}
_WINDOWED = ["sliding_attention", "full_attention"]
_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_GROUPED, "head_dim": 8}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**_GROUPED, "sliding_window": 10}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", _GROUPED),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_GROUPED, "head_dim": 8, "sliding_window": 12, "layer_types": _WINDOWED, "query_pre_attn_scalar": 8,
         "attn_logit_softcapping": 5.0, "final_logit_softcapping": 9.0},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**_GROUPED, "head_dim": 8, "sliding_window": 12, "layer_types": _WINDOWED, "query_pre_attn_scalar": 8},
    ),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**_SIZES, "initializer_range": 0.2}),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32,
         "init_std": 0.2},
    ),
    "bloom": ("BloomConfig", "BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": ("MptConfig", "MptForCausalLM", {"d_model": 32, "n_layers": 2, "n_heads": 4}),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "initializer_factor": 2.0, **_START},
    ),
    "bart": ("BartConfig", "BartForConditionalGeneration", {**_BART, **_START}),
    "pegasus": ("PegasusConfig", "PegasusForConditionalGeneration", {**_BART, **_START}),
    "marian": ("MarianConfig", "MarianMTModel", {**_BART, **_START}),
}  # fmt: skip
OPENINGS = {"t5": [0], "bart": [0, 2], "pegasus": [0], "marian": [0]}
REFUSED = ("bloom", "mpt")
SERVED = tuple(name for name in _KINDS if name not in REFUSED)


@cache
def network(family: str, seed: int = 0) -> Any:
    """A two-layer random network of ``family`` in float32, without generation settings; shared, so copy before changing."""
    config, model, options = _KINDS[family]
    torch.manual_seed(seed)
    built = getattr(hf, model)(getattr(hf, config)(**{**_IDS, **options})).eval()
    built.generation_config = hf.GenerationConfig()
    return built


def fresh(family: str) -> Any:
    """A copy of :func:`network` for an engine to take over."""
    return copy.deepcopy(network(family))


def prompts(count: int, seed: int = 1, longest: int = 30) -> list[list[int]]:
    """``count`` random prompts of 3 to ``longest`` tokens."""
    numbers = random.Random(seed)
    return [[numbers.randrange(3, VOCABULARY) for _ in range(numbers.randrange(3, longest + 1))] for _ in range(count)]


def generate(family: str, prompt: Sequence[int], limit: int, beams: int = 1, n: int = 1) -> list[list[int]]:
    """What transformers' ``generate`` writes after ``prompt`` alone: the best ``n`` texts."""
    opening = OPENINGS.get(family)
    begin = len(opening or prompt)
    given = {"decoder_input_ids": torch.tensor([opening])} if opening else {}
    config = hf.GenerationConfig(
        max_new_tokens=limit, num_beams=beams, num_return_sequences=n, do_sample=False, eos_token_id=END, pad_token_id=END,
        **({"decoder_start_token_id": opening[0]} if opening else {}),
    )  # fmt: skip
    with torch.inference_mode():
        out = network(family).generate(
            input_ids=torch.tensor([list(prompt)]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            generation_config=config, **given,
        )  # fmt: skip
    return [row[: row.index(END) + 1] if END in row else row for row in out[:, begin:].tolist()]
