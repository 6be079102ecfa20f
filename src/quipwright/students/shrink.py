"""A small copy of a model's config that keeps what decides how it computes: kinds of layers, windows, scales, heads.

Widths, depths and vocabularies shrink; of the layers one of each kind stays, at least two. It serves to find out how a
family must be scored without running its real weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

VOCABULARY = 96
WINDOW = 12
"""Every sliding window of a shrunken config, in tokens."""

_DEPTHS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers",
    "num_encoder_layers", "num_blocks",
)  # fmt: skip
_LAYER_NUMBERS = (
    "full_attn_idxs", "cross_attention_layers", "moe_layers", "mlp_only_layers", "hybrid_layer_ids", "ple_layer_ids",
    "attn_layer_indices",
)  # fmt: skip
WINDOWS = (
    "sliding_window", "sliding_window_size", "attention_chunk_size", "attention_window_size", "window_size",
    "local_attention", "attention_window",
)  # fmt: skip
_VOCABULARIES = ("vocab_size", "src_vocab_size", "tgt_vocab_size")
_SIZES = {
    r"hidden_size|d_model|n_embd|embed_dim|emb_dim|embedding_size|embedding_dim|word_embed_proj_dim": 32,
    r"input_embedding_size|output_embedding_size|lru_width|audio_hidden_size|output_dim": 32,
    r"attention_hidden_size|mamba_d_ssm|mamba_intermediate_size": 64,
    r"\w*intermediate_size\w*|\w*ffn_dim|d_ff|n_inner|dff|dim_ff|\w*ffn_hidden_size|d_inner|feed_forward_size": 64,
    r"d_head|mamba_d_head|mamba_headdim": 8,
    r"mamba_n_heads|n_mamba_heads|mamba_num_heads|mamba_heads": 8,
    r"(\w+_)?(attention_heads|heads|head)|index_n_heads|linear_num_(key|value)_heads": 4,
    r"num_query_groups": 2,
    r"(\w+_)?head_dim|d_kv|attention_head_size|kv_channels|dim_head|rotary_dim|d_rel": 8,
    r"qk_head_dim": 16,
    r"(q|kv|o)_lora_rank|gated_norm_rank|laurel_rank|adapter_rank|hc_lowrank|router_hidden_size": 16,
    r"n_routed_experts|num_experts|num_local_experts|moe_num_experts|ffn_num_experts": 4,
    r"num_experts_per_tok(en)?|moe_k|moe_topk|moe_top_k|zero_expert_num": 2,
    r"n_group|topk_group|num_expert_group|mamba_n_groups|mamba_ngroups|n_groups": 1,
    r"mamba_d_state|state_size|ssm_state_size": 8,
    r"mamba_chunk_size|chunk_size|hidden_size_per_layer_input|ple_embed_dim": 8,
    r"mamba_dt_rank|time_step_rank": 4,
    r"vocab_size|src_vocab_size|tgt_vocab_size|vocab_size_per_layer_input|unpadded_vocab_size": VOCABULARY,
    r"num_mem_blocks|num_nextn_predict_layers|first_k_dense_replace|num_dense_layers": 1,
    r"ngram_vocab_size_base|encoder_hash_byte_group_vocab|num_codebooks|num_mel_bins": 97,
}
_RULES = tuple((re.compile(pattern), size) for pattern, size in _SIZES.items())


def shrunken(config: Any) -> Any:
    """A small config of the same class as ``config``, every sliding window at :data:`WINDOW` tokens."""
    return type(config).from_dict(_shrunk(config.to_dict()))


def windows(config: Any) -> list[int]:
    """The sliding windows that ``config`` names, in tokens, whatever they are called."""
    tree = config.get_text_config(decoder=True).to_dict()
    return [
        value // 2 if name == "local_attention" else value
        for name in WINDOWS
        if isinstance(value := tree.get(name), int) and not isinstance(value, bool) and value > 0
    ]


def vocabulary(config: Any) -> int:
    """How many token ids both sides of a model with ``config`` know, or :data:`VOCABULARY` where they know more."""
    sides = config.get_text_config(decoder=True), config.get_text_config(encoder=True)
    sizes = [getattr(side, name, None) for side in sides for name in _VOCABULARIES]
    return min([VOCABULARY, *(size for size in sizes if isinstance(size, int))])


def _shrunk(tree: Mapping[str, Any]) -> dict[str, Any]:
    depth = next((tree[name] for name in _DEPTHS if isinstance(tree.get(name), int)), 0)
    kept = _kept_layers(tree, depth)
    heads = next((tree[n] for n in ("num_attention_heads", "n_head", "num_heads", "n_heads") if tree.get(n)), None)
    small = {name: _size(name, value, depth, kept, heads) for name, value in copy.deepcopy(dict(tree)).items()}
    if "expand" in tree and "num_heads" in tree:
        small["num_heads"] = 8  # of a state-space layer, whose heads span the expanded width
    return small


def _size(name: str, value: Any, depth: int, kept: list[int], heads: Any) -> Any:
    """What ``value`` of the field ``name`` becomes in the small config."""
    if value is None:
        return {"head_dim": 8, "num_key_value_heads": 4}.get(name)
    if isinstance(value, dict):
        if name == "per_layer_config":
            return {str(new): value[key] for new, old in enumerate(kept) for key in value if int(key) == old}
        return _shrunk(value) if "model_type" in value or name.endswith("_config") else value
    if isinstance(value, list):
        if name in _LAYER_NUMBERS:
            return [new for new, old in enumerate(kept) if old in value]
        if name.endswith("token_id"):
            return 2
        return [value[i] for i in kept] if kept and len(value) == depth else value
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if name in _DEPTHS:
        return len(kept) if value == depth else min(2, value)
    if name in WINDOWS:
        return min(WINDOW, value)
    if name.endswith("token_id"):
        return value if value < VOCABULARY else {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}.get(name, 3)
    if name.endswith("key_value_heads") or name == "num_kv_heads":
        return value if value <= 2 else 4 if value == heads else 2
    return next((min(size, value) for rule, size in _RULES if rule.fullmatch(name)), value)


def _kept_layers(tree: Mapping[str, Any], depth: int) -> list[int]:
    """The first layer of each kind, at least two layers; kinds differ in any list that has one entry a layer."""
    lists = [v for k, v in tree.items() if isinstance(v, list) and len(v) == depth and k not in _LAYER_NUMBERS]
    numbers = [set(map(str, tree[k])) for k in _LAYER_NUMBERS if isinstance(tree.get(k), list)]
    periods = [v for k, v in tree.items() if k.endswith("_period") and isinstance(v, int)]
    periods += [len(v) for k, v in tree.items() if k.endswith("_types") and isinstance(v, list) and len(v) < depth]
    first: dict[str, int] = {}
    for i in range(depth):
        first.setdefault(repr(([v[i] for v in lists], [str(i) in n for n in numbers])), i)
    chosen = set(first.values()) | set(range(min(2, depth))) | set(range(min(depth, max(periods, default=0))))
    return sorted(chosen)
