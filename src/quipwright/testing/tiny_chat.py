"""A tiny random chat model whose every number can be recomputed: one token a character, a template of tags."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quipwright.core.records import Sampling
from quipwright.llm.types import Message, Request

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if not loop.last or m.role != 'assistant' %}</>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token a byte-like character: blanks and digits are tokens of their own, as in SmolLM2."""
    letters = {chr(i): i - 31 for i in range(32, 127)}
    vocabulary = {"<s>": 0, **letters, "\n": 96, "</s>": 97, "?": letters["?"]}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.decoder = decoders.Fuse()
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="?")
    made.chat_template = template
    return made


def network(seed: int = 0) -> LlamaForCausalLM:
    """Two random layers for :func:`tokenizer`."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=98, num_attention_heads=2, max_position_embeddings=2048, eos_token_id=97, **sizes)
    return LlamaForCausalLM(config)


def asked(text: str, **fields: Any) -> Request:
    """A question; ``sampling`` holds what of it is not as usual."""
    sampling = Sampling(**({"temperature": 1.0, "max_tokens": 6} | fields.pop("sampling", {})))
    return Request((Message("user", text),), sampling, **fields)
