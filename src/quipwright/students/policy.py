"""The log-probabilities of a decoder-only network: how a batch is laid out and which output step is used."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from quipwright.students.batches import LogProbs, RankedBatch
from quipwright.students.output_layer import token_logprobs
from quipwright.students.packing import Layout, pack, unpack
from quipwright.students.precision import multiplies_bfloat16


@dataclass(frozen=True)
class ScoringPath:
    """How a family of models is scored rightly.

    ``packed``: the responses of a row stand behind one copy of their prompt and of what they begin with alike; where
    ``longest`` is set, only if no prompt with a response is longer than so many tokens. ``head``: the output layer is
    applied to the scored positions alone, which is cheaper; otherwise the model's own output step runs.
    ``left_padding``: prompts of unequal length may share a batch in generation. ``reason``: why a response has a row to
    itself.
    """

    packed: bool = True
    head: bool = True
    longest: int | None = None
    left_padding: bool = True
    reason: str = ""

    def layout(self, batch: RankedBatch) -> Layout:
        """``batch`` as the network is to be given it."""
        longest = int((batch.prompt_mask.sum(-1)[:, None] + batch.mask.sum(-1)).max())
        packed = self.packed and (self.longest is None or longest <= self.longest)
        return pack(batch) if packed else unpack(batch)


def bare(network: Any) -> Any:
    """The transformers model itself, without a wrapper of peft's (whose adapters sit in its layers anyway)."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def run(network: Any, layout: Layout, **options: Any) -> Any:
    """The forward pass of ``network`` over ``layout``."""
    mask: Tensor = layout.mask
    if mask.ndim == 4:  # else the model numbers the positions itself
        options["position_ids"] = layout.positions
        if network.config._attn_implementation != "sdpa":  # adds the mask to its scores
            mask = torch.zeros(mask.shape, dtype=network.dtype, device=mask.device).masked_fill(
                ~mask, torch.finfo(network.dtype).min
            )
    # On CPU the plain attention kernel is the faster one at our lengths, backwards above all.
    with sdpa_kernel(SDPBackend.MATH) if layout.ids.device.type == "cpu" else nullcontext():
        return network(input_ids=layout.ids, attention_mask=mask, use_cache=False, **options)


def hidden_states(network: Any, layout: Layout) -> Float[Tensor, "predictors width"]:
    """What the output layer of ``network`` is given at the predicting places of ``layout``."""
    model = bare(network)
    hidden: Tensor = run(getattr(model, model.base_model_prefix), layout).last_hidden_state
    return hidden[layout.row, layout.predictor]


def logits(network: Any, layout: Layout, head: bool) -> Float[Tensor, "predictors vocabulary"]:
    """Logits at the predicting places of ``layout``; ``head`` as in ``ScoringPath``."""
    model = bare(network)
    if head:
        every: Tensor = model.get_output_embeddings()(hidden_states(network, layout))
        return every
    options: dict[str, Any] = {}
    first = 0
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        first = int(layout.predictor.min())
        options["logits_to_keep"] = layout.ids.shape[1] - first
    every = run(model, layout, **options).logits
    return every[layout.row, layout.predictor - first]


def scored(
    network: Any, layout: Layout, head: bool, uniform: bool
) -> tuple[Float[Tensor, " scored"], Float[Tensor, " scored"] | None]:
    """Log-probabilities in nats, float32, of the scored tokens of ``layout``; with ``uniform`` also the vocabulary's
    mean one at each of them."""
    output = bare(network).get_output_embeddings()
    if head and type(output) is nn.Linear:
        return token_logprobs(hidden_states(network, layout), output, layout.source, layout.target, uniform)
    logs = logits(network, layout, head).float().log_softmax(-1)
    return logs[layout.source, layout.target], logs.mean(-1)[layout.source] if uniform else None


class CausalPolicy(nn.Module):
    """The trained network of a causal student: a batch becomes the log-probabilities of its responses."""

    def __init__(self, network: Any, autocast: bool, path: ScoringPath) -> None:
        """``network`` is a transformers causal language model, possibly wrapped by peft."""
        super().__init__()
        self.network = network
        self.autocast = autocast
        self.path = path

    def forward(self, batch: RankedBatch, uniform: bool = False) -> LogProbs:
        """Log-probabilities of every response of ``batch``, float32."""
        rows, k, _ = batch.response.shape
        layout = self.path.layout(batch).to(next(self.parameters()).device)  # laid out row by row, so on the CPU
        here = layout.ids.device
        with torch.autocast(here.type, torch.bfloat16, enabled=self.autocast and multiplies_bfloat16(here)):
            token, mean = scored(self.network, layout, self.path.head, uniform)
        zeros = torch.zeros(rows * k, dtype=token.dtype, device=token.device)
        total = zeros.index_add(0, layout.slot, token).view(rows, k)
        even = None if mean is None else zeros.index_add(0, layout.slot, mean).view(rows, k)
        return LogProbs(total, batch.mask.sum(-1).to(token), even)
