"""An adapter added to the weights that it was trained on, for a student that only writes: no library of adapters is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quipwright.students.base import LoRA
from quipwright.students.trained_file import read_trained

_FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


@torch.no_grad()
def merge_adapter(network: Any, file: Path, lora: LoRA, base: str) -> bool:
    """Add the adapter in ``file`` to ``network``, whose weights are known by ``base``; each sum is taken in float32.

    Returns whether that was done: the adapter must be finite, of those weights, and have two factors for each linear layer
    but the output layer and no others. What is wrong with another is for :func:`~quipwright.students.trained_file.restore`
    to say.
    """
    tensors, trained_on = read_trained(file)
    layers = _linear_layers(network)
    factors: dict[str, dict[str, Tensor]] = {name: {} for name in layers}
    for name, tensor in tensors.items():
        part = _FACTOR.fullmatch(name)
        if part is None or part[1] not in factors or not bool(tensor.isfinite().all()):
            return False
        factors[part[1]][part[2]] = tensor.float()
    fitting = all(_fits(layers[name], pair, lora.rank) for name, pair in factors.items())
    if not fitting or (base and trained_on and base != trained_on):
        return False
    for name, layer in layers.items():
        weight, pair = layer.weight, factors[name]
        weight.copy_(weight.float() + (pair["B"] @ pair["A"] * (lora.alpha / lora.rank)).to(weight.device))
    return True


def _linear_layers(network: Any) -> dict[str, nn.Linear]:
    head = network.get_output_embeddings()
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear) and m is not head}


def _fits(layer: nn.Linear, pair: dict[str, Tensor], rank: int) -> bool:
    shapes = {name: tuple(tensor.shape) for name, tensor in pair.items()}
    return shapes == {"A": (rank, layer.in_features), "B": (layer.out_features, rank)}
