"""Log-probabilities of given tokens without the logits of the whole batch, and their gradient without a second pass.

With p the softmax of W h, the gradient of log p[t] by h is W[t] - W^T p, which is known before the loss is: it is computed
a few rows at a time while their logits are at hand, and scaled later. Of the logits nothing is kept, unless W is trained.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

_AT_ONCE = {"cpu": 2**22, "cuda": 2**27}
"""Logits that are computed together: on a CPU as many as its cache holds."""


def token_logprobs(
    hidden: Float[Tensor, "predictors width"],
    head: nn.Linear,
    source: Int[Tensor, " scored"],
    target: Int[Tensor, " scored"],
    uniform: bool = False,
) -> tuple[Float[Tensor, " scored"], Float[Tensor, " scored"] | None]:
    """Log-probability in nats, float32, of each ``target`` under ``head`` at the row ``source`` of ``hidden``.

    With ``uniform`` also the mean log-probability over the vocabulary there, else ``None``.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    weight, bias = head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype)
    if not torch.is_grad_enabled():  # else it would be kept for a gradient that nobody asks for
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    token, mean = _TokenLogprobs.apply(hidden.to(dtype), weight, bias, source, target)
    return token, mean[source] if uniform else None


class _TokenLogprobs(torch.autograd.Function):
    """(hidden, weight, bias, source, target) -> log-probabilities of the targets, and the vocabulary's mean one."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, source: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        by_hidden, by_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        order = source.argsort(stable=True)
        ordered = source[order]
        size = max(16, _AT_ONCE.get(hidden.device.type, 2**24) // len(weight))
        token = torch.empty(len(source), device=hidden.device)
        mean = torch.empty(len(hidden), device=hidden.device)
        rest = torch.zeros(len(hidden), hidden.shape[1], device=hidden.device)  # W^T p without the likeliest token
        top = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        weight_of_top = torch.zeros(len(hidden), device=hidden.device)
        kept = []
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), size):
                rows = slice(start, min(start + size, len(hidden)))
                logs = linear(hidden[rows], weight, bias).float()
                logs -= logs.logsumexp(-1, keepdim=True)
                mean[rows] = logs.mean(-1)
                first, last = torch.searchsorted(ordered, torch.tensor([rows.start, rows.stop], device=source.device))
                here = order[first:last]
                token[here] = logs[source[here] - start, target[here]]
                if not by_hidden and not by_weight:
                    continue
                # The likeliest token is left out of the product: its part is added in float32, where 1 - p is exact.
                probabilities = logs.exp_()
                weight_of_top[rows], top[rows] = probabilities.max(-1)
                probabilities.scatter_(1, top[rows, None], 0.0)
                small = probabilities.to(weight.dtype)
                rest[rows] = (small @ weight).float()
                if by_weight:
                    kept.append(small)
        ctx.save_for_backward(hidden, weight, source, target, rest, top, weight_of_top, *kept)
        ctx.biased = bias is not None
        return token, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_token: Tensor, by_mean: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, source, target, rest, top, weight_of_top, *kept = ctx.saved_tensors
        total = by_mean.index_add(0, source, by_token)  # of every log-probability the logsumexp is taken away
        of_top = total * weight_of_top
        rows = torch.cat([source, torch.arange(len(hidden), device=hidden.device)])
        tokens, parts = torch.cat([target, top]), torch.cat([by_token, -of_top])[:, None]
        by_hidden = by_weight = by_bias = None
        with torch.autocast(hidden.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                by_hidden = -total[:, None] * rest
                by_hidden.index_add_(0, rows, parts * weight[tokens].float())
                if by_mean.any():
                    by_hidden += by_mean[:, None] * weight.float().mean(0)
                by_hidden = by_hidden.to(hidden.dtype)
            if kept:
                small = torch.cat(kept)
                by_weight = -(small.T @ (total[:, None].to(hidden.dtype) * hidden)).float()
                by_weight.index_add_(0, tokens, parts * hidden[rows].float())
                by_weight += (by_mean @ hidden.float()) / len(weight)
                by_weight = by_weight.to(weight.dtype)
                if ctx.biased:
                    by_bias = -(total @ small.float())
                    by_bias.index_add_(0, tokens, parts[:, 0])
                    by_bias = (by_bias + by_mean.sum() / len(weight)).to(weight.dtype)
        return by_hidden, by_weight, by_bias, None, None
