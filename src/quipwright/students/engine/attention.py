"""The attention function of the decoding engine, registered in transformers' ``AttentionInterface`` as ``NAME``."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from transformers import AttentionInterface

from quipwright.students.engine.shelves import Reading, Shelf, Step, whole

NAME = "student_engine"


def attend(
    module: Any,
    query: Float[Tensor, "batch heads queries width"],
    key: Float[Tensor, "places kv_heads keys width"],
    value: Float[Tensor, "places kv_heads keys depth"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch queries heads depth"], None]:
    """Attention over the shelf that ``key`` carries, or of an encoder, whose mask (4-D, additive) is given.

    Raises :class:`RuntimeError` where a causal layer's keys carry no shelf: the model rearranged them.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    shelf = getattr(key, "shelf", None)
    if isinstance(shelf, Shelf) and isinstance(shelf.deck.call, Step):
        return _step(shelf, shelf.deck.call, query, scale, sliding_window, softcap, position_bias), None
    keys = whole(key.shape[2])
    if isinstance(shelf, Shelf) and isinstance(shelf.deck.call, Reading):
        mask = shelf.deck.call.mask(shelf.role == "cross", query.shape[2], keys, sliding_window)
    elif getattr(module, "is_causal", False) or attention_mask is None or sliding_window is not None:
        raise RuntimeError("the model rearranges keys between its cache and its attention, or masks them itself")
    else:
        mask = pad(attention_mask, (0, keys - attention_mask.shape[-1]), value=-torch.inf)[:, :, None]
    return _plain(query, key, value, mask, scale, softcap, position_bias), None


def _plain(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, softcap: float | None, bias: Tensor | None
) -> Tensor:
    """Softmax in float32 over key columns padded to whole vectors; query heads of one key head are rows of one product."""
    batch, heads, queries, width = query.shape
    kv_heads, keys = key.shape[1], mask.shape[-1]
    group = heads // kv_heads
    key, value = (pad(side, (0, 0, 0, keys - side.shape[2])) for side in (key, value))
    scores = query.reshape(batch, kv_heads, group * queries, width) @ key.transpose(2, 3)
    scores = scores.view(batch, kv_heads, group, queries, keys).float()
    if bias is not None:
        bias = pad(bias, (0, keys - bias.shape[3])).view(-1, kv_heads, group, *bias.shape[2:3], keys)
    weights = _weights(scores, scale, softcap, bias, mask).to(value.dtype)
    mixed = weights.view(batch, kv_heads, group * queries, keys) @ value
    return mixed.view(batch, heads, queries, -1).transpose(1, 2)


def _step(
    shelf: Shelf,
    step: Step,
    query: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    bias: Tensor | None,
) -> Tensor:
    """One query a row: over its prompt's columns together with the prompt's other rows, and over its own columns."""
    rows, heads, _, width = query.shape
    prompt, own = shelf.prompt, shelf.own
    kv_heads = (prompt or own)[0].shape[1]  # type: ignore[index]
    query = query.reshape(rows, kv_heads, heads // kv_heads, width)
    scores = [step.shared(query, prompt[0])] if prompt is not None else []
    if own is not None:
        scores.append(query @ own[0][:rows])
    joined = (torch.cat(scores, -1) if len(scores) == 2 else scores[0]).float()
    split = prompt[0].shape[3] if prompt is not None else 0
    mask = step.mask(split, joined.shape[-1] - split, window)
    if bias is not None and own is not None:
        bias = pad(step.bias(bias), (split, 0)).view(-1, kv_heads, heads // kv_heads, joined.shape[-1])
    else:
        bias = None  # a bias by distance does not reach across to an encoder
    weights = _weights(joined, scale, softcap, bias, mask).to(query.dtype)
    mixed = step.shared(weights[..., :split], prompt[1]) if prompt is not None else 0
    if own is not None:
        mixed = weights[..., split:] @ own[1][:rows] + mixed
    return mixed.reshape(rows, 1, heads, -1)  # type: ignore[union-attr]


def _weights(scores: Tensor, scale: float, softcap: float | None, bias: Tensor | None, mask: Tensor) -> Tensor:
    if softcap is None and bias is None:
        return torch.add(mask, scores, alpha=scale).softmax(-1)
    scores = scores * scale
    if bias is not None:
        scores = scores + bias
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    return (scores + mask).softmax(-1)


AttentionInterface.register(NAME, attend)
