"""Diverse beam search (Vijayakumar et al. 2018) with one beam a group, on transformers' public forward pass.

With groups = beams each group is a greedy decoder: at step t group g takes argmax(log p - penalty * votes), where a
token's votes are the groups before g that chose it at step t. No beam is ever reordered, so the cache is not either.

Departure: the end token, the padding and finished groups do not vote. In transformers 4 a finished group votes for the
padding at every later step, which is the end token of most decoder-only models, so later groups were kept from ending.

The outputs need not be distinct: whoever wants k different texts must deduplicate and top up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Beams:
    """What each group of each prompt wrote: ids (end token included, then ``pad``) and its log-probability in nats.

    ``total`` is under the model as it is, without the penalty, end token included where the group ended.
    """

    ids: Int[Tensor, "batch groups steps"]
    total: Float[Tensor, "batch groups"]
    finished: Bool[Tensor, "batch groups"]


def choose(
    logs: Float[Tensor, "batch groups vocabulary"],
    running: Bool[Tensor, "batch groups"],
    penalty: float,
    silent: tuple[int, ...],
) -> Int[Tensor, "batch groups"]:
    """One step's token of every group. ``running`` groups vote against the tokens they take, ``silent`` tokens aside."""
    batch, groups, vocabulary = logs.shape
    votes = torch.zeros(batch, vocabulary, dtype=logs.dtype, device=logs.device)
    mute = torch.ones(vocabulary, dtype=logs.dtype, device=logs.device)
    mute[list(silent)] = 0
    taken = []
    for group in range(groups):
        token = (logs[:, group] - penalty * votes).argmax(-1)
        weight = running[:, group].to(logs.dtype) * mute[token]
        votes.scatter_add_(1, token[:, None], weight[:, None])
        taken.append(token)
    return torch.stack(taken, 1)


def search(
    step: Callable[[Int[Tensor, "rows 1"]], Float[Tensor, "rows vocabulary"]],
    first: Float[Tensor, "batch vocabulary"],
    *,
    groups: int,
    penalty: float,
    end: int,
    pad: int,
    max_tokens: int,
) -> Beams:
    """Diverse beams after a prompt whose next-token logits are ``first``; ``step`` feeds ``batch * groups`` tokens and
    gives the logits after them."""
    batch = first.shape[0]
    logs = first.float().log_softmax(-1)[:, None].expand(-1, groups, -1)
    running = torch.ones(batch, groups, dtype=torch.bool, device=first.device)
    total = torch.zeros(batch, groups, device=first.device)
    written: list[Tensor] = []
    for number in range(max_tokens):
        token = choose(logs, running, penalty, (end, pad))
        total = total + torch.where(running, logs.gather(-1, token[..., None])[..., 0], 0.0)
        written.append(torch.where(running, token, pad))
        running = running & (token != end)
        if number + 1 == max_tokens or not running.any():
            break
        logs = step(written[-1].view(-1, 1)).float().log_softmax(-1).view(batch, groups, -1)
    return Beams(torch.stack(written, -1), total, ~running)


@torch.inference_mode()
def causal_beams(
    network: Any, ids: Int[Tensor, "batch src"], mask: Bool[Tensor, "batch src"], groups: int, **options: Any
) -> Beams:
    """Diverse beams of a decoder-only ``network`` after left-padded prompts; ``options`` as for :func:`search`.

    Each prompt is run once; its cache then serves all groups.
    """
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    out = network(input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=True)
    cache = out.past_key_values
    cache.batch_repeat_interleave(groups)
    seen = mask.repeat_interleave(groups, 0)
    place = positions[:, -1:].repeat_interleave(groups, 0)

    def step(tokens: Tensor) -> Tensor:
        nonlocal seen, place
        seen, place = torch.cat([seen, torch.ones_like(tokens, dtype=torch.bool)], -1), place + 1
        after = network(
            input_ids=tokens, attention_mask=seen.long(), position_ids=place, past_key_values=cache, use_cache=True
        )
        logits: Tensor = after.logits[:, -1]
        return logits

    return search(step, out.logits[:, -1], groups=groups, **options)


@torch.inference_mode()
def seq2seq_beams(
    network: Any,
    ids: Int[Tensor, "batch src"],
    mask: Bool[Tensor, "batch src"],
    opening: Int[Tensor, " opening"],
    groups: int,
    **options: Any,
) -> Beams:
    """Diverse beams of an encoder-decoder ``network`` for right-padded prompts; ``options`` as for :func:`search`.

    The encoder runs once a prompt. ``opening``: what the decoder is given first (start token, constant prefix).
    """
    from transformers.modeling_outputs import BaseModelOutput

    states = network.get_encoder()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    encoded = BaseModelOutput(last_hidden_state=states)
    begun = opening[None].expand(len(ids), -1)
    out = network(attention_mask=mask.long(), encoder_outputs=encoded, decoder_input_ids=begun, use_cache=True)
    cache = out.past_key_values
    cache.batch_repeat_interleave(groups)
    wide = BaseModelOutput(last_hidden_state=states.repeat_interleave(groups, 0))
    seen = mask.long().repeat_interleave(groups, 0)

    def step(tokens: Tensor) -> Tensor:
        after = network(
            attention_mask=seen, encoder_outputs=wide, decoder_input_ids=tokens, past_key_values=cache, use_cache=True
        )
        logits: Tensor = after.logits[:, -1]
        return logits

    return search(step, out.logits[:, -1], groups=groups, **options)
