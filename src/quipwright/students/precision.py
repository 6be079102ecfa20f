"""In which number format weights are held and multiplied where ``precision`` is ``bf16``.

A processor without bfloat16 instructions emulates them at a third of the speed of float32 or less. There the same weights
are held and multiplied in float32: results then agree with those of other machines to bfloat16's rounding.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import Any

import torch


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices faster than float32 ones."""
    return torch.device(device).type != "cpu" or _cpu_multiplies_bfloat16()


def frozen_dtype(precision: str, device: torch.device | str) -> torch.dtype:
    """In which format weights that are not trained are held on ``device``."""
    return torch.bfloat16 if precision == "bf16" and multiplies_bfloat16(device) else torch.float32


@torch.no_grad()
def as_written(network: Any, precision: str) -> Any:
    """``network``, which is changed, in the numbers that texts are written by: rounded to bfloat16 where ``precision`` says
    so, and held in the format that its device multiplies faster."""
    if precision != "bf16":
        return network.float()
    if multiplies_bfloat16(network.device):
        return network.to(torch.bfloat16)
    network.float()
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(torch.bfloat16))  # one tensor after the other: a second copy of all takes memory
    return network


@cache
def _cpu_multiplies_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
