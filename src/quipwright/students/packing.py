"""Packing k responses behind one copy of their prompt, so that a decoder-only model pays for the prompt once a row.

A row is laid out as prompt, response 1, response 2, … without gaps. Each response sees the prompt and itself; its
positions continue from the prompt's end, as if the other responses were not there. The position that predicts a
response's first token is the prompt's last one, shared by all; only predicting positions go through the output layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from quipwright.students.batches import RankedBatch


@dataclass(frozen=True)
class Packed:
    """A packed batch. The last five say, for each scored token: its packed row, the position that predicts it, the
    position where it stands, its id, and which response it belongs to (row * k + column)."""

    ids: Int[Tensor, "batch packed"]
    positions: Int[Tensor, "batch packed"]
    visible: Bool[Tensor, "batch 1 packed packed"]
    row: Int[Tensor, " scored"]
    predictor: Int[Tensor, " scored"]
    place: Int[Tensor, " scored"]
    target: Int[Tensor, " scored"]
    slot: Int[Tensor, " scored"]

    def to(self, device: torch.device) -> Packed:
        """The same on ``device``."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def pack(batch: RankedBatch) -> Packed:
    """Lay out ``batch`` without padding inside a row. Prompts and responses are right-padded on input."""
    rows, k, _ = batch.response.shape
    prompt_length = batch.prompt_mask.sum(-1)  # [batch]
    lengths = batch.mask.sum(-1)  # [batch k]
    width = int((prompt_length + lengths.sum(-1)).max())
    device = batch.prompt.device
    ids = torch.zeros(rows, width, dtype=torch.long, device=device)
    positions = torch.zeros_like(ids)
    segment = torch.full_like(ids, -1)  # -1 padding, 0 prompt, c + 1 response c
    scored: list[tuple[Tensor, ...]] = []
    for r in range(rows):
        p = int(prompt_length[r])
        ids[r, :p] = batch.prompt[r, batch.prompt_mask[r]]
        positions[r, :p] = torch.arange(p, device=device)
        segment[r, :p] = 0
        start = p
        for c in range(k):
            n = int(lengths[r, c])
            if n == 0:
                continue
            here = slice(start, start + n)
            ids[r, here] = batch.response[r, c, batch.mask[r, c]]
            positions[r, here] = torch.arange(p, p + n, device=device)
            segment[r, here] = c + 1
            place = torch.arange(start, start + n, device=device)
            predictor = place - 1
            predictor[0] = p - 1
            row, slot = torch.full_like(place, r), torch.full_like(place, r * k + c)
            scored.append((row, predictor, place, ids[r, here], slot))
            start += n
    earlier = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    same = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    visible = earlier & same & (segment[:, None, :] >= 0)
    visible |= torch.eye(width, dtype=torch.bool, device=device)  # padding sees itself: no row of the softmax is empty
    return Packed(ids, positions, visible[:, None], *(torch.cat(parts) for parts in zip(*scored, strict=True)))
