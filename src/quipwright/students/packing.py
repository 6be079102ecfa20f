"""Laying out prompts and responses for a decoder-only model: packed, or one response a row.

A packed row is prompt, response 1, response 2, … without gaps, so the prompt is paid for once. Each response sees the
prompt and itself; its positions continue from the prompt's end, as if the other responses were not there. The position
that predicts a response's first token is the prompt's last one, shared by all. Models with layers that mix neighbouring
positions whatever the mask says (convolution, state space, linear attention) need one response a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from quipwright.students.batches import RankedBatch


@dataclass(frozen=True)
class Layout:
    """A batch as the network is given it. ``mask`` is what each place sees (packed), or which places are real.

    The last five say, for each scored token: its row here, the position that predicts it, the position where it
    stands, its id, and which response it belongs to (row of the batch * k + column).
    """

    ids: Int[Tensor, "rows width"]
    positions: Int[Tensor, "rows width"]
    mask: Bool[Tensor, "rows 1 width width"] | Bool[Tensor, "rows width"]
    row: Int[Tensor, " scored"]
    predictor: Int[Tensor, " scored"]
    place: Int[Tensor, " scored"]
    target: Int[Tensor, " scored"]
    slot: Int[Tensor, " scored"]

    def to(self, device: torch.device) -> Layout:
        """The same on ``device``."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def pack(batch: RankedBatch) -> Layout:
    """Lay out ``batch`` with all responses of a row behind their prompt, without padding between them."""
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
    return Layout(ids, positions, visible[:, None], *(torch.cat(parts) for parts in zip(*scored, strict=True)))


def unpack(batch: RankedBatch) -> Layout:
    """Lay out ``batch`` with one response a row, each behind its own copy of the prompt, right-padded.

    Absent responses get no row.
    """
    _, k, _ = batch.response.shape
    present = batch.mask.any(-1).flatten().nonzero()[:, 0].tolist()
    prompts = [batch.prompt[slot // k, batch.prompt_mask[slot // k]] for slot in present]
    responses = [batch.response[slot // k, slot % k, batch.mask[slot // k, slot % k]] for slot in present]
    width = max((len(p) + len(r) for p, r in zip(prompts, responses, strict=True)), default=1)
    ids = torch.zeros(len(present), width, dtype=torch.long, device=batch.prompt.device)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    scored: list[tuple[Tensor, ...]] = []
    for row, (slot, prompt, response) in enumerate(zip(present, prompts, responses, strict=True)):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.cat([prompt, response])
        mask[row, :length] = True
        place = torch.arange(len(prompt), length, device=ids.device)
        full = torch.full_like
        scored.append((full(place, row), place - 1, place, response, full(place, slot)))
    positions = torch.arange(width, device=ids.device).expand(len(present), -1)
    return Layout(ids, positions, mask, *(torch.cat(parts) for parts in zip(*scored, strict=True)))
