"""The engine is worth having: its processor time beside that of transformers' ``generate``, in one process."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from quipwright.students.engine import Engine

K, LIMIT, ROUNDS = 6, 8, 3


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_sampling_takes_less_than_half_of_generates_time() -> None:
    """A ratio of processor times, which a busy machine changes little; it was 4 to 6 when this was written."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=16384, num_key_value_heads=2, **sizes)).eval()
    network.generation_config = GenerationConfig()
    engine = Engine.of(copy.deepcopy(network))
    ids = torch.randint(16384, (8, 20))
    config = GenerationConfig(
        max_new_tokens=LIMIT, do_sample=True, temperature=0.8, top_p=0.95, top_k=0,
        num_return_sequences=K, pad_token_id=0,
    )  # fmt: skip

    def ours() -> list[int]:
        texts = engine.sample(ids.tolist(), k=K, temperature=0.8, top_p=0.95, max_tokens=LIMIT, end=-1, seed=0)
        return [len(text) for _, row in texts for text in row]

    def theirs() -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        return out

    assert theirs().shape == (8 * K, 20 + LIMIT)
    assert ours() == [LIMIT] * (8 * K)
    assert statistics.median(seconds(theirs) / seconds(ours) for _ in range(ROUNDS)) > 2
